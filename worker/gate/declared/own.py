"""Which of our results an upload is, as far as the repository tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Outputs(Protocol):
    """Our published results, seen by the account that sends a file."""

    def by_mark(self, mark_id: bytes) -> Mapping[str, str]:
        """{"output", "job", "owner": "same" or "another"} of the result with this mark; empty for none."""
        ...

    def by_manifest(self, label: str) -> Mapping[str, str]:
        """The same by the label of its manifest."""
        ...


def of_manifest(outputs: Outputs, label: str, mark_ids: Sequence[bytes]) -> Mapping[str, str]:
    """The result that a manifest of ours speaks of: by its own label, else by a mark it names."""
    found = outputs.by_manifest(label)
    for mark_id in mark_ids:
        found = found or outputs.by_mark(mark_id)
    return found
