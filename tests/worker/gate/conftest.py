"""The built-in models, run in this process, and the two sample faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.worker.gate.pictures import Points, Rgb
from worker.faces.analyse import analyse_image
from worker.inference.sessions import LocalRunner

Locate = Callable[[Rgb], list[Points]]


@pytest.fixture(scope="session")
def locate(models_dir: Path) -> Locate:
    """The landmarks of a picture's faces, largest first."""
    runner = LocalRunner(models_dir)
    return lambda picture: [face.landmarks for face in analyse_image(picture, runner)]
