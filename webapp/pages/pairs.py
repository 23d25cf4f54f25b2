"""Who is who in a new job: which faces are replaced, from which photos, and who is asked for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, QueryDict

from consent import services as consents
from consent.names import is_name
from webapp.jobs import services as jobs
from webapp.jobs.models import Asset
from webapp.pages import words
from webapp.pages.wizard import Files, choices, picked

LONGEST_NAME = 120
LONGEST_CONTACT = 254
SAME = "same_"  # of the answer "the same person as in pair N"
# What a service says of one field, in words for the form.
WHY = {
    "text_invalid": "Write a name of at most 120 characters on one line.",
    "statement_length": "Describe your rights in 20 to 2000 characters.",
    "basis_unknown": "Choose what your right rests on.",
    "tick_required": "This has to be confirmed. If you cannot, the job cannot be made.",
}
FIELDS = {
    "donor_name": "Name of the person whose face is put in",
    "donor_contact": "Address of the person whose face is put in",
    "target_name": "Name of the person whose face is replaced",
    "target_contact": "Address of the person whose face is replaced",
    "basis": "What the right rests on",
    "statement": "Your statement",
    "donor_relationship": "What the person whose face is put in is to you",
    "target_relationship": "What the person whose face is replaced is to you",
}


class PhotosUndecidedError(Exception):
    """Somebody has to say which photos go onto which face."""


@dataclass(frozen=True)
class Pair:
    """A face to be replaced, and the photos (each with the face in it) whose person takes its place.

    `donor` and `names` say which of the earlier pairs shows the same donor (itself, if none), and how the face is
    called on the page.
    """

    number: int
    target_face: int
    sources: tuple[tuple[Asset, int], ...]
    donor: int
    words: str

    @property
    def suffix(self) -> str:
        """What its fields' names end with; the first pair's have nothing."""
        return f"_{self.number + 1}" if self.number else ""


def pairs_of(files: Files, data: QueryDict) -> list[Pair]:
    """The pairs that the request names, in the order of the target's faces.

    Raises Http404 for what is not there; JobsError face_choice_required, too_many_swaps; PhotosUndecidedError.
    """
    assert files.target is not None
    named = list(dict.fromkeys(data.getlist("target_face"))) or [""]
    faces = sorted({picked(files.target, text) for text in named})
    if len(faces) > jobs.MAX_SWAPS:
        raise jobs.JobsError("too_many_swaps", f"At most {jobs.MAX_SWAPS} faces are replaced in one job.")
    every = {asset.pk: (asset, picked(asset, data.get(f"face_{asset.pk}"))) for asset in files.sources}
    undecided = (len(faces) > 1 and len(every) > 1) or len(every) > jobs.MAX_SOURCES
    titles = {choice.index: choice.words for choice in choices(files.target)}
    pairs: list[Pair] = []
    for number, face in enumerate(faces):
        chosen = dict.fromkeys(data.getlist(f"photo_{face}")) if undecided else every
        if not set(chosen) <= set(every):
            raise Http404
        if not 1 <= len(chosen) <= jobs.MAX_SOURCES:
            raise PhotosUndecidedError
        pairs.append(Pair(number, face, tuple(every[pk] for pk in chosen), number, titles[face]))
    return _with_donors(pairs)


def _with_donors(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs that share a photo, directly or by another pair, show one donor, who is asked once."""
    first = list(range(len(pairs)))
    photos = [{asset.pk for asset, _ in pair.sources} for pair in pairs]
    for one, other in combinations(range(len(pairs)), 2):
        if photos[one] & photos[other]:
            low, high = sorted((first[one], first[other]))
            first = [low if each == high else each for each in first]
    return [replace(pair, donor=donor) for pair, donor in zip(pairs, first, strict=True)]


def query_of(files: Files, pairs: Sequence[Pair]) -> str:
    """The address' query that names files and pairs."""
    said = {f"face_{asset.pk}": face for pair in pairs for asset, face in pair.sources}
    faces = [("target_face", pair.target_face) for pair in pairs]
    photos = [(f"photo_{pair.target_face}", asset.pk) for pair in pairs for asset, _ in pair.sources]
    return f"{files.query()}&{urlencode([*faces, *said.items(), *photos])}"


@dataclass
class PairAnswers:
    """What the form says of one pair, as text."""

    pair: Pair
    donor_name: str = ""
    donor_contact: str = ""
    donor_relationship: str = ""
    cover: str = "ask"  # ask | rights | same_N: the same person as in pair N
    target_name: str = ""
    target_contact: str = ""
    target_relationship: str = ""
    basis: str = ""
    statement: str = ""
    rights_ticks: dict[str, bool] = field(default_factory=dict)

    @property
    def same_as(self) -> int | None:
        """The pair with the same replaced person, if one was named."""
        return int(self.cover.removeprefix(SAME)) if self.cover.startswith(SAME) else None


def read_pair(pair: Pair, text: Callable[[str], str], data: QueryDict, rights: consents.NoticeText) -> PairAnswers:
    """The form's content about one pair; `text` cleans a field."""
    end = pair.suffix
    cover = text(f"cover{end}")
    known = {"ask", "rights", *(f"{SAME}{number}" for number in range(pair.number))}
    return PairAnswers(
        pair=pair,
        donor_name=text(f"donor_name{end}"),
        donor_contact=text(f"donor_contact{end}"),
        donor_relationship=text(f"donor_relationship{end}"),
        cover=cover if cover in known else "ask",
        target_name=text(f"target_name{end}"),
        target_contact=text(f"target_contact{end}"),
        target_relationship=text(f"target_relationship{end}"),
        basis=text(f"basis{end}"),
        statement=text(f"statement{end}").replace("\r\n", "\n"),
        rights_ticks={name: f"rights_{name}{end}" in data for name, _ in rights.boxes},
    )


def check_pair(said: PairAnswers) -> dict[str, str]:
    """What is missing or wrong, by the field's name, in the order of the page."""
    errors: dict[str, str] = {}
    asked = [("donor", said.donor_name, said.donor_contact, said.donor_relationship)]
    if said.pair.donor != said.pair.number:
        asked = []
    if said.cover == "ask":
        asked.append(("target", said.target_name, said.target_contact, said.target_relationship))
    for who, name, contact, relationship in asked:
        if not is_name(name, longest=LONGEST_NAME):
            errors[f"{who}_name"] = "Write the name the person will recognise as their own."
        if len(contact) > LONGEST_CONTACT or not contact.isprintable():
            errors[f"{who}_contact"] = "This is too long for an address or a number."
        if relationship not in words.RELATIONSHIPS:
            errors[f"{who}_relationship"] = "Choose what the person is to you."
    if said.cover == "rights":
        if said.basis not in dict(consents.rights_bases("en")):
            errors["basis"] = WHY["basis_unknown"]
        if not 20 <= len(said.statement) <= 2000:
            errors["statement"] = WHY["statement_length"]
        errors |= {f"rights_{name}": WHY["tick_required"] for name, on in said.rights_ticks.items() if not on}
    return {f"{name}{said.pair.suffix}": why for name, why in errors.items()}


def labels_of(pair: Pair, *, several: bool) -> dict[str, str]:
    """What the list above the form calls the fields of one pair."""
    end = f" ({pair.words})" if several else ""
    return {f"{name}{pair.suffix}": f"{label}{end}" for name, label in FIELDS.items()}


def section(
    said: PairAnswers, sections: Sequence[PairAnswers], errors: dict[str, str], rights: consents.NoticeText
) -> dict[str, Any]:
    """One pair for the page."""
    pair, end = said.pair, said.pair.suffix
    names = [*FIELDS, *(f"rights_{name}" for name, _ in rights.boxes)]
    earlier = [(f"{SAME}{each.pair.number}", each.pair.words) for each in sections[: pair.number]]
    return {
        "pair": pair,
        "s": end,
        "answers": said,
        "errors": {name: errors[f"{name}{end}"] for name in names if f"{name}{end}" in errors},
        "several": len(sections) > 1,
        "level": "h3" if len(sections) > 1 else "h2",
        "below": "h4" if len(sections) > 1 else "h3",
        "first": pair.sources[0],
        "same_donor": sections[pair.donor].pair.words if pair.donor != pair.number else "",
        "earlier": [(code, title, said.cover == code) for code, title in earlier],
        "rights_boxes": boxes("rights", rights, said.rights_ticks, errors, suffix=end),
    }


def boxes(
    prefix: str, text: consents.NoticeText, ticks: dict[str, bool], errors: dict[str, str], suffix: str = ""
) -> list[dict[str, Any]]:
    """The boxes of a text for the form; unticked until the person ticks them."""
    names = [(f"{prefix}_{name}{suffix}", label, ticks.get(name, False)) for name, label in text.boxes]
    return [{"name": name, "label": label, "on": on, "error": errors.get(name, "")} for name, label, on in names]
