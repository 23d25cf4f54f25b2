"""Loaded into a worker with `-I crashing_gate`: it dies the hardest way there is after the looks, before the policy."""

import os
import signal
from typing import Any

from worker.gate import measure


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


measure.alignment.measure = _die
