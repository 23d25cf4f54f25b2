"""Is this upload a result whose permission ended? By its mark exactly, else by what it looks like.

The list itself lies with the web side, which passes its look-ups in. A picture that is turned or mirrored has another
fingerprint, so all eight ways in which it can lie are looked up; that the picture is really the listed one is said by
the grid of luma, not by the fingerprint alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark import fingerprint, pdq
from watermark.fingerprint import Fingerprint
from worker.gate import signals
from worker.gate.looks.looking import Apart
from worker.gate.looks.sampling import Sample
from worker.gate.signals import Signal

FRAMES: Final = 12  # of a video that are looked up, about, spread over its length
_SIDE: Final = 1024  # pixels, more of which tell nothing about the look


class Listed(Protocol):
    """The list of results that stay down."""

    def empty(self) -> bool:
        """Is nothing on it? Then nobody has to look."""
        ...

    def holds_mark(self, mark_id: bytes) -> bool:
        """Is the result with this mark on it?"""
        ...

    def like(self, value: bytes) -> Sequence[Fingerprint | None]:
        """The listed pictures whose PDQ is near; None for one whose grid cannot be read any more."""
        ...


def known(found: Sequence[Signal], listed: Listed) -> Signal | None:
    """The signal where nobody has to look: nothing is on the list, or the mark among what was `found` is."""
    if listed.empty():
        return signals.stay_down("", 0)
    for each in found:
        marked = each.kind == "own_mark" and each.status == "measured" and each.value["found"]
        if marked and listed.holds_mark(bytes.fromhex(each.value["mark_id"])):
            return signals.stay_down("mark", 1)
    return None


class StayDownLook:
    """Compares sampled pictures of an upload with what is `listed`: a `looking.Look`."""

    kind: str = "stay_down"

    def __init__(self, listed: Listed, seconds: float) -> None:
        """`seconds` is the length of a film, 0 of a photo."""
        self._listed = listed
        self._apart = Apart(seconds / FRAMES)
        self._same, self._alike = False, False

    def take(self, sample: Sample) -> None:
        """Compare one picture in the eight ways in which it can lie."""
        if self._same or not self._apart.wants(sample.seconds):
            return
        picture = _small(sample.rgb)
        values, quality = pdq.hash_ways(picture)
        if quality < pdq.LEAST_QUALITY:
            return
        for value, turned in zip(values, pdq.ways(picture), strict=True):
            recorded = self._listed.like(value)
            readable = [one for one in recorded if one is not None]
            matches = fingerprint.compare_all(readable, turned, None) if readable else ()
            self._same = any(match.matches for match in matches)
            if self._same:
                return
            self._alike = self._alike or bool(recorded)

    def finish(self) -> Signal:
        """The signal `stay_down`."""
        found = "picture" if self._same else "alike" if self._alike else ""
        return signals.stay_down(found, self._apart.count)


def _small(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = _SIDE / max(rgb.shape[:2])
    if scale >= 1:
        return rgb
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
