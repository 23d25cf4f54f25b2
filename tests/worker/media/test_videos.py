"""Videos in: codecs, containers, times, turning, dynamic range; and every way a video can be bad."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from worker.media import client
from worker.media.errors import MediaError
from worker.media.planes import Planes, PlanesPool
from worker.media.video import VideoReader

CORNERS = ((30, 30, 30), (210, 70, 30), (30, 90, 210), (210, 130, 210))


def _frames(path: Path) -> list[tuple[float, np.ndarray]]:
    return list(client.sample_frames(path, every=0.001))


def _corners(rgb: np.ndarray) -> list[np.ndarray]:
    return [rgb[y : y + 6, x : x + 6].mean((0, 1)) for y in (2, -8) for x in (2, -8)]


@pytest.mark.parametrize(
    ("codec", "name", "mime", "known"),
    [
        ("libx264", "a.mp4", "video/mp4", "h264"),
        ("libx264", "a.mov", "video/quicktime", "h264"),
        ("libx265", "a.mkv", "video/x-matroska", "hevc"),
        ("libvpx-vp9", "a.webm", "video/webm", "vp9"),
        ("libsvtav1", "a.mp4", "video/mp4", "av1"),
        ("mpeg4", "a.mp4", "video/mp4", "mpeg4"),
    ],
)
def test_each_supported_codec_and_container_is_read(make_video, codec, name, mime, known):
    path = make_video(name, codec=codec, seconds=0.4, options={"x265-params": "log-level=none"})
    info = client.probe(path)
    assert (info.kind, info.mime, info.width, info.height, info.rotation) == ("video", mime, 320, 240, 0)
    assert known in info.codec.replace("dav1d", "av1")
    assert info.fps == pytest.approx(25, abs=0.1)
    frames = _frames(path)
    assert len(frames) == 10
    assert np.allclose([seconds for seconds, _ in frames], np.arange(10) / 25, atol=0.002)
    for seen, expected in zip(_corners(frames[0][1]), CORNERS, strict=True):
        assert np.abs(seen - expected).max() < 14


def test_unmarked_small_video_is_taken_for_bt601_and_converted(make_video):
    def red(_: int) -> np.ndarray:
        return np.full((240, 320, 3), (200, 40, 60), np.uint8)

    path = make_video(picture=red, seconds=0.2, colour=None)
    assert np.abs(_frames(path)[0][1].mean((0, 1)) - (200, 40, 60)).max() > 3  # made with the BT.709 matrix
    path = make_video(picture=red, seconds=0.2, colour=(1, 1, 1))
    assert np.abs(_frames(path)[0][1].mean((0, 1)) - (200, 40, 60)).max() < 3


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_the_display_matrix_turns_the_frames(make_video, rotation):
    path = make_video(rotation=rotation, seconds=0.2)
    info = client.probe(path)
    assert info.rotation == rotation
    assert (info.width, info.height) == ((320, 240) if rotation == 180 else (240, 320))
    rgb = _frames(path)[0][1]
    assert rgb.shape[:2] == (info.height, info.width)
    upright = np.rot90(rgb, rotation // 90)  # turning it back against the clock gives what was encoded
    for seen, expected in zip(_corners(upright), CORNERS, strict=True):
        assert np.abs(seen - expected).max() < 14


@pytest.mark.parametrize(
    ("options", "lent"),
    [
        ({}, True),
        ({"size": (322, 242)}, True),
        ({"size": (321, 241), "pix_fmt": "yuv444p"}, False),
        ({"rotation": 180}, False),
        ({"colour": (5, 5, 5)}, False),
    ],
)
def test_a_frame_to_be_read_is_the_decoders_own_where_nothing_has_to_be_converted(make_video, options, lent):
    path = make_video(seconds=0.2, **options)
    with path.open("rb") as file, VideoReader(file, "mov") as reader:
        pool = PlanesPool(reader.size, 1)
        for _, frame in reader.pictures():
            wanted = Planes(reader.size)
            reader.fill(frame, wanted)
            seen = reader.to_read(frame, pool, lambda: None)
            assert (seen.lent, seen.size) == (lent, wanted.size)
            for plane, other in ((seen.y, wanted.y), (seen.u, wanted.u), (seen.v, wanted.v)):
                np.testing.assert_array_equal(plane, other)
                assert plane.flags.writeable != lent
            del frame
            pool.give(seen)
        assert pool.take(lambda: pytest.fail("the pool's own were given back")).lent is False


def test_a_variable_frame_rate_keeps_its_times(make_video):
    pts = [0, 40, 80, 200, 210, 500, 1000]
    path = make_video(pts=pts, time_base=Fraction(1, 1000), rate=25)
    assert [round(seconds * 1000) for seconds, _ in _frames(path)] == pts


def test_samples_are_taken_at_the_times_asked_for(make_video):
    path = make_video(seconds=4)

    def taken(**choice: object) -> list[float]:
        return [round(at, 2) for at, _ in client.sample_frames(path, **choice)]

    assert taken(times=[0, 1.0, 99]) == [0.0, 1.0, 3.96]
    assert taken(times=[1.0, 0.99, 1.01, 50, 60]) == [1.0, 1.0, 1.04, 3.96, 3.96], "one answer per time"
    assert taken(times=[1 / 3]) == [0.36], "the first frame at or after the time"
    assert taken(count=4) == [0.52, 1.52, 2.52, 3.52]
    assert taken(every=2, consecutive=2) == [0.0, 0.04, 2.0, 2.04]
    assert taken(times=[0.5, 0.52], consecutive=2) == [0.52, 0.56]
    with pytest.raises(ValueError, match="one of"):
        next(client.sample_frames(path, every=1, count=2))


def test_a_reader_who_stops_early_leaves_no_child(make_video):
    frames = client.sample_frames(make_video(seconds=4), every=0.001)
    next(frames)
    frames.close()  # `no_children_left` looks after every test


def test_odd_sizes_and_oblong_pixels_become_even_and_square(make_video, tmp_path):
    path = make_video("odd.webm", codec="libvpx-vp9", size=(161, 121), seconds=0.2)
    assert (client.probe(path).width, client.probe(path).height) == (160, 120)
    assert _frames(path)[0][1].shape == (120, 160, 3)
    oblong = tmp_path / "oblong.mp4"
    with av.open(str(oblong), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 240, 240, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((240, 240, 3), 90, np.uint8), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert (client.probe(oblong).width, client.probe(oblong).height) == (320, 240)


# -- high dynamic range --------------------------------------------------------------------------------------------


def _pq(nits: np.ndarray) -> np.ndarray:
    y = (np.asarray(nits, float) / 10000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)


@pytest.mark.parametrize(("curve", "name"), [(16, "pq"), (18, "hlg")])
def test_high_dynamic_range_is_mapped_to_bt709_without_loss_of_order(make_video, curve, name):
    nits = np.array([0.0, 1, 5, 20, 50, 100, 203, 400, 700, 1000])
    if name == "pq":
        signal = _pq(nits)
    else:
        scene = (nits / 1000) ** (1 / 1.2)  # BT.2100 table 5, grey: the OOTF undone, then the OETF
        signal = np.where(
            scene <= 1 / 12,
            np.sqrt(3 * scene),
            0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073,
        )
    ramp = np.repeat(np.round(signal * 65535), 32)[None, :, None].repeat(64, 0).repeat(3, 2).astype(np.uint16)
    path = make_video(
        "hdr.mp4", codec="libx265", pix_fmt="yuv420p10le", colour=(9, curve, 9), seconds=0.2, size=(320, 64),
        picture=lambda _: ramp, options={"crf": "4", "x265-params": "log-level=none"},
    )  # fmt: skip
    info = client.probe(path)
    assert info.hdr == name
    assert "tone_mapped" in info.warnings
    steps = _frames(path)[0][1][32, 16::32].astype(int)
    assert (np.ptp(steps, axis=1) <= 4).all(), "grey stays grey"
    grey = steps.mean(1)
    assert (np.diff(grey) > 0).all(), "brighter stays brighter"
    assert grey[0] <= 2
    assert grey[-1] >= 250, "the peak reaches white"
    # Below half of reference white the toe is linear: BT.709 OETF of nits / 203.
    for level, value in zip(nits[2:6], grey[2:6], strict=True):
        light = level / 203
        signal_709 = 4.5 * light if light < 0.018 else 1.099 * light**0.45 - 0.099
        assert abs(value - 255 * signal_709) < 5


def test_wide_gamut_colours_are_brought_into_bt709(make_video):
    # A BT.709 red expressed in BT.2020 primaries at 100 cd/m2 must come out as a pure red again.
    light = np.array([0.6274, 0.0691, 0.0164]) * 100
    patch = np.broadcast_to(np.round(_pq(light) * 65535), (64, 64, 3)).astype(np.uint16)
    path = make_video(
        "red.mp4", codec="libx265", pix_fmt="yuv420p10le", colour=(9, 16, 9), seconds=0.2, size=(64, 64),
        picture=lambda _: patch, options={"crf": "4", "x265-params": "log-level=none"},
    )  # fmt: skip
    red, green, blue = _frames(path)[0][1].mean((0, 1))
    assert red > 170
    assert max(green, blue) < 12


# -- planes --------------------------------------------------------------------------------------------------------


def test_a_paste_touches_only_the_pixels_that_changed(make_video):
    with make_video(size=(320, 240), seconds=0.2).open("rb") as file, VideoReader(file, "mov") as reader:
        planes = Planes(reader.size)
        _, frame = next(iter(reader.pictures()))
        reader.fill(frame, planes)
    before = planes.buffer.copy()
    from worker.media.planes import Box

    box = Box(40, 60, 200, 180)
    old = planes.to_rgb(box)
    planes.paste(box, old.copy(), old)
    assert np.array_equal(planes.buffer, before), "no change in, no change out"
    new = old.copy()
    new[20:40, 20:40] = (250, 10, 10)
    planes.paste(box, new, old)
    touched = np.argwhere(planes.y != before[:240])
    assert touched.min(0).tolist() >= [80, 60]
    assert touched.max(0).tolist() <= [99, 79]
    assert np.abs(planes.to_rgb(box)[24:36, 24:36].astype(int) - (250, 10, 10)).max() <= 3


# -- bad videos ----------------------------------------------------------------------------------------------------


def _refusal(path: Path) -> str:
    with pytest.raises(MediaError) as caught:
        client.probe(path)
    return caught.value.code


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
def test_a_truncated_video_is_refused(make_video, tmp_path, keep):
    for options in ({}, {"movflags": "+faststart"}):
        path = make_video(f"{len(options)}.mp4", seconds=2)
        if options:
            with av.open(str(path)) as source, av.open(str(tmp_path / "f.mp4"), "w", options=options) as out:
                stream = out.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.dts is not None:
                        packet.stream = stream
                        out.mux(packet)
            path = tmp_path / "f.mp4"
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
        assert _refusal(path) == "truncated"


def test_a_truncated_matroska_is_refused_when_read_through(make_video):
    path = make_video("a.mkv", seconds=12, size=(64, 48))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    with pytest.raises(MediaError) as caught:
        _frames(path)
    assert caught.value.code == "truncated"


def test_a_video_of_noise_behind_a_good_signature_is_refused(tmp_path):
    path = tmp_path / "noise.mp4"
    noise = np.random.default_rng(3).integers(0, 256, 20_000, dtype=np.uint8).tobytes()
    path.write_bytes(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + noise)
    assert _refusal(path) == "truncated"


def test_a_damaged_middle_is_refused_when_read_through(make_video):
    path = make_video(seconds=2, options={"crf": "10"})
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") + 4
    middle = start + (len(data) - start) // 3
    data[middle : middle + 4000] = b"\xff" * 4000
    path.write_bytes(bytes(data))
    with pytest.raises(MediaError) as caught:
        _frames(path)
    assert caught.value.code == "truncated"


def test_a_video_without_pictures_is_refused(make_video, tmp_path):
    path = tmp_path / "none.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        out.start_encoding()
    assert _refusal(path) in ("no_frames", "zero_length", "no_video_stream")
    with av.open(str(tmp_path / "none.mkv"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        out.start_encoding()
    assert _refusal(tmp_path / "none.mkv") in ("no_frames", "zero_length", "truncated")


def test_sound_alone_is_refused(tmp_path, make_video):
    both, path = make_video(sound="aac"), tmp_path / "sound.mp4"
    with av.open(str(both)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    assert _refusal(path) == "no_video_stream"


def test_ten_tracks_and_two_pictures_are_refused(make_video):
    assert _refusal(make_video("two.mp4", videos=2, seconds=0.2)) == "too_many_streams"
    assert _refusal(make_video("ten.mkv", sound="aac", sounds=9, seconds=0.2)) == "too_many_streams"
    assert client.probe(make_video("nine.mp4", sound="aac", sounds=8, seconds=0.2)).warnings == ()


def test_absurd_frame_rates_are_refused(make_video):
    assert _refusal(make_video(rate=1000, seconds=0.1)) == "frame_rate_absurd"
    assert client.probe(make_video("fast.mp4", rate=120, seconds=0.1)).fps == pytest.approx(120)


def test_a_video_of_no_duration_is_refused(make_video):
    path = make_video(seconds=0.4)
    data = bytearray(path.read_bytes())
    for box, skip in ((b"mdhd", 16), (b"tkhd", 20), (b"mvhd", 16)):
        at = data.find(box) + 4 + skip
        data[at : at + 4] = bytes(4)
    table = data.find(b"stts")
    entries = struct.unpack(">I", data[table + 8 : table + 12])[0]
    for entry in range(entries):
        data[table + 12 + entry * 8 + 4 : table + 20 + entry * 8] = bytes(4)
    path.write_bytes(bytes(data))
    assert _refusal(path) == "zero_length"


def test_a_video_that_claims_hours_is_refused(make_video):
    assert _refusal(make_video(pts=[0, 1, 700], time_base=Fraction(1, 1), rate=1)) == "too_long"


def test_a_picture_beyond_the_largest_side_is_refused(make_video):
    assert _refusal(make_video(size=(4098, 64), seconds=0.08)) == "too_many_pixels"


def test_an_unsupported_codec_is_refused(make_video):
    assert _refusal(make_video("old.mov", codec="mjpeg", pix_fmt="yuvj420p", seconds=0.2)) == "format_unsupported"


def test_sound_that_cannot_be_decoded_is_refused_with_a_way_out(make_video):
    path = make_video(sound="aac", seconds=1)
    with av.open(str(path)) as source:
        packets = [(packet.pos, packet.size) for packet in source.demux(audio=0) if packet.size]
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(5)
    for position, size in packets:
        data[position : position + size] = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
    path.write_bytes(bytes(data))
    with pytest.raises(MediaError) as caught:
        client.probe(path)
    assert caught.value.code == "audio_unreadable"
    assert "Remove the sound track" in caught.value.hint
