"""The list of people whose face may not be used here: descriptors compared in memory, never looked at in plain.

A descriptor is turned by a secret orthogonal matrix before it is kept. Distances stay exactly as they were, but without
the list's key a turned descriptor can be compared with nothing. Householder reflections (Householder, J. ACM 5, 1958)
from a keyed stream make the same matrix on every machine, which a library's random generator does not promise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from worker.gate import signals
from worker.gate.signals import Signal
from worker.inference import registry
from worker.inference.types import ModelError
from worker.limits import IDENTITY_PASS, STRANGERS_ALIKE
from worker.pipeline.analysis import Analysis

KIND: Final = "listed_face"
MODEL: Final = "face_descriptor"
SIZE: Final = 128
_REFLECTIONS: Final = 256
_BLOCK: Final = 1024  # entries compared at once: bounds the memory of one comparison
_FROM_BYTES: Final = np.dtype("<f4")


def turned(descriptor: Sequence[float] | NDArray[np.floating], key: bytes) -> NDArray[np.float32]:
    """`descriptor` float [N, 128] or [128] turned by the list's key; distances between turned ones are unchanged."""
    return np.asarray(np.asarray(descriptor, np.float64) @ _matrix(key), np.float32)


def _matrix(key: bytes) -> NDArray[np.float64]:
    """The orthogonal matrix float64 [128, 128] of a key: so many reflections that nothing stays in its place."""
    turning = np.eye(SIZE)
    drawn = hashlib.shake_256(b"imprimatur/face list/1|" + key).digest(8 * _REFLECTIONS * SIZE)
    normals = np.frombuffer(drawn, "<u8").reshape(_REFLECTIONS, SIZE).astype(np.float64) / 2.0**63 - 1.0
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    for normal in normals:
        turning -= 2.0 * np.outer(turning @ normal, normal)
    return turning


def pack(descriptor: Sequence[float], key: bytes) -> bytes:
    """A descriptor as it is sealed and kept: turned, 512 bytes. Raises ValueError for anything but 128 numbers."""
    if len(descriptor) != SIZE or not np.all(np.isfinite(descriptor)):
        raise ValueError("not a descriptor")
    return turned(descriptor, key).astype(_FROM_BYTES).tobytes()


@dataclass(frozen=True)
class FaceList:
    """The list in the memory of one task: turned descriptors float32 [N, 128] and the key that turned them."""

    entries: NDArray[np.float32]
    key: bytes

    @classmethod
    def of(cls, packed: Sequence[bytes], key: bytes) -> Self:
        """From what `pack` made. Raises ValueError for an entry that is not one."""
        rows = np.frombuffer(b"".join(packed), _FROM_BYTES).reshape(len(packed), SIZE)
        if not np.all(np.isfinite(rows)):
            raise ValueError("not a descriptor")
        return cls(rows.astype(np.float32), key)

    def nearest(self, descriptors: Sequence[Sequence[float]]) -> list[float]:
        """Distance from each of `descriptors` to the entry nearest to it; infinite for an empty list."""
        asked = turned(np.asarray(descriptors, np.float64).reshape(len(descriptors), SIZE), self.key)
        best = np.full(len(asked), np.inf)
        for start in range(0, len(self.entries), _BLOCK):
            block = self.entries[start : start + _BLOCK]
            apart = np.linalg.norm(asked[:, None, :] - block[None, :, :], axis=2)
            best = np.minimum(best, apart.min(axis=1))
        return [float(value) for value in best]


def measure(analysis: Analysis, listed: FaceList) -> Signal:
    """Is one of the faces of an upload on the list? Neither the entry nor the person is named in the evidence."""
    if not len(listed.entries):
        return signals.listed_face([], entries=0, threshold=0.0, one_to_many=False, chance=0.0)
    threshold, one_to_many = threshold_of(MODEL)
    tracks = [track for track in analysis.tracks if track.descriptor is not None]
    if len(tracks) < len(analysis.tracks):
        return signals.failed(KIND, "no_descriptor")
    found = listed.nearest([track.descriptor or () for track in tracks]) if tracks else []
    hits = [track.id for track, apart in zip(tracks, found, strict=True) if not apart > threshold]
    return signals.listed_face(
        hits,
        entries=len(listed.entries),
        threshold=threshold,
        one_to_many=one_to_many,
        chance=chance(len(listed.entries)),
    )


def threshold_of(model: str) -> tuple[float, bool]:
    """The distance that counts as a hit, and whether it was measured for one against many.

    Only a model whose card says so may refuse by itself. None is installed: with the built-in descriptor, whose
    threshold was measured for one against one, a hit is a reason for a person to look.
    """
    try:
        measured = registry.card(model).one_to_many
    except ModelError:
        measured = None
    return (measured.threshold, True) if measured is not None else (IDENTITY_PASS, False)


def chance(entries: int) -> float:
    """How probable it is that a stranger hits a list of so many entries with the built-in descriptor."""
    return float(1.0 - (1.0 - STRANGERS_ALIKE) ** entries)
