"""A job's choices about its video: codec, size, rate and part, in a whole run with the mark read from the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from watermark.labels import LabelRenderer
from watermark.video import read as read_video_mark
from worker.media import client
from worker.media.errors import MediaError
from worker.media.sandbox import Limits, call
from worker.pipeline.analysis import Analysis
from worker.pipeline.devices import device_header
from worker.pipeline.errors import PipelineError
from worker.pipeline.run import run_job
from worker.pipeline.swapping import Samples
from worker.spec import Label


def _mark_of(path, key):
    with client.open_frames(path) as frames:
        reading = read_video_mark(frames, [key])
    return None if reading is None else reading.mark_id


@pytest.mark.parametrize("codec", ["hevc", "av1"])
def test_the_mark_is_read_from_every_codec(
    clip, clip_analysis, make_spec, pattern, engine_socket, mark_key, mark_id, codec
):
    spec = make_spec(clip, clip_analysis[0], codec=codec, hardware="decode", trim_end=0.6)
    result = run_job(spec, pattern=pattern, engine_socket=engine_socket)
    assert client.probe(result.output).codec.removeprefix("lib").replace("dav1d", "av1") == codec
    assert _mark_of(result.output, mark_key) == mark_id
    assert result.quality["0"]["frames_replaced"] == 15
    assert "hardware_encoder_missing" in result.warnings, "it was allowed, and software wrote the file"


def test_a_part_at_half_size_and_another_rate_is_swapped_labelled_and_marked(
    clip, clip_analysis, make_spec, pattern, engine_socket, mark_key, mark_id
):
    label = Label(seconds=0.5)
    spec = make_spec(
        clip,
        clip_analysis[0],
        height=360,
        fps=50.0,
        trim_start=0.5,
        trim_end=1.7,
        label=label,
        mark_mode="durable",
    )
    steps: list = []
    result = run_job(spec, pattern=pattern, engine_socket=engine_socket, progress=steps.append)
    assert (result.width, result.height) == (480, 360)
    assert result.duration == pytest.approx(1.2, abs=0.05)
    assert result.frames == pytest.approx(60, abs=2)
    info = client.probe(result.output)
    assert (info.width, info.height, info.frames) == (480, 360, result.frames)
    assert info.fps == pytest.approx(50)
    assert _mark_of(result.output, mark_key) == mark_id
    # The face is where the analysis saw it, at the new size: what was replaced differs there and not elsewhere.
    face = next(one for one in Analysis.load(clip_analysis[0]).frames() if one.seconds >= 0.5).faces[0]
    x, y, width, height = (round(float(value) * 0.75) for value in face.box)
    before = next(client.sample_frames(clip, times=[0.52]))[1]
    after = next(client.sample_frames(result.output, times=[0.0]))[1]
    import cv2

    change = np.abs(cv2.resize(before, (480, 360), interpolation=cv2.INTER_AREA).astype(int) - after).mean(2)
    assert change[y : y + height, x : x + width].mean() > 3 * change[280:].mean()
    left, top, right, bottom = LabelRenderer((480, 360), label.text).box
    white = [
        int((rgb[top:bottom, left:right].min(axis=2) > 225).sum())
        for _, rgb in client.sample_frames(result.output, times=[0.0, 0.4, 0.6, 1.0])
    ]
    assert min(white[:2]) > max(white[2:]) + 100
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert [round(one["seconds"]) for one in result.fingerprint["frames"]] == [0, 1]
    with av.open(str(result.output)) as source:
        heard = [float(packet.pts * packet.time_base) for packet in source.demux(audio=0) if packet.size]
    assert -0.05 < heard[0] <= 0.03
    assert heard[-1] == pytest.approx(1.2, abs=0.06)


def test_a_part_in_which_the_chosen_face_is_not_seen_is_refused(clip, clip_analysis, make_spec, pattern, engine_socket):
    spec = make_spec(clip, clip_analysis[0], trim_start=50.0)
    with pytest.raises(PipelineError) as caught:
        run_job(spec, pattern=pattern, engine_socket=engine_socket)
    assert caught.value.code == "target_missing"
    assert not list(spec.output_path.parent.iterdir())


@pytest.mark.skipif(bool(list(Path("/dev").glob("nvidia[0-9]*"))), reason="there is a video device here")
def test_a_job_for_a_device_is_never_written_by_anything_else(clip, clip_analysis, make_spec, pattern, engine_socket):
    spec = make_spec(clip, clip_analysis[0], hardware="encode")
    assert device_header(spec) is None
    headers = {}
    for hardware in ("decode", "encode"):
        payload = {"spec": replace(spec, hardware=hardware).to_json()}
        reply = call("worker.pipeline.child:header_entry", payload, limits=Limits(), timeout=60, reads=[clip])
        headers[hardware] = reply["header"]
    assert bytes.fromhex(headers["decode"])
    assert headers["encode"] is None
    with pytest.raises(MediaError) as caught:
        run_job(spec, pattern=pattern, engine_socket=engine_socket)
    assert caught.value.code == "device_missing"
    assert not list(spec.output_path.parent.iterdir())


def test_a_size_that_was_limited_is_said(clip, clip_analysis, make_spec, pattern, engine_socket):
    spec = make_spec(clip, clip_analysis[0], height=2160, trim_end=0.2)
    result = run_job(spec, pattern=pattern, engine_socket=engine_socket)
    assert (result.width, result.height, result.frames) == (1280, 960, 5)
    assert "size_limited" in result.warnings


def test_what_is_judged_of_a_track_is_judged_at_a_lower_rate_too(
    clip, clip_analysis, make_spec, pattern, engine_socket
):
    spec = make_spec(clip, clip_analysis[0], fps=5.0, trim_end=1.0, height=360, mark_mode="durable")
    result = run_job(spec, pattern=pattern, engine_socket=engine_socket)
    assert result.frames == 6
    assert result.quality["0"]["frames_judged"] >= 4  # five are drawn; of the last no later one may be left


def test_of_each_drawn_frame_the_first_that_is_there_is_judged_and_segments_do_not_matter():
    drawn = range(3, 100, 10)
    samples = Samples(drawn)
    assert [index for index in range(100) if samples.due(index)] == list(drawn)
    samples.start_anew()
    assert [index for index in range(0, 100, 4) if samples.due(index)] == [4, 16, 24, 36, 44, 56, 64, 76, 84, 96]
    apart = []
    for first in (0, 48):
        samples.start_anew()
        apart += [index for index in range(first, first + 48) if samples.due(index)]
    assert apart == [index for index in drawn if index < 96]
