"""The visible notice: rendered once per frame size, burned into every frame before the invisible mark.

How large, where, in which words and for how long is decided in `watermark.jurisdictions`. `write_iptc` is the
machine-readable twin, in `watermark.iptc`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from watermark.iptc import IptcError, write_iptc
from watermark.jurisdictions import Place

__all__ = ["IptcError", "LabelError", "LabelRenderer", "write_iptc"]

FONT = Path(__file__).with_name("fonts") / "ImprimaturLabel-Bold.otf"
MIN_LETTER = 9  # pixels: below it the letters are no longer read, whatever the share of the frame
MAX_TEXT = 40
PLATE_OPACITY = 0.62
_REFERENCE = 200  # font size at which the letters are measured


class LabelError(Exception):
    """The notice cannot be drawn. `code`: label_text, label_place, label_frame."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class LabelRenderer:
    """Draws `text` into the corner `place` of frames of one size; the work per frame is one blend of the plate's area.

    `letter_height` (pixels) is the height of the capitals, `box` is (left, top, right, bottom) of the plate.
    """

    def __init__(
        self,
        size: tuple[int, int],
        text: str = "AI MODIFIED",
        place: Place = "top-right",
        *,
        letter_share: float = 0.05,
    ) -> None:
        """`size` is (width, height) in pixels, `letter_share` the height of the capitals as a part of the short side.

        Lines of `text` stay lines. Raises LabelError when it is empty, too long for the frame, or has a character that
        the font cannot draw.
        """
        width, height = size
        if width < 1 or height < 1:
            raise LabelError("label_frame", "A frame without pixels cannot be labelled. Nothing was drawn.")
        if place not in get_args(Place):
            raise LabelError(
                "label_place",
                f"There is no corner {place!r}. Nothing was drawn. Use one of {', '.join(get_args(Place))}.",
            )
        text = "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())
        if not text or len(text) > MAX_TEXT:
            raise LabelError("label_text", f"The notice needs 1 to {MAX_TEXT} characters. Nothing was drawn.")
        self.size = size
        self.text = text
        short = min(width, height)
        wanted = max(int(np.ceil(short * letter_share)), MIN_LETTER)
        letters = _letters_for(text, wanted)
        self.letter_height = letters.height
        padding = max(2, round(self.letter_height * 0.55))
        lines = _wrapped(text, letters, width - 2 * padding)
        plate = _plate(lines, letters, padding)
        plate_height, plate_width = plate.shape[:2]
        margin = max(0, min(round(short * 0.025), (width - plate_width) // 2, (height - plate_height) // 2))
        if plate_width > width or plate_height > height:
            raise LabelError(
                "label_frame",
                f"A frame of {width}x{height} is too small for the notice {text!r}. Nothing was drawn. "
                "Use a shorter text or a larger picture.",
            )
        left = margin if place.endswith("left") else width - margin - plate_width
        top = margin if place.startswith("top") else height - margin - plate_height
        self.box = (left, top, left + plate_width, top + plate_height)
        # out = frame * keep + ink, in 16-bit fixed point: no float copy of the frame
        alpha = np.round(plate[..., 3:4].astype(np.float32) * (256 / 255)).astype(np.uint16)
        self._keep = np.ascontiguousarray(np.broadcast_to(256 - alpha, (plate_height, plate_width, 3)))
        self._ink = plate[..., :3].astype(np.uint16) * alpha + 128
        self._work = np.empty_like(self._keep)

    def apply(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Draw into `frame`, uint8 [H, W, 3] RGB, in place, and return it. Not for two threads at once."""
        if frame.shape != (self.size[1], self.size[0], 3) or frame.dtype != np.uint8:
            raise LabelError(
                "label_frame",
                f"The notice was made for frames of {self.size[0]}x{self.size[1]}, this one is {frame.shape} "
                f"{frame.dtype}. Nothing was drawn. Make a renderer for this size.",
            )
        left, top, right, bottom = self.box
        region = frame[top:bottom, left:right]
        np.multiply(region, self._keep, out=self._work)
        self._work += self._ink
        np.right_shift(self._work, 8, out=self._work)
        region[...] = self._work
        return frame


@dataclass(frozen=True)
class _Letters:
    """A font at one size: its capitals (or ideographs) reach from `above` to `below` pixels around the baseline."""

    font: ImageFont.FreeTypeFont
    above: int
    below: int

    @property
    def height(self) -> int:
        return self.above + self.below

    @property
    def gap(self) -> int:
        """Between words: the font's own space is so narrow that small capitals run together."""
        return round(self.height * 0.42)

    def width(self, line: str) -> int:
        words = line.split(" ")
        return sum(int(np.ceil(self.font.getlength(word))) for word in words) + self.gap * (len(words) - 1)


def _letters_for(text: str, letter_height: int) -> _Letters:
    """The smallest font whose capitals (or ideographs, in a text without capitals) have at least `letter_height`."""
    reference = _load(_REFERENCE)
    missing = _outline(reference, "\U0010fffd")  # not assigned: every font shows its box for it
    absent = sorted({char for char in text if not char.isspace() and _outline(reference, char) == missing})
    if absent:
        raise LabelError(
            "label_text",
            f"The font has no letter for {' '.join(absent)}. Nothing was drawn. Choose other words.",
        )
    sample = "H" if any(char.isascii() and char.isalpha() for char in text) else text.replace("\n", "")
    top, bottom = reference.getbbox(sample, anchor="ls")[1::2]
    size = max(1, round(letter_height * _REFERENCE / (bottom - top)))
    while True:
        font = _load(size)
        top, bottom = font.getbbox(sample, anchor="ls")[1::2]
        if bottom - top >= letter_height:
            return _Letters(font, round(-top), round(bottom))
        size += 1


def _load(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONT), size)


def _outline(font: ImageFont.FreeTypeFont, char: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(char)
    return mask.size, bytes(mask)


def _wrapped(text: str, letters: _Letters, width: int) -> list[str]:
    """Words over as many lines as a narrow frame needs; a word is never cut, a given line never joined."""
    lines: list[str] = []
    for line in text.splitlines():
        begun = False
        for word in line.split(" "):
            if begun and letters.width(f"{lines[-1]} {word}") <= width:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
                begun = True
    return lines


def _plate(lines: list[str], letters: _Letters, padding: int) -> NDArray[np.uint8]:
    """uint8 [h, w, 4] RGBA, straight alpha: white letters on a dark plate.

    The capitals stand in its middle; accents and descenders reach into the padding and the space between lines.
    """
    pitch = letters.height + round(letters.height * 0.8)
    inner = max(letters.width(line) for line in lines)
    size = (inner + 2 * padding, letters.height + pitch * (len(lines) - 1) + 2 * padding)
    drawn = Image.new("L", size)
    draw = ImageDraw.Draw(drawn)
    for number, line in enumerate(lines):
        x = padding + (inner - letters.width(line)) // 2
        for word in line.split(" "):
            draw.text((x, padding + letters.above + number * pitch), word, fill=255, font=letters.font, anchor="ls")
            x += int(np.ceil(letters.font.getlength(word))) + letters.gap
    plate = Image.new("L", (size[0] * 4, size[1] * 4))
    corner = (0, 0, size[0] * 4 - 1, size[1] * 4 - 1)
    ImageDraw.Draw(plate).rounded_rectangle(corner, radius=padding * 2, fill=round(255 * PLATE_OPACITY))
    smooth = plate.resize(size, Image.Resampling.BOX)
    coverage = np.asarray(drawn, np.float32) / 255
    under = np.asarray(smooth, np.float32) / 255 * (1 - coverage)
    alpha = coverage + under
    grey = np.divide(coverage * 255 + under * 12, alpha, out=np.zeros_like(alpha), where=alpha > 0)
    return np.round(np.dstack([grey, grey, grey, alpha * 255])).astype(np.uint8)
