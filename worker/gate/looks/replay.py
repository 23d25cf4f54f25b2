"""Was a picture photographed from a screen or a print? Advice for a reviewer, never a decision.

Three things are measured. *Moire*: the grid of a screen's pixels or of a print's dots beats with the camera's own
pixels, and a fine regular pattern lies over the whole picture; it stands out in the spectrum of nearly every part, also
where there is nothing to see. *Hot spots*: light that a glossy surface throws back, blown out. *Beat*, in a video: a
screen's refresh against the camera's shutter, light and dark bands across the whole width that change from frame to
frame.

What it cannot do: where the camera, or a reduced copy of its picture, has hardly a pixel for each of the screen's, or
where the lens is a little out of focus, nothing is left of the pattern. Patterns along the axes do not count, because
JPEG's blocks and buildings make them; cloth and blinds count where they fill most of the picture; lamps on the mains
make bands too. A picture of less than 128 pixels a side is not measured. The bounds were measured on portraits and on
simulated recaptures only (tests/worker/gate/test_replay.py), not on real ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.gate import signals
from worker.gate.signals import Signal
from worker.gate.upload import Upload
from worker.media import client
from worker.media.errors import ChildError, MediaError

KIND: Final = "replay"
PEAK: Final = 3.5  # natural logarithms over the background from which a part of a picture counts as patterned
SHARE: Final = 0.6  # of a picture's parts that are patterned, from which it is suspected
BEAT: Final = 1.0  # percent of brightness in bands, from which a video is suspected
PLACES: Final = (0.1, 0.5, 0.9)  # of a video's length
FRAMES: Final = 6  # one after the other at each place
SHORT_SIDE: Final = 1080  # pixels that frames are reduced to: less would blur the pattern away
_SIDES: Final = (256, 128)  # pixels of a part: the larger one that fits
_MOST_ROWS: Final = 6
_LOWEST, _HIGHEST = 0.08, 0.48  # cycles per pixel; below it lies what the picture shows
_GRID: Final = 1 / 8  # cycles per pixel: JPEG's blocks and their harmonics
_NEAR_BINS: Final = 2.0  # as near to both lines of that grid, or to one of the axes, a peak does not count
_BACKGROUND: Final = 0.1  # cycles per pixel
_FLAT: Final = 0.3  # deviation of luma in a part that holds nothing, as blown-out ones
_BLOWN: Final = 250
_STRIPS: Final = 4


@dataclass(frozen=True)
class Looked:
    """One picture: the share of its parts with a pattern and how strong it is (median over the parts, in natural
    logarithms over the background), how many parts could be measured, and how much of it is blown out, in all and in
    the largest spot (0..1)."""

    seconds: float
    share: float
    moire: float
    parts: int
    hot: float
    largest_hot: float

    @property
    def patterned(self) -> bool:
        """Whether it looks recaptured."""
        return self.share >= SHARE


def look(rgb: NDArray[np.uint8], seconds: float = 0.0) -> Looked:
    """Measure one picture, uint8 [H, W, 3] RGB."""
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    peaks = [peak for tile in _tiles(luma) if (peak := _peak(tile)) is not None]
    hot, largest = _hot(luma)
    return Looked(
        seconds=round(seconds, 2),
        share=round(sum(peak >= PEAK for peak in peaks) / len(peaks), 3) if peaks else 0.0,
        moire=round(float(np.median(peaks)), 3) if peaks else 0.0,
        parts=len(peaks),
        hot=round(hot, 4),
        largest_hot=round(largest, 4),
    )


def beat(frames: Sequence[NDArray[np.uint8]]) -> float:
    """How strong bands across the picture change between `frames`, uint8 [H, W, 3] RGB in a row, in percent.

    The median over the pairs, each weighted by how alike the bands are at the left and at the right: what moves in the
    picture is not.
    """
    profiles = [_profiles(frame) for frame in frames]
    found = [_bands(after - before) for before, after in itertools.pairwise(profiles)]
    return round(float(np.median(found)), 3) if found else 0.0


def measured(looks: Sequence[Looked], beats: Sequence[float] = ()) -> Signal:
    """The signal of pictures and of the places of a video at which its bands were measured."""
    strongest = max(beats, default=0.0)
    value: dict[str, Any] = {
        "suspected": sum(one.patterned for one in looks) * 2 > len(looks) or strongest >= BEAT,
        "looks": [vars(one) for one in looks],
        "beat": strongest if beats else None,
        "bounds": {"peak": PEAK, "share": SHARE, "beat": BEAT},
    }
    return Signal(KIND, "measured" if any(one.parts for one in looks) else "not_applicable", value, KIND)


def measure(upload: Upload) -> Signal:
    """The signal of an upload; a file that a media child cannot read is an error of the signal, not of the file."""
    try:
        if upload.kind == "photo":
            return measured([look(upload.photo)])
        looks, beats = [], []
        with client.open_frames(upload.path, short_side=SHORT_SIDE) as video:
            for place in PLACES:
                found = list(video.frames(place * video.duration, FRAMES))
                looks += [look(rgb, seconds) for seconds, rgb in found[:1]]
                beats += [beat([rgb for _, rgb in found])] if len(found) > 1 else []
        return measured(looks, beats)
    except (MediaError, ChildError) as error:
        if error.code == "canceled":
            raise
        return signals.failed(KIND, error.code)


def _tiles(luma: NDArray[np.uint8]) -> Iterable[NDArray[np.float32]]:
    """Parts of the picture, `_MOST_ROWS` by as many at most, spread evenly; they overlap where they have to."""
    side = next((side for side in _SIDES if side <= min(luma.shape)), None)
    if side is None:
        return
    tops, lefts = (
        np.linspace(0, length - side, min(_MOST_ROWS, -(-length // side))).astype(int) for length in luma.shape
    )
    for top, left in itertools.product(tops, lefts):
        yield luma[top : top + side, left : left + side].astype(np.float32)


def _peak(tile: NDArray[np.float32]) -> float | None:
    """How far the strongest regular pattern stands above the spectrum around it; None where there is nothing at all."""
    if float(tile.std()) < _FLAT:
        return None
    side = len(tile)
    window, where = _counting(side)
    power = np.abs(np.fft.fft2((tile - tile.mean()) * window)) ** 2
    smooth = cv2.blur(np.fft.fftshift(power).astype(np.float32), (3, 3))
    logs = np.log(smooth + np.float32(1.0))
    around = round(_BACKGROUND * side / 2) * 2 + 1
    return float((logs - cv2.blur(logs, (around, around)))[where].max())


def _hot(luma: NDArray[np.uint8]) -> tuple[float, float]:
    blown = (luma >= _BLOWN).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(blown)
    largest = int(stats[1:, cv2.CC_STAT_AREA].max()) if count > 1 else 0
    return float(blown.mean()), largest / luma.size


def _profiles(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The logarithm of each row's brightness in `_STRIPS` strips beside one another, [strips, H]."""
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float64)
    strips = np.array_split(luma, _STRIPS, axis=1)
    return np.log(np.stack([strip.mean(axis=1) for strip in strips]) + 4.0)


def _bands(change: NDArray[np.float64]) -> float:
    """Percent of brightness in bands that all strips share, from the change of `_profiles`."""
    rows = np.linspace(-1, 1, change.shape[1])
    # Neither the light of the whole picture nor a slope in it is a band.
    bent = np.stack([one - np.polyval(np.polyfit(rows, one, 1), rows) for one in change])
    smooth = cv2.blur(bent, (max(3, change.shape[1] // 60), 1))
    spread = smooth.std(axis=1)
    if float(spread.min()) < 1e-6:
        return 0.0
    alike = float(np.corrcoef(smooth).min())
    return 100.0 * float(smooth.mean(axis=0).std()) * max(0.0, alike)


@cache
def _counting(side: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The window of a part, and where in its shifted spectrum peaks count: not on the axes, not on JPEG's grid."""
    steps = np.fft.fftshift(np.fft.fftfreq(side))
    across, down = np.meshgrid(steps, steps)
    reach = np.hypot(across, down)
    near = _NEAR_BINS / side  # a window spreads a line over that much
    off = (np.abs(across) > near) & (np.abs(down) > near)
    grid = [np.abs(one - np.round(one / _GRID) * _GRID) <= near for one in (across, down)]
    where = off & (reach >= _LOWEST) & (reach <= _HIGHEST) & ~(grid[0] & grid[1])
    return np.outer(np.hanning(side), np.hanning(side)).astype(np.float32), where
