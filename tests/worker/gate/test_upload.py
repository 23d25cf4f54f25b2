"""A photo is decoded once, whoever looks at it; of a film the picker shows a face where and when it is at its best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from tests.worker.gate import pictures
from tests.worker.gate.pictures import Rgb
from worker.gate import measure
from worker.gate.looks import lists, replay, stay_down
from worker.gate.looks.looking import look_at
from worker.gate.looks.own_mark import MarkLook
from worker.gate.looks.sampling import samples
from worker.gate.upload import Upload
from worker.media import client
from worker.pipeline.analysed import Track


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
    assert not MarkLook(upload, analysis, [], pictures.NoOutputs()).read().value["found"]
    assert replay.measure(upload).status == "measured"
    looks = [lists.ListsLook(Installed(), analysis), stay_down.StayDownLook(Listed(), 0.0)]
    assert [signal.value["looked"] for signal in look_at(samples(upload, analysis), looks)] == [1, 1]
    assert [face for face, _ in measure.previews(upload, analysis, allowed=True)] == []
    assert decoded == [path]
    with pytest.raises(ValueError, match="read-only"):
        np.copyto(upload.photo, 0)  # nobody changes what the next one looks at


def test_the_picture_to_pick_a_face_by_is_of_its_best_moment_and_framed_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a film larger than what is shown: grey, and bright in its second second."""
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"g": "250"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        for number in range(30):
            level = 200 if 10 <= number < 20 else 60
            frame = av.VideoFrame.from_ndarray(np.full((1080, 1920, 3), level, np.uint8), "rgb24")
            out.mux(stream.encode(frame.reformat(format="yuv420p")))
        out.mux(stream.encode(None))
    box = (960.0, 270.0, 480.0, 540.0)
    where = {"box": box, "size": 540.0, "yaw": 0.0, "descriptor": None}
    bright = Track(4, 0.0, 3.0, 30, best_index=15, best_seconds=1.5, **where)
    dark = Track(7, 0.0, 3.0, 30, best_index=2, best_seconds=0.2, **where)
    analysis = pictures.analysis(tmp_path, (1920, 1080), [(0.0, [])], kind="video")
    monkeypatch.setattr(type(analysis), "tracks", (bright, dark))
    shown = dict(measure.previews(Upload.of(path, client.probe(path)), analysis, allowed=True))
    assert {face: shown[face] for face in (4, 7)} == shown
    for face, level in ((4, 200), (7, 60)):
        picture = cv2.imdecode(np.frombuffer(shown[face], np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (360, 640, 3)
        assert abs(float(picture[5:80].mean()) - level) < 6
        yellow = (picture[..., 2] > 220) & (picture[..., 0] < 120)
        rows, columns = np.nonzero(yellow)
        found = [columns.min(), rows.min(), columns.max(), rows.max()]
        assert np.abs(np.array(found) - [320, 90, 480, 270]).max() <= 4
    assert list(measure.previews(Upload.of(path, client.probe(path)), analysis, allowed=False)) == []
