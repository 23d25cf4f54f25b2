"""What an answer says beyond its verdict, in plain words: about AI, steps, inputs, times and certainty.

C2PA's user-experience guidance: "issued by", not "signed by"; details, not assertions; an invalid credential stays
visible as invalid; nothing here says that a picture is real.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from watermark.credentials import Action, Credentials, Ingredient
from watermark.verdict import ContentEvidence, MarkEvidence, Verdict

_SOURCE_TYPES = {
    "trainedAlgorithmicMedia": "made with an AI model",
    "compositeWithTrainedAlgorithmicMedia": "edited with an AI model",
    "compositeSynthetic": "put together from parts of which at least one was made by a computer",
    "algorithmicMedia": "made by a computer program, not an AI model",
    "compositeCapture": "put together from several photographs",
    "digitalCapture": "taken with a digital camera",
    "computationalCapture": "taken with a camera that computes its pictures",
    "negativeFilm": "scanned from film",
    "positiveFilm": "scanned from film",
    "print": "scanned from print",
    "humanEdits": "edited by a person",
    "minorHumanEdits": "edited a little by a person",
    "composite": "put together from several pieces",
    "digitalCreation": "made by a person with software",
    "digitalArt": "made by a person with software",
    "screenCapture": "taken from a screen",
    "virtualRecording": "recorded from a virtual scene",
    "dataDrivenMedia": "made from data",
}
_ACTIONS = {
    "c2pa.created": "Made",
    "c2pa.opened": "Opened to be edited",
    "c2pa.placed": "Another picture was put in",
    "c2pa.edited": "Edited",
    "c2pa.edited.metadata": "Its data was edited",
    "c2pa.watermarked": "An invisible mark was put in",
    "c2pa.watermarked.bound": "An invisible mark was put in, by which this credential can be found again",
    "c2pa.watermarked.unbound": "An invisible mark was put in",
    "c2pa.transcoded": "Saved in another format",
    "c2pa.repackaged": "Repackaged",
    "c2pa.published": "Published",
    "c2pa.converted": "Converted",
    "c2pa.cropped": "Cropped",
    "c2pa.resized": "Resized",
    "c2pa.resized.proportional": "Resized",
    "c2pa.orientation": "Turned",
    "c2pa.color_adjustments": "Colours were adjusted",
    "c2pa.adjustedColor": "Colours were adjusted",
    "c2pa.filtered": "A filter was applied",
    "c2pa.drawing": "Drawn on",
    "c2pa.addedText": "Text was added",
    "c2pa.removed": "A part was removed",
    "c2pa.deleted": "A part was removed",
    "c2pa.enhanced": "Enhanced",
    "c2pa.dubbed": "Dubbed",
    "c2pa.translated": "Translated",
    "c2pa.trimmed": "Shortened",
    "c2pa.redacted": "Something was removed from its history",
    "c2pa.unknown": "A step that is not named",
}
_RELATIONS = {"parentOf": "The file it was made from", "componentOf": "A part of it", "inputTo": "An input"}
_NODE_STATES = {
    "none": "no Content Credential came with it",
    "remote_only": "its Content Credential is kept elsewhere",
    "broken": "Content Credential unavailable",
    "invalid": "Content Credential invalid",
    "valid": "issued by a signer we do not know",
    "trusted": "issued by a signer we know",
}


def ai_sentence(found: Verdict) -> str:
    """One sentence on AI: what we know of our own outputs, what others say of theirs, or that nothing is known."""
    if found.code.startswith("ours_"):
        return "A face in it was replaced with an AI model."
    credentials = found.evidence.credentials
    if found.code in ("other_trusted", "other_unknown") and credentials and credentials.state in ("valid", "trusted"):
        if credentials.declares_ai:
            kinds = {kind.rsplit("/", 1)[-1] for kind in credentials.digital_source_types}
            if "trainedAlgorithmicMedia" in kinds:
                return "Its credential says that it was made with an AI model."
            if kinds & {"compositeWithTrainedAlgorithmicMedia", "compositeSynthetic"}:
                return "Its credential says that parts of it were made or edited with an AI model."
            return "Its credential says that something it was made from was made with an AI model."
        return "Its credential does not mention AI. That does not mean that none was used."
    if found.code == "unreadable":
        return "Nothing can be said about AI."
    return "Nothing reliable says whether AI was used."


@dataclass(frozen=True)
class Step:
    """One recorded step. `when` is what the manifest claims."""

    words: str
    how: str
    when: datetime | None
    agent: str
    description: str


def steps(credentials: Credentials | None) -> list[Step]:
    """What was done to the file, in order, as its credential tells it."""
    return [_step(action) for action in credentials.actions] if credentials else []


def _step(action: Action) -> Step:
    words = _ACTIONS.get(action.action) or action.action.rsplit(".", 1)[-1].replace("_", " ").capitalize()
    return Step(words, source_type(action.digital_source_type), moment(action.when), action.agent, action.description)


def source_type(uri: str) -> str:
    """IPTC's word for how something came to be, as people say it; "" for none and for words that are not IPTC's."""
    return _SOURCE_TYPES.get(uri.rsplit("/", 1)[-1], "") if uri else ""


@dataclass(frozen=True)
class Node:
    """One input, with the state of its own credential, and the inputs it was made from."""

    title: str
    relation: str
    state: str
    tone: str  # neutral, error: the shape of its sign
    issuer: str
    made: str
    nodes: tuple[Node, ...]


def tree(credentials: Credentials | None) -> tuple[Node, ...]:
    """The inputs of a file, as its credential names them."""
    return tuple(_node(each) for each in credentials.ingredients) if credentials else ()


def _node(each: Ingredient) -> Node:
    made = next((words for words in map(source_type, each.digital_source_types) if words), "")
    return Node(
        title=each.title or "Without a name",
        relation=_RELATIONS.get(each.relationship, "An input"),
        state=_NODE_STATES[each.state],
        tone="error" if each.state in ("invalid", "broken") else "neutral",
        issuer=each.issuer if each.state in ("valid", "trusted") else "",
        made=made,
        nodes=tuple(map(_node, each.ingredients)),
    )


def moment(text: str) -> datetime | None:
    """A manifest's time, which is untrusted text, in UTC; None for what is no time or names no zone."""
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else None
    except (ValueError, OverflowError):
        return None


def certainty(mark: MarkEvidence) -> str:
    """How sure it is that the mark is there."""
    power = math.floor(-mark.false_alarm_log10)
    if power < 2:
        return "Read, but with little certainty."
    return (
        f"By chance this would be read in fewer than 1 of {10**power:,} files."
        if power <= 15
        else ("By chance this would practically never be read.")
    )


@dataclass(frozen=True)
class Compared:
    """How the file lies beside what we published: counts of places, and the places themselves, row by row."""

    words: str
    agree: int
    differ: int
    rows: tuple[tuple[tuple[int, int, str], ...], ...]  # column, row, kind: same, other, plain, gone
    columns: int


_KINDS = {"=": "same", "x": "other", ".": "plain", " ": "gone"}


def compared(content: ContentEvidence | None) -> Compared | None:
    """The comparison with our record for people; None where nothing was compared."""
    if content is None:
        return None
    if content.matches is None:
        words = "It shows too little to tell whether it is what we published."
    elif not content.matches:
        words = "It does not show what we published."
    elif content.share is not None and content.share < 0.9:
        words = "It shows what we published, but parts of it differ."
    else:
        words = "It shows what we published."
    rows = tuple(
        tuple((column, row, _KINDS.get(letter, "gone")) for column, letter in enumerate(line))
        for row, line in enumerate(content.regions)
    )
    letters = "".join(content.regions)
    return Compared(words, letters.count("="), letters.count("x"), rows, max(map(len, content.regions), default=0))


@dataclass(frozen=True)
class Span:
    """A stretch of a video that carries the mark: clock times, and where it lies in a thousand units of the whole."""

    start: str
    end: str
    x: int
    width: int


def spans(mark: MarkEvidence | None, duration: float) -> list[Span]:
    """The marked stretches of a video of `duration` seconds."""
    return list(_spans(mark, duration)) if mark and duration > 0 else []


def _spans(mark: MarkEvidence, duration: float) -> Iterator[Span]:
    for start, end in mark.spans:
        first, last = (min(max(at / duration, 0.0), 1.0) for at in (start, end))
        yield Span(clock(start), clock(end), round(first * 1000), max(4, round((last - first) * 1000)))


def clock(seconds: float) -> str:
    """1:05 for 65 seconds."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes = f"{rest // 60:02d}" if hours else f"{rest // 60}"
    return f"{hours}:{minutes}:{rest % 60:02d}" if hours else f"{minutes}:{rest % 60:02d}"
