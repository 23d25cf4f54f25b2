"""Parts of one video joined without encoding again, whichever encoder wrote them."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from worker.media.encode import EncoderChoice, VideoWriter
from worker.media.errors import MediaError
from worker.media.join import PartFile, join_parts
from worker.media.planes import Planes
from worker.media.timing import Timeline
from worker.media.video import VideoReader


@pytest.fixture
def target(make_video) -> Path:
    """Sixteen frames, each of another brightness."""
    return make_video(size=(128, 96), seconds=0.64, picture=lambda n: np.full((96, 128, 3), 30 + 12 * n, np.uint8))


def _parts(target: Path, folder: Path, *choices: EncoderChoice) -> list[PartFile]:
    """One part per choice, of as many frames each."""
    parts: list[PartFile] = []
    with target.open("rb") as file, VideoReader(file, "mov") as reader:
        planes, pictures = Planes(reader.size), list(reader.pictures())
        share = len(pictures) // len(choices)
        for number, choice in enumerate(choices):
            path, mine = folder / f"{number}.part", pictures[share * number : share * (number + 1)]
            shape = {"size": reader.size, "time_base": reader.time_base, "rate": reader.rate}
            writer = VideoWriter(path, **shape, choice=choice)
            for stamp, frame in mine:
                reader.fill(frame, planes)
                writer.write(planes, stamp.pts - mine[0][0].pts)
            writer.finish()
            parts.append(PartFile(path, mine[0][0].pts, len(mine)))
    return parts


def _joined(target: Path, parts: list[PartFile], out: Path) -> None:
    with target.open("rb") as file, VideoReader(file, "mov") as reader:
        container = "mov" if out.suffix == ".mov" else "mp4"
        timeline = Timeline.of(reader)
        join_parts(parts, out, reader, timeline, container=container, metadata=None, done=lambda frames: None)


def _shown(path: Path) -> list[tuple[float, float]]:
    """Time and brightness of each frame."""
    with av.open(str(path)) as source:
        return [(float(frame.time), float(frame.to_ndarray(format="gray").mean())) for frame in source.decode(video=0)]


@pytest.mark.parametrize(
    ("codec", "container", "tag"),
    [("h264", "mp4", "avc1"), ("hevc", "mp4", "hvc1"), ("hevc", "mov", "hvc1"), ("av1", "mp4", "av01")],
)
def test_joined_parts_play_in_order_under_the_tag_that_players_look_for(target, tmp_path, codec, container, tag):
    parts = _parts(target, tmp_path, EncoderChoice(codec), EncoderChoice(codec))
    out = tmp_path / f"out.{container}"
    _joined(target, parts, out)
    with av.open(str(out)) as source:
        assert source.streams.video[0].codec_context.codec_tag == tag
    before, after = _shown(target), _shown(out)
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=1e-4)
    assert [grey for _, grey in after] == pytest.approx([grey for _, grey in before], abs=3)


def test_parts_of_two_encoders_are_refused(target, tmp_path):
    out = tmp_path / "out.mp4"
    for choices in (
        (EncoderChoice("h264"), EncoderChoice("hevc")),
        (EncoderChoice("hevc"), EncoderChoice("av1")),
    ):
        with pytest.raises(MediaError) as caught:
            _joined(target, _parts(target, tmp_path, *choices), out)
        assert caught.value.code == "part_broken"
        assert not out.exists()
