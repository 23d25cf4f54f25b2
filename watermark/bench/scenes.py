"""Pictures drawn by rule: text, screens, charts, skies, flats, dark scenes, shaded solids and fractal landscapes.

All take a size (width, height) and a generator, and return uint8 [height, width, 3] RGB. Nothing here comes from a
file, so the pictures may be shown and shipped anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from watermark.bench.attack_kit import RGB, whole_levels

_CONSONANTS, _VOWELS = tuple("bdfghklmnprstv"), tuple("aeiou")


def words(generator: np.random.Generator, count: int) -> str:
    """`count` words that mean nothing."""
    lengths = generator.integers(1, 4, count)
    return " ".join(
        "".join(str(generator.choice(_CONSONANTS)) + str(generator.choice(_VOWELS)) for _ in range(length))
        for length in lengths
    )


def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own typeface at `size` pixels."""
    return ImageFont.load_default(max(6.0, size))


def cloud(size: tuple[int, int], generator: np.random.Generator, tilt: float = 1.8) -> NDArray[np.float32]:
    """Noise whose power falls with frequency as f ** -tilt; float32 [height, width], zero mean, unit deviation."""
    width, height = size
    spectrum = np.fft.rfft2(generator.standard_normal((height, width), np.float32))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width)
    spectrum *= np.maximum(frequency, 1.0) ** (-tilt / 2)
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=(height, width))
    return (field / max(float(field.std()), 1e-9)).astype(np.float32)


def _colour(generator: np.random.Generator, low: int = 0, high: int = 256) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in generator.integers(low, high, 3))
    return red, green, blue


def _mixed(weights: NDArray[np.float32], stops: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    """Colour map: `weights` (0..1, [H, W]) along equally spaced colour `stops`."""
    places = np.linspace(0, 1, len(stops))
    return np.stack(
        [np.interp(weights, places, [stop[channel] for stop in stops]) for channel in range(3)], axis=-1
    ).astype(np.float32)


def _grain(values: NDArray[np.float32], generator: np.random.Generator, sigma: float) -> RGB:
    return whole_levels(values + sigma * generator.standard_normal(values.shape, np.float32))


def text_page(size: tuple[int, int], generator: np.random.Generator) -> RGB:
    """A printed page: headline, paragraphs, a rule."""
    width, height = size
    image = Image.new("RGB", size, _colour(generator, 244))
    draw = ImageDraw.Draw(image)
    ink = _colour(generator, 0, 50)
    margin, line = width // 12, max(9, min(width, height) // 34)
    draw.text((margin, margin), words(generator, 4).title(), ink, font(line * 1.9))
    top = margin + 3 * line
    draw.line((margin, top, width - margin, top), ink, 2)
    top += line
    while top < height - margin:
        text = words(generator, 40)
        while draw.textlength(text, font(line)) > width - 2 * margin:
            text = text.rsplit(" ", 1)[0]
        draw.text((margin, top), text, ink, font(line))
        top += round(line * (2.4 if generator.random() < 0.16 else 1.4))
    return np.asarray(image, np.uint8).copy()


def screen(size: tuple[int, int], generator: np.random.Generator) -> RGB:
    """A desktop program: title bar, side list, table, buttons."""
    width, height = size
    dark = generator.random() < 0.5
    page, panel, ink = (
        ((30, 31, 36), (44, 46, 53), (214, 216, 222)) if dark else ((255,) * 3, (240, 242, 245), (33,) * 3)
    )
    accent = _colour(generator, 40, 220)
    unit = max(10, min(size) // 30)
    image = Image.new("RGB", size, page)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, 2 * unit), accent)
    draw.text((unit, unit // 2), words(generator, 3).title(), (255, 255, 255), font(unit))
    draw.rectangle((0, 2 * unit, width // 4, height), panel)
    for row in range(3 * unit, height - unit, 2 * unit):
        draw.ellipse((unit // 2, row, unit // 2 + unit, row + unit), _colour(generator, 60, 220))
        draw.text((2 * unit, row), words(generator, 2)[: width // (3 * unit)], ink, font(unit * 0.8))
    left = width // 4 + unit
    for row in range(3 * unit, height - 4 * unit, round(1.6 * unit)):
        for column in range(left, width - 3 * unit, 6 * unit):
            draw.text((column, row), words(generator, 1), ink, font(unit * 0.7))
        draw.line((left, row + 1.3 * unit, width - unit, row + 1.3 * unit), panel, 1)
    for button in range(2):
        right = width - unit - button * 6 * unit
        draw.rounded_rectangle((right - 5 * unit, height - 3 * unit, right, height - unit), unit // 3, accent)
        draw.text((right - 4 * unit, height - 2.6 * unit), words(generator, 1), (255, 255, 255), font(unit * 0.8))
    return np.asarray(image, np.uint8).copy()


def chart(size: tuple[int, int], generator: np.random.Generator) -> RGB:
    """Bars and two curves on a grid."""
    width, height = size
    image = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(image)
    margin = min(size) // 9
    for step in range(6):
        y = margin + step * (height - 2 * margin) // 5
        draw.line((margin, y, width - margin, y), (220, 220, 220), 1)
        draw.text((margin // 4, y - margin // 8), f"{100 - 20 * step}", (70, 70, 70), font(margin * 0.3))
    count = int(generator.integers(6, 14))
    span = (width - 2 * margin) / count
    colour = _colour(generator, 30, 220)
    for bar in range(count):
        top = margin + generator.random() * (height - 2 * margin)
        left = margin + bar * span
        draw.rectangle((left + span * 0.15, top, left + span * 0.85, height - margin), colour)
    for _ in range(2):
        walk = np.cumsum(generator.standard_normal(80))
        walk = (walk - walk.min()) / max(float(np.ptp(walk)), 1e-9)
        points = [
            (margin + i / 79 * (width - 2 * margin), height - margin - float(value) * (height - 2 * margin))
            for i, value in enumerate(walk)
        ]
        draw.line(points, _colour(generator, 0, 200), max(2, margin // 20), joint="curve")
    draw.text((margin, margin // 3), words(generator, 5).capitalize(), (30, 30, 30), font(margin * 0.42))
    return np.asarray(image, np.uint8).copy()


def gradient(size: tuple[int, int], generator: np.random.Generator) -> RGB:
    """A smooth run of three colours, no noise: the hardest place to hide anything."""
    width, height = size
    angle = generator.uniform(0, 2 * math.pi)
    y, x = np.indices((height, width), np.float32)
    along = x * math.cos(angle) + y * math.sin(angle)
    along = (along - along.min()) / max(float(np.ptp(along)), 1e-9)
    return whole_levels(_mixed(along, [_colour(generator, 20, 236) for _ in range(3)]))


def flat_grey(size: tuple[int, int], generator: np.random.Generator) -> RGB:
    """One grey with the grain of a sensor, and one small thing in it."""
    width, height = size
    values = np.full((height, width, 3), float(generator.integers(70, 190)), np.float32)
    centre = (int(width * generator.uniform(0.3, 0.7)), int(height * generator.uniform(0.3, 0.7)))
    cv2.circle(values, centre, min(size) // 12, _colour(generator, 20, 230), -1, cv2.LINE_AA)
    return _grain(cv2.GaussianBlur(values, (0, 0), 1.2), generator, 0.8)


def sky(size: tuple[int, int], generator: np.random.Generator) -> RGB:
    """Blue to pale, thin clouds, a dark ridge below."""
    width, height = size
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None] * np.ones((1, width), np.float32)
    values = _mixed(down, [(66, 118, 190), (140, 180, 222), (222, 226, 228)])
    clouds = np.clip(cloud(size, generator, 3.2) - 0.4, 0, 1.6)[..., None] * (1 - down[..., None]) * 60
    ridge = height * (0.86 + 0.05 * cloud((width, 1), generator, 2.0)[0])
    values = np.where((np.arange(height)[:, None] > ridge)[..., None], np.float32(38), values + clouds)
    return _grain(cv2.GaussianBlur(values.astype(np.float32), (0, 0), 0.8), generator, 1.2)


def dark_scene(size: tuple[int, int], generator: np.random.Generator) -> RGB:
    """A street at night: lamps, lit windows, sensor noise that grows with the light."""
    width, height = size
    values = np.full((height, width, 3), 7, np.float32) + 3 * np.clip(cloud(size, generator, 2.6), -1, 2)[..., None]
    for _ in range(int(generator.integers(3, 7))):
        left, top = generator.integers(0, width), generator.integers(height // 4, height // 2)
        wide = int(width * generator.uniform(0.08, 0.2))
        cv2.rectangle(values, (int(left), int(top)), (int(left) + wide, height), (13, 13, 16), -1)
        step = max(6, min(size) // 30)
        for y in range(int(top) + step, height - step, 2 * step):
            for x in range(int(left) + step, int(left) + wide - step, 2 * step):
                if generator.random() < 0.35:
                    cv2.rectangle(values, (x, y), (x + step, y + step), (120, 96, 52), -1)
    lamps = np.zeros_like(values)
    for _ in range(5):
        place = (int(generator.integers(0, width)), int(generator.integers(height // 3, height)))
        cv2.circle(lamps, place, max(2, min(size) // 70), (255, 214, 150), -1, cv2.LINE_AA)
    values += lamps + 6 * cv2.GaussianBlur(lamps, (0, 0), min(size) / 22)
    noise = generator.standard_normal(values.shape, np.float32) * (2 + 0.25 * np.sqrt(np.maximum(values, 0)))
    return whole_levels(cv2.GaussianBlur(values, (0, 0), 0.7) + cv2.GaussianBlur(noise, (0, 0), 0.6) * 1.6)


def solids(size: tuple[int, int], generator: np.random.Generator) -> RGB:
    """Shaded spheres on a floor, lit from one side (Lambert and Phong), with soft shadows."""
    width, height = size
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None] * np.ones((1, width), np.float32)
    values = _mixed(down, [(206, 210, 216), (176, 178, 182), (120, 116, 112), (150, 144, 138)])
    light = np.array([generator.uniform(-0.7, 0.7), -0.6, 0.6])
    light /= np.linalg.norm(light)
    y, x = np.indices((height, width), np.float32)
    for _ in range(int(generator.integers(3, 6))):
        radius = min(size) * generator.uniform(0.09, 0.22)
        cx, cy = width * generator.uniform(0.1, 0.9), height * generator.uniform(0.35, 0.8)
        ground = ((x - cx + light[0] * radius) / 1.3) ** 2 + ((y - cy - radius * 0.9) / 0.35) ** 2
        values *= (1 - 0.5 * np.exp(-ground / radius**2))[..., None]
        nx, ny = (x - cx) / radius, (y - cy) / radius
        inside = nx * nx + ny * ny
        nz = np.sqrt(np.clip(1 - inside, 0, 1))
        lit = np.clip(nx * light[0] + ny * light[1] + nz * light[2], 0, 1)
        shine = np.clip(2 * lit * nz - light[2], 0, 1) ** 30
        shaded = (
            np.array(_colour(generator, 60, 235), np.float32) * (0.18 + 0.82 * lit[..., None]) + 120 * shine[..., None]
        )
        edge = np.clip((1 - np.sqrt(inside)) * radius + 0.5, 0, 1)[..., None]
        values = (values * (1 - edge) + shaded * edge).astype(np.float32)
    return _grain(values, generator, 0.6)


def landscape(size: tuple[int, int], generator: np.random.Generator) -> RGB:
    """Fractal hills under a hazy sky, with the grain and the colours of a photo."""
    width, height = size
    relief = cloud(size, generator, 2.3)
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None] * np.ones((1, width), np.float32)
    values = _mixed(down, [(120, 160, 205), (190, 205, 220), (225, 220, 210)])
    tints = ((128, 142, 150), (96, 112, 92), (74, 90, 54), (62, 66, 38))
    for layer, tint in enumerate(tints):
        level = height * (0.36 + 0.17 * layer + 0.06 * cloud((width, 1), generator, 2.2)[0])
        texture = np.roll(relief, 97 * (layer + 1), axis=1) + 0.6 * cloud(size, generator, 1.2)
        hill = np.array(tint, np.float32) * (1 + 0.06 * (layer + 1) * texture)[..., None]
        cover = np.clip(np.arange(height)[:, None] - level + 0.5, 0, 1)[..., None]
        values = (values * (1 - cover) + hill * cover).astype(np.float32)
    return _grain(cv2.GaussianBlur(values, (0, 0), 0.6), generator, 2.0)


def texture(size: tuple[int, int], generator: np.random.Generator) -> RGB:
    """Wood-like or fabric-like noise in one range of colour."""
    field = cloud(size, generator, 1.6)
    x = np.arange(size[0], dtype=np.float32)[None] * (2 * np.pi / generator.uniform(20, 60))
    weave = np.sin(x + 2.5 * cloud(size, generator, 2.8)) * generator.uniform(0.3, 1.2)
    weights = np.clip(0.5 + 0.16 * (field + weave), 0, 1).astype(np.float32)
    return _grain(
        _mixed(weights, [_colour(generator, 10, 90), _colour(generator, 70, 190), _colour(generator, 160, 250)]),
        generator,
        1.5,
    )


def skin(size: tuple[int, int], generator: np.random.Generator) -> RGB:
    """A plain head and shoulders before a blurred room: large smooth areas in the tones of skin."""
    width, height = size
    room = cv2.GaussianBlur(landscape(size, generator), (0, 0), min(size) / 25).astype(np.float32)
    y, x = np.indices((height, width), np.float32)
    tone = np.array([224, 172, 144], np.float32) * generator.uniform(0.4, 1.05)
    side, middle, radius = float(generator.choice([-1, 1])), width * generator.uniform(0.4, 0.6), min(size) * 0.27
    pores = 0.012 * cloud(size, generator, 0.8) + 0.03 * cloud(size, generator, 3.0)

    def lay(
        values: NDArray[np.float32], distance: NDArray[np.floating], colour: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        cover = np.clip((1 - distance) * radius * 0.25 + 0.5, 0, 1)[..., None]
        return np.asarray(values * (1 - cover) + colour * cover, np.float32)

    across, down = (x - middle) / radius, (y - height * 0.45) / radius
    light = (1 - 0.22 * side * across - 0.1 * down + pores)[..., None]
    # Shoulders go on to the lower edge, whatever the shape of the picture.
    values = lay(room, np.hypot(across / 2.1, np.minimum(down - 2.9, 0) / 1.3), tone * 0 + 60 * light)
    values = lay(values, np.hypot(across / 0.45, (down - 1.2) / 0.8), tone * 0.86 * light)
    values = lay(values, np.hypot(across / 1.05, (down + 0.25) / 1.25), 40 * light)
    values = lay(values, np.hypot(across / 0.9, down / 1.15), tone * light)
    for eye in (-0.36, 0.36):
        values = lay(values, np.hypot(across - eye, 1.8 * (down + 0.15)) / 0.14, tone * 0.25)
    lips = np.array([150, 70, 70], np.float32) * light
    values = lay(values, np.hypot(across / 0.36, (down - 0.55) / 0.09), lips)
    return _grain(cv2.GaussianBlur(values, (0, 0), 0.8), generator, 1.5)


SCENES: dict[str, Callable[[tuple[int, int], np.random.Generator], RGB]] = {
    "text": text_page,
    "screen": screen,
    "chart": chart,
    "gradient": gradient,
    "flat": flat_grey,
    "sky": sky,
    "dark": dark_scene,
    "solids": solids,
    "landscape": landscape,
    "texture": texture,
    "skin": skin,
}
"""Makers of drawn pictures by kind."""
