"""The sheets that people look at: every choice makes a picture, and no two choices of masks the same one."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.worker import looks


def test_every_sheet_shows_what_each_choice_does(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMPRIMATUR_OPERATOR_MODELS", "")  # set anew within, and as before afterwards
    files = looks.main(tmp_path, models_dir)
    assert [file.stem for file in files] == list(looks.SHEETS)
    sheet = cv2.imread(str(tmp_path / "model-masks.png"))
    height = looks.TILE + looks.TITLE
    tiles = [
        sheet[row + looks.TITLE : row + height, column : column + looks.TILE].astype(int)
        for row in range(0, sheet.shape[0], height)
        for column in range(0, sheet.shape[1], looks.TILE)
    ][: len(looks.SHEETS["model-masks"]) + 1]
    for one, two in combinations(range(1, len(tiles)), 2):
        assert (np.abs(tiles[one] - tiles[two]).max(axis=2) > 12).sum() > 100, (one, two)
