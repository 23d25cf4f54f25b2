"""A portrait as a head that can be turned and that can blink, smile and open its mouth.

The portrait is cut into one watertight mesh: the face from the attention mesh with its own depth, rings round it for
hair, ears and neck, and the rest of the picture as a sheet that stays where it is. Moved in 3-D, seen in perspective.
It is a puppet for tests: made of one photo, with the very landmarks the product measures, so it proves that the check
reads a clip right and says nothing about real cameras and real people.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces import raster
from worker.faces.analyse import analyse_image
from worker.faces.topology import TOPOLOGY
from worker.faces.types import ModelRunner, Rgb

Points = NDArray[np.float64]

# The camera stands this many face widths before the face: a phone at arm's length.
_CAMERA: Final = 3.6
# Rings round the face's outline, as scales of it: where they lie, how far behind the outline they are (face widths),
# and how rigidly they move with the head.
_RINGS: Final = ((1.1, 0.10, 1.0), (1.25, 0.24, 1.0), (1.42, 0.32, 0.95), (1.7, 0.32, 0.6), (2.1, 0.3, 0.25))
_SHEET_FROM: Final = 2.5
_DARK: Final = (38, 14, 16)
_MESH: Final = 468


@dataclass(frozen=True)
class Moment:
    """One instant of a head: angles in degrees (yaw positive when the nose points to the right of the image, pitch when
    it points down, roll clockwise in the image), expressions 0..1, shift in face widths, zoom as a factor."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    blink: float = 0.0
    mouth: float = 0.0
    smile: float = 0.0
    right: float = 0.0
    down: float = 0.0
    zoom: float = 1.0


class Head:
    """The largest face of `photo`, ready to be rendered."""

    def __init__(self, photo: Path, runner: ModelRunner) -> None:
        bgr = cv2.imread(str(photo), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError(f"{photo} is no picture")
        self.picture: Rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
        faces = analyse_image(self.picture, runner)
        if not faces:
            raise ValueError(f"{photo} shows no face")
        face = faces[0].landmarks.astype(np.float64)
        self.width = float(np.linalg.norm(face[454, :2] - face[234, :2]))
        self.middle = (face[234] + face[454]) / 2
        self._build(face)

    def render(self, moment: Moment, size: tuple[int, int], share: float = 0.42) -> Rgb:
        """The head at `moment` as uint8 [height, width, 3] RGB; `size` is (width, height).

        At rest the face is `share` of the picture's shorter side wide.
        """
        points = self._project(self._turn(self._express(moment), moment))
        scale = share * min(size) / self.width * moment.zoom
        centre = self.middle[:2] + [0, 0.12 * self.width]
        drawn = points.copy()
        drawn[:, :2] = (points[:, :2] - centre) * scale + np.array(size) / 2
        drawn[:, :2] += np.array([moment.right, moment.down]) * share * min(size)
        index = raster.cover(drawn.astype(np.float32), self._triangles, *size)
        to_photo = raster.affines(drawn.astype(np.float32), self._texture.astype(np.float32), self._triangles)
        map_x, map_y = raster.maps(index, to_photo)
        picture = self._lidded(moment.blink) if moment.blink else self.picture
        seen = cv2.remap(picture, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        return self._darken_mouth(np.asarray(seen, np.uint8), index, moment)

    # -- the mesh ------------------------------------------------------------------------------------------------

    def _build(self, face: Points) -> None:
        oval = TOPOLOGY.oval
        outline, centre = face[oval], face[oval].mean(axis=0)
        chin = face[152, 1]
        points, follow, rigid = [face], [np.arange(len(face))], [np.ones(len(face))]
        fade = [np.ones(len(face))]
        for scale, behind, firm in _RINGS:
            ring = outline.copy()
            ring[:, :2] = centre[:2] + (outline[:, :2] - centre[:2]) * scale
            ring[:, 2] += behind * self.width
            # The neck hardly turns: below the chin the head's motion fades out.
            below = np.clip((ring[:, 1] - chin) / (0.8 * self.width), 0, 1)
            points.append(ring)
            follow.append(oval)
            rigid.append(firm * (1 - below) ** 1.5)
            fade.append(np.full(len(oval), max(0.0, 1 - (scale - 1) / 0.5)))
        sheet = self._sheet(outline, centre, face[:, 2].max() + 0.3 * self.width)
        points.append(sheet)
        follow.append(np.zeros(len(sheet), np.int64))
        rigid.append(np.zeros(len(sheet)))
        fade.append(np.zeros(len(sheet)))
        self._points = np.concatenate(points)
        self._follow, self._fade = np.concatenate(follow), np.concatenate(fade)[:, None]
        self._rigid = np.concatenate(rigid)[:, None]
        self._texture = self._points[:, :2].copy()
        outer = np.concatenate([oval, np.arange(len(face), len(self._points))])
        found = outer[_delaunay(self._texture[outer])]
        polygon = outline[:, :2].astype(np.float32)
        mids = self._texture[found].mean(axis=1)
        outside = [cv2.pointPolygonTest(polygon, (float(x), float(y)), False) < 0 for x, y in mids]
        found = found[outside]
        a, b, c = (self._texture[found[:, k]] for k in range(3))
        flip = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0] < 0
        found[flip] = found[flip][:, ::-1]
        self._holes = range(TOPOLOGY.skin_triangles, len(TOPOLOGY.triangles))
        self._triangles = np.concatenate([TOPOLOGY.triangles, found]).astype(np.int32)
        self._mouth_triangles = self._mouth()

    def _sheet(self, outline: Points, centre: Points, depth: float) -> Points:
        far, step = 7.0 * self.width, 0.45 * self.width
        xs = np.arange(centre[0] - far, centre[0] + far, step)
        ys = np.arange(centre[1] - far, centre[1] + far, step)
        grid = np.stack([each.ravel() for each in np.meshgrid(xs, ys)], axis=1)
        hull = (centre[:2] + (outline[:, :2] - centre[:2]) * _SHEET_FROM).astype(np.float32)
        kept = [p for p in grid if cv2.pointPolygonTest(hull, (float(p[0]), float(p[1])), False) < 0]
        return np.column_stack([np.array(kept), np.full(len(kept), depth)])

    def _mouth(self) -> NDArray[np.int64]:
        inner = set(TOPOLOGY.lips_inner.tolist())
        return np.array([t for t in self._holes if set(self._triangles[t].tolist()) <= inner])

    # -- motion --------------------------------------------------------------------------------------------------

    def _express(self, moment: Moment) -> Points:
        face = self._points[: len(TOPOLOGY.canonical)].copy()
        eyes = float(np.linalg.norm(face[33, :2] - face[263, :2]))
        moved = face.copy()
        if moment.smile:
            moved += self._smile(face, eyes) * moment.smile
        if moment.mouth:
            moved[:, 1] += self._jaw(face) * (0.42 * eyes * moment.mouth)
        change = moved - face
        points = self._points.copy()
        points += change[self._follow] * self._fade
        return points

    def _smile(self, face: Points, eyes: float) -> Points:
        change = np.zeros_like(face)
        for corner, side in ((61, -1.0), (291, 1.0)):
            near = np.exp(-(((face[:, :2] - face[corner, :2]) ** 2).sum(axis=1)) / (2 * (0.2 * eyes) ** 2))
            change[:, 0] += side * 0.115 * eyes * near
            change[:, 1] -= 0.10 * eyes * near
            change[:, 2] += 0.04 * eyes * near
        return change

    def _jaw(self, face: Points) -> NDArray[np.float64]:
        """How far each point goes down with the jaw, 0..1."""
        lips = (face[13, 1] + face[14, 1]) / 2
        span = face[152, 1] - lips
        down = np.clip((face[:, 1] - lips) / (0.4 * span), 0, 1)
        aside = np.exp(-(((face[:, 0] - face[14, 0]) / (0.36 * self.width)) ** 2))
        weight = down * aside
        rings = TOPOLOGY.lip_rings
        half = rings.shape[1] // 2
        for ring in rings:
            # Both halves run from corner to corner; the lower one hangs on the jaw, the corners half-way.
            one, other = ring[1:half], ring[half + 1 :]
            lower = one if face[one, 1].mean() > face[other, 1].mean() else other
            arc = np.sin(np.linspace(0, np.pi, half + 1)[1:-1]) ** 0.5
            for part in (one, other):
                weight[part] = 0.25 + 0.75 * arc if part is lower else 0.25 * (1 - arc)
            weight[ring[[0, half]]] = 0.25
        return weight

    def _lidded(self, amount: float) -> Rgb:
        """The portrait with both upper lids drawn down by `amount`: painted, because lids hide what is under them."""
        picture = self.picture.copy()
        face = self._points
        for ring, iris in ((TOPOLOGY.right_eye, TOPOLOGY.right_iris), (TOPOLOGY.left_eye, TOPOLOGY.left_iris)):
            xs = face[ring, 0]
            width = float(np.ptp(xs))
            middle = np.array([(xs.min() + xs.max()) / 2, (face[iris, 1].mean() + face[ring, 1].mean()) / 2])
            # Painted at four times the size: an eye of the portrait is a few pixels high.
            grown = 4
            x0, y0 = np.floor(middle - [0.75 * width, 0.6 * width]).astype(int)
            x1, y1 = np.ceil(middle + [0.75 * width, 0.6 * width]).astype(int)
            part = cv2.resize(picture[y0:y1, x0:x1], None, fx=grown, fy=grown, interpolation=cv2.INTER_CUBIC)
            height, across = part.shape[:2]
            u = (np.arange(across) / grown + x0 - middle[0]) / (0.56 * width)
            v = (np.arange(height) / grown + y0 - middle[1]) / (0.56 * width)
            arc = np.sqrt(np.clip(1 - u**2, 0, 1))
            top, bottom = -0.52 * arc, 0.40 * arc
            edge = top + (bottom - top) * amount
            inside = (v[:, None] > top) & (v[:, None] < edge) & (np.abs(u) < 1)
            skin = np.median(self.picture[y1 - max(2, (y1 - y0) // 6) : y1, x0:x1].reshape(-1, 3), axis=0)
            shade = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 0.8 * grown)[..., None]
            shut = part * (1 - shade) + skin * (0.97 - 0.12 * np.clip(-v, 0, 1))[:, None, None] * shade
            lashes = (np.abs(v[:, None] - edge) < 0.05) & (np.abs(u) < 0.97) & (amount > 0.05)
            dark = cv2.GaussianBlur(lashes.astype(np.float32), (0, 0), 0.5 * grown)[..., None] * 0.8
            shut = np.clip(shut * (1 - dark) + 40 * dark, 0, 255)
            picture[y0:y1, x0:x1] = cv2.resize(shut, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
        return picture

    def _turn(self, points: Points, moment: Moment) -> Points:
        camera = _CAMERA * self.width
        solid = points - self.middle
        solid[:, :2] *= (camera + solid[:, 2:]) / camera  # the photo is a projection already
        pivot = np.array([0.0, 0.35 * self.width, 0.12 * self.width])
        turned = (solid - pivot) @ rotation(moment).T + pivot
        return np.asarray(solid + self._rigid * (turned - solid), np.float64)

    def _project(self, solid: Points) -> Points:
        camera = _CAMERA * self.width
        flat = solid.copy()
        flat[:, :2] *= camera / (camera + solid[:, 2:])
        return flat + self.middle

    def _darken_mouth(self, seen: Rgb, index: raster.IndexMap, moment: Moment) -> Rgb:
        if not moment.mouth:
            return seen
        inside = np.isin(index, self._mouth_triangles).astype(np.float32)
        shade = cv2.GaussianBlur(inside, (0, 0), 1.2)[..., None] * min(1.0, 1.6 * moment.mouth)
        return np.clip(seen * (1 - shade) + np.array(_DARK, np.float32) * shade, 0, 255).astype(np.uint8)


def _delaunay(points: Points) -> NDArray[np.int64]:
    """Indices int64 [T, 3] of the Delaunay triangles of `points` [N, 2]."""
    low, high = points.min(axis=0) - 4, points.max(axis=0) + 4
    subdivision = cv2.Subdiv2D((0, 0, int(np.ceil(high[0] - low[0])) + 1, int(np.ceil(high[1] - low[1])) + 1))
    place = {}
    for number, (x, y) in enumerate(np.float32(points - low)):
        place[(float(x), float(y))] = number
        subdivision.insert((float(x), float(y)))
    found = []
    for x0, y0, x1, y1, x2, y2 in subdivision.getTriangleList():
        corners = [place.get((float(x), float(y))) for x, y in ((x0, y0), (x1, y1), (x2, y2))]
        if None not in corners:
            found.append(corners)
    return np.array(found, np.int64)


def rotation(moment: Moment) -> Points:
    """The 3 x 3 matrix of the moment's angles; x to the right, y down, z away from the camera."""
    yaw, pitch, roll = np.radians([moment.yaw, moment.pitch, moment.roll])
    turn = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    nod = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    lean = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return np.asarray(lean @ nod @ turn)
