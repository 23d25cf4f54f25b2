"""PDQ, the 256-bit perceptual hash of Meta's ThreatExchange, bit for bit.

After the reference implementation (facebook/ThreatExchange, pdq/cpp, and its description hashing.pdf): luma in float32,
two passes of box filters along rows and columns (Jarosz), every 64th part sampled, a 16 x 16 corner of the 64 x 64 DCT
without its constant row and column, one bit per coefficient above their median.

Sums are carried in float32 in the reference's order, element by element; a vectorised sum would differ in the last bit,
and so now and then in a bit of the hash. Rows (or columns) run side by side, so numpy still does the work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

_Pixel = TypeVar("_Pixel", bound=np.generic)

LEAST_QUALITY: Final = 50
"""Below which a picture has too little in it to be told from others."""
_SIDE = 64
_BITS = 16
_SMALLEST = 5
_LARGEST = 512


def hash_rgb(rgb: NDArray[np.uint8]) -> tuple[bytes, int]:
    """Hash uint8 [H, W, 3] RGB: 32 bytes and the quality 0..100 (compare none below LEAST_QUALITY).

    The first byte holds the bits 255..248, as in the reference's hexadecimal form. Pictures under 5 pixels give zeros.
    """
    if min(rgb.shape[:2]) < _SMALLEST:
        return bytes(32), 0
    (small,) = _shrink(_luma(rgb)[None])
    return _bits(small), _quality(small)


def hash_picture(rgb: NDArray[np.uint8]) -> tuple[bytes, int]:
    """As `hash_rgb`, of uint8 [H, W, 3] RGB of any size, at a cost that does not grow with it.

    Like the reference on files (pdq/cpp/io/pdqio.cpp), which leaves the method open, pictures with a side over 512 are
    first shrunk to 512 x 512; here by area.
    """
    return hash_rgb(_fitted(rgb))


def hash_ways(rgb: NDArray[np.uint8]) -> tuple[list[bytes], int]:
    """The hashes of the eight `ways` of a picture, and its quality; as `hash_picture`.

    Of the turned pictures themselves: the reference's short cut over one transform (pdqDihedralHash256es) lies up to 26
    bits beside, of the 31 that are granted, because its samples lie a little off the middle.
    """
    rgb = _fitted(rgb)
    if min(rgb.shape[:2]) < _SMALLEST:
        return [bytes(32)] * 8, 0
    turned = list(ways(_luma(rgb)))
    # Those that lie as the picture does, and those that lie across it, side by side: numpy's calls cost the time, and
    # of more at once what lies between the steps no longer fits into the processor's cache.
    along, across = (_shrink(np.stack([turned[way] for way in which])) for which in ((0, 1, 4, 5), (2, 3, 6, 7)))
    small = [*along[:2], *across[:2], *along[2:], *across[2:]]
    return [_bits(one) for one in small], _quality(small[0])


def ways(picture: NDArray[_Pixel]) -> Iterator[NDArray[_Pixel]]:
    """The picture [H, W, ...] as it is, turned by quarters, and each of the four mirrored."""
    for turn in (None, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE):
        turned = np.ascontiguousarray(picture) if turn is None else cv2.rotate(picture, turn)
        yield from (turned, cv2.flip(turned, 1))  # type: ignore[misc]


def _fitted(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if max(rgb.shape[:2]) <= _LARGEST:
        return rgb
    return np.asarray(cv2.resize(rgb, (_LARGEST, _LARGEST), interpolation=cv2.INTER_AREA), np.uint8)


def distance(first: bytes, second: bytes) -> int:
    """Number of the 256 bits that differ."""
    return (int.from_bytes(first, "big") ^ int.from_bytes(second, "big")).bit_count()


def _luma(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    planes = rgb.astype(np.float32)
    luma = planes[..., 0] * np.float32(0.299) + planes[..., 1] * np.float32(0.587)
    luma += planes[..., 2] * np.float32(0.114)
    return np.asarray(luma, np.float32)


def _bits(small: NDArray[np.float32]) -> bytes:
    coefficients = _transform(small)
    # The lower of the two middle values, as Torben's algorithm gives for an even count.
    median = np.sort(coefficients, axis=None)[(_BITS * _BITS - 1) // 2]
    bits = (coefficients > median).reshape(-1)
    return np.packbits(bits[::-1]).tobytes()


def _shrink(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pictures of one size, [n, H, W], to [n, 64, 64]."""
    count, height, width = luma.shape
    if (height, width) == (_SIDE, _SIDE):
        return luma
    across, down = (-(-side // (2 * _SIDE)) for side in (width, height))
    # Centres, not corners, of the 64 x 64 blocks.
    rows = ((np.arange(_SIDE) + 0.5) * height / _SIDE).astype(np.int64)
    columns = ((np.arange(_SIDE) + 0.5) * width / _SIDE).astype(np.int64)
    # Two places in memory in turn: fresh ones cost more than the work that is done in them.
    first, second = np.empty((2, luma.size), np.float32)
    lines = _into(first, (height, count, width))
    np.copyto(lines, luma.transpose(1, 0, 2))
    lines = _box(_transposed(lines, second), across, np.arange(width), first)
    lines = _box(_transposed(lines, second), down, np.arange(height), first)
    # Of the second pass only what is sampled is worked out.
    lines = _box(_transposed(lines, second), across, columns, first)
    lines = _box(_transposed(lines, second), down, rows, first)
    return np.ascontiguousarray(lines.transpose(1, 0, 2))


def _into(place: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The beginning of a flat array in another shape; a new array where it is too short."""
    size = math.prod(shape)
    return place[:size].reshape(shape) if size <= place.size else np.empty(shape, np.float32)


def _transposed(lines: NDArray[np.float32], place: NDArray[np.float32]) -> NDArray[np.float32]:
    """[H, n, W] to [W, n, H]; each for itself by OpenCV, which does it block by block."""
    result = _into(place, lines.shape[::-1])
    for which in range(lines.shape[1]):
        result[:, which] = cv2.transpose(lines[:, which])
    return result


def _box(
    lines: NDArray[np.float32], window: int, kept: NDArray[np.int64], place: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Running mean over `window` entries along axis 0, over fewer at both ends, of the entries `kept` (rising)."""
    length = len(lines)
    ahead = (window + 2) // 2 - 1
    result = _into(place, (len(kept), *lines.shape[1:]))
    counts = np.empty((len(kept), 1, 1), np.float32)
    total = np.zeros(lines.shape[1:], np.float32)
    each = list(lines)
    for entry in each[:ahead]:
        np.add(total, entry, out=total)
    count = ahead
    wanted, found = kept.tolist(), 0
    for middle in range(length):
        entering, leaving = middle + ahead, middle + ahead - window
        if entering < length:
            np.add(total, each[entering], out=total)
            count += 1
        if leaving >= 0:
            np.subtract(total, each[leaving], out=total)
            count -= 1
        while found < len(wanted) and wanted[found] == middle:  # one may be kept more than once
            result[found], counts[found] = total, count
            found += 1
    result /= counts
    return result


@lru_cache(maxsize=1)
def _cosines() -> NDArray[np.float32]:
    row, column = np.mgrid[1 : _BITS + 1, 0:_SIDE]
    # The reference keeps the scale in float32 before it multiplies by the double cosine.
    scale = np.float64(np.float32(np.sqrt(2.0 / _SIDE)))
    return (scale * np.cos((np.pi / 2.0 / _SIDE) * row * (2 * column + 1))).astype(np.float32)


def _transform(small: NDArray[np.float32]) -> NDArray[np.float32]:
    cosines = _cosines()
    rows = np.zeros((_BITS, _SIDE), np.float32)
    for k in range(_SIDE):
        rows += cosines[:, k : k + 1] * small[k : k + 1]
    result = np.zeros((_BITS, _BITS), np.float32)
    for k in range(_SIDE):
        result += rows[:, k : k + 1] * cosines[:, k]
    return result


def _quality(small: NDArray[np.float32]) -> int:
    total = 0
    for gradient in (small[:-1] - small[1:], small[:, :-1] - small[:, 1:]):
        total += int(np.abs(np.trunc(gradient * np.float32(100) / np.float32(255))).sum())
    return min(total // 90, 100)
