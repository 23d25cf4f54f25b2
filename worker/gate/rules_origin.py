"""The policy's rules about where a file comes from: what it declares, what is ours, how its faces lie."""

from __future__ import annotations

from typing import Final

from worker.gate.findings import Finding
from worker.gate.profiles import Profile
from worker.gate.signals import SYNTHETIC_SOURCES, Signal

_MADE: Final = "The file says of itself that it was made or changed by AI."
_LOOK: Final = "A person looks at this file before it can be used."
_OURS: Final = "The file is a result of this service already. Use the original."
CODES: Final = (
    "declared_synthetic",
    "declared_ai_generator",
    "declared_aigc",
    "possible_aigc",
    "suspected_aigc",
    "unreadable_aigc",
    "metadata_too_large",
)
"""Of what a file declares, in the order in which they are given."""
_AIGC_CODES: Final = {"declared": "declared_aigc", "possible": "possible_aigc", "suspected": "suspected_aigc"}


def provenance(signal: Signal, profile: Profile) -> list[Finding]:
    """A declaration of AI goes to a person, each source under its own code; a camera's name never helps."""
    found: dict[str, Finding] = {}
    for each in signal.value["declarations"]:
        code = ""
        match each["claim"]:
            case "source_type" if each["name"] in SYNTHETIC_SOURCES:
                code = "declared_synthetic"
            case "generator":
                code = "declared_ai_generator"
            case "aigc":
                code = _AIGC_CODES.get(each["name"], "unreadable_aigc")
        if code:
            found[code] = Finding("review", code, _MADE if code.startswith("declared") else _LOOK)
    if any(note.endswith("too_large") for note in signal.value["unread"]):
        # Damage is common in honest files; words beyond every bound are not.
        found["metadata_too_large"] = Finding("review", "metadata_too_large", _LOOK)
    return [found[code] for code in CODES if code in found]


def credentials(signal: Signal, profile: Profile) -> list[Finding]:
    """Content Credentials: ours are refused, a declaration of AI in them goes to a person."""
    if signal.value["is_ours"]:
        return ours(signal)
    found = []
    if signal.value["declared_synthetic"]:
        found.append(Finding("review", "declared_synthetic", _MADE))
    if signal.value.get("ai_generator"):
        found.append(Finding("review", "declared_ai_generator", _MADE))
    return found


def own_mark(signal: Signal, profile: Profile) -> list[Finding]:
    """A mark of this house: the file is a result already."""
    return ours(signal) if signal.value["found"] else []


def ours(signal: Signal) -> list[Finding]:
    """Refused whoever sent it. That it is another account's is for the reviewer; the uploader reads the same words."""
    found = [Finding("reject", "is_our_output", _OURS)]
    if (signal.value.get("output") or {}).get("owner") == "another":
        found.append(Finding("reject", "output_of_another_account", _OURS))
    return found


def alignment(signal: Signal, profile: Profile) -> list[Finding]:
    """Faces that lie as generators learn them: a reason to look, no more; crops of data sets of real people do too."""
    return [Finding("review", "ffhq_alignment", _LOOK)] if signal.value["aligned"] else []
