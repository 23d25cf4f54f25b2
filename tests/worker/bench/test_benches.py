"""The benches measure what really runs, with tiny parameters: their numbers must hang together, whatever they are."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import av
import numpy as np
import pytest

from tests.worker import neural_graphs
from worker.bench import jobs, neural
from worker.bench.batch import bench_batch
from worker.bench.frames import Frames, material, memory_row, steady
from worker.bench.jobs import Choice, Cost
from worker.bench.meter import Meter, Reading, peak_bytes, process_seconds
from worker.bench.models import bench_models
from worker.bench.pipeline import bench_pipeline
from worker.bench.quality import bench_quality, edge_step
from worker.bench.steps import host_milliseconds
from worker.bench.workspace import Workspace
from worker.inference.types import ModelError
from worker.media.sample_clip import make_clip, repeat_clip

SIZE = (640, 360)
TINY = ("yoloface_8n", "2dfan4", "arcface_w600k_r50", "hyperswap_1a_256")


def quiet(words: str, fraction: float) -> None:
    assert words
    assert 0 <= fraction <= 1


@pytest.fixture(scope="module")
def space(models_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    graphs = neural_graphs.write_all(folder / "all")
    extra = folder / "extra"
    extra.mkdir()
    for name in TINY:
        (graphs / f"{name}.onnx").rename(extra / f"{name}.onnx")
    return Workspace.make(folder / "home", models_dir, extra)


def test_a_film_is_cut_and_repeated_to_the_frame_and_others_than_mp4_are_refused(samples, tmp_path):
    made, out, other = tmp_path / "made.mp4", tmp_path / "out.mp4", tmp_path / "other.mkv"
    assert make_clip(samples / "astronaut.jpg", made, seconds=0.8, size=SIZE, sound=False) == 20
    for frames in (7, 20, 47):
        repeat_clip(made, out, frames)
        with av.open(str(out)) as film:
            times = [frame.time for frame in film.decode(video=0)]
        assert len(times) == frames
        assert times == sorted(times)
    with av.open(str(made)) as source, av.open(str(other), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    with pytest.raises(ValueError, match="not an MP4"):
        repeat_clip(other, out, 7)


def test_processor_time_and_memory_of_another_process_are_seen():
    work = "import sys; n = sum(range(3_000_000)); sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        assert process_seconds(process.pid) > 0.01
        assert peak_bytes(process.pid) > 1 << 20
        process.communicate()
    with pytest.raises(OSError):
        process_seconds(process.pid)


def test_a_meter_counts_the_caller_and_takes_its_part_off_the_machine():
    meter = Meter()
    sum(range(2_000_000))
    used = meter.read()
    assert 0 < used.caller <= used.wall * used.cores
    assert used.engine == 0
    assert 0.1 <= used.cores_left <= used.cores
    assert used.minus(used).wall == 0
    assert used.plus(used).caller == pytest.approx(2 * used.caller)


def test_models_are_measured_alone_and_through_the_engine(space):
    report = bench_models(space, ["blazeface_short", "2dfan4"], seconds=0.02, largest=2, progress=quiet)
    alone, by_size = report.tables
    assert [line[0] for line in alone.lines] == ["blazeface_short", "2dfan4"]
    assert all(line[1] == "cpu" and line[2] == "0" and line[3] == "fp32" for line in alone.lines)
    assert all(value > 0 for line in alone.lines for value in line[7:])
    assert by_size.columns == ("model", "1", "2", "gain")
    assert all(line[1] > 0 and line[3] is None for line in by_size.lines)
    assert set(report.stages["directly, batch 1"]) == {"blazeface_short", "2dfan4"}


def test_a_model_that_is_not_there_is_named_before_anything_is_measured(space):
    with pytest.raises(ModelError) as caught:
        bench_models(space, ["blazeface_short", "gfpgan_1.4"], progress=lambda *_: pytest.fail("it was begun"))
    assert caught.value.code == "model_missing"


def test_more_open_runs_make_larger_batches_on_the_pretend_device(space):
    report = bench_batch(space, seconds=0.1, progress=quiet)
    (table,) = report.tables
    assert [line[0] for line in table.lines] == ["1", "2", "4", "8", "16", "32"]
    batches = [line[3] for line in table.lines]
    assert batches[0] <= 1.5 < batches[-1] <= 32
    assert all(0 < line[2] <= 1 for line in table.lines)
    assert all(row.verdict in ("goal reached", "reached", "not reached") for row in report.rows)


def test_what_a_swap_does_to_pictures_is_told_by_swapper_and_precision(space, astronaut, grace):
    pictures = {"astronaut": astronaut, "grace": grace}
    report = bench_quality(space, pictures, precisions=("fp32", "int8"), progress=quiet)
    titles = [table.title for table in report.tables]
    assert titles[0] == "built-in, fp32"
    assert "hyperswap_1a_256, fp32" in titles
    first = report.tables[0]
    columns = dict(zip(first.columns, zip(*first.lines, strict=True), strict=True))
    assert columns["picture"] == ("grace on astronaut", "astronaut on grace")
    assert all(value < 0.5 for value in columns["distance to source"])
    assert all(value >= 60 for value in columns["PSNR outside dB"])
    assert all(0 < value < 10 for value in columns["landmark drift p95 %"])
    (medians,) = (table for table in report.tables if table.title == "built-in: medians by precision")
    assert [line[0] for line in medians.lines] == ["fp32"]  # nothing is told of int8, which is not there
    assert any("no model has a proven int8 file" in note for note in report.notes)


def test_a_paste_that_stops_short_is_seen_at_its_edge_and_one_that_fades_is_not():
    before = np.full((200, 200, 3), 100, np.uint8)
    hard, soft = before.copy(), before.copy()
    hard[50:150, 50:150] += 40
    rows, columns = np.mgrid[:200, :200]
    away = np.maximum(np.abs(rows - 100), np.abs(columns - 100))
    soft += np.clip(50 - away, 0, 40).astype(np.uint8)[..., None]
    assert edge_step(before, before) == 0
    assert edge_step(before, hard) == 40
    assert 0 < edge_step(before, soft) <= 4


def test_the_steps_of_a_neural_frame_add_up():
    table = host_milliseconds(3)
    assert table["total"] == pytest.approx(sum(value for step, value in table.items() if step != "total"), abs=0.01)
    assert all(value > 0 for value in table.values())
    assert {"detector input", "landmark crop", "embedding crop", "swap crop", "paste"} < set(table)


def cost(frames: int, *, wall: float, children: float, engine: float, inference: float) -> Cost:
    used = Reading(wall, 0.1, children, engine, 0.0, 2)
    stages = {"swap": children / 4, "mark": children / 4}
    return Cost(frames, used, inference, {"2dfan4": frames}, stages, 1 << 20, 0, codecs=0.7 * children)


def frames_of(children: float, engine: float = 0.2) -> Frames:
    one = cost(100, wall=2.0, children=children, engine=engine, inference=0.0)
    return Frames(one, one, decode=8.0, convert=1.0, mark=4.0, encode=12.0, encode_unmarked=10.0)


def test_the_parts_of_a_frame_add_up_to_all_processor_time():
    frames = frames_of(2.0)
    assert sum(frames.parts().values()) == pytest.approx(1000 * frames.both.total / 100, abs=0.1)
    assert frames.host == pytest.approx(46.0)
    assert frames.python == pytest.approx(46.0 - 28 - 4)
    assert frames.unmarked == pytest.approx(46.0 - 4 - (12 - 10))


@pytest.mark.parametrize(
    ("children", "verdicts"),
    [
        # 100 frames in 4 seconds, when 2 cores would allow 2 / 46, 2 / 32 and 2 / 86 of a second each
        (2.0, ["reached", "reached", "not reached"]),
        (1.9, ["reached", "reached", "not reached"]),
        (4.0, ["not reached", "not reached", "goal reached"]),
    ],
)
def test_the_hosts_rows_say_what_was_reached(children, verdicts):
    assert [row.verdict for row in neural.host_rows_required(frames_of(children), 2.0)] == verdicts


@pytest.mark.parametrize(
    ("children", "inference", "factor", "photo"),
    [(0.5, 10.0, "not reached", "goal reached"), (0.1, 10.0, "goal reached", "goal reached"),
     (5.0, 10.0, "not reached", "not reached"), (1.0, -1.0, "not measured", "not measured")],
)  # fmt: skip
def test_the_rows_over_inference_say_what_was_reached_and_noise_is_no_result(children, inference, factor, photo):
    found = cost(10, wall=9.0, children=children, engine=inference, inference=inference)
    assert [row.verdict for row in neural.model_rows(found, found, found)] == [factor, photo, "", ""]
    on_gpu = replace(found, devices=("cuda",))
    assert [row.verdict for row in neural.model_rows(on_gpu, on_gpu, on_gpu)] == [
        "not measured",
        "not measured",
        "",
        "",
    ]


def test_a_film_is_swapped_and_every_process_is_accounted_for(space, samples, tmp_path):
    source, target = samples / "grace_hopper.jpg", samples / "astronaut.jpg"
    things = material(tmp_path, source, target, films=(), seconds=[0.16], size=SIZE)
    choice = Choice.of(space.models, "hyperswap_1a_256")
    table = neural.device(space, things, tmp_path, choice)
    with space.engine(pretend=table) as engine:
        run = jobs.run(things.clips[0], source, tmp_path / "run", engine, choice)
    assert run.both.frames == 4
    assert run.job.items["hyperswap_1a_256"] == run.analysis.items["2dfan4"] == 4
    assert run.both.used.children > run.both.crossing > 0
    assert run.both.total > run.both.host
    frames = steady([run], tmp_path)
    assert min(frames.decode, frames.mark, frames.encode, frames.encode_unmarked) > 0
    assert {"swap", "paste", "mark"} < set(run.job.stages)
    stage = frames.per_frame(run.job.stages["mark"])
    assert replace(frames, mark=2 * stage).marking == stage  # measured alone in a bad moment
    assert replace(frames, mark=stage / 2).marking == stage / 2
    for runs in ([run], [run, run]):  # nothing to compare with, and films too short to tell
        row = memory_row("x", ["0.16 s"] * len(runs), runs)
        assert (row.measured, row.verdict) == (None, "not measured")
    settled = replace(run, result=replace(run.result, duration=10.0))
    assert memory_row("x", ["10 s", "600 s"], [settled, settled]).verdict == "goal reached"
    grown = replace(settled, job=replace(run.job, peak=2 * run.both.peak + run.both.engine_peak))
    assert memory_row("x", ["10 s", "600 s"], [settled, grown]).verdict == "not reached"
    assert run.swapped == 4
    cut = replace(settled, job=replace(run.job, frames=9))  # a film whose track ends before it does
    row = memory_row("x", ["10 s", "600 s"], [settled, cut])
    assert (row.verdict, row.note.split(":")[0]) == ("not measured", "4 of 9 frames were swapped")


@pytest.mark.soak
def test_the_whole_bench_has_a_verdict_for_every_required_row(space, samples, tmp_path):
    source, target = samples / "grace_hopper.jpg", samples / "astronaut.jpg"
    things = material(tmp_path, source, target, films=(), seconds=[0.5, 2], size=SIZE)
    choice = Choice.of(space.models, "hyperswap_1a_256")
    report = bench_pipeline(space, things, tmp_path, choice=choice, neural_frames=(8, 48), progress=quiet)
    judged = {row.name: row.verdict for row in report.rows if row.required is not None}
    assert {row.name for row in neural.rows_without("")} < set(judged)
    memory = {name for name in judged if "peak memory" in name}
    assert {judged[name] for name in memory} == {"not measured"}  # in films this short it tells nothing
    assert {judged[name] for name in set(judged) - memory} <= {"goal reached", "reached", "not reached"}
    # These graphs take next to no time, so the host's share must be told as far too large.
    assert judged[neural.FACTOR] == "not reached"
    assert set(report.stages) == {"built-in swap", "neural set, host"}


def test_without_neural_models_their_rows_say_that_they_were_not_measured():
    assert {row.verdict for row in neural.rows_without("needs --models")} == {"not measured"}
