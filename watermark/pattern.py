"""The mark of one output as two small tiles: all that a process without keys needs to write it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from watermark.keys import MarkKey
from watermark.lattice import LOWEST, TILE, Band, Lattice, lattice_of
from watermark.mark_errors import MarkError
from watermark.payload import encode

VERSION = 1
_MAGIC = b"IMPT"
_HEADER = struct.Struct("<4sHH")
_SYNC_SHARE_LUMA, _SYNC_SHARE_CHROMA = 0.22, 0.15
# Amplitude falls with frequency as |k|**-tilt: strong codecs keep the low lines, and the eye the high ones.
_TILT_LUMA, _TILT_CHROMA = 0.5, 0.3


@dataclass(frozen=True)
class MarkPattern:
    """`luma` and `chroma` (Cb): float32 [128, 128], zero mean, unit RMS. Holds no key and no id in the clear."""

    luma: NDArray[np.float32]
    chroma: NDArray[np.float32]
    version: int = VERSION

    def to_bytes(self) -> bytes:
        """Serialise to 8 + 65536 bytes: "IMPT", version and tile side (uint16), then both tiles as float16."""
        tiles = np.stack([self.luma, self.chroma]).astype("<f2")
        return _HEADER.pack(_MAGIC, self.version, TILE) + tiles.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises MarkError "pattern" on anything else."""
        body = len(data) - _HEADER.size
        if body != 2 * TILE * TILE * 2 or _HEADER.unpack_from(data) != (_MAGIC, VERSION, TILE):
            raise MarkError(
                "pattern",
                "These bytes are no mark pattern of this version. Nothing was marked. Derive the pattern again.",
            )
        tiles = np.frombuffer(data, "<f2", offset=_HEADER.size).reshape(2, TILE, TILE).astype(np.float32)
        if not np.isfinite(tiles).all() or float(np.abs(tiles).max()) > 16.0:
            raise MarkError("pattern", "The mark pattern is damaged. Nothing was marked. Derive the pattern again.")
        return cls(tiles[0], tiles[1])


def _spectrum(
    lattice: Lattice, band: Band, coded: NDArray[np.uint8], *, tilt: float, sync_share: float, sync_turn: complex
) -> NDArray[np.complex128]:
    chips = (1.0 - 2.0 * coded[band.bit_of]) * band.flip
    amplitude = (band.radius / LOWEST) ** -tilt
    amplitude *= np.sqrt((1 - sync_share) / (amplitude**2).sum())
    payload = amplitude * np.exp(1j * band.phases) * (chips[0::2] + 1j * chips[1::2]) / np.sqrt(2)
    sync = sync_turn * np.sqrt(sync_share / len(lattice.sync)) * np.exp(1j * lattice.sync_phases)
    spectrum = np.zeros((TILE, TILE), np.complex128)
    for lines, values in ((band.lines, payload), (lattice.sync, sync)):
        spectrum[lines[:, 1] % TILE, lines[:, 0] % TILE] = values
        spectrum[-lines[:, 1] % TILE, -lines[:, 0] % TILE] = np.conj(values)
    return spectrum


def _tile(spectrum: NDArray[np.complex128]) -> NDArray[np.float32]:
    tile = np.fft.ifft2(spectrum).real
    return (tile / tile.std()).astype(np.float32)


def derive(mark_id: bytes, key: MarkKey) -> MarkPattern:
    """Derive the pattern of `mark_id` (8 bytes) under `key`. Raises MarkError "mark_id"."""
    lattice = lattice_of(key)
    coded = encode(mark_id, key)
    # The chroma sync lines stand at a right angle to those of luma, so that neither can cancel the other where a
    # conversion mixes the planes.
    return MarkPattern(
        luma=_tile(_spectrum(lattice, lattice.luma, coded, tilt=_TILT_LUMA, sync_share=_SYNC_SHARE_LUMA, sync_turn=1)),
        chroma=_tile(
            _spectrum(lattice, lattice.chroma, coded, tilt=_TILT_CHROMA, sync_share=_SYNC_SHARE_CHROMA, sync_turn=1j)
        ),
    )
