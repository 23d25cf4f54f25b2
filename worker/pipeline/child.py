"""What the media child is asked to do for a job: analyse one file, or carry one job out.

Imports are made where they are needed, so that the fork server alone decides what every child has from the start.
"""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from watermark.pattern import MarkPattern
from worker.inference.client import EngineClient
from worker.inference.registry import ModelSet
from worker.inference.types import Service
from worker.media.child import Channel, peak_memory
from worker.media.codec_time import codec_seconds
from worker.memory import keep_freed
from worker.pipeline.photo_analysis import Report
from worker.spec import JobSpec

_REPORT_SECONDS: Final = 0.2


def preload() -> None:
    """What the fork server loads before it forks the first of these children: a photo waits for no import."""
    from worker.pipeline import photo, photo_analysis, video, video_analysis  # noqa: F401
    from worker.pipeline.warm import compile_loops

    compile_loops()


def analyse_entry(payload: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Analyse "path" into "out". The connection to the engine is the first descriptor."""
    _settle()
    path, out, models = Path(payload["path"]), Path(payload["out"]), str(payload["models"])
    report = _reporter(channel)
    with _engine(payload, channel, _service(payload["kind"])) as runner:
        if payload["neural"]:
            from worker.pipeline.neural_analysis import analyse_neural

            summary = analyse_neural(
                path,
                out,
                runner,
                runner.models,
                photo=payload["kind"] == "photo",
                report=report,
                raise_if_stopped=channel.raise_if_stopped,
                threads=int(payload["threads"]),
            )
        elif payload["kind"] == "photo":
            from worker.pipeline.photo_analysis import analyse_photo

            summary = analyse_photo(path, out, runner, models, report)
        else:
            from worker.pipeline.video_analysis import analyse_video

            summary = analyse_video(
                path,
                out,
                runner,
                models,
                report=report,
                raise_if_stopped=channel.raise_if_stopped,
                threads=int(payload["threads"]),
            )
    return {"tracks": len(summary.tracks), "peak_rss": peak_memory(), "codec_seconds": codec_seconds()}


def job_entry(payload: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Carry out the job "spec" with the mark "pattern". The connection to the engine is the first descriptor."""
    _settle()
    spec = JobSpec.from_json(payload["spec"])
    pattern = MarkPattern.from_bytes(base64.b64decode(payload["pattern"]))
    report = _reporter(channel)
    with _engine(payload, channel, _service(spec.kind)) as runner:
        if spec.kind == "photo":
            from worker.pipeline.photo import run_photo

            outcome = run_photo(spec, pattern, runner, report, models=runner.models)
        else:
            from worker.pipeline.video import run_video

            outcome = run_video(
                spec,
                pattern,
                runner,
                report,
                channel.raise_if_stopped,
                threads=int(payload["threads"]),
                models=runner.models,
            )
    return {"outcome": asdict(outcome), "peak_rss": peak_memory(), "codec_seconds": codec_seconds()}


def segments_entry(payload: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Render segments of the job "spec" as they are ordered, until the order {"end"}.

    An order is {"number", "first", "last", "out"}; the answer, after messages of progress, is a message {"part"} with
    `Part.to_dict()`. Each order's result stands alone, so this process may end between any two.
    """
    from worker.pipeline.segments import Segment
    from worker.pipeline.video import opened

    _settle()
    spec = JobSpec.from_json(payload["spec"])
    pattern = MarkPattern.from_bytes(base64.b64decode(payload["pattern"]))
    with (
        _engine(payload, channel, "offline") as runner,
        opened(
            spec,
            pattern,
            runner,
            _reporter(channel),
            channel.raise_if_stopped,
            threads=int(payload["threads"]),
            models=runner.models,
        ) as renderer,
    ):
        while "end" not in (order := channel.next_order()):
            segment = Segment(int(order["number"]), int(order["first"]), int(order["last"]))
            part = renderer.render(segment, Path(order["out"]))
            channel.send({"part": {**part.to_dict(), "peak_rss": peak_memory()}})
    return {"peak_rss": peak_memory()}


def header_entry(payload: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Open the encoder of the job "spec": "header" is in hexadecimal digits what it would write first, or None."""
    from worker.pipeline.video import header_for

    header = header_for(JobSpec.from_json(payload["spec"]))
    return {"header": None if header is None else header.hex()}


def join_entry(payload: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Join the files "files", rendered as the "parts" say, to the output of the job "spec"."""
    from worker.pipeline.segments import Part
    from worker.pipeline.video import join

    spec = JobSpec.from_json(payload["spec"])
    parts = [Part.from_dict(part) for part in payload["parts"]]
    outcome = join(spec, parts, [Path(file) for file in payload["files"]], _reporter(channel))
    return {"outcome": asdict(outcome), "peak_rss": max([peak_memory(), *(part.peak_rss for part in parts)])}


def _service(kind: str) -> Service:
    """Somebody waits for a photo; a video takes its time anyway."""
    return "interactive" if kind == "photo" else "offline"


@contextmanager
def _engine(payload: Mapping[str, Any], channel: Channel, service: Service) -> Iterator[EngineClient]:
    """The engine with the models whose cards came along: this process may not read their folder."""
    models = ModelSet.from_json(payload.get("cards", "{}"))
    client = EngineClient.from_socket(socket.socket(fileno=channel.fds[0]), service, models)
    try:
        yield client
    finally:
        client.close()


def _reporter(channel: Channel) -> Report:
    """Return a `Report` that tells the parent at most five times a second, and of every new stage at once."""
    last: tuple[str, float] = ("", 0.0)

    def report(stage: str, done: int, total: int | None) -> None:
        nonlocal last
        channel.raise_if_stopped()
        now = time.monotonic()
        if stage != last[0] or now - last[1] >= _REPORT_SECONDS or done == total:
            last = (stage, now)
            channel.send({"stage": stage, "done": done, "total": total})

    return report


def _settle() -> None:
    """How this process uses threads and memory: it works through one file and ends."""
    import cv2

    # The stages are the parallelism; OpenCV's own threads on top of them only fight over the cores.
    cv2.setNumThreads(1)
    keep_freed()
