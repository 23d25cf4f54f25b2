"""Enlarging whole pictures by a model that takes square tiles, which overlap and fade into each other.

A net knows less of a tile's rim than of its middle, so the outer quarter of an overlap is not used from either tile and
the fade takes place between. The last tile of a row or column is moved inward to end with the picture, and a picture
smaller than a tile is mirrored until it fills one.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces.neural.adapters import image_of
from worker.faces.neural.crops import PictureReader, TensorWriter
from worker.faces.types import Rgb
from worker.inference.registry import ModelCard
from worker.inference.types import ModelRunner, Pending
from worker.media.planes import Planes

OVERLAP: Final = 0.125  # of a tile's side
_UNUSED: Final = 0.25  # of an overlap, on either side of its fade
_IN_FLIGHT: Final = 96 << 20  # bytes of answers that may be waited for at a time: what the engine can batch


class Upscaler:
    """Enlarges pictures `factor` times; belongs to one thread."""

    def __init__(self, runner: ModelRunner, card: ModelCard) -> None:
        """`card` is of the role frame_upscaler. ValueError if its output is not a whole number of times its tile."""
        self.card: Final = card
        image = image_of(card)
        self._runner = runner
        self._image = image
        self._side = image.side
        out = card.contract.outputs[image.output]
        self.factor: Final = out[-1] // image.side
        if self.factor < 1 or out != (3, image.side * self.factor, image.side * self.factor):
            raise ValueError(f"the model {card.name} does not enlarge by a whole number")
        self._writer = TensorWriter(image)
        self._reader = PictureReader(image)
        self._overlap = max(4, round(OVERLAP * image.side))
        size = card.contract.output_type(image.output).itemsize
        self._most = max(2, _IN_FLIGHT // (size * out[0] * out[1] * out[2]))

    def enlarge(self, rgb: Rgb) -> Rgb:
        """uint8 [H, W, 3] RGB -> uint8 [factor * H, factor * W, 3]. Raises ModelError."""
        height, width = rgb.shape[:2]
        padded = _filled(rgb, self._side)
        tops, lefts = (_starts(size, self._side, self._overlap) for size in padded.shape[:2])
        whole = np.empty((padded.shape[0] * self.factor, padded.shape[1] * self.factor, 3), np.uint8)
        tiles = self._tiles(padded, [(top, left) for top in tops for left in lefts])
        for row, top in enumerate(tops):
            strip = np.empty((self._side * self.factor, whole.shape[1], 3), np.uint8)
            for column, left in enumerate(lefts):
                kept = lefts[column - 1] + self._side - left if column else 0
                self._put(strip, next(tiles), left, kept, axis=1)
            kept = tops[row - 1] + self._side - top if row else 0
            self._put(whole, strip, top, kept, axis=0)
        return np.ascontiguousarray(whole[: height * self.factor, : width * self.factor])

    def _tiles(self, padded: Rgb, places: list[tuple[int, int]]) -> Iterator[Rgb]:
        """The enlarged tiles at `places`, in their order; several are with the engine at a time."""
        runs: deque[Pending] = deque()
        waiting = iter(places)
        for _ in places:
            while len(runs) < self._most and (place := next(waiting, None)) is not None:
                tile = padded[place[0] : place[0] + self._side, place[1] : place[1] + self._side]
                inputs = {self._image.input: self._writer.write(np.ascontiguousarray(tile))}
                runs.append(self._runner.submit(self.card.name, inputs))
            yield self._reader.rgb(runs.popleft().result()[self._image.output][0])

    def _put(self, whole: Rgb, part: Rgb, start: int, kept: int, *, axis: int) -> None:
        """Put `part` into `whole` at `start`, fading in over the first `kept` pixels, which lie there already.

        `start` and `kept` in pixels before they are enlarged, along `axis`.
        """
        first, shared = start * self.factor, kept * self.factor
        new = _along(whole, axis, first + shared, first + part.shape[axis])
        new[:] = _along(part, axis, shared, part.shape[axis])
        if not shared:
            return
        weight = _fade(shared)
        weight = weight[:, None, None] if axis == 0 else weight[None, :, None]
        old = _along(whole, axis, first, first + shared)
        change = _along(part, axis, 0, shared).astype(np.float32) - old
        old[:] = np.rint(old + change * weight).astype(np.uint8)


def enlarge_planes(upscaler: Upscaler, planes: Planes, out: Planes) -> None:
    """Enlarge a frame into `out`, whose size is `factor` times that of `planes`. Raises ModelError."""
    out.paste(out.whole, upscaler.enlarge(planes.to_rgb()))


def _starts(size: int, side: int, overlap: int) -> list[int]:
    """Where tiles of `side` begin that cover `size` pixels (at least `side`) and share `overlap` or more."""
    count = 1 + -(-(size - side) // (side - overlap))
    return [min(index * (side - overlap), size - side) for index in range(count)]


def _filled(rgb: Rgb, side: int) -> Rgb:
    """The picture, mirrored to the right and below until it has `side` pixels each way."""
    height, width = rgb.shape[:2]
    below, right = max(0, side - height), max(0, side - width)
    if not below and not right:
        return rgb
    return np.asarray(cv2.copyMakeBorder(rgb, 0, below, 0, right, cv2.BORDER_REFLECT), np.uint8)


def _along(picture: Rgb, axis: int, first: int, last: int) -> Rgb:
    return picture[first:last] if axis == 0 else picture[:, first:last]


def _fade(length: int) -> NDArray[np.float32]:
    """Weights float32 [length] of what comes, from 0 to 1, level at both ends."""
    place = (np.arange(length) + 0.5) / length
    return np.asarray(np.clip((place - _UNUSED) / (1 - 2 * _UNUSED), 0, 1), np.float32)
