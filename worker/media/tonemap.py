"""High dynamic range and wide gamut to BT.709: one LUT, one matrix, one shoulder.

Sources: Rec. ITU-R BT.2100-2 tables 4 (PQ) and 5 (HLG), BT.2087-0 (BT.2020 to BT.709 primaries), BT.2408 (reference
white at 203 cd/m2), BT.709-6 1.2 (OETF). The shoulder is the extended Reinhard curve (Reinhard et al. 2002, eq. 4)
above a linear toe, so that skin, which lies below half of reference white, keeps its tones.
"""

from __future__ import annotations

from functools import cache
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Transfer = Literal["pq", "hlg", "sdr2020"]

REFERENCE_WHITE: Final = 203.0
PEAK: Final = 1000.0
_KNEE: Final = 0.5
_LUMA_2020: Final = np.array([0.2627, 0.6780, 0.0593], np.float32)
_TO_709: Final = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_OUT_STEPS: Final = 4095


def to_bt709(rgb: NDArray[np.uint16], transfer: Transfer) -> NDArray[np.uint8]:
    """Map uint16 [H, W, 3] full-range R'G'B' with BT.2020 primaries to uint8 [H, W, 3] BT.709.

    `transfer` is the coding of the values: PQ (SMPTE ST 2084), HLG (ARIB STD-B67), or the camera curve of SDR
    BT.2020, of which only the primaries are converted.
    """
    light = np.take(_linear(transfer), rgb)  # 1.0 = reference white
    if transfer == "hlg":
        # BT.2100 table 5: the OOTF raises luminance to the system gamma of 1.2 for a display of 1000 cd/m2.
        luminance = np.maximum(light @ _LUMA_2020, 1e-6)
        light *= (np.power(luminance, 0.2) * (PEAK / REFERENCE_WHITE))[..., None]
    light = np.maximum(cv2.transform(light, _TO_709), 0)
    if transfer != "sdr2020":
        strongest = light.max(axis=2)
        light *= (_shoulder(strongest) / np.maximum(strongest, 1e-6))[..., None]
    return np.take(_encoded(), (np.minimum(light, 1) * _OUT_STEPS + 0.5).astype(np.uint16))


def _shoulder(light: NDArray[np.float32]) -> NDArray[np.float32]:
    top = (PEAK / REFERENCE_WHITE - _KNEE) / (1 - _KNEE)
    over = np.maximum(light - _KNEE, 0) / (1 - _KNEE)
    return np.minimum(light, _KNEE) + (1 - _KNEE) * over * (1 + over / top**2) / (1 + over)


@cache
def _linear(transfer: Transfer) -> NDArray[np.float32]:
    code = np.arange(65536) / 65535
    if transfer == "pq":
        m1, m2 = 2610 / 16384, 2523 / 4096 * 128
        c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
        root = np.power(code, 1 / m2)
        nits = 10000 * np.power(np.maximum(root - c1, 0) / (c2 - c3 * root), 1 / m1)
        return (nits / REFERENCE_WHITE).astype(np.float32)
    if transfer == "hlg":
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12).astype(np.float32)
    return np.where(code < 0.081, code / 4.5, ((code + 0.099) / 1.099) ** (1 / 0.45)).astype(np.float32)


@cache
def _encoded() -> NDArray[np.uint8]:
    light = np.arange(_OUT_STEPS + 1) / _OUT_STEPS
    signal = np.where(light < 0.018, 4.5 * light, 1.099 * np.power(light, 0.45) - 0.099)
    return np.asarray(signal * 255 + 0.5, np.uint8)
