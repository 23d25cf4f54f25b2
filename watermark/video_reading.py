"""Reading video: frames of one geometry add up until their sum can be decoded, then each is asked on its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from watermark.geometry import Geometry
from watermark.image import check_rgb
from watermark.keys import MarkKey
from watermark.lattice import lattice_of
from watermark.lock import geometry, lock, presence, soft_bits, whiten
from watermark.payload import encode
from watermark.planes import Folded, Planes, fold_under, fold_whole, split
from watermark.reading import LEAST_COHERENCE, Attempts, Hit, search_key, try_key
from watermark.search import add_spectra, spectra_of

_WINDOW = 16
_DECODE_AFTER = (1, 2, 4, 8, 12, 16)
_SEARCH_AFTER = (1, 8)
_SEARCHED_FRAMES = 8
_MOST_FRAMES = 240
_MOST_SEARCHES = 4
_HOPEFUL_Z = 5.0
"""With this much of a lock in the corner the geometry is right, and only more frames can help."""
_DRIFTING_Z = 5.5
_PRESENT = 6.0
"""A frame carries the id when the known code word stands this many deviations out (chance: 1e-9)."""


@dataclass(frozen=True)
class VideoReading:
    """A mark that was read from video.

    `spans`: (first, last) seconds of each unbroken run of given frames that carry it. `frames_used`: frames whose sum
    was decoded; `frames_read` and `frames_marked`: frames given, and of them those that carry the id. Other fields as
    in `reading.Reading`.
    """

    mark_id: bytes
    key: str
    score: float
    spans: tuple[tuple[float, float], ...]
    frames_used: int
    frames_read: int
    frames_marked: int
    false_alarm_log10: float
    geometry: Geometry


@dataclass
class _Window:
    """Up to 16 neighbouring frames that are tried together."""

    times: list[float] = field(default_factory=list)
    planes: list[Planes] = field(default_factory=list)
    whole: Folded | None = None
    drifting: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    drifting_frames: dict[str, int] = field(default_factory=dict)

    def add(self, seconds: float, planes: Planes, keys: Sequence[MarkKey]) -> None:
        folded = fold_whole(planes)
        self.times.append(seconds)
        self.planes.append(planes)
        if folded is None:
            return
        self.whole = folded if self.whole is None else self.whole + folded
        white = whiten(folded)
        for key in keys:
            found = lock(white, lattice_of(key))
            if found.z > _DRIFTING_Z and found.coherence > LEAST_COHERENCE:
                soft = soft_bits(white, lattice_of(key), found)
                self.drifting[key.name] = self.drifting.get(key.name, 0) + soft
                self.drifting_frames[key.name] = self.drifting_frames.get(key.name, 0) + 1

    def try_whole(self, keys: Sequence[MarkKey], attempts: Attempts) -> tuple[Hit | None, float]:
        """Decode the sum under the uncropped map; also returns the best lock seen in the corner."""
        if self.whole is None:
            return None, 0.0
        white = whiten(self.whole)
        best = 0.0
        for key in keys:
            found, hit = try_key(self.whole, white, key, attempts)
            best = max(best, found.z if found.at_corner else 0.0)
            if hit is not None:
                return hit, best
            # Where motion compensation carries the mark along with the picture, the frames do not add up as spectra,
            # but each under its own lock still does as soft bits.
            if self.drifting_frames.get(key.name, 0) > 1:
                mark_id = attempts.decode(self.drifting[key.name], key)
                if mark_id is not None:
                    return Hit(mark_id, key, found, self.whole), best
        return None, best

    def search(self, keys: Sequence[MarkKey], attempts: Attempts) -> Hit | None:
        """Search the geometry on the summed spectra, then decode the sum of all frames under what was found."""
        spectra = add_spectra([spectra_of(planes) for planes in self.planes[-_SEARCHED_FRAMES:]])
        for key in keys:
            hit = search_key(self.planes, spectra, key, attempts)
            if hit is not None:
                return hit
        return None


class _Tracker:
    """Asks frame after frame whether it carries an id that was read, under the geometry it was read in."""

    def __init__(self, hit: Hit, size: tuple[int, int], *, whole: bool) -> None:
        self._hit, self._size, self._whole = hit, size, whole
        self._lattice = lattice_of(hit.key)
        self._coded = encode(hit.mark_id, hit.key)
        self._open: tuple[float, float] | None = None
        self.spans: list[tuple[float, float]] = []
        self.marked = 0

    def ask(self, seconds: float, planes: Planes) -> None:
        if self._present(planes):
            self.marked += 1
            self._open = (self._open[0] if self._open else seconds, seconds)
        else:
            self.close()

    def close(self) -> None:
        if self._open is not None:
            self.spans.append(self._open)
            self._open = None

    def _present(self, planes: Planes) -> bool:
        if planes.size != self._size:
            return False
        folded = fold_whole(planes) if self._whole else fold_under(planes, self._hit.folded.matrix)
        if folded is None:
            return False
        white = whiten(folded)
        if presence(white, self._lattice, self._hit.found, self._coded) > _PRESENT:
            return True
        own = lock(white, self._lattice)
        return own.z > _DRIFTING_Z and presence(white, self._lattice, own, self._coded) > _PRESENT


def read_frames(frames: Iterable[tuple[float, NDArray[np.uint8]]], keys: Sequence[MarkKey]) -> VideoReading | None:
    """See `video.read`."""
    attempts = Attempts()
    window = _Window()
    hit: Hit | None = None
    tracker: _Tracker | None = None
    where: Geometry | None = None
    used = count = searches = 0
    for seconds, frame in frames:
        check_rgb(frame)
        count += 1
        planes = split(frame)
        if tracker is not None:
            tracker.ask(seconds, planes)
        else:
            if len(window.planes) == _WINDOW or (window.planes and window.planes[0].size != planes.size):
                window = _Window()
            window.add(seconds, planes, keys)
            used = len(window.planes)
            if used in _DECODE_AFTER:
                hit, z = window.try_whole(keys, attempts)
                whole = hit is not None
                if hit is None and z < _HOPEFUL_Z and used in _SEARCH_AFTER and searches < _MOST_SEARCHES:
                    searches += 1
                    hit = window.search(keys, attempts)
                if hit is not None:
                    where = geometry(hit.folded, hit.found, planes, whole=whole and hit.found.at_corner)
                    tracker = _Tracker(hit, planes.size, whole=whole)
                    for earlier, kept in zip(window.times, window.planes, strict=True):
                        tracker.ask(earlier, kept)
        if count == _MOST_FRAMES:
            break
    if hit is None or tracker is None or where is None:
        return None
    tracker.close()
    return VideoReading(
        mark_id=hit.mark_id,
        key=hit.key.name,
        score=hit.found.z,
        spans=tuple(tracker.spans),
        frames_used=used,
        frames_read=count,
        frames_marked=tracker.marked,
        false_alarm_log10=attempts.false_alarm_log10,
        geometry=where,
    )
