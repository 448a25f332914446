"""Face embeddings: the numbers of an independent implementation, and what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch

from moda.encoders.face import FaceModels
from moda.errors import CheckpointError
from moda.evaluation.videos.metrics import METRICS
from moda.evaluation.videos.networks.face_embedding import (
    CHIP_SIZE_PX,
    FILE,
    FIVE_POINTS,
    KIND,
    PADDING,
    TEMPLATE,
    Block,
    FaceEmbedder,
    embed_chips,
    embed_faces,
    face_chip,
    load_face_embedder,
)
from moda.evaluation.videos.networks.identity import cosine
from moda.evaluation.videos.networks.learned import FaceScorer, available_scorers
from moda.evaluation.videos.references import Box, RealVideo, Reference
from moda.evaluation.videos.rows import REAL, STILL
from moda.media import read_image
from moda.structures import Picture
from moda.structures.landmarks import Array
from moda.weights.checkpoints import read_network_weights, save_network_weights
from moda.weights.files import ASSETS
from paths import EXAMPLES

SAME_PERSON_DISTANCE = 0.6
"""Below this Euclidean distance dlib takes two faces for one person."""

GOLDEN = Path(__file__).parents[3] / "data" / "face_embedding.npz"
"""Chips (the example portrait and a made pattern), and what face-api.js 0.22.2 with tfjs-core 1.7.0
makes of them in node.js with the weights of @vladmandic/face-api 1.7.15."""


class Face(NamedTuple):
    picture: Picture
    landmarks: Array


@pytest.fixture(scope="module")
def network() -> FaceEmbedder:
    return load_face_embedder()


@pytest.fixture(scope="module")
def face() -> Face:
    picture = read_image(EXAMPLES / "portrait.jpg")
    return Face(picture, FaceModels().find_faces(picture)[0].points)


class TestNetwork:
    def test_numbers_are_those_of_an_independent_implementation(
        self, network: FaceEmbedder
    ) -> None:
        golden = np.load(GOLDEN)
        embeddings = embed_chips(network, golden["chips"])
        np.testing.assert_allclose(embeddings, golden["embeddings"], atol=1e-4)

    def test_map_sizes_that_do_not_halve_evenly_are_filled_below_and_right(self) -> None:
        block = Block(2, 4, halves=True)
        torch.nn.init.zeros_(block.second.weight)
        torch.nn.init.ones_(block.second.bias)
        result = block(torch.full((1, 2, 8, 8), 3.0))[0]
        assert result.shape == (4, 4, 4)
        assert result[0, :3, :3].unique() == 4.0
        assert result[0, 3].unique() == result[0, :, 3].unique() == 3.0
        assert result[3, :3, :3].unique() == 1.0

    def test_no_faces_have_no_embeddings(self, network: FaceEmbedder) -> None:
        assert embed_chips(network, []).shape == (0, 128)


class TestFile:
    def test_it_is_small_and_says_where_it_comes_from(self) -> None:
        path = ASSETS / FILE
        assert path.stat().st_size < 7e6
        origin = read_network_weights(path, KIND).metadata["origin"]
        assert "CC0" in origin
        assert "MIT" in origin

    def test_a_file_with_a_tensor_missing_is_refused_by_name(self, tmp_path: Path) -> None:
        tensors = read_network_weights(ASSETS / FILE, KIND).weights
        for key in ("head.low", "blocks.0.first.bias"):
            save_network_weights(
                tmp_path / "part", KIND, {k: v for k, v in tensors.items() if k != key}
            )
            with pytest.raises(CheckpointError, match=key.replace(".", r"\.")):
                load_face_embedder(tmp_path / "part")

    def test_a_missing_file_is_said_to_be(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="reinstall"):
            load_face_embedder(tmp_path / "none")


class TestChip:
    def test_the_example_is_cut_as_the_recorded_chip(self, face: Face) -> None:
        recorded = np.load(GOLDEN)["chips"][0].astype(float)
        assert np.abs(face_chip(*face) - recorded).mean() < 1.0

    def test_points_come_to_lie_on_the_template(self) -> None:
        places = (PADDING + TEMPLATE) / (1 + 2 * PADDING) * CHIP_SIZE_PX
        turn = 3.0 * np.array([[0.8, -0.6], [0.6, 0.8]])
        landmarks = np.zeros((478, 3))
        landmarks[list(FIVE_POINTS), :2] = places @ turn.T + 300.0
        picture: Picture = np.zeros((900, 900, 3), np.uint8)
        x, y = landmarks[FIVE_POINTS[4], :2].astype(int)
        picture[y - 7 : y + 8, x - 7 : x + 8] = 255
        rows, columns = np.nonzero(face_chip(picture, landmarks)[..., 0] > 128)
        assert (columns.mean(), rows.mean()) == pytest.approx(tuple(places[4]), abs=1.0)

    def test_a_turned_and_smaller_picture_gives_the_same_person(
        self, network: FaceEmbedder, face: Face
    ) -> None:
        matrix = cv2.getRotationMatrix2D((256.0, 256.0), 25.0, 0.6)
        turned = np.asarray(cv2.warpAffine(face.picture, matrix, (512, 512)), np.uint8)
        moved = face.landmarks.copy()
        moved[:, :2] = face.landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        one, two = embed_faces(network, [face.picture, turned], np.stack([face.landmarks, moved]))
        assert cosine(one, two) > 0.98
        assert np.linalg.norm(one - two) < SAME_PERSON_DISTANCE / 2


def seen(scorer: FaceScorer, face: Face, row: str, frames: list[Picture]) -> dict[str, float]:
    """Figures of a video whose frame 0 is the portrait, and whose face keeps its place."""
    height, width = face.picture.shape[:2]
    box = Box(0, 0, width, height, (width, height))
    nowhere = Path("nowhere")
    reference = Reference(
        "clip", face.picture, face.landmarks, np.zeros(640, np.float32), len(frames), nowhere,
        nowhere, real=RealVideo(nowhere, 0, len(frames), box), source_index=0,
    )  # fmt: skip
    scorer.start(row, reference, np.stack([face.landmarks] * len(frames)))
    for index, frame in enumerate(frames):
        scorer.see(index, frame, None)
    return scorer.finish()


class TestScorer:
    def test_nearer_videos_score_better_and_the_source_frame_does_not_count(
        self, network: FaceEmbedder, face: Face
    ) -> None:
        generator = np.random.default_rng(0)

        def frames(noise: float, blur: int) -> list[Picture]:
            made = [
                np.clip(face.picture + generator.normal(0.0, noise, face.picture.shape), 0, 255)
                for _ in range(8)
            ]
            blurred = [cv2.blur(frame, (blur, blur)).astype(np.uint8) for frame in made]
            return [np.zeros_like(face.picture), *blurred]

        scorer = FaceScorer(network, min_faces=8)
        cosines = {
            row: seen(scorer, face, row, frames(*how))["identity_similarity"]
            for row, how in {REAL: (8, 1), "near": (8, 3), "far": (8, 25)}.items()
        }
        assert cosines[REAL] > cosines["near"] > cosines["far"]
        assert cosines[REAL] > 0.99
        distances = {row: found["face_frechet"] for row, found in scorer.of_rows().items()}
        assert set(distances) == {"near", "far"}
        assert 0.0 < distances["near"] < distances["far"]
        assert not scorer.left_out()

    def test_too_few_frames_have_no_distance_and_the_report_says_so(
        self, network: FaceEmbedder, face: Face
    ) -> None:
        scorer = FaceScorer(network, min_faces=4)
        seen(scorer, face, REAL, [face.picture] * 5)
        seen(scorer, face, STILL, [face.picture] * 4)
        assert scorer.of_rows() == {}
        (entry,) = scorer.left_out()
        assert "stand-in for FID" in entry.metrics
        assert entry.reason.endswith(f"4 frames beside the source frames, {STILL} has 3")

    def test_needs_nothing_to_be_downloaded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MODA_HOME", str(tmp_path))
        scorers, _ = available_scorers()
        assert any(isinstance(scorer, FaceScorer) for scorer in scorers)

    def test_stand_ins_are_named_so(self) -> None:
        assert "stand-in for CSIM" in METRICS["identity_similarity"].label
        assert "stand-in for FID" in METRICS["face_frechet"].label
