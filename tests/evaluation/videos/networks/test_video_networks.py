"""Networks whose weights others publish: sizes, padding, alignment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from moda.evaluation.videos.networks.i3d import InflatedInception, Unit, pad_same, pool_same
from moda.evaluation.videos.networks.identity import (
    FIVE_POINTS,
    TEMPLATE,
    FaceNetwork,
    ResidualBlock,
    align_face,
    cosine,
    similarity_2d,
)
from moda.evaluation.videos.networks.learned import FrechetScorer, IdentityScorer, Scorer
from moda.evaluation.videos.references import Box, RealVideo, Reference
from moda.evaluation.videos.rows import REAL
from moda.structures import Picture
from moda.structures.landmarks import fit_similarity


class TestInflatedInception:
    def test_has_as_many_weights_as_the_published_network(self) -> None:
        with torch.device("meta"):
            network = InflatedInception()
        assert sum(p.numel() for p in network.parameters()) == 12_697_264
        state = network.state_dict()
        assert state["Conv3d_1a_7x7.conv3d.weight"].shape == (64, 3, 7, 7, 7)
        assert state["Mixed_4f.b2b.conv3d.weight"].shape == (128, 32, 3, 3, 3)
        assert state["logits.conv3d.weight"].shape == (400, 1024, 1, 1, 1)

    def test_sizes_on_the_way(self) -> None:
        with torch.device("meta"):
            network = InflatedInception().eval()
            assert network(torch.zeros(2, 3, 16, 224, 224)).shape == (2, 400)

    @pytest.mark.parametrize("size", [7, 8, 15, 16])
    def test_padding_is_that_of_tensorflow(self, size: int) -> None:
        features = torch.randn(1, 1, size, size, size)
        padded = pad_same(features, (7, 7, 7), (2, 2, 2))
        # TensorFlow's rule for SAME, as its documentation states it.
        missing = max(7 - 2, 0) if size % 2 == 0 else max(7 - size % 2, 0)
        assert padded.shape[-1] == size + missing
        before = missing // 2
        torch.testing.assert_close(padded[..., before : before + size], pad_one(features, missing))

    def test_convolution_with_stride_halves_rounded_up(self) -> None:
        unit = Unit(1, 2, (3, 3, 3), (2, 2, 2)).eval()
        assert unit(torch.zeros(1, 1, 9, 10, 11)).shape == (1, 2, 5, 5, 6)
        pooled = pool_same(torch.ones(1, 1, 5, 6, 7), (3, 3, 3), (2, 2, 2))
        assert pooled.shape == (1, 1, 3, 3, 4)
        assert pooled.min() == 1.0


def pad_one(features: torch.Tensor, missing: int) -> torch.Tensor:
    """Padded in the first two directions of space only."""
    before, after = missing // 2, missing - missing // 2
    return functional.pad(features, (0, 0, before, after, before, after))


class TestFaceNetwork:
    @pytest.mark.parametrize(("layers", "millions"), [(50, 43.59), (100, 65.16)])
    def test_has_as_many_weights_as_the_published_networks(
        self, layers: int, millions: float
    ) -> None:
        with torch.device("meta"):
            network = FaceNetwork(layers)
            assert network.eval()(torch.zeros(1, 3, 112, 112)).shape == (1, 512)
        count = sum(p.numel() for p in network.parameters())
        assert count / 1e6 == pytest.approx(millions, abs=0.01)

    def test_a_block_without_branch_is_its_shortcut(self) -> None:
        block = ResidualBlock(4, 4, 1).eval()
        torch.nn.init.zeros_(block.bn3.weight)
        features = torch.randn(1, 4, 6, 6)
        torch.testing.assert_close(block(features), features)


class TestAlignment:
    def test_similarity_equals_the_fit_in_space(self) -> None:
        generator = np.random.default_rng(0)
        source, target = generator.standard_normal((2, 9, 2))
        flat = [np.pad(points, ((0, 0), (0, 1))) for points in (source, target)]
        fit = fit_similarity(*flat)
        matrix = similarity_2d(source, target)
        if np.linalg.det(fit.rotation[:2, :2]) > 0:
            np.testing.assert_allclose(matrix[:, :2], fit.scale * fit.rotation[:2, :2], atol=1e-9)
        moved = source @ matrix[:, :2].T + matrix[:, 2]
        nudged = [
            ((source @ (matrix[:, :2] * s).T + matrix[:, 2] + d - target) ** 2).sum()
            for s, d in ((1.01, 0), (0.99, 0), (1, 0.01), (1, -0.01))
        ]
        assert ((moved - target) ** 2).sum() < min(nudged)

    def test_known_turn_scale_and_shift(self) -> None:
        angle = np.radians(30)
        turn = 2.0 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        source = np.random.default_rng(1).standard_normal((5, 2))
        matrix = similarity_2d(source, source @ turn.T + [3.0, -1.0])
        np.testing.assert_allclose(matrix, np.column_stack([turn, [3.0, -1.0]]))

    def test_points_of_a_turned_face_come_to_lie_on_the_template(self) -> None:
        landmarks = np.zeros((478, 3))
        landmarks[list(FIVE_POINTS), :2] = (TEMPLATE @ np.array([[0.0, 2.0], [-2.0, 0.0]])) + 300.0
        picture: Picture = np.zeros((600, 600, 3), np.uint8)
        x, y = landmarks[FIVE_POINTS[2], :2].astype(int)
        picture[y - 4 : y + 5, x - 4 : x + 5] = 255
        face = align_face(picture, landmarks)
        rows, columns = np.nonzero(face[..., 0] > 128)
        assert face.shape == (112, 112, 3)
        assert (columns.mean(), rows.mean()) == pytest.approx(tuple(TEMPLATE[2]), abs=1.0)

    def test_cosine(self) -> None:
        assert cosine(np.array([1.0, 0.0]), np.array([3.0, 3.0])) == pytest.approx(0.5**0.5)
        assert cosine(np.zeros(2), np.ones(2)) == 0.0


class TestFrechetScorer:
    """Frames are grey, their number the brightness: a feature says which frames it has seen."""

    @pytest.mark.parametrize(
        ("piece", "expected"), [(1, [*range(4), *range(5, 25)]), (16, [*range(5, 21)])]
    )
    def test_the_source_frame_is_in_no_piece(self, piece: int, expected: list[int]) -> None:
        seen: list[np.ndarray] = []

        def features(frames: np.ndarray) -> np.ndarray:
            seen.append(frames[:, 0, 0, 0])
            return frames[::piece, 0, 0].astype(np.float64)

        scorer = FrechetScorer("fvd", features, piece=piece, size_px=4, least=2)
        watch(scorer, REAL, count=25, source_index=4)
        assert np.concatenate(seen).tolist() == expected

    def test_too_few_frames_are_said(self) -> None:
        scorer = FrechetScorer(
            "fid", lambda frames: frames[:, 0, 0].astype(float), piece=1, size_px=4, least=8
        )
        watch(scorer, REAL, count=10, source_index=0)
        watch(scorer, "ours", count=8, source_index=0)
        assert scorer.of_rows() == {}
        (entry,) = scorer.left_out()
        assert entry.metrics == "FID"
        assert entry.reason == "it takes 8 frames beside the source frames, ours has 7"

    def test_csim_leaves_the_source_frame_out(self) -> None:
        brightness: list[float] = []

        def embed(face: np.ndarray) -> np.ndarray:
            brightness.append(float(face.max()))
            return np.ones(3, np.float32)

        scorer = IdentityScorer("csim_sface", embed)
        watch(scorer, REAL, count=11, source_index=5)
        assert brightness == [0.0, 0.0, 10.0], "portrait, frames 0 and 10"


def watch(scorer: Scorer, row: str, *, count: int, source_index: int) -> None:
    landmarks = np.random.default_rng(0).uniform(0.0, 63.0, (478, 3))
    nowhere, black = Path("nowhere"), np.zeros((64, 64, 3), np.uint8)
    reference = Reference(
        "clip", black, landmarks, np.zeros(640, np.float32), count, nowhere, nowhere,
        real=RealVideo(nowhere, 0, count, Box(0, 0, 64, 64, (64, 64))), source_index=source_index,
    )  # fmt: skip
    scorer.start(row, reference, np.stack([landmarks] * count))
    for index in range(count):
        scorer.see(index, black + np.uint8(index), None)
    scorer.finish()
