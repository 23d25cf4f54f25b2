"""Videos out: times, tags and sound as they came, the index in front, nothing half-written."""

from __future__ import annotations

import resource
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pytest

from watermark.iptc import write_iptc
from worker.media import client
from worker.media.encode import EncoderChoice, VideoWriter
from worker.media.errors import MediaError
from worker.media.planes import Planes
from worker.media.timing import Timeline
from worker.media.tracks import Kept
from worker.media.video import VideoReader


@pytest.fixture
def transcode(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that reads a video and writes it again, without touching a pixel."""

    def run(source: Path, container: str = "mov", into: Literal["mp4", "mov"] = "mp4") -> Path:
        out = tmp_path / f"out.{into}"
        with source.open("rb") as file, VideoReader(file, container) as reader:
            planes = Planes(reader.size)
            writer = VideoWriter(
                out,
                size=reader.size,
                time_base=reader.time_base,
                rate=reader.rate,
                container=into,
                kept=Kept.of(reader, Timeline.of(reader)),
                choice=EncoderChoice(crf=12),
            )
            try:
                for kind, item in reader.items():
                    if kind != "picture":
                        writer.write_track(item)
                    else:
                        reader.fill(item[1], planes)
                        writer.write(planes, item[0].pts)
                writer.finish()
            finally:
                writer.abort()
        return out

    return run


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_metadata_of_our_own_is_kept_under_its_name_also_beside_xmp(tmp_path, container):
    out = tmp_path / f"a.{container}"
    said = {"AIGC": '{"Label":"1","ContentProducer":"人工智能"}'}
    shape = {"size": (64, 48), "time_base": Fraction(1, 25), "rate": Fraction(25)}
    writer = VideoWriter(out, **shape, container=container, metadata=said)
    writer.write(Planes((64, 48)), 0)
    writer.finish()
    write_iptc(out, "video/quicktime" if container == "mov" else "video/mp4")
    with av.open(str(out)) as result:
        assert result.metadata["AIGC"] == said["AIGC"]
    data = out.read_bytes()
    assert data.index(b"moov") < data.index(b"AIGC") < data.index(b"mdat")  # found without reading the pictures


def _packets(path: Path, kind: str) -> list[tuple[bytes, float]]:
    with av.open(str(path)) as source:
        stream = next(stream for stream in source.streams if stream.type == kind)
        return [(bytes(packet), float(packet.pts * packet.time_base)) for packet in source.demux(stream) if packet.size]


def test_a_film_is_written_as_quicktime_as_well(make_video, transcode):
    source = make_video(seconds=1)
    out = transcode(source, into="mov")
    info = client.probe(out)
    assert (info.mime, info.codec, info.has_audio) == ("video/quicktime", "h264", client.probe(source).has_audio)
    assert out.read_bytes()[4:12] == b"ftypqt  "
    assert [at for _, at in _packets(out, "video")] == [at for _, at in _packets(transcode(source), "video")]


def test_the_pictures_survive_and_the_tags_are_bt709(make_video, transcode):
    source = make_video(seconds=1)
    out = transcode(source)
    with av.open(str(out)) as result:
        codec = result.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
        assert (codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range) == (1, 1, 1, 1)
    data = out.read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")
    pairs = list(zip(client.sample_frames(source, every=0.001), client.sample_frames(out, every=0.001), strict=True))
    assert len(pairs) == 25
    for (before_at, before), (after_at, after) in pairs:
        assert after_at == pytest.approx(before_at, abs=1e-4)
        assert np.abs(before.astype(int) - after).mean() < 3


def test_a_variable_frame_rate_comes_out_as_it_went_in(make_video, transcode):
    pts = [0, 40, 80, 200, 210, 500, 1000]
    out = transcode(make_video(pts=pts, time_base=Fraction(1, 1000)))
    assert [round(at * 1000) for at, _ in client.sample_frames(out, every=0.001)] == pts


def test_aac_is_copied_bit_for_bit_and_keeps_its_place(make_video, transcode):
    source = make_video(seconds=2, sound="aac")
    before, after = _packets(source, "audio"), _packets(transcode(source), "audio")
    assert [data for data, _ in before] == [data for data, _ in after]
    assert np.allclose([at for _, at in before], [at for _, at in after], atol=1e-3)


def test_other_sound_becomes_aac_of_the_same_length_and_pitch(make_video, transcode):
    source = make_video("a.mkv", seconds=2, sound="flac")
    out = transcode(source, "matroska")
    with av.open(str(out)) as result:
        assert result.streams.audio[0].codec_context.name == "aac"
        rate = result.streams.audio[0].codec_context.sample_rate
        wave = np.concatenate([frame.to_ndarray()[0] for frame in result.decode(audio=0)])
    assert len(wave) / rate == pytest.approx(2, abs=0.1)
    pitch = np.abs(np.fft.rfft(wave[rate // 2 : rate // 2 + rate])).argmax()
    assert pitch == pytest.approx(440, abs=2)
    assert np.abs(wave).max() == pytest.approx(0.3, abs=0.08)


def test_an_aborted_writer_leaves_nothing(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    writer = VideoWriter(folder / "a.mp4", size=(64, 48), time_base=Fraction(1, 25), rate=Fraction(25))
    planes = Planes((64, 48))
    planes.buffer[:] = 100
    writer.write(planes, 0)
    writer.abort()
    writer.abort()
    assert not list(folder.iterdir())


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    noise = np.random.default_rng(2)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, old[1]))  # fails a write as a full disk does, with EFBIG
    try:
        shape = {"size": (640, 480), "time_base": Fraction(1, 25), "rate": Fraction(25)}
        writer = VideoWriter(folder / "a.mp4", **shape, choice=EncoderChoice(crf=5))
        planes = Planes((640, 480))
        with pytest.raises(OSError, match=r"(?i)large"):  # noqa: PT012
            for index in range(60):
                planes.buffer[:] = noise.integers(0, 256, planes.buffer.shape, dtype=np.uint8)
                writer.write(planes, index)
            writer.finish()
        writer.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert not list(folder.iterdir())


def test_sound_that_breaks_while_it_is_re_encoded_is_refused(make_video, transcode):
    path = make_video("a.mkv", seconds=1, sound="flac")
    with av.open(str(path)) as source:
        packets = [bytes(packet) for packet in source.demux(audio=0) if packet.size]
    data = path.read_bytes()
    for packet in packets[3:8]:
        data = data.replace(packet, bytes([0xFF]) * len(packet), 1)
    path.write_bytes(data)
    with pytest.raises(MediaError) as caught:
        transcode(path, "matroska")
    assert caught.value.code == "audio_unreadable"
