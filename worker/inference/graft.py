"""Edits to operators' graphs at import: what would be slow or roundabout behind the engine goes inside the graph.

Decoding and non-maximum suppression of detectors would hold the interpreter lock and send 8400 boxes across for a
face or two; 68 heat maps are a megabyte of which their peaks are wanted. Only operators of opset 11 in a form that has
not changed since are used, so the edits fit every export from 11 on.

Each edit takes the model, changes it in place and leaves the batch axis as it is. It raises ValueError where the graph
is not of the kind that it is for.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, numpy_helper

from worker.inference.borders import move_inside, rename_uses
from worker.inference.contracts import ImageContract
from worker.inference.onnx_graph import ADDED, GraphWriter

_PREFIX: Final = f"{ADDED}graft_"
YUNET_INPUT: Final = 640
YUNET_STRIDES: Final = (8, 16, 32)
_POINTS: Final = 5
_LEAST_SQUARE: Final = 1e-12  # keeps a vector of nothing from being divided by nothing
_SCRFD_ANCHORS: Final = 2


def yoloface_faces(model: ModelProto, *, score: float, overlap: float, faces: int) -> None:
    """`output` [N, 20, A] (centre x, y, width, height, score, 5 x (x, y, score)) -> boxes, scores, points."""
    writer = GraphWriter(_PREFIX)
    raw = _outputs(model, "output")[0]
    rows = writer.apply("Transpose", raw, perm=[0, 2, 1])
    boxes = _columns(writer, rows, 0, 4)
    scores = writer.apply("Slice", raw, writer.integers(4), writer.integers(5), writer.integers(1))
    points = writer.apply("Reshape", _columns(writer, rows, 5, 20), writer.integers(0, -1, _POINTS, 3))
    points = writer.apply("Slice", points, writer.integers(0), writer.integers(2), writer.integers(3))
    points = writer.apply("Reshape", points, writer.integers(0, -1, 2 * _POINTS))
    _best_faces(writer, boxes, scores, points, score=score, overlap=overlap, faces=faces)
    writer.write_into(model)
    _set_outputs(model, {"boxes": (faces, 4), "scores": (faces,), "points": (faces, _POINTS, 2)})


def yunet_faces(model: ModelProto, *, score: float, overlap: float, faces: int) -> None:
    """cls, obj, bbox and kps of strides 8, 16 and 32 -> boxes, scores, points.

    One anchor per cell. A score is cls * obj; a centre is the cell's corner plus the offset, in strides; a size is the
    exponential of its value, in strides (Wu, Peng, Yu: YuNet, 2023; contract of opencv_zoo's 2023mar file).
    """
    writer = GraphWriter(_PREFIX)
    joined = {
        kind: writer.apply("Concat", *_outputs(model, *(f"{kind}_{stride}" for stride in YUNET_STRIDES)), axis=1)
        for kind in ("cls", "obj", "bbox", "kps")
    }
    cells, strides = yunet_grid()
    corners, stride = writer.constant(cells), writer.constant(strides)
    centres = writer.apply("Mul", writer.apply("Add", _columns(writer, joined["bbox"], 0, 2), corners), stride)
    sizes = writer.apply("Mul", writer.apply("Exp", _columns(writer, joined["bbox"], 2, 4)), stride)
    boxes = writer.apply("Concat", centres, sizes, axis=2)
    points = writer.apply("Add", joined["kps"], writer.constant(np.tile(cells, (1, _POINTS))))
    points = writer.apply("Mul", points, stride)
    scores = writer.apply("Transpose", writer.apply("Mul", joined["cls"], joined["obj"]), perm=[0, 2, 1])
    _best_faces(writer, boxes, scores, points, score=score, overlap=overlap, faces=faces)
    writer.write_into(model)
    _set_outputs(model, {"boxes": (faces, 4), "scores": (faces,), "points": (faces, _POINTS, 2)})


def scrfd_faces(model: ModelProto, *, score: float, overlap: float, faces: int) -> None:
    """score, bbox and kps of strides 8, 16 and 32, two anchors a cell -> boxes, scores, points.

    Both anchors lie on the cell's upper left corner. A box is told by the distances of its left, upper, right and lower
    side from there, a point by its offset, all in strides (Guo et al. 2021, arXiv:2105.04714; InsightFace's export).
    """
    writer = GraphWriter(_PREFIX)
    joined = {
        kind: writer.apply("Concat", *_outputs(model, *(f"{kind}_{stride}" for stride in YUNET_STRIDES)), axis=1)
        for kind in ("score", "bbox", "kps")
    }
    cells, strides = (np.repeat(values, _SCRFD_ANCHORS, axis=0) for values in yunet_grid())
    stride = writer.constant(strides)
    before, behind = _columns(writer, joined["bbox"], 0, 2), _columns(writer, joined["bbox"], 2, 4)
    middle = writer.apply("Mul", writer.apply("Sub", behind, before), writer.constant(0.5))
    centres = writer.apply("Mul", writer.apply("Add", middle, writer.constant(cells)), stride)
    sizes = writer.apply("Mul", writer.apply("Add", before, behind), stride)
    boxes = writer.apply("Concat", centres, sizes, axis=2)
    points = writer.apply("Add", joined["kps"], writer.constant(np.tile(cells, (1, _POINTS))))
    points = writer.apply("Mul", points, stride)
    scores = writer.apply("Transpose", joined["score"], perm=[0, 2, 1])
    _best_faces(writer, boxes, scores, points, score=score, overlap=overlap, faces=faces)
    writer.write_into(model)
    _set_outputs(model, {"boxes": (faces, 4), "scores": (faces,), "points": (faces, _POINTS, 2)})


def yunet_grid() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The cells of all strides as the outputs list them: float32 [A, 2] (column, row) and the stride [A, 1]."""
    cells, strides = [], []
    for stride in YUNET_STRIDES:
        side = YUNET_INPUT // stride
        rows, columns = np.divmod(np.arange(side * side), side)
        cells.append(np.stack([columns, rows], axis=1))
        strides.append(np.full((side * side, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def heatmap_peaks(model: ModelProto, *, heatmaps: str, peaks: str) -> None:
    """Replace the output `heatmaps` [N, K, H, W] by its largest value per map, `peaks` [N, K]."""
    writer = GraphWriter(_PREFIX)
    (found,) = _outputs(model, heatmaps)
    dims = next(value for value in model.graph.output if value.name == heatmaps).type.tensor_type.shape.dim
    writer.apply("Reshape", writer.apply("GlobalMaxPool", found), writer.integers(0, -1), output=peaks)
    writer.write_into(model)
    kept = [value for value in model.graph.output if value.name != heatmaps]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    _add_output(model, peaks, (dims[1].dim_value,))


def embedding_map(model: ModelProto, *, input: str) -> None:
    """Multiply what comes in at `input` [N, D] with the graph's last initialiser [D, D] before it is used."""
    own = [one for one in model.graph.initializer if not one.name.startswith(ADDED)]
    if not own:
        raise ValueError("it has no initialisers")
    matrix = numpy_helper.to_array(own[-1]).astype(np.float32)
    value = next((one for one in model.graph.input if one.name == input), None)
    if value is None:
        raise ValueError(f"it has no input {input}")
    size = value.type.tensor_type.shape.dim[1].dim_value
    if matrix.shape != (size, size):
        raise ValueError(f"its last initialiser is not the matrix of the embedding but of shape {list(matrix.shape)}")
    writer = GraphWriter(_PREFIX)
    mapped = f"{_PREFIX}{input}"
    rename_uses(model, input, mapped)
    writer.apply("MatMul", input, writer.constant(matrix), output=mapped)
    writer.write_into(model, first=True)


def class_map(model: ModelProto, *, scores: str, classes: str) -> None:
    """Replace the output `scores` [N, K, H, W] by the number of the class with the largest, `classes` [N, H, W]."""
    writer = GraphWriter(_PREFIX)
    (found,) = _outputs(model, scores)
    dims = next(value for value in model.graph.output if value.name == scores).type.tensor_type.shape.dim
    best = writer.apply("ArgMax", found, axis=1, keepdims=0)
    writer.apply("Cast", best, to=TensorProto.FLOAT, output=classes)
    writer.write_into(model)
    _set_outputs(model, {classes: (dims[2].dim_value, dims[3].dim_value)})


def class_peak(model: ModelProto, *, rows: str, first: int, peak: str) -> None:
    """Replace the output `rows` [N, R, A] by the largest value of the rows from `first` on, `peak` [N, 1]."""
    writer = GraphWriter(_PREFIX)
    (found,) = _outputs(model, rows)
    count = next(value for value in model.graph.output if value.name == rows).type.tensor_type.shape.dim[1].dim_value
    kept = writer.apply("Slice", found, writer.integers(first), writer.integers(count), writer.integers(1))
    flat = writer.apply("Reshape", kept, writer.integers(0, 1, -1))
    writer.apply("Reshape", writer.apply("GlobalMaxPool", flat), writer.integers(0, -1), output=peak)
    writer.write_into(model)
    _set_outputs(model, {peak: (1,)})


def unit_length(model: ModelProto, *, output: str) -> None:
    """Scale `output` [N, D] to length 1 per item."""
    (found,) = _outputs(model, output)
    dims = next(value for value in model.graph.output if value.name == output).type.tensor_type.shape.dim
    if len(dims) != 2:
        raise ValueError(f"its output {output} is no vector")
    inner = f"{_PREFIX}{output}"
    move_inside(model, found, inner)
    writer = GraphWriter(_PREFIX)
    # A product with ones and not ReduceSum, whose form changed after opset 11.
    squares = writer.apply("Mul", inner, inner)
    total = writer.apply("MatMul", squares, writer.constant(np.ones((dims[1].dim_value, 1))))
    length = writer.apply("Sqrt", writer.apply("Add", total, writer.constant(_LEAST_SQUARE)))
    writer.apply("Div", inner, length, output=output)
    writer.write_into(model)


def picture_from_bytes(model: ModelProto, image: ImageContract) -> None:
    """Take the picture `image.input` as uint8; its mean and std are applied by the graph's first nodes.

    The numbers are those that float32 arithmetic outside gave: (1 / (255 std)) x - mean / std, in that order.
    """
    value = next((one for one in model.graph.input if one.name == image.input), None)
    if value is None or value.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise ValueError(f"it has no float32 input {image.input}")
    writer = GraphWriter(f"{_PREFIX}bytes_")
    scale, shift = (writer.constant(numbers) for numbers in image.scaling())
    inside = f"{_PREFIX}{image.input}"
    rename_uses(model, image.input, inside)
    value.type.tensor_type.elem_type = TensorProto.UINT8
    scaled = writer.apply("Mul", writer.apply("Cast", image.input, to=TensorProto.FLOAT), scale)
    writer.apply("Add", scaled, shift, output=inside)
    writer.write_into(model, first=True)


def picture_to_bytes(model: ModelProto, image: ImageContract) -> None:
    """Give the picture `image.output` as uint8: brought to 0..255, cut off beyond, rounded to even halves."""
    value = next((one for one in model.graph.output if one.name == image.output), None)
    if value is None or value.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise ValueError(f"it has no float32 output {image.output}")
    inside = f"{_PREFIX}{image.output}"
    move_inside(model, image.output, inside)
    writer = GraphWriter(f"{_PREFIX}shown_")
    scale, shift = image.showing()
    scaled = writer.apply("Mul", inside, writer.constant(scale))
    shown = writer.apply("Add", scaled, writer.constant(shift)) if shift else scaled
    cut = writer.apply("Clip", shown, writer.constant(0.0), writer.constant(255.0))
    writer.apply("Cast", writer.apply("Round", cut), to=TensorProto.UINT8, output=image.output)
    value.type.tensor_type.elem_type = TensorProto.UINT8
    writer.write_into(model)


EDITS: Final[Mapping[str, Callable[..., None]]] = {
    "yoloface_faces": yoloface_faces,
    "yunet_faces": yunet_faces,
    "scrfd_faces": scrfd_faces,
    "heatmap_peaks": heatmap_peaks,
    "embedding_map": embedding_map,
    "class_map": class_map,
    "class_peak": class_peak,
    "unit_length": unit_length,
}


def _best_faces(
    writer: GraphWriter, boxes: str, scores: str, points: str, *, score: float, overlap: float, faces: int
) -> None:
    """Suppress and pick: boxes [N, A, 4] by centre, scores [N, 1, A], points [N, A, 10] -> the three outputs.

    NonMaxSuppression gives (item, class, box) of what it keeps, as many rows as there are. They are turned into a mask
    over all boxes, so that TopK can give every item of a batch the same number, zeros at the end.
    """
    chosen = writer.apply(
        "NonMaxSuppression",
        *(boxes, scores, writer.integers(faces), writer.constant([overlap]), writer.constant([score])),
        center_point_box=1,
    )
    places = writer.apply("Gather", chosen, writer.integers(0, 2), axis=1)
    flat = writer.apply("Reshape", scores, writer.integers(0, -1))
    # Comparing a value with itself gives zeros of the right shape whatever the value is.
    nothing = writer.apply("Cast", writer.apply("Less", flat, flat), to=TensorProto.FLOAT)
    column = writer.apply("Cast", writer.apply("Gather", chosen, writer.integers(1), axis=1), to=TensorProto.FLOAT)
    ones = writer.apply("Add", writer.apply("Reshape", column, writer.integers(-1)), writer.constant(1.0))
    mask = writer.apply("ScatterND", nothing, places, ones)  # the class is always 0, so `ones` are ones
    kept = writer.apply("Where", writer.apply("Greater", mask, writer.constant(0.5)), flat, nothing)
    best, indices = writer.top(kept, faces)
    columns = writer.apply("Concat", boxes, points, axis=2)
    width = 4 + 2 * _POINTS
    indices = writer.apply("Reshape", indices, writer.integers(0, -1, 1))
    indices = writer.apply("Tile", indices, writer.integers(1, 1, width))
    rows = writer.apply("GatherElements", columns, indices, axis=1)
    some = writer.apply("Greater", writer.apply("Reshape", best, writer.integers(0, -1, 1)), writer.constant(0.0))
    rows = writer.apply("Where", some, rows, writer.constant(0.0))
    sizes = _columns(writer, rows, 2, 4)
    half = writer.apply("Mul", sizes, writer.constant(0.5))
    corners = writer.apply("Sub", _columns(writer, rows, 0, 2), half)
    writer.apply("Concat", corners, sizes, axis=2, output="boxes")
    writer.apply("Identity", best, output="scores")
    flat_points = _columns(writer, rows, 4, width)
    writer.apply("Reshape", flat_points, writer.integers(0, -1, _POINTS, 2), output="points")


def _columns(writer: GraphWriter, value: str, start: int, end: int) -> str:
    """value[:, :, start:end]"""
    return writer.apply("Slice", value, writer.integers(start), writer.integers(end), writer.integers(2))


def _outputs(model: ModelProto, *names: str) -> list[str]:
    """The outputs of these names, as they may be used inside the graph. ValueError if one is missing."""
    there = {value.name for value in model.graph.output}
    if missing := [name for name in names if name not in there]:
        raise ValueError(f"it has no output {', '.join(missing)}")
    return list(names)


def _set_outputs(model: ModelProto, outputs: Mapping[str, tuple[int, ...]]) -> None:
    del model.graph.output[:]
    for name, shape in outputs.items():
        _add_output(model, name, shape)


def _add_output(model: ModelProto, name: str, shape: tuple[int, ...]) -> None:
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    first: int | str = batch.dim_value or batch.dim_param
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [first, *shape]))
