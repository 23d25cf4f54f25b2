"""How a new face is joined to the picture round it: three ways, and how well the seam is hidden.

All take the same three layers: the picture as it was, the picture with the new face in full, and how much of the latter
may show. They know nothing of faces or colour spaces: each channel is joined for itself.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces.types import Floats, Rgb
from worker.spec import Blend

_MOST_LEVELS: Final = 5
# Weight from which a pixel belongs to the new face, and the share of it up to which a seam must have faded to nothing.
_INSIDE: Final = 0.5
_EDGE: Final = 0.15
_LEAST_PIXELS: Final = 64


def compose(before: Rgb, full: Rgb, weight: Floats, how: Blend = "feather") -> Rgb:
    """`before` with as much of `full` as `weight` says, all [H, W, 3] uint8 but `weight`, float32 [H, W] in 0..1.

    "feather" mixes both; "multiband" mixes coarse structure over a wide seam and fine detail over a narrow one (Burt
    and Adelson, ACM ToG 2, 1983); "poisson" keeps the new face's gradients and takes the colours at the seam from the
    picture (Pérez, Gangnet and Blake, SIGGRAPH 2003). Where the weight is 0 nothing changes.
    """
    if how == "multiband":
        joined = _multiband(before, full, weight)
    elif how == "poisson":
        joined = _poisson(before, full, weight)
    else:
        return _mix(before, full, weight)
    # Both reach a little beyond the weight, which must not end in a step.
    return _mix(before, joined, np.clip(weight / _EDGE, 0, 1))


def match_colours(full: Rgb, before: Rgb, weight: Floats) -> Rgb:
    """`full` in the colours of `before`: mean and spread of each channel of Lab (Reinhard et al., IEEE CG&A 21, 2001).

    All as in `compose`, RGB; both are measured where the weight is above a half.
    """
    inside = weight > _INSIDE
    if np.count_nonzero(inside) < _LEAST_PIXELS:
        return full
    new, old = (cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32) for picture in (full, before))
    gain = np.clip((old[inside].std(0) + 1) / (new[inside].std(0) + 1), 0.6, 1.6)
    matched = (new - new[inside].mean(0)) * gain + old[inside].mean(0)
    return np.asarray(cv2.cvtColor(np.clip(np.rint(matched), 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB), np.uint8)


def seam_error(before: Rgb, full: Rgb, weight: Floats, joined: Rgb) -> float:
    """How much of a seam can be seen: the mean gradient along it that comes from neither layer, in levels a pixel.

    A joined picture should have the gradients of the picture outside and of the new face inside, and in between a mix
    of both; what a mix of *values* adds to that is the seam.
    """
    seam = (weight > 0.02) & (weight < 0.98)
    if not seam.any():
        return 0.0
    share = weight[..., None]
    ideal = _gradient(full) * share[None] + _gradient(before) * (1 - share[None])
    away = np.sqrt(((_gradient(joined) - ideal) ** 2).sum(0)).mean(-1)
    return float(away[seam].mean())


def _gradient(picture: Rgb) -> Floats:
    """float32 [2, H, W, 3]: differences to the right and down."""
    wide = np.pad(picture.astype(np.float32), ((0, 1), (0, 1), (0, 0)), "edge")
    return np.stack([wide[:-1, 1:] - wide[:-1, :-1], wide[1:, :-1] - wide[:-1, :-1]])


def _mix(before: Rgb, full: Rgb, weight: Floats) -> Rgb:
    start = before.astype(np.float32)
    return np.asarray(np.rint(start + weight[..., None] * (full - start)).clip(0, 255), np.uint8)


def _multiband(before: Rgb, full: Rgb, weight: Floats) -> Rgb:
    levels = int(np.clip(np.log2(max(8, min(weight.shape))) - 3, 1, _MOST_LEVELS))
    near, far, shares = full.astype(np.float32), before.astype(np.float32), weight.astype(np.float32)
    bands: list[NDArray[np.float32]] = []
    for _ in range(levels):
        size = (near.shape[1], near.shape[0])
        smaller = [cv2.pyrDown(layer) for layer in (near, far, shares)]
        details = [layer - cv2.pyrUp(less, dstsize=size) for layer, less in zip((near, far), smaller[:2], strict=True)]
        bands.append(np.asarray(details[1] + shares[..., None] * (details[0] - details[1]), np.float32))
        near, far, shares = (np.asarray(layer, np.float32) for layer in smaller)
    joined = far + shares[..., None] * (near - far)
    for band in reversed(bands):
        joined = cv2.pyrUp(joined, dstsize=(band.shape[1], band.shape[0])) + band
    return np.asarray(np.rint(joined).clip(0, 255), np.uint8)


def _poisson(before: Rgb, full: Rgb, weight: Floats) -> Rgb:
    # The library takes a mask that does not touch the border, and asks for the middle of what it covers.
    margin = 4
    mask = cv2.copyMakeBorder((weight > _EDGE).astype(np.uint8) * 255, *(margin,) * 4, cv2.BORDER_CONSTANT)
    left, top, width, height = cv2.boundingRect(mask)
    if width * height < _LEAST_PIXELS or min(width, height) < 8:
        return full
    near, far = (cv2.copyMakeBorder(layer, *(margin,) * 4, cv2.BORDER_REPLICATE) for layer in (full, before))
    middle = (left + width // 2, top + height // 2)
    joined = cv2.seamlessClone(near, far, mask, middle, cv2.NORMAL_CLONE)
    return np.asarray(joined[margin:-margin, margin:-margin], np.uint8)
