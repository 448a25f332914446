"""HuBERT features: the recorded stages, pieces without jumps, and the published sound treatment."""

from __future__ import annotations

import io
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import lfilter

from moda.encoders.neural.hubert import (
    FADE_FRAMES,
    HubertEncoder,
    Timing,
    build_hubert,
    encode_speech_hubert,
    encode_speech_hubert_reference,
    hubert_config,
    modern_hubert_keys,
    normalise_sound,
    pad_for_convolutions,
    pre_emphasise,
)
from moda.encoders.speech import SAMPLES_PER_FRAME, encode_speech
from moda.errors import ConfigError, MissingExtraError
from moda.structures import Floats, Speech
from official_files import official_shapes
from published_weights import fill, noise

GOLDEN = Path(__file__).parents[2] / "data" / "published" / "audio_features.npz"
LIMIT = 1e-4
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [8] * 7,
    "num_conv_pos_embedding_groups": 4,
}
POSITION_GAIN = "encoder.pos_conv_embed.conv.parametrizations.weight.original0"
PIECE_SECONDS = 13
PIECE, CONTEXT = PIECE_SECONDS * 25, 64
STEP = PIECE - 2 * CONTEXT - FADE_FRAMES


def built(config: dict[str, Any], network: str) -> HubertEncoder:
    """A small network in which positions weigh as much as in the large one."""
    model = build_hubert(config)
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    weights = fill(network, shapes)
    weights[POSITION_GAIN] *= (config["hidden_size"] / 768) ** 0.5
    model.load_state_dict(weights, assign=True)
    return HubertEncoder(model)


@pytest.fixture(scope="module")
def small() -> HubertEncoder:
    return built(SMALL, "small_hubert")


class Listener(HubertEncoder):
    """Keeps what it is given to hear."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.heard: list[Floats] = []

    def encode(self, samples: Floats, num_frames: int, timing: Timing = "stretched") -> Floats:
        self.heard.append(samples)
        return np.zeros((num_frames, self.feature_size), np.float32)


def syllables(seconds: float) -> Floats:
    """Noise that swells four times a second."""
    time = np.arange(int(seconds * 16_000)) / 16_000
    numbers = np.random.default_rng(0).standard_normal(len(time))
    return (0.1 * (1.1 + np.sin(8 * np.pi * time)) * numbers).astype(np.float32)


def cut(samples: Floats, length: int) -> list[Floats]:
    return [samples[start : start + length] for start in range(0, len(samples), length)]


def joined(stretches: Iterable[Speech]) -> tuple[Floats, Floats]:
    parts = list(stretches)
    return (
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.activity for part in parts]),
    )


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def wave(golden: dict[str, np.ndarray]) -> Floats:
    swell = (1 + np.sin(np.arange(golden["n_samples"]) / 900)).astype(np.float32)
    drawn = noise("input/audio/wave", int(golden["n_samples"])).numpy()
    return np.float32(0.1) * drawn * swell + np.float32(0.02)


@pytest.fixture(scope="module")
def stages(golden: dict[str, np.ndarray], wave: Floats) -> dict[str, np.ndarray]:
    """What every part of the network gives."""
    model = build_hubert({})
    official = fill("hubert_base", official_shapes("hubert_base"))
    model.load_state_dict(official, assign=True)
    seen: dict[str, np.ndarray] = {}
    parts = {
        "conv": model.feature_extractor,
        "proj": model.feature_projection,
        "pos": model.encoder.pos_conv_embed,
        "enc_in": model.encoder.layer_norm,
    }
    for name, part in parts.items():
        part.register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output.numpy()})
        )
    model.feature_projection.register_forward_pre_hook(
        lambda module, inputs: seen.update(interp=inputs[0].numpy())
    )
    frames = int(golden["n_frames"])
    features = HubertEncoder(model).encode(wave, frames)
    return {**seen, "emb": features.reshape(frames, 12, 768)}


class TestRecordedStages:
    """The network at full size against a recording of the released implementation."""

    def test_sound(self, golden: dict[str, np.ndarray], wave: Floats) -> None:
        normalised = normalise_sound(wave)
        np.testing.assert_allclose(normalised[:64], golden["normalised_head"], atol=LIMIT)
        kept = normalised[: int(golden["n_frames"]) * SAMPLES_PER_FRAME]
        padded = pad_for_convolutions(torch.from_numpy(kept)[None])[0].numpy()
        assert len(padded) == golden["padded_len"]
        np.testing.assert_allclose(padded[:64], golden["padded_head"], atol=LIMIT)
        np.testing.assert_allclose(padded[-64:], golden["padded_tail"], atol=LIMIT)

    @pytest.mark.parametrize(
        ("stage", "part"),
        [
            ("conv", np.s_[:, ::8, ::3]),
            ("interp", np.s_[:, ::3, ::8]),
            ("proj", np.s_[:, ::3, ::8]),
            ("pos", np.s_[:, ::3, ::8]),
            ("enc_in", np.s_[:, ::3, ::8]),
            ("emb", np.s_[::3, :, ::8]),
        ],
    )
    def test_stage(
        self,
        golden: dict[str, np.ndarray],
        stages: dict[str, np.ndarray],
        stage: str,
        part: tuple[slice, ...],
    ) -> None:
        np.testing.assert_allclose(stages[stage][part], golden[f"{stage}_slice"], atol=LIMIT)

    def test_every_layer_as_a_whole(
        self, golden: dict[str, np.ndarray], stages: dict[str, np.ndarray]
    ) -> None:
        features = stages["emb"].astype(np.float64)
        np.testing.assert_allclose(features.mean((0, 2)), golden["emb_mean"], atol=LIMIT)
        np.testing.assert_allclose(features.std((0, 2)), golden["emb_std"], atol=LIMIT)


class TestStream:
    def test_chunks_do_not_matter(self, small: HubertEncoder) -> None:
        sound = syllables(15.01)
        features, activity = joined(
            encode_speech_hubert(cut(sound, 48_011), small, chunk_seconds=PIECE_SECONDS)
        )
        for length in (1000, len(sound)):
            others = joined(
                encode_speech_hubert(cut(sound, length), small, chunk_seconds=PIECE_SECONDS)
            )
            np.testing.assert_array_equal(others[0], features)
            np.testing.assert_array_equal(others[1], activity)

    @pytest.mark.parametrize(
        "samples", [1, 639, 640, 641, PIECE * 640, PIECE * 640 + 1, (PIECE + STEP) * 640 + 5]
    )
    def test_one_frame_per_started_forty_milliseconds(
        self, small: HubertEncoder, samples: int
    ) -> None:
        sound = syllables(30)[:samples]
        features, activity = joined(
            encode_speech_hubert([sound], small, chunk_seconds=PIECE_SECONDS)
        )
        frames = -(-samples // SAMPLES_PER_FRAME)
        assert features.shape == (frames, small.feature_size) == (frames, 64)
        assert features.dtype == np.float32
        expected = np.concatenate([part.activity for part in encode_speech([sound])])
        np.testing.assert_allclose(activity, expected, atol=1e-6)

    def test_no_samples_no_frames(self, small: HubertEncoder) -> None:
        assert list(encode_speech_hubert([], small)) == []

    def test_short_sound_is_heard_as_one(self, small: HubertEncoder) -> None:
        sound = syllables(PIECE_SECONDS)
        (whole,) = encode_speech_hubert(cut(sound, 7000), small, chunk_seconds=PIECE_SECONDS)
        np.testing.assert_array_equal(whole.features, small.encode(sound, PIECE, "stretched"))

    def test_two_pieces_fade_into_each_other(self, small: HubertEncoder) -> None:
        """The last piece ends with the sound; its first and the other's last 64 frames are left."""
        sound = syllables(18)
        first = small.encode(sound[: PIECE * 640], PIECE, "centred")
        last = small.encode(sound[-PIECE * 640 :], PIECE, "centred")
        end = PIECE - CONTEXT
        share = np.interp(np.arange(450), [end - FADE_FRAMES - 1, end], [0, 1])[:, None]
        expected = (1 - share) * np.pad(first, ((0, 125), (0, 0)))
        expected += share * np.pad(last, ((125, 0), (0, 0)))
        features, _ = joined(encode_speech_hubert([sound], small, chunk_seconds=PIECE_SECONDS))
        np.testing.assert_allclose(features, expected, atol=1e-6)

    def test_nothing_jumps_where_pieces_meet(self, small: HubertEncoder) -> None:
        sound = syllables(40)
        whole = small.encode(sound, 1000, "centred")
        features, _ = joined(encode_speech_hubert([sound], small, chunk_seconds=PIECE_SECONDS))
        abrupt = np.concatenate(
            [small.encode(piece, len(piece) // 640) for piece in cut(sound, STEP * 640)]
        )

        def steps(found: Floats) -> Floats:
            """How much the distance from the whole changes from frame to frame."""
            return np.abs(np.diff(found - whole, axis=0)).mean(1)

        borders = np.array([STEP, 2 * STEP, 3 * STEP]) + CONTEXT
        fades = (borders[:, None] + np.arange(-1, FADE_FRAMES)).ravel()
        elsewhere = np.delete(steps(features), fades)
        assert steps(features)[fades].max() < 1.2 * elsewhere.max()
        jumps = steps(abrupt)[np.array([1, 2, 3]) * STEP - 1]
        assert jumps.min() > 3 * steps(features)[fades].max()
        assert np.abs(features - whole).mean() < 0.5 * np.abs(abrupt - whole).mean()

    def test_memory_does_not_grow_with_length(self, small: HubertEncoder) -> None:
        def use(seconds: int) -> tuple[int, float]:
            """Most bytes held, and most seconds that reading was ahead of the features."""
            read, done, ahead = 0, 0, 0.0

            def sound() -> Iterator[Floats]:
                nonlocal read
                for _ in range(seconds):
                    read += 1
                    yield np.roll(second, read)

            tracemalloc.start()
            for stretch in encode_speech_hubert(sound(), small, chunk_seconds=PIECE_SECONDS):
                ahead = max(ahead, read - done / 25)
                done += len(stretch)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return peak, ahead

        second = syllables(1)
        (short, _), (long, ahead) = use(30), use(100)
        assert long < 1.5 * short
        assert ahead <= PIECE_SECONDS + 2

    def test_silence_has_features(self, small: HubertEncoder) -> None:
        features, activity = joined(encode_speech_hubert([np.zeros(9000, np.float32)], small))
        assert np.isfinite(features).all()
        assert not activity.any()

    def test_precision_is_that_of_the_network(self, small: HubertEncoder) -> None:
        rough = HubertEncoder(built(SMALL, "small_hubert").model.to(torch.bfloat16))
        sound = syllables(2)
        features = rough.encode(sound, 50)
        assert features.dtype == np.float32
        distance = np.abs(features - small.encode(sound, 50)).mean()
        assert 0 < distance < 0.05


class TestReferenceSound:
    @pytest.mark.parametrize("length", [1, 999, 10**6])
    def test_pre_emphasis_is_a_filter(self, length: int) -> None:
        sound = syllables(2 if length > 1 else 0.01)
        found = np.concatenate(list(pre_emphasise(cut(sound, length))))
        start = [2 * sound[0] - sound[1]]
        expected, _ = lfilter([1, -0.97], [1], sound.astype(np.float64), zi=start)
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_one_sample_and_none(self) -> None:
        assert list(pre_emphasise([])) == []
        (only,) = pre_emphasise([np.ones(1, np.float32)])
        assert only.tolist() == [2.0]

    def test_is_that_of_a_real_file(self, small: HubertEncoder) -> None:
        """61.9 s and 2 s of silence in two pieces, by way of a WAV file."""
        sound = 2 * syllables(61.9)
        loud, _ = lfilter([1, -0.97], [1], sound, zi=[2 * sound[0] - sound[1]])
        assert np.abs(loud).max() > 1  # too loud for 16 bits
        file = io.BytesIO()
        soundfile.write(file, np.append(loud, np.zeros(32_000)), 16_000, format="WAV")
        file.seek(0)
        written, _ = soundfile.read(file, dtype="float32")
        listener = Listener(small.model)
        features, activity = joined(encode_speech_hubert_reference(cut(sound, 30_000), listener))
        assert [len(samples) for samples in listener.heard] == [960_000, 62_400]
        distance = np.abs(np.concatenate(listener.heard) - written)
        assert distance.max() < 1.01 / 32768
        assert np.mean(distance > 0) < 0.001  # float32 before the rounding, not float64
        assert len(features) == len(activity) == 1500 + 97
        assert activity[:1400].mean() > 0.9
        assert not activity[-20:].any()

    def test_every_piece_is_heard_on_its_own(self, small: HubertEncoder) -> None:
        sound = syllables(3)
        (stretch,) = encode_speech_hubert_reference([sound], small)
        listener = Listener(small.model)
        list(encode_speech_hubert_reference([sound], listener))
        np.testing.assert_array_equal(
            stretch.features, small.encode(listener.heard[0], 125, "stretched")
        )

    def test_rest_of_a_frame_is_dropped(self, small: HubertEncoder) -> None:
        features, activity = joined(encode_speech_hubert_reference([syllables(0.07)], small))
        assert len(features) == len(activity) == 51


class TestBuilding:
    def test_costs_no_memory_and_no_random_numbers(self) -> None:
        before = torch.get_rng_state()
        model = build_hubert({"model_type": "hubert", "architectures": ["HubertModel"]})
        assert torch.equal(torch.get_rng_state(), before)
        assert {value.device.type for value in model.state_dict().values()} == {"meta"}
        assert not model.training
        shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
        assert shapes == official_shapes("hubert_base")

    def test_weights_of_older_files(self, small: HubertEncoder) -> None:
        modern = small.model.state_dict()
        ending = {"parametrizations.weight.original0": "weight_g"}
        ending["parametrizations.weight.original1"] = "weight_v"
        older = dict(modern)
        for new, old in ending.items():
            key = f"encoder.pos_conv_embed.conv.{new}"
            older[key.replace(new, old)] = older.pop(key)
        assert set(older) != set(modern)
        again = modern_hubert_keys(older)
        assert set(again) == set(modern)
        assert all(torch.equal(again[key], modern[key]) for key in modern)

    def test_config_keeps_what_decides_the_network(self) -> None:
        config = {**SMALL, "layerdrop": 0.1, "torch_dtype": "float32", "layer_norm_eps": 1}
        needed = hubert_config(config)
        assert needed.items() >= SMALL.items()
        assert not {"layerdrop", "torch_dtype"} & set(needed)
        assert type(needed["layer_norm_eps"]) is float
        assert hubert_config(needed) == needed

    @pytest.mark.parametrize(
        ("config", "said"),
        [
            ({"model_type": "wav2vec2"}, "wav2vec2"),
            ({"do_stable_layer_norm": True}, "only False is supported"),
            ({"conv_stride": [5, 2, 2, 2, 2, 2, 3]}, "conv_stride"),
            ({"hidden_size": "768"}, "'768'"),
            ({"num_hidden_layers": True}, "True"),
            ({"num_hidden_layers": 0}, "limits are 1 and 8192"),
            ({"num_hidden_layers": 10**9}, "limits are 1 and 8192"),
            ({"conv_dim": 512}, "conv_dim is 512"),
            ({"conv_dim": [512.0] * 7}, "conv_dim"),
            ({"conv_dim": [512] * 6}, "7 numbers"),
            ({"num_attention_heads": 7}, "must divide hidden_size 768"),
        ],
    )
    def test_other_networks_are_refused(self, config: dict[str, Any], said: str) -> None:
        with pytest.raises(ConfigError, match=r"hubert|HuBERT") as caught:
            build_hubert(config)
        assert said in str(caught.value)

    def test_missing_extra_says_the_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(MissingExtraError, match=r"pip install '\.\[neural\]'"):
            build_hubert({})
