"""The invisible mark in video: the same tile in every frame, weighted by each frame's own mask; and its reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark import pattern as patterns
from watermark.embedding import (
    BLUE_PER_CB,
    GREEN_PER_CB,
    MarkMode,
    canonical_size,
    check_side,
    gain,
    lay_pattern,
    target_db,
)
from watermark.image import check_rgb
from watermark.keys import MarkKey
from watermark.mark_errors import MarkError
from watermark.mask import CHROMA_STRENGTH, strength_fast
from watermark.pattern import MarkPattern

if TYPE_CHECKING:
    from watermark.video_reading import VideoReading

_MASK_SIDE = 256
# Limited ("tv") range keeps luma in 219 and colour differences in 224 steps (ITU-R BT.601-7, section 2.5.3).
_LIMITED_LUMA, _LIMITED_CHROMA = 219 / 255, 224 / 255


class Embedder:
    """Writes one mark into the frames of one video. Not thread-safe; frames may come in any order.

    The tile never changes between frames, so the mark neither flickers nor survives only in some of them.
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
        width, height = size
        self._target = target_db(mode, width, height)
        check_side(width, height)
        self.size = size
        self._canonical = canonical_size(width, height)
        self._luma, self._chroma = lay_pattern(pattern, self._canonical)
        self._chroma *= CHROMA_STRENGTH
        # A whole factor takes OpenCV's fast path for area averages: 1 ms instead of 4 for a 1080p frame.
        self._factor = max(1, round(min(size) / _MASK_SIDE))
        # Kept between frames: fresh pages for a float plane cost more than the arithmetic on it.
        self._mask, self._change, self._change_cb = (np.empty_like(self._luma) for _ in range(3))
        self._wide = np.empty((height, width), np.float32)
        self._wide_cb = np.empty(((height + 1) // 2, (width + 1) // 2), np.float32)

    def embed(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a marked copy of `frame` (uint8 [H, W, 3] RGB). Raises MarkError "picture_format"."""
        check_rgb(frame)
        self._check(frame.shape[:2], self.size)
        factor = self._plan(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))
        d = cv2.resize(cv2.multiply(self._change, factor), self.size, interpolation=cv2.INTER_LINEAR)
        c = cv2.resize(cv2.multiply(self._change_cb, factor), self.size, interpolation=cv2.INTER_LINEAR)
        delta = cv2.merge([d, cv2.scaleAdd(c, GREEN_PER_CB, d), cv2.scaleAdd(c, BLUE_PER_CB, d)])
        return np.asarray(cv2.add(frame, delta, dtype=cv2.CV_8U), np.uint8)

    def embed_yuv420(
        self, y: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8], *, full_range: bool = False
    ) -> None:
        """Mark planar 4:2:0 in place: `y` uint8 [H, W], `u` and `v` uint8 [ceil(H/2), ceil(W/2)]; rows may be strided.

        `v` (Cr) carries nothing and stays as it is. `full_range` as signalled by the stream. Raises MarkError
        "plane_format".
        """
        width, height = self.size
        half = ((width + 1) // 2, (height + 1) // 2)
        for plane, size in ((y, self.size), (u, half), (v, half)):
            if plane.dtype != np.uint8 or plane.strides[-1:] != (1,) or not plane.flags.writeable:
                raise MarkError(
                    "plane_format",
                    "Planes must be writable arrays of 8 bit with their pixels side by side. The frame is unchanged. "
                    "Convert it first.",
                )
            self._check(plane.shape, size)
        factor = self._plan(y)
        luma_scale, chroma_scale = (1.0, 1.0) if full_range else (_LIMITED_LUMA, _LIMITED_CHROMA)
        cv2.resize(self._change, self.size, dst=self._wide, interpolation=cv2.INTER_LINEAR)
        cv2.resize(self._change_cb, half, dst=self._wide_cb, interpolation=cv2.INTER_LINEAR)
        cv2.addWeighted(y, 1.0, self._wide, factor * luma_scale, 0.0, dst=y, dtype=cv2.CV_8U)
        cv2.addWeighted(u, 1.0, self._wide_cb, factor * chroma_scale, 0.0, dst=u, dtype=cv2.CV_8U)

    def _plan(self, luma: NDArray[np.uint8]) -> float:
        """Set the changes of luma and Cb, in canonical pixels; returns their gain."""
        width, height = self.size
        small = (width // self._factor, height // self._factor)
        whole = luma[: small[1] * self._factor, : small[0] * self._factor]
        strength_fast(np.asarray(cv2.resize(whole, small, interpolation=cv2.INTER_AREA), np.uint8), self._mask)
        cv2.multiply(self._mask, self._luma, dst=self._change)
        cv2.multiply(self._mask, self._chroma, dst=self._change_cb)
        return gain(self._change, self._change_cb, self._target)

    @staticmethod
    def _check(shape: tuple[int, ...], size: tuple[int, int]) -> None:
        if shape != (size[1], size[0]):
            raise MarkError(
                "plane_format",
                f"The embedder was made for planes of {size[0]} x {size[1]} pixels, this one has the shape {shape}. "
                "The frame is unchanged. Make an embedder for this size.",
            )


def read(frames: Iterable[tuple[float, NDArray[np.uint8]]], keys: Sequence[MarkKey]) -> VideoReading | None:
    """Look for a mark in `frames`: (seconds, uint8 [H, W, 3] RGB) in order of time, all of one size.

    Reads as many frames as given (choose them outside: a dozen over the length is plenty), so pass an iterator and not
    the whole video. None when nothing is found.
    """
    from watermark.video_reading import read_frames  # numba: only readers pay for its import

    return read_frames(frames, keys)
