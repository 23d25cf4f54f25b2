"""Processor time of the mark on one thread: median milliseconds of each thing it is asked to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import cv2
import numpy as np

from watermark import image, video
from watermark.bench.attack_kit import RGB, cropped, jpeg, scaled
from watermark.bench.attacks import seeded
from watermark.bench.scenes import landscape
from watermark.bench.suite import warm_up
from watermark.keys import MarkKey
from watermark.reading import Effort

FULL_HD = (1920, 1080)


@dataclass(frozen=True)
class Timing:
    """Median and worst processor milliseconds of `runs`; `goal_ms` is what it should take. `note`: what was read."""

    what: str
    median_ms: float
    worst_ms: float
    runs: int
    goal_ms: float
    note: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def _time(what: str, goal: float, runs: int, act: Callable[[], str]) -> Timing:
    act()
    times = []
    note = ""
    for _ in range(runs):
        started = time.process_time()
        note = act()
        times.append(1000 * (time.process_time() - started))
    return Timing(what, median(times), max(times), runs, goal, note)


def _read(what: str, goal: float, runs: int, *, rgb: RGB, keys: Sequence[MarkKey], effort: Effort) -> Timing:
    def act() -> str:
        reading = image.read(rgb, keys, effort)
        return "nothing found" if reading is None else f"read by {reading.effort}"

    return _time(what, goal, runs, act)


def timings(keys: Sequence[MarkKey], runs: int = 9) -> Iterator[Timing]:
    """Time embedding and reading at 1080p, one after the other. The last of `keys` wrote the mark: the worst case."""
    warm_up(keys)
    plain = landscape(FULL_HD, seeded(1, "speed"))
    mark_id, key = b"speedrun", keys[-1]
    yield _time("embed, RGB 1080p", 8, runs, lambda: str(image.embed(plain, mark_id, key).shape))
    embedder = video.Embedder(mark_id, key, FULL_HD)
    yield _time("embed, RGB 1080p video frame", 8, runs, lambda: str(embedder.embed(plain).shape))
    planes = np.asarray(cv2.cvtColor(plain, cv2.COLOR_RGB2YUV_I420), np.uint8).ravel()
    area = FULL_HD[0] * FULL_HD[1]
    y = planes[:area].reshape(FULL_HD[1], FULL_HD[0])
    u, v = planes[area:].reshape(2, FULL_HD[1] // 2, FULL_HD[0] // 2)

    def embed_planes() -> str:
        embedder.embed_yuv420(y, u, v)
        return str(y.shape)

    yield _time("embed, YUV 4:2:0 1080p video frame", 5, runs, embed_planes)
    marked = image.embed(plain, mark_id, key)
    part = jpeg(scaled(cropped(marked, 0.4, seeded(1, "speed", "crop")), 0.8), 75)
    yield _read("read, uncropped", 30, runs, rgb=marked, keys=keys, effort="deep")
    yield _read("read, uncropped, JPEG 75", 30, runs, rgb=jpeg(marked, 75), keys=keys, effort="deep")
    yield _read("read by search (crop .4, size .8, JPEG 75)", 150, runs, rgb=part, keys=keys, effort="deep")
    yield _read("no mark, effort full", 300, runs, rgb=plain, keys=keys, effort="full")
    yield _read("no mark, effort deep", 1500, max(3, runs // 3), rgb=plain, keys=keys, effort="deep")
