"""The motion extractor at full size against recordings, and the faces made of its numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from moda.encoders.neural.motion_extractor import ExtractedMotion, MotionExtractor, extract_faces
from moda.errors import InputError
from moda.structures.keypoints import split_motion
from published_weights import load_filled, recorded_picture

GOLDEN = Path(__file__).parents[2] / "data" / "published" / "liveportrait_nets.npz"
LIMIT = 1e-4


@pytest.fixture(scope="module")
def extractor() -> MotionExtractor:
    with torch.device("meta"):
        extractor = MotionExtractor()
    load_filled("motion_extractor", extractor)
    return extractor


@torch.inference_mode()
def test_every_stage_and_head(extractor: MotionExtractor) -> None:
    stages: dict[str, Tensor] = {}
    handles = [
        stage.register_forward_hook(
            lambda module, inputs, output, index=index: stages.update({f"stage{index}": output})
        )
        for index, stage in enumerate(extractor.detector.stages)
    ]
    extracted = extractor(recorded_picture())
    for handle in handles:
        handle.remove()
    names = ("pitch", "yaw", "roll", "t", "exp", "scale", "kp")
    found = dict(zip(names, extracted, strict=True))
    found |= {f"{name}_slice": stage[:, ::16, ::4, ::4] for name, stage in stages.items()}
    with np.load(GOLDEN) as file:
        expected = {key[2:]: file[key] for key in file if key.startswith("M/")}
    assert set(found) == set(expected)
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=LIMIT, err_msg=name)


class Heads(MotionExtractor):
    """A small extractor that remembers what it was given."""

    def __init__(self) -> None:
        super().__init__(depths=(1, 1), channels=(4, 8))
        self.given: list[Tensor] = []
        self.said: list[ExtractedMotion] = []

    def forward(self, pictures: Tensor) -> ExtractedMotion:
        self.given.append(pictures)
        self.said.append(super().forward(pictures))
        return self.said[-1]


def test_faces_hold_the_numbers_of_the_heads() -> None:
    torch.manual_seed(0)
    heads = Heads().eval()
    pictures = np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), dtype=np.uint8)
    faces = extract_faces(heads, pictures)
    (given,), (said,) = heads.given, heads.said
    np.testing.assert_allclose(given.numpy(), pictures.transpose(0, 3, 1, 2) / 255, atol=1e-7)
    bins = 3 * torch.arange(66) - 97.5
    for index, face in enumerate(faces):
        motion = split_motion(face.motion)
        np.testing.assert_array_equal(
            face.canonical_keypoints.ravel(), said.canonical_keypoints[index]
        )
        np.testing.assert_array_equal(motion.expression.ravel(), said.expression[index])
        np.testing.assert_array_equal(motion.scale, said.scale[index, 0])
        np.testing.assert_array_equal(motion.translation, said.translation[index])
        for name in ("pitch", "yaw", "roll"):
            logits = getattr(said, f"{name}_logits")[index]
            expected = float(logits.double().softmax(0) @ bins.double())
            assert getattr(motion, name) == pytest.approx(expected, abs=1e-4)
        assert face.motion.dtype == np.float32


@pytest.mark.parametrize(
    "pictures",
    [
        np.zeros((2, 128, 256, 3), np.uint8),
        np.zeros((256, 256, 3), np.uint8),
        np.zeros((2, 256, 256, 3), np.float32),
    ],
)
def test_other_pictures_are_refused(pictures: np.ndarray) -> None:
    with pytest.raises(InputError, match="needs uint8"):
        extract_faces(Heads(), pictures)
