"""A mark of this house is found in the pictures that the gate looks at anyway, and by a reading where these are few."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.worker.gate import pictures
from tests.worker.gate.pictures import Rgb
from watermark.keys import MarkKey, derive_mark_key
from watermark.video import Embedder
from worker.gate.looks import sampling
from worker.gate.looks.looking import look_at
from worker.gate.looks.own_mark import MarkLook
from worker.gate.looks.sampling import Sample, samples
from worker.gate.upload import Upload
from worker.media import client
from worker.media.sample_clip import views

MARK_ID = bytes(range(8))
SIZE, FPS = (640, 360), 5


@pytest.fixture(scope="module")
def key() -> MarkKey:
    return derive_mark_key(bytes(32), deployment="tests", year=2026)


def film(path: Path, photo: Rgb, seconds: int, marked: tuple[float, float] | None, key: MarkKey) -> Path:
    """A hand-held film whose keyframes lie far apart, of which the part `marked` (seconds) is marked."""
    embedder = Embedder(MARK_ID, key, SIZE)
    with av.open(str(path), "w", format="mp4") as out:
        stream: Any = out.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "veryfast", "g": "100"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for index, view in enumerate(views(photo, seconds * FPS, size=SIZE, fps=FPS)):
            inside = marked is not None and marked[0] <= index / FPS < marked[1]
            frame = av.VideoFrame.from_ndarray(embedder.embed(view) if inside else view, "rgb24").reformat(
                format="yuv420p"
            )
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def looked(path: Path, folder: Path, key: MarkKey) -> tuple[MarkLook, Upload, Any]:
    info = client.probe(path)
    upload = Upload.of(path, info)
    times: list[tuple[float, list[Any]]] = [(0.0, []), (info.duration or 0.0, [])]
    analysis = pictures.analysis(folder, (info.width, info.height), times, kind="video")
    return MarkLook(upload, analysis, [key], pictures.NoOutputs()), upload, analysis


@pytest.mark.parametrize("marked", [(31.0, 34.0), None])
def test_three_marked_seconds_of_a_film_are_found_in_the_pictures_others_see(
    tmp_path: Path, astronaut: Rgb, key: MarkKey, marked: tuple[float, float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, upload, analysis = looked(film(tmp_path / "film.mp4", astronaut, 54, marked, key), tmp_path, key)
    assert look.shares
    passes = []
    monkeypatch.setattr(sampling.client, "open_frames", counted(passes, client.open_frames))
    (signal,) = look_at(samples(upload, analysis), [look])
    assert signal.value["found"] == (marked is not None)
    assert signal.value["mark_id"] == (MARK_ID.hex() if marked else None)
    assert look.markable.value == {"ok": True, "reason": None}
    assert 30 <= int(signal.value["effort"].split()[0]) <= 120
    # One pass over the film, and a source for a last look, which decodes neighbours at most.
    assert len(passes) == 2


def counted(passes: list[Any], opened: Any) -> Any:
    def open_frames(*args: Any, **more: Any) -> Any:
        passes.append(args)
        return opened(*args, **more)

    return open_frames


def test_a_short_film_is_read_by_itself(tmp_path: Path, astronaut: Rgb, key: MarkKey) -> None:
    look, _, _ = looked(film(tmp_path / "film.mp4", astronaut, 8, (2.0, 6.0), key), tmp_path, key)
    assert not look.shares
    assert look.read().value["mark_id"] == MARK_ID.hex()


def test_of_three_pictures_in_a_row_two_are_looked_at(tmp_path: Path, astronaut: Rgb, key: MarkKey) -> None:
    path = film(tmp_path / "film.mp4", astronaut, 50, None, key)
    seen: list[float] = []

    class Noting:
        gap = 1.5

        def take(self, seconds: float, frame: Rgb) -> bool:
            seen.append(seconds)
            return False

    def noting(*_: Any) -> Noting:
        return Noting()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.gate.looks.own_mark.video.watch", noting)
        look, _, _ = looked(path, tmp_path, key)
        for seconds in times():
            look.take(Sample(seconds, np.zeros((90, 160, 3), np.uint8), ()))
    assert seen == [0.0, 20.0, 1.0, 2.0, 4.0, 5.0, 7.0, 30.0]


def times() -> Iterator[float]:
    """Keyframes, then what lies between them."""
    yield from (0.0, 20.0)
    yield from (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 30.0)
