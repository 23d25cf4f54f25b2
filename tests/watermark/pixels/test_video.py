"""The mark in video: in place, steady from frame to frame, and read back after encoding."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from watermark import image, pattern, video
from watermark.frames import FrameSequence
from watermark.mark_errors import MarkError

ID = b"video id"
SIZE = (960, 720)


@pytest.fixture(scope="module")
def embedder(key):
    return video.Embedder(ID, key, SIZE)


@pytest.fixture(scope="module")
def marked(clip, embedder):
    return [embedder.embed(frame) for frame in clip]


def planes(rgb):
    height, width = rgb.shape[:2]
    packed = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)
    quarter = height * width // 4
    chroma = packed.reshape(-1)[height * width :]
    shape = (height // 2, width // 2)
    return packed[:height].copy(), chroma[:quarter].reshape(shape).copy(), chroma[quarter:].reshape(shape).copy()


def picture(y, u, v):
    packed = np.concatenate([y.reshape(-1), u.reshape(-1), v.reshape(-1)]).reshape(-1, y.shape[1])
    return cv2.cvtColor(packed, cv2.COLOR_YUV2RGB_I420)


def timed(frames):
    return FrameSequence((i / 24, frame) for i, frame in enumerate(frames))


@pytest.mark.parametrize("crf", [18, 23, 28])
def test_the_mark_survives_h264(marked, key, h264, crf):
    reading = video.read(FrameSequence(h264(marked, crf)), [key])
    assert reading is not None
    assert reading.mark_id == ID
    assert reading.key == key.name
    assert reading.frames_used <= 4
    assert reading.geometry.whole
    assert reading.false_alarm_log10 < -9.5


def test_a_frame_from_the_middle_of_an_encoded_clip_is_enough(marked, key, h264):
    reading = video.read(FrameSequence(h264(marked, 23)[5:6]), [key])
    assert reading is not None
    assert reading.mark_id == ID


def test_every_frame_keeps_the_promised_fidelity(clip, marked, psnr):
    for before, after in zip(clip, marked, strict=True):
        assert psnr(before, after) >= 44.0


def test_the_change_of_a_still_scene_is_the_same_in_every_frame(clip, embedder):
    first, second = embedder.embed(clip[0]), embedder.embed(clip[0].copy())
    assert np.array_equal(first, second)
    # A slow pan under the mark moves the mask a little and the tile not at all.
    changes = [embedder.embed(frame).astype(np.float64) - frame for frame in clip[:3]]
    for change in changes[1:]:
        assert np.corrcoef(changes[0].ravel(), change.ravel())[0, 1] > 0.85


def test_planar_frames_are_marked_in_place_and_read_back(clip, key, embedder):
    y, u, v = planes(clip[0])
    before = (y.copy(), u.copy(), v.copy())
    assert embedder.embed_yuv420(y, u, v) is None
    assert not np.array_equal(y, before[0])
    assert not np.array_equal(u, before[1])
    assert np.array_equal(v, before[2])
    assert int(np.abs(y.astype(int) - before[0]).max()) <= 16
    assert image.read(picture(y, u, v), [key], "fast").mark_id == ID


def test_rows_with_padding_are_marked_and_the_padding_is_not(clip, embedder):
    y, u, v = planes(clip[0])
    wide, wide_u = np.zeros((SIZE[1], SIZE[0] + 64), np.uint8), np.zeros((SIZE[1] // 2, SIZE[0] // 2 + 32), np.uint8)
    wide[:, : SIZE[0]], wide_u[:, : SIZE[0] // 2] = y, u
    embedder.embed_yuv420(wide[:, : SIZE[0]], wide_u[:, : SIZE[0] // 2], v)
    embedder.embed_yuv420(y, u, v)
    assert np.array_equal(wide[:, : SIZE[0]], y)
    assert np.array_equal(wide_u[:, : SIZE[0] // 2], u)
    assert not wide[:, SIZE[0] :].any()
    assert not wide_u[:, SIZE[0] // 2 :].any()


def test_full_range_planes_take_a_slightly_stronger_change(clip, embedder):
    y, u, v = planes(clip[0])
    limited, full = y.copy(), y.copy()
    embedder.embed_yuv420(limited, u.copy(), v)
    embedder.embed_yuv420(full, u.copy(), v, full_range=True)
    powers = [float(((one.astype(float) - y) ** 2).mean()) for one in (limited, full)]
    assert powers[0] < powers[1] < 2 * powers[0]


def test_odd_sizes_are_marked(clip, key):
    frame = clip[0][:501, :645].copy()
    embedder = video.Embedder(ID, key, (645, 501))
    assert image.read(embedder.embed(frame), [key], "fast").mark_id == ID
    y = frame[..., 1].copy()
    u, v = np.full((251, 323), 128, np.uint8), np.full((251, 323), 128, np.uint8)
    embedder.embed_yuv420(y, u, v)
    assert not np.array_equal(y, frame[..., 1])


def test_an_embedder_made_from_pattern_bytes_marks_alike(clip, marked, key):
    made = pattern.MarkPattern.from_bytes(pattern.derive(ID, key).to_bytes())
    again = video.Embedder.from_pattern(made, SIZE).embed(clip[0])
    assert int(np.abs(again.astype(int) - marked[0]).max()) <= 1


def test_durable_marks_are_stronger(clip, key, psnr):
    durable = video.Embedder(ID, key, SIZE, "durable").embed(clip[0])
    assert 42.0 <= psnr(clip[0], durable) <= 44.0


def test_the_span_of_the_marked_part_is_told(clip, marked, key):
    mixed = [*clip[:3], *marked[3:8], *clip[8:]]
    reading = video.read(timed(mixed), [key])
    assert reading is not None
    assert reading.spans == ((3 / 24, 7 / 24),)
    assert (reading.frames_marked, reading.frames_read) == (5, 12)


def test_a_cropped_video_is_found_by_search(marked, key):
    reading = video.read(timed([frame[60:-60, 100:-40].copy() for frame in marked[:8]]), [key])
    assert reading is not None
    assert reading.mark_id == ID
    assert not reading.geometry.whole
    assert reading.frames_marked == 8


def test_a_mirrored_video_is_found_by_search(marked, key):
    reading = video.read(timed([np.ascontiguousarray(frame[:, ::-1]) for frame in marked[:2]]), [key])
    assert reading is not None
    assert reading.mark_id == ID
    assert reading.geometry.mirrored


def test_a_cropped_video_is_found_though_its_chroma_holds_nothing_but_noise(marked, key):
    generator = np.random.Generator(np.random.PCG64(3))
    frames = []
    for frame in marked[:2]:
        parts = cv2.cvtColor(frame[40:-80, 90:-30], cv2.COLOR_RGB2YCrCb)
        noise = cv2.GaussianBlur(generator.normal(0, 40, parts.shape[:2]).astype(np.float32), (0, 0), 2)
        parts[..., 2] = np.clip(128 + noise, 0, 255)
        frames.append(cv2.cvtColor(parts, cv2.COLOR_YCrCb2RGB))
    reading = video.read(timed(frames), [key])
    assert reading is not None
    assert reading.mark_id == ID


def test_different_scenes_too_faint_alone_are_read_together(large, key, recode):
    embedder = video.Embedder(ID, key, SIZE)
    frames = []
    for number in range(8):
        top, left = 80 * number, 30 * number
        scene = np.ascontiguousarray(np.roll(large[top : top + 720, left : left + 960], 97 * number, axis=1))
        small = cv2.resize(embedder.embed(scene), (480, 360), interpolation=cv2.INTER_AREA)
        frames.append(recode(small, ".jpg", 12))
    reading = video.read(timed(frames), [key])
    assert reading is not None
    assert reading.mark_id == ID
    assert reading.frames_used > 1
    assert reading.geometry.whole
    assert reading.spans


def test_plain_video_and_the_wrong_key_read_as_nothing(clip, marked, key, other_key):
    assert video.read(timed(clip), [key]) is None
    assert video.read(timed(marked[:4]), [other_key]) is None
    assert video.read(FrameSequence(()), [key]) is None


def test_frames_of_another_size_are_read_on_their_own(clip, marked, key):
    small = [cv2.resize(frame, (480, 360), interpolation=cv2.INTER_AREA) for frame in clip[:2]]
    reading = video.read(timed([*small, *marked[:2]]), [key])
    assert reading is not None
    assert reading.spans == ((2 / 24, 3 / 24),)


@pytest.mark.parametrize("size", [(90, 400), (400, 90)])
def test_video_too_small_to_mark_is_refused(key, size):
    with pytest.raises(MarkError) as caught:
        video.Embedder(ID, key, size)
    assert caught.value.code == "too_small"


def test_planes_of_another_form_are_refused_and_left_alone(clip, embedder):
    y, u, v = planes(clip[0])
    before = y.copy()
    frozen = y.copy()
    frozen.setflags(write=False)
    for bad in ((y[:-2], u, v), (y, u[:-1], v), (y.astype(np.uint16), u, v), (frozen, u, v), (y[:, ::-1], u, v)):
        with pytest.raises(MarkError) as caught:
            embedder.embed_yuv420(*bad)
        assert caught.value.code == "plane_format"
    assert np.array_equal(y, before)
    with pytest.raises(MarkError):
        embedder.embed(clip[0][:-2])
