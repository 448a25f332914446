"""A face becomes 128 numbers, near each other for one person and far apart for two.

The network is the residual one with 29 layers that D. King trained for dlib (weights CC0), with the
8-bit weights that face-api.js made of it (MIT), converted by ``scripts/convert_face_embedding.py``.
Both licences allow any use, so the file lies in the package. Its cosines stand in for CSIM and its
Gaussians for those of FID where the networks that papers use for them cannot be had.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from moda.encoders.regions import FaceRegion, sample_region
from moda.errors import CheckpointError
from moda.evaluation.videos.networks.identity import similarity_2d
from moda.structures import Floats, Picture
from moda.structures.landmarks import Array
from moda.weights.checkpoints import load_weights, read_network_weights
from moda.weights.files import ASSETS

FILE, KIND = "face_embedding.safetensors", "face embedding"
CHIP_SIZE_PX, EMBEDDING = 150, 128
PADDING = 0.25
"""What a chip shows around the face on every side, in sides of the face's own square."""
MEAN_RGB, LEVELS = (122.782, 117.001, 104.298), 256.0
FIVE_POINTS = (263, 362, 33, 133, 2)
"""Of the 478: outer and inner corner of the left eye and of the right eye, base of the nose."""
TEMPLATE = np.array(
    [[0.8595674595992, 0.2134981538014], [0.6460604764104, 0.2289674387677],
     [0.1205750620789, 0.2137274526848], [0.3340850613712, 0.2290642403242],
     [0.4901123135679, 0.6277975316475]]
)  # fmt: skip
"""Where dlib expects these points in the face's own square, 0 to 1."""
STAGES = ((32, False, 3), (64, True, 3), (128, True, 2), (256, True, 2), (256, True, 0))
"""Channels, whether a block that halves the map comes first, and how many blocks follow it."""
BATCH = 16


class FaceEmbedder(nn.Module):
    """Chips (B, 150, 150, 3) uint8 RGB -> embeddings (B, 128), not normalised.

    Norms are folded into the convolutions. Source: K. He et al., "Deep Residual Learning for Image
    Recognition", CVPR 2016, in the variant of D. King, "High Quality Face Recognition with Deep
    Metric Learning", 2017: half the filters, and shortcuts that average and add empty channels.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        channels, blocks = 32, []
        for width, halves, depth in STAGES:
            if halves:
                blocks.append(Block(channels, width, halves=True))
            blocks += [Block(width, width) for _ in range(depth)]
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(256, EMBEDDING, bias=False)
        self.register_buffer("mean", torch.tensor(MEAN_RGB), persistent=False)

    def forward(self, chips: Tensor) -> Tensor:
        pictures = ((chips.float() - self.mean) / LEVELS).permute(0, 3, 1, 2)
        features = functional.max_pool2d(functional.relu(self.stem(pictures)), 3, stride=2)
        return self.head(self.blocks(features).mean((2, 3)))


class Block(nn.Module):
    """Two convolutions beside a shortcut; the block may halve the map and add channels."""

    def __init__(self, channels: int, width: int, *, halves: bool = False) -> None:
        super().__init__()
        self.halves, self.added = halves, width - channels
        stride, padding = (2, 0) if halves else (1, 1)
        self.first = nn.Conv2d(channels, width, 3, stride, padding)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        result = self.second(functional.relu(self.first(features)))
        if self.halves:
            features = functional.avg_pool2d(features, 2)
            below, right = (features.shape[axis] - result.shape[axis] for axis in (2, 3))
            result = functional.pad(result, (0, right, 0, below))
            features = functional.pad(features, (0, 0, 0, 0, 0, self.added))
        return functional.relu(features + result)


def load_face_embedder(path: Path | None = None) -> FaceEmbedder:
    """The network with the weights of the package, or of another file of this kind.

    A weight that is stored as a byte is ``low + step * byte``, with a low and a step of its
    channel.

    Raises:
        CheckpointError: the file is missing, damaged, or not this network.
    """
    path = path or ASSETS / FILE
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; reinstall moda-talking-head")
    stored = read_network_weights(path, KIND).weights
    network = FaceEmbedder()
    load_weights(network, {key: _widened(stored, key) for key in stored if not _is_coding(key)})
    return network.eval()


def _is_coding(key: str) -> bool:
    return key.endswith((".low", ".step"))


def _widened(stored: Mapping[str, Tensor], key: str) -> Tensor:
    """A tensor in float32."""
    value, name = stored[key], key.removesuffix(".weight")
    if value.dtype != torch.uint8:
        return value
    try:
        low, step = (
            stored[f"{name}.{part}"].view(-1, *[1] * (value.dim() - 1)) for part in ("low", "step")
        )
    except KeyError as error:
        raise CheckpointError(f"{key} is bytes, but {error.args[0]} is missing") from error
    return low + step * value


def face_chip(picture: Picture, landmarks: Array) -> Picture:
    """(150, 150, 3) the face upright with a margin, black outside of the picture.

    Corners of the eyes and base of the nose come as near as a similarity can bring them to where
    dlib's ``get_face_chip_details`` puts them. Large pictures are averaged down.

    Args:
        picture: (H, W, 3) RGB.
        landmarks: (478, 3) pixels.
    """
    places = (PADDING + TEMPLATE) / (1.0 + 2.0 * PADDING) * CHIP_SIZE_PX
    points = landmarks[list(FIVE_POINTS), :2].astype(np.float64)
    matrix = similarity_2d(places, points)
    x, y = matrix @ [CHIP_SIZE_PX / 2, CHIP_SIZE_PX / 2, 1.0]
    cosine, sine = matrix[:, 0]
    side = CHIP_SIZE_PX * float(np.hypot(cosine, sine))
    region = FaceRegion(float(x), float(y), side, float(np.arctan2(sine, cosine)))
    return sample_region(picture, region, CHIP_SIZE_PX, border=cv2.BORDER_CONSTANT)


@torch.inference_mode()
def embed_chips(network: FaceEmbedder, chips: Iterable[Picture]) -> Floats:
    """Chips (150, 150, 3) to embeddings (N, 128) as the network gives them, not normalised."""
    rest, parts = iter(chips), [np.zeros((0, EMBEDDING), np.float32)]
    while group := list(islice(rest, BATCH)):
        parts.append(network(torch.from_numpy(np.stack(group))).numpy())
    return np.concatenate(parts)


def embed_faces(network: FaceEmbedder, frames: Iterable[Picture], landmarks: Array) -> Floats:
    """Embeddings (T, 128) of one face in frames (H, W, 3), with its landmarks (T, 478, 3)."""
    chips = (face_chip(frame, points) for frame, points in zip(frames, landmarks, strict=True))
    return embed_chips(network, chips)
