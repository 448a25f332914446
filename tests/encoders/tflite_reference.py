"""An independent run of the original TensorFlow Lite models, operator by operator, in torch.

Nothing here is shared with the conversion to ONNX but the reader of the file format. Feature maps
are (1, H, W, C), as in the files.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from paths import load_file

SCRIPT = Path(__file__).parents[2] / "scripts" / "tflite.py"


def load_reader() -> Any:
    """The module ``scripts/tflite.py``."""
    return load_file(SCRIPT)


def run_tflite(data: bytes, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs by name of a ``.tflite`` file for pixels (H, W, 3) in the range it expects."""
    reader = load_reader()
    model = reader.read_tflite(data)
    values = {
        index: torch.from_numpy(tensor.value.astype(np.float32))
        for index, tensor in enumerate(model.tensors)
        if tensor.value is not None
    }
    values[model.input] = torch.from_numpy(pixels.astype(np.float32))[None]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine two are many times slower
    for operator in model.operators:
        options = reader.FlexBuffer(operator.custom_options)
        inputs = [values[index] for index in operator.inputs]
        shape = model.tensors[operator.output].shape
        values[operator.output] = OPERATORS[operator.kind](operator, options, shape, *inputs)
    torch.set_num_threads(threads)
    return {model.tensors[index].name: values[index].numpy()[0] for index in model.outputs}


def landmark_subsets(data: bytes) -> list[list[int]]:
    """Which of the 468 points the lips, the right and the left eye refine."""
    reader = load_reader()
    return [
        reader.FlexBuffer(operator.custom_options).read()["subset_idxs"]
        for operator in reader.read_tflite(data).operators
        if operator.kind == "Landmarks2TransformMatrix"
    ]


def merge_landmarks(outputs: dict[str, np.ndarray], subsets: list[list[int]]) -> np.ndarray:
    """Mesh with refined lips, eyes and irises (478, 3), as MediaPipe's graph merges them."""
    points = np.zeros((478, 3))
    points[:468] = outputs["output_mesh_identity"].reshape(468, 3)
    names = ("output_lips", "output_left_eye", "output_right_eye")
    for name, subset in zip(names, subsets, strict=True):
        points[subset, :2] = outputs[name].reshape(-1, 2)
    points[468:473, :2] = outputs["output_left_iris"].reshape(5, 2)
    points[473:478, :2] = outputs["output_right_iris"].reshape(5, 2)
    points[468:473, 2] = points[subsets[1][:16], 2].mean()
    points[473:478, 2] = points[subsets[2][:16], 2].mean()
    return points


def _channels_first(value: Tensor) -> Tensor:
    return value.permute(0, 3, 1, 2)


def _channels_last(value: Tensor) -> Tensor:
    return value.permute(0, 2, 3, 1)


def _activate(value: Tensor, code: int) -> Tensor:
    return {0: value, 1: value.relu()}[code]


def _same(value: Tensor, kernel: Any, stride: Any, fill: float = 0.0) -> Tensor:
    """Pad (N, C, H, W) as TensorFlow's SAME does."""
    pads: list[int] = []
    for length, size, step in reversed(list(zip(value.shape[2:], kernel, stride, strict=True))):
        total = max((-(-length // step) - 1) * step + size - length, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(value, pads, value=fill)


def _convolution(op: Any, _: Any, __: Any, source: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    depthwise = op.kind == "DEPTHWISE_CONV_2D"
    weight = weight.permute((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
    stride = (op.option(2), op.option(1))
    source = _channels_first(source)
    if op.option(0, "b") == 0:
        source = _same(source, weight.shape[2:], stride)
    value = F.conv2d(source, weight, bias, stride, groups=source.shape[1] if depthwise else 1)
    return _activate(_channels_last(value), op.option(4 if depthwise else 3, "b"))


def _max_pooling(op: Any, _: Any, __: Any, source: Tensor) -> Tensor:
    kernel, stride = (op.option(4), op.option(3)), (op.option(2), op.option(1))
    padded = _same(_channels_first(source), kernel, stride, -1e30)
    return _channels_last(F.max_pool2d(padded, kernel, stride))


def _transposed_convolution(
    op: Any, _: Any, __: Any, source: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    _, stride_x, stride_y = struct.unpack("<iii", op.custom_options)
    weight = weight.permute(3, 0, 1, 2)
    return _channels_last(
        F.conv_transpose2d(_channels_first(source), weight, bias, (stride_y, stride_x))
    )


def _pad(_: Any, __: Any, ___: Any, source: Tensor, paddings: Tensor) -> Tensor:
    return F.pad(source, [int(n) for pair in reversed(paddings.tolist()) for n in pair])


def _resize(op: Any, _: Any, shape: Any, source: Tensor, __: Tensor) -> Tensor:
    align = bool(op.option(2, "b"))
    return _channels_last(
        F.interpolate(_channels_first(source), shape[1:3], mode="bilinear", align_corners=align)
    )


def _crop_matrix(_: Any, options: Any, __: Any, landmarks: Tensor) -> Tensor:
    settings = options.read()
    points = landmarks[0, :, :2]
    left, right = points[settings["left_rotation_idx"]], points[settings["right_rotation_idx"]]
    angle = -torch.atan2(*(right - left).flip(0))
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
    turned = points[settings["subset_idxs"]] @ turn.T
    high, low = turned.amax(0), turned.amin(0)
    size = torch.tensor([settings["output_width"], settings["output_height"]])
    scale = torch.tensor([settings["scale_x"], settings["scale_y"]])
    matrix = torch.eye(4)
    matrix[:2, :2] = turn.T * ((high - low) * scale / size)
    matrix[:2, 3] = turn.T @ ((high + low) / 2) - matrix[:2, :2] @ (size / 2)
    return matrix[None]


def _feature_crop(_: Any, __: Any, shape: Any, source: Tensor, matrix: Tensor) -> Tensor:
    """Bilinear by hand: pixels that need a neighbour outside are zero."""
    height, width = source.shape[1:3]
    y, x = torch.meshgrid(torch.arange(shape[1]) + 0.5, torch.arange(shape[2]) + 0.5, indexing="ij")
    places = torch.stack([x, y], -1) @ matrix[0, :2, :2].T + matrix[0, :2, 3] - 0.5
    x, y = places.unbind(-1)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top = x.floor().long(), y.floor().long()
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    x, y = (x - left)[..., None], (y - top)[..., None]
    upper = source[0, top, left] * (1 - x) + source[0, top, right] * x
    lower = source[0, bottom, left] * (1 - x) + source[0, bottom, right] * x
    return ((upper * (1 - y) + lower * y) * inside[..., None])[None]


def _landmark_transform(_: Any, __: Any, ___: Any, landmarks: Tensor, matrix: Tensor) -> Tensor:
    return landmarks @ matrix[0, :2, :2].T + matrix[0, :2, 3]


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "ADD": lambda op, _, __, a, b: _activate(a + b, op.option(0, "b")),
    "MUL": lambda op, _, __, a, b: _activate(a * b, op.option(0, "b")),
    "CONCATENATION": lambda op, _, __, *parts: torch.cat(parts, op.option(0)),
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "Convolution2DTransposeBias": _transposed_convolution,
    "HARD_SWISH": lambda _, __, ___, x: F.hardswish(x),
    "LOGISTIC": lambda _, __, ___, x: x.sigmoid(),
    "RELU": lambda _, __, ___, x: x.relu(),
    "PRELU": lambda _, __, ___, x, slope: torch.where(x > 0, x, slope * x),
    "MAX_POOL_2D": _max_pooling,
    "MEAN": lambda _, __, ___, x, axes: x.mean(axes.int().tolist(), keepdim=True),
    "PAD": _pad,
    "RESHAPE": lambda _, __, shape, x, *rest: x.reshape(shape),
    "RESIZE_BILINEAR": _resize,
    "STRIDED_SLICE": lambda _, __, ___, x, *rest: x,
    "Landmarks2TransformMatrix": _crop_matrix,
    "TransformLandmarks": _landmark_transform,
    "TransformTensorBilinear": _feature_crop,
}
