"""Giving a face another identity."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from worker.faces.align import Affine
from worker.faces.neural.adapters import Tensors, image_of
from worker.faces.neural.crops import PictureReader, TensorWriter, cut, framing, merge_tiles, split_tiles
from worker.faces.types import Floats, Frame, Rgb
from worker.inference.registry import ModelCard


class Swapper:
    """Swappers that take who is wanted as `source` and an aligned crop as `target`.

    What `source` is, `donors.identity_of` makes once for each donor. With a `boost` above 1 the crop has so many times
    the model's side and goes in as boost x boost tiles, each a run of its own: tile (row, column) holds every boost-th
    pixel from there, so that each shows the whole face and the engine can batch them.
    """

    def __init__(self, card: ModelCard, *, boost: int = 1) -> None:
        self.card: Final = card
        self.image: Final = image_of(card)
        self._whole = replace(self.image, side=self.image.side * boost)
        self._boost = boost
        self._writer = TensorWriter(self.image)
        self._reader = PictureReader(self.image)

    @property
    def side(self) -> int:
        """Pixels along the square that is cut out and comes back."""
        return self._whole.side

    def tiles(self, frame: Frame, five: Floats) -> tuple[list[Rgb], Affine]:
        """What goes in for the face at `five` float32 [5, 2], a run each, and the transform to the whole square."""
        matrix = framing(self._whole, five)
        return split_tiles(cut(frame, matrix, self.side), self._boost), matrix

    def prepare(self, tile: Rgb, source: Floats) -> Tensors:
        """The inputs of one tile uint8 [s, s, 3] RGB, to look like `source`, of the contract's shape."""
        return {"source": np.asarray(source, np.float32)[None], self.image.input: self._writer.write(tile)}

    def decode(self, outputs: Sequence[Tensors], *, item: int = 0) -> Rgb:
        """The swapped square uint8 [side, side, 3] RGB from the outputs of all its tiles."""
        return merge_tiles([self._reader.rgb(one[self.image.output][item]) for one in outputs])


class Converter:
    """What turns an embedding into what another family of swappers was trained with (crossface_*)."""

    def __init__(self, card: ModelCard) -> None:
        self.card: Final = card
        (self._input,) = card.contract.inputs
        (self._output,) = card.contract.outputs

    def prepare(self, raw: Floats) -> Tensors:
        """The inputs for an embedding float32 [D] as its net gives it, not scaled."""
        return {self._input: np.asarray(raw, np.float32)[None]}

    def decode(self, outputs: Tensors, *, item: int = 0) -> Floats:
        """What a swapper takes as its source, float32 [D]; its length is the graph's affair."""
        return np.asarray(outputs[self._output][item], np.float32)
