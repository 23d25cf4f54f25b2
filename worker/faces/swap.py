"""The mesh swap: the source's flat texture, in the target's pose, expression, colour and light, pasted into the frame.

Per frame: choose the photo, move the features, lay the target's face flat, compare both flat faces for colour, light
and what covers the face, paste. State between frames is only smoothing, and only while the face stays in place.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np

from worker.faces import atlas, blend, colour, mask, raster, regions, select, shape
from worker.faces.compose import compose
from worker.faces.landmarks import box_of, pose_of
from worker.faces.source import SourceFace, prepare_source
from worker.faces.topology import TOPOLOGY
from worker.faces.types import MIN_FACE_PIXELS, FaceError, Floats, Rgb
from worker.spec import Blend

__all__ = ["MeshSwapper", "SourceFace", "SwapOptions", "SwapReport", "prepare_source"]

# Distances in standard deviations of the skin colour; wide, because the target's light varies over its face.
_NEAR, _FAR = 3.2, 5.0
_SHRINK, _BRIDGED = 1, 15
# Mouth opening (height over width) from which the target's own teeth and tongue begin to show, and show fully.
_MOUTH_OPENS, _MOUTH_OPEN = 0.035, 0.08
# How much of the line between the target's lips is kept at most.
_LINE: Final = 0.8
# A face that moved further than this share of its size since the last frame is another shot, not a motion.
_JUMP: Final = 0.5
# The most of the target's grain that is kept, and where: skin without brows, eyes and lips.
_GRAIN: Final = 0.9
_PLAIN_SOFT: Final = cv2.GaussianBlur(atlas.CONTROL.plain.astype(np.float32), (0, 0), 1.5)

_Done = Callable[[Rgb, blend.Place, Floats, Mapping[str, Any]], None]
"""What is done with a new face: the frame, the place in it, the points there, and the look that `blend.paste` takes."""


@dataclass(frozen=True)
class SwapOptions:
    """How to swap.

    `shape` 0..1: how far features move to the source's places. `light` 0..1: how much of the target's light is taken.
    `most_yaw_gap`: degrees of yaw beyond which a frame is refused. `smoothing` 0..1: share of the last frame's colour
    and light that is kept (0 for a photo). `blend`: how the face is joined to the picture, as `compose`.
    """

    shape: float = 0.5
    light: float = 0.85
    most_yaw_gap: float = select.YAW_REFUSE
    smoothing: float = 0.75
    blend: Blend = "feather"


@dataclass(frozen=True)
class SwapReport:
    """What one swap did: `box` float32 [4] (x, y, width, height) that holds all changes, gap in degrees, photo used."""

    box: Floats
    yaw_gap: float
    source_index: int


@dataclass(frozen=True)
class _Memory:
    """Smoothed over the frames of one shot, all in the flat layout."""

    box: Floats
    source: int
    skin: mask.SkinModel | None
    colour: colour.ColourMap
    control: Floats


class MeshSwapper:
    """Swaps one person's face through the frames of one track; make one per track, use it from one thread."""

    def __init__(self, sources: Sequence[SourceFace], options: SwapOptions | None = None) -> None:
        if not sources:
            raise ValueError("at least one source photo is needed")
        self._sources = tuple(sources)
        self._poses = tuple(source.pose for source in sources)
        self._options = options or SwapOptions()
        self._memory: _Memory | None = None

    def reset(self) -> None:
        """Forget the frames before, as after a cut."""
        self._memory = None

    def swap(self, frame: Rgb, landmarks: Floats) -> SwapReport:
        """Replace the face at `landmarks` (float32 [478, 3], pixels) in `frame` (uint8 [H, W, 3] RGB), in place.

        Only pixels inside the report's box change. Raises FaceError `pose_gap` or `face_too_small`; the frame is then
        untouched.
        """
        return self._follow(frame, landmarks, self._join)

    def look(self, frame: Rgb, landmarks: Floats) -> None:
        """Remember colour and light as `swap` does, and leave `frame` as it is: for the frames before a segment.

        Raises as `swap`.
        """
        self._follow(frame, landmarks, None)

    def layers(self, frame: Rgb, landmarks: Floats) -> tuple[Floats, Rgb, Floats]:
        """What `swap` would join, with nothing changed: the report's box, and of that part the new face in full and how
        much of it shows, as `blend.layers`. Raises as `swap`.
        """
        found: list[tuple[Rgb, Floats]] = []

        def take(frame: Rgb, place: blend.Place, points: Floats, look: Mapping[str, Any]) -> None:
            found.append(blend.layers(frame, place, points, **look))

        report = self._follow(frame, landmarks, take)
        if not found:
            raise FaceError("no_face", "it lies outside the picture")
        return report.box, *found[0]

    def _join(self, frame: Rgb, place: blend.Place, points: Floats, look: Mapping[str, Any]) -> None:
        if self._options.blend == "feather":  # in one pass, without layers in between
            blend.paste(frame, place, points, **look)
            return
        part = frame[place.y0 : place.y1, place.x0 : place.x1]
        part[:] = compose(part, *blend.layers(frame, place, points, **look), self._options.blend)

    def _follow(self, frame: Rgb, landmarks: Floats, done: _Done | None) -> SwapReport:
        options = self._options
        box = box_of(landmarks)
        if not float(box[2:].max()) >= MIN_FACE_PIXELS:  # also where a coordinate is not a number
            raise FaceError("face_too_small", f"least size is {MIN_FACE_PIXELS} pixels")
        memory = self._memory if self._memory is not None and _near(self._memory.box, box) else None
        choice = select.choose(
            self._poses,
            pose_of(landmarks),
            held=None if memory is None else memory.source,
            most_yaw_gap=options.most_yaw_gap,
        )
        source = self._sources[choice.index]

        opened = shape.opening(landmarks, regions.LIPS_OPENING)
        mouth_kept = float(np.clip((opened - _MOUTH_OPENS) / (_MOUTH_OPEN - _MOUTH_OPENS), 0, 1))
        # A source that shows its teeth has no line between its lips; the target's own is kept when its mouth is shut.
        toothed = shape.opening(source.landmarks, regions.LIPS_OPENING) - opened
        line_kept = float(np.clip((toothed - 0.03) / 0.05, 0, 1)) * (1 - mouth_kept)
        points = shape.morph(source.landmarks, landmarks, options.shape, max(mouth_kept, 0.5 * line_kept))
        place = blend.place_of(points, frame.shape)
        if place.empty:
            return SwapReport(np.array([place.x0, place.y0, 0, 0], np.float32), choice.yaw_gap, choice.index)

        memory = self._compare(frame, points, place, index=choice.index, box=box, memory=memory)
        self._memory = memory
        changed = np.array([place.x0, place.y0, place.x1 - place.x0, place.y1 - place.y0], np.float32)
        report = SwapReport(changed, choice.yaw_gap, choice.index)
        if done is not None:
            look = {
                "texture": source.textures[_level(source, points)],
                "control": memory.control,
                "fading": blend.fade(points, place, mouth_kept, _LINE * line_kept),
                "colour": memory.colour,
            }
            done(frame, place, points, look)
        return report

    def _compare(
        self,
        frame: Rgb,
        points: Floats,
        place: blend.Place,
        *,
        index: int,
        box: Floats,
        memory: _Memory | None,
    ) -> _Memory:
        """Colour map, light and opacity of this frame, smoothed with those of the frames before."""
        source = self._sources[index]
        flat = _flatten_target(frame, points, place)
        seen = (raster.signed_areas(points, TOPOLOGY.triangles) > 0)[np.maximum(atlas.CONTROL.index, 0)]
        seen &= atlas.CONTROL.covered
        lab = mask.to_lab(flat)
        skin = mask.fit_skin(lab, seen)
        newer = 1.0 - self._options.smoothing
        if memory is not None and memory.skin is not None:
            skin = memory.skin if skin is None else memory.skin.blend(skin, newer)
        opacity = mask.validity(lab, skin, near=_NEAR, far=_FAR, shrink=_SHRINK, bridged=_BRIDGED) * _steep(
            source.validity
        )

        target = flat.astype(np.float32)
        usable = atlas.CONTROL.plain & seen & (opacity > 0.6)
        matched = colour.match(source.control, target, usable)
        if matched is None:
            matched = memory.colour if memory is not None else colour.ColourMap.identity()
        elif memory is not None and memory.source == index:
            matched = memory.colour.blend(matched, newer)
        weight = (opacity * atlas.CONTROL.plain * seen).astype(np.float32)
        light = colour.light(matched.apply(source.control), target, weight, self._options.light)
        grain = _grain(frame, place, source, points)
        grained = _PLAIN_SOFT * np.float32(grain)
        control = np.concatenate([opacity[..., None], light, grained[..., None]], axis=2).astype(np.float32)
        if memory is not None:
            control = memory.control + np.float32(newer) * (control - memory.control)
        return _Memory(box=box, source=index, skin=skin, colour=matched, control=control)


def _grain(frame: Rgb, place: blend.Place, source: SourceFace, points: Floats) -> float:
    """Share of the target's fine grain to keep, 0..1: as much as the source's texture lacks at this size.

    A smooth face in a grainy or finely resolved picture is what first betrays a paste.
    """
    part = frame[place.y0 : place.y1, place.x0 : place.x1]
    height, width = part.shape[:2]
    there = blend.fine_detail(part[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4])
    texture = source.textures[_level(source, points)]
    side = texture.shape[0]
    enlarged = max(1.0, _wanted_side(points) / side)
    own = blend.fine_detail(texture[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4]) / enlarged**2
    return float(np.clip(1.0 - own / (there + 1e-3), 0.0, 1.0)) * _GRAIN


def _near(before: Floats, now: Floats) -> bool:
    """Whether a face may have moved from one box to the other between two frames."""
    size = float(max(before[2:].max(), now[2:].max()))
    moved = np.abs((before[:2] + before[2:] / 2) - (now[:2] + now[2:] / 2)).max()
    return float(moved) < _JUMP * size and 0.6 < float(before[3] / now[3]) < 1.6


def _steep(validity: Floats) -> Floats:
    return np.clip((validity - 0.45) / 0.4, 0, 1).astype(np.float32)


def _flatten_target(frame: Rgb, points: Floats, place: blend.Place) -> Rgb:
    """The target's face in the small layout, uint8 [128, 128, 3], reduced by area first so that no pixel is skipped."""
    part = frame[place.y0 : place.y1, place.x0 : place.x1]
    extent = float((points[:, :2].max(axis=0) - points[:, :2].min(axis=0)).max())
    # A whole factor, for which area averaging is several times quicker; the rest of the last row or column is left off.
    factor = max(1, min(int(extent / (1.3 * atlas.CONTROL_SIDE)), part.shape[0], part.shape[1]))
    if factor > 1:
        columns, rows = part.shape[1] // factor, part.shape[0] // factor
        whole = part[: rows * factor, : columns * factor]
        part = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)
    small = (points[:, :2] - np.array([place.x0, place.y0]) + 0.5) / factor - 0.5
    return atlas.unwrap(part, small.astype(np.float32), atlas.CONTROL_SIDE, atlas.CONTROL.index)


def _level(source: SourceFace, points: Floats) -> int:
    """The texture whose texels come nearest to the frame's pixels from above."""
    wanted = _wanted_side(points) * 1.05
    return max((k for k, texture in enumerate(source.textures) if texture.shape[0] >= wanted), default=0)


def _wanted_side(points: Floats) -> float:
    """Side of the texture that has one texel per frame pixel."""
    seen = np.maximum(raster.signed_areas(points, TOPOLOGY.triangles), 0).sum()
    flat = raster.signed_areas(atlas.LAYOUT, TOPOLOGY.triangles).sum()
    return float(np.sqrt(seen / flat))
