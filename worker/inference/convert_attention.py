"""MediaPipe's attention face mesh -> ONNX, with the 478 landmarks put together inside the graph.

Three custom operations carry the attention (semantics after MediaPipe's own `mediapipe/util/tflite/operations`,
Apache-2.0): `Landmarks2TransformMatrix` finds the rotated box of a subset of the coarse mesh, `TransformTensorBilinear`
samples features through it, `TransformLandmarks` brings the refined points back. How the refined lips, eyes and irises
replace points of the coarse mesh follows `tensors_to_face_landmarks_with_attention`: x and y are replaced, z is kept,
an iris lies at the mean depth of its eye's outline.
"""

from typing import Any, Final

import numpy as np
from flatbuffers import flexbuffers
from onnx import ModelProto

from worker.inference.convert_tflite import ConversionError, TfliteConverter

COARSE_POINTS: Final = 468
POINTS: Final = 478
IRIS_POINTS: Final = 5
EYE_OUTLINE_POINTS: Final = 16  # the first of an eye's subset are its outline

# The first reference point of each subset says which part it is. "left" in the file means the picture's left, which
# is the person's right eye.
_PART_OF_REFERENCE: Final = {61: "lips", 33: "left_eye", 362: "right_eye"}


class AttentionMeshConverter(TfliteConverter):
    """Adds the mesh's custom operations and remembers the subset of mesh indices behind each refined part."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.subsets: dict[str, list[int]] = {}
        self.add_handler("Landmarks2TransformMatrix", self._landmarks_to_matrix)
        self.add_handler("TransformTensorBilinear", self._sample_features)
        self.add_handler("TransformLandmarks", self._transform_landmarks)

    def _columns(self, value: str, first: int, last: int, axis: int = 2) -> str:
        integers = self.writer.integers
        return self.writer.apply("Slice", value, integers(first), integers(last), integers(axis))

    def _landmarks_to_matrix(self, operator: Any, inputs: list[int], outputs: list[int]) -> None:
        """The 4x4 matrix from cells of the sampled window to the crop: [N, 468, 3] -> [N, 4, 4].

        The window is the box of the subset in a frame rotated to the two reference points, grown by the scale.
        """
        options = _custom_options(operator)
        if options["target_rotation_radians"] != 0:
            raise ConversionError("a target rotation other than 0 is not supported")
        subset = [int(index) for index in options["subset_idxs"]]
        self.subsets[_PART_OF_REFERENCE[options["left_rotation_idx"]]] = subset
        apply, constant, integers = self.writer.apply, self.writer.constant, self.writer.integers

        points = self._columns(self.value(inputs[0], "nhwc"), 0, 2)
        left = apply("Gather", points, integers(options["left_rotation_idx"]), axis=1)
        right = apply("Gather", points, integers(options["right_rotation_idx"]), axis=1)
        difference = apply("Sub", right, left)
        squared = apply("ReduceSum", apply("Mul", difference, difference), integers(2), keepdims=1)
        direction = apply("Div", difference, apply("Sqrt", squared))
        cosine, sine = self._columns(direction, 0, 1), self._columns(direction, 1, 2)

        chosen = apply("Gather", points, integers(*subset), axis=1)
        x, y = self._columns(chosen, 0, 1), self._columns(chosen, 1, 2)
        turned_x = apply("Add", apply("Mul", x, cosine), apply("Mul", y, sine))
        turned_y = apply("Sub", apply("Mul", y, cosine), apply("Mul", x, sine))

        def extent(turned: str) -> tuple[str, str]:
            high = apply("ReduceMax", turned, integers(1), keepdims=1)
            low = apply("ReduceMin", turned, integers(1), keepdims=1)
            return apply("Sub", high, low), apply("Mul", apply("Add", high, low), constant(0.5))

        width, middle_x = extent(turned_x)
        height, middle_y = extent(turned_y)
        centre_x = apply("Sub", apply("Mul", middle_x, cosine), apply("Mul", middle_y, sine))
        centre_y = apply("Add", apply("Mul", middle_x, sine), apply("Mul", middle_y, cosine))

        columns, rows = options["output_width"], options["output_height"]
        cell_x = apply("Mul", width, constant(options["scale_x"] / columns))
        cell_y = apply("Mul", height, constant(options["scale_y"] / rows))
        a, b = apply("Mul", cosine, cell_x), apply("Neg", apply("Mul", sine, cell_y))
        d, e = apply("Mul", sine, cell_x), apply("Mul", cosine, cell_y)
        half_x, half_y = constant(columns / 2), constant(rows / 2)
        shift_x = apply("Sub", centre_x, apply("Add", apply("Mul", a, half_x), apply("Mul", b, half_y)))
        shift_y = apply("Sub", centre_y, apply("Add", apply("Mul", d, half_x), apply("Mul", e, half_y)))

        zero = apply("Mul", a, constant(0))  # so that the constant rows follow the batch size
        one = apply("Add", zero, constant(1))
        matrix = [(a, b, zero, shift_x), (d, e, zero, shift_y), (zero, zero, one, zero), (zero, zero, zero, one)]
        joined = [apply("Concat", *row, axis=2) for row in matrix]
        self.set_value(outputs[0], apply("Concat", *joined, axis=1), "nhwc")

    def _linear_and_shift(self, tensor: int) -> tuple[str, str]:
        """Of a [N, 4, 4] matrix: its 2x2 part transposed, [N, 2, 2], and its shift, [N, 1, 2]."""
        rows = self._columns(self.value(tensor, "nhwc"), 0, 2, axis=1)
        linear = self.writer.apply("Transpose", self._columns(rows, 0, 2), perm=(0, 2, 1))
        shift = self.writer.apply("Transpose", self._columns(rows, 3, 4), perm=(0, 2, 1))
        return linear, shift

    def _sample_features(self, operator: Any, inputs: list[int], outputs: list[int]) -> None:
        """Bilinear samples of a feature map [N, H, W, C] at (cell + 0.5) * matrix - 0.5; exactly 0 outside of it."""
        options = _custom_options(operator)
        rows, columns = options["output_height"], options["output_width"]
        _, height, width, _ = self.shape(inputs[0])
        apply, constant, integers = self.writer.apply, self.writer.constant, self.writer.integers

        linear, shift = self._linear_and_shift(inputs[1])
        x, y = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
        cells = constant(np.stack([x, y], axis=-1).reshape(1, -1, 2))
        where = apply("Sub", apply("Add", apply("MatMul", cells, linear), shift), constant(0.5))

        limit = constant([width - 1, height - 1])
        inside = apply("And", apply("GreaterOrEqual", where, constant(0)), apply("LessOrEqual", where, limit))
        both = apply("ReduceMin", apply("Cast", inside, to=1), integers(2), keepdims=1)
        normalised = apply("Sub", apply("Mul", where, constant([2 / (width - 1), 2 / (height - 1)])), constant(1))
        grid = apply("Reshape", normalised, integers(0, rows, columns, 2))
        sampled = apply(
            "GridSample", self.value(inputs[0]), grid, mode="bilinear", padding_mode="zeros", align_corners=1
        )
        mask = apply("Reshape", both, integers(0, 1, rows, columns))
        self.set_value(outputs[0], apply("Mul", sampled, mask))

    def _transform_landmarks(self, _operator: Any, inputs: list[int], outputs: list[int]) -> None:
        """Points [N, K, 2] through the matrix [N, 4, 4]."""
        if self.shape(inputs[0])[-1] != 2:
            raise ConversionError("only points in the plane are transformed in this model")
        linear, shift = self._linear_and_shift(inputs[1])
        moved = self.writer.apply("Add", self.writer.apply("MatMul", self.value(inputs[0], "nhwc"), linear), shift)
        self.set_value(outputs[0], moved, "nhwc")

    def merge_landmarks(self, found: dict[str, int]) -> str:
        """Coarse mesh and refined parts -> [N, 478, 3] in crop pixels, named `landmarks`."""
        apply, integers = self.writer.apply, self.writer.integers

        def points(output: str, size: int) -> str:
            return apply("Reshape", self.value(found[output], "nhwc"), integers(0, -1, size))

        coarse = points("output_mesh_identity", 3)
        depth = self._columns(coarse, 2, 3)
        plane, depths = [self._columns(coarse, 0, 2)], [depth]
        source = list(range(POINTS))  # for each landmark, its row in the concatenation of all parts
        rows = COARSE_POINTS
        for part in ("lips", "left_eye", "right_eye"):
            plane.append(points(f"output_{part}", 2))
            for index in self.subsets[part]:
                source[index] = rows
                rows += 1
        for position, side in enumerate(("left", "right")):
            plane.append(points(f"output_{side}_iris", 2))
            first = COARSE_POINTS + position * IRIS_POINTS
            source[first : first + IRIS_POINTS] = range(rows, rows + IRIS_POINTS)
            rows += IRIS_POINTS
            outline = apply("Gather", depth, integers(*self.subsets[f"{side}_eye"][:EYE_OUTLINE_POINTS]), axis=1)
            mean = apply("ReduceMean", outline, integers(1), keepdims=1)
            depths.extend([mean] * IRIS_POINTS)
        chosen = apply("Gather", apply("Concat", *plane, axis=1), integers(*source), axis=1)
        return apply("Concat", chosen, apply("Concat", *depths, axis=1), axis=2, output="landmarks")


def convert_attention_mesh(data: bytes) -> ModelProto:
    """Convert `face_landmark_with_attention.tflite`.

    Input `image`: float32 [N, 192, 192, 3] RGB 0..1. Outputs `landmarks`: float32 [N, 478, 3] in pixels of the crop
    (z in the same unit, towards the camera negative), and `presence`: float32 [N, 1], 0..1. Raises ConversionError.
    """
    converter = AttentionMeshConverter(data)
    found = converter.convert_body("image")
    converter.merge_landmarks(found)
    writer = converter.writer
    flag = writer.apply("Reshape", converter.value(found["conv_faceflag"], "nhwc"), writer.integers(0, 1))
    writer.apply("Sigmoid", flag, output="presence")
    outputs = {"landmarks": (POINTS, 3), "presence": (1,)}
    return writer.finish("face_mesh", {"image": converter.image_shape}, outputs)


def _custom_options(operator: Any) -> dict[str, Any]:
    options: dict[str, Any] = flexbuffers.Loads(operator.CustomOptionsAsNumpy().tobytes())
    return options
