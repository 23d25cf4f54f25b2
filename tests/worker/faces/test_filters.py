"""Content filters are read as their publisher does, and two of three decide."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.worker import neural_graphs as graphs
from tests.worker import tensors
from worker.faces.neural import filters
from worker.faces.neural.filters import ContentFilter, vote
from worker.inference import registry
from worker.inference.importing import import_folder
from worker.inference.sessions import LocalRunner
from worker.media.planes import Planes

NAMES = ("nsfw_1", "nsfw_2", "nsfw_3")


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> LocalRunner:
    folder = tmp_path_factory.mktemp("operator")
    for name in NAMES:
        onnx.save(graphs.graph_of(name), folder / f"{name}.onnx")
    return LocalRunner(models_dir, models=import_folder(folder, folder / "cache"))


@pytest.mark.parametrize(("name", "side"), [("nsfw_1", 640), ("nsfw_2", 384), ("nsfw_3", 448)])
@pytest.mark.parametrize("planar", [True, False])
def test_a_filter_sees_the_whole_picture_in_the_middle_of_its_square(name, side, planar):
    rgb = np.empty((360, 640, 3), np.uint8)
    rgb[:] = (240, 120, 60)
    frame = rgb
    if planar:
        frame = Planes((640, 360))
        frame.paste(frame.whole, rgb)
    card = registry.operator_models()[name].card
    tensor = tensors.seen(card.contract.image, ContentFilter(card).prepare(frame)["input"])
    assert tensor.shape == (1, 3, side, side)
    mean, std = np.array(card.contract.image.mean), np.array(card.contract.image.std)
    edge = (side - round(360 * side / 640)) // 2
    for row, colour in ((side // 2, (240, 120, 60)), (edge + 1, (240, 120, 60)), (0, 0), (side - 1, 0), (edge - 2, 0)):
        wanted = (np.array(colour) / 255 - mean) / std
        np.testing.assert_allclose(tensor[0, :, row, 3], np.broadcast_to(wanted, 3), atol=0.03)


def test_the_ranges_are_the_published_ones():
    images = [registry.operator_models()[name].card.contract.image for name in NAMES]
    assert [image.colours for image in images] == ["RGB"] * 3
    assert images[0].std == (1.0, 1.0, 1.0)
    assert images[1].mean == images[1].std == (0.5, 0.5, 0.5)
    assert images[2].mean == (0.48145466, 0.4578275, 0.40821073)  # CLIP's


@pytest.mark.parametrize("name", NAMES)
def test_a_light_picture_is_a_yes_to_the_stand_ins_and_a_dark_one_a_no(runner, name):
    reader = ContentFilter(runner.models.card(name))
    scores = []
    for level in (255, 0):
        rgb = np.full((64, 64, 3), level, np.uint8)
        scores.append(reader.decode(runner.run(name, reader.prepare(rgb))))
    assert [reader.says_yes(score) for score in scores] == [True, False]
    image = reader.card.contract.image
    white = np.mean((1 - np.array(image.mean)) / np.array(image.std))
    assert scores[0] == pytest.approx({"nsfw_1": 1, "nsfw_2": 2, "nsfw_3": 8}[name] * white, rel=1e-3)


def test_each_output_is_read_as_published():
    assert filters.peak(np.array([0.7], np.float32)) == pytest.approx(0.7)
    assert filters.two(np.array([1.5, 0.25], np.float32)) == 1.25
    assert filters.four(np.array([1, 2, 30, 400], np.float32)) == 427
    thresholds = {name: ContentFilter(registry.operator_models()[name].card) for name in NAMES}
    for name, at in (("nsfw_1", 0.2), ("nsfw_2", 0.25), ("nsfw_3", 10.5)):
        assert not thresholds[name].says_yes(at)
        assert thresholds[name].says_yes(at + 1e-6)


def test_the_surest_class_anywhere_counts_and_a_box_never_does():
    """The peak is taken inside the graph; compared with a plain reading of the raw rows."""
    import onnxruntime

    from worker.inference import graft
    from worker.inference.borders import BATCH

    rows = np.random.default_rng(0).random((2, 9, 8400)).astype(np.float32)
    rows[:, :4] = 640
    graph = graphs.Graph(batch=BATCH)
    given = graph.input("rows", 9, 8400)
    graph.output(given, "output", 9, 8400)
    model = graph.model()
    graft.class_peak(model, rows="output", first=4, peak="peak")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["peak"], {"rows": rows})
    np.testing.assert_array_equal(found, rows[:, 4:].max(axis=(1, 2))[:, None])


def test_what_is_no_number_is_no_answer():
    reader = ContentFilter(registry.operator_models()["nsfw_2"].card)
    with pytest.raises(ValueError, match="no number"):
        reader.decode({"output": np.array([[np.nan, 0]], np.float32)})


def test_two_of_three_decide_and_what_they_cannot_decide_stays_open():
    for answers in product((True, False), repeat=3):
        assert vote(answers) is (sum(answers) >= 2)
    assert vote([True, True, None]) is True
    assert vote([False, None, False]) is False
    for open_ones in ([True, False, None], [True, None, None], [False], []):
        assert vote(open_ones) is None
