"""Reading video: look at keyframes over the whole length, add up what may carry one mark, then tell where it is.

Keyframes cost a hundredth of decoding everything, and at strong compression they alone carry the mark: what lies
between them is moved along with the picture and no longer adds up. Where keyframes are too far apart for a short
marked piece, frames between them are looked at too, but only after the keyframes showed nothing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from watermark.corner import corner_lock, corner_response
from watermark.frames import FrameSource
from watermark.geometry import Geometry
from watermark.image import check_rgb
from watermark.keys import MarkKey
from watermark.lattice import SYNC_SETS, SyncSet, lattice_of, sync_set_of
from watermark.lock import geometry, lock, whiten
from watermark.planes import Folded, Planes, fold_whole, split
from watermark.reading import LEAST_COHERENCE, LEAST_Z, MOST_ATTEMPTS, Attempts, Hit, search_keys
from watermark.search import Spectra, add_spectra, spectra_of
from watermark.spans import Presence, spans_of
from watermark.weights import soft_bits

LONGEST_GAP = 1.5
"""Seconds that may pass unlooked at: half of the shortest marked piece that is to be found."""
_LOOKS_WANTED = 32
"""A short video is looked at more densely than every LONGEST_GAP, until there are as many looks."""
_MOST_LOOKS = 1200
_KEPT, _SEARCHED = 16, 8
_SEARCHED_ALONE = 24
_SEARCH_AFTER = (8, 24, 72, 200)
_HOPEFUL = 4.2
"""Deviations: of 68 sets and a few keys over a long video, about one look exceeds this by chance."""
_WORTH_ADDING, _WORTH_CARE = 1.5, 3.0
_ABSENT, _NEAR = 2.5, 10.0
_LEAST_CORNER_Z = 4.0
_HIGHER, _MORE = 1.12, 1.5
"""Growth of a stack's lock, or of its frames, since it was last decoded in vain: attempts are few."""
_MOST_STACKS = 12
"""Of 68 sets and a few keys those that are hoped for most: of a long film all would be by chance, 2 MiB each."""
_BURST = 24
_BURSTS = 2
_NEXT = 1e-3
"""Seconds between neighbours: with a gap, however small, frames that nothing is predicted from may be left out. They
carry least of a mark and cost as much to decode."""


@dataclass(frozen=True)
class VideoReading:
    """A mark that was read from video.

    `spans`: (first, last) seconds of each run of frames looked at that carry it, their ends known to half a second; a
    run is broken where a frame in it does not. Where no frame shows the id alone, the span of those read together.
    `frames_used`: frames whose sum was decoded; `frames_read` and `frames_marked`: frames looked at for the spans, and
    of them those that show the id. Other fields as in `reading.Reading`; `geometry` is that of frames of the video's
    own size.
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


@dataclass(frozen=True)
class _Look:
    """One frame, and how well it agrees with each sync set of each key (float64 [keys, sets])."""

    seconds: float
    planes: Planes
    agreement: NDArray[np.float64]


@dataclass
class _Stack:
    """Sum of uncropped frames that may carry one mark."""

    key: MarkKey
    where: SyncSet
    size: tuple[int, int]
    best: tuple[float, float]
    """Agreement of the best frame in it, and when that was."""
    hope: float
    """The most that a frame, or all so far together, agreed with this set."""
    folded: Folded | None = None
    careful: Folded | None = None
    """The sum of those that agree well, normalised with most care: now one shows the mark, now the other."""
    frames: int = 0
    tried: tuple[float, int] = (0.0, 0)

    def add(self, seconds: float, planes: Planes, agreement: float, folded: Folded | None = None) -> None:
        """Add a frame in proportion to its signal (maximum ratio combining: the noise of frames is about equal).

        `folded` if it is already, as `fold_whole` does it.
        """
        self.folded = self._sum(self.folded, folded or fold_whole(planes, self.where), agreement)
        if agreement > _WORTH_CARE:
            self.careful = self._sum(self.careful, fold_whole(planes.most_carefully, self.where), agreement)
        self.frames += 1
        self.best = max(self.best, (agreement, seconds))

    @staticmethod
    def _sum(so_far: Folded | None, folded: Folded, weight: float) -> Folded:
        chroma = None if folded.chroma is None else folded.chroma * weight
        folded = replace(folded, luma=folded.luma * weight, chroma=chroma)
        return folded if so_far is None else so_far + folded

    def decode(self, attempts: Attempts) -> Hit | None:
        """Decode the sums, each under its own lock or the one it must have, if that is better than it was."""
        lattice = lattice_of(self.key)
        z, frames = self.tried
        for folded in (self.folded, self.careful):
            if folded is None:
                continue
            white = whiten(folded)
            corner = corner_lock(white, lattice)
            # The frames agreed with a tile that begins at their corner, so there or next to it is what may be read.
            if corner.z < _LEAST_CORNER_Z or (corner.z < _HIGHER * z and self.frames < _MORE * frames):
                continue
            found = lock(white, lattice)
            if found.z < LEAST_Z or found.coherence < LEAST_COHERENCE:
                found = corner
            self.tried = max(self.tried[0], found.z), self.frames
            mark_id = attempts.decode(soft_bits(white, lattice, found), self.key)
            if mark_id is not None:
                return Hit(mark_id, self.key, found, folded)
        return None


class Watch:
    """Looks for a mark in the frames of one video as they come, most of them from all over it.

    They may come in two runs: keyframes in order of time, which cost little and are searched for every geometry, then
    others between them, which fill the gaps; see `gap`.
    """

    def __init__(self, duration: float, keys: Sequence[MarkKey]) -> None:
        """`duration` is that of the video, in seconds (see `FrameSource`)."""
        self.gap: Final = min(LONGEST_GAP, duration / _LOOKS_WANTED)
        """Seconds that may pass unlooked at, but for one gap a third longer in three."""
        self._duration, self._keys = duration, keys
        # Half of what may be decoded is for uncropped frames, half for what the search finds. With so many frames to
        # choose from, another frame is worth more than another candidate.
        half = MOST_ATTEMPTS // 2
        self._attempts, self._search_attempts = Attempts(half, candidates=1), Attempts(half, candidates=2)
        self._alone_every = math.ceil(duration / max(self.gap, 0.04) / _SEARCHED_ALONE) or 1
        self._kept: deque[_Look] = deque(maxlen=_KEPT)
        self._spectra: deque[Spectra] = deque(maxlen=_SEARCHED)
        self._stacks: dict[tuple[int, int, tuple[int, int]], _Stack] = {}
        self._sum = np.zeros((len(keys), len(SYNC_SETS)))
        self._summed = 0
        self._seen: dict[float, NDArray[np.float64]] = {}
        self._searched = 0
        self._second_run = False
        self._used = 0
        self._hit: Hit | None = None

    def take(self, seconds: float, frame: NDArray[np.uint8]) -> bool:
        """Look at a frame (uint8 [H, W, 3] RGB); whether the mark is read, and no more are needed.

        Raises MarkError for another array.
        """
        if self._hit is not None:
            return True
        before = len(self._seen)
        self._second_run |= before > 0 and seconds < next(reversed(self._seen))
        self._hit = self._look(seconds, frame)
        count = len(self._seen)
        if self._hit is None and count > before and not self._second_run:
            if count % self._alone_every == 1 % self._alone_every:
                self._hit = self._search(alone=True)
            if self._hit is None and count in _SEARCH_AFTER:
                self._hit = self._search()
        return self._hit is not None

    def look_over(self, source: FrameSource) -> None:
        """Take frames from all over the video until the mark is read."""
        times: list[float] = []
        for seconds, frame in source.keyframes(self.gap):
            times.append(seconds)
            if self.take(seconds, frame):
                return
        self._second_run = True
        ends = [*times, max(self._duration, *times)] if times else []
        gap = max(self.gap, 0.04)
        for start, end in pairwise(ends):
            count = int((end - start) / gap * 0.999)
            if count > 0:
                for seconds, frame in source.frames(start + gap, count, gap):
                    if self.take(seconds, frame):
                        return

    def finish(self, source: FrameSource) -> VideoReading | None:
        """What was read, once all frames were taken: a last look where there is hope, and when the mark is there.

        The frames taken were `source.shrink` times as high as the video's. Raises what the source raises.
        """
        hit = self._hit = self._hit or self._burst(source)
        if hit is None and len(self._seen) > self._searched:
            hit = self._hit = self._search()
        if hit is None:
            return None
        seen = [(look.seconds, look.planes) for look in self._kept]
        last = seen[-1][1]
        # Geometries are told in pixels of the video.
        last = replace(last, shrink=last.shrink * source.shrink)
        where = geometry(hit.folded, hit.found, last, sync_set_of(hit.mark_id, hit.key))
        present = Presence(hit, last.size)
        marked = dict.fromkeys(self._without(hit) if where.whole else [], False)
        marked.update((seconds, present(planes)) for seconds, planes in seen)
        spans = spans_of(source, lambda frame: present(planes_of(frame)), marked, self.gap, LONGEST_GAP)
        return VideoReading(
            mark_id=hit.mark_id,
            key=hit.key.name,
            score=hit.found.z,
            spans=spans or ((seen[0][0], seen[-1][0]),),
            frames_used=self._used,
            frames_read=len(marked),
            frames_marked=sum(marked.values()),
            false_alarm_log10=self._false_alarm_log10,
            geometry=where,
        )

    def _without(self, hit: Hit) -> list[float]:
        """When frames were looked at that do not carry the mark of `hit`, uncropped.

        Near the frame that was read they are left out: there the mark may only have moved along with the picture.
        """
        where = SYNC_SETS.index(sync_set_of(hit.mark_id, hit.key))
        which = [key.name for key in self._keys].index(hit.key.name)
        here = self._kept[-1].seconds
        return [
            seconds
            for seconds, agreement in self._seen.items()
            if abs(seconds - here) > _NEAR and agreement[which, where] < _ABSENT
        ]

    def _look(self, seconds: float, frame: NDArray[np.uint8]) -> Hit | None:
        """See how a frame agrees with every sync set, and try to read what it is hopeful for."""
        if seconds in self._seen or len(self._seen) >= _MOST_LOOKS:
            return None
        look, spectra = self._see(seconds, frame)
        if self._kept and self._kept[-1].planes.size != look.planes.size:
            self._kept.clear()
            self._spectra.clear()
            self._sum[:] = 0
            self._summed = 0
        self._seen[seconds] = look.agreement
        self._sum += look.agreement
        self._summed += 1
        # A copy of the planes leaves behind what was worked out from them, several times their size.
        self._kept.append(replace(look, planes=replace(look.planes)))
        self._spectra.append(spectra)
        together = self._sum / np.sqrt(self._summed)
        hopes = np.maximum(look.agreement, together)
        for which, where in np.argwhere(hopes > _HOPEFUL):
            self._stack(int(which), int(where), float(hopes[which, where]))
        return self._add(look)

    def _see(self, seconds: float, frame: NDArray[np.uint8]) -> tuple[_Look, Spectra]:
        planes = planes_of(frame)
        spectra = spectra_of(planes)
        height, width = planes.normal.luma.shape
        agreement = np.stack([corner_response(spectra, (height, width), key) for key in self._keys])
        return _Look(seconds, planes, agreement), spectra

    def _stack(self, which: int, where: int, hope: float) -> None:
        """Begin a stack with the frames at hand but the last, unless there are enough that are hoped for more."""
        size = self._kept[-1].planes.size
        known = self._stacks.get((which, where, size))
        if known is not None:
            known.hope = max(known.hope, hope)
            return
        if len(self._stacks) >= _MOST_STACKS:
            least = min(self._stacks, key=lambda one: self._stacks[one].hope)
            if self._stacks[least].hope >= hope:
                return
            del self._stacks[least]
        stack = self._stacks[which, where, size] = _Stack(self._keys[which], SYNC_SETS[where], size, (0.0, 0.0), hope)
        for look in list(self._kept)[:-1]:
            if look.agreement[which, where] > _WORTH_ADDING:
                stack.add(look.seconds, look.planes, float(look.agreement[which, where]))

    def _add(self, look: _Look) -> Hit | None:
        """Add a frame to the stacks it agrees with, and decode those that grew enough."""
        for (which, where, size), stack in self._stacks.items():
            agreement = float(look.agreement[which, where])
            if size != look.planes.size or agreement < _WORTH_ADDING:
                continue
            stack.add(look.seconds, look.planes, agreement)
            hit = self._decode(stack)
            if hit is not None:
                return hit
        return None

    def _decode(self, stack: _Stack) -> Hit | None:
        hit = stack.decode(self._attempts)
        if hit is not None:
            self._used = stack.frames
        return hit

    def _burst(self, source: FrameSource) -> Hit | None:
        """Look at neighbours of the most hopeful frames."""
        stacks = sorted(self._stacks.values(), key=lambda stack: stack.best, reverse=True)
        for stack in stacks[:_BURSTS]:
            lattice = lattice_of(stack.key)
            for seconds, frame in source.frames(stack.best[1], _BURST, _NEXT):
                planes = planes_of(frame)
                if planes.size != stack.size or seconds in self._seen:
                    continue
                # Only one sync set is asked for, and its own lines cost a tenth of the whole spectrum.
                folded = fold_whole(planes, stack.where)
                agreement = corner_lock(whiten(folded), lattice).z
                if agreement <= 0:
                    continue
                stack.add(seconds, planes, agreement, folded)
                hit = self._decode(stack)
                if hit is not None:
                    return hit
        return None

    def _search(self, *, alone: bool = False) -> Hit | None:
        """Search the geometry on the summed spectra of the last frames, or of the very last `alone`.

        Once with chroma and once without: strong compression leaves nothing but noise there.
        """
        self._searched = len(self._seen)
        if not self._spectra:
            return None
        frames = [look.planes for look in self._kept]
        if alone:
            frames = frames[-1:]
        spectra = replace(self._spectra[-1]) if alone else add_spectra(list(self._spectra))
        hit = search_keys(frames, spectra, self._keys, self._search_attempts)
        if hit is None and spectra.coloured:
            grey = [replace(planes, chroma=None) for planes in frames]
            spectra = add_spectra([spectra_of(planes) for planes in grey[-_SEARCHED:]])
            hit = search_keys(grey, spectra, self._keys, self._search_attempts)
        if hit is not None:
            self._used = len(frames)
        return hit

    @property
    def _false_alarm_log10(self) -> float:
        """As `Attempts.false_alarm_log10`, for all attempts made."""
        return Attempts(self._attempts.made + self._search_attempts.made - 2 * (MOST_ATTEMPTS // 2)).false_alarm_log10


def planes_of(frame: NDArray[np.uint8]) -> Planes:
    """Planes of a frame. Raises MarkError for another array."""
    check_rgb(frame)
    return split(frame)


def read_frames(source: FrameSource, keys: Sequence[MarkKey]) -> VideoReading | None:
    """See `video.read`."""
    watch = Watch(source.duration, keys)
    watch.look_over(source)
    return watch.finish(source)
