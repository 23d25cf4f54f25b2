"""Reading a picture: the cheap hypothesis first, the geometric search after it, and every attempt counted."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from watermark.geometry import Geometry
from watermark.keys import MarkKey
from watermark.lattice import lattice_of
from watermark.lock import Lock, Whitened, geometry, lock, soft_bits, whiten
from watermark.payload import CHECK_BITS, decode
from watermark.planes import Folded, Planes, fold_frames, fold_whole, split
from watermark.search import Spectra, search, spectra_of

Effort = Literal["fast", "full", "deep"]
LEAST_Z = 6.2
"""Locks below this are noise: over the whole search, the best of 60 unmarked pictures reached about 7, typically 6."""
LEAST_COHERENCE = 4.2
_WORTH_POLISHING = 6.6
_CERTAIN_Z = 9.0
_LOCKED = 5
_DECODED = 2
_LOCKED_FRAMES, _POLISHED_FRAMES = 2, 2
_LEAST_WINDOW = 48
_WINDOWS = (
    (0.29, 0.29, 0.71, 0.71),
    *((x, y, x + 0.42, y + 0.42) for y in (0.0, 0.29, 0.58) for x in (0.0, 0.29, 0.58) if (x, y) != (0.29, 0.29)),
)


@dataclass(frozen=True)
class Reading:
    """A mark that was read.

    `score`: sync lock in standard deviations. `false_alarm_log10`: log10 of the probability that this check of an
    unmarked picture would have been accepted, over all attempts to decode made. `effort`: what it took ("fast", "full"
    or "deep").
    """

    mark_id: bytes
    key: str
    score: float
    false_alarm_log10: float
    geometry: Geometry
    effort: Effort
    seconds: float


@dataclass
class Attempts:
    """Counts attempts to decode: each accepts noise with probability 2**-36, so false alarms are bounded by them."""

    made: int = 0

    def decode(self, soft: NDArray[np.float64], key: MarkKey) -> bytes | None:
        """Decode and count."""
        self.made += 1
        return decode(soft, key)

    @property
    def false_alarm_log10(self) -> float:
        """Union bound over the attempts made, log10."""
        return math.log10(max(self.made, 1)) - CHECK_BITS * math.log10(2)


@dataclass(frozen=True)
class Hit:
    """An accepted code word and the lock it was read under."""

    mark_id: bytes
    key: MarkKey
    found: Lock
    folded: Folded


def try_key(folded: Folded, white: Whitened, key: MarkKey, attempts: Attempts) -> tuple[Lock, Hit | None]:
    """Lock and, if the lock is worth it, decode one map under one key."""
    lattice = lattice_of(key)
    found = lock(white, lattice)
    if found.z < LEAST_Z or found.coherence < LEAST_COHERENCE:
        return found, None
    mark_id = attempts.decode(soft_bits(white, lattice, found), key)
    return found, None if mark_id is None else Hit(mark_id, key, found, folded)


def try_whole(planes: Planes, keys: Sequence[MarkKey], attempts: Attempts) -> Hit | None:
    """Try the uncropped map under every key."""
    folded = fold_whole(planes)
    if folded is None:
        return None
    white = whiten(folded)
    for key in keys:
        _, hit = try_key(folded, white, key, attempts)
        if hit is not None:
            return hit
    return None


def search_key(frames: Sequence[Planes], spectra: Spectra, key: MarkKey, attempts: Attempts) -> Hit | None:
    """Search the geometry of `frames` (one for a picture) under one key and decode what they say together.

    The best maps are decoded as found, then the very best once more, polished.
    """
    ranked = [
        candidate
        for candidate in _lock_candidates(frames[-_LOCKED_FRAMES:], spectra, key)
        if candidate.found.z >= LEAST_Z and candidate.found.coherence >= LEAST_COHERENCE
    ]
    for candidate in ranked[:_DECODED]:
        hit = _decode_candidate(frames, candidate, key, attempts)
        if hit is not None:
            return hit
    if not ranked or ranked[0].found.z < _WORTH_POLISHING:
        return None
    return _decode_candidate(frames, _polish(frames[-_POLISHED_FRAMES:], ranked[0], key), key, attempts)


@dataclass(frozen=True)
class _Candidate:
    found: Lock
    folded: Folded
    white: Whitened
    matrix: NDArray[np.float64]
    frames: int


def _candidate(frames: Sequence[Planes], matrix: NDArray[np.float64], key: MarkKey) -> _Candidate | None:
    folded = fold_frames(frames, matrix)
    if folded is None:
        return None
    white = whiten(folded)
    return _Candidate(lock(white, lattice_of(key)), folded, white, matrix, len(frames))


def _lock_candidates(frames: Sequence[Planes], spectra: Spectra, key: MarkKey) -> list[_Candidate]:
    """Lock the best maps of the search, best lock first."""
    found: list[_Candidate] = []
    for _, matrix in search(spectra, key)[:_LOCKED]:
        candidate = _candidate(frames, matrix * spectra.to_canonical, key)
        if candidate is not None:
            found.append(candidate)
            if candidate.found.z > _CERTAIN_Z:
                break
    return sorted(found, key=lambda candidate: -candidate.found.z)


def _decode_candidate(frames: Sequence[Planes], candidate: _Candidate, key: MarkKey, attempts: Attempts) -> Hit | None:
    if len(frames) > candidate.frames:
        candidate = _candidate(frames, candidate.matrix, key) or candidate
    mark_id = attempts.decode(soft_bits(candidate.white, lattice_of(key), candidate.found), key)
    return None if mark_id is None else Hit(mark_id, key, candidate.found, candidate.folded)


def _polish(frames: Sequence[Planes], start: _Candidate, key: MarkKey) -> _Candidate:
    """Climb on the lock: snap to similarities and plain scales, then a few small steps.

    A map 0.3 % off still locks but loses the payload; people crop, scale and turn far more often than they shear.
    """
    m = start.matrix
    sign = 1.0 if float(np.linalg.det(m)) > 0 else -1.0
    scale = math.sqrt(abs(float(np.linalg.det(m))))
    angle = math.atan2(m[1, 0] - sign * m[0, 1], m[1, 1] + sign * m[0, 0])
    trials = []
    for turn in {angle, 0.0 if abs(angle) < 0.02 else angle}:
        cosine, sine = math.cos(turn), math.sin(turn)
        unit = np.array([[sign * cosine, -sign * sine], [sine, cosine]])
        trials += [unit * (scale * (1 + stretch)) for stretch in (-0.004, -0.002, 0.0, 0.002, 0.004)]
    if max(abs(m[0, 1]), abs(m[1, 0])) < 0.02 * scale:
        trials.append(np.diag(np.diag(m)))
    best = start
    generator = np.random.Generator(np.random.PCG64(1))
    step = 0.0022 * scale
    for _ in range(3):
        for trial in trials:
            candidate = _candidate(frames, trial, key)
            if candidate is not None and candidate.found.z > best.found.z:
                best = candidate
        trials = [best.matrix + generator.normal(0, 1, (2, 2)) * step for _ in range(6)]
        step *= 0.5
    return best


def _search_windows(planes: Planes, keys: Sequence[MarkKey], attempts: Attempts) -> Hit | None:
    """Search parts of the picture on their own, for warps and collages, and add up what the locked ones say."""
    sums: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    first: dict[str, _Candidate] = {}
    for window in _WINDOWS:
        part = planes.window(*window)
        if min(part.size) < _LEAST_WINDOW:
            return None
        spectra = spectra_of(part)
        for key in keys:
            ranked = _lock_candidates([part], spectra, key)
            if not ranked or ranked[0].found.z < LEAST_Z + 1 or ranked[0].found.coherence < LEAST_COHERENCE:
                continue
            best = _polish([part], ranked[0], key)
            first.setdefault(key.name, best)
            soft = soft_bits(best.white, lattice_of(key), best.found)
            sums[key.name] = sums.get(key.name, 0) + soft
            counts[key.name] = counts.get(key.name, 0) + 1
            mark_id = attempts.decode(sums[key.name], key)
            if mark_id is not None:
                return Hit(mark_id, key, first[key.name].found, first[key.name].folded)
    return None


def read_picture(rgb: NDArray[np.uint8], keys: Sequence[MarkKey], effort: Effort) -> Reading | None:
    """See `image.read`."""
    started = time.perf_counter()
    planes = split(rgb)
    attempts = Attempts()

    def reading(hit: Hit, effort: Effort, whole: bool) -> Reading:
        return Reading(
            mark_id=hit.mark_id,
            key=hit.key.name,
            score=hit.found.z,
            false_alarm_log10=attempts.false_alarm_log10,
            geometry=geometry(hit.folded, hit.found, planes, whole=whole),
            effort=effort,
            seconds=time.perf_counter() - started,
        )

    hit = try_whole(planes, keys, attempts)
    if hit is not None:
        return reading(hit, "fast", hit.found.at_corner)
    if effort == "fast" or min(planes.size) < _LEAST_WINDOW:
        return None
    spectra = spectra_of(planes)
    for key in keys:
        hit = search_key([planes], spectra, key, attempts)
        if hit is not None:
            return reading(hit, "full", False)
    if effort == "full":
        return None
    hit = _search_windows(planes, keys, attempts)
    return None if hit is None else reading(hit, "deep", False)
