"""Several questions about one file, in one child; and what becomes of the others when the child dies of one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from worker.media import client
from worker.media.errors import ChildError, MediaError


def pid(file: client.Examination) -> int:
    assert file._child is not None
    return file._child.pid


def test_one_child_answers_all_questions_about_a_photo(samples: Path) -> None:
    path = samples / "astronaut.jpg"
    with client.examine(path) as file:
        assert (file.kind.kind, file.kind.mime) == ("photo", "image/jpeg")
        assert file.credentials("")["state"] == "none"
        first = pid(file)
        assert np.array_equal(file.picture(), client.decode_image(path))
        assert file.claim_of(b"no manifest store") == ""
        assert (file.probe()["width"], file.probe()["height"]) == (512, 512)
        assert pid(file) == first
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_a_refusal_is_no_death(samples: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes((samples / "astronaut.jpg").read_bytes()[:5000])
    with client.examine(path) as file:
        assert file.credentials("")["state"] == "none"
        first = pid(file)
        with pytest.raises(MediaError) as caught:
            file.picture()
        assert caught.value.code == "truncated"
        assert file.credentials("")["state"] == "none"
        assert pid(file) == first


def test_a_child_that_died_over_one_question_is_replaced_for_the_next(samples: Path) -> None:
    with client.examine(samples / "astronaut.jpg") as file:
        file.credentials("")
        first = pid(file)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(MediaError) as caught:
            file.credentials("")
        assert caught.value.code == "child_died"
        assert file.picture().shape == (512, 512, 3)
        assert pid(file) != first


def test_a_film_is_asked_for_frames_and_may_be_asked_something_else_meanwhile(make_video) -> None:
    path = make_video(seconds=1)
    with client.examine(path) as file:
        assert file.credentials("")["state"] == "none"
        first = pid(file)
        frames = file.frames()
        assert file._film is not None
        assert file._film.pid == first
        assert frames.duration == pytest.approx(1.0, abs=0.1)
        assert next(frames.keyframes(0.1))[0] == 0.0
        assert file.credentials("")["state"] == "none"
        assert [round(at, 2) for at, _ in frames.frames(0.0, 2)] == [0.0, 0.04]


def test_a_film_whose_frames_cannot_be_had_says_so_and_keeps_nobody_waiting(make_video, tmp_path: Path) -> None:
    data = make_video(seconds=1).read_bytes()
    path = tmp_path / "no-index.mp4"
    path.write_bytes(data[: data.index(b"moov") - 4].ljust(2000, b"\0"))
    with client.examine(path) as file:
        assert file.credentials("")["state"] == "none"
        with pytest.raises(MediaError) as caught:
            file.frames()
        assert caught.value.code not in ("child_died", "child_timeout")
        assert file.credentials("")["state"] == "none"


def test_a_question_in_the_middle_of_a_film_that_is_refused_ends_the_answer(make_video) -> None:
    with client.examine(make_video(seconds=1)) as file:
        frames = file.frames()
        assert file._film is not None
        file._film.order({"number": 1, "start": "no number", "count": 1, "step": 0.0})
        with pytest.raises((ChildError, MediaError)):
            list(frames._messages)


def test_what_is_no_media_is_refused_before_any_child_starts(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(b"Dear Sir or Madam,")
    with pytest.raises(MediaError) as caught, client.examine(path):
        pass
    assert caught.value.code == "not_media"
