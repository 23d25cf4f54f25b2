"""The policy's rule about lists of picture hashes."""

from __future__ import annotations

from worker.gate.findings import Finding
from worker.gate.profiles import Profile
from worker.gate.signals import Signal


def lists(signal: Signal, profile: Profile) -> list[Finding]:
    """Refused when it is on a list of kind "block", looked at by a person when on one of kind "watch".

    The uploader is told neither the list nor the entry.
    """
    kinds = {hit["kind"] for hit in signal.value["hits"]}
    found = []
    if "block" in kinds:
        message = "This file may not be used here. Nothing was made; write to the operator if you object."
        found.append(Finding("reject", "listed_picture", message))
    if kinds - {"block"}:
        found.append(Finding("review", "watched_picture", "A person looks at this file before it can be used."))
    return found
