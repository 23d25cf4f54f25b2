"""Graphs in float16: what is kept stays float32, the border is float32, and the CPU shows what a GPU would lose."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tests.worker.inference import lowering
from worker.inference import accuracy, halving, precision, registry
from worker.inference.sessions import LocalRunner, read_verified


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    found = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output, *graph.value_info)}
    return found | {weight.name: weight.data_type for weight in graph.initializer}


def run(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"image": image})[0]


IMAGE = np.random.default_rng(3).uniform(-1, 1, (2, *lowering.SHAPE)).astype(np.float32)


@pytest.mark.parametrize("name", registry.cards())
def test_a_halved_model_computes_in_float16_behind_a_float32_border(models_dir, name):
    model = onnx.load_from_string(read_verified(registry.model_path(models_dir, name), registry.card(name)))
    halved = halving.halve(model)
    types = types_of(halved)
    border = [value.name for value in (*halved.graph.input, *halved.graph.output)]
    assert {types[name] for name in border} == {TensorProto.FLOAT}
    weights = {w.data_type for w in halved.graph.initializer if len(w.dims) == 4}
    assert weights == {TensorProto.FLOAT16}
    convolved = {types[node.output[0]] for node in halved.graph.node if node.op_type == "Conv"}
    assert convolved == {TensorProto.FLOAT16}
    assert len(halved.SerializeToString()) < 0.55 * len(model.SerializeToString())


def test_kept_nodes_hold_float32_weights_and_speak_float32_to_each_other():
    model = lowering.build()
    halved = halving.halve(model, {"loud", "calm", "felt"})
    types = types_of(halved)
    nodes = {output: node for node in halved.graph.node for output in node.output}
    kept = [node for node in halved.graph.node if node.op_type == "Mul"]
    assert all(types[name] == TensorProto.FLOAT for node in kept for name in (*node.input, *node.output))
    assert nodes[kept[1].input[0]] == kept[0]  # no cast between the two
    assert types[nodes["felt"].input[1]] == TensorProto.FLOAT
    assert types["lit"] == TensorProto.FLOAT16
    second = next(node for node in halved.graph.node if node.op_type == "Conv" and "felt" not in node.output)
    assert types[second.input[1]] == TensorProto.FLOAT16


def test_a_weight_shared_with_a_kept_node_is_rounded_for_the_other_one_only():
    writer = lowering.GraphWriter()
    factor = writer.constant([1 / 3])
    value = writer.apply("Mul", "image", factor, output="kept")
    writer.apply("Mul", value, factor, output="picture")
    model = writer.finish("shared", {"image": (4,)}, {"picture": (4,)})
    halved = halving.halve(model, {"kept"})
    stored = {w.data_type: onnx.numpy_helper.to_array(w).item() for w in halved.graph.initializer}
    assert stored == {TensorProto.FLOAT: np.float32(1 / 3), TensorProto.FLOAT16: np.float16(1 / 3)}


def test_keeping_everything_changes_no_bit_of_the_result():
    model = lowering.build()
    halved = halving.halve(model, {halving.node_name(node) for node in model.graph.node})
    np.testing.assert_array_equal(run(halved, IMAGE), run(model, IMAGE))


def test_the_cpu_hides_an_overflow_that_the_widened_graph_shows():
    model = lowering.build(gain=1e6)
    halved = halving.halve(model)
    assert np.isfinite(run(halved, IMAGE)).all()  # the reason why `widened` exists; if this fails, it may go
    assert not np.isfinite(run(halving.widened(halved), IMAGE)).all()
    assert np.isfinite(run(halving.widened(halving.halve(model, {"loud", "calm"})), IMAGE)).all()


def test_the_widened_graph_rounds_each_value_as_float16_does():
    writer = lowering.GraphWriter()
    value = writer.apply("Mul", "image", writer.constant([1 / 3]))
    value = writer.apply("Add", value, writer.constant([1000.0]))
    writer.apply("Sub", value, writer.constant([1000.0]), output="picture")
    model = writer.finish("rounding", {"image": (64,)}, {"picture": (64,)})
    image = np.random.default_rng(5).uniform(-8, 8, (1, 64)).astype(np.float32)
    half = image.astype(np.float16) * np.float16(1 / 3)
    expected = (half + np.float16(1000)) - np.float16(1000)
    np.testing.assert_array_equal(run(halving.widened(halving.halve(model)), image), expected.astype(np.float32))


def test_the_same_graph_gives_the_same_bytes(models_dir):
    data = read_verified(registry.model_path(models_dir, "blazeface_short"), registry.card("blazeface_short"))
    first, second = (halving.halve(onnx.load_from_string(data)).SerializeToString() for _ in range(2))
    assert first == second


def test_a_graph_that_is_no_longer_float32_is_refused():
    with pytest.raises(halving.UnsupportedGraphError, match="FLOAT16"):
        halving.halve(halving.halve(lowering.build()))


def test_a_graph_with_branches_is_refused():
    model = lowering.build()
    branch = helper.make_graph(
        [helper.make_node("Identity", ["calm"], ["chosen"])],
        "branch",
        [],
        [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None)],
    )
    model.graph.node.append(helper.make_node("If", ["image"], ["either"], then_branch=branch, else_branch=branch))
    with pytest.raises(halving.UnsupportedGraphError, match="branches"):
        halving.halve(model)


def test_a_resize_keeps_its_scales_in_float32():
    writer = lowering.GraphWriter()
    scales = writer.constant([1, 1, 2, 2])
    writer.apply("Resize", "image", "", scales, output="picture", mode="nearest")
    model = writer.finish("larger", {"image": (3, 4, 4)}, {"picture": (3, 8, 8)})
    halved = halving.halve(model)
    assert [weight.data_type for weight in halved.graph.initializer] == [TensorProto.FLOAT]
    image = np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)
    np.testing.assert_array_equal(run(halved, image), run(model, image))


def test_suppression_inside_a_graph_stays_in_float32_and_keeps_the_same_boxes():
    writer = lowering.GraphWriter()
    scores = writer.apply("Transpose", writer.apply("Slice", "rows", *map(writer.integers, (4, 5, 2))), perm=(0, 2, 1))
    boxes = writer.apply("Slice", "rows", *map(writer.integers, (0, 4, 2)))
    limits = (writer.constant([0.5]), writer.constant([0.4]))
    chosen = writer.apply("NonMaxSuppression", boxes, scores, writer.integers(3), *limits, center_point_box=1)
    model = writer.finish("faces", {"rows": (6, 5)}, {})
    model.graph.output.append(helper.make_tensor_value_info(chosen, TensorProto.INT64, ["found", 3]))
    rows = np.array([[[k * 40, 9, 20, 20, 0.3 + 0.1 * k] for k in range(6)]], np.float32)
    results = []
    for graph in (model, halving.halve(model), halving.widened(halving.halve(model))):
        session = onnxruntime.InferenceSession(graph.SerializeToString())
        results.append(session.run(None, {"rows": rows})[0].tolist())
    assert results[0] == results[1] == results[2] == [[0, 0, 5], [0, 0, 4], [0, 0, 3]]


@pytest.mark.parametrize("name", registry.cards())
def test_every_built_in_model_stays_finite_in_float16_on_noise(models_dir, noise, name):
    card = registry.card(name)
    data = read_verified(registry.model_path(models_dir, card.name), card)
    runner = LocalRunner(models_dir)
    wide = halving.widened(halving.halve(onnx.load_from_string(data)))
    metrics = precision.try_out(
        runner.open_trial(card, data),
        runner.open_trial(card, wide.SerializeToString()),
        card,
        precision.policies()[name].reader,
        noise(name, batch=2),
    )
    assert metrics[accuracy.NOT_FINITE] == 0
