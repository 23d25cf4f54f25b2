"""Joining what a swapper made to the frame: in its square, which is small, and then pasted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.faces.align import Affine
from worker.faces.compose import compose, match_colours
from worker.faces.neural.adapters import Tensors
from worker.faces.neural.crops import cut
from worker.faces.neural.paste import Paster
from worker.faces.neural.swappers import Swapper
from worker.faces.types import Frame
from worker.media.planes import Box
from worker.spec import Blend

# Of the side: what is composed has faded already, and only must not end in a step.
_NARROW: Final = 0.02
_FULL: Final = 0.15  # weight from which a composed pixel is taken as it is


@dataclass(frozen=True)
class Look:
    """How a face is joined to its frame: see `compose`; `colour_match` gives it the target's colours before."""

    blend: Blend = "feather"
    colour_match: bool = False


class Joiner:
    """Joins the squares of one swapper; from one thread."""

    def __init__(self, paster: Paster, swapper: Swapper, look: Look) -> None:
        self._paster = paster
        self._narrow = Paster(swapper.side, feather=_NARROW)
        self._swapper = swapper
        self._look = look

    def join(
        self,
        frame: Frame,
        matrix: Affine,
        outputs: Sequence[Tensors],
        *,
        mask: NDArray[np.uint8] | None = None,
        share: float = 1.0,
    ) -> Box | None:
        """Put the face in `outputs`, those of all its tiles, into `frame`, in place; the rest as `Paster.paste`."""
        square, look = self._swapper.decode(outputs), self._look
        if look == Look():
            return self._paster.paste(frame, matrix, square, mask=mask, share=share)
        before, weight = cut(frame, matrix, self._swapper.side), self._paster.weight(mask)
        if look.colour_match:
            square = match_colours(square, before, weight)
        paster = self._paster
        if look.blend != "feather":
            square = compose(before, square, weight, look.blend)
            paster, mask = self._narrow, np.rint(np.clip(weight / _FULL, 0, 1) * 255).astype(np.uint8)
        return paster.paste(frame, matrix, square, mask=mask, share=share)
