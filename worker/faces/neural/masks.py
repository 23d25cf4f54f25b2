"""Where a swapped face shows: masks uint8 [side, side] in the square of the swap, 255 for all of it, and their minimum.

Four kinds: the box, which keeps away from the square's edges; occlusion, which a net tells from what is in front of the
face; regions, of which a net says what each pixel is; areas, which follow from the landmarks. The nets look at the
target, not at the swapped face: what covers a face, and where its hair begins, is in the picture that was there before.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces import align
from worker.faces.align import Affine
from worker.faces.neural.adapters import Tensors, image_of
from worker.faces.neural.crops import TensorWriter, cut
from worker.faces.neural.points import FAN_POINTS, five_of
from worker.faces.types import LANDMARK_COUNT, Floats, Frame, Rgb
from worker.inference.registry import ModelCard
from worker.spec import MaskArea, MaskRegion

Mask = NDArray[np.uint8]

CLASSES: Final[Mapping[MaskRegion, int]] = {
    "skin": 1,
    "left_eyebrow": 2,
    "right_eyebrow": 3,
    "left_eye": 4,
    "right_eye": 5,
    "glasses": 6,
    "nose": 10,
    "mouth": 11,
    "upper_lip": 12,
    "lower_lip": 13,
}
"""The numbers of CelebAMask-HQ's classes (Lee et al. 2020, arXiv:1907.11922, in the order of its parsers)."""

# A mask is softened by this share of its side, then what lies above one half is stretched to the whole range: the edge
# moves inward and never outward. FaceFusion does it with 5 pixels of a square of 256.
_SOFT: Final = 5 / 256
# In the 68 points of the 300-W markup: the nose's lower edge, the outer lips, the brows.
_NOSE_BASE: Final = slice(31, 36)
_LIPS: Final = slice(48, 60)
_BROWS: Final = slice(17, 27)
# That markup ends at the brows. The forehead swapped with them reaches about a third as high again as brows to nose.
_FOREHEAD: Final = 0.35
# The same in the 478 points of the mesh.
_MESH_NOSE_BASE: Final = (2,)
_MESH_LIPS: Final = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)


class MaskModel(Protocol):
    """A net that makes a mask; `prepare` belongs to one thread, `decode` to any."""

    @property
    def card(self) -> ModelCard:
        """Its card."""
        ...

    def prepare(self, frame: Frame, matrix: Affine, side: int) -> Tensors:
        """The inputs for what a swap's square of `side` pixels shows, which `matrix` leads to from the frame."""
        ...

    def decode(self, outputs: Tensors, side: int) -> Mask:
        """The mask uint8 [side, side] of the first item, softened."""
        ...


class Occluder:
    """Nets that tell the visible face from what is in front of it (xseg_1)."""

    def __init__(self, card: ModelCard) -> None:
        self.card: Final = card
        self._looker = _Looker(card)
        (self._output,) = card.contract.outputs

    def prepare(self, frame: Frame, matrix: Affine, side: int) -> Tensors:
        return self._looker.look(frame, matrix, side)

    def decode(self, outputs: Tensors, side: int) -> Mask:
        seen = outputs[self._output][0, :, :, 0]
        return softened(np.asarray(np.clip(seen, 0, 1), np.float32), side)


class Parser:
    """Nets that say of each pixel what of a face it is (bisenet_resnet_34); `regions` are those that show."""

    def __init__(self, card: ModelCard, regions: Collection[MaskRegion]) -> None:
        self.card: Final = card
        self._looker = _Looker(card)
        (self._output,) = card.contract.outputs
        self._shown = np.zeros(256, np.uint8)
        self._shown[[CLASSES[name] for name in regions]] = 255

    def prepare(self, frame: Frame, matrix: Affine, side: int) -> Tensors:
        return self._looker.look(frame, matrix, side)

    def decode(self, outputs: Tensors, side: int) -> Mask:
        shown = cv2.LUT(outputs[self._output][0].astype(np.uint8), self._shown)
        # The edge is softened by far more than a pixel, so half the size shows the same for a fraction of the work.
        half = cv2.resize(shown, (shown.shape[1] // 2, shown.shape[0] // 2), interpolation=cv2.INTER_AREA)
        return softened(np.asarray(half / np.float32(255), np.float32), side)


def box(side: int, blur: float, padding: Sequence[int]) -> Mask:
    """All of the square but its edges; these fade in over half of `blur` 0..1 of the side.

    `padding` are per cents of the side that are left out at top, right, bottom and left.
    """
    top, right, bottom, left = (share / 100 * side for share in padding)
    rows = _ramp(side, top, bottom, blur)
    columns = _ramp(side, left, right, blur)
    return np.asarray(np.rint(np.outer(rows, columns) * 255), np.uint8)


def areas(landmarks: Floats, matrix: Affine, side: int, chosen: Collection[MaskArea]) -> Mask:
    """What the landmarks [68, 2] or [478, 3], in pixels of the frame, enclose of the `chosen` areas together.

    The upper and the lower face meet at the nose's lower edge, so both together leave nothing out between them.
    ValueError for another number of landmarks.
    """
    outline, lips, nose_base, down = _parts_of(landmarks)
    outline, lips, ends = (align.apply(matrix, points) for points in (outline, lips, np.stack([nose_base, down])))
    face, found = np.zeros((side, side), np.uint8), np.zeros((side, side), np.uint8)
    _fill(face, outline)
    rows, columns = np.mgrid[0:side, 0:side]
    along = ends[1] - ends[0]
    below = (columns - ends[0][0]) * along[0] + (rows - ends[0][1]) * along[1] >= 0
    if "upper_face" in chosen:
        found |= np.where(below, 0, face).astype(np.uint8)
    if "lower_face" in chosen:
        found |= np.where(below, face, 0).astype(np.uint8)
    if "mouth" in chosen:
        _fill(found, lips)
    return softened(np.asarray(found / 255, np.float32), side)


def softened(shown: Floats, side: int) -> Mask:
    """A square mask float32 [n, n], 0..1, as uint8 [side, side] with a soft edge inside what is shown.

    The edge of the square itself counts as going on as it is.
    """
    soft = cv2.GaussianBlur(np.ascontiguousarray(shown), (0, 0), _SOFT * len(shown), borderType=cv2.BORDER_REPLICATE)
    # Rounding to float32 may leave a little over or under the range.
    stretched = np.asarray((np.clip(soft, 0.5, 1) - 0.5) * 2, np.float32)
    how = cv2.INTER_AREA if side < len(shown) else cv2.INTER_LINEAR
    return np.asarray(np.rint(cv2.resize(stretched, (side, side), interpolation=how) * 255), np.uint8)


def least(masks: Sequence[Mask]) -> Mask:
    """The minimum of masks of one size, at least one."""
    found = masks[0]
    for mask in masks[1:]:
        found = np.asarray(cv2.min(found, mask), np.uint8)
    return found


def moved(mask: Mask, matrix: Affine, to: Affine, side: int) -> Mask:
    """A mask of the square that `matrix` leads to, as one of `side` pixels that `to` leads to, both from the frame.

    Beyond the first square its edge goes on.
    """
    between = to[:, :2] @ align.invert(matrix)[:, :2]
    shift = to[:, :2] @ align.invert(matrix)[:, 2] + to[:, 2]
    return align.warp(mask, np.column_stack([between, shift]), side, border=cv2.BORDER_REPLICATE)


class _Looker:
    """Cuts a swap's square out at a model's own size."""

    def __init__(self, card: ModelCard) -> None:
        self._image = image_of(card)
        self._writer = TensorWriter(self._image)

    def look(self, frame: Frame, matrix: Affine, side: int) -> Tensors:
        scale = self._image.side / side
        own = matrix * scale
        own[:, 2] += (scale - 1) / 2  # a pixel's middle is at a whole number
        return {self._image.input: self._writer.write(cut(frame, own, self._image.side))}


def _ramp(side: int, before: float, behind: float, blur: float) -> NDArray[np.float64]:
    """Weights [side]: 0 over `before` and `behind` pixels at the ends, from there smoothly to 1."""
    place = np.arange(side)
    from_end = np.minimum(place - before, side - 1 - place - behind)
    share = np.clip(from_end / max(1.0, blur / 2 * side), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float64)


def _parts_of(landmarks: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """The points round the face, those round the lips, the middle of the nose's lower edge, and a point below that."""
    points = np.asarray(landmarks[:, :2], np.float32)
    five = five_of(landmarks)
    down = (five[3] + five[4]) / 2 - (five[0] + five[1]) / 2
    if len(points) == LANDMARK_COUNT:
        base = points[list(_MESH_NOSE_BASE)].mean(axis=0)
        return points, points[list(_MESH_LIPS)], base, base + down
    if len(points) != FAN_POINTS:
        raise ValueError(f"{len(points)} points enclose no area of a face that is known")
    base = points[_NOSE_BASE].mean(axis=0)
    brows = points[_BROWS]
    raised = brows + (brows - base).mean(axis=0) * _FOREHEAD
    return np.concatenate([points, raised]), points[_LIPS], base, base + down


def _fill(mask: Rgb, points: Floats) -> None:
    """Fill the convex hull of points [N, 2] with 255; fractions of a pixel count."""
    hull = cv2.convexHull(np.asarray(points, np.float32))
    cv2.fillConvexPoly(mask, np.rint(hull * 16).astype(np.int32), 255, shift=4)
