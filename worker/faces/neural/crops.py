"""From a frame to a model's tensor and back to a small picture, with as little work as the host can do.

A frame is either `Planes` (video) or uint8 [H, W, 3] RGB (photo). Planes are never turned into RGB as a whole: each is
sampled for itself, and only the small square is converted. Pixels stay bytes; where a model takes floats, the last
step writes them straight into the tensor that is sent.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces import align
from worker.faces.align import Affine
from worker.faces.types import Floats, Frame, Rgb, size_of
from worker.inference.contracts import ImageContract

# Reductions beyond this are averaged also for the detector, which looks at the whole frame.
_LINEAR_DOWN_TO: Final = 0.25


class TensorWriter:
    """Writes pictures into one tensor [1, ...] of a model's form, which is kept and used again.

    It is uint8 where the model takes its picture as bytes, else float32.
    """

    def __init__(self, image: ImageContract) -> None:
        self._image = image
        side = image.side
        form = (1, 3, side, side) if image.layout == "NCHW" else (1, side, side, 3)
        self.tensor: NDArray[Any] = np.empty(form, np.uint8 if image.as_bytes else np.float32)
        self._scale, self._shift = image.scaling()
        self._order = (0, 1, 2) if image.colours == "RGB" else (2, 1, 0)  # where red, green and blue go
        self.write(np.zeros((side, side, 3), np.uint8))

    def write(self, rgb: Rgb) -> NDArray[Any]:
        """Write uint8 [h, w, 3] RGB, at most the tensor's side, to the top left corner; give the tensor.

        What lies beyond keeps what it held: black, if nothing larger was ever written.
        """
        height, width = rgb.shape[:2]
        planes = self.tensor[0] if self._image.layout == "NCHW" else np.moveaxis(self.tensor[0], -1, 0)
        targets = [planes[place, :height, :width] for place in self._order]
        if self._image.as_bytes and self._image.layout == "NCHW":
            cv2.split(rgb, targets)  # straight into the tensor
            return self.tensor
        for place, target, plane in zip(self._order, targets, cv2.split(rgb), strict=True):
            if self._image.as_bytes:
                target[:] = plane
                continue
            np.multiply(plane, self._scale[place], out=target)
            if self._shift[place]:
                np.add(target, self._shift[place], out=target)
        return self.tensor


class PictureReader:
    """Turns a picture that a model gave as bytes, in its own form, into the one that is pasted."""

    def __init__(self, image: ImageContract) -> None:
        """ValueError where the picture does not come as bytes."""
        if not image.as_bytes:
            raise ValueError("a picture is read as bytes only")
        self._planes = image.layout == "NCHW"
        self._turned = image.colours == "BGR"

    def rgb(self, tensor: NDArray[np.uint8]) -> Rgb:
        """uint8 [side, side, 3] RGB from one item, [3, side, side] or [side, side, 3]."""
        colours = list(tensor) if self._planes else [tensor[..., place] for place in range(3)]
        return np.asarray(cv2.merge(colours[::-1] if self._turned else colours), np.uint8)


def framing(image: ImageContract, five: Floats, box: Floats | None = None) -> Affine:
    """The transform from the frame to a model's square by its contract: a template for `five`, or the `box`.

    `five` float32 [5, 2] and `box` float32 [4] x, y, width, height in pixels of the frame.
    """
    if image.framing != "box":
        return align.similarity(five, np.array(align.TEMPLATES[image.framing]) * image.side)
    if box is None:
        raise ValueError("a model that looks at the box needs one")
    scale = image.share * image.side / max(float(box[2:].max()), 1.0)
    shift = image.side / 2 - scale * (box[:2] + box[2:] / 2)
    return np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])


def cut(frame: Frame, matrix: Affine, side: int) -> Rgb:
    """The square uint8 [side, side, 3] RGB that `matrix` (frame to square) cuts out. Its edge goes on beyond."""
    return align.warp(frame, matrix, side, border=cv2.BORDER_REPLICATE)


def split_tiles(square: Rgb, factor: int) -> list[Rgb]:
    """A square uint8 [side, side, 3] as factor x factor smaller ones, row by row.

    Each shows the whole: tile (row, column) holds every `factor`-th pixel from there. `merge_tiles` is the way back.
    """
    return [
        np.ascontiguousarray(square[row::factor, column::factor]) for row in range(factor) for column in range(factor)
    ]


def merge_tiles(tiles: Sequence[Rgb]) -> Rgb:
    """The square that `split_tiles` took apart. ValueError where their number is no square."""
    factor = math.isqrt(len(tiles))
    if factor * factor != len(tiles) or not tiles:
        raise ValueError(f"{len(tiles)} tiles make no square")
    if factor == 1:
        return tiles[0]
    side = tiles[0].shape[0] * factor
    square = np.empty((side, side, 3), np.uint8)
    for index, tile in enumerate(tiles):
        square[index // factor :: factor, index % factor :: factor] = tile
    return square


def letterbox(frame: Frame, side: int) -> tuple[Rgb, float]:
    """The whole frame reduced (or enlarged) until its longer side is `side`: (uint8 [h, w, 3] RGB, its scale)."""
    width, height = size_of(frame)
    scale = side / max(width, height)
    size = (min(side, max(1, round(width * scale))), min(side, max(1, round(height * scale))))
    how = cv2.INTER_AREA if scale < _LINEAR_DOWN_TO else cv2.INTER_LINEAR
    return align.resized(frame, size, how), scale
