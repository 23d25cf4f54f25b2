"""Frames at places that are chosen while the video is read."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from worker.media import client
from worker.media.errors import MediaError
from worker.media.seeking import Seeker
from worker.media.video import VideoReader
from worker.pipeline.video_analysis import container_of

FEW_KEYS = {"g": "25", "sc_threshold": "0"}


def _times(answer):
    return [round(seconds, 2) for seconds, _ in answer]


def test_keyframes_come_alone_and_at_least_so_far_apart(make_video):
    with client.open_frames(make_video(seconds=6, options=FEW_KEYS)) as frames:
        assert frames.duration == pytest.approx(6, abs=0.1)
        assert _times(frames.keyframes(0.0)) == [0, 1, 2, 3, 4, 5]
        assert _times(frames.keyframes(1.5)) == [0, 2, 4]
        assert _times(frames.keyframes(1.5)) == [0, 2, 4], "as often as asked"


def test_frames_come_from_any_place_in_any_order(make_video):
    path = make_video(seconds=4, options=FEW_KEYS)
    whole = dict(client.sample_frames(path, every=0.001))
    with client.open_frames(path) as frames:
        assert _times(frames.frames(2.5, 3)) == [2.52, 2.56, 2.6]
        assert _times(frames.frames(2.62, 2)) == [2.64, 2.68], "going on"
        spread = _times(frames.frames(0.0, 3, 1.5))
        assert spread[0] == 0
        assert all(1.5 <= second - first < 1.7 for first, second in pairwise(spread))
        assert _times(frames.frames(3.9, 10)) == [3.92, 3.96], "as many as there are"
        assert _times(frames.frames(99, 1)) == []
        for seconds, frame in [*frames.frames(1.3, 2), *frames.keyframes(1.0)]:
            assert np.array_equal(frame, whole[seconds])


@pytest.mark.parametrize("name", ["indexed.mp4", "cues.mkv"])
def test_a_place_far_ahead_is_sought_and_not_decoded_up_to(make_video, name):
    path = make_video(name, seconds=12, options=FEW_KEYS)
    with path.open("rb") as file, VideoReader(file, container_of(path)) as reader:
        seeker, decoded = Seeker(reader, 720), []
        pictures = reader.pictures

        def counted():
            for picture in pictures():
                decoded.append(picture)
                yield picture

        reader.pictures = counted
        for place in (1.2, 5.2, 10.2):
            answer = seeker.answer({"start": place, "count": 2, "step": 0.0})
            assert _times(answer) == [round(place, 2), round(place + 0.04, 2)]
    assert len(decoded) < 3 * 3 * 25  # of 300


def test_times_count_from_the_first_frame_even_of_a_video_that_starts_late(make_video):
    path = make_video("late.mkv", pts=[500 + 40 * i for i in range(50)], time_base=Fraction(1, 1000), options=FEW_KEYS)
    with client.open_frames(path) as frames:
        assert _times(frames.keyframes(0.0)) == [0, 1]
        assert _times(frames.frames(1.0, 2)) == [1, 1.04]


def test_a_new_question_ends_the_answer_to_the_one_before(make_video):
    with client.open_frames(make_video(seconds=4, options=FEW_KEYS)) as frames:
        first = frames.frames(0.0, 1000)
        assert round(next(first)[0], 2) == 0
        for place in (3.0, 1.0, 2.0):
            answer = frames.frames(place, 50)
            assert round(next(answer)[0], 2) == place
        assert list(first) == []
        assert _times(frames.keyframes(2.0)) == [0, 2]


@pytest.mark.parametrize("codec", ["libx265", "libvpx-vp9", "libsvtav1", "mpeg4"])
def test_every_codec_can_be_asked(make_video, codec):
    name = "a.webm" if codec == "libvpx-vp9" else "a.mp4"
    path = make_video(name, codec=codec, seconds=2, options={"g": "10", "x265-params": "log-level=none:keyint=10"})
    with client.open_frames(path) as frames:
        keys = _times(frames.keyframes(0.0))
        assert keys[0] == 0
        assert len(keys) >= 2
        assert _times(frames.frames(1.0, 2)) == [1, 1.04]
        assert _times(frames.keyframes(0.0)) == keys


def test_large_frames_come_smaller_and_it_is_said_by_how_much(make_video):
    path = make_video(size=(640, 360), seconds=0.4)
    with client.open_frames(path, short_side=180) as frames:
        assert frames.shrink == 0.5
        _, small = next(frames.keyframes(0.0))
    _, large = next(client.sample_frames(path, times=[0]))
    assert small.shape == (180, 320, 3)
    assert np.abs(small.mean((0, 1)) - large.mean((0, 1))).max() < 8
    with client.open_frames(path) as frames:
        assert frames.shrink == 1.0
        assert next(frames.keyframes(0.0))[1].shape == (360, 640, 3)


def test_a_photo_and_a_damaged_video_are_refused(make_video, tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(MediaError) as caught, client.open_frames(photo):
        pass
    assert caught.value.code == "format_unsupported"
    path = make_video(seconds=2, options={"crf": "10"})
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") + 4
    middle = start + (len(data) - start) // 3
    data[middle : middle + 4000] = b"\xff" * 4000
    path.write_bytes(bytes(data))
    with client.open_frames(path) as frames, pytest.raises(MediaError) as caught:
        list(frames.frames(0.0, 1000))
    assert caught.value.code == "truncated"
