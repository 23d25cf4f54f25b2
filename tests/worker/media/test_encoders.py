"""The choice of encoder: one scale of quality, three speeds, typed refusals, software where there is no device."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest

from worker import spec
from worker.media import client, encoders
from worker.media.encode import EncoderChoice, VideoWriter
from worker.media.errors import MediaError
from worker.media.planes import Planes
from worker.media.sample_clip import make_clip
from worker.media.sandbox import Limits, call
from worker.media.video import VideoReader

SAMPLES = Path(__file__).parents[2] / "samples"
TESTS = Path(__file__).parents[2]
NO_DEVICE = not list(Path("/dev").glob("nvidia[0-9]*"))
needs_no_device = pytest.mark.skipif(not NO_DEVICE, reason="there is a video device here")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(SAMPLES / "astronaut.jpg", path, seconds=0.5, size=(640, 480), fps=24, sound=False)
    return path


def _write(clip: Path, out: Path, choice: EncoderChoice, container="mp4") -> list[np.ndarray]:
    """Write the clip at half its size, where nothing of its own encoding is left; return the luma that was written."""
    given = []
    with clip.open("rb") as file, VideoReader(file, "mov") as reader:
        planes = Planes((320, 240))
        shape = {"size": planes.size, "time_base": reader.time_base, "rate": reader.rate}
        writer = VideoWriter(out, **shape, container=container, choice=choice)
        for stamp, frame in reader.pictures():
            reader.fill(frame, planes)
            writer.write(planes, stamp.pts)
            given.append(planes.y.astype(float))
        writer.finish()
    return given


def _luma(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as source:
        height = source.streams.video[0].height
        return [frame.to_ndarray(format="yuv420p")[:height].astype(float) for frame in source.decode(video=0)]


@pytest.mark.parametrize(
    ("codec", "container", "tag"),
    [("h264", "mp4", b"avc1"), ("hevc", "mp4", b"hvc1"), ("hevc", "mov", b"hvc1"), ("av1", "mp4", b"av01")],
)
def test_every_encoder_writes_a_file_that_plays(clip, tmp_path, codec, container, tag):
    out = tmp_path / f"out.{container}"
    _write(clip, out, EncoderChoice(codec), container)
    info = client.probe(out)
    assert info.frames == 12
    assert info.codec.removeprefix("lib").replace("dav1d", "av1") == codec
    with av.open(str(out)) as result:
        context = result.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (1, 1, 1, 1)
    data = out.read_bytes()
    assert tag in data
    assert data.find(b"moov") < data.find(b"mdat")


def test_the_same_number_means_about_the_same_picture_to_each_encoder(clip, tmp_path):
    quality, size = {}, {}
    for codec in get_args(encoders.VideoCodec):
        for crf in (18, 24):
            out = tmp_path / f"{codec}{crf}.mp4"
            before = _write(clip, out, EncoderChoice(codec, crf=crf))
            errors = [((a - b) ** 2).mean() for a, b in zip(before, _luma(out), strict=True)]
            quality[codec, crf] = 10 * np.log10(255**2 / np.mean(errors))
            size[codec, crf] = out.stat().st_size
    for codec in ("hevc", "av1"):
        for crf in (18, 24):
            assert abs(quality[codec, crf] - quality["h264", crf]) < 4, quality
        assert size[codec, 18] < size["h264", 18]
        assert size[codec, 24] < size[codec, 18]


def test_a_slower_preset_names_a_slower_one_of_each_encoder():
    named = {
        (codec, preset): encoders.encoder_for(EncoderChoice(codec, preset=preset), "mp4", 2).options["preset"]
        for codec in get_args(encoders.VideoCodec)
        for preset in get_args(encoders.Preset)
    }
    assert [named["h264", preset] for preset in ("fast", "balanced", "slow")] == ["veryfast", "medium", "slow"]
    assert int(named["av1", "fast"]) > int(named["av1", "balanced"]) > int(named["av1", "slow"])
    assert len({named["hevc", preset] for preset in get_args(encoders.Preset)}) == 3


def test_quality_rises_along_the_whole_scale_and_stays_on_each_encoders_own():
    for name in ("libx264", "libx265", "libsvtav1", "h264_nvenc", "hevc_nvenc", "av1_nvenc"):
        numbers = [encoders.quality_of(name, crf) for crf in range(52)]
        assert numbers == sorted(numbers), name
        assert 0 <= numbers[0] <= 1
        assert numbers[-1] <= (63 if "av1" in name else 51)
    assert [encoders.quality_of("libx264", crf) for crf in (0, 18, 51)] == [0, 18, 51]


def test_the_words_of_a_job_are_the_words_of_the_encoders():
    for mine, theirs in (
        (encoders.VideoCodec, spec.VideoCodec),
        (encoders.Preset, spec.Preset),
    ):
        assert get_args(mine) == get_args(theirs)
    assert EncoderChoice() == EncoderChoice("h264", 18, "fast", device=False)


@pytest.mark.parametrize("wrong", [{"codec": "vp9"}, {"preset": "veryfast"}, {"crf": 52}])
def test_a_choice_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        EncoderChoice(**wrong)


def test_a_codec_that_the_container_cannot_hold_is_refused_and_leaves_nothing(tmp_path):
    shape = {"size": (64, 48), "time_base": Fraction(1, 25), "rate": Fraction(25)}
    with pytest.raises(MediaError) as caught:
        VideoWriter(tmp_path / "a.mov", **shape, container="mov", choice=EncoderChoice("av1"))
    assert caught.value.code == "encoder_unfit"
    assert not list(tmp_path.iterdir())


def test_an_encoder_that_this_build_lacks_is_refused(monkeypatch):
    monkeypatch.setitem(encoders._SOFTWARE, "hevc", "libnosuch")
    with pytest.raises(MediaError) as caught:
        encoders.encoder_for(EncoderChoice("hevc"), "mp4", 2)
    assert caught.value.code == "encoder_missing"


@needs_no_device
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_without_a_device_nothing_is_written_in_its_place(tmp_path, codec):
    choice = EncoderChoice(codec, device=True)
    assert encoders.header_of(encoders.encoder_for(choice, "mp4", 2), size=(320, 240), rate=Fraction(25)) is None
    with pytest.raises(MediaError) as caught:
        VideoWriter(tmp_path / "a.mp4", size=(320, 240), time_base=Fraction(1, 25), rate=Fraction(25), choice=choice)
    assert caught.value.code == "device_missing"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_parameter_sets_tell_what_can_be_joined_and_nothing_of_the_machine(codec):
    encoder = encoders.encoder_for(EncoderChoice(codec), "mp4", 2)
    first, again, other = (
        encoders.header_of(encoder, size=size, rate=Fraction(25)) for size in ((320, 240), (320, 240), (640, 480))
    )
    assert first
    assert first == again != other
    assert b"cpuid" not in first


def test_nvenc_gets_the_same_choice_in_its_own_words():
    found = encoders.encoder_for(EncoderChoice("hevc", 18, "slow", device=True), "mov", 2)
    assert (found.name, found.tag) == ("hevc_nvenc", "hvc1")
    assert found.options["preset"] == "p6"
    assert found.options["rc"] == "vbr"
    assert int(found.options["cq"]) == encoders.quality_of("hevc_nvenc", 18)


def test_no_thread_is_left_with_real_time_priority(clip, tmp_path):
    _write(clip, tmp_path / "out.mp4", EncoderChoice("av1"))
    with clip.open("rb") as file, VideoReader(file, "mov") as reader:
        shape = {"size": reader.size, "time_base": reader.time_base, "rate": reader.rate}
        writer = VideoWriter(tmp_path / "again.mp4", **shape, choice=EncoderChoice("av1"), threads=1)
        try:
            threads = [int(name) for name in os.listdir("/proc/self/task")]
            assert len(threads) > 3, "the encoder has threads"
            assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_OTHER}
        finally:
            writer.abort()


def test_a_media_child_is_refused_real_time_priority(tmp_path):
    reply = call("tests.worker.media.in_child:ask_for_priority", {}, limits=Limits(), timeout=60, reads=[TESTS])
    if not reply["filtered"]:
        pytest.skip("this kernel has no filter")
    assert reply["error"] == "PermissionError"
