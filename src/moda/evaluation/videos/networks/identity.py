"""Is it still the same person? Cosines of face embeddings (CSIM)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moda.structures import Floats, Picture
from moda.structures.landmarks import LEFT_IRIS, MOUTH_CORNERS, RIGHT_IRIS, Array

FACE_SIZE_PX, EMBEDDING = 112, 512
NOSE_TIP = 1
FIVE_POINTS = (RIGHT_IRIS[0], LEFT_IRIS[0], NOSE_TIP, *MOUTH_CORNERS)
"""Of the 478: pupils, nose, corners of the mouth."""
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
     [70.7299, 92.2041]]
)  # fmt: skip
"""Where face recognition networks expect these points in 112 x 112 pixels."""
DEPTHS = {50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}
"""Blocks per stage of the networks with so many layers."""
WIDTHS = (64, 128, 256, 512)

Embed = Callable[[Picture], Floats]
"""An aligned face (112, 112, 3), RGB, to its embedding (n,)."""


def align_face(picture: Picture, landmarks: Array) -> Picture:
    """(112, 112, 3) the face turned upright onto the template, from landmarks (478, 3)."""
    points = landmarks[list(FIVE_POINTS), :2].astype(np.float64)
    size = (FACE_SIZE_PX, FACE_SIZE_PX)
    aligned = cv2.warpAffine(picture, similarity_2d(points, TEMPLATE), size)
    return np.asarray(aligned, np.uint8)


def similarity_2d(source: Array, target: Array) -> Array:
    """(2, 3) least-squares rotation, scale and shift of points (N, 2) onto others.

    In complex numbers ``target = a source + b``, a straight line. Source: S. Umeyama, PAMI 1991,
    in the plane.
    """
    z, w = (points[:, 0] + 1j * points[:, 1] for points in (source, target))
    centred = z - z.mean()
    a = (centred.conj() * (w - w.mean())).sum() / (np.abs(centred) ** 2).sum()
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def cosine(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Cosine of the angle between two embeddings (n,)."""
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norms if norms > 0.0 else 0.0


def sface(path: Path) -> Embed:
    """OpenCV's face recogniser SFace from its published ONNX file.

    Source: Y. Zhong et al., "SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face
    Recognition", TIP 2021.
    """
    recogniser = cv2.FaceRecognizerSF.create(str(path), "")

    def embed(face: Picture) -> Floats:
        blue_first = np.ascontiguousarray(face[..., ::-1])
        return np.asarray(recogniser.feature(blue_first), np.float32).ravel()

    return embed


def arcface(network: FaceNetwork) -> Embed:
    """A network of the ArcFace family with its own weights.

    Source: J. Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR
    2019.
    """

    @torch.inference_mode()
    def embed(face: Picture) -> Floats:
        values = torch.from_numpy(face.astype(np.float32) / 127.5 - 1.0)
        return network(values.permute(2, 0, 1)[None])[0].numpy()

    return embed


class FaceNetwork(nn.Module):
    """The improved residual network that ArcFace weights are published for: (B, 3, 112, 112) RGB in
    -1..1 -> (B, 512). The names of the parts are those of the usual training code."""

    def __init__(self, num_layers: int = 50) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1, self.prelu = nn.BatchNorm2d(64), nn.PReLU(64)
        channels = 64
        for stage, (width, depth) in enumerate(zip(WIDTHS, DEPTHS[num_layers], strict=True), 1):
            blocks = [
                ResidualBlock(channels if index == 0 else width, width, 2 if index == 0 else 1)
                for index in range(depth)
            ]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            channels = width
        self.bn2 = nn.BatchNorm2d(512)
        self.fc = nn.Linear(512 * 7 * 7, EMBEDDING)
        self.features = nn.BatchNorm1d(EMBEDDING)

    def forward(self, faces: Tensor) -> Tensor:
        features = self.prelu(self.bn1(self.conv1(faces)))
        for stage in range(1, 5):
            features = self.get_submodule(f"layer{stage}")(features)
        return self.features(self.fc(self.bn2(features).flatten(1)))


class ResidualBlock(nn.Module):
    """Norm, convolution, norm, rectifier, convolution, norm, beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn2, self.prelu = nn.BatchNorm2d(width), nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features if self.downsample is None else self.downsample(features)
        middle = self.prelu(self.bn2(self.conv1(self.bn1(features))))
        return self.bn3(self.conv2(middle)) + shortcut
