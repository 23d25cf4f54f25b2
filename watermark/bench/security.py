"""Two attacks by somebody who holds many of our outputs: averaging them to find the template, and copying a mark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark import fingerprint, image
from watermark.bench.attack_kit import RGB, resized, whole_levels
from watermark.bench.attacks import seeded
from watermark.bench.attacks_removal import bilateral, non_local_means
from watermark.bench.corpus import Picture
from watermark.bench.quality import psnr
from watermark.embedding import MarkMode
from watermark.keys import MarkKey
from watermark.reading import Effort

Planes = NDArray[np.float32]
SIZE = (800, 600)
"""Size (width, height) all outputs of an average have: the mark's scale follows the picture's, so one size is the
attacker's best case."""
_NOISE_VARIANCE = 9.0
STANDS_OUT = 4.0
"""Robust deviations above the local median from which a bin is taken for part of the template."""
_NEIGHBOURS = 21


@dataclass(frozen=True)
class Collusion:
    """`method`: what was averaged. `bins`: half-plane bins that stood out, over luma and chroma. `still_read` of
    `tries`; `lost_db`: mean PSNR of the notched pictures against the marked ones."""

    method: str
    mode: MarkMode
    outputs: int
    bins: int
    still_read: int
    tries: int
    lost_db: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Copied:
    """`method` of taking the mark off; of `tries` pictures it was laid on, `read` gave the id, and of those `ours`
    were also judged ours by their content: the copies that would be believed."""

    method: str
    mode: MarkMode
    tries: int
    read: int
    ours: int
    psnr: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def _ycc(rgb: RGB) -> Planes:
    """Luma and blue difference, float32 [2, H, W]."""
    planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    return np.ascontiguousarray(planes[..., (0, 2)].transpose(2, 0, 1))


def _wiener_residual(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a local Wiener filter (5 x 5) takes off."""
    mean = cv2.blur(plane, (5, 5))
    variance = cv2.blur(plane * plane, (5, 5)) - mean * mean
    return np.asarray((plane - mean) * (_NOISE_VARIANCE / np.maximum(variance, _NOISE_VARIANCE)), np.float32)


def _half_spectra(rgb: RGB) -> NDArray[np.complex64]:
    planes = _ycc(rgb)
    return np.stack([np.fft.rfft2(_wiener_residual(plane)) for plane in planes]).astype(np.complex64)


def _local_mean(power: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.blur(power, (33, 33), borderType=cv2.BORDER_REFLECT), np.float32) + np.float32(1e-6)


def stands_out(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Bins of float32 [2, H, W/2 + 1] more than STANDS_OUT robust deviations above their neighbours' median."""
    found = np.zeros(values.shape, bool)
    for plane in range(len(values)):
        # OpenCV has medians of wide windows for bytes only; 220 steps over the logarithms place them within 5 %.
        logs = np.log(np.maximum(values[plane], 1e-9))
        low, high = np.percentile(logs, (0.5, 99.5))
        step = max(float(high - low), 1e-6) / 220
        places = np.clip((logs - low) / step + 18, 0, 255).astype(np.uint8)
        middle = np.exp((cv2.medianBlur(places, _NEIGHBOURS).astype(np.float32) - 17.5) * step + low)
        relative = values[plane] / middle
        centre = float(np.median(relative))
        deviation = 1.4826 * float(np.median(np.abs(relative - centre)))
        found[plane] = relative > centre + STANDS_OUT * deviation
    found[:, :3, :3] = found[:, -2:, :3] = False
    return found


def notched(rgb: RGB, bins: NDArray[np.bool_]) -> RGB:
    """Bring the marked bins of luma and Cb, and with them their conjugates, down to the level around them."""
    planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    for index, channel in enumerate((0, 2)):
        spectrum = np.fft.rfft2(planes[..., channel])
        # The level around a bin is taken from bins that do not stand out, or it would bring back half the template.
        clean = (~bins[index]).astype(np.float32)
        amplitude = np.abs(spectrum).astype(np.float32) * clean
        level = cv2.blur(amplitude, (9, 9)) / np.maximum(cv2.blur(clean, (9, 9)), 1e-3)
        limit = np.minimum(1, level / np.maximum(np.abs(spectrum), 1e-9))
        spectrum = np.where(bins[index], spectrum * limit * 0.1, spectrum)
        planes[..., channel] = np.fft.irfft2(spectrum, s=rgb.shape[:2])
    return np.asarray(cv2.cvtColor(whole_levels(planes), cv2.COLOR_YCrCb2RGB), np.uint8)


def one_size(pictures: Sequence[Picture], count: int) -> Iterator[tuple[str, RGB]]:
    """`count` pictures of SIZE: the given ones, then their mirror images and other cuts of them."""
    for index in range(count):
        picture = pictures[index % len(pictures)]
        rgb, turn = picture.pixels(), index // len(pictures)
        if turn % 2:
            rgb = rgb[:, ::-1]
        if turn >= 2:
            draw = seeded(turn, picture.name, "cut")
            height, width = (int(side * draw.uniform(0.5, 0.9)) for side in rgb.shape[:2])
            top, left = int(draw.integers(rgb.shape[0] - height)), int(draw.integers(rgb.shape[1] - width))
            rgb = rgb[top : top + height, left : left + width]
        yield f"{picture.name}/{turn}", resized(np.ascontiguousarray(rgb), SIZE)


def collusion(
    pictures: Sequence[Picture],
    keys: Sequence[MarkKey],
    mode: MarkMode,
    *,
    outputs: int = 50,
    tries: int = 20,
    seed: int = 1,
    effort: Effort = "deep",
) -> list[Collusion]:
    """Average `outputs` pictures marked under one key with fresh ids, notch what stands out in `tries` of them, read.

    One result for each way of averaging, and one for both together.
    """
    draw = seeded(seed, "collusion", mode)
    shape = (2, SIZE[1], SIZE[0] // 2 + 1)
    coherent, power = np.zeros(shape, np.complex64), np.zeros(shape, np.float32)
    marked: list[tuple[RGB, bytes]] = []
    for _, rgb in one_size(pictures, outputs):
        mark_id = draw.bytes(8)
        output = image.embed(rgb, mark_id, keys[0], mode)
        spectra = _half_spectra(output)
        energy = np.abs(spectra) ** 2
        whitened = np.stack([plane / _local_mean(plane) for plane in energy])
        coherent += spectra / np.sqrt(energy.mean())
        power += whitened
        if len(marked) < tries:
            marked.append((output, mark_id))
    amplitude = np.asarray(np.abs(coherent), np.float32)
    templates = {
        "mean of spectra": stands_out(amplitude),
        "mean of power": stands_out(power),
    }
    templates["both"] = templates["mean of spectra"] | templates["mean of power"]
    results = []
    for method, bins in templates.items():
        still, lost = 0, []
        for output, mark_id in marked:
            attacked = notched(output, bins)
            lost.append(psnr(output, attacked))
            reading = image.read(attacked, keys, effort)
            still += reading is not None and reading.mark_id == mark_id
        results.append(Collusion(method, mode, outputs, int(bins.sum()), still, len(marked), float(np.mean(lost))))
    return results


def _difference(filtered: Callable[[RGB], RGB]) -> Callable[[RGB], NDArray[np.float32]]:
    return lambda rgb: rgb.astype(np.float32) - filtered(rgb)


def _wiener_rgb(rgb: RGB) -> NDArray[np.float32]:
    return np.stack([_wiener_residual(rgb[..., channel].astype(np.float32)) for channel in range(3)], axis=-1)


LIFTERS: dict[str, Callable[[RGB], NDArray[np.float32]]] = {
    "wiener 5": _wiener_rgb,
    "median 3": _difference(lambda rgb: np.asarray(cv2.medianBlur(rgb, 3), np.uint8)),
    "gauss 2": _difference(lambda rgb: np.asarray(cv2.GaussianBlur(rgb, (0, 0), 2), np.uint8)),
    "bilateral": _difference(lambda rgb: bilateral(rgb, 9, 25, 4)),
    "non-local means": _difference(lambda rgb: non_local_means(rgb, 5)),
}
"""Ways of taking a mark off a picture: each gives what its filter removes, float32 [H, W, 3]."""
AVERAGED = "average of {} frames"


def copies(
    pictures: Sequence[Picture],
    keys: Sequence[MarkKey],
    mode: MarkMode,
    *,
    tries: int = 10,
    frames: int = 50,
    seed: int = 1,
    effort: Effort = "deep",
) -> Iterator[Copied]:
    """Take the mark off one picture and lay it on another, by each of LIFTERS and by averaging a video's `frames`.

    The average is the forger's best case: a video gives many pictures with one and the same mark.
    """
    draw = seeded(seed, "copy", mode)
    donors, targets = _strangers(list(one_size(pictures, 2 * tries)))
    for method, lift in LIFTERS.items():
        cases = []
        for donor, target in zip(donors, targets, strict=True):
            mark_id = draw.bytes(8)
            output = image.embed(donor, mark_id, keys[0], mode)
            cases.append((output, mark_id, target, lift(output)))
        yield _judge(method, mode, cases, keys, effort)
    mark_id = draw.bytes(8)
    total: NDArray[np.float32] | None = None
    output = donors[0]
    for _, frame in one_size(pictures, frames):
        output = image.embed(frame, mark_id, keys[0], mode)
        residual = _wiener_rgb(output)
        total = residual if total is None else total + residual
    if total is None:
        return
    # Weighted down where pictures are busy, the average comes out too faint: scaled to a mark's usual strength.
    total *= 1.6 / math.sqrt(float((total * total).mean()))
    cases = [(output, mark_id, target, total) for target in targets]
    yield _judge(AVERAGED.format(frames), mode, cases, keys, effort)


def _strangers(chosen: list[tuple[str, RGB]]) -> tuple[list[RGB], list[RGB]]:
    """The first half and the second, none beside a mirror image or another cut of itself; fewer where there are none.

    With few pictures the second half shows the first again, and a mark laid on the mirror image of its own picture
    would be no copy onto another.
    """
    half = len(chosen) // 2
    first, second = chosen[:half], chosen[half:]
    turns = [second[turn:] + second[:turn] for turn in range(half)]
    pairs = [[(a, b) for a, b in zip(first, turned, strict=True) if _shown(a) != _shown(b)] for turned in turns]
    best = max(pairs, key=len)
    return [a[1] for a, _ in best], [b[1] for _, b in best]


def _shown(named: tuple[str, RGB]) -> str:
    return named[0].rsplit("/", 1)[0]


def _judge(
    method: str,
    mode: MarkMode,
    cases: Sequence[tuple[RGB, bytes, RGB, NDArray[np.float32]]],
    keys: Sequence[MarkKey],
    effort: Effort,
) -> Copied:
    read = ours = 0
    fidelity = []
    for output, mark_id, target, residual in cases:
        forged = whole_levels(target + residual)
        fidelity.append(psnr(target, forged))
        reading = image.read(forged, keys, effort)
        if reading is None or reading.mark_id != mark_id:
            continue
        read += 1
        ours += fingerprint.compare(fingerprint.take(output), forged, reading.geometry).matches
    return Copied(method, mode, len(cases), read, ours, float(np.mean(fidelity)))
