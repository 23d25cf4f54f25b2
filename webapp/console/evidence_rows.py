"""The gate's signals as rows a moderator can read: what was measured, what came out, what it is held against.

Numbers and the house's own words only: what a file says of itself may name people and stays in the evidence as it was
recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from webapp.console import words
from worker.limits import IDENTITY_PASS, IDENTITY_REVIEW, MIN_FACE_PIXELS

Value = Mapping[str, Any]
Cells = tuple[str, str]  # what came out, what it is held against

STATUS = {
    "not_installed": "Not screened: nothing is installed for it",
    "not_applicable": "Could not be done on this file",
    "error": "Did not work",
}
NAMES = {
    "dimensions": "Size",
    "faces": "Faces found",
    "markable": "Room for the invisible mark",
    "own_mark": "Our own mark",
    "credentials": "Content Credentials",
    "provenance": "What the file declares of itself",
    "lists": "Blocked pictures",
    "listed_face": "Faces on the list",
    "stay_down": "Results whose permission ended",
    "identity": "Distance to the confirmed face",
    "pose": "Direction of the faces",
    "assurance": "How surely people were recognised",
    "liveness": "Live checks of the people asked",
    "replay": "Photographed from a screen or print",
    "relationship": "What people are to the account",
    "asset_profiles": "Profiles the files were screened under",
    "alignment": "Face placed as generators do",
    "nsfw": "Nudity",
    "age": "Youngest estimate of age",
    "face_forgery": "Forged faces",
    "ai_image": "Generated pictures",
}
FOUND = {"": "none found", "mark": "its mark was found", "picture": "its picture was found", "alike": "one is alike"}


@dataclass(frozen=True)
class Row:
    """One line of the table. `measured` is false where the question was not answered."""

    name: str
    value: str
    threshold: str
    tool: str
    measured: bool = True


def rows(signals: Sequence[Mapping[str, Any]]) -> list[Row]:
    """All signals of a record, in its order; of detectors also a line for each pack."""
    return [row for signal in signals for row in _of(signal)]


def name(kind: str) -> str:
    """What is measured, for a heading."""
    return NAMES.get(kind) or words.kind(kind).capitalize()


def number(value: object) -> str:
    """A score or distance to three digits; something else than a number as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "yes" if value is True else "no" if value is False else str(value)
    return f"{value:.3g}"


def _of(signal: Mapping[str, Any]) -> Iterator[Row]:
    kind, status = str(signal.get("kind", "")), str(signal.get("status", "measured"))
    value = signal.get("value")
    value = value if isinstance(value, Mapping) else {}
    tool = str(signal.get("tool", ""))
    if status != "measured":
        code = f" ({value['code']})" if status == "error" and value.get("code") else ""
        yield Row(name(kind), STATUS.get(status, status) + code, "", tool, measured=False)
    elif tool == "assets":  # of a job: its files answered
        yield Row(name(kind), "Screened with each file", "", tool)
    else:
        try:
            cells = _CELLS.get(kind, _anything)(value)
        except (KeyError, TypeError, ValueError, IndexError):  # a record of another version
            cells = _anything(value)
        yield Row(name(kind), *cells, tool)
    for pack in value.get("packs") or []:
        yield _pack(kind, pack)


def _pack(kind: str, pack: Value) -> Row:
    title = f"{name(kind)}: {pack.get('title') or pack.get('id')}"
    if pack.get("service"):
        title += " (a service outside of this house)"
    tool = f"{pack.get('id')}, {pack.get('role') or 'role unknown'}"
    if pack.get("code"):
        return Row(title, f"No answer ({pack['code']})", "", tool, measured=False)
    shown = f"{number(pack['p'])} (raw {number(pack.get('raw'))})" if "p" in pack else f"raw {number(pack.get('raw'))}"
    held = f"review from {number(pack['review'])}, two people from {number(pack['high'])}" if "high" in pack else ""
    return Row(title, shown, held, tool)


def _dimensions(value: Value) -> Cells:
    length = f", {value['seconds']:.1f} s" if value.get("seconds") else ""
    return f"{value['width']} × {value['height']} pixels{length}", "at least 64 pixels a side"


def _faces(value: Value) -> Cells:
    return f"{value['count']}, the largest {value['largest']:.0f} pixels", f"at least {MIN_FACE_PIXELS} pixels"


def _markable(value: Value) -> Cells:
    return ("enough" if value["ok"] else f"not enough ({value.get('reason')})"), ""


def _own_mark(value: Value) -> Cells:
    return (f"found, {value['mark_id']}" if value["found"] else "none found"), "refused if found"


def _credentials(value: Value) -> Cells:
    parts = [str(value["state"])]
    parts += ["ours"] if value.get("is_ours") else []
    parts += ["say that AI made or changed it"] if value.get("declared_synthetic") else []
    return ", ".join(parts), "reviewed if they declare AI, refused if ours"


def _listed_face(value: Value) -> Cells:
    hits, entries = len(value["hits"]), value["entries"]
    return f"{hits} near one of {entries}", f"distance up to {number(value['threshold'])}"


def _lists(value: Value) -> Cells:
    hits = value["hits"]
    nearest = min((hit["distance"] for hit in hits if "distance" in hit), default=None)
    return (
        f"{len(hits)} near, {nearest} of 256 bits differ" if nearest is not None else "none near"
    ), "the same picture up to 31 bits"


def _provenance(value: Value) -> Cells:
    count = len(value["declarations"])
    return (f"{count} declaration{'' if count == 1 else 's'}" if count else "nothing"), "reviewed if AI is declared"


def _alignment(value: Value) -> Cells:
    return ("yes" if value["aligned"] else "no"), "both eyes within 0.02 of the places of FFHQ"


def _stay_down(value: Value) -> Cells:
    return f"{FOUND.get(value['found'], value['found'])}; compared with {value['looked']}", "refused if found"


def _identity(value: Value) -> Cells:
    return number(value["worst"]), f"up to {IDENTITY_PASS} passes, above {IDENTITY_REVIEW} is somebody else"


def _pose(value: Value) -> Cells:
    return f"{value['turned']} of {value['frames']} frames too far, widest {value['widest']:.0f}°", "30°"


def _assurance(value: Value) -> Cells:
    return ", ".join(value["levels"]) or "nobody answers", f"at least {value['least']}" if value.get("least") else ""


def _liveness(value: Value) -> Cells:
    told = []
    for check in value["checks"]:
        versions = f", version {check['version']}" if check.get("version") else ""
        by = "a person" if check.get("by") == "person" else "the check itself"
        told.append(
            f"passed, decided by {by} ({', '.join(each.replace('_', ' ') for each in check['actions'])}){versions}"
            if check["passed"]
            else "no passed check is known"
        )
    return "; ".join(told), "for information; the level decides"


def _replay(value: Value) -> Cells:
    looks, bounds = value["looks"], value["bounds"]
    share = max((each["share"] for each in looks), default=0.0)
    hot = max((each["hot"] for each in looks), default=0.0)
    beat = "" if value["beat"] is None else f", bands of {number(value['beat'])} % between frames"
    shown = "signs of it" if value["suspected"] else "no sign of it"
    return (
        f"{shown}: a fine pattern in {share:.0%} of its parts{beat}, {hot:.0%} blown out",
        f"signs from {bounds['share']:.0%} of the parts or bands of {number(bounds['beat'])} %; for information only",
    )


def _relationship(value: Value) -> Cells:
    return ", ".join(each or "not said" for each in value["relationships"]) or "not said", "reviewed if an employee"


def _asset_profiles(value: Value) -> Cells:
    return ", ".join(each or "none" for each in value["profiles"]), ""


def _nsfw(value: Value) -> Cells:
    low, high = value["bands"]
    return (
        f"{number(value['highest'])} at most, {_pictures(value['pictures'])}",
        f"review from {low}, refused from {high}",
    )


def _age(value: Value) -> Cells:
    low, high = value["bands"]
    youngest = value["youngest"]
    shown = "no estimate" if youngest is None else f"{youngest:.0f} years, of {value['faces']} looks"
    return shown, f"review below {high:.0f}, refused below {low:.0f}; errs by 4 to 6 years"


def _detected(value: Value) -> Cells:
    return number(value["p"]), f"review from {number(value['review'])}, two people from {number(value['high'])}"


def _anything(value: Value) -> Cells:
    """Numbers and yes or no only: words may be the file's own."""
    told = [f"{key.replace('_', ' ')} {number(each)}" for key, each in value.items() if isinstance(each, int | float)]
    return ", ".join(told) or "recorded", ""


def _pictures(count: int) -> str:
    return f"{count} picture{'' if count == 1 else 's'}"


_CELLS: Mapping[str, Callable[[Value], Cells]] = {
    "dimensions": _dimensions,
    "faces": _faces,
    "markable": _markable,
    "own_mark": _own_mark,
    "credentials": _credentials,
    "provenance": _provenance,
    "lists": _lists,
    "listed_face": _listed_face,
    "stay_down": _stay_down,
    "identity": _identity,
    "pose": _pose,
    "assurance": _assurance,
    "liveness": _liveness,
    "replay": _replay,
    "relationship": _relationship,
    "asset_profiles": _asset_profiles,
    "alignment": _alignment,
    "nsfw": _nsfw,
    "age": _age,
    "face_forgery": _detected,
    "ai_image": _detected,
}
