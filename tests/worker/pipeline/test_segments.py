"""A video in segments: the same frames whoever renders them and in whatever order, and a file like an unsplit one."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from watermark.pattern import MarkPattern
from worker.inference.client import connect
from worker.media.errors import MediaError
from worker.media.sample_clip import make_clip
from worker.pipeline import segment_renderer, video
from worker.pipeline.analysed import AnalysedFrame, AnalysisSummary
from worker.pipeline.analysis import Analysis, AnalysisWriter
from worker.pipeline.errors import PipelineError
from worker.pipeline.run import analyse, join_job, run_job, segment_worker
from worker.pipeline.segments import MOST_FRAMES, RUN_IN, Namer, Part, Segment, plan, run_in_start
from worker.spec import JobSpec, Label, SourcePhoto

SIZE = (480, 360)
FRAMES = 130


def frames_of(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as source:
        return [frame.to_ndarray(format="yuv420p") for frame in source.decode(video=0)]


@pytest.fixture(scope="module")
def film(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """130 frames at uneven times with sound, a group of pictures longer than a segment, light that changes, grain."""
    folder = tmp_path_factory.mktemp("film")
    plain, path = folder / "plain.mp4", folder / "film.mp4"
    make_clip(samples / "astronaut.jpg", plain, seconds=FRAMES / 25, size=SIZE)
    chance = np.random.default_rng(5)
    moments = np.cumsum(chance.integers(2, 7, FRAMES)) + 40
    with av.open(str(plain)) as source, av.open(str(path), "w") as sink:
        sound = sink.add_stream_from_template(source.streams.audio[0])
        stream: Any = sink.add_stream("libx264", rate=25, options={"crf": "16", "g": "90"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 100)
        count = 0
        for packet in source.demux():
            if packet.stream.type == "audio" and packet.size:
                packet.stream = sound
                sink.mux(packet)
            elif packet.stream.type == "video":
                for frame in packet.decode():
                    rgb = frame.to_ndarray(format="rgb24").astype(np.float32)
                    side = np.linspace(-0.5, 0.5, SIZE[0], dtype=np.float32)[None, :, None]
                    rgb *= 1 + 0.25 * np.sin(count / 9) * side + 0.2 * np.sin(count / 5)
                    lit = np.clip(rgb + chance.normal(0, 3, rgb.shape), 0, 255).astype(np.uint8)
                    new = av.VideoFrame.from_ndarray(lit, "rgb24")
                    new.pts, new.time_base = int(moments[count]), Fraction(1, 100)
                    sink.mux(stream.encode(new))
                    count += 1
        sink.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def film_analysis(film: Path, engine_socket: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film-analysis")
    summary = analyse(film, folder / "a", engine_socket=engine_socket, work_dir=folder)
    assert summary.frames == FRAMES
    return folder / "a"


@pytest.fixture
def film_spec(film: Path, film_analysis: Path, make_spec: Callable[..., JobSpec]) -> JobSpec:
    """Encoded without loss, so that the frames of the file are the frames before encoding."""
    return make_spec(film, film_analysis, crf=0, label=Label(seconds=2.0))


@pytest.fixture(scope="module")
def alone(
    film: Path, film_analysis: Path, pattern: bytes, engine_socket: Path, samples: Path, tmp_path_factory: Any
) -> Any:
    """What one process makes of the film."""
    import hashlib

    from worker.spec import Swap

    source = samples / "grace_hopper.jpg"
    spec = JobSpec(
        job_id="job",
        kind="video",
        target_path=film,
        target_sha256=hashlib.sha256(film.read_bytes()).hexdigest(),
        analysis_path=film_analysis,
        output_path=tmp_path_factory.mktemp("alone") / "out.mp4",
        output_mime="video/mp4",
        swaps=(Swap(0, (SourcePhoto(source, hashlib.sha256(source.read_bytes()).hexdigest()),)),),
        crf=0,
        label=Label(seconds=2.0),
    )
    return run_job(spec, pattern=pattern, engine_socket=engine_socket)


def rendered(spec: JobSpec, pattern: bytes, engine_socket: Path, shares: Sequence[Sequence[Segment]]) -> dict[int, Any]:
    """Parts by number, each share of the segments made by a process of its own, all at once."""
    made: dict[int, Any] = {}
    errors: list[BaseException] = []

    def work(share: Sequence[Segment]) -> None:
        try:
            with segment_worker(spec, pattern=pattern, engine_socket=engine_socket, threads=1) as worker:
                for segment in share:
                    path = spec.output_path.with_name(f"{segment.number}.mp4")
                    made[segment.number] = (worker.render(segment, path), path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(share,)) for share in shares if share]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    return made


@pytest.mark.parametrize("workers", [2, 4])
def test_one_two_and_four_processes_give_identical_frames_in_any_order(
    film_spec: JobSpec, film_analysis: Path, pattern: bytes, engine_socket: Path, alone: Any, workers: int
) -> None:
    segments = list(plan(Analysis.load(film_analysis)))
    assert len(segments) == 3
    random.Random(workers).shuffle(segments)
    shares = [segments[number::workers] for number in range(workers)]
    made = rendered(film_spec, pattern, engine_socket, shares)
    result = join_job(film_spec, [made[number] for number in sorted(made)])
    assert result.frames == FRAMES
    for index, (one, many) in enumerate(zip(frames_of(alone.output), frames_of(result.output), strict=True)):
        assert np.array_equal(one, many), f"frame {index}"
    assert (result.fingerprint, result.quality, result.duration) == (alone.fingerprint, alone.quality, alone.duration)
    assert result.output.read_bytes() == alone.output.read_bytes()


def test_the_whole_keeps_every_time_and_the_sound_and_begins_each_segment_with_a_key_frame(
    film: Path, film_analysis: Path, alone: Any
) -> None:
    def facts(path: Path) -> tuple[list[Fraction], list[bytes], list[Fraction]]:
        with av.open(str(path)) as source:
            times = [frame.pts * frame.time_base for frame in source.decode(video=0)]
        with av.open(str(path)) as source:
            packets = [packet for packet in source.demux() if packet.size]
            sound = [bytes(packet) for packet in packets if packet.stream.type == "audio"]
            keys = [p.pts * p.time_base for p in packets if p.stream.type == "video" and p.is_keyframe]
            decoding = [packet.dts for packet in packets if packet.stream.type == "video"]
        assert decoding == sorted(set(decoding))
        return times, sound, keys

    times, sound, _ = facts(film)
    got_times, got_sound, keys = facts(alone.output)
    assert [float(time) for time in got_times] == pytest.approx([float(time) for time in times], abs=1e-4)
    assert got_sound == sound
    starts = [segment.first for segment in plan(Analysis.load(film_analysis))]
    assert {got_times[start] for start in starts} <= set(keys)
    assert [round(frame["seconds"]) for frame in alone.fingerprint["frames"]] == list(
        range(len(alone.fingerprint["frames"]))
    )
    assert alone.quality["0"]["frames_replaced"] == FRAMES
    assert alone.quality["0"]["frames_judged"] == 5
    assert [file.name for file in alone.output.parent.iterdir()] == ["out.mp4"]


def test_a_segment_differs_from_an_unsplit_run_by_one_step_at_most(
    film_spec: JobSpec, pattern: bytes, engine_socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the mark, whose strength is measured anew in each segment; see `RUN_IN` for fewer frames."""
    taken: dict[int, NDArray[np.uint8]] = {}
    encode = segment_renderer._Run._encode

    def keep(self: Any, item: Any) -> Any:
        if item.planes is not None:
            taken[item.shown.stamp.index] = item.planes.buffer.copy()
        return encode(self, item)

    monkeypatch.setattr(segment_renderer._Run, "_encode", keep)
    monkeypatch.setattr(segment_renderer._Run, "_mark", lambda self, item: item)
    out = film_spec.output_path.with_name("part.mp4")

    def frames(segment: Segment) -> dict[int, NDArray[np.uint8]]:
        taken.clear()
        with (
            connect(engine_socket) as runner,
            video.opened(film_spec, MarkPattern.from_bytes(pattern), runner, lambda *_: None, lambda: None) as renderer,
        ):
            renderer.render(segment, out)
        return dict(taken)

    whole = frames(Segment(0, 0, FRAMES - 1))
    for segment in (Segment(1, 48, 60), Segment(2, 89, 100)):
        for index, planes in frames(segment).items():
            assert np.abs(planes.astype(int) - whole[index]).max() <= 1, f"frame {index}"


def test_parts_that_are_not_what_they_are_said_to_be_are_not_joined(
    film_spec: JobSpec, pattern: bytes, engine_socket: Path, film_analysis: Path
) -> None:
    segments = plan(Analysis.load(film_analysis))
    made = rendered(film_spec, pattern, engine_socket, [segments])
    parts = [made[segment.number] for segment in segments]
    other = replace(parts[1][0], pictures=parts[1][0].pictures - 1)
    for wrong in (
        [parts[0], (other, parts[1][1]), parts[2]],
        [parts[1], parts[0], parts[2]],
        [parts[0], (parts[1][0], parts[0][1]), parts[2]],
    ):
        with pytest.raises(MediaError) as caught:
            join_job(film_spec, wrong)
        assert caught.value.code == "part_broken"
        assert not film_spec.output_path.exists()
    parts[2][1].write_bytes(parts[2][1].read_bytes()[:1000])
    with pytest.raises(MediaError):
        join_job(film_spec, parts)
    assert not film_spec.output_path.exists()


def test_what_a_child_says_of_a_part_is_brought_to_its_types_or_refused() -> None:
    good = Part(0, 1, 1, 0, 0.0, 0.0).to_dict()
    assert Part.from_dict(good) == Part(0, 1, 1, 0, 0.0, 0.0)
    for wrong in ({}, {**good, "frames": "many"}, {**good, "tracks": {"x": {}}}, {**good, "fingerprints": [1]}):
        with pytest.raises(PipelineError) as caught:
            Part.from_dict(wrong)
        assert caught.value.code == "part_invalid"


def stored(path: Path, frames: int, cuts: Sequence[int] = (), *, every: int = 1) -> Analysis:
    writer = AnalysisWriter(path)
    for index in range(0, frames, every):
        writer.add(AnalysedFrame(index, index / 25, ()))
    writer.finish(AnalysisSummary("video", "builtin", 64, 64, frames, frames / 25, (), tuple(c / 25 for c in cuts)))
    return Analysis.load(path)


def test_every_frame_is_in_one_segment_and_none_is_too_long(tmp_path: Path) -> None:
    chance = random.Random(11)
    for number in range(60):
        frames = chance.randrange(1, 700)
        cuts = sorted(chance.sample(range(frames), chance.randrange(0, min(frames, 9))))
        segments = plan(stored(tmp_path / str(number), frames, cuts))
        assert [segment.number for segment in segments] == list(range(len(segments)))
        assert [index for s in segments for index in range(s.first, s.last + 1)] == list(range(frames))
        assert max(segment.frames for segment in segments) <= MOST_FRAMES
        for segment in segments:
            start = run_in_start(segment, cuts)
            assert 0 <= segment.first - start <= RUN_IN
            assert not any(start < cut <= segment.first for cut in cuts), "nothing before a cut is looked at"


def test_an_analysis_without_all_times_makes_one_segment(tmp_path: Path) -> None:
    assert plan(stored(tmp_path / "a", 300, every=2)) == (Segment(0, 0, 299),)


def test_reading_from_a_frame_on_gives_the_same_frames(film_analysis: Path) -> None:
    analysis = Analysis.load(film_analysis)
    everything = list(analysis.frames())
    for first in (0, 1, 31, 32, 33, 64, 95, 129):
        found = list(analysis.frames(first))
        assert [frame.index for frame in found] == list(range(first, FRAMES))
        assert np.array_equal(found[0].faces[0].landmarks, everything[first].faces[0].landmarks)
    assert list(analysis.frames(FRAMES)) == []


def test_a_result_is_named_by_all_it_follows_from_and_by_nothing_else(
    film_spec: JobSpec, pattern: bytes, tmp_path: Path
) -> None:
    segment = Segment(1, 44, 87)
    name = Namer(film_spec, pattern).address(segment)
    swap = film_spec.swaps[0]
    source = swap.sources[0]
    for same in (
        replace(film_spec, job_id="other", output_path=tmp_path / "x", timeout=1.0, aigc="{}"),
        replace(film_spec, swaps=(replace(swap, sources=(replace(source, path=tmp_path / "x"),)),)),
    ):
        assert Namer(same, pattern).address(segment) == name
    changed = tmp_path / "analysis"
    changed.write_bytes(b"another")
    names = {
        Namer(each, pattern).address(segment)
        for each in (
            film_spec,
            replace(film_spec, crf=19),
            replace(film_spec, label=None),
            replace(film_spec, mark_mode="durable"),
            replace(film_spec, target_sha256="0" * 64),
            replace(film_spec, analysis_path=changed),
            replace(film_spec, swaps=(replace(swap, target=1),)),
            replace(film_spec, swaps=(replace(swap, sources=(replace(source, sha256="0" * 64),)),)),
        )
    }
    names |= {Namer(film_spec, pattern + b"x").address(segment), Namer(film_spec, pattern).address(Segment(1, 44, 88))}
    assert len(names) == 10
