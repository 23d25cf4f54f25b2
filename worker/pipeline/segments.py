"""A video as segments: where they lie, what names their results, and how these become the result of the whole.

The segment is the unit of work whatever the number of workers: each is rendered and encoded from its own frames and
the few before it, so its bytes do not depend on who made it, when, or after which other one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from worker.inference.packages import sha256_of
from worker.media.errors import MediaError
from worker.media.window import Window
from worker.pipeline.analysed import AnalysisError
from worker.pipeline.analysis import Analysis
from worker.pipeline.errors import PipelineError
from worker.spec import JobSpec

MOST_FRAMES: Final = 48
"""Of a segment: two seconds of work on two cores, so that little is lost with a worker."""
RUN_IN: Final = 36
"""Frames before a segment whose colour and light are looked at, never past a cut.

So many that no sample differs by more than 1/255 from a run without segments, on a clip under changing light and grain:
with 24 frames one differed by 2 now and then, with 12 some by 6, with none by 50. The memory keeps 0.75 of itself.
"""
ENCODER_THREADS: Final = 2
"""The same on every machine: the bytes that x264 writes depend on the number of its threads.

Frames before encoding are the same always. What x264 makes of them is the same where the width in macroblocks is a
multiple of eight (640, 1280, 1920); at others, its vectorised macroblock tree reads memory that nobody has written, and
two encodings of the same frames differ within the quality that was asked for. Without that tree files grow by half.
"""
_ROOMS: Final = ("worker/faces", "worker/inference", "worker/media", "worker/pipeline", "watermark")
_LIBRARIES: Final = ("av", "numpy", "numba", "opencv-python-headless")
_ELSEWHERE: Final = frozenset(
    {"job_id", "output_path", "output_mime", "aigc", "jpeg_quality", "memory_limit", "timeout", "analysis_path"}
    | {"target_path"}
)
"""Fields of a specification that do not change a segment's bytes; a field that is not named here does."""


@dataclass(frozen=True)
class Segment:
    """Frames `first` to `last`, both included, of a video; numbers count from 0 without gaps."""

    number: int
    first: int
    last: int

    @property
    def frames(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class TrackFacts:
    """Of one replaced track in one segment: judged frames (`Quality` as dicts), counts, the widest gap in degrees."""

    qualities: tuple[dict[str, Any], ...] = ()
    replaced: int = 0
    left_alone: int = 0
    widest_gap: float = 0.0


@dataclass(frozen=True)
class Part:
    """What is known of a rendered segment besides its file. JSON-able both ways; holds nothing biometric.

    `frames` are those of the target that it was made from, `pictures` those in its file: another frame rate shows some
    twice or not at all, and a part may have none. `first_pts` counts the result's time base; `first_seconds` and
    `last_seconds` count from the start of the result.
    `fingerprints` as in `reports.fingerprint_record`, `timings` are seconds per stage.
    """

    number: int
    frames: int
    pictures: int
    first_pts: int
    first_seconds: float
    last_seconds: float
    tracks: Mapping[str, TrackFacts] = field(default_factory=dict)
    fingerprints: tuple[dict[str, Any], ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    peak_rss: int = 0

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy; `from_dict` reverses it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote, each value brought to its type: a media child wrote it. Raises PipelineError."""
        try:
            return cls(
                number=int(raw["number"]),
                frames=int(raw["frames"]),
                pictures=int(raw["pictures"]),
                first_pts=int(raw["first_pts"]),
                first_seconds=float(raw["first_seconds"]),
                last_seconds=float(raw["last_seconds"]),
                tracks={
                    str(int(name)): TrackFacts(
                        tuple(dict(quality) for quality in facts["qualities"]),
                        int(facts["replaced"]),
                        int(facts["left_alone"]),
                        float(facts["widest_gap"]),
                    )
                    for name, facts in raw["tracks"].items()
                },
                fingerprints=tuple(
                    {"seconds": float(taken["seconds"]), "fingerprint": dict(taken["fingerprint"])}
                    for taken in raw["fingerprints"]
                ),
                timings={str(name): float(seconds) for name, seconds in raw["timings"].items()},
                warnings=tuple(str(warning) for warning in raw["warnings"]),
                peak_rss=int(raw["peak_rss"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PipelineError("part_invalid", str(error)) from error


def plan(analysis: Analysis, window: Window | None = None) -> tuple[Segment, ...]:
    """Cut the part `window` of a video into segments of at most MOST_FRAMES frames, at cuts where one is near.

    Raises PipelineError, MediaError `part_empty`. A function of the analysis and the part alone, so that all come
    to the same segments. A cut is the best place: a key frame stands there anyway, and nothing before it is looked at.
    Analyses that do not tell every frame's time (made by an older release) make one segment, since the frames of a
    later one could not be found.
    """
    info = analysis.info
    if info.kind != "video" or info.frames < 1:
        raise PipelineError("analysis_invalid", "not of a video")
    times = times_of(analysis)
    if times is None:
        return (Segment(0, 0, info.frames - 1),)
    cuts = cut_frames(times, info.cuts)
    segments: list[Segment] = []
    kept = kept_frames(times, window or Window())
    first = kept.start
    while first < kept.stop:
        end = _end(first, kept.stop, cuts)
        segments.append(Segment(len(segments), first, end - 1))
        first = end
    return tuple(segments)


def kept_frames(times: NDArray[np.float64], window: Window) -> range:
    """Numbers of the frames in `window`, given the seconds of all. Raises MediaError `part_empty`."""
    held = [index for index, seconds in enumerate(times) if window.holds(float(seconds))]
    if not held:
        raise MediaError("part_empty")
    return range(held[0], held[-1] + 1)


def _end(first: int, frames: int, cuts: Sequence[int]) -> int:
    """One past the last frame of the segment that begins at `first`."""
    near = [cut for cut in cuts if first + MOST_FRAMES // 2 <= cut <= min(first + MOST_FRAMES, frames)]
    if near:
        return near[-1]
    left = frames - first
    if left <= MOST_FRAMES:
        return frames
    # Two halves rather than a whole and a rest: a segment of one frame costs as much to begin as any.
    return first + (left + 1) // 2 if left < 2 * MOST_FRAMES else first + MOST_FRAMES


def times_of(analysis: Analysis) -> NDArray[np.float64] | None:
    """As `Analysis.times`, with its error as PipelineError `analysis_invalid`."""
    try:
        return analysis.times()
    except AnalysisError as error:
        raise PipelineError("analysis_invalid", error.message) from error


def cut_frames(times: NDArray[np.float64], cuts: Sequence[float]) -> tuple[int, ...]:
    """Numbers of the frames that begin a shot, given the seconds of all frames and of the cuts."""
    return tuple(int(place) for place in np.searchsorted(times, np.asarray(cuts, np.float64)) if place < len(times))


def shot_start(index: int, cuts: Collection[int]) -> int:
    """The first frame of the shot that frame `index` is in; `cuts` are the frames that begin one."""
    return max((cut for cut in cuts if cut <= index), default=0)


def run_in_start(segment: Segment, cuts: Sequence[int]) -> int:
    """The frame from which the way into `segment` is looked at: RUN_IN before it, or its shot's first frame."""
    return max(shot_start(segment.first, cuts), segment.first - RUN_IN, 0)


class Namer:
    """Names the results of a job's segments by everything their bytes follow from.

    That is the specification without paths, the files by their hashes, the analysis, the mark, this very code and its
    libraries, and the frames.
    """

    def __init__(self, spec: JobSpec, pattern: bytes, header: bytes = b"") -> None:
        """`header` are the parameter sets of the device that writes the parts, if one does. Raises OSError."""
        raw = {name: value for name, value in json.loads(spec.to_json()).items() if name not in _ELSEWHERE}
        for swap in raw["swaps"]:
            for photo in swap["sources"]:
                del photo["path"]
        # What reads the target changes nothing, what writes the parts does: those of two encoders cannot be joined.
        raw["hardware"] = hashlib.sha256(header).hexdigest() if spec.hardware == "encode" else ""
        analysis = sha256_of(spec.analysis_path)
        mark = hashlib.sha256(pattern).hexdigest()
        self._named = {"spec": raw, "analysis": analysis, "mark": mark, "code": code_version()}

    def address(self, segment: Segment) -> str:
        """The name of one result, 64 hexadecimal digits."""
        named = {**self._named, "frames": [segment.first, segment.last]}
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


@cache
def code_version() -> str:
    """A digest of the code that makes a segment, and of the libraries under it."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256(" ".join(f"{name} {version(name)}" for name in _LIBRARIES).encode())
    for room in _ROOMS:
        for path in sorted((root / room).rglob("*")):
            if path.suffix in {".py", ".json", ".toml"}:
                digest.update(f"\0{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()
