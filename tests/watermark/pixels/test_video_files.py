"""The mark read from video files: the reader asks the media child for the frames it wants."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from watermark import video
from worker.media import client

ID = b"piece id"
RATE = 8


def write(path: Path, frames, *, crf: int = 23, gop: int = 250) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=RATE)
        stream.options = {"crf": str(crf), "preset": "veryfast", "g": str(gop), "sc_threshold": "0"}
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(frames):
            if number == 0:
                stream.height, stream.width = frame.shape[:2]
            turned = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=1, dst_color_range=1
            )
            turned.colorspace = 1
            out.mux(stream.encode(turned))
        out.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def scene(large):
    """A function of seconds: uint8 [480, 640, 3], an endless slow walk over one picture with grain."""
    picture = cv2.resize(large, (900, 1054), interpolation=cv2.INTER_AREA)
    generator = np.random.Generator(np.random.PCG64(5))
    grain = generator.normal(0, 1.5, (520, 680, 3)).astype(np.float32)

    def at(seconds: float):
        x, y = (round(reach * (0.5 + 0.5 * np.sin(seconds / slow))) for reach, slow in ((259, 7), (573, 11)))
        left, top = generator.integers(0, 40, 2)
        part = picture[y : y + 480, x : x + 640] + grain[top : top + 480, left : left + 640]
        return np.clip(part, 0, 255).astype(np.uint8)

    return at


@pytest.fixture(scope="module")
def long_video(scene, key, tmp_path_factory):
    """40 seconds with a keyframe every ten; another scene, and marked, from 13.5 to 16.5 and from 30 to 34 seconds."""
    embedder = video.Embedder(ID, key, (640, 480))

    def frames():
        for number in range(40 * RATE):
            seconds = number / RATE
            marked = 13.5 <= seconds < 16.5 or 30 <= seconds < 34
            yield embedder.embed(scene(seconds + 20)) if marked else scene(seconds)

    return write(tmp_path_factory.mktemp("long") / "long.mp4", frames(), gop=10 * RATE)


def test_marked_pieces_of_a_long_video_are_found_and_their_times_told(long_video, key, other_key):
    with client.open_frames(long_video) as frames:
        reading = video.read(frames, [other_key, key])
    assert reading is not None
    assert reading.mark_id == ID
    assert reading.key == key.name
    assert reading.geometry.whole
    assert len(reading.spans) == 2
    assert np.abs(np.array(reading.spans) - [(13.5, 16.5), (30, 34)]).max() < 0.7


def test_the_keyframes_of_a_video_are_enough_to_read_it(scene, key, tmp_path):
    embedder = video.Embedder(ID, key, (640, 480))
    path = write(tmp_path / "all.mp4", (embedder.embed(scene(i / RATE)) for i in range(6 * RATE)), gop=RATE)
    asked = []

    class Watched:
        def __init__(self, frames):
            self.duration, self.shrink, self._frames = frames.duration, frames.shrink, frames

        def keyframes(self, gap):
            for seconds, frame in self._frames.keyframes(gap):
                asked.append(seconds)
                yield seconds, frame

        def frames(self, start, count, step=0.0):
            return self._frames.frames(start, count, step)

    with client.open_frames(path) as frames:
        reading = video.read(Watched(frames), [key])
    assert reading is not None
    assert reading.mark_id == ID
    assert {round(seconds, 2) for seconds in asked} == set(range(6))
    assert reading.spans[0][0] == 0
    assert reading.spans[-1][1] >= 5


def test_the_geometry_is_told_in_pixels_of_the_video_though_its_frames_came_smaller(clip, key, tmp_path):
    marked = [video.Embedder(ID, key, (960, 720)).embed(frame) for frame in clip[:4]]
    path = write(tmp_path / "crop.mp4", [frame[40:680, 100:900] for frame in marked], crf=18)
    with client.open_frames(path, short_side=500) as frames:
        assert frames.shrink == pytest.approx(500 / 640, abs=0.01)
        reading = video.read(frames, [key])
    assert reading is not None
    assert not reading.geometry.whole
    where, period = reading.geometry, reading.geometry.period
    factor = 512 / 720
    assert where.scale == pytest.approx(factor, rel=0.005)
    for place, told in ((100 * factor, where.tx), (40 * factor, where.ty)):
        assert abs((told - place + period / 2) % period - period / 2) < 1.5


def test_a_video_without_our_mark_reads_as_nothing(scene, key, tmp_path):
    path = write(tmp_path / "plain.mp4", [scene(i / RATE) for i in range(2 * RATE)])
    with client.open_frames(path) as frames:
        assert video.read(frames, [key]) is None
