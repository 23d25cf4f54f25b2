"""What the gate found, as sentences for the person who decides; numbers and codes stay in the evidence below them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Value = Mapping[str, Any]

PLACES = {
    "xmp": "XMP",
    "exif": "EXIF",
    "iptc_iim": "IPTC",
    "png_text": "a text chunk of the PNG",
    "jpeg_comment": "the JPEG's comment",
    "film_tag": "the film's tags",
}
LABELS = {
    "declared": "is",
    "possible": "may be",
    "suspected": "is suspected to be",
    "unreadable": "carries a label that cannot be read and perhaps is",
}
OWNERS = {"same": "of the same organisation", "another": "of another organisation"}


def sentences(signals: Sequence[Mapping[str, Any]], *, shown: bool) -> list[str]:
    """One sentence a finding, of the kinds that have words here. Without `shown` nothing the file itself worded."""
    found: list[str] = []
    for signal in signals:
        says = _SAYS.get(str(signal.get("kind")))
        value = signal.get("value")
        if says is not None and signal.get("status") == "measured" and isinstance(value, Mapping):
            found += says(value, shown)
    return list(dict.fromkeys(found))


def for_eyes(signals: Sequence[Mapping[str, Any]], *, shown: bool) -> list[Mapping[str, Any]]:
    """The signals as they may be seen: without the file's own words, which may name people, before a reason."""
    if shown:
        return list(signals)
    return [
        {**signal, "value": {**signal["value"], "declarations": "shown after a reason"}}
        if signal.get("kind") == "provenance" and isinstance(signal.get("value"), Mapping)
        else signal
        for signal in signals
    ]


def _provenance(value: Value, shown: bool) -> Iterator[str]:
    for each in value.get("declarations", []):
        place = PLACES.get(each.get("where", ""), each.get("where", ""))
        name = each.get("name", "")
        match each.get("claim"):
            case "source_type":
                term = name if shown else "shown after a reason"
                yield f"The file's metadata ({place}) give its digital source type: {term}."
            case "generator":
                yield f"It carries what {name} leaves in the pictures it makes ({place})."
            case "aigc":
                more = f" ({each['detail']})" if shown and each.get("detail") else ""
                yield f"China's AIGC label ({place}) says that it {LABELS.get(name, 'is')} made by AI{more}."
            case "camera" if shown:
                yield f"It names a camera: {name}. Anybody can write that; it supports nothing by itself."
    for note in value.get("unread", []):
        place, _, why = str(note).partition(": ")
        reason = "is larger than any honest one" if why == "too_large" else "is damaged"
        yield f"A block of metadata ({PLACES.get(place, place)}) {reason} and was not read whole."


def _lists(value: Value, shown: bool) -> Iterator[str]:
    for hit in value.get("hits", []):
        what = "A face in it" if hit.get("what") == "face" else "It"
        where = f" at {float(hit['seconds']):.1f} s" if hit.get("seconds") else ""
        yield (
            f"{what} is near line {hit.get('line')} of the list “{hit.get('list')}” ({hit.get('kind')}){where}: "
            f"{hit.get('distance')} of 256 bits differ, up to 31 count as the same picture."
        )


def _alignment(value: Value, shown: bool) -> Iterator[str]:
    if value.get("aligned"):
        yield (
            "Its face lies exactly where face generators put it (both eyes within 2 % of the places of FFHQ). A "
            "photographed one lies so only when somebody cut it for a data set: ask for the uncut picture."
        )


def _replay(value: Value, shown: bool) -> Iterator[str]:
    if value.get("suspected"):
        yield (
            "It may have been photographed from a screen or a print: a fine regular pattern lies over most of it, or "
            "bands of light wander over it. Cloth, blinds and lamps can do the same, so this decides nothing: look at "
            "it, and ask for the file itself."
        )


def _ours(value: Value, shown: bool) -> Iterator[str]:
    output = value.get("output") or {}
    if output:
        owner = OWNERS.get(output.get("owner", ""), "")
        yield f"It is the result {output.get('output')} of job {output.get('job')}, {owner}."
    elif value.get("found") or value.get("is_ours"):
        yield "It carries a mark or manifest of this house that no record here knows."


def _credentials(value: Value, shown: bool) -> Iterator[str]:
    yield from _ours(value, shown)
    if value.get("ai_generator"):
        yield f"Its Content Credentials name {value['ai_generator']} ({value.get('state')})."
    if value.get("declared_synthetic"):
        yield f"Its Content Credentials say that AI made or changed it ({value.get('state')})."


_SAYS: Mapping[str, Callable[[Value, bool], Iterator[str]]] = {
    "provenance": _provenance,
    "lists": _lists,
    "alignment": _alignment,
    "replay": _replay,
    "own_mark": _ours,
    "credentials": _credentials,
}
