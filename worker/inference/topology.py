"""The face mesh's fixed topology: which landmark indices form triangles, eyes, lips and outline.

The numbers are MediaPipe's (module `face_mesh_connections`, Apache-2.0).
They are committed as `mesh_topology.json` so that nothing at run time needs that package; `extract` remakes them from
its source text, and the build of the model set compares the two.
"""

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

TOPOLOGY_PATH: Final = Path(__file__).with_name("mesh_topology.json")

Edge = tuple[int, int]


def load() -> dict[str, list[Any]]:
    """Read the committed topology.

    Keys: `triangles` (852 index triples, eyes and mouth are holes), the closed rings `oval`, `left_eye`, `right_eye`,
    `lips_outer`, `lips_inner` (indices in order round the ring, left and right are the person's own), `left_iris`,
    `right_iris` (centre first, then four rim points).
    """
    topology: dict[str, list[Any]] = json.loads(TOPOLOGY_PATH.read_text("ascii"))
    return topology


def extract(connections_source: str) -> dict[str, list[Any]]:
    """Remake the topology from the text of MediaPipe's `face_mesh_connections.py`, without running it.

    Raises ValueError if the text has not the expected form.
    """
    sets = _edge_sets(connections_source)
    tessellation = sets["FACEMESH_TESSELATION"]
    triangles = []
    for first, second, third in zip(tessellation[0::3], tessellation[1::3], tessellation[2::3], strict=True):
        if (first[1], second[1], third[1]) != (second[0], third[0], first[0]):
            raise ValueError(f"edges {first}, {second}, {third} do not close a triangle")
        triangles.append([first[0], second[0], third[0]])
    outer, inner = sorted(_rings(sets["FACEMESH_LIPS"]), key=lambda ring: 61 not in ring)
    return {
        "triangles": triangles,
        "oval": _only_ring(sets["FACEMESH_FACE_OVAL"]),
        "left_eye": _only_ring(sets["FACEMESH_LEFT_EYE"]),
        "right_eye": _only_ring(sets["FACEMESH_RIGHT_EYE"]),
        "lips_outer": outer,
        "lips_inner": inner,
        "left_iris": [473, *_only_ring(sets["FACEMESH_LEFT_IRIS"])],
        "right_iris": [468, *_only_ring(sets["FACEMESH_RIGHT_IRIS"])],
    }


def dump(topology: Mapping[str, Sequence[Any]]) -> str:
    """The text of `mesh_topology.json`: one key per line, so that a change is readable in a diff."""
    lines = [f'  "{key}": {json.dumps(list(value), separators=(",", ":"))}' for key, value in topology.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _edge_sets(source: str) -> dict[str, list[Edge]]:
    """Every `NAME = frozenset([(a, b), ...])` of the text, edges in the order written."""
    found: dict[str, list[Edge]] = {}
    for node in ast.parse(source).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="frozenset"), args=[listed])):
                found[name] = [(int(a), int(b)) for a, b in ast.literal_eval(listed)]
            case _:
                continue
    return found


def _rings(edges: Sequence[Edge]) -> list[list[int]]:
    """Walk undirected edges into closed rings, each starting at its first edge's first point."""
    neighbours: dict[int, list[int]] = {}
    for a, b in edges:
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    if any(len(joined) != 2 for joined in neighbours.values()):
        raise ValueError("a point does not have exactly two neighbours, so the edges are not rings")
    rings: list[list[int]] = []
    seen: set[int] = set()
    for start in neighbours:
        if start in seen:
            continue
        ring, previous, current = [start], start, neighbours[start][0]
        while current != start:
            ring.append(current)
            ahead, behind = neighbours[current]
            previous, current = current, behind if ahead == previous else ahead
        seen.update(ring)
        rings.append(ring)
    return rings


def _only_ring(edges: Sequence[Edge]) -> list[int]:
    (ring,) = _rings(edges)
    return ring
