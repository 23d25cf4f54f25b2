"""The face mesh's fixed topology, with the holes of eyes and mouth closed, and a canonical face to lay textures on.

Indices and triangles are MediaPipe's (Apache-2.0). The canonical face is our own: the mean of the two sample
portraits' meshes, turned to the front and made symmetric; unit: the distance between the outer eye corners is 1,
origin between them, x to the right of the image, y down, z away from the camera.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_PATH: Final = Path(__file__).with_name("topology.json")

Indices = NDArray[np.int32]


@dataclass(frozen=True)
class Topology:
    """Index lists into the 478 landmarks, int32; rings are closed and ordered.

    `triangles` [T, 3] holds skin, then eyes (fans round the iris centre), then the mouth opening, all wound the same
    way: in an image of a face that looks at the camera, (b - a) x (c - a) > 0 with y down. `mirror` [478] maps each
    point to its twin on the other side. `canonical` is float32 [478, 3]. `lip_rings` [4, 20] runs from the inner ring
    outwards, the same position on each ring being the same place along the lips.
    """

    triangles: Indices
    skin_triangles: int
    oval: Indices
    left_eye: Indices
    right_eye: Indices
    left_iris: Indices
    right_iris: Indices
    lips_outer: Indices
    lips_inner: Indices
    lip_rings: Indices
    mirror: Indices
    canonical: NDArray[np.float32]


def _load() -> Topology:
    data: dict[str, Any] = json.loads(_PATH.read_text("ascii"))
    lists = {
        name: np.array(data[name], np.int32)
        for name in (
            "oval", "left_eye", "right_eye", "left_iris", "right_iris", "lips_outer", "lips_inner", "lip_rings",
            "mirror",
        )
    }  # fmt: skip
    skin = np.array(data["triangles"], np.int32)
    holes = np.array(
        _fan(lists["right_eye"], int(lists["right_iris"][0]))
        + _fan(lists["left_eye"], int(lists["left_iris"][0]))
        + _strip(lists["lips_inner"]),
        np.int32,
    )
    triangles = _wound_like(skin, holes)
    canonical = np.array(data["canonical"], np.float32)
    for array in (*lists.values(), triangles, canonical):
        array.setflags(write=False)
    return Topology(triangles=triangles, skin_triangles=len(skin), canonical=canonical, **lists)


def _fan(ring: Indices, centre: int) -> list[list[int]]:
    return [[centre, int(ring[k]), int(ring[(k + 1) % len(ring)])] for k in range(len(ring))]


def _strip(ring: Indices) -> list[list[int]]:
    """Close a ring of even length between its two corners (positions 0 and half) like a ladder."""
    half = len(ring) // 2
    there = [int(i) for i in ring[: half + 1]]
    back = [int(ring[-k % len(ring)]) for k in range(half + 1)]
    made = []
    for k in range(half):
        if there[k] != back[k]:
            made.append([there[k], there[k + 1], back[k]])
        if there[k + 1] != back[k + 1]:
            made.append([there[k + 1], back[k + 1], back[k]])
    return made


def _wound_like(skin: Indices, holes: Indices) -> Indices:
    """Skin and holes with one winding; a hole triangle that runs the wrong way would be culled and the eye missing.

    Two neighbours wound alike run through their shared edge in opposite directions.
    """
    directed = {(int(t[k]), int(t[(k + 1) % 3])) for t in skin for k in range(3)}
    made: list[list[int]] = skin.tolist()
    waiting = holes.tolist()
    while waiting:
        rest = []
        for triangle in waiting:
            edges = [(triangle[k], triangle[(k + 1) % 3]) for k in range(3)]
            if any(edge in directed for edge in edges):
                made.append(triangle[::-1])
                directed.update((b, a) for a, b in edges)
            elif any((b, a) in directed for a, b in edges):
                made.append(triangle)
                directed.update(edges)
            else:
                rest.append(triangle)
        if len(rest) == len(waiting):
            raise ValueError("a hole of the mesh touches no skin triangle")
        waiting = rest
    return np.array(made, np.int32)


TOPOLOGY: Final = _load()
