"""What the gate sees: one record per question asked, also for the questions nobody could answer.

Pure: the task measures, this module turns the measurements into records, `policy` decides.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["measured", "not_installed", "not_applicable", "error"]

# Kinds that need a model or a list which may be absent; each is then recorded as not screened, never passed over.
NOT_SCREENED = ("nsfw", "age", "face_forgery", "ai_image", "lists")
ASSETS = "assets"
"""The tool of a signal that says what the screening of a job's assets said."""
SYNTHETIC_SOURCES = (
    "trainedAlgorithmicMedia",
    "compositeWithTrainedAlgorithmicMedia",
    "algorithmicallyEnhanced",
    "algorithmicMedia",
    "compositeSynthetic",
)


@dataclass(frozen=True)
class Signal:
    """One measurement: `kind` says of what, `value` holds its numbers (JSON), `tool` what measured it."""

    kind: str
    status: Status
    value: Mapping[str, Any] = field(default_factory=dict)
    tool: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For the evidence record."""
        return {"kind": self.kind, "status": self.status, "value": dict(self.value), "tool": self.tool}


@dataclass(frozen=True)
class LiveCheck:
    """The live check behind one consent: what was asked, what came out, who decided; nothing a face is known by.

    `actions` are the movements asked for, `codes` what was doubtful, `by` "policy" or "person", `version` that of the
    check's own policy. Not `passed` is a consent of that level of which no passed check is known any more.
    """

    consent: str
    passed: bool
    actions: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    by: str = ""
    version: str = ""


def not_installed() -> list[Signal]:
    """The explicit gaps where nothing of these kinds was looked for."""
    return [Signal(kind, "not_installed") for kind in NOT_SCREENED]


def carried(gaps: Collection[str] | None) -> list[Signal]:
    """What the screening of its assets says about a job: `gaps` are kinds one was not screened for, None means all."""
    open_kinds = NOT_SCREENED if gaps is None else gaps
    return [Signal(k, "not_installed" if k in open_kinds else "measured", {}, ASSETS) for k in NOT_SCREENED]


def with_measured(found: Sequence[Signal], newer: Sequence[Signal]) -> list[Signal]:
    """`found` with what was measured since in the place of its gaps."""
    kinds = {each.kind for each in newer}
    return [*(each for each in found if each.kind not in kinds), *newer]


def failed(kind: str, code: str) -> Signal:
    """A question whose tool broke: the policy never reads it as an acceptance."""
    return Signal(kind, "error", {"code": code})


def dimensions(width: int, height: int, seconds: float | None) -> Signal:
    """Size in pixels and length in seconds of the upright picture."""
    return Signal("dimensions", "measured", {"width": width, "height": height, "seconds": seconds}, "media")


def faces(role: str, sizes: Sequence[float]) -> Signal:
    """How many faces (photo) or tracks (video) there are, and the longer side of each face's box in pixels."""
    value = {
        "role": role,
        "count": len(sizes),
        "largest": max(sizes, default=0.0),
        "sizes": [round(s, 1) for s in sizes],
    }
    return Signal("faces", "measured", value, "faces")


def markable(reason: str | None) -> Signal:
    """Can the picture carry the invisible mark? `reason` names why not."""
    return Signal("markable", "measured", {"ok": reason is None, "reason": reason}, "watermark")


def own_mark(mark_id: bytes | None, effort: str, output: Mapping[str, str] | None = None) -> Signal:
    """Was a mark of this house found in the upload? Its id and the `output` it leads to (`own.Outputs`) are kept, so
    that a reviewer can follow it."""
    value = {
        "found": mark_id is not None,
        "mark_id": mark_id.hex() if mark_id is not None else None,
        "effort": effort,
        "output": dict(output or {}),
    }
    return Signal("own_mark", "measured", value, "watermark")


def credentials(
    state: str,
    *,
    is_ours: bool,
    issuer: str | None,
    source_types: Sequence[str],
    ai_generator: str = "",
    output: Mapping[str, str] | None = None,
) -> Signal:
    """What the upload's Content Credentials say; `source_types` are IPTC digital source types (names or URIs).

    `ai_generator`: the picture generator that they name; `output`: the one of ours they lead to (`own.Outputs`).
    """
    names = [str(each).rstrip("/").rsplit("/", 1)[-1] for each in source_types]
    value = {
        "state": state,
        "is_ours": is_ours,
        "issuer": issuer,
        "source_types": names,
        "declared_synthetic": any(name in SYNTHETIC_SOURCES for name in names),
        "ai_generator": ai_generator,
        "output": dict(output or {}),
    }
    return Signal("credentials", "measured", value, "c2pa")


def listed_face(hits: Sequence[int], *, entries: int, threshold: float, one_to_many: bool, chance: float) -> Signal:
    """Which faces (by index) are as near to an entry of the list "never my face" as `threshold`; no entry is named.

    `one_to_many`: the threshold was measured for that; `chance`: the share of strangers that hit a list of this length.
    """
    value = {
        "hits": list(hits),
        "entries": entries,
        "threshold": threshold,
        "one_to_many": one_to_many,
        "chance": round(chance, 4),
    }
    return Signal("listed_face", "measured", value, "face_descriptor")


def identity(distances: Sequence[float]) -> Signal:
    """Distance of each source face to the face the person confirmed (Euclidean, 128-d descriptor; 0 = same picture)."""
    value = {"worst": max(distances, default=0.0), "distances": [round(float(d), 4) for d in distances]}
    return Signal("identity", "measured", value, "face_descriptor")


def pose(frames: int, turned: int, widest: float) -> Signal:
    """How the source photos fit the target's pose: frames turned too far from every photo, widest gap in degrees."""
    value = {"frames": frames, "turned": turned, "widest": round(widest, 1)}
    return Signal("pose", "measured", value, "face_mesh")


def asset_profiles(profiles: Sequence[str]) -> Signal:
    """Under which profile each asset of a job was let through; "" for one without evidence."""
    return Signal("asset_profiles", "measured", {"profiles": list(profiles)}, "evidence")


def stay_down(found: str, looked: int) -> Signal:
    """Is it a result whose permission ended? `found`: "" no, "mark" or "picture" yes, "alike" perhaps."""
    return Signal("stay_down", "measured", {"found": found, "looked": looked}, "stay_down")


def relationships(found: Sequence[str]) -> Signal:
    """What each depicted person is to the account, as it says; "" where it did not, or where nobody was asked."""
    return Signal("relationship", "measured", {"relationships": list(found)}, "consent")


def liveness(checks: Sequence[LiveCheck]) -> Signal:
    """The live checks of the consents that rest on one; it informs, the level of assurance is what decides."""
    value = {"checks": [{**vars(one), "actions": list(one.actions), "codes": list(one.codes)} for one in checks]}
    return Signal("liveness", "measured", value, "liveness")


def assurance(levels: Sequence[str], least: str = "L1") -> Signal:
    """How surely each depicted person was recognised (L1: link and name, L2: live check, attested: nobody asked)."""
    return Signal("assurance", "measured", {"levels": list(levels), "least": least}, "consent")
