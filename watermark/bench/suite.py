"""The suite: mark a picture, hurt it, read it, and write down what came of it."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar

import cv2
import numpy as np

from watermark import embedding, fingerprint, image
from watermark.bench.attack_kit import RGB, Attack
from watermark.bench.attacks import ATTACKS, seeded
from watermark.bench.corpus import Picture
from watermark.bench.quality import psnr, ssim
from watermark.embedding import MarkMode
from watermark.keys import MarkKey, derive_mark_key
from watermark.reading import Effort

Outcome = Literal["read", "none", "wrong"]
_Work = TypeVar("_Work")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Row:
    """One picture in one mode under one attack.

    `outcome`: the id was read, nothing was found, or a wrong id was accepted. `score` and `spent` (effort) are of the
    reading, None without one. `read_ms`: processor time of the reader. `psnr` in dB, `ssim` over RGB, of the marked
    picture. `content`: whether the fingerprint judges the hurt picture ours (None where nothing was read), with
    `correlation` of its grid.
    """

    picture: str
    kind: str
    mode: MarkMode
    attack: str
    group: str
    outcome: Outcome
    spent: str | None
    score: float | None
    read_ms: float
    psnr: float
    ssim: float
    content: bool | None
    correlation: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def bench_keys(count: int = 3) -> list[MarkKey]:
    """`count` keys of the bench's own: no deployment's keys are needed or touched."""
    return [derive_mark_key(b"the bench's public secret", deployment="bench", year=2020 + i) for i in range(count)]


def run_picture(
    picture: Picture,
    rgb: RGB,
    attacks: Sequence[Attack],
    modes: Sequence[MarkMode],
    keys: Sequence[MarkKey],
    *,
    seed: int = 1,
    effort: Effort = "deep",
) -> Iterator[Row]:
    """Rows of one picture, `rgb` uint8 [H, W, 3]; a picture that cannot carry a mark gives none."""
    if image.markable(rgb) is not None:
        return
    for mode in modes:
        draw = seeded(seed, picture.name, mode)
        mark_id, key = draw.bytes(8), keys[int(draw.integers(len(keys)))]
        marked = image.embed(rgb, mark_id, key, mode)
        record = fingerprint.take(marked)
        decibels, likeness = psnr(rgb, marked), ssim(rgb, marked)
        for attack in attacks:
            # The same chance in both modes: the modes are compared on the same crops and noise.
            hurt = attack(marked, seeded(seed, picture.name, attack.name))
            started = time.process_time()
            reading = image.read(hurt, keys, effort)
            spent = time.process_time() - started
            match = None if reading is None else fingerprint.compare(record, hurt, reading.geometry)
            outcome: Outcome = "none"
            if reading is not None:
                outcome = "read" if (reading.mark_id, reading.key) == (mark_id, key.name) else "wrong"
            yield Row(
                picture=picture.name,
                kind=picture.kind,
                mode=mode,
                attack=attack.name,
                group=attack.group,
                outcome=outcome,
                spent=reading.effort if reading else None,
                score=reading.score if reading else None,
                read_ms=1000 * spent,
                psnr=decibels,
                ssim=likeness,
                content=match.matches if match else None,
                correlation=match.grid_correlation if match else None,
            )


def run_pictures(
    pictures: Iterable[Picture],
    attacks: Sequence[Attack],
    modes: Sequence[MarkMode] = ("default", "durable"),
    keys: Sequence[MarkKey] | None = None,
    *,
    seed: int = 1,
    effort: Effort = "deep",
) -> Iterator[Row]:
    """Rows of all `pictures`, one after the other in this process."""
    for picture in pictures:
        yield from run_picture(
            picture, picture.pixels(), attacks, modes, keys or bench_keys(), seed=seed, effort=effort
        )


def run_parallel(
    pictures: Sequence[Picture],
    attacks: Sequence[Attack],
    modes: Sequence[MarkMode] = ("default", "durable"),
    *,
    seed: int = 1,
    effort: Effort = "deep",
    jobs: int | None = None,
    keys: int = 3,
    target_db: float | None = None,
) -> Iterator[list[Row]]:
    """As `run_pictures` with `bench_keys(keys)`, in `jobs` processes (a core each when None).

    Gives the rows of one picture in one mode at a time, as they are ready: len(pictures) * len(modes) lists, empty for
    pictures that cannot carry a mark. `target_db` replaces the PSNR the modes aim at, for recovery against fidelity.
    """
    names = tuple(attack.name for attack in attacks)
    units = [_Unit(picture, names, mode, seed, effort, keys, target_db) for picture in pictures for mode in modes]
    yield from in_processes(_run_unit, units, jobs=jobs, keys=keys)


def in_processes(
    act: Callable[[_Work], _Result], units: Sequence[_Work], *, jobs: int | None, keys: int, chunk: int = 1
) -> Iterator[_Result]:
    """`act` on each of `units` in `jobs` processes (a core each when None; in this one when 1), as results are ready.

    Every process is warmed up for `bench_keys(keys)` first.
    """
    jobs = min(jobs or os.cpu_count() or 1, len(units))
    if jobs <= 1:
        warm_up(bench_keys(keys))
        yield from map(act, units)
        return
    # One thread per process: the processes already fill the cores, and times are those of one thread.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Fresh interpreters: a fork would copy the parent's OpenCV threads half alive.
    with multiprocessing.get_context("spawn").Pool(jobs, warm_up, (bench_keys(keys),)) as pool:
        yield from pool.imap_unordered(act, units, chunksize=chunk)


@contextmanager
def aimed_at(target_db: float | None) -> Iterator[None]:
    """Let all modes aim at this PSNR in dB inside; None changes nothing."""
    kept, losses = dict(embedding.TARGET_DB), dict(embedding.MOST_LOSS)
    if target_db is not None:
        embedding.TARGET_DB.update(dict.fromkeys(kept, target_db))
        embedding.MOST_LOSS.update(dict.fromkeys(losses, 1.0))
    try:
        yield
    finally:
        embedding.TARGET_DB.update(kept)
        embedding.MOST_LOSS.update(losses)


@dataclass(frozen=True)
class _Unit:
    picture: Picture
    attacks: tuple[str, ...]
    mode: MarkMode
    seed: int
    effort: Effort
    keys: int
    target_db: float | None


def _run_unit(unit: _Unit) -> list[Row]:
    attacks = [ATTACKS[name] for name in unit.attacks]
    rgb, keys = unit.picture.pixels(), bench_keys(unit.keys)
    with aimed_at(unit.target_db):
        return list(run_picture(unit.picture, rgb, attacks, [unit.mode], keys, seed=unit.seed, effort=unit.effort))


def warm_up(keys: Sequence[MarkKey]) -> None:
    """Compile the reader's loops and build the lattices, so that no row pays for it; on one thread from here on."""
    cv2.setNumThreads(1)
    _read_once(tuple(keys))


@lru_cache(maxsize=4)
def _read_once(keys: tuple[MarkKey, ...]) -> None:
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (160, 160, 3)).astype(np.uint8)
    image.read(noise, keys, "deep")
