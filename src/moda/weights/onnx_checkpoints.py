"""Motion models that run without torch."""

from __future__ import annotations

from typing import NamedTuple

from moda.config import ModelConfig
from moda.graphs import weights_of_motion
from moda.motion.onnx_network import OnnxNetwork
from moda.structures import MotionSpace
from moda.weights.files import require_same_tensors
from moda.weights.motion_files import MotionFile


class OnnxCheckpoint(NamedTuple):
    """What :func:`onnx_checkpoint` makes of a file."""

    model: OnnxNetwork
    space: MotionSpace
    config: ModelConfig
    metadata: dict[str, str]


def onnx_checkpoint(file: MotionFile) -> OnnxCheckpoint:
    """What was read, with a network of onnxruntime.

    Raises :class:`CheckpointError` naming every missing, unexpected or mis-shaped tensor.
    """
    require_same_tensors(file.weights, weights_of_motion(), "weights")
    model = OnnxNetwork(file.config.motion, file.weights)
    return OnnxCheckpoint(model, file.space, file.config, file.metadata)
