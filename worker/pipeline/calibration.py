"""Samples for lower precisions: what the models are really fed while pictures are analysed.

The pictures are faces drawn by `worker.faces.synthetic`, always, and the operator's own, if given. Half of each is for
calibration and half for the gate, and no picture is in both halves.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.faces.analyse import analyse_image
from worker.faces.landmarks import FaceMesh
from worker.faces.synthetic import draw_face
from worker.faces.types import Detection, ModelRunner, Rgb

Inputs = Mapping[str, NDArray[Any]]
DRAWN: Final = 24  # pictures in each half
# A large picture is searched in many tiles, most of them empty; without a bound they would be most of the samples.
_MOST_OF_ONE_PICTURE: Final = 3


@dataclass(frozen=True)
class Samples:
    """Inputs by model. `gate` holds `drawn` first and then what the operator's pictures added."""

    calibration: Mapping[str, Inputs]
    gate: Mapping[str, Inputs]
    drawn: Mapping[str, Inputs]


def collect(
    runner: ModelRunner,
    pictures: Sequence[Rgb] = (),
    *,
    analyse: Callable[[Rgb, ModelRunner], object] = analyse_image,
    seed: int = 0,
    drawn: int = DRAWN,
    progress: Callable[[str, float], None] | None = None,
) -> Samples:
    """Analyse drawn faces and `pictures` (uint8 [H, W, 3]) with the float32 models and note what each model got.

    `analyse` is what runs the models on a picture, those whose samples are wanted among them.
    The pictures with even places calibrate, the others judge. Equal arguments give equal samples. Raises what the
    runner raises.
    """
    report = progress or (lambda _words, _fraction: None)
    to_learn, to_judge = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    total = 2 * drawn + len(pictures)
    done = 0

    def tell(what: str) -> None:
        nonlocal done
        report(what, done / max(total, 1))
        done += 1

    def drawn_by(generator: np.random.Generator) -> Iterable[Rgb]:
        for _ in range(drawn):
            tell("drawing faces")
            yield draw_face(generator)

    def given(first: int) -> Iterable[Rgb]:
        for picture in pictures[first::2]:
            tell("looking at the pictures")
            yield picture

    learnt, shown = _inputs(runner, analyse, drawn_by(to_learn)), _inputs(runner, analyse, drawn_by(to_judge))
    return Samples(
        _joined(learnt, _inputs(runner, analyse, given(0))), _joined(shown, _inputs(runner, analyse, given(1))), shown
    )


class _Recorder:
    """A runner that notes the inputs that pass."""

    def __init__(self, runner: ModelRunner) -> None:
        self._runner = runner
        self._left: dict[str, int] = {}
        self.rows: dict[str, dict[str, list[NDArray[Any]]]] = {}

    def next_picture(self) -> None:
        self._left = {}

    def run(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        left = self._left.setdefault(model, _MOST_OF_ONE_PICTURE)
        rows = self.rows.setdefault(model, {name: [] for name in inputs})
        for name, array in inputs.items():
            rows[name].extend(array[:left])
        self._left[model] = max(0, left - len(next(iter(inputs.values()))))
        return self._runner.run(model, inputs)


def _inputs(
    runner: ModelRunner, analyse: Callable[[Rgb, ModelRunner], object], pictures: Iterable[Rgb]
) -> dict[str, Inputs]:
    recorder = _Recorder(runner)
    for picture in pictures:
        recorder.next_picture()
        analyse(picture, recorder)
        FaceMesh(recorder).locate(picture, _nobody(picture))
    return {model: {name: np.stack(found) for name, found in rows.items()} for model, rows in recorder.rows.items()}


def _nobody(picture: Rgb) -> Detection:
    """A detection in the picture's corner, where there is no face: the mesh has to say so in any precision."""
    side = min(picture.shape[:2]) / 6
    places = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.5, 0.8), (0.1, 0.5), (0.9, 0.5)], np.float32)
    return Detection(np.array([0, 0, side, side], np.float32), 0.0, places * np.float32(side))


def _joined(first: Mapping[str, Inputs], second: Mapping[str, Inputs]) -> dict[str, Inputs]:
    joined: dict[str, Inputs] = {}
    for model in {**first, **second}:
        parts = [part[model] for part in (first, second) if model in part]
        joined[model] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return joined
