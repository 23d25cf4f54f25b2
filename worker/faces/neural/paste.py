"""Putting a model's square back: on the face's rectangle only, in bytes, plane by plane.

What lies under weight 0 keeps its exact value; so does the whole rest of the frame, which is not even read.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces import align, raster
from worker.faces.align import Affine
from worker.faces.types import Floats, Frame, Rgb
from worker.media.planes import TO_YUV, Box, Planes

FEATHER: Final = 0.15  # of the side: how far the square fades towards its edges
# Square's pixels per sample of the frame from which whole blocks of them are averaged first: where sampling would begin
# to skip some. Colours begin a little earlier: it is not seen, and leaves a quarter of the pixels to put together.
_AVERAGED: Final = 1.75
_COLOURS_AVERAGED: Final = 1.6


class Paster:
    """Pastes squares of `side` pixels, their edges feathered; the mask is made once."""

    def __init__(self, side: int, *, feather: float = FEATHER, opacity: float = 1.0) -> None:
        """`opacity` 0..1 is the weight in the middle of the square."""
        self._side = side
        self._masks = {1: feathered(side, feather, opacity)}
        seen = np.flatnonzero(self._masks[1].max(axis=0))
        low, high = float(seen[0]) - 1, float(seen[-1]) + 1
        self._outline = ((low, low), (high, low), (high, high), (low, high))

    def box(self, matrix: Affine, size: tuple[int, int]) -> Box | None:
        """The part of a frame of `size` (width, height) that a square by `matrix` (frame to square) can change."""
        return Box.around(align.corners_in_frame(matrix, self._outline), 0.0, size)

    def weight(self, mask: NDArray[np.uint8] | None = None) -> Floats:
        """How much of each pixel of a square shows, float32 [side, side] in 0..1; `mask` as for `paste`."""
        return self._weights(mask)[1].astype(np.float32) / np.float32(255)

    def paste(
        self,
        frame: Frame,
        matrix: Affine,
        square: Rgb,
        *,
        mask: NDArray[np.uint8] | None = None,
        share: float = 1.0,
    ) -> Box | None:
        """Blend uint8 [side, side, 3] into the frame where `matrix` (frame to square) took it from, in place.

        The square is RGB, whatever the frame is. `mask` uint8 [side, side] says how much of each of its pixels may
        show, 255 for all; the feather takes from that too, and `share` 0..1 from all of it. Gives the rectangle that
        may have changed, None if the square lies outside. ValueError for a mask of another size.
        """
        if mask is not None and mask.shape != (self._side, self._side):
            raise ValueError(f"a mask of {list(mask.shape)} for a square of {self._side} pixels")
        size = frame.size if isinstance(frame, Planes) else (frame.shape[1] // 2 * 2, frame.shape[0] // 2 * 2)
        box = self.box(matrix, size)
        if box is None:
            return None
        weights, corner = self._weights(mask), (box.left, box.top)
        size = (box.right - box.left, box.bottom - box.top)
        if isinstance(frame, Planes):
            luma, blue, red = cv2.split(np.asarray(cv2.transform(square, TO_YUV), np.uint8))
            rows, columns = slice(box.top // 2, box.bottom // 2), slice(box.left // 2, box.right // 2)
            half = (box.left // 2, box.top // 2), (size[0] // 2, size[1] // 2)
            at = _Place(align.to_chroma(matrix), *half, averaged=_COLOURS_AVERAGED)
            blue, red, coarse = at.chroma(blue, red, weights)
            _blend(frame.u[rows, columns], blue, coarse, share)
            _blend(frame.v[rows, columns], red, coarse, share)
            at = _Place(matrix, corner, size)
            region = frame.y[box.top : box.bottom, box.left : box.right]
            _blend(region, at.warp(luma), at.weights(weights) if at.reduces else _enlarged(coarse, size), share)
        else:
            at = _Place(matrix, corner, size)
            region = frame[box.top : box.bottom, box.left : box.right]
            _blend(region, *at.picture(square, weights), share)
        return box

    def _weights(self, mask: NDArray[np.uint8] | None) -> dict[int, Rgb]:
        """The weights of the square's pixels by how many times they are reduced; further ones are put in."""
        if mask is None:
            return self._masks
        return {1: np.asarray(cv2.multiply(self._masks[1], mask, scale=1 / 255), np.uint8)}


def feathered(side: int, feather: float = FEATHER, opacity: float = 1.0) -> Rgb:
    """The mask uint8 [side, side]: 255 * `opacity` in the middle, smoothly to 0 over `feather` of the side."""
    from_edge = np.minimum(np.arange(side), np.arange(side)[::-1]).astype(np.float64)
    share = np.clip(from_edge / max(1.0, feather * side), 0, 1)
    share = share * share * (3 - 2 * share)
    return np.asarray(np.rint(np.outer(share, share) * 255 * opacity), np.uint8)


class _Place:
    """A rectangle of a plane, its corner (x, y) at `corner`, into which squares are sampled along `matrix`."""

    def __init__(
        self, matrix: Affine, corner: tuple[int, int], size: tuple[int, int], *, averaged: float = _AVERAGED
    ) -> None:
        """`matrix` leads from the plane to the square, `size` is (width, height)."""
        self._size = size
        self._matrix = matrix * 1.0
        self._matrix[:, 2] += matrix[:, :2] @ corner
        scale = align.scale_of(matrix)
        self.reduces = scale > 1
        self._factor = max(1, int(scale + 2 - averaged))
        if self._factor > 1:  # the square is reduced: averaged first, or pixels of it would be skipped
            self._matrix[:, 2] -= (self._factor - 1) / 2
            self._matrix /= self._factor

    def warp(self, square: Rgb) -> Rgb:
        """The square here; its edge goes on beyond."""
        return self._sampled(self._fine(square))

    def chroma(self, blue: Rgb, red: Rgb, of_square: dict[int, Rgb]) -> tuple[Rgb, Rgb, Rgb]:
        """Both colours of the square and the weights here, 0 beyond it; for the weights see `Paster._weights`."""
        mask = self._mask(of_square)
        # Four planes that are sampled together cost half of what three do.
        blue, red, weights, _ = cv2.split(self._together(self._fine(blue), self._fine(red), mask, mask))
        return blue, red, weights

    def picture(self, square: Rgb, of_square: dict[int, Rgb]) -> tuple[Rgb, Rgb]:
        """The square [side, side, 3] and the weights here."""
        all_four = self._together(self._fine(square), self._mask(of_square))
        colours = np.asarray(cv2.cvtColor(all_four, cv2.COLOR_RGBA2RGB), np.uint8)
        return colours, np.asarray(cv2.extractChannel(all_four, 3), np.uint8)

    def weights(self, of_square: dict[int, Rgb]) -> Rgb:
        """The weights here."""
        return self._sampled(self._mask(of_square))

    def _together(self, *planes: Rgb) -> Rgb:
        return self._sampled(np.asarray(cv2.merge(planes), np.uint8))

    def _fine(self, square: Rgb) -> Rgb:
        """What is sampled of a square: averaged where it is reduced much."""
        return _reduced(square, self._factor) if self._factor > 1 else square

    def _mask(self, of_square: dict[int, Rgb]) -> Rgb:
        """What is sampled of the weights: they end in 0, so that going on beyond the edge is right for them too."""
        if self._factor not in of_square:
            reduced = _reduced(of_square[1], self._factor)
            reduced[[0, -1]] = 0
            reduced[:, [0, -1]] = 0
            of_square[self._factor] = reduced
        return of_square[self._factor]

    def _sampled(self, fine: Rgb) -> Rgb:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(fine, self._matrix, self._size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8
        )


def _blend(region: Rgb, face: Rgb, weights: Rgb, share: float) -> None:
    """Blend `face` into `region`, in place; `weights` uint8 [h, w], 255 for all of it, times `share`."""
    # Where a face fades, its weights are rounded before: within a level of the exact blend.
    if share < 1:
        weights = np.asarray(cv2.multiply(weights, (share,) * 4), np.uint8)
    if region.ndim == 3:
        weights = np.asarray(cv2.merge([weights, weights, weights]), np.uint8)
    rows = (len(region), -1)
    # Never a copy, which would be blended into in vain; a part of a picture is whole along its rows.
    _mix(np.reshape(region, rows, copy=False), face.reshape(rows), weights.reshape(rows))


@raster.compiled
def _mix(region: Rgb, face: Rgb, weights: Rgb) -> None:
    height, width = region.shape
    for y in range(height):
        for x in range(width):
            weight = np.uint32(weights[y, x])
            both = np.uint32(region[y, x]) * (np.uint32(255) - weight) + np.uint32(face[y, x]) * weight
            # Divided by 255 and rounded to the nearest, exactly for all that two bytes can give.
            both += np.uint32(128)
            region[y, x] = np.uint8((both + (both >> np.uint32(8))) >> np.uint32(8))


def _enlarged(weights: Rgb, size: tuple[int, int]) -> Rgb:
    """Weights of a chroma plane for luma's `size`: where a square is enlarged, its soft mask has no finer detail.

    It costs a fifth of sampling the square's again.
    """
    return np.asarray(cv2.resize(weights, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _reduced(square: Rgb, factor: int) -> Rgb:
    size = (square.shape[1] // factor, square.shape[0] // factor)
    whole = square[: size[1] * factor, : size[0] * factor]
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)
