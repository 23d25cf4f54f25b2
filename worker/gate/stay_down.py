"""Is this upload a result whose permission ended? By its mark exactly, else by what it looks like.

The list itself lies with the web side, which passes its look-ups in. A picture that is turned or mirrored has another
fingerprint, so all eight ways in which it can lie are looked up; that the picture is really the listed one is said by
the grid of luma, not by the fingerprint alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark import fingerprint, pdq
from watermark.fingerprint import Fingerprint
from worker.gate import signals
from worker.gate.signals import Signal
from worker.gate.upload import Upload
from worker.media import client

FRAMES: Final = 12  # of a video that are looked up, spread over its length
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


def measure(upload: Upload, found: Sequence[Signal], listed: Listed) -> Signal:
    """The signal `stay_down`; `found` are the signals measured before, of which the mark's is used.

    Raises MediaError and ChildError, as every look into the file.
    """
    if listed.empty():
        return signals.stay_down("", 0)
    for each in found:
        marked = each.kind == "own_mark" and each.status == "measured" and each.value["found"]
        if marked and listed.holds_mark(bytes.fromhex(each.value["mark_id"])):
            return signals.stay_down("mark", 1)
    looked, alike = 0, False
    for picture in _pictures(upload):
        looked += 1
        for turned in pdq.ways(picture):
            value, quality = pdq.hash_picture(turned)
            if quality < pdq.LEAST_QUALITY:
                break
            recorded = listed.like(value)
            known = [one for one in recorded if one is not None]
            if known and any(match.matches for match in fingerprint.compare_all(known, turned, None)):
                return signals.stay_down("picture", looked)
            alike = alike or bool(recorded)
    return signals.stay_down("alike" if alike else "", looked)


def _pictures(upload: Upload) -> Iterator[NDArray[np.uint8]]:
    if upload.kind == "photo":
        yield _small(upload.photo)
        return
    for _, frame in client.sample_frames(upload.path, count=FRAMES):
        yield _small(frame)


def _small(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = _SIDE / max(rgb.shape[:2])
    if scale >= 1:
        return rgb
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
