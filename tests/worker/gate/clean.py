"""The signals of an upload with nothing wrong."""

from __future__ import annotations

from worker.gate import signals
from worker.gate.declared import provenance
from worker.gate.looks import alignment, lists
from worker.gate.signals import Signal


def clean_upload(**changes: Signal) -> list[Signal]:
    """Each kind that is asked for of a target, and the gaps; `changes` replaces kinds."""
    found = [
        signals.dimensions(512, 512, None),
        signals.faces("target", [180.0]),
        signals.markable(None),
        signals.own_mark(None, "full"),
        signals.credentials("none", is_ours=False, issuer=None, source_types=[]),
        signals.listed_face([], entries=0, threshold=0.0, one_to_many=False, chance=0.0),
        signals.stay_down("", 0),
        provenance.measured([]),
        alignment.measured(square=False, offset=None, share=0.0),
        *signals.not_installed(),
    ]
    return [changes.get(each.kind, each) for each in found]


SEEN = {
    "nsfw": Signal("nsfw", "measured", {"highest": 0.01}),
    "age": Signal("age", "measured", {"youngest": 44.0, "not_applicable": 0}),
    "face_forgery": Signal("face_forgery", "measured", {"p": 0.02, "review": 0.4, "high": 0.7}),
    "ai_image": Signal("ai_image", "measured", {"p": 0.02, "review": 0.4, "high": 0.7}),
    "lists": lists.measured([], names=["one"], entries=1, looked=1),
}


def screened(found: list[Signal]) -> list[Signal]:
    """As if every kind that is not installed had been measured, and nothing was found."""
    return [SEEN.get(each.kind, each) if each.status == "not_installed" else each for each in found]
