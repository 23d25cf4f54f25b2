"""What tests let a media child do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def ask_for_priority(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Ask for ordinary scheduling, which anybody may have, and for real-time priority; both are one system call."""
    try:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    except OSError as error:
        return {"filtered": payload["isolation"]["system_calls"], "error": type(error).__name__}
    return {"filtered": payload["isolation"]["system_calls"], "error": ""}
