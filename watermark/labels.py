"""The visible notice: rendered once per frame size, burned into every frame before the invisible mark.

The letters' height is at least 5 % of the frame's short side (GB 45438-2025; the EU Code of Practice asks for a notice
at first exposure, top right). `write_iptc` is the machine-readable twin, in `watermark.iptc`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from watermark.iptc import IptcError, write_iptc

__all__ = ["IptcError", "LabelError", "LabelRenderer", "write_iptc"]

Place = Literal["top-right", "top-left", "bottom-right", "bottom-left"]

LETTER_SHARE = 0.05
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
        font_path: Path | None = None,
    ) -> None:
        """`size` is (width, height) in pixels. Raises LabelError when the text is empty, too long for the frame, or has
        a character that the font cannot draw (give `font_path` for other scripts)."""
        width, height = size
        if width < 1 or height < 1:
            raise LabelError("label_frame", "A frame without pixels cannot be labelled. Nothing was drawn.")
        if place not in get_args(Place):
            raise LabelError(
                "label_place",
                f"There is no corner {place!r}. Nothing was drawn. Use one of {', '.join(get_args(Place))}.",
            )
        text = " ".join(text.split())
        if not text or len(text) > MAX_TEXT:
            raise LabelError("label_text", f"The notice needs 1 to {MAX_TEXT} characters. Nothing was drawn.")
        self.size = size
        self.text = text
        short = min(width, height)
        wanted = max(int(np.ceil(short * LETTER_SHARE)), MIN_LETTER)
        font, self.letter_height = _font_for(text, wanted, font_path)
        padding = max(2, round(self.letter_height * 0.55))
        lines = _wrapped(text, font, width - 2 * padding)
        plate = _plate(lines, font, padding)
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


def _font_for(text: str, letter_height: int, path: Path | None) -> tuple[ImageFont.FreeTypeFont, int]:
    """The smallest font whose capitals (or ideographs) are at least `letter_height` pixels, and that height."""
    reference = _load(path, _REFERENCE)
    missing = _outline(reference, "\U0010fffd")  # not assigned: every font shows its box for it
    absent = sorted({char for char in text if not char.isspace() and _outline(reference, char) == missing})
    if absent:
        raise LabelError(
            "label_text",
            f"The font has no letter for {' '.join(absent)}. Nothing was drawn. Choose a font that has it (font_path).",
        )
    sample = "H" if any(char.isascii() and char.isalpha() for char in text) else text
    top, bottom = reference.getbbox(sample)[1::2]
    size = max(1, round(letter_height * _REFERENCE / (bottom - top)))
    while True:
        font = _load(path, size)
        top, bottom = font.getbbox(sample)[1::2]
        if bottom - top >= letter_height:
            return font, round(bottom - top)
        size += 1


def _load(path: Path | None, size: int) -> ImageFont.FreeTypeFont:
    if path is not None:
        return ImageFont.truetype(str(path), size)
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise LabelError(
            "label_text", "Pillow was built without FreeType, so no notice can be drawn. Install Pillow's own wheel."
        )
    return font


def _outline(font: ImageFont.FreeTypeFont, char: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(char)
    return mask.size, bytes(mask)


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Words over as many lines as a narrow frame needs; a word is never cut."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _plate(lines: list[str], font: ImageFont.FreeTypeFont, padding: int) -> NDArray[np.uint8]:
    """uint8 [h, w, 4] RGBA, straight alpha: white letters on a dark plate."""
    text = "\n".join(lines)
    left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, font=font)
    size = (int(np.ceil(right - left)) + 2 * padding, int(np.ceil(bottom - top)) + 2 * padding)
    letters = Image.new("L", size)
    ImageDraw.Draw(letters).multiline_text((padding - left, padding - top), text, fill=255, font=font, align="center")
    plate = Image.new("L", (size[0] * 4, size[1] * 4))
    corner = (0, 0, size[0] * 4 - 1, size[1] * 4 - 1)
    ImageDraw.Draw(plate).rounded_rectangle(corner, radius=padding * 2, fill=round(255 * PLATE_OPACITY))
    smooth = plate.resize(size, Image.Resampling.BOX)
    coverage = np.asarray(letters, np.float32) / 255
    under = np.asarray(smooth, np.float32) / 255 * (1 - coverage)
    alpha = coverage + under
    grey = np.divide(coverage * 255 + under * 12, alpha, out=np.zeros_like(alpha), where=alpha > 0)
    return np.round(np.dstack([grey, grey, grey, alpha * 255])).astype(np.uint8)
