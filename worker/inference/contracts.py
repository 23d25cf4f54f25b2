"""What goes into a model and what comes out: shapes, types, and how a picture becomes a tensor and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

_FLOAT32: Final = np.dtype(np.float32)
_UINT8: Final = np.dtype(np.uint8)


@dataclass(frozen=True)
class ImageContract:
    """How a picture becomes a model's tensor, and how an output tensor becomes a picture again.

    The tensor `input` is a square of `side` pixels, `(x - mean) / std` per colour of pixels scaled to 0..1, in the
    order of `colours` and `layout`. `framing` says what the square shows: "letterbox" the whole picture from the top
    left corner, the rest black; "centred" the same from the middle; "box" the face's box, its longer side `share` of
    the square's; "swapped" what the square of the swap shows; "tile" a part of the picture; else the name of an
    alignment template. `output` is the tensor that holds a picture of the same form, "" if none does (an upscaler's is
    larger); `output_range` are the values of its black and white.

    `as_bytes`: what crosses to the engine and back are the pixels themselves, uint8, a quarter of the size; mean, std
    and the output's range are applied inside the graph (`graft.picture_from_bytes`, `graft.picture_to_bytes`).
    """

    input: str
    side: int
    framing: str
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    colours: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    share: float = 1.0
    output: str = ""
    output_range: tuple[float, float] = (0.0, 1.0)
    as_bytes: bool = False

    def scaling(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What the tensor holds of pixels 0..255: `scale * pixel + shift`, in the order of colours.

        Both float32 [3, 1, 1] or [3], as the layout wants them beside a tensor.
        """
        order = [0, 1, 2] if self.colours == "RGB" else [2, 1, 0]
        form = (3, 1, 1) if self.layout == "NCHW" else (3,)
        mean, std = (np.array(each)[order].reshape(form) for each in (self.mean, self.std))
        return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)

    def showing(self) -> tuple[float, float]:
        """What a pixel 0..255 of the output is of the tensor's value: `scale * value + shift`, cut off beyond."""
        low, high = self.output_range
        return 255 / (high - low), -255 * low / (high - low)

    def values(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The tensor's values float32 that `pixels` 0..255 of the output show."""
        scale, shift = self.showing()
        return ((pixels - shift) / scale).astype(np.float32)


@dataclass(frozen=True)
class ModelContract:
    """What a model takes and gives: shapes by tensor name without the batch axis, and their meaning.

    All tensors are float32 but the pictures of an `image` that cross `as_bytes`. `image` is set for operator models.
    `identity` is the name of the model whose embedding says who a swapper's donor is; "" for all others. What goes into
    the input `source` of a swapper is that embedding scaled to length 1, or what the model `converter` makes of it
    unscaled, or the donor's photo where `source` says how that goes in. `adapter` says which of a role's classes reads
    the model; "" the usual one.
    """

    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    pixels: str
    meaning: str
    image: ImageContract | None = None
    identity: str = ""
    converter: str = ""
    source: ImageContract | None = None
    adapter: str = ""

    def input_type(self, name: str) -> np.dtype[Any]:
        """The type of the numbers of an input: uint8 or float32."""
        image = self.image
        return _UINT8 if image is not None and image.as_bytes and image.input == name else _FLOAT32

    def output_type(self, name: str) -> np.dtype[Any]:
        """The type of the numbers of an output: uint8 or float32."""
        image = self.image
        return _UINT8 if image is not None and image.as_bytes and image.output == name else _FLOAT32
