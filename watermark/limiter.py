"""A picture's own texture taken down in small windows, frequency by frequency, for marks that are hard to read.

Strong codecs wipe the mark out of smooth regions and leave it only where the picture itself is busy. There the picture
is the noise, and it is not white: an edge or a weave has a few strong frequencies in each place, while the mark is
faint and even. Dividing by the local deviation (`normaliser`) treats all frequencies alike. Here each coefficient of a
short windowed Fourier transform is limited by its own magnitude, which is the locally optimal detector for the
heavy-tailed coefficients of pictures (Hernandez, Amado, Perez-Gonzalez, "DCT-domain watermarking techniques for still
images", 2000, derive it for DCT blocks; without overlap and phase it is worth half as much here).

Worth 2 dB where codecs and filters leave a mark just about readable, and some three times as slow: so it comes second.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watermark.compiled import compiled

_SIDE, _HOP = 24, 12
"""Side of the windows and the distance between them, pixels of the lattice frame or about that.

Windows of 16 leave 0.5 dB less of the mark, of 32 as much as these.
"""
_BINS = 8
"""Bins kept, 0 included: the mark's band ends at radius 6 (32 of 128 per pixel), and windows spread it a bit."""
_STRIP = 4
"""Rows of windows worked on at once: what lies between the steps then stays in the processor's cache."""


@lru_cache(maxsize=1)
def _waves() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines, then sines, of the bins, float32 [16, 24], under the sine window, whose square adds up to 1 over windows
    half a side apart; and what a coefficient counts in the sum that gives the picture back, float32 [8, 8]."""
    place = np.arange(_SIDE)
    phase = 2 * np.pi / _SIDE * np.outer(np.arange(_BINS), place)
    waves = np.concatenate([np.cos(phase), np.sin(phase)]) * np.sin(np.pi * (place + 0.5) / _SIDE)
    across, down = np.meshgrid(np.arange(_BINS), np.arange(_BINS))
    # Each frequency stands for itself and its negative; on the axes it is its own mirror image and would count twice.
    share = np.where(np.hypot(across, down) < _BINS, 2 / _SIDE**2, 0.0)
    share *= np.where(across == 0, 0.5, 1.0) * np.where(down == 0, 0.5, 1.0)
    return waves.astype(np.float32), share.astype(np.float32)


@compiled
def _limit(halves: Any, power: Any, share: Any, kept: Any) -> None:
    """Scale the coefficient of each window and frequency by 1 / (1 + magnitude**2 / power).

    That is the optimal detector's score for coefficients after Cauchy. `halves` float32 [n, 16, windows + 1, 32]: waves
    down by waves across, of the left halves of windows (the first 16) and of the right ones of those before. `kept`
    float32 [n, 16, windows, 16] gets the products of both waves that make up the limited window.
    """
    for i in range(kept.shape[0]):
        for v in range(_BINS):
            for j in range(kept.shape[2]):
                even, even_right = halves[i, v, j], halves[i, v, j + 1]
                odd, odd_right = halves[i, _BINS + v, j], halves[i, _BINS + v, j + 1]
                out_even, out_odd = kept[i, v, j], kept[i, _BINS + v, j]
                for u in range(_BINS):
                    cc, cs = even[u] + even_right[2 * _BINS + u], even[_BINS + u] + even_right[3 * _BINS + u]
                    sc, ss = odd[u] + odd_right[2 * _BINS + u], odd[_BINS + u] + odd_right[3 * _BINS + u]
                    # The two frequencies (u, v) and (u, -v), as real and imaginary parts.
                    a, b, c, d = cc - ss, cs + sc, cc + ss, cs - sc
                    near = share[v, u] * power / (a * a + b * b + power)
                    far = share[v, u] * power / (c * c + d * d + power)
                    a, b, c, d = a * near, b * near, c * far, d * far
                    out_even[u], out_even[_BINS + u] = a + c, b + d
                    out_odd[u], out_odd[_BINS + u] = b - d, c - a


def limited(detail: NDArray[np.float32], soft: float) -> NDArray[np.float32]:
    """Limit each local frequency of `detail` (float32 [H, W], high-passed) to about `soft` grey levels of white noise.

    Returns float32 [H, W] with nothing above the mark's band. About 5 ms for 512 by 910 pixels.
    """
    height, width = detail.shape
    rows, windows = -(-height // _HOP) + 1, -(-width // _HOP) + 1
    inside = np.s_[_HOP : _HOP + height, _HOP : _HOP + width]
    # Windows are separable and overlap by half, so each half is transformed once, down and then across.
    padded = np.zeros((rows + 1, _HOP, (windows + 1) * _HOP), np.float32)
    padded.reshape((rows + 1) * _HOP, -1)[inside] = detail
    waves, share = _waves()
    halved = np.concatenate([waves[:, :_HOP], waves[:, _HOP:]])
    # White noise of deviation 1 has the root of the summed squared window, half a side, in every coefficient.
    power = np.float32((soft * _SIDE / 2) ** 2)
    out = np.zeros_like(padded)
    for first in range(0, rows, _STRIP):
        count = min(_STRIP, rows - first)
        down = np.matmul(halved, padded[first : first + count + 1])
        down = down[:-1, : 2 * _BINS] + down[1:, 2 * _BINS :]
        halves = (down.reshape(-1, _HOP) @ halved.T).reshape(count, 2 * _BINS, windows + 1, 4 * _BINS)
        kept = np.empty((count, 2 * _BINS, windows, 2 * _BINS), np.float32)
        _limit(halves, power, share, kept)
        back = (kept.reshape(-1, 2 * _BINS) @ waves).reshape(count, 2 * _BINS, windows, 2, _HOP)
        across = np.zeros((count, 2 * _BINS, windows + 1, _HOP), np.float32)
        across[:, :, :-1] = back[..., 0, :]
        across[:, :, 1:] += back[..., 1, :]
        made = np.matmul(waves.T, across.reshape(count, 2 * _BINS, -1))
        out[first : first + count] += made[:, :_HOP]
        out[first + 1 : first + count + 1] += made[:, _HOP:]
    return np.ascontiguousarray(out.reshape((rows + 1) * _HOP, -1)[inside])
