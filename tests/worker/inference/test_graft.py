"""Decoding and suppression inside the graph give what a plain reading of the raw outputs gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.worker import tensors
from tests.worker.neural_graphs import Graph
from worker.faces.neural.crops import TensorWriter
from worker.inference import graft, halving
from worker.inference.borders import BATCH
from worker.inference.contracts import ImageContract

SCORE, OVERLAP, FACES = 0.5, 0.4, 128
SHARED = next(
    (one / "shared" for one in Path(__file__).parents if (one / "shared" / "models").is_dir()), Path("shared")
)
REAL = sorted(SHARED.glob("models/yunet_n_*.onnx"))


def passing(shapes: dict[str, tuple[int, ...]], opset: int) -> onnx.ModelProto:
    """A graph that gives its inputs, so that a test chooses what a detector would have said."""
    inputs = [helper.make_tensor_value_info(f"raw_{n}", TensorProto.FLOAT, [BATCH, *s]) for n, s in shapes.items()]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [BATCH, *s]) for n, s in shapes.items()]
    nodes = [helper.make_node("Identity", [f"raw_{name}"], [name]) for name in shapes]
    graph = helper.make_graph(nodes, "raw", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(model: onnx.ModelProto, inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in model.graph.output]
    return dict(zip(names, session.run(names, inputs), strict=True))


def suppress(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> list[int]:
    """Plain greedy suppression over boxes [A, 4] by centre: the kept rows, best first."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    area = boxes[:, 2] * boxes[:, 3]
    kept: list[int] = []
    for one in np.argsort(-scores, kind="stable"):
        if scores[one] <= SCORE or len(kept) == FACES:
            break
        shared = np.clip(np.minimum(high[one], high[kept]) - np.maximum(low[one], low[kept]), 0, None).prod(-1)
        if not (shared / (area[one] + area[kept] - shared) > OVERLAP).any():
            kept.append(int(one))
    return kept


def expected(boxes, scores, points) -> dict[str, NDArray[np.float32]]:
    kept = suppress(boxes, scores)
    corner = np.concatenate([boxes[kept, :2] - boxes[kept, 2:] / 2, boxes[kept, 2:]], axis=1)
    result = {
        "boxes": np.zeros((FACES, 4), np.float32),
        "scores": np.zeros(FACES, np.float32),
        "points": np.zeros((FACES, 5, 2), np.float32),
    }
    result["boxes"][: len(kept)], result["scores"][: len(kept)] = corner, scores[kept]
    result["points"][: len(kept)] = points[kept].reshape(-1, 5, 2)
    return result


def compare(found, wanted_items, tolerance: float) -> None:
    for index, wanted in enumerate(wanted_items):
        for name, values in wanted.items():
            assert found[name][index].shape == values.shape
            np.testing.assert_allclose(found[name][index], values, atol=tolerance, rtol=1e-5, err_msg=name)


def decode_yunet(raw: dict[str, NDArray[np.float32]], item: int):
    boxes, scores, points = [], [], []
    for stride in (8, 16, 32):
        cells = 640 // stride
        for place in range(cells * cells):
            row, column = divmod(place, cells)
            corner = np.array([column, row], np.float32)
            score = np.float32(raw[f"cls_{stride}"][item, place, 0] * raw[f"obj_{stride}"][item, place, 0])
            scores.append(score)
            if score <= SCORE:  # nothing else of it is ever looked at
                boxes.append(np.zeros(4, np.float32))
                points.append(np.zeros(10, np.float32))
                continue
            box = raw[f"bbox_{stride}"][item, place]
            boxes.append(np.concatenate([(corner + box[:2]) * stride, np.exp(box[2:]) * stride]).astype(np.float32))
            points.append(((raw[f"kps_{stride}"][item, place].reshape(5, 2) + corner) * stride).ravel())
    return np.stack(boxes), np.array(scores, np.float32), np.stack(points).astype(np.float32)


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("seed", range(3))
def test_yoloface_decodes_in_the_graph_as_outside(opset, seed):
    rng = np.random.default_rng(seed)
    raw = np.zeros((3, 20, 8400), np.float32)
    raw[:, 0:2] = rng.uniform(0, 640, (3, 2, 8400))
    raw[:, 2:4] = rng.uniform(20, 200, (3, 2, 8400))
    raw[:, 4] = rng.random((3, 8400)) ** 6  # a few hundred of each item are sure enough, many of them overlap
    raw[:, 5:] = rng.uniform(0, 640, (3, 15, 8400))
    raw[2, 4] *= 0.4  # no face at all
    model = passing({"output": (20, 8400)}, opset)
    graft.yoloface_faces(model, score=SCORE, overlap=OVERLAP, faces=FACES)
    found = run(model, {"raw_output": raw})
    points = raw[:, 5:].reshape(3, 5, 3, 8400)[:, :, :2].reshape(3, 10, 8400)
    wanted = [expected(raw[k, :4].T, raw[k, 4], points[k].T) for k in range(3)]
    assert 5 < np.count_nonzero(wanted[0]["scores"]) <= FACES
    assert np.count_nonzero(found["scores"][2]) == 0
    compare(found, wanted, 1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_yunet_decodes_in_the_graph_as_outside(seed):
    rng = np.random.default_rng(seed)
    shapes = {
        f"{kind}_{stride}": ((640 // stride) ** 2, size)
        for kind, size in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
        for stride in (8, 16, 32)
    }
    raw = {name: rng.random((2, *shape)).astype(np.float32) for name, shape in shapes.items()}
    for name, said in raw.items():
        if name.startswith("cls"):
            said[:] = said**4
        if name.startswith("bbox"):
            said[..., 2:] *= 2
    model = passing(shapes, 11)
    graft.yunet_faces(model, score=SCORE, overlap=OVERLAP, faces=FACES)
    found = run(model, {f"raw_{name}": values for name, values in raw.items()})
    compare(found, [expected(*decode_yunet(raw, item)) for item in range(2)], 2e-3)


@pytest.mark.skipif(not REAL, reason="the real YuNet files are not here")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_the_real_yunet_finds_in_the_graph_what_its_raw_outputs_say(path, astronaut, grace):
    import cv2

    pictures = []
    for rgb in (astronaut, grace):
        scale = 640 / max(rgb.shape[:2])
        small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:640, :640]
        canvas = np.zeros((640, 640, 3), np.float32)
        canvas[: small.shape[0], : small.shape[1]] = small[..., ::-1]
        pictures.append(canvas.transpose(2, 0, 1)[None])
    plain, grafted = onnx.load(path), onnx.load(path)
    graft.yunet_faces(grafted, score=SCORE, overlap=OVERLAP, faces=FACES)
    for picture in pictures:
        raw = run(plain, {"input": picture})
        found = run(grafted, {"input": picture})
        assert np.count_nonzero(found["scores"]) >= 1
        compare(found, [expected(*decode_yunet(raw, 0))], 2e-3)


def test_more_faces_than_fit_leave_the_surest():
    raw = np.zeros((1, 20, 8400), np.float32)
    grid = np.arange(200)
    raw[0, 0, :200], raw[0, 1, :200] = grid % 20 * 30, grid // 20 * 30
    raw[0, 2:4, :200] = 20
    raw[0, 4, :200] = np.linspace(0.6, 0.9, 200)
    model = passing({"output": (20, 8400)}, 11)
    graft.yoloface_faces(model, score=SCORE, overlap=OVERLAP, faces=FACES)
    scores = run(model, {"raw_output": raw})["scores"][0]
    np.testing.assert_allclose(scores, np.linspace(0.6, 0.9, 200)[:-129:-1], rtol=1e-6)


def test_peaks_are_the_largest_values_of_the_maps():
    maps = np.random.default_rng(5).standard_normal((2, 68, 64, 64)).astype(np.float32)
    model = passing({"landmarks": (68, 3), "heatmaps": (68, 64, 64)}, 11)
    graft.heatmap_peaks(model, heatmaps="heatmaps", peaks="peaks")
    found = run(model, {"raw_landmarks": np.ones((2, 68, 3), np.float32), "raw_heatmaps": maps})
    assert set(found) == {"landmarks", "peaks"}
    np.testing.assert_array_equal(found["peaks"], maps.max(axis=(2, 3)))


def test_the_embedding_is_mapped_by_the_last_initialiser():
    rng = np.random.default_rng(6)
    matrix = rng.standard_normal((512, 512)).astype(np.float32)
    graph = Graph(batch=BATCH)
    graph.output(graph.op("Add", graph.input("source", 512), graph.weight(1.0)), "output", 512)
    graph.weight(matrix)
    model = graph.model()
    graft.embedding_map(model, input="source")
    vectors = rng.standard_normal((3, 512)).astype(np.float32)
    found = run(model, {"source": vectors})["output"]
    np.testing.assert_allclose(found, vectors @ matrix + 1, atol=1e-3)


def test_a_graph_without_the_matrix_is_refused():
    graph = Graph(batch=BATCH)
    graph.output(graph.op("Add", graph.input("source", 512), graph.weight(1.0)), "output", 512)
    model = graph.model()
    model.graph.initializer.append(numpy_helper.from_array(np.ones((3, 3), np.float32), "small"))
    with pytest.raises(ValueError, match="matrix of the embedding"):
        graft.embedding_map(model, input="source")


def test_a_detector_without_its_outputs_is_refused():
    with pytest.raises(ValueError, match="no output cls_8"):
        graft.yunet_faces(passing({"output": (20, 8400)}, 11), score=SCORE, overlap=OVERLAP, faces=FACES)


def test_a_vector_is_scaled_to_length_one_whoever_else_reads_it():
    graph = Graph(batch=BATCH)
    seen = graph.op("Mul", graph.input("input", 8), graph.weight(3.0))
    graph.output(seen, "output", 8)
    model = graph.model()
    model.graph.node.append(helper.make_node("Neg", ["output"], ["negative"]))
    model.graph.output.append(helper.make_tensor_value_info("negative", TensorProto.FLOAT, [BATCH, 8]))
    graft.unit_length(model, output="output")
    vectors = np.random.default_rng(7).standard_normal((3, 8)).astype(np.float32)
    vectors[2] = 0
    found = run(model, {"input": vectors})
    np.testing.assert_allclose(np.linalg.norm(found["output"], axis=1), [1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(
        found["output"][:2], vectors[:2] / np.linalg.norm(vectors[:2], axis=1)[:, None], atol=1e-5
    )
    np.testing.assert_allclose(found["negative"], -3 * vectors, atol=1e-5)


def test_a_picture_is_not_scaled_to_length_one():
    with pytest.raises(ValueError, match="no vector"):
        graft.unit_length(passing({"output": (3, 4, 4)}, 11), output="output")


def decode_scrfd(raw: dict[str, NDArray[np.float32]], item: int):
    boxes, scores, points = [], [], []
    for stride in (8, 16, 32):
        cells = 640 // stride
        for place in range(2 * cells * cells):
            row, column = divmod(place // 2, cells)
            corner = np.array([column, row], np.float32) * stride
            scores.append(raw[f"score_{stride}"][item, place, 0])
            left, upper, right, lower = raw[f"bbox_{stride}"][item, place] * stride
            low, high = corner - (left, upper), corner + (right, lower)
            boxes.append(np.concatenate([(low + high) / 2, high - low]))
            points.append((raw[f"kps_{stride}"][item, place].reshape(5, 2) * stride + corner).ravel())
    return np.stack(boxes).astype(np.float32), np.array(scores, np.float32), np.stack(points).astype(np.float32)


@pytest.mark.parametrize("opset", [11, 18])
def test_scrfd_decodes_in_the_graph_as_outside(opset):
    rng = np.random.default_rng(opset)
    shapes = {
        f"{kind}_{stride}": (2 * (640 // stride) ** 2, size)
        for kind, size in (("score", 1), ("bbox", 4), ("kps", 10))
        for stride in (8, 16, 32)
    }
    raw = {name: rng.random((2, *shape)).astype(np.float32) for name, shape in shapes.items()}
    for stride in (8, 16, 32):
        raw[f"bbox_{stride}"] *= 4
        raw[f"score_{stride}"] **= 8
    raw["score_8"][1] = raw["score_16"][1] = raw["score_32"][1] = 0.4  # no face in the second picture
    model = passing(shapes, opset)
    graft.scrfd_faces(model, score=SCORE, overlap=OVERLAP, faces=FACES)
    found = run(model, {f"raw_{name}": values for name, values in raw.items()})
    wanted = [expected(*decode_scrfd(raw, item)) for item in range(2)]
    assert np.count_nonzero(wanted[0]["scores"]) > 50
    assert not found["scores"][1].any()
    compare(found, wanted, 2e-3)


# -- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("colours", ["RGB", "BGR"])
def test_a_graph_that_takes_bytes_sees_the_very_numbers_that_were_sent_as_floats(layout, colours, opset):
    image = ImageContract(
        "raw_seen", 24, "letterbox", layout, colours, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    shape = (3, 24, 24) if layout == "NCHW" else (24, 24, 3)
    model = passing({"seen": shape}, opset)
    graft.picture_from_bytes(model, image)
    picture = np.random.default_rng(5).integers(0, 256, (24, 24, 3), np.uint8)
    floats = TensorWriter(image).write(picture)
    as_bytes = TensorWriter(replace(image, as_bytes=True)).write(picture)
    assert as_bytes.dtype == np.uint8
    np.testing.assert_array_equal(run(model, {"raw_seen": as_bytes})["seen"], floats)
    halved = halving.halve(model)  # what a GPU may run: the border stays
    found = run(halved, {"raw_seen": as_bytes})["seen"]
    np.testing.assert_allclose(found, floats, atol=4e-3)


def test_a_graph_whose_picture_is_no_float_is_not_edited():
    model = passing({"seen": (3, 24, 24)}, 18)
    with pytest.raises(ValueError, match="no float32 input"):
        graft.picture_from_bytes(model, ImageContract("other", 24, "letterbox"))


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize("values", [(0.0, 1.0), (-1.0, 1.0)])
def test_a_graph_gives_its_picture_as_the_bytes_that_are_shown(values, opset):
    image = ImageContract("raw_seen", 24, "letterbox", output="seen", output_range=values, as_bytes=True)
    given = np.random.default_rng(6).uniform(-2, 2, (2, 3, 24, 24)).astype(np.float32)
    given[0, 0, 0] = np.linspace(*values, 24)
    model = passing({"seen": (3, 24, 24)}, opset)
    graft.picture_to_bytes(model, image)
    found = run(model, {"raw_seen": given})["seen"]
    assert found.dtype == np.uint8
    apart = found.astype(int) - tensors.shown(image, given)
    assert np.abs(apart).max() <= 1  # halves
    assert np.count_nonzero(apart) <= 3
    assert found.min() == 0
    assert found.max() == 255  # beyond the range is cut off and does not wrap round
    half = run(halving.halve(model), {"raw_seen": given})["seen"]  # what a GPU may run: the border stays
    assert half.dtype == np.uint8
    assert np.abs(half.astype(int) - found).max() <= 1


def test_a_graph_that_gives_no_such_picture_is_not_edited():
    model = passing({"seen": (3, 24, 24)}, 18)
    with pytest.raises(ValueError, match="no float32 output"):
        graft.picture_to_bytes(model, ImageContract("raw_seen", 24, "letterbox", output="other"))
