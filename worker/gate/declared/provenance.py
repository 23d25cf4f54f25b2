"""Does the file say of itself that a machine made it? Asked in the media child; only names from our tables come back.

What it says decides; what it does not say means nothing: metadata is lost at the first upload elsewhere (0 of 987
pictures of 40 public repositories held Content Credentials, 4 of 987 a generator's chunk; reference/gate.md 4.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from worker.gate import signals
from worker.gate.declared.declarations import Declaration
from worker.gate.signals import Signal
from worker.media import client
from worker.media.errors import ChildError, MediaError

KIND: Final = "provenance"
_CLAIMS: Final = ("source_type", "aigc", "generator", "camera")
_MOST: Final = 40
_LONGEST: Final = 200


def measure(path: Path) -> Signal:
    """The signal `provenance` of a file; a child that refused or died is an error of the signal, not of the file."""
    try:
        answer = client.read_declarations(path)
        return measured(
            [_declaration(each) for each in list(answer["declarations"])[:_MOST]],
            unread=_words(answer["unread"]),
            blocks=_words(answer["blocks"]),
        )
    except (MediaError, ChildError) as error:
        return signals.failed(KIND, error.code)
    except (KeyError, TypeError, ValueError, AttributeError):
        return signals.failed(KIND, "unreadable")


def measured(declarations: Sequence[Declaration], *, unread: Sequence[str] = (), blocks: Sequence[str] = ()) -> Signal:
    """The signal: what was declared, which kinds of metadata there were, and what could not be read."""
    value = {
        "declarations": [
            {"claim": each.claim, "name": each.name, "where": each.where, "detail": each.detail}
            for each in declarations
        ],
        "unread": list(unread),
        "blocks": list(blocks),
    }
    return Signal(KIND, "measured", value, "metadata")


def _declaration(raw: Mapping[str, Any]) -> Declaration:
    """One line of the child's answer, brought to its types: the child had parsed untrusted bytes."""
    if raw["claim"] not in _CLAIMS:
        raise ValueError("an unknown claim")
    name, where, detail = (str(raw[part])[:_LONGEST] for part in ("name", "where", "detail"))
    return Declaration(raw["claim"], name, where, detail)


def _words(raw: Any) -> list[str]:
    return [str(each)[:_LONGEST] for each in list(raw)[:_MOST]]
