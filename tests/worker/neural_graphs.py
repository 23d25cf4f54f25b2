"""Tiny ONNX graphs with the exact tensors of the published exports, for tests and goldens. No weights of anybody's.

Detectors and landmarks answer with one fixed face whatever they see, the embedding is a projection of a few mean
colours, a swapper and the enhancer give their picture back. All are exported for a batch of 1, as most published files
are, in float32 or with half precision inside.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from worker.faces.neural.points import INSIGHT106_TO_68
from worker.inference import registry
from worker.inference.store import ModelStore
from worker.model_choice import RECORD

OPSET = 17
NAMES = (
    "yoloface_8n",
    "yunet",
    "2dfan4",
    "arcface_w600k_r50",
    "hyperswap_1a_256",
    "inswapper_128",
    "gfpgan_1.4",
)
"""One model of each kind; the others are like one of these."""
FACE = (320.0, 180.0, 120.0, 150.0)  # centre x, y, width, height in detector pixels: a face of a 16:9 picture
POINTS = ((298.4, 162.0), (341.6, 162.0), (320.0, 189.0), (302.0, 216.0), (338.0, 216.0))
STRIDES = (8, 16, 32)


class Graph:
    """Collects nodes; tensors are named by the caller or numbered."""

    def __init__(self, *, half: bool = False, batch: int | str = 1) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.half, self.batch = half, batch

    def weight(self, values: Any, dtype: Any = np.float32) -> str:
        array = np.asarray(values, dtype)
        if self.half and array.dtype == np.float32:
            array = array.astype(np.float16)
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def input(self, name: str, *shape: int) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [self.batch, *shape]))
        return self.op("Cast", name, to=TensorProto.FLOAT16) if self.half else name

    def output(self, tensor: str, name: str, *shape: int) -> None:
        if self.half:
            tensor = self.op("Cast", tensor, to=TensorProto.FLOAT)
        self.nodes.append(helper.make_node("Identity", [tensor], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [self.batch, *shape]))

    def constant_after(self, tensor: str, values: NDArray[np.float32]) -> str:
        """`values` for each item of the batch, after something of `tensor` [N, ...] was computed."""
        zero = self.op("Mul", self.op("GlobalAveragePool", tensor), self.weight(0.0))  # [N, C, 1, 1]
        zero = self.op("ReduceMean", zero, axes=[1, 2, 3], keepdims=1)
        zero = self.op("Reshape", zero, self.weight([1] * (values.ndim + 1), np.int64))  # a batch of 1 written in
        return self.op("Add", zero, self.weight(values[None]))

    def model(self) -> Any:
        graph = helper.make_graph(self.nodes, "graph", self.inputs, self.outputs, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def yoloface_rows(faces: Sequence[tuple[tuple[float, ...], float, Sequence[tuple[float, float]]]]) -> Any:
    """float32 [20, 8400] with these faces (box by centre, score, points) at every hundredth place."""
    rows = np.zeros((20, 8400), np.float32)
    for index, (box, score, points) in enumerate(faces):
        rows[:5, 100 * index] = [*box, score]
        rows[5:, 100 * index] = [value for x, y in points for value in (x, y, 0.9)]
    return rows


def yoloface_8n(*, half: bool = False) -> Any:
    graph = Graph(half=half)
    seen = graph.input("input", 3, 640, 640)
    graph.output(graph.constant_after(seen, yoloface_rows([(FACE, 0.9, POINTS)])), "output", 20, 8400)
    return graph.model()


def yunet(*, half: bool = False) -> Any:
    graph = Graph(half=half)
    seen = graph.input("input", 3, 640, 640)
    for stride in STRIDES:
        cells = 640 // stride
        values = {kind: np.zeros((cells * cells, size), np.float32) for kind, size in SIZES.items()}
        if stride == 16:
            column, row = int(FACE[0] // stride), int(FACE[1] // stride)
            place = row * cells + column
            corner = np.array([column, row])
            values["cls"][place] = values["obj"][place] = 0.95
            values["bbox"][place] = [*(np.array(FACE[:2]) / stride - corner), *np.log(np.array(FACE[2:]) / stride)]
            values["kps"][place] = (np.array(POINTS) / stride - corner).ravel()
        for kind, size in SIZES.items():
            graph.output(graph.constant_after(seen, values[kind]), f"{kind}_{stride}", cells * cells, size)
    return graph.model()


SIZES = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}


def template_68() -> NDArray[np.float32]:
    """68 points of a plain face in the unit square, in the order of the 300-W markup."""
    turn = np.linspace(0, 2 * np.pi, 13)[:-1]
    jaw = np.linspace(0, np.pi, 17)
    parts = [np.stack([0.5 - 0.42 * np.cos(jaw), 0.4 + 0.5 * np.sin(jaw)], 1)]
    parts += [np.stack([np.linspace(a, a + 0.28, 5), np.full(5, 0.27)], 1) for a in (0.16, 0.56)]
    parts.append(np.stack([np.full(4, 0.5), np.linspace(0.38, 0.58, 4)], 1))
    parts.append(np.stack([np.linspace(0.42, 0.58, 5), np.full(5, 0.63)], 1))
    eye = np.linspace(0, 2 * np.pi, 7)[:-1]
    parts += [np.stack([x - 0.07 * np.cos(eye), 0.38 - 0.03 * np.sin(eye)], 1) for x in (0.32, 0.68)]
    parts.append(np.stack([0.5 - 0.15 * np.cos(turn), 0.76 - 0.05 * np.sin(turn)], 1))
    inner = np.linspace(0, 2 * np.pi, 9)[:-1]
    parts.append(np.stack([0.5 - 0.11 * np.cos(inner), 0.76 - 0.02 * np.sin(inner)], 1))
    return np.concatenate(parts).astype(np.float32)


def fan_points() -> NDArray[np.float32]:
    """float32 [68, 3] in pixels of the 64-pixel heat map: the plain face in a box whose longer side is 195 of 256."""
    box = np.array(FACE[2:]) / max(FACE[2:]) * 195 / 4
    points = np.ones((68, 3), np.float32)
    points[:, :2] = 32 + (template_68() - 0.5) * box
    return points


def landmarks_2dfan4(*, half: bool = False) -> Any:
    graph = Graph(half=half)
    seen = graph.input("input", 3, 256, 256)
    graph.output(graph.constant_after(seen, fan_points()), "landmarks_xyscore", 68, 3)
    maps = np.zeros((68, 64, 64), np.float32)
    maps[np.arange(68), 20, 30] = np.linspace(0.5, 1.0, 68)
    graph.output(graph.constant_after(seen, maps), "heatmaps", 68, 64, 64)
    return graph.model()


def arcface_w600k_r50(*, half: bool = False) -> Any:
    graph = Graph(half=half)
    seen = graph.input("input", 3, 112, 112)
    coarse = graph.op("AveragePool", seen, kernel_shape=[28, 28], strides=[28, 28])
    flat = graph.op("Reshape", coarse, graph.weight([1, 48], np.int64))
    mixing = np.random.default_rng(3).standard_normal((48, 512)).astype(np.float32)
    graph.output(graph.op("MatMul", flat, graph.weight(mixing)), "output", 512)
    return graph.model()


def swapper(
    side: int,
    *,
    half: bool = False,
    shade: bool = False,
    gain: float = 1.0,
    emap: NDArray[np.float32] | None = None,
) -> Any:
    """Gives the target back. With `shade`, plus `gain` times the mean of the source, so that it can be read."""
    graph = Graph(half=half)
    source, target = graph.input("source", 512), graph.input("target", 3, side, side)
    mean = graph.op("ReduceMean", source, axes=[1], keepdims=1)
    mean = graph.op("Mul", mean, graph.weight(gain if shade else 0.0))
    mean = graph.op("Reshape", mean, graph.weight([1, 1, 1, 1], np.int64))
    graph.output(graph.op("Add", target, mean), "output", 3, side, side)
    if emap is not None:
        graph.weight(emap)
    return graph.model()


def enhancer(side: int = 512, *, half: bool = False, weight: bool = False) -> Any:
    """Gives its picture back; some exports have a second input."""
    graph = Graph(half=half)
    picture = graph.input("input", 3, side, side)
    model_input = picture
    if weight:
        graph.inputs.append(helper.make_tensor_value_info("weight", TensorProto.DOUBLE, [1]))
        kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        model_input = graph.op("Mul", picture, graph.op("Cast", "weight", to=kind))
    graph.output(graph.op("Identity", model_input), "output", 3, side, side)
    return graph.model()


def scrfd(*, half: bool = False, batched: bool = False, sized: bool = True) -> Any:
    """scrfd_2.5g and retinaface_10g: by numbers, in the order of kinds and strides, and but `batched` without a batch.

    Without `sized` the number of anchors is not stated, as in exports for pictures of any size.
    """
    graph = Graph(half=half)
    seen = graph.input("input", 3, 640, 640)
    centre, size = np.array(FACE[:2]), np.array(FACE[2:])
    values = {(kind, s): np.zeros((2 * (640 // s) ** 2, n), np.float32) for kind, n in SCRFD.items() for s in STRIDES}
    column, row = (int(value // 16) for value in centre)
    place = 2 * (row * 40 + column) + 1  # the second anchor of the cell
    corner = 16.0 * np.array([column, row])
    values["score", 16][place] = 0.85
    values["bbox", 16][place] = np.concatenate([corner - (centre - size / 2), centre + size / 2 - corner]) / 16
    values["kps", 16][place] = ((np.array(POINTS) - corner) / 16).ravel()
    for number, ((_, _), array) in enumerate(values.items()):
        tensor = graph.constant_after(seen, array)
        if not batched:  # cells outside, items inside: right for one item only
            tensor = graph.op("Transpose", tensor, perm=[1, 0, 2])
            tensor = graph.op("Reshape", tensor, graph.weight([-1, array.shape[1]], np.int64))
        if half:
            tensor = graph.op("Cast", tensor, to=TensorProto.FLOAT)
        graph.nodes.append(helper.make_node("Identity", [tensor], [str(443 + 3 * number)]))
        shape = [1] * batched + [len(array) if sized else "anchors", array.shape[1]]
        graph.outputs.append(helper.make_tensor_value_info(str(443 + 3 * number), TensorProto.FLOAT, shape))
    return graph.model()


SCRFD = {"score": 1, "bbox": 4, "kps": 10}


def peppa_wutz(*, half: bool = False) -> Any:
    """As 2dfan4's landmarks, with a score of each."""
    graph = Graph(half=half)
    rows = fan_points()
    rows[:, 2] = np.linspace(0.5, 1.0, 68)
    graph.output(graph.constant_after(graph.input("input", 3, 256, 256), rows), "output", 68, 3)
    return graph.model()


def landmarks_2d106det(*, half: bool = False) -> Any:
    """The plain face in a box whose longer side is two thirds of the square, -1..1; places without a twin lie at 0."""
    graph = Graph(half=half)
    points = np.zeros((106, 2), np.float32)
    points[list(INSIGHT106_TO_68)] = (template_68() - 0.5) * np.array(FACE[2:]) / max(FACE[2:]) * 4 / 3
    graph.output(graph.constant_after(graph.input("data", 3, 192, 192), points.ravel()), "fc1", 212)
    return graph.model()


def fan_68_5(*, half: bool = False) -> Any:
    """The plain face, moved by the mean of the five points."""
    graph = Graph(half=half)
    mean = graph.op("ReduceMean", graph.input("input", 5, 2), axes=[1], keepdims=1)
    graph.output(graph.op("Add", mean, graph.weight(template_68()[None])), "output", 68, 2)
    return graph.model()


def graph_of(name: str, *, half: bool = False) -> Any:
    """The stand-in of one model, by its name in the registry."""
    makers = {"yoloface_8n": yoloface_8n, "yunet": yunet, "2dfan4": landmarks_2dfan4}
    makers["arcface_w600k_r50"] = makers["auraface_v1"] = arcface_w600k_r50
    makers |= {"scrfd_2.5g": scrfd, "retinaface_10g": scrfd}
    makers |= {"peppa_wutz": peppa_wutz, "2d106det": landmarks_2d106det, "fan_68_5": fan_68_5}
    if name in makers:
        return makers[name](half=half)
    known = registry.operator_models()[name]
    if known.card.role == "face_converter":
        return converter(half=half)
    assert known.card.contract.image is not None
    side = known.card.contract.image.side
    if known.card.role in PICTURE_READERS:
        return PICTURE_READERS[known.card.role](name, half=half)
    if known.card.role == "face_swapper":
        return swapper_of(name, half=half)
    return enhancer(side, half=half, weight=name == "codeformer")


def record_installed(folder: Path, *names: str) -> None:
    """What `models install` writes down, without files that could run: enough for who only asks what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RECORD
    record = json.loads(path.read_text()) if path.exists() else {"pins": {}, "licences": {}}
    for name in names:
        (folder / f"{name}.onnx").touch()
        record["pins"][name] = {"sha256": "0" * 64, "by": "operator", "source": "", "at": ""}
        licence = registry.operator_models()[name].card.licence
        record["licences"][name] = {"licence": licence, "reason": "test", "by": "test", "at": ""}
    path.write_text(json.dumps(record))


def install(store: ModelStore, *names: str, **models: Any) -> None:
    """Install stand-ins for real: those of `names`, and graphs of one's own by name."""
    for name, model in [*((name, graph_of(name)) for name in names), *models.items()]:
        store.folder.mkdir(parents=True, exist_ok=True)
        path = store.folder / f"{name}.published"
        onnx.save(model, path)
        if not registry.operator_models()[name].card.commercial_use:
            store.accept_licence(name, "a stand-in without anybody's weights", "test")
        store.add_file(path, name, lambda *_: None, pin=True)
        path.unlink()


def write_all(folder: Path, *, half: bool = False) -> Path:
    """Write one file per kind of operator model, those of `NAMES`, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        onnx.save(graph_of(name, half=half), folder / f"{name}.onnx")
    return folder


def occluder(_name: str = "xseg_1", *, half: bool = False) -> Any:
    """What is blue is seen: the first colour of BGR is the mask."""
    graph = Graph(half=half)
    seen = graph.input("input", 256, 256, 3)
    ends = (graph.weight([value], np.int64) for value in (0, 1, 3))
    graph.output(graph.op("Slice", seen, *ends), "output", 256, 256, 1)
    return graph.model()


def parser(_name: str = "bisenet_resnet_34", *, half: bool = False, red: int = 1, dark: int = 17) -> Any:
    """What has more red than ImageNet's mean is of the class `red`, all else of the class `dark`."""
    graph = Graph(half=half)
    seen = graph.input("input", 3, 512, 512)
    weights, bias = np.zeros((19, 3, 1, 1), np.float32), np.full(19, -50, np.float32)
    weights[red, 0], weights[dark, 0] = 1, -1
    bias[red] = bias[dark] = 0
    graph.output(graph.op("Conv", seen, graph.weight(weights), graph.weight(bias)), "output", 19, 512, 512)
    return graph.model()


def upscaler(name: str, *, half: bool = False, rim: int = 0) -> Any:
    """Every pixel many times; `rim` pixels round a tile are black, as a net may be wrong there."""
    contract = registry.operator_models()[name].card.contract
    assert contract.image is not None
    side, factor = contract.image.side, contract.outputs["output"][-1] // contract.image.side
    graph = Graph(half=half)
    seen = graph.input("input", 3, side, side)
    if rim:
        inside = np.zeros((1, 1, side, side), np.float32)
        inside[..., rim:-rim, rim:-rim] = 1
        seen = graph.op("Mul", seen, graph.weight(inside))
    wide = np.repeat(np.eye(3, dtype=np.float32)[:, None], factor * factor, axis=1).reshape(3 * factor**2, 3, 1, 1)
    many = graph.op("Conv", seen, graph.weight(wide))
    larger = graph.op("DepthToSpace", many, blocksize=factor, mode="CRD")
    graph.output(larger, "output", 3, side * factor, side * factor)
    return graph.model()


def content_filter(name: str, *, half: bool = False) -> Any:
    """Says yes to a light picture."""
    known = registry.operator_models()[name]
    graph = Graph(half=half)
    seen = graph.input("input", *known.inputs["input"])
    shape = known.outputs["output"]
    weights = np.zeros((1, *shape), np.float32)
    if name == "nsfw_1":
        weights[0, 6, 4321] = 1  # one class at one place
        weights[0, :4] = 300  # boxes count for nothing
    else:
        weights[0] = (1, -1) if name == "nsfw_2" else (-2, -2, 2, 2)
    mean = graph.op("ReduceMean", seen, axes=[1, 2, 3], keepdims=1)
    mean = graph.op("Reshape", mean, graph.weight([1] * (len(shape) + 1), np.int64))
    graph.output(graph.op("Mul", mean, graph.weight(weights)), "output", *shape)
    return graph.model()


def age_bands(_name: str = "fairface", *, half: bool = False, band: int | None = None) -> Any:
    """Race 5 and gender 1 of everybody, and the band of age `band`, else the lighter the older; integers [1] each."""
    graph = Graph(half=half)
    seen = graph.input("input", 3, 224, 224)
    mean = graph.op("ReduceMean", seen, axes=[1, 2, 3], keepdims=0)
    nothing = graph.op("Mul", mean, graph.weight(0.0))
    older = graph.op("Add", mean, graph.weight(2.0)) if band is None else graph.op("Add", nothing, graph.weight(band))
    ids = {
        "race_id": graph.op("Add", nothing, graph.weight(5.0)),
        "gender_id": graph.op("Add", nothing, graph.weight(1.0)),
    }
    for name, value in {**ids, "age_id": older}.items():
        graph.nodes.append(helper.make_node("Cast", [value], [name], to=TensorProto.INT64))
        graph.outputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, [1]))
    return graph.model()


PICTURE_READERS = {
    "age": age_bands,
    "face_occluder": occluder,
    "face_parser": parser,
    "frame_upscaler": upscaler,
    "content_filter": content_filter,
}
"""What makes the stand-ins of these roles, by the model's name."""


def swapper_of(name: str, *, half: bool = False, gain: float = 0.0) -> Any:
    """The stand-in of the swapper `name`, by its card: gives the target back, in the values of its output.

    With `gain`, plus so many times the mean of the source's first channel (of a picture) or of all of it.
    """
    known = registry.operator_models()[name]
    image = known.card.contract.image
    assert image is not None
    graph = Graph(half=half)
    source = graph.input("source", *known.inputs["source"])
    target = graph.input("target", 3, image.side, image.side)
    low, high = image.output_range
    scale, shift = ([(high - low) * value for value in values] for values in (image.std, image.mean))
    shown = graph.op("Mul", target, graph.weight(np.reshape(scale, (1, 3, 1, 1))))
    shown = graph.op("Add", shown, graph.weight(np.reshape(shift, (1, 3, 1, 1)) + low))
    if len(known.inputs["source"]) == 3:
        first = graph.op("Gather", source, graph.weight(0, np.int64), axis=1)
        mean = graph.op("ReduceMean", first, axes=[1, 2], keepdims=1)
    else:
        mean = graph.op("ReduceMean", source, axes=[1], keepdims=1)
    mean = graph.op("Mul", mean, graph.weight(gain))
    mean = graph.op("Reshape", mean, graph.weight([1, 1, 1, 1], np.int64))
    graph.output(graph.op("Add", shown, mean), "output", 3, image.side, image.side)
    if any(edit.kind == "embedding_map" for edit in known.edits):
        graph.weight(np.eye(512))
    return graph.model()


def converter_matrix() -> NDArray[np.float32]:
    """float32 [512, 512]: what a stand-in of a converter multiplies with."""
    return np.random.default_rng(11).standard_normal((512, 512)).astype(np.float32)


def converter(*, half: bool = False) -> Any:
    """Turns an embedding into another of another length."""
    graph = Graph(half=half)
    graph.output(graph.op("MatMul", graph.input("input", 512), graph.weight(converter_matrix())), "output", 512)
    return graph.model()
