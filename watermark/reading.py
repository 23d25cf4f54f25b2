"""Reading a picture: the cheap hypothesis first, the geometric search after it, and every attempt counted."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from watermark.askew import askew_maps
from watermark.corner import corner_lock, corner_response, side_by_power
from watermark.geometry import Geometry
from watermark.keys import MarkKey
from watermark.lattice import SYNC_SETS, lattice_of, sync_set_of
from watermark.lock import Lock, Whitened, geometry, lock, whiten
from watermark.payload import CHECK_BITS, decode
from watermark.planes import Folded, Planes, fold_frames, fold_whole, split
from watermark.refine import Focus, refinements, view
from watermark.search import Spectra, rank_sets, search, spectra_of
from watermark.weights import soft_bits

Effort = Literal["fast", "full", "deep"]
MOST_ATTEMPTS = 64
_CANDIDATES = 4
"""Most likely words checked per attempt: the second to fourth cost next to nothing and are sometimes the right ones."""
LEAST_Z = 6.5
"""Locks below this are noise: over the whole search, the best of 60 unmarked pictures reached about 7, typically 6."""
LEAST_COHERENCE = 4.5
_CERTAIN_Z = 9.0
_SETS_TRIED = 2
_LEAST_SET_SCORE = 5.0
_LEAST_SCORE = 6.0
_LEAST_PART_SCORE = 6.8
"""For small parts of a picture: the best of noise has 6.4 there in the middle, the mark had 7 at least in 68 of 68."""
_LEAST_CORNER_SCORE, _CORNERS_TRIED = 3.5, 3
"""Deviations: of 68 sets and three keys, one unmarked picture in twenty has a set that exceeds this."""
_LEAST_SIDE_POWER = 4.0
"""Deviations above the median of the sides; plain pictures have 1 to 3."""
_SMALL_PIXELS = 1_000_000
"""Larger pictures keep their sync lines: of some forty, blurred in four ways each, none was read so."""
_LEAST_CAREFUL_SCORE, _LOCKED_CAREFULLY = 6.5, 3
"""Locking with care takes ten times as long, so only what stands out is."""
_REFINED = 2
_LEAST_REFINED_Z = 7.5
_LOCKED = 5
_DECODED = 2
_LOCKED_FRAMES, _REFINED_FRAMES = 2, 2
_LEAST_WINDOW = 48
_WINDOW = 0.3
_WINDOWS = tuple(
    (x, y, x + _WINDOW, y + _WINDOW) for x, y in ((0.35, 0.35), (0.15, 0.15), (0.55, 0.15), (0.15, 0.55), (0.55, 0.55))
)
_GROWTH = (0.2, 0.27, 0.35, 0.45, 0.6, 0.8, 1.01)


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
    """Counts code words checked: each accepts noise with probability 2**-36, so false alarms are bounded by them.

    `made` so far; each decoding checks the `candidates` most likely. After MOST_ATTEMPTS nothing more is decoded: the
    bound on a whole reading stays below 1e-9.
    """

    made: int = 0
    candidates: int = _CANDIDATES

    def decode(self, soft: NDArray[np.float64], key: MarkKey, candidates: int | None = None) -> bytes | None:
        """Decode and count; `candidates` instead of the usual number."""
        candidates = min(candidates or self.candidates, MOST_ATTEMPTS - self.made)
        if candidates == 0:
            return None
        self.made += candidates
        return decode(soft, key, candidates)

    @property
    def false_alarm_log10(self) -> float:
        """Union bound over the words checked, log10."""
        return math.log10(max(self.made, 1)) - CHECK_BITS * math.log10(2)


@dataclass(frozen=True)
class Hit:
    """An accepted code word and the lock it was read under."""

    mark_id: bytes
    key: MarkKey
    found: Lock
    folded: Folded


def try_whole(planes: Planes, spectra: Spectra, keys: Sequence[MarkKey], attempts: Attempts) -> Hit | None:
    """Try the maps of an uncropped picture under `keys`, the likeliest first, whosever they are."""
    ranked = [(score, where, key) for key in keys for score, where in rank_sets(spectra, key)[:_SETS_TRIED]]
    careful = planes.carefully
    for score, where, key in sorted(ranked, key=lambda one: -one[0]):
        if score < _LEAST_SET_SCORE:
            break
        for seen in (planes,) if planes.careful else (planes, careful):
            candidate = _lock_folded(fold_whole(seen, where), key)
            hit = candidate.decode(attempts) if candidate.plausible else None
            if hit is not None:
                return hit
    return None


def try_corner(planes: Planes, spectra: Spectra, keys: Sequence[MarkKey], attempts: Attempts) -> Hit | None:
    """Try the maps of an uncropped picture under `keys`, knowing that the tile starts at its corner.

    Strong compression leaves the sync lines too faint to tell one of thousands of places from noise, but not to tell
    one of a few hundred sets at the only place there is.
    """
    shape = planes.normal.luma.shape
    ranked = [
        (float(score), where, key)
        for key in keys
        for score, where in zip(corner_response(spectra, shape, key), SYNC_SETS, strict=True)
        if score >= _LEAST_CORNER_SCORE
    ]
    for _, where, key in sorted(ranked, key=lambda one: -one[0])[:_CORNERS_TRIED]:
        folded = fold_whole(planes, where)
        white = whiten(folded)
        hit = _Candidate(key, folded, white, corner_lock(white, lattice_of(key))).decode(attempts)
        if hit is not None:
            return hit
        # An encoder may have dropped a row or a column, which moves the tile by part of a pixel.
        moved = _Candidate(key, folded, white, lock(white, lattice_of(key)))
        hit = moved.decode(attempts) if moved.plausible else None
        if hit is not None:
            return hit
    return None


def try_sides(planes: Planes, keys: Sequence[MarkKey], attempts: Attempts) -> Hit | None:
    """Try a small uncropped picture without sync lines that has more than chance on the lowest lines of some tile.

    Blur and median filters leave a small picture no more than these, and they say enough to be decoded.
    """
    if planes.size[0] * planes.size[1] > _SMALL_PIXELS:
        return None
    side, power = side_by_power(planes)
    if power < _LEAST_SIDE_POWER:
        return None
    for where in (one for one in SYNC_SETS if one.side == side):
        folded = fold_whole(planes, where)
        white = whiten(folded)
        for key in keys:
            hit = _Candidate(key, folded, white, corner_lock(white, lattice_of(key))).decode(attempts, candidates=1)
            if hit is not None:
                return hit
    return None


def search_keys(frames: Sequence[Planes], spectra: Spectra, keys: Sequence[MarkKey], attempts: Attempts) -> Hit | None:
    """Search the geometry of `frames` (one for a picture) under `keys` and decode what they say together.

    The best maps are decoded as found, then the very best once more, sharpened and bent.
    """
    seen = frames[-_LOCKED_FRAMES:]
    careful = [planes.carefully for planes in frames]
    ranked: list[_Candidate] = []
    for key in keys:
        found = _lock_candidates(seen, spectra, key)
        for candidate in found[:_DECODED]:
            whole = _lock_map(frames, candidate.folded.matrix, key) if len(frames) > len(seen) else None
            hit = (whole or candidate).decode(attempts)
            if hit is not None:
                return hit
        ranked += found[:1]
    for candidate in ranked:
        sharper = _lock_map(careful, candidate.folded.matrix, candidate.key)
        hit = sharper.decode(attempts) if sharper is not None and sharper.plausible else None
        if hit is not None:
            return hit
    return _refine_best([(careful, candidate, None) for candidate in ranked], attempts)


@dataclass(frozen=True)
class _Candidate:
    """A map that locked, for the sum of some frames."""

    key: MarkKey
    folded: Folded
    white: Whitened
    found: Lock

    @property
    def plausible(self) -> bool:
        """Whether the lock is above noise, and not another key's."""
        return self.found.z >= LEAST_Z and self.found.coherence >= LEAST_COHERENCE

    def decode(self, attempts: Attempts, candidates: int | None = None) -> Hit | None:
        mark_id = attempts.decode(soft_bits(self.white, lattice_of(self.key), self.found), self.key, candidates)
        return None if mark_id is None else Hit(mark_id, self.key, self.found, self.folded)


def _lock_folded(folded: Folded, key: MarkKey) -> _Candidate:
    white = whiten(folded)
    return _Candidate(key, folded, white, lock(white, lattice_of(key)))


def _lock_map(frames: Sequence[Planes], matrix: NDArray[np.float64], key: MarkKey) -> _Candidate | None:
    folded = fold_frames(frames, matrix)
    return None if folded is None else _lock_folded(folded, key)


def _lock_candidates(
    frames: Sequence[Planes], spectra: Spectra, key: MarkKey, maps: NDArray[np.float32] | None = None
) -> list[_Candidate]:
    """Lock the best maps of the search; the plausible ones, best first."""
    found: list[_Candidate] = []
    least, most = _LEAST_SCORE if maps is None else _LEAST_PART_SCORE, _LOCKED
    if frames[0].careful:
        least, most = _LEAST_CAREFUL_SCORE, _LOCKED_CAREFULLY
    for score, matrix in search(spectra, key, maps)[:most]:
        if score < least:
            break
        candidate = _lock_map(frames, matrix @ np.diag(spectra.scale), key)
        if candidate is not None and candidate.plausible:
            found.append(candidate)
            if candidate.found.z > _CERTAIN_Z:
                break
    return sorted(found, key=lambda candidate: -candidate.found.z)


_Start = tuple[Sequence[Planes], "_Candidate", Focus | None]


def _refine_best(starts: Sequence[_Start], attempts: Attempts) -> Hit | None:
    """Sharpen and bend the highest locks step by step, and decode after each step that gained enough."""
    for frames, start, focus in sorted(starts, key=lambda one: -one[1].found.z)[:_REFINED]:
        lattice = lattice_of(start.key)
        seen = frames[-_REFINED_FRAMES:]
        for better in refinements(seen, start.folded, start.found, lattice, focus):
            if better.found.z < _LEAST_REFINED_Z:
                continue
            whole = view(frames, better.warp, lattice) if len(frames) > len(seen) else None
            seen_so = whole or better
            hit = _Candidate(start.key, seen_so.folded, seen_so.white, seen_so.found).decode(attempts)
            if hit is not None:
                return hit
    return None


def _search_windows(planes: Planes, keys: Sequence[MarkKey], attempts: Attempts) -> Hit | None:
    """Search parts of the picture on their own, and grow from the ones that lock: for warps and collages."""
    width, height = planes.size
    starts: list[_Start] = []
    for left, top, right, bottom in _WINDOWS:
        part = planes.window(left, top, right, bottom)
        if min(part.size) < _LEAST_WINDOW:
            return None
        spectra = spectra_of(part)
        corner = np.array([int(left * width), int(top * height)])
        focus = Focus(((left + right) / 2 * width, (top + bottom) / 2 * height), _GROWTH)
        for key in keys:
            maps = askew_maps(spectra, key, planes.normal.scale / spectra.scale)
            for candidate in _lock_candidates([part], spectra, key, maps)[:1]:
                # The part's map, told for pixels of the whole.
                folded = candidate.folded
                moved = replace(candidate, folded=replace(folded, offset=folded.offset - folded.matrix @ corner))
                hit = moved.decode(attempts) if moved.found.z > _CERTAIN_Z else None
                if hit is not None:
                    return hit
                starts.append(([planes], moved, focus))
    return _refine_best(starts, attempts)


def read_picture(rgb: NDArray[np.uint8], keys: Sequence[MarkKey], effort: Effort) -> Reading | None:
    """See `image.read`."""
    started = time.perf_counter()
    planes = split(rgb)
    attempts = Attempts()

    def reading(hit: Hit, effort: Effort) -> Reading:
        return Reading(
            mark_id=hit.mark_id,
            key=hit.key.name,
            score=hit.found.z,
            false_alarm_log10=attempts.false_alarm_log10,
            geometry=geometry(hit.folded, hit.found, planes, sync_set_of(hit.mark_id, hit.key)),
            effort=effort,
            seconds=time.perf_counter() - started,
        )

    spectra = spectra_of(planes)
    hit = try_whole(planes, spectra, keys, attempts)
    if hit is not None:
        return reading(hit, "fast")
    if effort == "fast" or min(planes.size) < _LEAST_WINDOW:
        return None
    hit = search_keys([planes], spectra, keys, attempts)
    if hit is not None:
        return reading(hit, "full")
    if effort == "full":
        return None
    careful = planes.most_carefully
    spectra = spectra_of(careful)
    hit = try_corner(careful, spectra, keys, attempts) or try_sides(careful, keys, attempts)
    hit = hit or try_whole(careful, spectra, keys, attempts) or search_keys([careful], spectra, keys, attempts)
    # Strong compression leaves nothing but noise in chroma, and then a search without it sees more.
    if hit is None and spectra.coloured:
        hit = search_keys([careful], replace(spectra, coloured=False), keys, attempts)
    hit = hit or _search_windows(planes, keys, attempts)
    return None if hit is None else reading(hit, "deep")
