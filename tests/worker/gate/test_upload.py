"""A photo is decoded once, whoever looks at it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.worker.gate import pictures
from tests.worker.gate.pictures import Rgb
from worker.gate import lists, measure, replay, stay_down
from worker.gate.looking import look_at
from worker.gate.sampling import samples
from worker.gate.upload import Upload
from worker.media import client


class Listed:
    """A list of what stays down with nothing near."""

    def empty(self) -> bool:
        return False

    def holds_mark(self, mark_id: bytes) -> bool:
        return False

    def like(self, value: bytes) -> tuple[()]:
        return ()


class Installed:
    """Lists of hashes with nothing near."""

    names = ("one",)
    entries = 1

    def search(self, asked: Any) -> tuple[()]:
        return ()


def test_all_looks_at_a_photo_share_one_decoding(
    tmp_path: Path, astronaut: Rgb, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pictures.saved(astronaut, tmp_path / "photo.jpg")
    decoded: list[Path] = []
    decode = client.decode_image

    def counted(asked: Path) -> Rgb:
        decoded.append(asked)
        return decode(asked)

    monkeypatch.setattr(client, "decode_image", counted)
    upload = Upload.of(path, client.probe(path))
    analysis = pictures.analysis(tmp_path, (astronaut.shape[1], astronaut.shape[0]), [(0.0, [])])
    assert measure._look(upload, [])[0] is None
    assert replay.measure(upload).status == "measured"
    assert stay_down.measure(upload, [], Listed()).value["looked"] == 1
    (signal,) = look_at(samples(upload, analysis), [lists.ListsLook(Installed(), analysis)])
    assert signal.value["looked"] == 1
    assert decoded == [path]
    with pytest.raises(ValueError, match="read-only"):
        np.copyto(upload.photo, 0)  # nobody changes what the next one looks at
