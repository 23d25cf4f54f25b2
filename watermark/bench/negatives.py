"""False alarms: pictures without a mark of ours, and pictures full of somebody else's, under random edits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from watermark import image
from watermark.bench.attack_kit import RGB, cropped, scaled
from watermark.bench.attacks import ATTACKS, seeded
from watermark.bench.corpus import Picture
from watermark.bench.suite import bench_keys, in_processes
from watermark.keys import MarkKey, derive_mark_key
from watermark.lock import Lock
from watermark.payload import CHECK_BITS
from watermark.reading import Attempts, Effort

_SLOW = frozenset({"nlm_8", "total_variation", "hevc_still_30", "scale_2_kept", "cut_out_40", "collage_4"})
_EDITS = tuple(name for name in ATTACKS if name not in _SLOW)
_FREQUENT = (
    "none",
    "jpeg_75",
    "jpeg_50",
    "flip_h",
    "crop_0.5",
    "crop_0.25",
    "scale_0.5_kept",
    "rot_3_inside",
    "repost_x3",
)
_LEAST_AREA, _MOST_AREA = 0.06e6, 0.8e6
"""Pixels of a negative before its edits; the reader brings larger ones down to the same canonical frame anyway."""


@dataclass
class Observed:
    """What the reader did on the way: the best lock it made (standard deviations), and the code words it checked."""

    best: float = 0.0
    attempts: int = 0


@contextmanager
def observed() -> Iterator[Observed]:
    """Watch every reading inside: one that finds nothing returns nothing, so its locks are seen only from here."""
    seen = Observed()
    make, decode = Lock.__init__, Attempts.decode

    def made(self: Lock, *values: Any, **named: Any) -> None:
        make(self, *values, **named)
        seen.best = max(seen.best, self.z)

    def counted(self: Attempts, *values: Any, **named: Any) -> bytes | None:
        before = self.made
        mark_id = decode(self, *values, **named)
        seen.attempts += self.made - before
        return mark_id

    Lock.__init__ = made  # type: ignore[method-assign]
    Attempts.decode = counted  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        Lock.__init__ = make  # type: ignore[method-assign]
        Attempts.decode = decode  # type: ignore[method-assign]


@dataclass(frozen=True)
class Negative:
    """One check of a picture that carries nothing of ours.

    `foreign`: it carries a mark under another key. `edits`: names of the attacks. `best`: highest lock, in standard
    deviations. `read_ms`: processor time.
    """

    seed: int
    picture: str
    foreign: bool
    edits: tuple[str, ...]
    accepted: bool
    attempts: int
    best: float
    read_ms: float


@dataclass(frozen=True)
class FalseAlarms:
    """Sums over `checks`. `bound_log10`: log10 of the false-alarm probability of one check, from its mean attempts."""

    checks: int
    foreign: int
    accepted: int
    attempts: int
    most_attempts: int
    best: float
    mean_read_ms: float
    bound_log10: float
    histogram: tuple[tuple[float, int], ...]
    """(lower edge of a half-deviation bin of the best lock, checks in it)."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def make_negative(seed: int, pictures: Sequence[Picture]) -> tuple[RGB, str, bool, tuple[str, ...]]:
    """The negative of `seed`: pixels, picture, whether it carries another key's mark, and the edits it went through."""
    draw = seeded(seed, "negative")
    picture = pictures[int(draw.integers(len(pictures)))]
    rgb = _pixels(picture)
    area = float(np.exp(draw.uniform(np.log(_LEAST_AREA), np.log(_MOST_AREA))))
    part = cropped(rgb, float(draw.uniform(0.3, 1.0)), draw)
    rgb = scaled(part, min(1.5, (area / (part.shape[0] * part.shape[1])) ** 0.5))
    foreign = bool(draw.random() < 0.6) and image.markable(rgb) is None
    if foreign:
        key = derive_mark_key(b"somebody else's secret", deployment=f"stranger-{seed % 997}", year=2020 + seed % 7)
        rgb = image.embed(rgb, draw.bytes(8), key, "durable" if draw.random() < 0.5 else "default")
    edits = [str(draw.choice(_FREQUENT))]
    if draw.random() < 0.5:
        edits.append(str(draw.choice(_EDITS)))
    for name in edits:
        rgb = ATTACKS[name](rgb, draw)
    return rgb, picture.name, foreign, tuple(edits)


@lru_cache(maxsize=24)
def _pixels(picture: Picture) -> RGB:
    return picture.pixels()


def check_negative(seed: int, pictures: Sequence[Picture], keys: Sequence[MarkKey], effort: Effort) -> Negative:
    """Make the negative of `seed` and read it."""
    rgb, name, foreign, edits = make_negative(seed, pictures)
    with observed() as seen:
        started = time.process_time()
        reading = image.read(rgb, keys, effort)
        spent = time.process_time() - started
    return Negative(seed, name, foreign, edits, reading is not None, seen.attempts, seen.best, 1000 * spent)


@dataclass(frozen=True)
class _Unit:
    seed: int
    pictures: tuple[Picture, ...]
    effort: Effort
    keys: int


def _check_unit(unit: _Unit) -> Negative:
    return check_negative(unit.seed, unit.pictures, bench_keys(unit.keys), unit.effort)


def run_negatives(
    pictures: Sequence[Picture],
    count: int,
    *,
    seed_from: int = 0,
    effort: Effort = "deep",
    jobs: int | None = None,
    keys: int = 3,
) -> Iterator[Negative]:
    """The negatives of the seeds seed_from ... seed_from + count - 1, as they are ready, in `jobs` processes.

    Runs over adjoining ranges add up to one longer run.
    """
    units = [_Unit(seed, tuple(pictures), effort, keys) for seed in range(seed_from, seed_from + count)]
    yield from in_processes(_check_unit, units, jobs=jobs, keys=keys, chunk=4)


def false_alarms(found: Sequence[Negative]) -> FalseAlarms:
    """Add up. Raises ValueError for an empty sequence."""
    if not found:
        raise ValueError("There are no negatives to add up.")
    bins: dict[float, int] = {}
    for one in found:
        edge = np.floor(2 * one.best) / 2
        bins[float(edge)] = bins.get(float(edge), 0) + 1
    attempts = sum(one.attempts for one in found)
    mean = max(attempts / len(found), 1 / len(found))
    return FalseAlarms(
        checks=len(found),
        foreign=sum(one.foreign for one in found),
        accepted=sum(one.accepted for one in found),
        attempts=attempts,
        most_attempts=max(one.attempts for one in found),
        best=max(one.best for one in found),
        mean_read_ms=sum(one.read_ms for one in found) / len(found),
        bound_log10=float(np.log10(mean) - CHECK_BITS * np.log10(2)),
        histogram=tuple(sorted(bins.items())),
    )
