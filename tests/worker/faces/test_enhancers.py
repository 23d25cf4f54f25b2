"""Every enhancer is given the face as its contract says, and what it leaves as it is stays as it is in the frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.worker import neural_graphs as graphs
from tests.worker import tensors
from tests.worker.faces.test_neural import FIVE, copy_of, gradient
from worker.faces.neural.enhancers import Enhancer
from worker.faces.neural.paste import Paster
from worker.inference import registry
from worker.inference.importing import import_model
from worker.inference.registry import ModelSet
from worker.inference.sessions import LocalRunner

ENHANCERS = {name: one for name, one in registry.operator_models().items() if one.card.role == "face_enhancer"}


@pytest.mark.parametrize("blend", [0.3, 1.0])
@pytest.mark.parametrize("name", ENHANCERS)
def test_an_enhancer_that_returns_its_input_leaves_the_picture_as_it_was(name, blend, tmp_path, models_dir):
    known = ENHANCERS[name]
    path = tmp_path / f"{name}.onnx"
    onnx.save(graphs.enhancer(known.card.contract.image.side), path)
    card, made = import_model(known, path, tmp_path / "cache")
    runner = LocalRunner(models_dir, models=ModelSet({name: card}, {name: made}))
    enhancer = Enhancer(card)
    planes = gradient()
    before = copy_of(planes)
    inputs, matrix = enhancer.prepare(planes, FIVE)
    assert inputs["input"].shape == (1, 3, card.contract.image.side, card.contract.image.side)
    seen = tensors.seen(card.contract.image, inputs["input"])
    assert -1 <= seen.min() < seen.max() <= 1
    square = enhancer.decode(runner.run(name, inputs))
    assert Paster(card.contract.image.side, opacity=blend).paste(planes, matrix, square) is not None
    assert np.abs(planes.buffer.astype(int) - before.buffer).max() <= 1


def test_codeformer_keeps_to_what_it_sees_as_much_as_its_authors_demonstrate(tmp_path: Path, models_dir: Path):
    """Its stand-in multiplies its picture with the weight, so that what was put in its place can be read."""
    known = ENHANCERS["codeformer"]
    path = tmp_path / "codeformer.onnx"
    onnx.save(graphs.graph_of("codeformer"), path)
    card, made = import_model(known, path, tmp_path / "cache")
    runner = LocalRunner(models_dir, models=ModelSet({"codeformer": card}, {"codeformer": made}))
    picture = np.random.default_rng(0).integers(0, 256, (1, 3, 512, 512), np.uint8)
    assert list(card.contract.inputs) == ["input"]
    found = runner.run("codeformer", {"input": picture})["output"]
    image = card.contract.image
    np.testing.assert_array_equal(found, tensors.shown(image, tensors.seen(image, picture) * 0.5))
