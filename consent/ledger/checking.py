"""Checking a log from its leaves alone: order, roots, signatures. Pure; a database or an export only supplies them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from consent.ledger import tree
from consent.ledger.errors import LedgerError
from consent.ledger.notes import Checkpoint, Verifier, open_checkpoint

LEAF_VERSION = 1


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it was entered: a stable code, where, and a sentence."""

    code: str
    where: str
    message: str


@dataclass
class Report:
    """What was looked at, and what was found; `ok` without findings."""

    leaves: int = 0
    checkpoints: int = 0
    covered: int = 0  # leaves under a checkpoint
    waiting: int = 0  # entries without a place yet
    opened: int = 0  # entries whose commitment was computed again
    erased: int = 0  # entries whose key was destroyed on purpose
    consents: int = 0
    keys: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Was everything as it was entered?"""
        return not self.findings

    def add(self, code: str, where: str, message: str) -> None:
        """Write down a finding."""
        self.findings.append(Finding(code, where, message))


class LogChecker:
    """Takes the leaves in order and compares every signed head with the root at its size."""

    def __init__(self, notes: Sequence[str], verifiers: Sequence[Verifier], report: Report) -> None:
        self.report = report
        self._frontier = tree.Frontier()
        self._heads: dict[int, list[Checkpoint]] = {}
        report.keys = [verifier.text for verifier in verifiers]
        origins = {verifier.name for verifier in verifiers}
        for note in notes:
            try:
                head = open_checkpoint(note, verifiers)
            except LedgerError as error:
                report.add("checkpoint_invalid", "checkpoint", f"A checkpoint cannot be believed: {error.message}")
                continue
            if head.origin not in origins:
                report.add("checkpoint_invalid", f"checkpoint {head.size}", "A checkpoint is another log's.")
                continue
            self._heads.setdefault(head.size, []).append(head)
            report.checkpoints += 1
        self._compare()

    @property
    def size(self) -> int:
        """How many leaves were taken so far."""
        return self._frontier.size

    def take(self, leaf: bytes) -> dict[str, Any]:
        """The next leaf; returns what it says, {} if it is none."""
        place = self._frontier.size
        said: Any = {}
        try:
            said = json.loads(leaf)
        except (ValueError, RecursionError):
            said = {}
        if not isinstance(said, dict) or said.get("v") != LEAF_VERSION:
            self.report.add("leaf_malformed", f"leaf {place}", "This is no leaf of this log.")
            said = {}
        elif said.get("seq") != place:
            self.report.add(
                "leaf_out_of_order", f"leaf {place}", f"Leaf {said.get('seq')} stands at place {place} of the log."
            )
        self._frontier.append(tree.leaf_hash(leaf))
        self._compare()
        return said

    def finish(self) -> None:
        """No more leaves: what is signed beyond them is missing."""
        self.report.leaves = self.size
        for size in sorted(size for size in self._heads if size > self.size):
            self.report.add(
                "log_truncated",
                f"checkpoint {size}",
                f"A checkpoint signs {size} leaves, and there are {self.size}: the log's end is missing.",
            )

    def _compare(self) -> None:
        heads = self._heads.get(self._frontier.size)
        if not heads:
            return
        root = self._frontier.root()
        for head in heads:
            if head.root != root:
                self.report.add(
                    "root_differs",
                    f"checkpoint {head.size}",
                    f"The first {head.size} leaves are not those that were signed: one was edited, removed, inserted "
                    "or put elsewhere.",
                )
        self.report.covered = self._frontier.size
