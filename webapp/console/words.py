"""The gate's codes in the words of a moderator; the code stays beside them, because records and logs name it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from consent import services as consents
from webapp.screening import reasons
from webapp.screening.models import Review

KINDS = {
    "nsfw": "nudity",
    "age": "age",
    "face_forgery": "forged faces",
    "ai_image": "generated pictures",
    "lists": "blocked pictures and people",
    "identity": "identity",
    "provenance": "origin",
    "faces": "faces",
    "own_mark": "our own mark",
    "credentials": "Content Credentials",
    "alignment": "faces that lie as generated ones do",
    "stay_down": "results that were withdrawn",
    "replay": "photographs of a screen or print",
}
CONTENT = ("nsfw", "age", "face_forgery", "ai_image")
REASONS = {
    "rights_attested": "Nobody asked the replaced person: the job rests on the account's statement of rights.",
    "declared_synthetic": "The file says of itself that it was made or changed by AI.",
    "declared_ai_generator": "It carries the traces of a picture generator.",
    "declared_aigc": "It carries China's label for content made by AI.",
    "possible_aigc": "It carries China's label for content that may be made by AI.",
    "suspected_aigc": "It carries China's label for content that is suspected to be made by AI.",
    "unreadable_aigc": "It carries a label for content made by AI that cannot be read.",
    "metadata_too_large": "Its metadata are larger than any honest file's and were not read whole.",
    "ffhq_alignment": "Its face lies exactly where face generators put it. Crops of real people in data sets lie so "
    "too, so this alone proves nothing.",
    "watched_picture": "It is near a picture on a list that the operator wants to be looked at.",
    "listed_picture": "It is near a picture on a list of pictures that may not be used here.",
    "is_our_output": "It is a result of this service already.",
    "output_of_another_account": "It is a result that another organisation made here.",
    "identity_unsure": "The photos may not all show the person who was asked.",
    "assurance_too_low": "A permission is less sure than this use needs.",
    "listed_face": "A face in it is near one on the list of people whose face may not be used here. "
    "With the built-in descriptor one in 600 strangers is as near to any one entry by chance, so the likeness alone "
    "proves nothing: let it through only if this is clearly somebody else, or the person agreed themselves.",
    "nsfw_unsure": "It may show nudity: the score is between 0.2 and 0.8, where a person has to look.",
    "age_challenge": "Somebody in it is estimated to be younger than 25. The estimate errs by four to six years either "
    "way; it says that a person has to look, not how old anybody is.",
    "face_forgery_suspected": "A detector finds a forged face in it likelier than in 95 of 100 of your files. It is "
    "often wrong; its measured error rates stand in the record.",
    "face_forgery_likely": "A detector finds a forged face in it likelier than in 99 of 100 of your files. Two "
    "people should look.",
    "ai_image_suspected": "A detector finds it likelier to be generated than 95 of 100 of your own files. It is often "
    "wrong; its measured error rates stand in the record.",
    "ai_image_likely": "A detector finds it likelier to be generated than 99 of 100 of your files. Two people "
    "should look.",
    "signals_in_conflict": "It names a camera, and a detector finds it forged or generated. One of the two is wrong: "
    "anybody can write a camera's name, and detectors err. Ask for the file as the camera wrote it.",
    "assurance_missing": "Nobody answers for the depicted persons.",
}


def kind(code: str) -> str:
    """What is looked for, as a plain word."""
    return KINDS.get(code, code.replace("_", " "))


def reason(code: str, signals: Sequence[Mapping[str, Any]] = ()) -> str:
    """Why a person has to decide, as a sentence; `signals` are those of the evidence, for the numbers in it."""
    if code in REASONS:
        return REASONS[code] + _chance(code, signals)
    if code.startswith("not_screened_"):
        return f"Nothing here can screen for {kind(code.removeprefix('not_screened_'))}; a person has to look."
    if code.endswith("_missing"):
        return f"The check for {kind(code.removesuffix('_missing'))} did not take place."
    if code.endswith("_not_applicable"):
        return f"The check for {kind(code.removesuffix('_not_applicable'))} could not be done on this file."
    for looked_for in CONTENT:
        if code.startswith(f"{looked_for}_"):
            return f"The check for {kind(looked_for)} did not work ({code.removeprefix(f'{looked_for}_')})."
    for ending in ("_error", "_not_installed"):
        if code.endswith(ending):
            return f"The check for {kind(code.removesuffix(ending))} did not work."
    words = code.replace("_", " ")
    return f"{words[:1].upper()}{words[1:]}."


def _chance(code: str, signals: Sequence[Mapping[str, Any]]) -> str:
    """The longer the list, the more strangers are near to some entry of it."""
    listed = next((each["value"] for each in signals if each["kind"] == code == "listed_face"), None)
    if not listed or listed.get("one_to_many") or "chance" not in listed:
        return ""
    entries, chance = listed["entries"], listed["chance"]
    return (
        f" The list has {entries} {'entry' if entries == 1 else 'entries'}: {chance:.1%} of strangers hit it by chance."
    )


def outcome(review: Review) -> str:
    """What a decision did."""
    if review.waits_for_second:
        return "Your release was recorded. It waits for a second reviewer."
    if review.state == Review.State.REJECTED:
        return "The decision was recorded: rejected."
    return f"The decision was recorded: {reasons.passed(review.screening.policy_version)}, after a person looked at it."


def basis(code: str) -> str:
    """What an account says its rights in a target rest on."""
    return dict(consents.rights_bases("en")).get(code, code)


def state_tone(state: str) -> str:
    """The colour of a consent's state."""
    return {
        "given": "good",
        "requested": "active",
        "viewed": "active",
        "exhausted": "warn",
        "withdrawn": "bad",
        "revoked": "bad",
        "refused": "bad",
    }.get(state, "")


def scope_rows(scope: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """A permission's scope as labels and lines."""
    return [(_label(name), _lines(value)) for name, value in scope.items()]


def _label(name: str) -> str:
    plain = "".join(f" {char.lower()}" if char.isupper() else char for char in name.removeprefix("imp:"))
    return f"{plain[:1].upper()}{plain[1:]}"


def _lines(value: Any) -> list[str]:
    if isinstance(value, list):
        return [line for each in value for line in _lines(each)] or ["none"]
    if isinstance(value, dict):
        return [", ".join(f"{_label(name).lower()} {each}" for name, each in value.items())]
    if value is None or isinstance(value, bool):
        return [{True: "yes", False: "no", None: "no limit"}[value]]
    return [str(value)]


SELFIE_REASONS = {
    "public_use": "The result may be public; a person looks at every such check.",
    "identity_unsure": "The face in the video may not be the face in the pictures.",
    "no_reference": "There was no face to compare with.",
    "screening_incomplete": "A part of the screening did not work.",
}


def selfie_reason(code: str) -> str:
    """Why a person has to look at a video, as a sentence."""
    return SELFIE_REASONS.get(code) or reason(code)
