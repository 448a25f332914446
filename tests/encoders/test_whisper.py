"""The pretrained speech encoder against recorded tokens and against another implementation."""

from pathlib import Path

import numpy as np
import pytest

from moda.encoders.whisper import (
    ENCODER_FILE,
    HEAD_SIZE,
    SAMPLES_PER_TOKEN,
    encode_tokens,
    load_speech_encoder,
    log_mel_spectrogram,
    read_encoder_weights,
)
from moda.media import AudioReader
from paths import SPEECH

GOLDEN = Path(__file__).parents[1] / "data" / "speech_encoder_golden.npz"
GOLDEN_SAMPLES = 48_000


@pytest.fixture(scope="module")
def sound():
    return np.concatenate(list(AudioReader(SPEECH)))


def test_spectrogram_and_tokens_are_the_recorded_ones():
    with np.load(GOLDEN) as golden:
        samples = golden["samples"]
        mel = log_mel_spectrogram(samples)
        np.testing.assert_allclose(mel, golden["mel"], atol=3e-5)
        tokens = load_speech_encoder().encode(samples)
        np.testing.assert_allclose(tokens, golden["tokens"], atol=1e-3)


def test_tokens_are_those_of_the_transformers_package(sound):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    encoder, weights = load_speech_encoder(), read_encoder_weights()
    own = {name: torch.from_numpy(value) for name, value in weights.items()}
    num_blocks = sum(name.endswith("mlp_in.bias") for name in own)
    config = transformers.WhisperConfig(
        d_model=encoder.size,
        encoder_layers=num_blocks,
        encoder_attention_heads=encoder.size // HEAD_SIZE,
        encoder_ffn_dim=4 * encoder.size,
        num_mel_bins=80,
    )
    other = transformers.models.whisper.modeling_whisper.WhisperEncoder(config).eval()
    other.layer_norm = torch.nn.Identity()
    names = {"conv1": "conv1", "conv2": "conv2"}
    other_weights = {
        f"{b}.{k}": own[f"{a}.{k}"] for a, b in names.items() for k in ("weight", "bias")
    }
    for index in range(num_blocks):
        mine, theirs = f"blocks.{index}.", f"layers.{index}."
        pairs = {
            "attention_norm": "self_attn_layer_norm",
            "attention_out": "self_attn.out_proj",
            "mlp_norm": "final_layer_norm",
            "mlp_in": "fc1",
            "mlp_out": "fc2",
        }
        for kind in ("weight", "bias"):
            for a, b in pairs.items():
                other_weights[f"{theirs}{b}.{kind}"] = own[f"{mine}{a}.{kind}"]
            query, key, value = own[f"{mine}attention_qkv.{kind}"].chunk(3)
            other_weights[f"{theirs}self_attn.q_proj.{kind}"] = query
            other_weights[f"{theirs}self_attn.v_proj.{kind}"] = value
            if kind == "weight":
                other_weights[f"{theirs}self_attn.k_proj.weight"] = key
            else:
                assert key.abs().max() == 0.0  # the published network has no such bias
    missing, unexpected = other.load_state_dict(other_weights, strict=False)
    assert missing == ["embed_positions.weight"]
    assert not unexpected
    samples = np.zeros(30 * 16_000, np.float32)  # the other one takes 30 seconds and no less
    samples[: len(sound[:GOLDEN_SAMPLES])] = sound[:GOLDEN_SAMPLES]
    extractor = transformers.WhisperFeatureExtractor()
    inputs = extractor(samples, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.inference_mode():
        expected = other(inputs).last_hidden_state[0].numpy()
    np.testing.assert_allclose(encoder.encode(samples), expected, atol=2e-2, rtol=1e-3)


def test_pieces_of_any_length_give_the_same_tokens(sound):
    encoder = load_speech_encoder()
    whole = np.concatenate(list(encode_tokens(encoder, [sound])))
    assert len(whole) == -(-len(sound) // SAMPLES_PER_TOKEN)
    cut = [sound[start : start + 777] for start in range(0, len(sound), 777)]
    np.testing.assert_array_equal(np.concatenate(list(encode_tokens(encoder, cut))), whole)


def test_a_long_recording_is_the_same_around_a_cut(sound):
    """Tokens near the place where a piece ends are those of a piece that has it in its middle."""
    encoder = load_speech_encoder()
    long = np.tile(sound, -(-40 * 16_000 // len(sound)))[: 40 * 16_000]
    tokens = np.concatenate(list(encode_tokens(encoder, [long])))
    assert len(tokens) == 2000
    middle = encoder.encode(long[18 * 16_000 : 38 * 16_000])  # 28 s, the cut, is 10 s into it
    around = slice(28 * 50 - 100, 28 * 50 + 100)
    # Positions are part of the tokens and differ between the two, so they are alike, not equal.
    for own, other in zip(tokens[around], middle[10 * 50 - 100 : 10 * 50 + 100], strict=True):
        assert np.corrcoef(own, other)[0, 1] > 0.7
    steps = np.abs(np.diff(tokens, axis=0)).mean(1)
    assert steps[28 * 50 - 1] < np.quantile(steps, 0.99)


def test_a_short_sound_and_none(sound):
    encoder = load_speech_encoder()
    assert np.concatenate(list(encode_tokens(encoder, [sound[:5]]))).shape == (1, encoder.size)
    assert list(encode_tokens(encoder, [])) == []


def test_the_encoder_is_small_on_disk():
    assert ENCODER_FILE.stat().st_size < 8.5e6
