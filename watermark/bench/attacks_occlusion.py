"""Group D: crops, and pictures with something laid over them or laid into something else."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw

from watermark.bench.attack_kit import LEAST_SIDE, RGB, Attack, attacks_of, cropped, resized, scaled
from watermark.bench.scenes import font, landscape, screen, solids, words


def overlay(rgb: RGB, generator: np.random.Generator) -> RGB:
    """Three smileys of a fifth of the short side and a half-transparent ribbon."""
    height, width = rgb.shape[:2]
    image = Image.fromarray(rgb).convert("RGBA")
    layer = Image.new("RGBA", image.size)
    draw = ImageDraw.Draw(layer)
    top = int(generator.integers(0, max(1, height - height // 10)))
    draw.rectangle((0, top, width, top + height // 10), (int(generator.integers(0, 256)), 40, 90, 130))
    size = min(width, height) // 5
    for _ in range(3):
        x, y = int(generator.integers(0, width - size)), int(generator.integers(0, height - size))
        draw.ellipse((x, y, x + size, y + size), (255, 204, 51, 255), (120, 80, 0, 255), max(1, size // 30))
        for eye in (0.3, 0.6):
            draw.ellipse((x + eye * size, y + 0.3 * size, x + (eye + 0.1) * size, y + 0.42 * size), (60, 40, 0, 255))
        draw.arc(
            (x + 0.25 * size, y + 0.3 * size, x + 0.75 * size, y + 0.8 * size),
            20,
            160,
            (60, 40, 0, 255),
            size // 18 + 1,
        )
    return np.asarray(Image.alpha_composite(image, layer).convert("RGB"), np.uint8).copy()


def cut_out(rgb: RGB, generator: np.random.Generator) -> RGB:
    """Paste 40 % of the area into another picture of the same size, at another place."""
    height, width = rgb.shape[:2]
    part = cropped(rgb, 0.4, generator)
    canvas = landscape((width, height), generator)
    h, w = part.shape[:2]
    x, y = int(generator.integers(0, width - w + 1)), int(generator.integers(0, height - h + 1))
    canvas[y : y + h, x : x + w] = part
    return canvas


def meme(rgb: RGB, generator: np.random.Generator) -> RGB:
    """White bars with text above and below, and a line of outlined text in the picture."""
    height, width = rgb.shape[:2]
    bar = max(16, height // 7)
    canvas = Image.new("RGB", (width, height + 2 * bar), (255, 255, 255))
    canvas.paste(Image.fromarray(rgb), (0, bar))
    draw = ImageDraw.Draw(canvas)
    middle, letters = width / 2, font(bar * 0.5)
    draw.text((middle, bar / 2), words(generator, 4).upper(), (0, 0, 0), letters, anchor="mm")
    draw.text((middle, height + 1.5 * bar), words(generator, 3).upper(), (0, 0, 0), letters, anchor="mm")
    draw.text(
        (middle, height + 0.5 * bar),
        words(generator, 3),
        (255, 255, 255),
        letters,
        anchor="mm",
        stroke_width=max(1, bar // 20),
        stroke_fill=(0, 0, 0),
    )
    return np.asarray(canvas, np.uint8).copy()


def collage(rgb: RGB, generator: np.random.Generator) -> RGB:
    """Two by two pictures, each scaled by 0.6 with a white gap; ours at a seeded place."""
    small = scaled(rgb, 0.6)
    height, width = small.shape[:2]
    gap = max(2, min(height, width) // 60)
    canvas = np.full((2 * height + gap, 2 * width + gap, 3), 255, np.uint8)
    ours = int(generator.integers(0, 4))
    for cell in range(4):
        y, x = cell // 2 * (height + gap), cell % 2 * (width + gap)
        other = landscape if cell % 2 else solids
        canvas[y : y + height, x : x + width] = small if cell == ours else other((width, height), generator)
    return canvas


def screenshot(rgb: RGB, generator: np.random.Generator) -> RGB:
    """A screen on which a window shows the picture at 60 to 95 % of its size, beside and below other things."""
    shown = scaled(rgb, float(generator.uniform(0.6, 0.95)))
    height, width = shown.shape[:2]
    bar = max(12, height // 16)
    size = (round(width * generator.uniform(1.15, 1.5)), round((height + bar) * generator.uniform(1.1, 1.3)))
    canvas = screen(size, generator)
    x, y = int(generator.integers(0, size[0] - width + 1)), int(generator.integers(bar, size[1] - height + 1))
    canvas[y - bar : y, x : x + width] = (222, 224, 228)
    for light, colour in enumerate(((237, 106, 94), (245, 191, 79), (98, 197, 84))):
        cv2.circle(canvas, (x + bar // 2 + light * bar, y - bar // 2), max(2, bar // 4), colour, -1, cv2.LINE_AA)
    canvas[y : y + height, x : x + width] = shown
    return canvas


def logo_and_text(rgb: RGB, generator: np.random.Generator) -> RGB:
    """A logo in a corner and half-transparent lettering across the picture."""
    height, width = rgb.shape[:2]
    image = Image.fromarray(rgb).convert("RGBA")
    layer = Image.new("RGBA", image.size)
    draw = ImageDraw.Draw(layer)
    side = min(width, height) // 6
    x, y = (width - side - 8, 8) if generator.random() < 0.5 else (8, height - side - 8)
    draw.rounded_rectangle((x, y, x + side, y + side), side // 5, (20, 60, 160, 255))
    draw.text((x + side / 2, y + side / 2), "IM", (255, 255, 255, 255), font(side * 0.55), anchor="mm")
    for row in range(3):
        draw.text(
            (width / 2, height * (0.25 + 0.25 * row)),
            words(generator, 3).upper(),
            (255, 255, 255, 120),
            font(min(width, height) / 10),
            anchor="mm",
        )
    return np.asarray(Image.alpha_composite(image, layer).convert("RGB"), np.uint8).copy()


def blurred_region(rgb: RGB, generator: np.random.Generator) -> RGB:
    """Blur an ellipse in the upper middle beyond recognition, as faces are hidden."""
    height, width = rgb.shape[:2]
    centre = (int(width * generator.uniform(0.35, 0.65)), int(height * generator.uniform(0.3, 0.5)))
    axes = (int(width * 0.16), int(height * 0.22))
    mask = np.zeros((height, width), np.float32)
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    small = cv2.resize(rgb, (max(1, width // 24), max(1, height // 24)), interpolation=cv2.INTER_AREA)
    hidden = resized(np.asarray(small, np.uint8), (max(LEAST_SIDE, width), max(LEAST_SIDE, height)))
    return np.where(mask[..., None] > 0.5, hidden, rgb)


def _crop(area: float) -> Attack:
    return Attack(
        f"crop_{area:g}",
        "occlusion",
        lambda rgb, generator: cropped(rgb, area, generator),
        f"{area:.0%} of the area, anywhere",
    )


OCCLUSION: list[Attack] = [
    *(_crop(area) for area in (0.8, 0.5, 0.25, 0.1, 0.05)),
    *attacks_of(
        "occlusion",
        [
            ("overlay", overlay, "three smileys and a ribbon"),
            ("cut_out_40", cut_out, "40 % of it pasted into another picture"),
            ("meme", meme, "text bars above and below, text inside"),
            ("collage_4", collage, "one of four pictures, at 0.6 of its size"),
            ("screenshot", screenshot, "in a window on a screen"),
            ("logo_text", logo_and_text, "logo and lettering across"),
            ("face_blur", blurred_region, "an ellipse blurred away"),
        ],
    ),
]
