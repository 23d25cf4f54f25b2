"""The masks of a swap in steps: the nets are handed the target's square when the swapper is, and asked when it answers.

So they run beside it, and as many frames are in flight as there are of the swap. `begin` is called from one thread,
`PendingMask.result` from another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from worker.faces.align import Affine
from worker.faces.neural import masks
from worker.faces.neural.masks import Mask, MaskModel
from worker.faces.types import Floats, Frame
from worker.inference.registry import ModelSet
from worker.inference.types import ModelRunner, Pending
from worker.model_choice import OCCLUDERS, PARSERS
from worker.spec import Masking


@dataclass(frozen=True)
class PendingMask:
    """The masks of one face, of which some are still with the engine."""

    step: MaskStep
    runs: tuple[tuple[MaskModel, Pending], ...]
    made: tuple[Mask, ...]

    def result(self) -> FaceMask:
        """Wait for the nets. Raises ModelError."""
        made = [*self.made, *(model.decode(run.result(), self.step.side) for model, run in self.runs)]
        return FaceMask(self.step.boxed(made), masks.least(made) if made else None)


@dataclass(frozen=True)
class FaceMask:
    """Masks uint8 [side, side] in the square of the swap: what of the swapped face shows, and the same without the
    box, for whoever has a square of another size. None for all of it."""

    swap: Mask | None
    face: Mask | None

    def moved(self, matrix: Affine, to: Affine, side: int) -> Mask | None:
        """`face` for the square of `side` pixels that `to` leads to; `matrix` leads to the swap's, both from the
        frame."""
        return None if self.face is None else masks.moved(self.face, matrix, to, side)


class MaskStep:
    """Makes the masks of a job's faces."""

    def __init__(self, runner: ModelRunner, models: ModelSet, masking: Masking, side: int) -> None:
        """`side` is that of the square that is pasted, in pixels. Raises ModelError "model_missing"."""
        self.side: Final = side
        self._runner = runner
        self._masking = masking
        self._models: list[MaskModel] = []
        if "occlusion" in masking.types:
            self._models += [masks.Occluder(models.card(name)) for name in _of(masking.models, OCCLUDERS)]
        if "region" in masking.types:
            self._models += [masks.Parser(models.card(name), masking.regions) for name in _of(masking.models, PARSERS)]
        # A box without padding is what feathering alone does; with other masks it is one of those.
        plain = not self._models and "area" not in masking.types and not any(masking.padding)
        boxed = "box" in masking.types or "auto" in masking.types
        blur, padding = (masking.blur, masking.padding) if boxed else (Masking().blur, Masking().padding)
        self.feather: Final = blur / 2 if plain or not boxed else 0.0
        """How far the square fades towards its edges by itself, as `Paster` takes it."""
        self._box = None if plain or not boxed else masks.box(side, blur, padding)

    def begin(self, frame: Frame, matrix: Affine, landmarks: Floats) -> PendingMask | None:
        """Submit the nets for the square that `matrix` leads to from the untouched `frame`; None if nothing is masked.

        `landmarks` of any markup that encloses a face (see `masks.areas`), in pixels of the frame. Raises ModelError.
        """
        if not self._models and self._box is None and "area" not in self._masking.types:
            return None
        runs = tuple(
            (model, self._runner.submit(model.card.name, model.prepare(frame, matrix, self.side)))
            for model in self._models
        )
        made: tuple[Mask, ...] = ()
        if "area" in self._masking.types:
            made = (masks.areas(landmarks, matrix, self.side, self._masking.areas),)
        return PendingMask(self, runs, made)

    def boxed(self, made: Sequence[Mask]) -> Mask | None:
        """The minimum of what was `made` and the box."""
        found = [*made, *([] if self._box is None else [self._box])]
        return masks.least(found) if found else None


def _of(names: Sequence[str], role: Sequence[str]) -> list[str]:
    """Those of `names` in a role; its first model where none is named, which is then missing for sure or there."""
    return [name for name in names if name in role] or [role[0]]
