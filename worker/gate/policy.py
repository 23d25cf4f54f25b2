"""From signals to one decision. Pure and total: what is missing, broken or unknown is never an acceptance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from worker.gate import content_policy, rules_lists, rules_origin
from worker.gate.findings import Finding, Verdict
from worker.gate.profiles import Profile
from worker.gate.signals import NOT_SCREENED, Signal
from worker.limits import IDENTITY_PASS, IDENTITY_REVIEW, MIN_FACE_PIXELS, MOST_TURNED_AWAY

POLICY_VERSION = "2026-11.5"

SEVERITY: dict[Verdict, int] = {"accept": 0, "review": 1, "reject": 2}

LEVELS = ("L1", "L2", "L3", "L4")  # of assurance, as in consent.levels (a test compares the two)

SOURCE_NEEDS = (
    "stay_down",
    "dimensions",
    "faces",
    "own_mark",
    "credentials",
    "listed_face",
    "provenance",
    "alignment",
)
TARGET_NEEDS = (*SOURCE_NEEDS, "markable")  # only a target becomes an output, which must carry the mark
JOB_NEEDS = ("identity", "pose", "assurance", "asset_profiles", "relationship")


@dataclass(frozen=True)
class GateDecision:
    """The decision on one asset or job, with everything it rests on; becomes the evidence record."""

    decision: Verdict
    reasons: tuple[str, ...]
    message: str
    not_screened: tuple[str, ...]
    label_required: bool
    signals: tuple[Signal, ...]
    profile: str
    policy_version: str = POLICY_VERSION

    @property
    def preview_allowed(self) -> bool:
        """Whether a picture of it may be kept and shown to anybody, moderators included."""
        return content_policy.HARD_STOP not in self.reasons


def decide_asset(signals: Iterable[Signal], profile: Profile, role: str) -> GateDecision:
    """May this upload be used as `role` ("source", "target") at all?

    Face forgery is left to the job, where the consents are known (but in the profile `strict`).
    """
    leave = () if profile.forgery_with_l2 == "review" else ("face_forgery",)
    signals = tuple(signals)
    needs = SOURCE_NEEDS if role == "source" else TARGET_NEEDS
    # What can be screened for here is decided on like the rest; what cannot is left to the profile.
    installed = [each.kind for each in signals if each.kind in NOT_SCREENED and each.status != "not_installed"]
    return _decide(signals, profile, (*needs, *(kind for kind in installed if kind in RULES)), leave)


def decide_job(signals: Iterable[Signal], profile: Profile) -> GateDecision:
    """May these assets be put together? The kinds decided on each asset already are recorded, not decided again.

    That holds for a decision made under the same profile only; a person looks at what another one let through.
    """
    signals = tuple(signals)
    measured = [s for s in signals if s.kind == "assurance" and s.status == "measured"]
    levels: Sequence[str] = measured[0].value["levels"] if measured else ()
    surely = bool(levels) and all(_reaches(level, "L2") for level in levels)
    decided = tuple(kind for kind in NOT_SCREENED if kind != "face_forgery")
    leave = NOT_SCREENED if profile.forgery_with_l2 == "review" or surely else decided
    return _decide(signals, profile, JOB_NEEDS, leave)


def _decide(signals: tuple[Signal, ...], profile: Profile, needs: Sequence[str], leave: Sequence[str]) -> GateDecision:
    by_kind = {signal.kind: signal for signal in signals}
    # A kind without any record was not screened either.
    not_screened = tuple(k for k in NOT_SCREENED if k not in by_kind or by_kind[k].status != "measured")
    findings = [Finding(*rule) for rule in content_policy.findings(by_kind, profile)]
    for kind in needs:
        signal = by_kind.get(kind)
        if signal is None:
            findings.append(Finding("review", f"{kind}_missing", "A part of the screening did not take place."))
        elif signal.status != "measured":
            findings.append(Finding("review", f"{kind}_{signal.status}", "A part of the screening did not work."))
        else:
            findings += RULES[kind](signal, profile)
    if profile.unscreened == "review":
        findings += [
            Finding("review", f"not_screened_{kind}", f"Nothing here can screen for {kind}; a person looks at it.")
            for kind in not_screened
            if kind not in leave and not _told(by_kind.get(kind))
        ]
    findings = [finding for finding in findings if finding.verdict != "accept"]
    findings.sort(key=lambda finding: -SEVERITY[finding.verdict])
    decision: Verdict = findings[0].verdict if findings else "accept"
    return GateDecision(
        decision=decision,
        reasons=tuple(dict.fromkeys(finding.code for finding in findings)),
        message=findings[0].message if findings else "",
        not_screened=not_screened,
        label_required=bool(not_screened),
        signals=signals,
        profile=profile.name,
    )


def _told(signal: Signal | None) -> bool:
    """Whether `content_policy` has its own reason for this gap."""
    return signal is not None and signal.kind in content_policy.KINDS and signal.status != "not_installed"


def _dimensions(signal: Signal, profile: Profile) -> list[Finding]:
    if signal.value["width"] < 64 or signal.value["height"] < 64:
        return [Finding("reject", "picture_too_small", "The picture is smaller than 64 pixels. Use a larger one.")]
    return []


def _faces(signal: Signal, profile: Profile) -> list[Finding]:
    if not signal.value["count"]:
        return [Finding("reject", "no_face", "No face was found. Use a picture in which a face is seen clearly.")]
    if signal.value["largest"] < MIN_FACE_PIXELS:
        message = f"The largest face is smaller than {MIN_FACE_PIXELS} pixels. Use a picture with a larger face."
        return [Finding("reject", "face_too_small", message)]
    return []


def _markable(signal: Signal, profile: Profile) -> list[Finding]:
    if signal.value["ok"]:
        return []
    message = "The picture cannot carry the invisible mark, so no result of it could be published. Use a larger one."
    return [Finding("reject", "not_markable", message)]


def _listed_face(signal: Signal, profile: Profile) -> list[Finding]:
    """The uploader is not told who is on the list; the reviewer's sentence stands in the console."""
    if not signal.value["hits"]:
        return []
    if signal.value["one_to_many"] is True:
        message = "A face in this file may not be used here. Nothing was made; write to the operator if you object."
        return [Finding("reject", "listed_face", message)]
    return [Finding("review", "listed_face", "A person looks at this file before it can be used.")]


def _identity(signal: Signal, profile: Profile) -> list[Finding]:
    worst = float(signal.value["worst"])
    if worst <= IDENTITY_PASS:
        return []
    if worst <= IDENTITY_REVIEW:
        return [Finding("review", "identity_unsure", "The photos may not all show the person who was asked.")]
    # Also for NaN, which is above no bound and below none.
    message = "The photos do not all show the person who gave their consent. Use photos of that person only."
    return [Finding("reject", "identity_mismatch", message)]


def _assurance(signal: Signal, profile: Profile) -> list[Finding]:
    if not signal.value["levels"]:
        return [Finding("review", "assurance_missing", "Nobody answers for the depicted persons.")]
    if "attested" in signal.value["levels"]:
        # In every profile: a statement of the account alone is not yet a permission (DESIGN.md, promise 1).
        message = "The account states that it may use the target without asking the person; a moderator looks at it."
        return [Finding("review", "rights_attested", message)]
    # The rule itself is consent.levels'; what it asks for comes with the signal.
    if not all(_reaches(level, signal.value.get("least", "")) for level in signal.value["levels"]):
        message = "A permission is less sure than this use needs; a person looks at it."
        return [Finding("review", "assurance_too_low", message)]
    return []


def _relationship(signal: Signal, profile: Profile) -> list[Finding]:
    if "employee" not in signal.value["relationships"]:
        return []
    # An employee is hardly free to say no (EDPB Guidelines 05/2020, 3.1.1), so a yes alone does not do.
    message = "A depicted person works for the account, so a moderator looks at the job before anything is made."
    return [Finding("review", "relationship_employee", message)]


def _stay_down(signal: Signal, profile: Profile) -> list[Finding]:
    match signal.value["found"]:
        case "":
            return []
        case "mark" | "picture":
            message = (
                "This is, or was made from, a result whose permission ended, so it may not be used again. It was not "
                "kept for any job. Use the original, the very file that was sent before; if you have rights in it, "
                "write to the operator."
            )
            return [Finding("reject", "stay_down", message)]
    message = "The picture looks like a result whose permission ended; a person looks at it."
    return [Finding("review", "stay_down_unsure", message)]


def _reaches(level: str, least: str) -> bool:
    return level in LEVELS and least in LEVELS and LEVELS.index(level) >= LEVELS.index(least)


def _asset_profiles(signal: Signal, profile: Profile) -> list[Finding]:
    made = signal.value["profiles"]
    if made and all(name == profile.name for name in made):
        return []
    message = f"A file was not screened under the profile {profile.name}; a person looks at it."
    return [Finding("review", "screened_under_other_profile", message)]


def _pose(signal: Signal, profile: Profile) -> list[Finding]:
    value = signal.value
    if value["turned"] <= MOST_TURNED_AWAY * value["frames"]:
        return []
    message = (
        f"The faces look in directions {value['widest']:.0f} degrees apart, at most 30 can be bridged. "
        "Nothing was made. Add a photo in which the donor looks as the target does."
    )
    return [Finding("reject", "pose_gap", message)]


RULES: Mapping[str, Callable[[Signal, Profile], list[Finding]]] = {
    "dimensions": _dimensions,
    "faces": _faces,
    "markable": _markable,
    "own_mark": rules_origin.own_mark,
    "credentials": rules_origin.credentials,
    "provenance": rules_origin.provenance,
    "alignment": rules_origin.alignment,
    "lists": rules_lists.lists,
    "listed_face": _listed_face,
    "identity": _identity,
    "pose": _pose,
    "assurance": _assurance,
    "asset_profiles": _asset_profiles,
    "relationship": _relationship,
    "stay_down": _stay_down,
}
