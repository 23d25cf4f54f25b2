"""The task process's side of a run: check, start the media child, follow it, and leave nothing half-done behind."""

from __future__ import annotations

import base64
import glob
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args

from worker.faces.errors import FaceError, FaceErrorCode
from worker.inference.endpoint import reach
from worker.inference.packages import sha256_of
from worker.inference.registry import BUILTIN, ModelSet
from worker.inference.types import ModelError, ModelErrorCode
from worker.media.client import identify
from worker.media.errors import ChildError, MediaError
from worker.media.sandbox import Child, Limits, call
from worker.model_choice import MESH, converter_of
from worker.pipeline.analysed import AnalysisError, AnalysisSummary
from worker.pipeline.analysis import Analysis
from worker.pipeline.devices import granted
from worker.pipeline.errors import PipelineError
from worker.pipeline.progress import Follower, Progress
from worker.pipeline.segments import Part, Segment
from worker.pipeline.warm import compiled_code
from worker.spec import JobSpec

__all__ = ["AnalysisSummary", "JobResult", "Progress", "analyse", "join_job", "run_job", "segment_worker"]

_DIAL_SECONDS: Final = 10.0
_ANALYSIS_MEMORY: Final = 4 << 30
_ANALYSIS_SECONDS: Final = 3 * 3600.0
_SEGMENT_SECONDS: Final = 3600.0
_JOIN_SECONDS: Final = 3600.0
_SPARE_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class JobResult:
    """A finished, marked, unsigned output and what is known of it.

    `timings` are seconds of work per stage, `quality` is per replaced face or track, with the models that made it,
    `fingerprint` holds one entry for a photo and one per second for a video, `peak_rss` is the largest resident set of
    the child in bytes, `codec_seconds` the processor time that its codecs took.
    """

    output: Path
    mime: str
    width: int
    height: int
    duration: float | None
    frames: int
    timings: dict[str, float]
    quality: dict[str, Any]
    fingerprint: dict[str, Any]
    peak_rss: int
    warnings: list[str]
    codec_seconds: float = 0.0


def analyse(
    path: Path,
    out: Path,
    *,
    engine_socket: Path,
    models: str = "builtin",
    work_dir: Path,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    threads: int | None = None,
    cards: ModelSet = BUILTIN,
    neural: bool = False,
) -> AnalysisSummary:
    """Find and follow the faces of a photo or video in a media child and write the analysis to `out`.

    `out` lies in `work_dir`, the only folder the child may write to; `cards` are the models of the engine, with
    `neural` the operator's are used. No face is no error: the summary has no tracks.
    Raises MediaError, FaceError, ModelError, PipelineError; `out` does not exist then.
    """
    path, out, work_dir = path.resolve(), out.resolve(), work_dir.resolve()
    if not out.is_relative_to(work_dir):
        raise ValueError("The analysis must lie in the work folder.")
    kind = identify(path).kind
    threads = threads or _cores()
    payload = {"path": str(path), "out": str(out), "models": models, "kind": kind, "threads": threads}
    payload |= {"cards": cards.to_json(), "neural": neural}
    with _leaving_nothing(out), engine_connection(engine_socket) as fd:
        reply = _call(
            "worker.pipeline.child:analyse_entry",
            payload,
            fd=fd,
            limits=_limits(_ANALYSIS_MEMORY, _ANALYSIS_SECONDS, threads),
            timeout=_ANALYSIS_SECONDS,
            reads=[path],
            writes=[work_dir],
            compiled=compiled_code(engine_socket.parent),
            progress=progress,
            should_stop=should_stop,
        )
        try:
            return replace(
                Analysis.load(out).info, peak_rss=int(reply["peak_rss"]), codec_seconds=float(reply["codec_seconds"])
            )
        except AnalysisError as error:
            raise PipelineError("analysis_invalid", error.message) from error


def run_job(
    spec: JobSpec,
    *,
    pattern: bytes,
    engine_socket: Path,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    threads: int | None = None,
    cards: ModelSet = BUILTIN,
) -> JobResult:
    """Carry out a job in a media child: `spec.output_path` is written, marked with `pattern` and unsigned.

    `pattern` is `MarkPattern.to_bytes()`: the child gets no key. `cards` are the models of the engine. The output
    appears whole or not at all; an older file at that path is never touched before. Raises MediaError, FaceError,
    ModelError, PipelineError.
    """
    _check_files(spec)
    _check_room(spec)
    threads = threads or _cores()
    payload = {"spec": spec.to_json(), "pattern": base64.b64encode(pattern).decode(), "threads": threads}
    payload["cards"] = cards.to_json()
    devices, memory = granted(spec)
    with _leaving_nothing(spec.output_path), engine_connection(engine_socket) as fd:
        reply = _call(
            "worker.pipeline.child:job_entry",
            payload,
            fd=fd,
            limits=_limits(memory, spec.timeout, threads),
            timeout=spec.timeout,
            reads=_inputs(spec),
            writes=[spec.output_path.resolve().parent, *devices],
            compiled=compiled_code(engine_socket.parent),
            progress=progress,
            should_stop=should_stop,
        )
        return _result(spec, reply)


class SegmentWorker:
    """A media child that renders segments of one video job, one after the other; made by `segment_worker`.

    It stays open between segments: that is where its sources, its place in the file and its codecs are.
    """

    def __init__(self, child: Child, should_stop: Callable[[], bool] | None) -> None:
        self._child = child
        self._should_stop = should_stop

    def render(self, segment: Segment, out: Path, progress: Callable[[int], None] | None = None) -> Part:
        """Write `segment` to `out`, in the job's writable folder; `progress` is told its finished frames.

        Raises as `run_job`, and MediaError `canceled` when the job's `should_stop` says so; no file is left then, and
        the child cannot be used any more.
        """
        self._child.order({"number": segment.number, "first": segment.first, "last": segment.last, "out": str(out)})
        with _leaving_nothing(out), _known_errors():
            for message in self._child.messages(_SEGMENT_SECONDS, self._should_stop):
                if "part" in message:
                    part = Part.from_dict(message["part"])
                    if part.number != segment.number or part.frames != segment.frames or not out.is_file():
                        raise MediaError("child_died", "another segment than was asked for")
                    return part
                if progress is not None and message.get("stage") == "encode":
                    progress(max(0, min(segment.frames, int(message["done"]) - segment.first)))
        raise MediaError("child_died", "no segment")


@contextmanager
def segment_worker(
    spec: JobSpec,
    *,
    pattern: bytes,
    engine_socket: Path,
    should_stop: Callable[[], bool] | None = None,
    threads: int | None = None,
    cards: ModelSet = BUILTIN,
) -> Iterator[SegmentWorker]:
    """Open a media child for segments of a video job; results lie in the folder of `spec.output_path`.

    `cards` and errors as in `run_job`.
    """
    _check_files(spec)
    _check_room(spec)
    threads = threads or _cores()
    payload = {"spec": spec.to_json(), "pattern": base64.b64encode(pattern).decode(), "threads": threads}
    payload["cards"] = cards.to_json()
    devices, memory = granted(spec)
    with engine_connection(engine_socket) as fd:
        child = Child(
            "worker.pipeline.child:segments_entry",
            payload,
            fds=[fd],
            limits=_limits(memory, spec.timeout, threads),
            reads=_inputs(spec),
            writes=[spec.output_path.resolve().parent, *devices],
            compiled=compiled_code(engine_socket.parent),
        )
        with child:
            yield SegmentWorker(child, should_stop)


def join_job(
    spec: JobSpec,
    parts: Sequence[tuple[Part, Path]],
    *,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> JobResult:
    """Join rendered segments, in order, to `spec.output_path` in a media child: nothing is encoded again.

    Raises as `run_job`, MediaError `part_broken` where a file is not what its part says.
    """
    _check_room(spec)
    payload = {
        "spec": spec.to_json(),
        "parts": [part.to_dict() for part, _ in parts],
        "files": [str(path) for _, path in parts],
    }
    with _leaving_nothing(spec.output_path):
        reply = _call(
            "worker.pipeline.child:join_entry",
            payload,
            fd=None,
            limits=_limits(spec.memory_limit, _JOIN_SECONDS, 2),
            timeout=_JOIN_SECONDS,
            reads=[spec.target_path.resolve(), *(path for _, path in parts)],
            writes=[spec.output_path.resolve().parent],
            progress=progress,
            should_stop=should_stop,
        )
        return _result(spec, reply)


def _call(
    target: str,
    payload: Mapping[str, Any],
    *,
    fd: int | None,
    limits: Limits,
    timeout: float,
    reads: list[Path],
    writes: list[Path],
    compiled: Path | None = None,
    progress: Callable[[Progress], None] | None,
    should_stop: Callable[[], bool] | None,
) -> dict[str, Any]:
    with _known_errors():
        return call(
            target,
            payload,
            fds=[] if fd is None else [fd],
            limits=limits,
            timeout=timeout,
            on_message=Follower(progress),
            should_stop=should_stop,
            reads=reads,
            writes=writes,
            compiled=compiled,
        )


@contextmanager
def _known_errors() -> Iterator[None]:
    try:
        yield
    except ChildError as error:
        raise known_error(error) from error


def _result(spec: JobSpec, reply: Mapping[str, Any]) -> JobResult:
    if not spec.output_path.is_file():
        raise MediaError("child_died", "no output")
    outcome = dict(reply["outcome"])
    made = {
        "swapper": spec.swapper,
        "converter": converter_of(spec.swapper),
        "enhancer": spec.enhancer,
        "upscaler": spec.upscaler,
        "masks": list(spec.masking.types) if spec.swapper != MESH else [],
        "pixel_boost": spec.pixel_boost,
        "model_set": spec.model_set,
    }
    outcome["quality"] = {face: {**record, **made} for face, record in outcome["quality"].items()}
    return JobResult(
        output=spec.output_path,
        mime=spec.output_mime,
        peak_rss=int(reply["peak_rss"]),
        codec_seconds=float(reply.get("codec_seconds", 0.0)),  # of what one child did alone
        **outcome,
    )


def _inputs(spec: JobSpec) -> list[Path]:
    sources = {photo.path.resolve() for swap in spec.swaps for photo in swap.sources}
    return [spec.target_path.resolve(), spec.analysis_path.resolve(), *sources]


def known_error(error: ChildError) -> Exception:
    """Return the error that a package of ours raised in the child, as that package's own type."""
    kind = error.kind.rpartition(".")[2]
    if kind == "FaceError" and error.code in get_args(FaceErrorCode):
        face = FaceError(error.code)  # type: ignore[arg-type]
        face.message = error.message
        return face
    if kind == "ModelError" and error.code in get_args(ModelErrorCode):
        return ModelError(error.code, error.message)  # type: ignore[arg-type]
    if kind == "PipelineError":
        return PipelineError(error.code)
    if kind == "AnalysisError":
        return PipelineError("analysis_invalid", error.message)
    if kind == "MarkError":
        return PipelineError("unmarkable", error.message)
    if kind == "LabelError":
        return PipelineError("label_impossible", error.message)
    return MediaError("child_failed", f"{error.kind}: {error.message}\n{error.trace}")


@contextmanager
def engine_connection(path: Path) -> Iterator[int]:
    """Open a connection to the engine for a child that has no way to open one."""
    with reach(path, _DIAL_SECONDS) as sock:
        yield sock.fileno()


@contextmanager
def _leaving_nothing(out: Path) -> Iterator[None]:
    """Remove what is half-written of `out`, and its segments, where the child had no chance to; on failure `out`."""
    existed = out.exists()
    try:
        yield
    except BaseException:
        if not existed:
            out.unlink(missing_ok=True)
        raise
    finally:
        name = glob.escape(out.name)
        for half in [*out.parent.glob(f".{name}*.part"), *out.parent.glob(f"{name}.*.part")]:
            half.unlink(missing_ok=True)


def _check_files(spec: JobSpec) -> None:
    wanted = {spec.target_path: spec.target_sha256}
    wanted |= {photo.path: photo.sha256 for swap in spec.swaps for photo in swap.sources}
    for path, digest in wanted.items():
        if sha256_of(path) != digest.lower():
            raise PipelineError("file_changed", path.name)


def _check_room(spec: JobSpec) -> None:
    """Refuse before hours of work what can hardly fit: parts, the whole, and a copy with its index in front."""
    free = shutil.disk_usage(spec.output_path.parent).free
    need = (3 if spec.kind == "video" else 2) * spec.target_path.stat().st_size + _SPARE_BYTES
    if free < need:
        raise MediaError("disk_full", f"{free >> 20} MiB free, {need >> 20} MiB wanted")


def _limits(memory: int, seconds: float, threads: int) -> Limits:
    return Limits(memory=memory, cpu_seconds=int(seconds * max(2, threads)), threads=threads)


def _cores() -> int:
    return max(1, min(8, len(os.sched_getaffinity(0))))
