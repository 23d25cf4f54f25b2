"""The mark of one output as two small tiles: all that a process without keys needs to write it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from watermark.keys import MarkKey
from watermark.lattice import LOWEST, ORIENTATIONS, SIDES, Band, Lattice, SyncSet, lattice_of, sync_set_of
from watermark.mark_errors import MarkError
from watermark.payload import encode

VERSION = 2
_MAGIC = b"IMPT"
_HEADER = struct.Struct("<4sHH")
SYNC_SHARE_LUMA, SYNC_SHARE_CHROMA = 0.18, 0.24
"""Of the tile's power. Small crops are found by their colour, and strong codecs leave only luma: there the payload is
what falls short. Of 33 pictures after geometric edits and crops 3 of 1,221 readings failed with 0.20 and 0.22, with
0.15 in both 8 to 11.
"""
TILT_LUMA, TILT_CHROMA = 1.5, 1.0
"""The payload's amplitude falls with frequency as |k|**-tilt.

Codecs and filters keep the low lines, SSIM charges less for them, and weighed with the eye's contrast sensitivity
(Mannos and Sakrison 1974) a tilt of 1.5 is as visible as one of 0.5 at the same SSIM. Of 18 pictures after 18 of the
hardest attacks it reads 92 %, where 0.5 reads 86 and 2 reads 90.
"""


@dataclass(frozen=True)
class MarkPattern:
    """`luma` and `chroma` (Cb): float32 [T, T], zero mean, unit RMS. Holds no key and no id in the clear.

    T, one of SIDES, is the tile's side in canonical pixels.
    """

    luma: NDArray[np.float32]
    chroma: NDArray[np.float32]
    version: int = VERSION

    def to_bytes(self) -> bytes:
        """Serialise to 8 + 4 T^2 bytes: "IMPT", version and tile side T (uint16), then both tiles as float16."""
        tiles = np.stack([self.luma, self.chroma]).astype("<f2")
        return _HEADER.pack(_MAGIC, self.version, len(self.luma)) + tiles.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises MarkError "pattern" on anything else."""
        magic, version, side = _HEADER.unpack_from(data) if len(data) > _HEADER.size else (b"", 0, 0)
        if (magic, version) != (_MAGIC, VERSION) or side not in SIDES or len(data) != _HEADER.size + 4 * side * side:
            raise MarkError(
                "pattern",
                "These bytes are no mark pattern of this version. Nothing was marked. Derive the pattern again.",
            )
        tiles = np.frombuffer(data, "<f2", offset=_HEADER.size).reshape(2, side, side).astype(np.float32)
        if not np.isfinite(tiles).all() or float(np.abs(tiles).max()) > 16.0:
            raise MarkError("pattern", "The mark pattern is damaged. Nothing was marked. Derive the pattern again.")
        return cls(tiles[0], tiles[1])


def _spectrum(
    side: int,
    lattice: Lattice,
    band: Band,
    coded: NDArray[np.uint8],
    *,
    tilt: float,
    sync_share: float,
    sync_turn: complex,
) -> NDArray[np.complex128]:
    chips = (1.0 - 2.0 * coded[band.bit_of]) * band.flip
    amplitude = (band.radius / LOWEST) ** -tilt
    amplitude *= np.sqrt((1 - sync_share) / (amplitude**2).sum())
    payload = amplitude * np.exp(1j * band.phases) * (chips[0::2] + 1j * chips[1::2]) / np.sqrt(2)
    sync = sync_turn * np.sqrt(sync_share / len(lattice.sync)) * np.exp(1j * lattice.sync_phases)
    spectrum = np.zeros((side, side), np.complex128)
    for lines, values in ((band.lines, payload), (lattice.sync, sync)):
        spectrum[lines[:, 1] % side, lines[:, 0] % side] = values
        spectrum[-lines[:, 1] % side, -lines[:, 0] % side] = np.conj(values)
    return spectrum


def tile_of(spectrum: NDArray[np.complex128], where: SyncSet) -> NDArray[np.float32]:
    """The tile with this spectrum (complex128 [T, T], of the lattice frame) as it lies in the canonical frame."""
    upright = np.fft.ifft2(spectrum).real
    down, across = np.indices(upright.shape)
    (a, b), (c, d) = ORIENTATIONS[where.orientation]
    tile = upright[(c * across + d * down) % where.side, (a * across + b * down) % where.side]
    return (tile / tile.std()).astype(np.float32)


def derive(mark_id: bytes, key: MarkKey) -> MarkPattern:
    """Derive the pattern of `mark_id` (8 bytes) under `key`. Raises MarkError "mark_id"."""
    coded = encode(mark_id, key)
    lattice, where = lattice_of(key), sync_set_of(mark_id, key)

    def tile(band: Band, tilt: float, sync_share: float, sync_turn: complex) -> NDArray[np.float32]:
        spectrum = _spectrum(where.side, lattice, band, coded, tilt=tilt, sync_share=sync_share, sync_turn=sync_turn)
        return tile_of(spectrum, where)

    # The chroma sync lines stand at a right angle to those of luma, so that neither can cancel the other where a
    # conversion mixes the planes.
    return MarkPattern(
        luma=tile(lattice.luma, TILT_LUMA, SYNC_SHARE_LUMA, 1),
        chroma=tile(lattice.chroma, TILT_CHROMA, SYNC_SHARE_CHROMA, 1j),
    )
