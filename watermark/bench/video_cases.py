"""The video cases: clips are marked, edited and encoded; how many frames does the reader need?"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import cv2
import numpy as np

from watermark import video
from watermark.bench.attack_kit import RGB, resized
from watermark.bench.attacks import seeded
from watermark.bench.attacks_geometric import turned
from watermark.bench.attacks_value import brightness
from watermark.bench.clips import CLIPS, FRAME_RATE, I420, Clip, planes_of
from watermark.bench.priority import ordinary_priority
from watermark.bench.quality import psnr
from watermark.bench.scenes import landscape
from watermark.bench.suite import bench_keys, in_processes
from watermark.embedding import MarkMode
from watermark.frames import FrameSequence
from watermark.keys import MarkKey

Frames = Iterable[RGB]
Step = Callable[[Frames, np.random.Generator], Iterator[RGB]]
BUDGETS = (1, 2, 4, 8, 16, FRAME_RATE, 2 * FRAME_RATE, 3 * FRAME_RATE, 10 * FRAME_RATE)
"""Numbers of first frames the reader is given, one after the other until it finds the mark."""
# Even so, two encodings of the same frames differ a little unless the width in macroblocks is a multiple of eight (see
# `worker.pipeline.segments`): a clip at the edge of what can be read, as some are at 480p, is read in one run and not
# in the next.
_X264 = {"preset": "fast", "x264-params": "threads=1:lookahead-threads=1"}
_X265 = {"preset": "fast", "x265-params": "log-level=none:pools=1:frame-threads=1"}
_ENCODERS: dict[str, dict[str, str]] = {
    "libx264": _X264,
    "libx265": _X265,
    "libsvtav1": {"preset": "9", "svtav1-params": "lp=1"},
    "libvpx-vp9": {"deadline": "good", "cpu-used": "5", "b": "0"},
}


@dataclass(frozen=True)
class VideoCase:
    """`goals`: frames (default, durable) within which the mark should be read; `frames` are made and encoded."""

    name: str
    what: str
    steps: tuple[Step, ...]
    goals: tuple[int, int] = (8, 1)

    @property
    def frames(self) -> int:
        """Frames of the clip that are needed to ask for every budget up to the goals, a second's at least."""
        return max(FRAME_RATE, *self.goals)


@dataclass(frozen=True)
class VideoRow:
    """`frames`: the smallest budget in which the id was read, None if in none. `goal`: frames it should have taken.

    `read_ms`: processor time of the last reading; `psnr` in dB of the first marked frame, in RGB.
    """

    clip: str
    case: str
    mode: MarkMode
    outcome: Literal["read", "none", "wrong"]
    frames: int | None
    goal: int
    read_ms: float
    psnr: float

    @property
    def met(self) -> bool:
        """Read within the goal."""
        return self.outcome == "read" and self.frames is not None and self.frames <= self.goal

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "met": self.met}


def encoded(frames: Frames, encoder: str, crf: int) -> bytes:
    """Encode RGB frames of one even size at a constant rate factor, on one thread, as Matroska."""
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 writes its settings to stderr otherwise
    data = io.BytesIO()
    with av.open(data, "w", format="matroska") as container:
        stream: Any = None
        for index, rgb in enumerate(frames):
            if stream is None:
                stream = container.add_stream(encoder, rate=FRAME_RATE)
                stream.height, stream.width = rgb.shape[:2]
                stream.pix_fmt, stream.thread_count = "yuv420p", 1
                stream.options = {**_ENCODERS[encoder], "crf": str(crf)}
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FRAME_RATE)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
    ordinary_priority()
    return data.getvalue()


def decoded(data: bytes) -> Iterator[RGB]:
    """Frames of an encoded clip in order."""
    with av.open(io.BytesIO(data)) as container:
        container.streams.video[0].thread_count = 1
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def through(encoder: str, crf: int) -> Step:
    """Encode and decode."""
    return lambda frames, draw: decoded(encoded(frames, encoder, crf))


def each(edit: Callable[[RGB], RGB]) -> Step:
    """The same edit on every frame; odd sides lose their last row or column, as encoders want it."""

    def step(frames: Frames, draw: np.random.Generator) -> Iterator[RGB]:
        for frame in frames:
            rgb = edit(frame)
            yield rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2]

    return step


def to_short_side(pixels: int) -> Step:
    """Scale so that the short side has `pixels`: 720 for "720p" of any shape."""

    def edit(rgb: RGB) -> RGB:
        factor = pixels / min(rgb.shape[:2])
        return resized(rgb, (round(rgb.shape[1] * factor / 2) * 2, round(rgb.shape[0] * factor / 2) * 2))

    return each(edit)


def crop(area: float) -> Step:
    """Keep a fraction of the area, at one seeded place all through."""

    def step(frames: Frames, draw: np.random.Generator) -> Iterator[RGB]:
        place = draw.random(2)
        for rgb in frames:
            height, width = (round(side * area**0.5) // 2 * 2 for side in rgb.shape[:2])
            top, left = int(place[0] * (rgb.shape[0] - height)), int(place[1] * (rgb.shape[1] - width))
            yield rgb[top : top + height, left : left + width]

    return step


def drop_half(frames: Frames, draw: np.random.Generator) -> Iterator[RGB]:
    """Leave out each frame with a chance of one half, the first never."""
    for index, rgb in enumerate(frames):
        if index == 0 or draw.random() < 0.5:
            yield rgb


def to_30_fps(frames: Frames, draw: np.random.Generator) -> Iterator[RGB]:
    """From 24 to 30 frames a second by showing every fourth frame twice."""
    for index, rgb in enumerate(frames):
        yield rgb
        if index % 4 == 3:
            yield rgb


def picture_in_picture(frames: Frames, draw: np.random.Generator) -> Iterator[RGB]:
    """At 60 % of its size, in a corner region of another picture with grain."""
    ground: RGB | None = None
    for rgb in frames:
        height, width = rgb.shape[:2]
        if ground is None:
            ground = landscape((width, height), draw)
        small = resized(rgb, (round(width * 0.6), round(height * 0.6)))
        noise = draw.standard_normal(ground.shape, np.float32)
        canvas = np.asarray(cv2.addWeighted(ground, 1.0, noise, 2.0, 0.0, dtype=cv2.CV_8U), np.uint8)
        top, left = round(height * 0.31), round(width * 0.12)
        canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
        yield canvas


def _x264_cases() -> Iterator[VideoCase]:
    for side in (None, 720, 480):
        for crf in (23, 28, 33, 38):
            scale = () if side is None else (to_short_side(side),)
            if side != 480:
                goals = (8, 1) if crf <= 33 else (3 * FRAME_RATE, FRAME_RATE)
            else:
                goals = (3 * FRAME_RATE, FRAME_RATE) if crf <= 33 else (10 * FRAME_RATE, 10 * FRAME_RATE)
            where = "native size" if side is None else f"{side}p"
            name = f"x264_{crf}" + ("" if side is None else f"_{side}p")
            yield VideoCase(name, f"H.264, CRF {crf}, {where}", (*scale, through("libx264", crf)), goals)


_H264_28 = through("libx264", 28)
CASES: dict[str, VideoCase] = {
    case.name: case
    for case in (
        *_x264_cases(),
        VideoCase("x265_28", "HEVC, CRF 28", (through("libx265", 28),)),
        VideoCase("x265_34", "HEVC, CRF 34", (through("libx265", 34),)),
        VideoCase("av1_35", "AV1, CRF 35", (through("libsvtav1", 35),)),
        VideoCase("av1_50", "AV1, CRF 50", (through("libsvtav1", 50),)),
        VideoCase("vp9_36_720p", "VP9, CRF 36, 720p", (to_short_side(720), through("libvpx-vp9", 36))),
        VideoCase("crop_0.5", "half the area, CRF 28", (crop(0.5), _H264_28)),
        VideoCase("crop_0.25", "a quarter of the area, CRF 28", (crop(0.25), _H264_28)),
        VideoCase("drop_half", "half of the frames dropped, CRF 28", (drop_half, _H264_28)),
        VideoCase("fps_24_30", "24 to 30 frames a second, CRF 28", (to_30_fps, _H264_28)),
        VideoCase("pip_0.6", "picture in picture at 0.6, CRF 28", (picture_in_picture, _H264_28)),
        VideoCase("rot_3", "turned by 3 degrees, CRF 28", (each(lambda rgb: turned(rgb, 3, corners=False)), _H264_28)),
        VideoCase(
            "flip_bright",
            "mirrored, brightness 1.2, CRF 28",
            (each(lambda rgb: brightness(np.ascontiguousarray(rgb[:, ::-1]), 1.2)), _H264_28),
        ),
        VideoCase(
            "three_times",
            "CRF 23, then 720p CRF 28, then 480p CRF 30",
            (through("libx264", 23), to_short_side(720), _H264_28, to_short_side(480), through("libx264", 30)),
            (3 * FRAME_RATE, FRAME_RATE),
        ),
        VideoCase(
            "x264_40_crop_dark",
            "CRF 40, then half the area (side .71), brightness .5",
            (through("libx264", 40), crop(0.504), each(lambda rgb: brightness(rgb, 0.5))),
            (3 * FRAME_RATE, 3 * FRAME_RATE),
        ),
    )
}


def chosen(names: Sequence[str]) -> list[VideoCase]:
    """Cases by name, all when none is given. Raises KeyError for a name that is none."""
    return [CASES[name] for name in names] if names else list(CASES.values())


def marked_frames(clip: Clip, count: int, mark_id: bytes, key: MarkKey, *, mode: MarkMode, seed: int) -> Iterator[RGB]:
    """Frames of `clip`, marked on their YUV planes and turned to RGB the way the encoder turns them back."""
    embedder = video.Embedder(mark_id, key, clip.size, mode)
    for frame in clip.frames(count, seed):
        embedder.embed_yuv420(*planes_of(frame))
        yield _rgb(frame)


def _first_psnr(clip: Clip, mark_id: bytes, key: MarkKey, mode: MarkMode, seed: int) -> float:
    plain = _rgb(next(clip.frames(1, seed)))
    return psnr(plain, next(marked_frames(clip, 1, mark_id, key, mode=mode, seed=seed)))


def _rgb(frame: I420) -> RGB:
    return np.asarray(av.VideoFrame.from_ndarray(frame, "yuv420p").to_ndarray(format="rgb24"), np.uint8)


def run_case(
    case: VideoCase, clip: Clip, mode: MarkMode, keys: Sequence[MarkKey], *, seed: int = 1, frames: int | None = None
) -> VideoRow:
    """Mark, edit and encode `clip`, then read its first 1, 2, 4, ... frames until the mark is found.

    `frames` makes the clip shorter than the case asks for.
    """
    count = min(frames or case.frames, case.frames)
    draw = seeded(seed, "video", clip.name, mode)
    mark_id, key = draw.bytes(8), keys[int(draw.integers(len(keys)))]
    pictures: Iterable[RGB] = marked_frames(clip, count, mark_id, key, mode=mode, seed=seed)
    chance = seeded(seed, "video", clip.name, case.name)
    for step in case.steps:
        pictures = step(pictures, chance)
    timed = [(index / FRAME_RATE, rgb) for index, rgb in enumerate(pictures)]
    goal = case.goals[mode != "default"]
    fidelity = _first_psnr(clip, mark_id, key, mode, seed)
    spent = 0.0
    for budget in BUDGETS:
        started = time.process_time()
        reading = video.read(FrameSequence(timed[:budget]), keys)
        spent = 1000 * (time.process_time() - started)
        if reading is not None:
            right = (reading.mark_id, reading.key) == (mark_id, key.name)
            return VideoRow(clip.name, case.name, mode, "read" if right else "wrong", budget, goal, spent, fidelity)
        if budget >= len(timed):
            break
    return VideoRow(clip.name, case.name, mode, "none", None, goal, spent, fidelity)


@dataclass(frozen=True)
class _Unit:
    case: str
    clip: str
    mode: MarkMode
    seed: int
    keys: int
    frames: int | None


def _run_unit(unit: _Unit) -> VideoRow:
    keys = bench_keys(unit.keys)
    return run_case(CASES[unit.case], CLIPS[unit.clip], unit.mode, keys, seed=unit.seed, frames=unit.frames)


def run_cases(
    cases: Sequence[VideoCase],
    modes: Sequence[MarkMode],
    *,
    seed: int = 1,
    jobs: int | None = None,
    keys: int = 3,
    clips: Sequence[str] = tuple(CLIPS),
    frames: int | None = None,
) -> Iterator[VideoRow]:
    """Every case on every clip in every mode, as they are ready, in `jobs` processes."""
    units = [_Unit(case.name, clip, mode, seed, keys, frames) for case in cases for clip in clips for mode in modes]
    yield from in_processes(_run_unit, units, jobs=jobs, keys=keys)


def _told(frames: int) -> str:
    return f"{frames // FRAME_RATE} s" if frames >= FRAME_RATE else f"{frames} fr"


def table(rows: Sequence[VideoRow]) -> str:
    """Frames needed by case, clip and mode; "!" where that is more than the goal."""
    by_place = {(row.case, row.clip, row.mode): row for row in rows}
    modes: list[MarkMode] = [mode for mode in ("default", "durable") if any(row.mode == mode for row in rows)]
    clips = [clip for clip in CLIPS if any(row.clip == clip for row in rows)]
    heads = "".join(f"{mode + ' ' + clip:>14}" for mode in modes for clip in clips)
    lines = [f"{'frames needed':<22}{'goals':>14}{heads}"]
    for case in [case for name, case in CASES.items() if any(row.case == name for row in rows)]:
        goals = " | ".join(_told(case.goals[mode != "default"]) for mode in modes)
        cells = ""
        for mode in modes:
            for clip in clips:
                row = by_place.get((case.name, clip, mode))
                said = "-" if row is None else "WRONG" if row.outcome == "wrong" else str(row.frames or "fail")
                cells += f"{said + ('' if row is None or row.met else ' !'):>14}"
        lines.append(f"{case.name:<22}{goals:>14}{cells}")
    for mode in modes:
        own = [row for row in rows if row.mode == mode]
        said = ", ".join(f"{clip} {found:.1f} dB" for clip, found in {row.clip: row.psnr for row in own}.items())
        lines.append(f"{mode}: {sum(row.met for row in own)} of {len(own)} within their goals; PSNR {said}")
    return "\n".join(lines)
