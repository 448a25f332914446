"""SyncNet: the published layers, cepstra of an independent package, scores with known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moda.errors import InputError
from moda.evaluation.videos.networks.syncnet import (
    CLIP_FRAMES,
    LipEmbedder,
    SyncNet,
    cepstra,
    crop_face,
    embed_speech,
    face_square,
    mel_filters,
    sync_score,
)

PUBLISHED_LAYERS = {
    "netcnnaud": [(0, 64, 1, 3, 3), (4, 192, 64, 3, 3), (8, 384, 192, 3, 3), (11, 256, 384, 3, 3),
                  (14, 256, 256, 3, 3), (18, 512, 256, 5, 4)],
    "netcnnlip": [(0, 96, 3, 5, 7, 7), (4, 256, 96, 1, 5, 5), (8, 256, 256, 1, 3, 3),
                  (11, 256, 256, 1, 3, 3), (14, 256, 256, 1, 3, 3), (18, 512, 256, 1, 6, 6)],
    "netfcaud": [(0, 512, 512), (3, 1024, 512)],
    "netfclip": [(0, 512, 512), (3, 1024, 512)],
}  # fmt: skip
"""Place in the list and shape of the weights, of the authors' published network."""
PUBLISHED_PARAMETERS = 13_631_616

RECORDED_CEPSTRA = {
    0: [19.8536, 1.6198, 7.1607, 38.4345, -25.9616, -16.0793, 18.2007, -45.612, -27.1951, 0.1405,
        -47.5796, -18.3452, 0.3612],
    20: [20.548, 5.4974, -11.9628, 0.2203, -55.7574, -34.492, 19.0534, -15.859, 19.8454, 45.2599,
         -15.411, -3.4236, 0.1914],
    48: [21.1959, 5.1012, -29.3301, -8.6232, -19.8099, 20.307, 46.4994, -32.6037, -27.149, 11.2206,
         -9.1051, 20.9355, 15.5295],
}  # fmt: skip
"""Of :func:`chirp`, by the package python_speech_features 0.6, which the authors use."""


def chirp() -> np.ndarray:
    time = np.arange(8000) / 16000
    rising = 0.3 * np.sin(2 * np.pi * (200 * time + 900 * time * time))
    return (rising + 0.05 * np.sin(2 * np.pi * 3100 * time)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> SyncNet:
    torch.manual_seed(0)
    return SyncNet().eval()


class TestNetwork:
    def test_layers_are_the_published_ones(self, network: SyncNet) -> None:
        state = network.state_dict()
        for part, layers in PUBLISHED_LAYERS.items():
            for place, *shape in layers:
                assert state[f"{part}.{place}.weight"].shape == tuple(shape), (part, place)
        assert sum(p.numel() for p in network.parameters()) == PUBLISHED_PARAMETERS

    @torch.inference_mode()
    def test_embeddings_have_the_published_size(self, network: SyncNet) -> None:
        assert network.embed_speech(torch.zeros(2, 1, 13, 20)).shape == (2, 1024)
        assert network.embed_lips(torch.zeros(1, 3, 5, 224, 224)).shape == (1, 1024)

    @torch.inference_mode()
    def test_stream_of_frames_is_every_five_in_a_row(self, network: SyncNet) -> None:
        faces = np.random.default_rng(0).integers(0, 255, (8, 224, 224, 3)).astype(np.uint8)
        embedder = LipEmbedder(network, batch=3)
        for face in faces:
            embedder.see(face)
        found = embedder.finish()
        assert found.shape == (4, 1024)
        last = torch.from_numpy(faces[3:8]).float().permute(3, 0, 1, 2)[None]
        torch.testing.assert_close(found[3:], network.embed_lips(last), rtol=1e-4, atol=1e-4)
        assert len(LipEmbedder(network).finish()) == 0

    @torch.inference_mode()
    def test_speech_begins_with_its_frame(self, network: SyncNet) -> None:
        sound = np.random.default_rng(1).standard_normal(16000).astype(np.float32) * 0.1
        found = embed_speech(network, sound, 100, batch=7)
        assert len(found) == (99 - 20) // 4 + 1
        piece = torch.from_numpy(cepstra(sound)).float().T[:, 12:32]
        torch.testing.assert_close(
            found[3:4], network.embed_speech(piece[None, None]), rtol=1e-4, atol=1e-4
        )
        assert len(embed_speech(network, sound[:1000], 5)) == 0


class TestCepstra:
    def test_equal_those_of_an_independent_package(self) -> None:
        found = cepstra(chirp())
        assert found.shape == (49, 13)
        for frame, expected in RECORDED_CEPSTRA.items():
            np.testing.assert_allclose(found[frame], expected, atol=2e-4)

    def test_silence_is_finite_and_filters_overlap_to_one(self) -> None:
        assert np.isfinite(cepstra(np.zeros(1600, np.float32))).all()
        filters = mel_filters()
        assert filters.shape == (26, 257)
        np.testing.assert_allclose(filters.sum(0)[20:200], 1.0, atol=0.2)


class TestScore:
    @pytest.mark.parametrize("offset", [-6, 0, 9])
    def test_constructed_pair_with_a_known_offset(self, offset: int) -> None:
        generator = torch.Generator().manual_seed(offset + 50)
        path = torch.randn(200, 32, generator=generator)
        lips = path[40:160]
        speech = path[40 + offset : 160 + offset]
        score = sync_score(lips, speech)
        assert score.offset_frames == offset
        # Beyond the ends speech counts as zero: those frames alone differ.
        missing = abs(offset) / 120
        assert score.distance == pytest.approx(
            missing * 32**0.5, abs=0.15 * missing * 32**0.5 + 1e-4
        )
        assert score.confidence == pytest.approx((2 * 32) ** 0.5 - score.distance, rel=0.1)

    def test_equals_the_definition(self) -> None:
        generator = torch.Generator().manual_seed(0)
        lips, speech = torch.randn(2, 12, 4, generator=generator)
        distances = []
        for shift in range(-3, 4):
            at_shift = []
            for frame in range(12):
                other = speech[frame + shift] if 0 <= frame + shift < 12 else torch.zeros(4)
                at_shift.append(float(((lips[frame] - other + 1e-6) ** 2).sum().sqrt()))
            distances.append(np.mean(at_shift))
        score = sync_score(lips, speech, max_offset=3)
        assert score.distance == pytest.approx(min(distances), rel=1e-5)
        assert score.confidence == pytest.approx(
            sorted(distances)[3] - min(distances), rel=1e-4, abs=1e-6
        )
        assert score.offset_frames == 3 - int(np.argmin(distances))

    def test_pairs_are_required(self) -> None:
        with pytest.raises(InputError, match="give pairs"):
            sync_score(torch.zeros(3, 4), torch.zeros(2, 4))


class TestCrop:
    def test_face_fills_the_published_part_of_the_square(self) -> None:
        picture = np.zeros((400, 400, 3), np.uint8)
        picture[100:200, 150:250] = (200, 0, 0)  # the face: half side 50 around (200, 150)
        crop = crop_face(picture, np.array([200.0, 150.0]), 50.0)
        assert crop.shape == (224, 224, 3)
        red = crop[..., 2] > 100
        rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
        side = 224 / 1.4
        assert rows[0] == 0
        assert rows[-1] + 1 == pytest.approx(side, abs=1.5)
        assert columns[0] == pytest.approx(0.2 / 1.4 * 224, abs=1.5)
        assert len(columns) == pytest.approx(side, abs=2)

    def test_jitter_of_one_frame_moves_nothing(self) -> None:
        landmarks = np.zeros((30, 478, 3))
        landmarks[:, 152, 1], landmarks[:, 10, 1] = 140.0, 40.0
        landmarks[:, 454, 0] = 80.0
        landmarks[12] += 25.0
        centres, halves = face_square(landmarks)
        assert centres.shape == (30, 2)
        assert np.ptp(centres, axis=0).max() < 1e-9
        np.testing.assert_allclose(halves, 70.0)


def test_five_frames_are_a_fifth_of_a_second() -> None:
    assert CLIP_FRAMES / 25 == 20 / 100
