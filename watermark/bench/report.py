"""A folder to look at: figures, magnified crops, difference pictures, and one page that shows them."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from watermark import image
from watermark.bench import plots, summary
from watermark.bench.attack_kit import RGB
from watermark.bench.attacks import seeded
from watermark.bench.corpus import Picture
from watermark.bench.negatives import Negative
from watermark.bench.quality import psnr
from watermark.bench.scenes import SCENES
from watermark.bench.suite import Row, bench_keys
from watermark.embedding import MarkMode

SHOWN = ("skin", "sky", "flat")
"""Kinds of picture in which a mark shows first."""
CROP, MAGNIFIED, AMPLIFIED = 112, 4, 10
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px; padding: 0 1rem; color: #1c2430; }
pre { background: #f4f6f8; padding: 1rem; overflow-x: auto; font-size: 12px; line-height: 1.35; }
figure { margin: 1rem 0; } figcaption { color: #4b5666; } img { max-width: 100%; }
img.pixels { image-rendering: pixelated; max-width: none; }
.wide { overflow-x: auto; }
"""


def quietest(rgb: RGB, side: int) -> tuple[int, int]:
    """Corner (left, top) of the square of `side` pixels with the least variance: of skin where there is some.

    Skin stands here for anything between pink and brown in fair light. Nearly black and nearly white squares are passed
    over where others are.
    """
    values = rgb.astype(np.float32)
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    red, green, blue = cv2.split(values)
    skin = ((red - green > 12) & (green - blue > 4) & (luma > 50)).astype(np.float32)
    mean = cv2.boxFilter(luma, -1, (side, side))
    variance = cv2.boxFilter(luma * luma, -1, (side, side)) - mean * mean
    half = side // 2
    inner = (slice(half, max(half + 1, rgb.shape[0] - half)), slice(half, max(half + 1, rgb.shape[1] - half)))
    for allowed in (
        cv2.boxFilter(skin, -1, (side, side)) > 0.95,
        (mean > 70) & (mean < 235),
        np.ones(luma.shape, bool),
    ):
        if allowed[inner].any():
            break
    y, x = np.unravel_index(np.argmin(np.where(allowed, variance, np.inf)[inner]), variance[inner].shape)
    return int(x), int(y)


def side_by_side(rgb: RGB, marked: Mapping[MarkMode, RGB]) -> RGB:
    """The quietest part of a picture at 400 %: unmarked, then each mode, then each difference times ten."""
    side = min(CROP, *rgb.shape[:2])
    x, y = quietest(rgb, side)
    part = (slice(y, y + side), slice(x, x + side))
    tiles = [rgb[part], *(one[part] for one in marked.values())]
    tiles += [amplified(rgb[part], one[part]) for one in marked.values()]
    gap = np.full((side * MAGNIFIED, 8, 3), 255, np.uint8)
    row: list[RGB] = []
    for tile in tiles:
        row += [tile.repeat(MAGNIFIED, 0).repeat(MAGNIFIED, 1), gap]
    return np.concatenate(row[:-1], axis=1)


def amplified(rgb: RGB, marked: RGB) -> RGB:
    """The difference times ten about mid grey."""
    difference = marked.astype(np.int16) - rgb
    return np.clip(128 + AMPLIFIED * difference, 0, 255).astype(np.uint8)


def _examples(pictures: Sequence[Picture]) -> Iterator[tuple[str, RGB]]:
    for kind in SHOWN:
        yield kind, SCENES[kind]((900, 700), seeded(5, kind))
    for picture in [one for one in pictures if one.kind == "photo"][:4]:
        yield picture.name, picture.pixels()


def _difference_figures(pictures: Sequence[Picture], folder: Path) -> Iterator[tuple[str, str]]:
    key = bench_keys(1)[0]
    for name, rgb in _examples(pictures):
        if image.markable(rgb) is not None:
            continue
        marked = {mode: image.embed(rgb, b"examples", key, mode) for mode in summary.MODES}
        said = ", ".join(f"{mode} {psnr(rgb, one):.1f} dB" for mode, one in marked.items())
        stem = "".join(letter if letter.isalnum() else "_" for letter in name)[:60]
        Image.fromarray(side_by_side(rgb, marked)).save(folder / f"crop_{stem}.png")
        yield (
            f"crop_{stem}.png",
            (f"{name}, quietest part at 400 %: unmarked | default | durable | differences x10 about mid grey ({said})"),
        )
        whole = np.concatenate([rgb, marked["default"], amplified(rgb, marked["default"])], axis=1)
        Image.fromarray(whole).save(folder / f"whole_{stem}.png", compress_level=3)
        yield f"whole_{stem}.png", f"{name}: unmarked | default | its difference x10"


def write(
    folder: Path,
    pictures: Sequence[Picture],
    rows: Sequence[Row],
    *,
    words: Sequence[str] = (),
    negatives: Sequence[Negative] = (),
    sweep: Mapping[float, Sequence[Row]] | None = None,
) -> Path:
    """Write the report into `folder` (made if missing) and return its index.html.

    `words`: tables as text, shown as they are. Raises ImportError without matplotlib, OSError when the folder cannot be
    written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures: list[tuple[str, str]] = []
    if rows:
        plots.by_group(rows, folder / "groups.png")
        plots.against_psnr(rows, sweep or {}, folder / "psnr.png")
        figures += [("groups.png", "Recovery per group"), ("psnr.png", "Recovery against PSNR")]
        with (folder / "rows.jsonl").open("w") as lines:
            lines.writelines(json.dumps(row.to_json()) + "\n" for row in rows)
    if negatives:
        plots.false_alarm_curve(rows, negatives, folder / "false_alarms.png")
        figures.append(("false_alarms.png", "False alarms"))
    figures += _difference_figures(pictures, folder)
    body = "".join(f"<pre>{html.escape(text)}</pre>\n" for text in words)
    for file, caption in figures:
        kind = ' class="pixels"' if file.startswith(("crop_", "whole_")) else ""
        body += (
            f'<figure><div class="wide"><img{kind} src="{file}" alt="{html.escape(caption)}"></div>'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>\n"
        )
    index = folder / "index.html"
    index.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>The invisible mark, measured</title>'
        f"<style>{_STYLE}</style><h1>The invisible mark, measured</h1>\n"
        f"<p>{len({row.picture for row in rows})} pictures, {len({row.attack for row in rows})} attacks, "
        f"{len(rows)} readings.</p>\n{body}</html>\n"
    )
    return index
