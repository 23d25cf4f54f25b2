"""What a model's graph sees of a picture that crosses to the engine as bytes, and what comes back of what it gives."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.inference.contracts import ImageContract


def seen(image: ImageContract | None, tensor: NDArray[Any]) -> NDArray[np.float32]:
    """float32, as its authors' file takes it: `(x / 255 - mean) / std`; `tensor` [N, ...] or one item of it."""
    assert image is not None
    assert image.as_bytes
    assert tensor.dtype == np.uint8
    order = slice(None) if image.colours == "RGB" else slice(None, None, -1)
    form = (3, 1, 1) if image.layout == "NCHW" else (3,)
    mean, std = (np.reshape(values[order], form) for values in (image.mean, image.std))
    return ((tensor / 255 - mean) / std).astype(np.float32)


def shown(image: ImageContract | None, values: NDArray[Any]) -> NDArray[np.uint8]:
    """The bytes that the engine gives for a picture of these values: `output_range` as 0..255, cut off beyond."""
    assert image is not None
    assert image.as_bytes
    low, high = image.output_range
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
