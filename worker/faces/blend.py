"""Paste the source's texture into the frame: one pass over the covered pixels, in place.

The texture goes straight from the flat layout to the frame, without a crop in between, so it is interpolated once, no
float copy of the frame is made and nothing outside the covered pixels is read or written.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces import atlas, raster
from worker.faces.colour import ColourMap
from worker.faces.topology import TOPOLOGY
from worker.faces.types import Floats, Rgb

# Longer side of the grid on which the fading towards the outline is worked out.
_GRID: Final = 176
# Fading from the outline inwards, as shares of the face's longer side: nothing before the first, all after the second.
_FADE: Final = (0.008, 0.085)

_GRAIN_CUT: Final = 5.0

# The inner edges of both lips, from corner to corner.
_LOWER_INNER: Final = TOPOLOGY.lips_inner[:11]
_UPPER_INNER: Final = TOPOLOGY.lips_inner[[0, *range(19, 9, -1)]]


@dataclass(frozen=True)
class Place:
    """The part of the frame that holds the face: `x0, y0, x1, y1` in whole pixels, cut at the frame's borders."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def empty(self) -> bool:
        return self.x1 <= self.x0 or self.y1 <= self.y0


def place_of(points: Floats, shape: tuple[int, ...]) -> Place:
    """The smallest rectangle of a frame of `shape` ([H, W, ...]) that holds `points`."""
    low, high = np.floor(points[:, :2].min(axis=0)), np.ceil(points[:, :2].max(axis=0))
    x0, x1 = np.clip([low[0], high[0] + 1], 0, shape[1]).astype(int)
    y0, y1 = np.clip([low[1], high[1] + 1], 0, shape[0]).astype(int)
    return Place(int(x0), int(y0), int(x1), int(y1))


def fade(points: Floats, place: Place, mouth_kept: float, line_kept: float) -> Floats:
    """How much of the swap shows near outline and mouth: float32 [h, w] in 0..1 on a coarse grid over `place`.

    The depth inside the face is measured on the face as it is seen, so the fading has one width all round, also where
    the face is cut by the frame (its cut edge does not fade). The inner mouth is left out by `mouth_kept` 0..1,
    the line between closed lips by `line_kept` 0..1.
    """
    width, height = place.x1 - place.x0, place.y1 - place.y0
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    face = float((high - low).max())
    scale = min(1.0, _GRID / face)
    border = int(np.ceil(0.1 * _GRID))
    small = points.copy()
    small[:, :2] = (points[:, :2] - low + 0.5) * scale - 0.5 + border
    size = np.ceil((high - low) * scale).astype(int) + 2 * border
    outline = np.zeros((int(size[1]), int(size[0])), np.uint8)
    covered = raster.cover(small, TOPOLOGY.triangles, outline.shape[1], outline.shape[0]) >= 0
    outline[covered] = 1
    depth = cv2.distanceTransform(outline, cv2.DIST_L2, 5) / (face * scale)
    share = np.clip((depth - _FADE[0]) / (_FADE[1] - _FADE[0]), 0, 1)
    share = cv2.GaussianBlur((share * share * (3 - 2 * share)).astype(np.float32), (0, 0), 1.0)
    if mouth_kept > 0:
        mouth = np.zeros(outline.shape, np.uint8)
        ring = np.round(small[TOPOLOGY.lips_inner, :2] * 16).astype(np.int32)
        cv2.fillPoly(mouth, [ring], 255, cv2.LINE_AA, 4)
        mouth = cv2.GaussianBlur(mouth, (0, 0), 0.9)
        share = share * (1 - mouth.astype(np.float32) * np.float32(mouth_kept / 255))
    if line_kept > 0:
        line = np.zeros(outline.shape, np.uint8)
        between = (small[_UPPER_INNER, :2] + small[_LOWER_INNER, :2]) / 2
        cv2.polylines(line, [np.round(between * 16).astype(np.int32)], False, 255, 2, cv2.LINE_AA, 4)
        line = np.minimum(cv2.GaussianBlur(line, (0, 0), 1.2).astype(np.float32) / 160, 1)
        share = share * (1 - line * np.float32(line_kept))
    # Cut the grid to the place, so that both share their corners.
    step = np.array([[scale, 0.0], [0.0, scale]])
    columns, rows = max(2, round(width * scale)), max(2, round(height * scale))
    shrink = np.array([width / columns, height / rows])
    start = (np.array([place.x0, place.y0]) - low + 0.5 * shrink) @ step - 0.5 + border
    matrix = np.array([[scale * shrink[0], 0.0, start[0]], [0.0, scale * shrink[1], start[1]]])
    cut = cv2.warpAffine(share, matrix, (columns, rows), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(cut, np.float32)


def fine_detail(rgb: Rgb) -> float:
    """Mean strength of the finest detail of `rgb` uint8 [H, W, 3], in levels, cut as `paste` cuts grain."""
    if rgb.size == 0:
        return 0.0
    green = rgb[..., 1]
    fine = np.abs(green.astype(np.int16) - cv2.GaussianBlur(np.ascontiguousarray(green), (5, 5), 1.2))
    return float(np.minimum(fine, _GRAIN_CUT).mean())


def paste(
    frame: Rgb,
    place: Place,
    points: Floats,
    *,
    texture: Rgb,
    control: Floats,
    fading: Floats,
    colour: ColourMap,
) -> None:
    """Replace the face in `frame` in place, inside `place` only.

    `points` [478, 3] in frame pixels (z orders what hides what), `texture` uint8 [S, S, 3] in the flat layout;
    `control` float32 [C, C, 5] in the flat layout: opacity, red, green, blue to add, and the share of the target's own
    grain to keep; `fading` as by `fade`, float32 [h, w] with at least two rows and columns.
    """
    inside = points.copy()
    inside[:, 0] -= place.x0
    inside[:, 1] -= place.y0
    grid = _on_grid(inside, place, control, fading)
    index = raster.cover(inside, TOPOLOGY.triangles, place.x1 - place.x0, place.y1 - place.y0)
    affine = raster.affines(inside, atlas.positions(texture.shape[0]), TOPOLOGY.triangles)
    part = frame[place.y0 : place.y1, place.x0 : place.x1]
    _paste(
        part,
        cv2.GaussianBlur(part, (5, 5), 1.2),
        index,
        affine,
        texture,
        grid,
        colour.matrix.astype(np.float32),
        colour.shift.astype(np.float32),
    )


def layers(
    frame: Rgb,
    place: Place,
    points: Floats,
    *,
    texture: Rgb,
    control: Floats,
    fading: Floats,
    colour: ColourMap,
) -> tuple[Rgb, Floats]:
    """The part `place` of the frame with the new face in full, uint8 [h, w, 3], and how much of it `paste` would show,
    float32 [h, w] in 0..1; everything else as for `paste`. The frame stays as it is.
    """
    inside = points.copy()
    inside[:, :2] -= np.array([place.x0, place.y0], np.float32)
    own = Place(0, 0, place.x1 - place.x0, place.y1 - place.y0)
    opaque = control.copy()
    opaque[..., 0] = 1
    full = frame[place.y0 : place.y1, place.x0 : place.x1].copy()
    paste(full, own, inside, texture=texture, control=opaque, fading=np.ones_like(fading), colour=colour)
    # What a white face leaves on black is the weight itself.
    plain = control.copy()
    plain[..., 1:] = 0
    weight = np.zeros_like(full)
    white = np.full((8, 8, 3), 255, np.uint8)
    paste(weight, own, inside, texture=white, control=plain, fading=fading, colour=ColourMap.identity())
    return full, weight[..., 0].astype(np.float32) / np.float32(255)


def _on_grid(inside: Floats, place: Place, control: Floats, fading: Floats) -> Floats:
    """Control values where they fall in the frame, opacity faded: float32 [h, w, 5] on the coarse grid of `fading`.

    They are smooth, so a grid is exact enough and spares the full picture a second texture.
    """
    rows, columns = fading.shape
    step = np.array([columns / (place.x1 - place.x0), rows / (place.y1 - place.y0)], np.float32)
    small = inside.copy()
    small[:, :2] = (inside[:, :2] + 0.5) * step - 0.5
    index = raster.cover(small, TOPOLOGY.triangles, columns, rows)
    affine = raster.affines(small, atlas.positions(control.shape[0]), TOPOLOGY.triangles)
    map_x, map_y = raster.maps(index, affine)
    grid = np.empty((rows, columns, 5), np.float32)
    # OpenCV's remap takes four channels at most.
    grid[..., :4] = cv2.remap(np.ascontiguousarray(control[..., :4]), map_x, map_y, cv2.INTER_LINEAR)
    grid[..., 4] = cv2.remap(np.ascontiguousarray(control[..., 4]), map_x, map_y, cv2.INTER_LINEAR)
    grid[..., 0] *= fading
    return grid


@raster.compiled
def _paste(  # noqa: PLR0917
    part: Rgb,
    soft: Rgb,
    index: raster.IndexMap,
    affine: Floats,
    texture: Rgb,
    grid: Floats,
    matrix: NDArray[np.float32],
    shift: NDArray[np.float32],
) -> None:
    height, width = index.shape
    last = texture.shape[0] - 1
    rows, columns = grid.shape[0], grid.shape[1]
    half = np.float32(0.5)
    one = np.float32(1.0)
    row_scale, column_scale = np.float32(rows / height), np.float32(columns / width)
    line = np.empty((columns, 5), np.float32)
    for y in range(height):
        fy = min(max((np.float32(y) + half) * row_scale - half, np.float32(0.0)), np.float32(rows - 1))
        y0 = min(int(fy), rows - 2)
        ty = fy - np.float32(y0)
        for x in range(columns):
            for k in range(5):
                line[x, k] = grid[y0, x, k] + (grid[y0 + 1, x, k] - grid[y0, x, k]) * ty
        for x in range(width):
            t = index[y, x]
            if t < 0:
                continue
            fx = min(max((np.float32(x) + half) * column_scale - half, np.float32(0.0)), np.float32(columns - 1))
            x0 = min(int(fx), columns - 2)
            tx = fx - np.float32(x0)
            opacity = line[x0, 0] + (line[x0 + 1, 0] - line[x0, 0]) * tx
            if opacity < np.float32(0.004):
                continue
            add_r = line[x0, 1] + (line[x0 + 1, 1] - line[x0, 1]) * tx
            add_g = line[x0, 2] + (line[x0 + 1, 2] - line[x0, 2]) * tx
            add_b = line[x0, 3] + (line[x0 + 1, 3] - line[x0, 3]) * tx
            grain = line[x0, 4] + (line[x0 + 1, 4] - line[x0, 4]) * tx
            u = affine[t, 0] * np.float32(x) + affine[t, 1] * np.float32(y) + affine[t, 2]
            v = affine[t, 3] * np.float32(x) + affine[t, 4] * np.float32(y) + affine[t, 5]
            u = min(max(u, np.float32(0.0)), np.float32(last))
            v = min(max(v, np.float32(0.0)), np.float32(last))
            i, j = min(int(v), last - 1), min(int(u), last - 1)
            b, a = v - np.float32(i), u - np.float32(j)
            w00, w01, w10, w11 = (one - a) * (one - b), a * (one - b), (one - a) * b, a * b
            r = texture[i, j, 0] * w00 + texture[i, j + 1, 0] * w01
            r += texture[i + 1, j, 0] * w10 + texture[i + 1, j + 1, 0] * w11
            g = texture[i, j, 1] * w00 + texture[i, j + 1, 1] * w01
            g += texture[i + 1, j, 1] * w10 + texture[i + 1, j + 1, 1] * w11
            e = texture[i, j, 2] * w00 + texture[i, j + 1, 2] * w01
            e += texture[i + 1, j, 2] * w10 + texture[i + 1, j + 1, 2] * w11
            red = matrix[0, 0] * r + matrix[0, 1] * g + matrix[0, 2] * e + shift[0] + add_r
            green = matrix[1, 0] * r + matrix[1, 1] * g + matrix[1, 2] * e + shift[1] + add_g
            blue = matrix[2, 0] * r + matrix[2, 1] * g + matrix[2, 2] * e + shift[2] + add_b
            p0, p1, p2 = np.float32(part[y, x, 0]), np.float32(part[y, x, 1]), np.float32(part[y, x, 2])
            if grain > np.float32(0.01):
                # Luma only and of few levels: grain and pores pass, edges of the old face do not.
                fine = (
                    np.float32(0.3) * (p0 - np.float32(soft[y, x, 0]))
                    + np.float32(0.59) * (p1 - np.float32(soft[y, x, 1]))
                    + np.float32(0.11) * (p2 - np.float32(soft[y, x, 2]))
                )
                strength = abs(fine)
                if strength > np.float32(_GRAIN_CUT):
                    # Beyond the cut it is an edge of the old face and fades out again.
                    fine *= max(np.float32(2 * _GRAIN_CUT) - strength, np.float32(0.0)) / strength
                fine *= grain
                red += fine
                green += fine
                blue += fine
            red = min(max(red, np.float32(0.0)), np.float32(255.0))
            green = min(max(green, np.float32(0.0)), np.float32(255.0))
            blue = min(max(blue, np.float32(0.0)), np.float32(255.0))
            part[y, x, 0] = np.uint8(p0 + (red - p0) * opacity + half)
            part[y, x, 1] = np.uint8(p1 + (green - p1) * opacity + half)
            part[y, x, 2] = np.uint8(p2 + (blue - p2) * opacity + half)
