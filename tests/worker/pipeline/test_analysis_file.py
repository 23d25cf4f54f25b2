"""The stored analysis: exact enough, read in constant memory, refused when it is not whole."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from worker.pipeline.analysed import AnalysedFrame, AnalysisError, AnalysisSummary, Form, FrameFace, Track
from worker.pipeline.analysis import Analysis, AnalysisWriter


def _frames(count: int) -> list[AnalysedFrame]:
    rng = np.random.default_rng(7)
    frames = []
    for index in range(count):
        faces = tuple(
            FrameFace(
                track,
                0.9,
                rng.uniform(0, 4096, 4).astype(np.float32),
                (rng.uniform(-100, 1000, (478, 3)) + track * 500).astype(np.float32),
            )
            for track in range(index % 3)
        )
        frames.append(AnalysedFrame(index, index / 25, faces))
    return frames


TRACK = Track(0, 0.0, 2.0, 50, 12, 0.48, (1.0, 2.0, 100.0, 120.0), 120.0, -3.5, tuple(np.linspace(-1, 1, 128)))
SUMMARY = AnalysisSummary("video", "builtin", 640, 480, 100, 4.0, (TRACK,), (1.5,), ("tone_mapped",))


def _store(path: Path, frames: list[AnalysedFrame]) -> Path:
    writer = AnalysisWriter(path)
    for frame in frames:
        writer.add(frame)
    writer.finish(SUMMARY)
    return path


def test_what_was_written_is_read_back(tmp_path):
    frames = _frames(100)
    analysis = Analysis.load(_store(tmp_path / "a", frames))
    assert analysis.info == SUMMARY
    assert analysis.tracks == (TRACK,)
    seen = list(analysis.frames())
    assert [(frame.index, frame.seconds, len(frame.faces)) for frame in seen] == [
        (frame.index, frame.seconds, len(frame.faces)) for frame in frames
    ]
    for old, new in zip(frames, seen, strict=True):
        for before, after in zip(old.faces, new.faces, strict=True):
            assert before.track == after.track
            assert np.array_equal(before.box, after.box)
            assert np.abs(before.landmarks - after.landmarks).max() < 0.01
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_copy_reads_the_same(tmp_path):
    first = Analysis.load(_store(tmp_path / "a", _frames(40)))
    first.save(tmp_path / "b")
    second = Analysis.load(tmp_path / "b")
    assert second.info == first.info
    for one, two in zip(first.frames(), second.frames(), strict=True):
        for before, after in zip(one.faces, two.faces, strict=True):
            assert np.allclose(before.landmarks, after.landmarks, atol=0.01)


def test_what_a_page_is_shown_holds_no_descriptor(tmp_path):
    shown = Analysis.load(_store(tmp_path / "a", _frames(3))).summary()
    assert "descriptor" not in str(shown)
    assert shown["tracks"][0]["box"] == (1.0, 2.0, 100.0, 120.0)
    assert AnalysisSummary.from_dict(shown).tracks[0].descriptor is None


def test_a_writer_that_gives_up_leaves_nothing(tmp_path):
    writer = AnalysisWriter(tmp_path / "a")
    writer.add(_frames(2)[1])
    writer.abort()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text", "hollow"])
def test_a_damaged_analysis_is_refused(tmp_path, damage):
    path = _store(tmp_path / "a", _frames(100))
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[-60] ^= 1
    elif damage == "hollow":
        data[40:200] = bytes(160)
    path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "text": b"{}" * 100}.get(damage, bytes(data)))
    with pytest.raises(AnalysisError) as caught:
        list(Analysis.load(path).frames())
    assert caught.value.code == "analysis_invalid"


def test_a_summary_of_wrong_types_is_refused():
    good = SUMMARY.to_dict()
    track = good["tracks"][0]
    for wrong in (
        {**good, "frames": "many"},
        {**good, "tracks": [{**track, "box": [1, 2, 3]}]},
        {**good, "tracks": [{**track, "yaw": "<script>"}]},
        {**good, "tracks": [{**track, "descriptor": [0.5]}]},
        {**good, "tracks": ["x"]},
    ):
        with pytest.raises(AnalysisError):
            AnalysisSummary.from_dict(wrong)


def _old_file(path: Path, frames: list[AnalysedFrame]) -> None:
    """Write the first version of the format, which had no form, byte by byte."""
    records = []
    for frame in frames:
        record = struct.pack("<IdH", frame.index, frame.seconds, len(frame.faces))
        for face in frame.faces:
            low = face.landmarks.min(0)
            step = (face.landmarks.max(0) - low) / 65535
            record += struct.pack("<if4f3f3f", face.track, face.score, *face.box, *low, *step)
            record += np.rint((face.landmarks - low) / step).astype("<u2").tobytes()
        records.append(record)
    packed = zlib.compress(b"".join(records))
    raw = SUMMARY.to_dict()
    del raw["form"]
    text = json.dumps(raw).encode()
    body = b"IMPANL01" + struct.pack("<I", len(packed)) + packed + struct.pack("<I", 0)
    path.write_bytes(body + text + struct.pack("<QI8s", len(body), zlib.crc32(text), b"IMPANL01"))


def test_a_file_of_the_first_version_is_still_read(tmp_path):
    frames = _frames(20)
    _old_file(tmp_path / "old", frames)
    analysis = Analysis.load(tmp_path / "old")
    assert analysis.info == SUMMARY
    analysis.save(tmp_path / "new")
    for path in (tmp_path / "old", tmp_path / "new"):
        for old, new in zip(frames, Analysis.load(path).frames(), strict=True):
            for before, after in zip(old.faces, new.faces, strict=True):
                assert np.abs(before.landmarks - after.landmarks).max() < 0.02


@pytest.mark.parametrize(("points", "axes", "numbers"), [(68, 2, 512), (5, 2, 128), (478, 3, 512), (1, 3, 1)])
def test_an_analysis_holds_as_many_landmarks_and_numbers_as_its_form_says(tmp_path, points, axes, numbers):
    rng = np.random.default_rng(1)
    form = Form(points, axes, numbers)
    faces = [
        FrameFace(0, 0.5, rng.random(4, np.float32), rng.uniform(0, 1000, (points, axes)).astype(np.float32))
        for _ in range(40)
    ]
    writer = AnalysisWriter(tmp_path / "a", form)
    for index, face in enumerate(faces):
        writer.add(AnalysedFrame(index, index / 25, (face,)))
    track = replace(TRACK, descriptor=tuple(rng.random(numbers)))
    writer.finish(replace(SUMMARY, tracks=(track,)))
    Analysis.load(tmp_path / "a").save(tmp_path / "b")
    for name in ("a", "b"):
        analysis = Analysis.load(tmp_path / name)
        assert analysis.info.form == form
        assert analysis.tracks == (track,)
        for before, after in zip(faces, analysis.frames(), strict=True):
            assert after.faces[0].landmarks.shape == (points, axes)
            assert np.abs(before.landmarks - after.faces[0].landmarks).max() < 0.01


def test_landmarks_of_another_form_are_not_written(tmp_path):
    writer = AnalysisWriter(tmp_path / "a", Form(68, 2, 512))
    with pytest.raises(ValueError, match="form"):
        writer.add(_frames(2)[1])
    writer.abort()


@pytest.mark.parametrize("form", [(68, 2, 512), (0, 3, 128), (478, 4, 128), (60000, 3, 128)])
def test_a_form_that_is_not_that_of_the_summary_is_refused(tmp_path, form):
    path = _store(tmp_path / "a", _frames(10))
    data = bytearray(path.read_bytes())
    data[8:14] = struct.pack("<HHH", *form)
    path.write_bytes(data)
    with pytest.raises(AnalysisError):
        list(Analysis.load(path).frames())
