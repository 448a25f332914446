"""Networks of others that metrics need, and how their weights come in.

Nothing here is downloaded by itself. A file that somebody got is recognised by what is in it, read
as tensors and nothing else (``weights_only``), must have exactly the tensors of the network, and
becomes a checked file of ours.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from torch import Tensor, nn

from moda.errors import CheckpointError, OutputError
from moda.evaluation.videos.networks.i3d import InflatedInception
from moda.evaluation.videos.networks.identity import FaceNetwork
from moda.evaluation.videos.networks.syncnet import SyncNet
from moda.files import models_folder
from moda.weights.catalogue import (
    ARCFACE,
    I3D,
    METRIC_NETWORKS,
    SFACE,
    SYNCNET,
    MetricNetwork,
)
from moda.weights.checkpoints import (
    load_weights,
    read_network_weights,
    save_network_weights,
)
from moda.weights.files import require_same_tensors
from moda.weights.official import plain_tensors, read_official
from moda.weights.transfer import file_sha256

FOLDER = "evaluation"
COUNTERS = "num_batches_tracked"
"""Tensors of norms in training that some files lack; they mean nothing in evaluation."""


class Converted(NamedTuple):
    """What became of a file."""

    name: str
    path: Path


def weights_folder() -> Path:
    """Where converted weights are kept: ``evaluation`` inside the folder of the models."""
    return models_folder() / FOLDER


def find_weights(name: str) -> Path | None:
    """The converted file, None if it is not here."""
    path = weights_folder() / METRIC_NETWORKS[name].file_name
    return path if path.is_file() else None


def load_network(name: str, path: Path) -> nn.Module:
    """The network of a converted file, in evaluation mode. Raises :class:`CheckpointError`."""
    tensors = read_network_weights(path, f"metric {name}").weights
    network = build_network(name, tensors)
    load_weights(network, tensors)
    return network.eval()


def convert_weights(source: Path) -> Converted:
    """Recognise, check and convert a file that was brought from elsewhere.

    Raises:
        CheckpointError: it is none of the known networks, or not exactly one of them.
        OutputError: the folder cannot be written.
    """
    folder = weights_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".onnx":
            return _keep_onnx(source, folder)
        tensors = _read_tensors(source)
        entry = _recognise(tensors, source)
        expected = build_network(entry.name, tensors).state_dict()
        for key, value in expected.items():
            if key.endswith(COUNTERS):
                tensors.setdefault(key, value)
        require_same_tensors(tensors, expected, f"{source} as {entry.name}")
        target = folder / entry.file_name
        origin = {"source_sha256": file_sha256(source), "licence": entry.licence}
        save_network_weights(target, f"metric {entry.name}", tensors, metadata=origin)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error}); set MODA_HOME") from error
    return Converted(entry.name, target)


def build_network(name: str, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network that fits some tensors."""
    if name == ARCFACE:
        return FaceNetwork(100 if "layer3.29.conv1.weight" in tensors else 50)
    return {SYNCNET: SyncNet, I3D: InflatedInception}[name]()


def _keep_onnx(source: Path, folder: Path) -> Converted:
    """SFace stays the ONNX file that it is, if it opens and gives 128 numbers."""
    if not source.is_file():
        raise CheckpointError(f"{source} does not exist; download it first")
    try:
        recogniser = cv2.FaceRecognizerSF.create(str(source), "")
        size = np.asarray(recogniser.feature(np.zeros((112, 112, 3), np.uint8))).size
    except cv2.error as error:
        raise CheckpointError(f"{source} is no face recogniser of OpenCV ({error.err})") from error
    if size != 128:
        raise CheckpointError(f"{source} gives {size} numbers, SFace gives 128; it is another file")
    target = folder / METRIC_NETWORKS[SFACE].file_name
    shutil.copyfile(source, target)
    return Converted(SFACE, target)


def _read_tensors(source: Path) -> dict[str, Tensor]:
    if not source.is_file():
        raise CheckpointError(f"{source} does not exist; moda evaluate-weights list says where")
    values = read_official(source)
    nested = {key: value for key, value in values.items() if key.startswith("state_dict.")}
    tensors = plain_tensors(nested or values, source)
    return {
        key.removeprefix("state_dict.").removeprefix("module."): value
        for key, value in tensors.items()
    }


def _recognise(tensors: Mapping[str, Tensor], source: Path) -> MetricNetwork:
    for entry in METRIC_NETWORKS.values():
        if entry.mark and entry.mark in tensors:
            return entry
    known = ", ".join(entry.name for entry in METRIC_NETWORKS.values())
    raise CheckpointError(f"{source} is none of {known}: no tensor has a name that marks them")
