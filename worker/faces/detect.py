"""Face detection with the two BlazeFace nets (Bazarevsky et al. 2019, arXiv:1907.05047; weights of MediaPipe).

The short-range net sees large faces, the full-range net smaller ones, and each finds faces the other misses, so both
always look at the whole image; the full-range net also looks at tiles, because at its 192 pixels of input a face of
64 pixels in a large image would be a handful of pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from worker.faces import align
from worker.faces.types import MIN_FACE_PIXELS, Detection, Floats, Frame, ModelRunner, Rgb, size_of

_SCORE: Final = 0.5
# A face that only one net or only one tile sees must be surer, false alarms grow with the number of looks.
_TILE_SCORE: Final = 0.6
_OVERLAP: Final = 0.3
# Least share of a net's input side that a face must fill to be found reliably.
_SMALLEST_SHARE: Final = 0.09
# Tiles beyond this many are not worth their time; the least size found grows instead.
_MOST_TILES: Final = 96
_TILE_BATCH: Final = 16


@dataclass(frozen=True)
class _Net:
    model: str
    size: int
    layers: tuple[tuple[int, int], ...]  # (stride, anchors per cell)

    def anchors(self) -> Floats:
        """Centres of all anchors, float32 [N, 2] in 0..1, row by row as the net lists them."""
        centres = []
        for stride, per_cell in self.layers:
            cells = self.size // stride
            grid = (np.arange(cells, dtype=np.float32) + 0.5) / cells
            x, y = np.meshgrid(grid, grid)
            centres.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), per_cell, axis=0))
        return np.concatenate(centres).astype(np.float32)


_SHORT: Final = _Net("blazeface_short", 128, ((8, 2), (16, 6)))
_FULL: Final = _Net("blazeface_full", 192, ((4, 1),))


@dataclass(frozen=True)
class Window:
    """A part of a picture, in its pixels."""

    x: int
    y: int
    width: int
    height: int


class FaceDetector:
    """Finds faces; holds no state but the anchors, so one instance serves many threads."""

    def __init__(self, runner: ModelRunner) -> None:
        self._runner = runner
        self._anchors = {net.model: net.anchors() for net in (_SHORT, _FULL)}

    def detect(self, frame: Frame, min_size: int = MIN_FACE_PIXELS) -> list[Detection]:
        """All faces of `frame` whose box is at least `min_size` pixels, largest first.

        Frames larger than the nets can resolve at `min_size` are also searched in overlapping tiles.
        """
        width, height = size_of(frame)
        whole = [Window(0, 0, width, height)]
        found = self._look(frame, _SHORT, whole, _SCORE) + self._look(frame, _FULL, whole, _SCORE)
        for tiles in tile_levels(width, height, min_size):
            found += self._look(frame, _FULL, tiles, _TILE_SCORE)
        kept = suppress(found)
        kept = [one for one in kept if float(one.box[2:].max()) >= min_size]
        return sorted(kept, key=lambda one: -float(one.box[2] * one.box[3]))

    def _look(self, frame: Frame, net: _Net, windows: Sequence[Window], least: float) -> list[Detection]:
        """Look at windows of one size."""
        found: list[Detection] = []
        # The frame is reduced once for all its windows, which overlap.
        scale = net.size / max(windows[0].width, windows[0].height)
        across, down = (max(1, round(side * scale)) for side in size_of(frame))
        small = align.resized(frame, (across, down), cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        for batch in _chunks(windows, _TILE_BATCH):
            letterboxes = [_letterbox(small, window, scale, net.size) for window in batch]
            pixels = np.stack([image for image, _ in letterboxes]).astype(np.float32) / 127.5 - 1.0
            outputs = self._runner.run(net.model, {"image": pixels})
            boxes, logits = outputs["regressors"], outputs["classificators"]
            for row, (_, corner) in enumerate(letterboxes):
                found += self._decode(net, boxes[row], logits[row, :, 0], scale=scale, corner=corner, least=least)
        return found

    def _decode(
        self,
        net: _Net,
        regressors: Floats,
        logits: Floats,
        *,
        scale: float,
        corner: tuple[int, int],
        least: float,
    ) -> list[Detection]:
        """Faces in the frame's pixels; `corner` is where in the reduced frame the net's square begins."""
        scores = 1.0 / (1.0 + np.exp(-np.clip(logits, -80, 80)))
        chosen = np.flatnonzero(scores > least)
        if chosen.size == 0:
            return []
        values = regressors[chosen] / net.size
        anchors = self._anchors[net.model][chosen]
        centres = values[:, :2] + anchors
        sizes = values[:, 2:4]
        keypoints = values[:, 4:].reshape(-1, 6, 2) + anchors[:, None]
        shift = np.array(corner, np.float32) / scale
        centres = centres * net.size / scale + shift
        sizes = sizes * net.size / scale
        keypoints = keypoints * net.size / scale + shift
        boxes = np.concatenate([centres - sizes / 2, sizes], axis=1).astype(np.float32)
        return suppress(
            [
                Detection(box=boxes[k], score=float(scores[one]), keypoints=keypoints[k].astype(np.float32))
                for k, one in enumerate(chosen)
            ]
        )


def tile_levels(
    width: int, height: int, min_size: int, smallest_share: float = _SMALLEST_SHARE
) -> Iterator[list[Window]]:
    """Grids of square windows, coarse to fine, until a face of `min_size` fills `smallest_share` of a window's side.

    Each level halves the window, so a face of any size between fits well into some window of some level; windows
    overlap by twice the size of the faces they are meant for.
    """
    longest = max(width, height)
    wanted = min_size / smallest_share
    side = longest / 2.0
    while side * 2.0 > wanted * 1.25:
        tile = round(max(side, wanted))
        overlap = round(2 * tile * smallest_share)
        xs, ys = _starts(width, tile, overlap), _starts(height, tile, overlap)
        if len(xs) * len(ys) > _MOST_TILES:
            return
        yield [Window(x, y, min(tile, width), min(tile, height)) for y in ys for x in xs]
        side /= 2.0


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    if length <= tile:
        return [0]
    count = int(np.ceil((length - overlap) / (tile - overlap)))
    return [round(k * (length - tile) / (count - 1)) for k in range(count)]


def _chunks(windows: Sequence[Window], size: int) -> Iterator[Sequence[Window]]:
    for start in range(0, len(windows), size):
        yield windows[start : start + size]


def _letterbox(small: Rgb, window: Window, scale: float, size: int) -> tuple[Rgb, tuple[int, int]]:
    """A window of the reduced frame in a black square: (uint8 [size, size, 3], where its corner lies in that frame)."""
    left, top = round(window.x * scale), round(window.y * scale)
    part = small[top : top + round(window.height * scale), left : left + round(window.width * scale)][:size, :size]
    canvas = np.zeros((size, size, 3), np.uint8)
    x, y = (size - part.shape[1]) // 2, (size - part.shape[0]) // 2
    canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
    return canvas, (left - x, top - y)


def suppress(found: Sequence[Detection]) -> list[Detection]:
    """Non-maximum suppression, best score first, by `same_face`."""
    order = sorted(found, key=lambda one: -one.score)
    kept: list[Detection] = []
    for one in order:
        if all(not same_face(one.box, other.box) for other in kept):
            kept.append(one)
    return kept


def same_face(a: Floats, b: Floats) -> bool:
    """Whether two boxes are one face: they overlap by more than 0.3 of their union, or one holds most of the other.

    Nets frame the same face differently, and a tile's border cuts faces.
    """
    shared = intersection(a, b)
    area_a, area_b = float(a[2] * a[3]), float(b[2] * b[3])
    if shared <= 0:
        return False
    return shared / (area_a + area_b - shared) > _OVERLAP or shared / min(area_a, area_b) > 0.7


def intersection(a: Floats, b: Floats) -> float:
    """Shared area in square pixels of two boxes float32 [4] (x, y, width, height)."""
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return float(max(across, 0.0) * max(down, 0.0))


def overlap(a: Floats, b: Floats) -> float:
    """Intersection over union, 0..1, of two boxes float32 [4] (x, y, width, height)."""
    shared = intersection(a, b)
    union = float(a[2] * a[3] + b[2] * b[3]) - shared
    return shared / union if union > 0 else 0.0
