"""Make a face unrecognisable: a few large, soft patches of colour inside its outline, and nothing changed outside."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces.types import Floats, Rgb
from worker.media.planes import Box, Planes

# Patches along the longer side of a face. A face is still told from others at about 16 pixels (Sinha et al., Proc. IEEE
# 94, 2006, result 1: at 7 x 10), so far fewer remain.
_PATCHES: Final = 4
# How far the outline of the landmarks is grown, as a share of its half: they end at the brows and the jaw.
_GROWN: Final = np.array([1.25, 1.45])
_MARGIN: Final = 0.5  # of the rectangle that holds it, round the landmarks


def outline(landmarks: Floats) -> NDArray[np.float32]:
    """The outline float32 [N, 2] that holds the whole face, of landmarks [M, 2 or 3] of any markup."""
    hull = cv2.convexHull(np.ascontiguousarray(landmarks[:, :2], np.float32))[:, 0]
    middle = (hull.min(0) + hull.max(0)) / 2
    return np.asarray(middle + (hull - middle) * _GROWN, np.float32)


def mask(landmarks: Floats, size: tuple[int, int]) -> NDArray[np.uint8]:
    """255 where the face is, uint8 [H, W]; `size` is (width, height)."""
    inside = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillConvexPoly(inside, np.round(outline(landmarks)).astype(np.int32), 255)
    return inside


def hide(rgb: Rgb, landmarks: Floats) -> None:
    """Blur the face at `landmarks` (pixels) in `rgb` uint8 [H, W, 3], in place; pixels outside `mask` stay as they are.

    What is left is the mean colour of a few patches, so it cannot be sharpened back into a face.
    """
    height, width = rgb.shape[:2]
    inside = mask(landmarks, (width, height))
    left, top, across, down = cv2.boundingRect(inside)
    if not across or not down:
        return
    part = rgb[top : top + down, left : left + across]
    cell = max(across, down) / _PATCHES
    patches = (max(1, round(across / cell)), max(1, round(down / cell)))
    means = cv2.resize(part, patches, interpolation=cv2.INTER_AREA)
    soft = cv2.resize(means, (across, down), interpolation=cv2.INTER_CUBIC)
    cv2.copyTo(soft, inside[top : top + down, left : left + across], part)


def hide_in(planes: Planes, landmarks: Floats) -> None:
    """As `hide`, in the planes of a video's frame; a face outside of it is none."""
    box = Box.around(landmarks, _MARGIN, planes.size)
    if box is None:
        return
    before = planes.to_rgb(box)
    rgb = before.copy()
    hide(rgb, landmarks[:, :2] - np.array([box.left, box.top], np.float32))
    planes.paste(box, rgb, before)
