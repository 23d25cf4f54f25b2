"""Undo what SVT-AV1 does to its caller when root runs it: real-time priority, also for all that the caller starts."""

from __future__ import annotations

import os


def ordinary_priority() -> None:
    """Back to ordinary scheduling; a browser or encoder started at real-time priority can stop the whole machine."""
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
