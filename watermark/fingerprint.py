"""What a published picture looked like, in a few kB: to tell a recovered picture from a mark copied onto another one.

An id that was read is only a claim: marks can be lifted from one picture and laid on another. The service believes it
when the picture at hand also shows what the recorded one showed. PDQ is for looking up whole pictures; the judgement
comes from the grid of mean luma, compared window by window in the frame that the reading's geometry gives.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark import pdq
from watermark.agreement import ABSENT, AGREES, DIFFERS, PLAIN, Agreement, agreement, cells_of, grid_of, nothing, place
from watermark.geometry import Geometry
from watermark.image import check_rgb
from watermark.lattice import SHORT_SIDE
from watermark.mark_errors import MarkError

VERSION = 2
OURS_FROM = 5.0
"""Evidence (see `Agreement`) from which a picture is ours. The most that some 10,000 other pictures and parts of them
reached, portraits composed alike and laid over each other as well as possible among them, was 4.3."""
DIFFERS_FROM = -3.0
Judgement = Literal["ours", "differs", "unknown"]
_LETTERS = {PLAIN: ".", AGREES: "=", DIFFERS: "x", ABSENT: " "}
_LARGEST_GRID = 1 << 16


@dataclass(frozen=True)
class Fingerprint:
    """`pdq` 32 bytes, its `quality` 0..100, `grid` mean luma of `cells` (columns, rows), one byte each and row by row,
    `size` (width, height) of the picture in pixels."""

    pdq: bytes
    quality: int
    grid: bytes
    cells: tuple[int, int]
    size: tuple[int, int]

    @property
    def luma(self) -> NDArray[np.uint8]:
        """The grid as uint8 [rows, columns]."""
        return np.frombuffer(self.grid, np.uint8).reshape(self.cells[1], self.cells[0])

    def to_json(self) -> dict[str, Any]:
        """Plain values for a record: PDQ in the reference's hexadecimal form, the grid packed, in base64."""
        rises = np.diff(self.luma, axis=1, prepend=np.uint8(0))
        grid = base64.b64encode(zlib.compress(rises.tobytes(), 9)).decode()
        return {
            "v": VERSION,
            "pdq": self.pdq.hex(),
            "quality": self.quality,
            "grid": grid,
            "cells": list(self.cells),
            "size": list(self.size),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote. Raises MarkError "fingerprint" on anything else, older versions included."""
        try:
            if data["v"] != VERSION:
                raise _unreadable()
            width, height = (int(side) for side in data["size"])
            columns, rows = (int(count) for count in data["cells"])
            if min(width, height) < 1 or (columns, rows) != cells_of(width, height) or columns * rows > _LARGEST_GRID:
                raise _unreadable()
            packed = base64.b64decode(data["grid"], validate=True)
            rises = zlib.decompressobj().decompress(packed, columns * rows + 1)
            steps = np.frombuffer(rises, np.uint8).reshape(rows, columns)
            grid = np.cumsum(steps, axis=1, dtype=np.uint8).tobytes()
            made = cls(bytes.fromhex(data["pdq"]), int(data["quality"]), grid, (columns, rows), (width, height))
        except (KeyError, TypeError, ValueError, OverflowError, binascii.Error, zlib.error) as error:
            raise _unreadable() from error
        if len(made.pdq) != 32:
            raise _unreadable()
        return made


@dataclass(frozen=True)
class ContentMatch:
    """Whether a picture shows what the recorded one showed.

    `judged` "ours" (the recorded picture or a part of it, perhaps edited), "differs" (another picture), or "unknown":
    too little structure to tell. `evidence`: natural log of the likelihood ratio of "ours" to "another picture".
    `share` 0..1 of the places with something to compare that agree. `grid_correlation` -1..1 over all that both show.
    `pdq_distance` 0..256, None for parts of a picture. `regions`: the recorded picture in rows of windows, "=" agrees,
    "x" differs, "." nothing to compare there, " " not in the picture at hand.
    """

    judged: Judgement
    evidence: float
    share: float
    grid_correlation: float
    pdq_distance: int | None = None
    regions: tuple[str, ...] = ()

    @property
    def matches(self) -> bool:
        """True when the picture was judged ours."""
        return self.judged == "ours"


def _unreadable() -> MarkError:
    return MarkError(
        "fingerprint",
        "This record is no fingerprint of this version. Nothing was compared. Restore the record from a backup.",
    )


def judge(evidence: float) -> Judgement:
    """What an amount of evidence means."""
    if evidence >= OURS_FROM:
        return "ours"
    return "differs" if evidence <= DIFFERS_FROM else "unknown"


def take(rgb: NDArray[np.uint8]) -> Fingerprint:
    """Take the fingerprint of a picture or frame, uint8 [H, W, 3] RGB. Raises MarkError "picture_format"."""
    check_rgb(rgb)
    height, width = rgb.shape[:2]
    small = _reduced(rgb)
    value, quality = pdq.hash_picture(small)
    grid = grid_of(_luma(small), cells_of(width, height))
    return Fingerprint(value, quality, grid.tobytes(), cells_of(width, height), (width, height))


def compare(recorded: Fingerprint, rgb: NDArray[np.uint8], geometry: Geometry | None) -> ContentMatch:
    """Compare a picture, uint8 [H, W, 3] RGB, with a record.

    `geometry`: how the picture lies in the recorded one, from the reading of its mark; None when it is whole. Raises
    MarkError "picture_format".
    """
    return compare_all([recorded], rgb, geometry)[0]


def compare_all(
    recorded: Sequence[Fingerprint], rgb: NDArray[np.uint8], geometry: Geometry | None
) -> list[ContentMatch]:
    """Compare a picture with several records, such as those of a video's seconds; one answer each. As `compare`."""
    check_rgb(rgb)
    luma = _luma(rgb)
    placed = {size: place(luma, size, geometry) for size in {one.size for one in recorded}}
    value: bytes | None = None
    if geometry is None or geometry.whole:
        small = _reduced(rgb)
        value, _ = pdq.hash_picture(255 - small if geometry is not None and geometry.inverted else small)
    answers = []
    for one in recorded:
        canvas = placed[one.size]
        found = nothing(one.luma.shape) if canvas is None else agreement(one.luma, canvas)
        answers.append(_answer(found, None if value is None else pdq.distance(one.pdq, value)))
    return answers


def _reduced(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means over blocks of whole pixels, as long as SHORT_SIDE are left: many times faster than to any other size."""
    height, width = rgb.shape[:2]
    block = min(width, height) // SHORT_SIDE
    if block < 2:
        return rgb
    width, height = width // block, height // block
    cut = rgb[: height * block, : width * block]
    return np.asarray(cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def _answer(found: Agreement, apart: int | None) -> ContentMatch:
    return ContentMatch(
        judged=judge(found.evidence),
        evidence=found.evidence,
        share=found.share,
        grid_correlation=found.correlation,
        pdq_distance=apart,
        regions=tuple("".join(_LETTERS[int(state)] for state in row) for row in found.windows),
    )
