"""The invisible mark in video: the same tile in every frame, weighted by each frame's own mask; and its reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark import pattern as patterns
from watermark.embedding import (
    ERROR_PER_CB,
    WINDOW,
    MarkMode,
    add_code,
    analysis_size,
    canonical_size,
    codes,
    first_gain,
    fit_gain,
    prepare,
    sampled_error,
    shrink,
    structure_loss,
    window_grid,
    windows,
)
from watermark.image import check_rgb, embed_laid
from watermark.keys import MarkKey
from watermark.mark_errors import MarkError
from watermark.mask import strengths
from watermark.pattern import MarkPattern

if TYPE_CHECKING:
    from watermark.frames import FrameSource
    from watermark.video_reading import VideoReading, Watch

_SAME_SCENE = 0.02
"""Relative difference of the first guess of the gain up to which the gain measured last is good for a frame, too."""
# Limited ("tv") range keeps luma in 219 and colour differences in 224 steps (ITU-R BT.601-7, section 2.5.3).
_LIMITED_LUMA, _LIMITED_CHROMA = 219 / 255, 224 / 255


class Embedder:
    """Writes one mark into the frames of one video. Not thread-safe; frames may come in any order.

    The tile never changes between frames, so the mark neither flickers nor survives only in some of them. Its strength
    is measured at the first frame and again where the picture changes much; `start_anew` forgets what was measured.
    """

    def __init__(self, mark_id: bytes, key: MarkKey, size: tuple[int, int], mode: MarkMode = "default") -> None:
        """`size` is (width, height) of the frames. Raises MarkError ("too_small", "too_long", "mark_id", "mode")."""
        self._prepare(patterns.derive(mark_id, key), size, mode)

    @classmethod
    def from_pattern(cls, pattern: MarkPattern, size: tuple[int, int], mode: MarkMode = "default") -> Self:
        """As the constructor, with a pattern derived elsewhere: for processes that hold no keys."""
        embedder = cls.__new__(cls)
        embedder._prepare(pattern, size, mode)
        return embedder

    def _prepare(self, pattern: MarkPattern, size: tuple[int, int], mode: str) -> None:
        self._laid = prepare(pattern, size, mode, moving=True)
        self.size = size
        width, height = size
        across, down = canonical_size(width, height)
        self._half = ((width + 1) // 2, (height + 1) // 2)
        # Kept between frames: fresh pages cost as much as the arithmetic on them.
        self._codes = tuple(np.empty((down, across), np.uint8) for _ in range(2))
        self._measured: dict[bool, tuple[float, float]] = {}
        self._changes = tuple(np.empty((size[1], size[0]), np.uint8) for size in (self.size, self._half))

    def start_anew(self) -> None:
        """Measure the strength at the next frame, so that it does not depend on the frames before."""
        self._measured.clear()

    def embed(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a marked copy of `frame` (uint8 [H, W, 3] RGB). Raises MarkError "picture_format"."""
        check_rgb(frame)
        self._check(frame.shape[:2], self.size)
        return embed_laid(frame, self._laid)

    def embed_yuv420(
        self, y: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8], *, full_range: bool = False
    ) -> None:
        """Mark planar 4:2:0 in place: `y` uint8 [H, W], `u` and `v` uint8 [ceil(H/2), ceil(W/2)]; rows may be strided.

        `v` (Cr) carries nothing and stays as it is. `full_range` as signalled by the stream. Raises MarkError
        "plane_format".
        """
        for plane, size in ((y, self.size), (u, self._half), (v, self._half)):
            if plane.dtype != np.uint8 or plane.strides[-1:] != (1,) or not plane.flags.writeable:
                raise MarkError(
                    "plane_format",
                    "Planes must be writable arrays of 8 bit with their pixels side by side. The frame is unchanged. "
                    "Convert it first.",
                )
            self._check(plane.shape, size)
        scales = (1.0, 1.0) if full_range else (_LIMITED_LUMA, _LIMITED_CHROMA)
        small = analysis_size(*self.size)
        planes = _full_range([shrink(plane, small) for plane in (y, v, u)], scales)
        strength = strengths(np.asarray(cv2.merge(planes), np.uint8))
        for rows, *strips in codes(strength, self._laid):
            for code, strip in zip(self._codes, strips, strict=True):
                code[rows] = strip
        for code, change in zip(self._codes, self._changes, strict=True):
            cv2.resize(code, change.shape[::-1], dst=change, interpolation=cv2.INTER_LINEAR)
        start = first_gain(strength, self._laid.allowance.target)
        known = self._measured.get(full_range)
        if known is None or abs(start / known[0] - 1) > _SAME_SCENE:
            known = self._measured[full_range] = (start, self._gain(y, u, v, start, scales))
        for plane, change, scale in zip((y, u), self._changes, scales, strict=True):
            add_code(plane, change, known[1] * scale, out=plane)

    def _gain(
        self,
        y: NDArray[np.uint8],
        u: NDArray[np.uint8],
        v: NDArray[np.uint8],
        start: float,
        scales: tuple[float, float],
    ) -> float:
        width, height = self.size
        luma_error, cb_error = (
            sampled_error(plane, change) for plane, change in zip((y, u), self._changes, strict=True)
        )

        def error(gain: float) -> float:
            return (
                luma_error(gain * scales[0]) / scales[0] ** 2
                + ERROR_PER_CB * cb_error(gain * scales[1]) / scales[1] ** 2
            )

        grid = window_grid(width, height)
        luma, luma_change = (_luma_windows(plane, grid) for plane in (y, self._changes[0]))
        cr, cb, cb_change = (_chroma_windows(plane, grid) for plane in (v, u, self._changes[1]))
        plain = _rgb_windows([luma, cr, cb], scales)

        def loss(gain: float) -> float:
            marked = [add_code(luma, luma_change, gain * scales[0]), cr, add_code(cb, cb_change, gain * scales[1])]
            return structure_loss(plain, _rgb_windows(marked, scales))

        return fit_gain(start, error, loss, self._laid.allowance)

    @staticmethod
    def _check(shape: tuple[int, ...], size: tuple[int, int]) -> None:
        if shape != (size[1], size[0]):
            raise MarkError(
                "plane_format",
                f"The embedder was made for planes of {size[0]} x {size[1]} pixels, this one has the shape {shape}. "
                "The frame is unchanged. Make an embedder for this size.",
            )


def _full_range(planes: Sequence[NDArray[np.uint8]], scales: tuple[float, float]) -> list[NDArray[np.uint8]]:
    """Stretch Y, Cr and Cb to the full range, given what share of it luma and chroma fill."""
    if scales == (1.0, 1.0):
        return list(planes)
    luma, chroma = scales
    return [
        np.asarray(cv2.convertScaleAbs(plane, alpha=1 / scale, beta=zero * (1 - 1 / scale) - lift / scale), np.uint8)
        for plane, scale, zero, lift in zip(planes, (luma, chroma, chroma), (0, 128, 128), (16, 0, 0), strict=True)
    ]


def _luma_windows(plane: NDArray[np.uint8], grid: tuple[int, int]) -> NDArray[np.uint8]:
    """Windows as one picture uint8 [n WINDOW, WINDOW]."""
    return windows(plane, (WINDOW, WINDOW), grid).reshape(-1, WINDOW)


def _chroma_windows(plane: NDArray[np.uint8], grid: tuple[int, int]) -> NDArray[np.uint8]:
    """The same places of a plane of half the size, every sample doubled; uint8 [n WINDOW, WINDOW]."""
    side = (WINDOW + 1) // 2
    found = windows(plane, (side, side), (grid[0] // 2, grid[1] // 2))
    doubled = found.repeat(2, axis=1).repeat(2, axis=2)[:, :WINDOW, :WINDOW]
    return np.ascontiguousarray(doubled).reshape(-1, WINDOW)


def _rgb_windows(planes: Sequence[NDArray[np.uint8]], scales: tuple[float, float]) -> NDArray[np.uint8]:
    """Windows of Y, Cr and Cb as `structure_loss` wants them."""
    rgb = cv2.cvtColor(cv2.merge(_full_range(planes, scales)), cv2.COLOR_YCrCb2RGB)
    return np.asarray(rgb, np.uint8).reshape(-1, WINDOW, 3 * WINDOW)


def read(source: FrameSource, keys: Sequence[MarkKey]) -> VideoReading | None:
    """Look for a mark in a video. None when nothing is found.

    The reader asks `source` for the frames it wants: keyframes over the length first, others where these leave gaps or
    hope. Wrap frames in memory as `watermark.frames.FrameSequence`. Raises what the source raises.
    """
    from watermark.video_reading import read_frames  # numba: only readers pay for its import

    return read_frames(source, keys)


def watch(duration: float, keys: Sequence[MarkKey]) -> Watch:
    """Look for a mark in frames that somebody else asks for; `duration` as of a `FrameSource`."""
    from watermark.video_reading import Watch

    return Watch(duration, keys)
