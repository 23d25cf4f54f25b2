"""Loaded into a worker with `-I joinless`: it dies the hardest way there is as soon as all segments are there."""

import os
import signal
from typing import Any

from worker import rendering


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


rendering.pipeline.join_job = _die
