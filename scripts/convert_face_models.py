"""Convert MediaPipe's three face models from TensorFlow Lite to ONNX.

The models (Apache-2.0) are inside the wheel of mediapipe 0.10.21, the same in the wheel of every
platform; the package itself is not needed and not installed::

    pip download --no-deps mediapipe==0.10.21
    python scripts/convert_face_models.py --wheel mediapipe-0.10.21-*.whl

Needs ``onnx`` (the extra ``convert``). All networks take ``images`` (N, H, W, 3) uint8 RGB:

- ``face_detector.onnx`` 128 x 128 -> ``boxes`` (N, 896, 16) px from the anchors, ``scores``
  (N, 896) logits;
- ``face_mesh.onnx`` 192 x 192 -> ``points`` (N, 478, 3) px, ``presence`` (N,) logit;
- ``person_mask.onnx`` 144 x 256 -> ``mask`` (N, 144, 256) in 0..1.

Weights stay float16, as they are in the originals; runtimes widen them once, at loading.
"""

from __future__ import annotations

import argparse
import hashlib
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tflite import Constant, FlexBuffer, Operator, TfliteModel, read_tflite

OPSET = 17
ASSETS = Path(__file__).parents[1] / "src" / "moda" / "assets"
ATTRIBUTION = "Converted from MediaPipe 0.10.21, Copyright The MediaPipe Authors, Apache-2.0"


@dataclass
class Graph:
    """An ONNX graph under construction.

    Values are named by the index of their tensor in the TensorFlow Lite model. Pictures and
    feature maps are (N, C, H, W) here and (1, H, W, C) there.
    """

    model: TfliteModel
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)

    def add(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, value: Constant) -> str:
        """Store a constant; float16 is widened where it is used."""
        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        if value.dtype == np.float16:
            return self.add("Cast", [name], to=TensorProto.FLOAT)
        return name

    def floats(self, value: Any) -> str:
        return self.constant(np.asarray(value, np.float32))

    def integers(self, value: Any) -> str:
        return self.constant(np.asarray(value, np.int64))

    def name(self, index: int) -> str:
        """Name of the value of a tensor, which may be a constant."""
        if index not in self.names:
            self.names[index] = self.constant(self.value(index))
        return self.names[index]

    def value(self, index: int) -> Constant:
        value = self.model.tensors[index].value
        if value is None:
            raise ValueError(f"tensor {self.model.tensors[index].name} is not a constant")
        return value

    def shape(self, index: int) -> tuple[int, ...]:
        return self.model.tensors[index].shape

    def output_named(self, name: str) -> str:
        """Name of the value of the network output that TensorFlow Lite calls ``name``."""
        (index,) = (i for i in self.model.outputs if self.model.tensors[i].name == name)
        return self.names[index]


def activate(graph: Graph, value: str, code: int) -> str:
    """Apply the activation that TensorFlow Lite fuses into operators."""
    if code == 0:
        return value
    if code == 1:
        return graph.add("Relu", [value])
    raise ValueError(f"fused activation {code} is not supported")


def same_padding(size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]) -> Any:
    """ONNX ``pads`` (top, left, bottom, right) of TensorFlow's SAME padding."""
    totals = [
        max((-(-length // step) - 1) * step + extent - length, 0)
        for length, extent, step in zip(size, kernel, stride, strict=True)
    ]
    return [total // 2 for total in totals] + [total - total // 2 for total in totals]


def window_attributes(
    graph: Graph, operator: Operator, kernel: tuple[int, int], stride: tuple[int, int]
) -> dict[str, Any]:
    """Attributes that convolutions and poolings share."""
    height, width = graph.shape(operator.inputs[0])[1:3]
    is_same = operator.option(0, "b") == 0
    pads = same_padding((height, width), kernel, stride) if is_same else [0] * 4
    return {"kernel_shape": kernel, "strides": stride, "pads": pads}


def emit_convolution(graph: Graph, operator: Operator) -> str:
    source, weight_index, bias_index = operator.inputs
    depthwise = operator.kind == "DEPTHWISE_CONV_2D"
    weight = graph.value(weight_index).transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
    attributes = window_attributes(
        graph, operator, weight.shape[2:], (operator.option(2), operator.option(1))
    )
    value = graph.add(
        "Conv",
        [graph.name(source), graph.constant(weight), graph.name(bias_index)],
        group=graph.shape(source)[3] if depthwise else 1,
        **attributes,
    )
    return activate(graph, value, operator.option(4 if depthwise else 3, "b"))


def emit_max_pooling(graph: Graph, operator: Operator) -> str:
    kernel = (operator.option(4), operator.option(3))
    stride = (operator.option(2), operator.option(1))
    attributes = window_attributes(graph, operator, kernel, stride)
    return graph.add("MaxPool", [graph.name(operator.inputs[0])], **attributes)


def emit_parametric_relu(graph: Graph, operator: Operator) -> str:
    """``x + (1 - slope) * relu(-x)`` as convolutions, channel by channel.

    onnxruntime keeps convolutions in a blocked layout that its PRelu would leave and enter again:
    this way the whole network takes half the time.
    """
    source, slope_index = operator.inputs
    slope = graph.value(slope_index).astype(np.float32).reshape(-1, 1, 1, 1)
    negative = [graph.name(source), graph.floats(-np.ones_like(slope))]
    rectified = graph.add("Relu", [graph.add("Conv", negative, group=len(slope))])
    scaled = graph.add("Conv", [rectified, graph.floats(1 - slope)], group=len(slope))
    return graph.add("Add", [scaled, graph.name(source)])


def emit_arithmetic(graph: Graph, operator: Operator) -> str:
    kind = {"ADD": "Add", "MUL": "Mul"}[operator.kind]
    names = []
    for index in operator.inputs:
        is_matrix = graph.shape(index)[1:] == (4, 4) and index not in graph.names
        names.append(
            graph.constant(graph.value(index)[:, :2, [0, 1, 3]]) if is_matrix else graph.name(index)
        )
    return activate(graph, graph.add(kind, names), operator.option(0, "b"))


def emit_channel_padding(graph: Graph, operator: Operator) -> str:
    """Append empty channels: a 1 x 1 convolution, for the reason given at the parametric ReLU."""
    source, paddings = operator.inputs
    before = graph.shape(source)[3]
    empty = graph.value(paddings).tolist()
    if empty[:3] != [[0, 0]] * 3 or empty[3][0] != 0:
        raise ValueError("only padding after the last channel is supported")
    weight = np.eye(before + empty[3][1], before, dtype=np.float32)[:, :, None, None]
    return graph.add("Conv", [graph.name(source), graph.constant(weight.astype(np.float16))])


def emit_reshape(graph: Graph, operator: Operator) -> str:
    source = graph.name(operator.inputs[0])
    before, after = graph.shape(operator.inputs[0]), graph.shape(operator.output)
    if len(before) == 4 and before[1:3] != (1, 1):
        source = graph.add("Transpose", [source], perm=(0, 2, 3, 1))
    if len(after) == 4:  # (1, 1, 1, C)
        after = (after[0], after[3], 1, 1)
    return graph.add("Reshape", [source, graph.integers([-1, *after[1:]])])


def emit_concatenation(graph: Graph, operator: Operator) -> str:
    if len(graph.shape(operator.output)) == 4:
        raise ValueError("concatenation of feature maps is not supported")
    names = [graph.name(index) for index in operator.inputs]
    return graph.add("Concat", names, axis=operator.option(0))


def emit_mean(graph: Graph, operator: Operator) -> str:
    return graph.add("GlobalAveragePool", [graph.name(operator.inputs[0])])


def emit_elementwise(graph: Graph, operator: Operator) -> str:
    kind = {"RELU": "Relu", "LOGISTIC": "Sigmoid", "HARD_SWISH": "HardSwish"}[operator.kind]
    return graph.add(kind, [graph.name(operator.inputs[0])])


def emit_resize(graph: Graph, operator: Operator) -> str:
    source, _ = operator.inputs
    align_corners, half_pixel = operator.option(2, "b"), operator.option(3, "b")
    mode = "align_corners" if align_corners else "half_pixel" if half_pixel else "asymmetric"
    before, after = graph.shape(source), graph.shape(operator.output)
    scales = graph.floats([1, 1, after[1] / before[1], after[2] / before[2]])
    return graph.add(
        "Resize",
        [graph.name(source), "", scales],
        mode="linear",
        coordinate_transformation_mode=mode,
    )


def emit_identity(graph: Graph, operator: Operator) -> str:
    """A slice that takes everything."""
    if graph.shape(operator.inputs[0]) != graph.shape(operator.output):
        raise ValueError("only slices that take everything are supported")
    return graph.name(operator.inputs[0])


def emit_transposed_convolution(graph: Graph, operator: Operator) -> str:
    source, weight, bias = operator.inputs
    _, stride_x, stride_y = struct.unpack("<iii", operator.custom_options)
    weights = graph.constant(graph.value(weight).transpose(3, 0, 1, 2))
    names = [graph.name(source), weights, graph.name(bias)]
    return graph.add("ConvTranspose", names, strides=(stride_y, stride_x))


def emit_crop_matrix(graph: Graph, operator: Operator) -> str:
    """Landmarks2TransformMatrix: rotated box around some landmarks, as a 2 x 3 matrix.

    The matrix (N, 2, 3) maps corner-based pixels of the crop to those of the feature map; the
    custom operator gives the same as 4 x 4.
    """
    options = FlexBuffer(operator.custom_options).read()
    if options.get("target_rotation_radians", 0.0) != 0.0:
        raise ValueError("a rotated target is not supported")
    size = np.array([options["output_width"], options["output_height"]])
    scale = np.array([options["scale_x"], options["scale_y"]]) / size

    def gather(indices: Sequence[int]) -> str:
        points = graph.add("Gather", [landmarks, graph.integers(indices)], axis=1)
        return graph.add("Slice", [points, *(graph.integers([i]) for i in (0, 2, 2))])

    landmarks = graph.name(operator.inputs[0])
    axis = graph.add(
        "Sub", [gather([options["right_rotation_idx"]]), gather([options["left_rotation_idx"]])]
    )
    axis_x = graph.add("Div", [axis, graph.add("ReduceL2", [axis], axes=[2])])  # (N, 1, 2)
    quarter_turn = graph.floats([[0, 1], [-1, 0]])
    axis_y = graph.add("MatMul", [axis_x, quarter_turn])
    axes = graph.add("Concat", [axis_x, axis_y], axis=1)  # rows: the box's own axes
    columns = graph.add("Transpose", [axes], perm=(0, 2, 1))
    upright = graph.add("MatMul", [gather(options["subset_idxs"]), columns])
    high = graph.add("ReduceMax", [upright], axes=[1])
    low = graph.add("ReduceMin", [upright], axes=[1])
    middle = graph.add("Mul", [graph.add("Add", [high, low]), graph.floats(0.5)])
    extent = graph.add("Mul", [graph.add("Sub", [high, low]), graph.floats(scale)])  # (N, 1, 2)
    linear = graph.add("Mul", [columns, extent])
    half = graph.add("Mul", [extent, graph.floats(size / 2)])
    corner = graph.add("MatMul", [graph.add("Sub", [middle, half]), axes])  # (N, 1, 2)
    return graph.add("Concat", [linear, graph.add("Transpose", [corner], perm=(0, 2, 1))], axis=2)


def apply_matrix(graph: Graph, points: str, matrix: str) -> str:
    """Map points (N or 1, K, 2) by a matrix (N, 2, 3)."""
    rows = graph.add("Transpose", [matrix], perm=(0, 2, 1))
    linear = graph.add("Slice", [rows, *(graph.integers([i]) for i in (0, 2, 1))])
    shift = graph.add("Slice", [rows, *(graph.integers([i]) for i in (2, 3, 1))])
    return graph.add("Add", [graph.add("MatMul", [points, linear]), shift])


def emit_feature_crop(graph: Graph, operator: Operator) -> str:
    """TransformTensorBilinear: sample a rotated crop; pixels not wholly inside become zero."""
    source, matrix = operator.inputs
    _, height, width, _ = graph.shape(operator.output)
    grid_y, grid_x = np.mgrid[:height, :width] + 0.5
    grid = np.stack([grid_x, grid_y], -1).reshape(1, -1, 2)
    places = apply_matrix(graph, graph.floats(grid), graph.name(matrix))  # (N, HW, 2)
    source_size = np.array([graph.shape(source)[2], graph.shape(source)[1]])
    low, high = graph.floats(0.5), [graph.floats(size - 0.5) for size in source_size]
    inside = []
    for axis, limit in enumerate(high):
        part = graph.add("Gather", [places, graph.integers(axis)], axis=2)
        inside.append(graph.add("Equal", [part, graph.add("Clip", [part, low, limit])]))
    mask = graph.add("Cast", [graph.add("And", inside)], to=TensorProto.FLOAT)
    mask = graph.add("Reshape", [mask, graph.integers([-1, 1, height, width])])
    normalized = graph.add("Mul", [places, graph.floats(2 / source_size)])
    normalized = graph.add("Sub", [normalized, graph.floats(1.0)])
    normalized = graph.add("Reshape", [normalized, graph.integers([-1, height, width, 2])])
    crop = graph.add("GridSample", [graph.name(source), normalized], align_corners=0)
    return graph.add("Mul", [crop, mask])


def emit_landmark_transform(graph: Graph, operator: Operator) -> str:
    landmarks, matrix = (graph.name(index) for index in operator.inputs)
    return apply_matrix(graph, landmarks, matrix)


EMITTERS: dict[str, Callable[[Graph, Operator], str]] = {
    "ADD": emit_arithmetic,
    "CONCATENATION": emit_concatenation,
    "CONV_2D": emit_convolution,
    "Convolution2DTransposeBias": emit_transposed_convolution,
    "DEPTHWISE_CONV_2D": emit_convolution,
    "HARD_SWISH": emit_elementwise,
    "Landmarks2TransformMatrix": emit_crop_matrix,
    "LOGISTIC": emit_elementwise,
    "MAX_POOL_2D": emit_max_pooling,
    "MEAN": emit_mean,
    "MUL": emit_arithmetic,
    "PAD": emit_channel_padding,
    "PRELU": emit_parametric_relu,
    "RELU": emit_elementwise,
    "RESHAPE": emit_reshape,
    "RESIZE_BILINEAR": emit_resize,
    "STRIDED_SLICE": emit_identity,
    "TransformLandmarks": emit_landmark_transform,
    "TransformTensorBilinear": emit_feature_crop,
}


# ---------------------------------------------------------------- the three networks


def finish_detector(graph: Graph) -> dict[str, list[int]]:
    graph.add("Identity", [graph.output_named("regressors")], "boxes")
    scores = graph.output_named("classificators")
    graph.add("Reshape", [scores, graph.integers([-1, 896])], "scores")
    return {"boxes": [896, 16], "scores": [896]}


def finish_mesh(graph: Graph) -> dict[str, list[int]]:
    """Put the refined lips, eyes and irises into the mesh: 478 points.

    The subsets are listed in the options of the crop operators, in the order of the refined
    points. Depth is that of the mesh; an iris has the mean depth of the first 16 points of its
    eye, which are the lid lines. What the model calls the left eye is the person's right one.
    """
    crops = [op for op in graph.model.operators if op.kind == "Landmarks2TransformMatrix"]
    subsets = [FlexBuffer(op.custom_options).read()["subset_idxs"] for op in crops]

    def rows(name: str, size: int) -> str:
        flat = graph.output_named(name)
        return graph.add("Reshape", [flat, graph.integers([0, -1, size])])

    mesh = rows("output_mesh_identity", 3)
    flat_mesh = graph.add("Slice", [mesh, *(graph.integers([i]) for i in (0, 2, 2))])
    refined = ("output_lips", "output_left_eye", "output_right_eye")
    irises = ("output_left_iris", "output_right_iris")
    table = graph.add("Concat", [flat_mesh, *(rows(name, 2) for name in refined + irises)], axis=1)
    order, start = np.arange(478), 468
    for subset in subsets:
        order[subset] = start + np.arange(len(subset))
        start += len(subset)
    order[468:] = start + np.arange(10)
    planar = graph.add("Gather", [table, graph.integers(order)], axis=1)

    depth = graph.add("Slice", [mesh, *(graph.integers([i]) for i in (2, 3, 2))])
    iris_depths = []
    for subset in subsets[1:]:
        lids = graph.add("Gather", [depth, graph.integers(subset[:16])], axis=1)
        iris_depths.append(graph.add("ReduceMean", [lids], axes=[1]))
    depth = graph.add("Concat", [depth, *iris_depths], axis=1)
    depth_order = graph.integers([*range(468), *[468] * 5, *[469] * 5])
    depth = graph.add("Gather", [depth, depth_order], axis=1)
    graph.add("Concat", [planar, depth], "points", axis=2)
    presence = graph.output_named("conv_faceflag")
    graph.add("Reshape", [presence, graph.integers([-1])], "presence")
    return {"points": [478, 3], "presence": []}


def finish_mask(graph: Graph) -> dict[str, list[int]]:
    (output,) = graph.model.outputs
    height, width = graph.shape(output)[1:3]
    shape = graph.integers([-1, height, width])
    graph.add("Reshape", [graph.names[output], shape], "mask")
    return {"mask": [height, width]}


class Source(NamedTuple):
    """A model in the wheel, and what becomes of it."""

    path: str
    sha256: str
    target: str
    low: float
    """Value of a black pixel at the network's input; a white one is 1."""
    finish: Callable[[Graph], dict[str, list[int]]]


SOURCES = (
    Source(
        "mediapipe/modules/face_detection/face_detection_short_range.tflite",
        "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
        "face_detector.onnx",
        -1.0,
        finish_detector,
    ),
    Source(
        "mediapipe/modules/face_landmark/face_landmark_with_attention.tflite",
        "e06a804e0144f9929eda782122916b35d60c697c3c9344013ca2bbe76a6ce2b4",
        "face_mesh.onnx",
        0.0,
        finish_mesh,
    ),
    Source(
        "mediapipe/modules/selfie_segmentation/selfie_segmentation_landscape.tflite",
        "a77d03f4659b9f6b6c1f5106947bf40e99d7655094b6527f214ea7d451106edd",
        "person_mask.onnx",
        0.0,
        finish_mask,
    ),
)


def convert(data: bytes, source: Source) -> onnx.ModelProto:
    """Translate one ``.tflite`` file."""
    graph = Graph(read_tflite(data))
    _, height, width, channels = graph.shape(graph.model.input)
    pixels = graph.add("Cast", ["images"], to=TensorProto.FLOAT)
    pixels = graph.add("Transpose", [pixels], perm=(0, 3, 1, 2))
    pixels = graph.add("Mul", [pixels, graph.floats((1.0 - source.low) / 255)])
    graph.names[graph.model.input] = graph.add("Add", [pixels, graph.floats(source.low)])
    for operator in graph.model.operators:
        graph.names[operator.output] = EMITTERS[operator.kind](graph, operator)
    outputs = source.finish(graph)
    images: list[str | int | None] = ["N", height, width, channels]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            Path(source.target).stem,
            [helper.make_tensor_value_info("images", TensorProto.UINT8, images)],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
                for name, shape in outputs.items()
            ],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
        producer_name="moda",
        doc_string=f"{ATTRIBUTION}. Source: {source.path}, sha256 {source.sha256}",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--wheel", type=Path, required=True, help="wheel of mediapipe 0.10.21")
    parser.add_argument("--output", type=Path, default=ASSETS, help="folder of the ONNX files")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.wheel) as wheel:
        for source in SOURCES:
            data = wheel.read(source.path)
            if hashlib.sha256(data).hexdigest() != source.sha256:
                parser.error(f"{source.path} in {arguments.wheel} is not that of 0.10.21")
            target = arguments.output / source.target
            target.write_bytes(convert(data, source).SerializeToString())
            print(f"{target}: {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
