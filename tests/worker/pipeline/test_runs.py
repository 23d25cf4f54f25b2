"""Whole runs with the real engine, the real child and the real codecs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from tests.worker.processes import media_children
from watermark.aigc import aigc_label
from watermark.fingerprint import Fingerprint, compare
from watermark.image import read as read_mark
from watermark.iptc import write_iptc
from watermark.labels import LabelRenderer
from watermark.manifest import sign_file
from watermark.manifest_request import ConsentRef, IngredientFile, ManifestRequest
from watermark.signers import DevelopmentAuthority
from watermark.video import read as read_video_mark
from worker.faces.errors import FaceError
from worker.inference.types import ModelError
from worker.media import client
from worker.media.errors import MediaError
from worker.media.planes import Planes
from worker.media.sample_clip import make_clip
from worker.pipeline.analysed import AnalysedFrame, FrameFace
from worker.pipeline.analysis import Analysis, AnalysisWriter
from worker.pipeline.errors import PipelineError
from worker.pipeline.overlay import PlanarLabel
from worker.pipeline.run import analyse, run_job
from worker.spec import PHOTO_MIMES, Label, SourcePhoto, Swap


@pytest.fixture(scope="module")
def portrait(samples, engine_socket, tmp_path_factory):
    folder = tmp_path_factory.mktemp("portrait")
    path = folder / "astronaut.jpg"
    shutil.copy(samples / "astronaut.jpg", path)
    return path, folder / "a", analyse(path, folder / "a", engine_socket=engine_socket, work_dir=folder)


def test_a_photo_is_analysed_swapped_labelled_and_marked(
    portrait, make_spec, pattern, engine_socket, mark_key, mark_id, astronaut
):
    path, analysis, summary = portrait
    assert len(summary.tracks) == 1
    assert len(summary.tracks[0].descriptor) == 128
    spec = make_spec(path, analysis)
    steps: list = []
    result = run_job(spec, pattern=pattern, engine_socket=engine_socket, progress=steps.append)
    assert (result.width, result.height, result.frames, result.mime) == (512, 512, 1, "image/png")
    rgb = client.decode_image(result.output)
    assert read_mark(rgb, [mark_key], effort="fast").mark_id == mark_id
    x, y, width, height = (int(value) for value in summary.tracks[0].box)
    change = np.abs(rgb.astype(int) - astronaut).max(2)
    assert change[y : y + height, x : x + width].mean() > 15, "the face is another one"
    assert change[300:, :].max() <= 12, "far from face and label there is nothing but the mark"
    quality = result.quality["0"]
    assert quality["distance_to_source"] < quality["target_source_before"] - 0.1
    assert result.peak_rss > 50 << 20
    assert {"prepare", "decode", "swap", "label", "mark", "encode"} <= set(result.timings)
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    record = Fingerprint.from_json(result.fingerprint["frames"][0]["fingerprint"])
    assert compare(record, rgb, None).matches
    assert [file.name for file in result.output.parent.iterdir()] == ["out.png"]


@pytest.mark.parametrize("mime", PHOTO_MIMES)
def test_a_photo_is_written_in_every_format_with_a_mark_that_holds(
    portrait, make_spec, pattern, engine_socket, mark_key, mark_id, mime
):
    path, analysis, _ = portrait
    result = run_job(make_spec(path, analysis, output_mime=mime), pattern=pattern, engine_socket=engine_socket)
    assert client.identify(result.output).mime == result.mime == mime
    assert read_mark(client.decode_image(result.output), [mark_key], effort="fast").mark_id == mark_id


@pytest.mark.parametrize("blend", ["multiband", "poisson"])
def test_every_way_of_joining_works_in_a_child_that_may_read_no_compiled_code(
    portrait, make_spec, pattern, engine_socket, blend
):
    path, analysis, _ = portrait
    plain, joined = (
        client.decode_image(
            run_job(
                make_spec(path, analysis, name=f"{way}.png", blend=way), pattern=pattern, engine_socket=engine_socket
            ).output
        ).astype(int)
        for way in ("feather", blend)
    )
    apart = np.abs(plain - joined).max(axis=2)
    assert 50 < (apart > 8).sum() < 0.1 * apart.size, "another seam in the same place, and nothing else"


def test_a_video_is_written_as_quicktime_with_a_mark_that_holds(
    clip, clip_analysis, make_spec, pattern, engine_socket, mark_key, mark_id
):
    spec = make_spec(clip, clip_analysis[0], name="out.mov", output_mime="video/quicktime")
    result = run_job(spec, pattern=pattern, engine_socket=engine_socket)
    info = client.probe(result.output)
    assert (info.mime, info.has_audio, info.frames) == ("video/quicktime", True, 50)
    with client.open_frames(result.output) as frames:
        assert read_video_mark(frames, [mark_key]).mark_id == mark_id


@pytest.fixture(scope="module")
def finished(clip, clip_analysis, pattern, engine_socket, samples, tmp_path_factory):
    import hashlib

    from worker.spec import JobSpec

    source = samples / "grace_hopper.jpg"
    spec = JobSpec(
        job_id="job",
        kind="video",
        target_path=clip,
        target_sha256=hashlib.sha256(clip.read_bytes()).hexdigest(),
        analysis_path=clip_analysis[0],
        output_path=tmp_path_factory.mktemp("finished") / "out.mp4",
        output_mime="video/mp4",
        swaps=(Swap(0, (SourcePhoto(source, hashlib.sha256(source.read_bytes()).hexdigest()),)),),
    )
    steps: list = []
    return run_job(spec, pattern=pattern, engine_socket=engine_socket, progress=steps.append), steps


def test_a_video_keeps_its_frames_its_times_and_its_sound(finished, clip):
    result, steps = finished
    assert (result.width, result.height, result.frames) == (640, 480, 50)
    assert result.duration == pytest.approx(2.0)
    before = [seconds for seconds, _ in client.sample_frames(clip, every=0.001)]
    after = [seconds for seconds, _ in client.sample_frames(result.output, every=0.001)]
    assert before == pytest.approx(after, abs=1e-3)

    def sound(path: Path) -> list[bytes]:
        with av.open(str(path)) as source:
            return [bytes(packet) for packet in source.demux(audio=0) if packet.size]

    assert sound(clip) == sound(result.output)
    assert {step.stage for step in steps} >= {"prepare", "encode"}
    assert [step.fraction for step in steps] == sorted(step.fraction for step in steps)
    assert steps[-1].frames_done == steps[-1].frames_total == 50


def test_every_frame_of_a_video_is_swapped_and_the_file_is_marked(finished, clip, clip_analysis, mark_key, mark_id):
    result, _ = finished
    assert result.quality["0"]["frames_replaced"] == 50
    assert result.quality["0"]["distance_to_source"] < result.quality["0"]["target_source_before"] - 0.1
    with client.open_frames(result.output) as frames:
        reading = read_video_mark(frames, [mark_key])
    assert reading is not None
    assert reading.mark_id == mark_id
    faces = {frame.index: frame.faces[0] for frame in Analysis.load(clip_analysis[0]).frames()}
    pairs = zip(client.sample_frames(clip, every=0.001), client.sample_frames(result.output, every=0.001), strict=True)
    for index, ((_, old), (_, new)) in enumerate(pairs):
        x, y, width, height = (int(value) for value in faces[index].box)
        change = np.abs(old.astype(int) - new).mean(2)
        assert change[y : y + height, x : x + width].mean() > 4 * change[350:].mean(), f"frame {index}"
        assert change[350:].mean() < 4


def test_the_fingerprint_of_each_second_matches_the_file(finished):
    result, _ = finished
    frames = result.fingerprint["frames"]
    assert [round(frame["seconds"]) for frame in frames] == [0, 1]
    for frame, (_, rgb) in zip(frames, client.sample_frames(result.output, times=[0, 1.0]), strict=True):
        assert compare(Fingerprint.from_json(frame["fingerprint"]), rgb, None).matches


def test_a_label_at_the_start_ends_in_time_and_chinas_metadata_survives_labelling_and_signing(
    clip, clip_analysis, make_spec, pattern, engine_socket, tmp_path
):
    label = Label(text="AI MODIFIED\nAI合成", seconds=1.0)
    spec = make_spec(clip, clip_analysis[0], label=label, aigc=aigc_label("maker", "00ff"))
    result = run_job(spec, pattern=pattern, engine_socket=engine_socket)
    left, top, right, bottom = LabelRenderer((640, 480), label.text).box
    white = {
        round(seconds, 2): int((rgb[top:bottom, left:right].min(axis=2) > 225).sum())
        for seconds, rgb in client.sample_frames(result.output, times=[0.0, 0.96, 1.0, 1.5])
    }
    before = {
        round(seconds, 2): int((rgb[top:bottom, left:right].min(axis=2) > 225).sum())
        for seconds, rgb in client.sample_frames(clip, times=[0.0, 0.96, 1.0, 1.5])
    }
    shown = {seconds: count > before[seconds] + 300 for seconds, count in white.items()}
    assert list(shown.values()) == [True, True, False, False]
    write_iptc(result.output, "video/mp4", aigc=spec.aigc)
    authority = DevelopmentAuthority.create(tmp_path / "signer")
    request = ManifestRequest(
        mime="video/mp4",
        target=IngredientFile("video/mp4"),
        sources=(IngredientFile("image/jpeg"),),
        mark_id=bytes(range(8)),
        consent_refs=(ConsentRef("cns_ada1", "face_donor"),),
        policy_version="test",
        livemode=False,
        status_url="http://127.0.0.1/verify",
    )
    signed = tmp_path / "signed.mp4"
    sign_file(result.output, signed, request, authority.signer(), anchors_pem=authority.root_pem)
    with av.open(str(signed)) as source:
        assert source.metadata["AIGC"] == spec.aigc
        assert sum(1 for _ in source.decode(video=0)) == 50


def test_the_notice_on_planes_is_the_notice_on_rgb():
    renderer = LabelRenderer((640, 480), "AI MODIFIED", "top-right")
    rng = np.random.default_rng(4)
    rgb = np.kron(rng.integers(40, 216, (30, 40, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
    planes = Planes((640, 480))
    planes.paste(planes.whole, rgb)
    expected = renderer.apply(planes.to_rgb().copy())
    PlanarLabel(renderer).apply(planes)
    difference = np.abs(planes.to_rgb().astype(int) - expected)
    assert difference.mean() < 0.5
    left, top, right, bottom = renderer.box
    inside = difference[top + 3 : bottom - 3, left + 3 : right - 3]
    assert np.percentile(inside, 95) <= 8
    assert np.abs(expected.astype(int) - rgb)[top:bottom, left:right].mean() > 20, "there is a notice"


def test_a_stopped_job_ends_soon_and_leaves_no_file(samples, engine_socket, make_spec, pattern, tmp_path):
    clip = tmp_path / "long.mp4"
    make_clip(samples / "astronaut.jpg", clip, seconds=8, size=(640, 480), fps=12)
    out = tmp_path / "long.analysis"
    analyse(clip, out, engine_socket=engine_socket, work_dir=tmp_path)
    stop, wished = threading.Event(), 0.0

    def follow(step) -> None:
        nonlocal wished
        if step.frames_done > 3 and not stop.is_set():
            wished = time.monotonic()
            stop.set()

    spec = make_spec(clip, out)
    with pytest.raises(MediaError) as caught:
        run_job(spec, pattern=pattern, engine_socket=engine_socket, progress=follow, should_stop=stop.is_set)
    assert wished, "the job ended before it could be stopped"
    assert time.monotonic() - wished < 20  # about a second on an idle machine
    assert caught.value.code == "canceled"
    assert not list(spec.output_path.parent.iterdir())


def test_a_stopped_analysis_leaves_no_file(clip, engine_socket, tmp_path):
    with pytest.raises(MediaError) as caught:
        analyse(clip, tmp_path / "a", engine_socket=engine_socket, work_dir=tmp_path, should_stop=lambda: True)
    assert caught.value.code == "canceled"
    assert not list(tmp_path.iterdir())


def test_a_child_killed_in_the_middle_is_a_typed_error_and_leaves_no_file(
    clip, clip_analysis, make_spec, pattern, engine_socket
):
    spec = make_spec(clip, clip_analysis[0])

    def kill(step) -> None:
        if step.frames_done >= 1:
            for pid in media_children():
                os.kill(int(pid), signal.SIGKILL)

    with pytest.raises(MediaError) as caught:
        run_job(spec, pattern=pattern, engine_socket=engine_socket, progress=kill)
    assert caught.value.code == "child_died"
    assert not list(spec.output_path.parent.iterdir())


def test_too_little_memory_is_a_typed_error(clip, clip_analysis, make_spec, pattern, engine_socket):
    spec = make_spec(clip, clip_analysis[0], memory_limit=400 << 20)
    with pytest.raises(MediaError) as caught:
        run_job(spec, pattern=pattern, engine_socket=engine_socket)
    assert caught.value.code in ("child_out_of_memory", "child_died")
    assert not list(spec.output_path.parent.iterdir())


def test_a_full_disk_is_refused_before_the_work_begins(clip, clip_analysis, make_spec, pattern, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(MediaError) as caught:
        run_job(make_spec(clip, clip_analysis[0]), pattern=pattern, engine_socket=Path("unused"))
    assert caught.value.code == "disk_full"


def test_a_disk_that_fills_up_during_the_work_is_a_typed_error(
    clip, clip_analysis, make_spec, pattern, engine_socket, tmp_path, monkeypatch
):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    ).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        monkeypatch.setattr("worker.pipeline.run._SPARE_BYTES", -1 << 40)
        spec = make_spec(clip, clip_analysis[0], output_path=disk / "out.mp4")
        with pytest.raises(MediaError) as caught:
            run_job(spec, pattern=pattern, engine_socket=engine_socket)
        assert caught.value.code == "disk_full"
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_file_that_is_not_the_agreed_one_is_refused(clip, clip_analysis, make_spec, pattern, engine_socket):
    spec = make_spec(clip, clip_analysis[0])
    for wrong in (
        replace(spec, target_sha256="0" * 64),
        replace(spec, swaps=(Swap(0, (replace(spec.swaps[0].sources[0], sha256="0" * 64),)),)),
    ):
        with pytest.raises(PipelineError) as caught:
            run_job(wrong, pattern=pattern, engine_socket=engine_socket)
        assert caught.value.code == "file_changed"


def test_a_face_that_is_not_there_is_refused(clip, clip_analysis, portrait, make_spec, pattern, engine_socket):
    for target, analysis in ((clip, clip_analysis[0]), portrait[:2]):
        spec = make_spec(target, analysis)
        with pytest.raises(PipelineError) as caught:
            run_job(
                replace(spec, swaps=(replace(spec.swaps[0], target=9),)), pattern=pattern, engine_socket=engine_socket
            )
        assert caught.value.code == "target_missing"
        assert not list(spec.output_path.parent.iterdir())


def test_the_analysis_of_another_file_is_refused(clip, portrait, make_spec, pattern, engine_socket):
    with pytest.raises(PipelineError) as caught:
        run_job(make_spec(clip, portrait[1]), pattern=pattern, engine_socket=engine_socket)
    assert caught.value.code == "analysis_invalid"


def test_a_source_without_a_face_is_refused(clip, clip_analysis, make_spec, pattern, engine_socket, tmp_path):
    from PIL import Image

    wall = tmp_path / "wall.png"
    Image.fromarray(np.full((300, 300, 3), 120, np.uint8)).save(wall)
    with pytest.raises(FaceError) as caught:
        run_job(make_spec(clip, clip_analysis[0], source=wall), pattern=pattern, engine_socket=engine_socket)
    assert caught.value.code == "no_face"


def test_a_target_turned_away_is_refused_before_a_frame_is_decoded(
    clip, clip_analysis, portrait, make_spec, pattern, engine_socket, tmp_path
):
    angle = np.radians(60)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]], np.float32)
    for number, (target, analysis) in enumerate(((clip, clip_analysis[0]), portrait[:2])):
        stored = Analysis.load(analysis)
        path = tmp_path / f"turned{number}"
        writer = AnalysisWriter(path)
        for frame in stored.frames():
            centre = frame.faces[0].landmarks.mean(0)
            landmarks = (frame.faces[0].landmarks - centre) @ turn.T + centre
            face = FrameFace(0, 1.0, frame.faces[0].box, landmarks.astype(np.float32))
            writer.add(AnalysedFrame(frame.index, frame.seconds, (face,)))
        writer.finish(stored.info)
        stages: set[str] = set()
        with pytest.raises(FaceError) as caught:
            run_job(
                make_spec(target, path),
                pattern=pattern,
                engine_socket=engine_socket,
                progress=lambda step, seen=stages: seen.add(step.stage),
            )
        assert caught.value.code == "pose_gap"
        assert "encode" not in stages


def test_no_engine_is_a_typed_error(clip, clip_analysis, make_spec, pattern, tmp_path):
    with pytest.raises(ModelError) as caught:
        run_job(make_spec(clip, clip_analysis[0]), pattern=pattern, engine_socket=tmp_path / "none.sock")
    assert caught.value.code == "engine_unavailable"


def test_a_photo_without_faces_has_an_empty_analysis(engine_socket, tmp_path):
    from PIL import Image

    wall = tmp_path / "wall.png"
    Image.fromarray(np.full((300, 300, 3), 120, np.uint8)).save(wall)
    assert analyse(wall, tmp_path / "a", engine_socket=engine_socket, work_dir=tmp_path).tracks == ()


def test_memory_does_not_grow_with_the_length(samples, engine_socket, make_spec, pattern, tmp_path):
    peaks = []
    for seconds in (10, 30):
        clip = tmp_path / f"{seconds}.mp4"
        make_clip(samples / "astronaut.jpg", clip, seconds=seconds, size=(480, 360), fps=10)
        out = tmp_path / f"{seconds}.analysis"
        found = analyse(clip, out, engine_socket=engine_socket, work_dir=tmp_path)
        spec = make_spec(clip, out, name=f"{seconds}.mp4")
        peaks.append((found.peak_rss, run_job(spec, pattern=pattern, engine_socket=engine_socket).peak_rss))
    for short, long in zip(*peaks, strict=True):
        assert long < 1.1 * short, peaks
