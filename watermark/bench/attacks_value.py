"""Group A: attacks that change values and leave every pixel in its place (blurs and noise included)."""

from __future__ import annotations

import cv2
import numpy as np

from watermark.bench.attack_kit import RGB, Attack, attacks_of, plain, whole_levels

_SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]], np.float32)


def brightness(rgb: RGB, factor: float) -> RGB:
    """Multiply all values."""
    return whole_levels(rgb.astype(np.float32) * factor)


def contrast(rgb: RGB, factor: float) -> RGB:
    """Spread or squeeze all values about the picture's mean."""
    values = rgb.astype(np.float32)
    return whole_levels((values - values.mean()) * factor + values.mean())


def gamma(rgb: RGB, power: float) -> RGB:
    """255 (v / 255) ** power."""
    table = whole_levels(255 * (np.arange(256) / 255.0) ** power)
    return table[rgb]


def hue(rgb: RGB, degrees: int) -> RGB:
    """Turn the hue (HSV)."""
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int32) + degrees // 2) % 180
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


def saturation(rgb: RGB, factor: float) -> RGB:
    """Move every pixel away from or towards its own grey."""
    values = rgb.astype(np.float32)
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None]
    return whole_levels(luma + (values - luma) * factor)


def grey(rgb: RGB) -> RGB:
    """Drop all colour."""
    return np.asarray(cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def sepia(rgb: RGB) -> RGB:
    """The usual brown filter."""
    return whole_levels(rgb.astype(np.float32) @ _SEPIA.T)


def _on_lightness(rgb: RGB, change: cv2.CLAHE | None) -> RGB:
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    lightness = np.ascontiguousarray(lab[..., 0])
    lab[..., 0] = cv2.equalizeHist(lightness) if change is None else change.apply(lightness)
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)


def clahe(rgb: RGB) -> RGB:
    """Contrast-limited adaptive histogram equalisation of the lightness, clip 2, 8 x 8 tiles."""
    return _on_lightness(rgb, cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)))


def equalise(rgb: RGB) -> RGB:
    """Histogram equalisation of the lightness."""
    return _on_lightness(rgb, None)


def blur(rgb: RGB, sigma: float) -> RGB:
    """Gaussian blur, sigma in pixels."""
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), sigma), np.uint8)


def median(rgb: RGB, side: int) -> RGB:
    """Median of side x side pixels, per channel."""
    return np.asarray(cv2.medianBlur(rgb, side), np.uint8)


def noise(rgb: RGB, generator: np.random.Generator, sigma: float) -> RGB:
    """Add Gaussian noise, independent in each channel."""
    return whole_levels(rgb + sigma * generator.standard_normal(rgb.shape, np.float32))


def salt_and_pepper(rgb: RGB, generator: np.random.Generator) -> RGB:
    """Set 2 % of the pixels to black or white."""
    chance = generator.random(rgb.shape[:2], np.float32)
    result = rgb.copy()
    result[chance < 0.01] = 0
    result[chance > 0.99] = 255
    return result


def speckle(rgb: RGB, generator: np.random.Generator) -> RGB:
    """Multiply by noise of standard deviation 0.1."""
    return whole_levels(rgb * (1 + 0.1 * generator.standard_normal(rgb.shape, np.float32)))


def sharpen(rgb: RGB) -> RGB:
    """Unsharp mask: sigma 1.5, amount 1.5."""
    return np.asarray(cv2.addWeighted(rgb, 2.5, cv2.GaussianBlur(rgb, (0, 0), 1.5), -1.5, 0), np.uint8)


def posterise(rgb: RGB) -> RGB:
    """Sixteen levels a channel."""
    return whole_levels(np.rint(rgb / 17.0) * 17)


def ordered_dither(rgb: RGB) -> RGB:
    """Eight levels a channel through a 4 x 4 Bayer matrix."""
    bayer = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.float32)
    height, width = rgb.shape[:2]
    offset = np.tile((bayer + 0.5) / 16 - 0.5, (-(-height // 4), -(-width // 4)))[:height, :width, None]
    step = 255 / 7
    return whole_levels(np.rint(rgb / step + offset) * step)


def vignette(rgb: RGB) -> RGB:
    """Darken towards the corners, to 40 %."""
    height, width = rgb.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)  # type: ignore[misc]
    return whole_levels(rgb.astype(np.float32) * (1 - 0.3 * (x * x + y * y))[..., None])


def white_balance(rgb: RGB, generator: np.random.Generator) -> RGB:
    """Warmer or colder: red and blue by up to 20 % against each other."""
    shift = float(generator.choice([-1, 1])) * float(generator.uniform(0.12, 0.2))
    return whole_levels(rgb.astype(np.float32) * np.array([1 + shift, 1, 1 - shift], np.float32))


VALUEMETRIC: list[Attack] = attacks_of(
    "valuemetric",
    [
        ("bright_0.5", plain(lambda rgb: brightness(rgb, 0.5)), "half as bright"),
        ("bright_1.5", plain(lambda rgb: brightness(rgb, 1.5)), "half as bright again"),
        ("contrast_0.5", plain(lambda rgb: contrast(rgb, 0.5)), "half the contrast"),
        ("contrast_1.5", plain(lambda rgb: contrast(rgb, 1.5)), "contrast by 1.5"),
        ("gamma_0.5", plain(lambda rgb: gamma(rgb, 0.5)), "gamma 0.5 (lighter)"),
        ("gamma_2", plain(lambda rgb: gamma(rgb, 2.0)), "gamma 2 (darker)"),
        ("hue_40", plain(lambda rgb: hue(rgb, 40)), "hue turned by 40 degrees"),
        ("saturation_0.3", plain(lambda rgb: saturation(rgb, 0.3)), "colours faded to 0.3"),
        ("saturation_2", plain(lambda rgb: saturation(rgb, 2.0)), "colours doubled"),
        ("grey", plain(grey), "greyscale"),
        ("sepia", plain(sepia), "sepia"),
        ("invert", plain(lambda rgb: np.subtract(255, rgb, dtype=np.uint8)), "negative"),
        ("clahe", plain(clahe), "adaptive histogram equalisation"),
        ("equalise", plain(equalise), "histogram equalisation"),
        ("blur_s1", plain(lambda rgb: blur(rgb, 1)), "Gaussian blur, sigma 1 px"),
        ("blur_s2", plain(lambda rgb: blur(rgb, 2)), "Gaussian blur, sigma 2 px"),
        ("blur_s3", plain(lambda rgb: blur(rgb, 3)), "Gaussian blur, sigma 3 px"),
        ("median_3", plain(lambda rgb: median(rgb, 3)), "median of 3 x 3"),
        ("median_5", plain(lambda rgb: median(rgb, 5)), "median of 5 x 5"),
        ("median_7", plain(lambda rgb: median(rgb, 7)), "median of 7 x 7"),
        ("noise_5", lambda rgb, generator: noise(rgb, generator, 5), "Gaussian noise, sigma 5"),
        ("noise_10", lambda rgb, generator: noise(rgb, generator, 10), "Gaussian noise, sigma 10"),
        ("noise_20", lambda rgb, generator: noise(rgb, generator, 20), "Gaussian noise, sigma 20"),
        ("salt_pepper", salt_and_pepper, "2 % of the pixels black or white"),
        ("speckle", speckle, "multiplicative noise 0.1"),
        ("sharpen", plain(sharpen), "unsharp mask 1.5"),
        ("posterise", plain(posterise), "16 levels a channel"),
        ("dither", plain(ordered_dither), "8 levels a channel, ordered dither"),
        ("vignette", plain(vignette), "corners at 40 %"),
        ("white_balance", white_balance, "red against blue by 12 to 20 %"),
    ],
)
