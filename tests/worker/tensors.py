"""What a model's graph sees of a picture that crosses to the engine as bytes."""

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
