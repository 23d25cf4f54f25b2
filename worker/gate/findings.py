"""What one rule of the policy says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["accept", "review", "reject"]


@dataclass(frozen=True)
class Finding:
    """What one rule says: a verdict, its stable code, and a sentence for the uploader."""

    verdict: Verdict
    code: str
    message: str = ""
