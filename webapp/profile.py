"""What the deployment's profile means to the web side (DESIGN.md decision 14)."""

from __future__ import annotations

from django.conf import settings


def is_live() -> bool:
    """Is what is made here meant to be used? Never in the evaluation profile, nor without one."""
    return settings.PROFILE in {"standard", "strict"}
