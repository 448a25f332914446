"""Other ways to fuse, to learn and to write motion, at a small size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from motion_networks import READER, SPACE, TOKENS, small_config, small_model
from torch import Tensor

from moda.config import (
    AutoencoderConfig,
    ModelConfig,
    MotionModelConfig,
    SamplerConfig,
    VariantConfig,
)
from moda.motion.layers import rotary_positions
from moda.motion.model import MotionTransformer
from moda.motion.sampler import sample_motion
from moda.motion.variants.autoencoder import REACH, MotionAutoencoder
from moda.motion.variants.building import upgraded_weights
from moda.motion.variants.cross_attention import CrossAttentionBlock
from moda.structures import EmotionAt, Speech, Style
from moda.weights.checkpoints import load_checkpoint, save_checkpoint
from moda.weights.spaces import load_motion_space

NO_BLOCKS = {
    "four_stream_blocks": 0,
    "two_stream_blocks": 0,
    "one_stream_blocks": 0,
}
CROSS_ATTENTION = {"variant": VariantConfig(cross_attention_blocks=2)}
VARIANTS: dict[str, dict[str, Any]] = {
    "one stream": NO_BLOCKS | {"one_stream_blocks": 2},
    "two streams": NO_BLOCKS | {"two_stream_blocks": 2},
    "four streams": NO_BLOCKS | {"four_stream_blocks": 1},
    "cross-attention": NO_BLOCKS | CROSS_ATTENTION,
    "all": CROSS_ATTENTION,
    "diffusion": {"variant": VariantConfig(objective="diffusion")},
    "diffusion of velocity": {"variant": VariantConfig(objective="v_diffusion")},
    "latents": {"mouth_size": 0, "variant": VariantConfig(autoencoder=AutoencoderConfig(4, 8))},
    "no conditions": {"variant": VariantConfig(conditions=())},
    "reader": {"speech": TOKENS, "speech_embedder": READER, "unsampled": (4, 8)},
}


def variant(name: str) -> MotionTransformer:
    return small_model(config=replace(small_config(), **VARIANTS[name]))


def speech(config: MotionModelConfig, num_frames: int, seed: int = 0) -> Speech:
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((num_frames, config.speech.size)).astype(np.float32)
    return Speech(features, np.ones(num_frames, np.float32))


def sample(model: MotionTransformer, *, seed: int = 0, **changes: Any) -> np.ndarray:
    given: dict[str, Any] = {
        "identity": np.zeros(63, np.float32),
        "generator": seed,
        "num_steps": 2,
        "speech": speech(model.config, 150),
    } | changes
    stretches = sample_motion(model, SPACE, [given.pop("speech")], **given)
    return np.concatenate([part.values for part in stretches])


@pytest.mark.parametrize("name", list(VARIANTS))
def test_every_variant_samples_and_is_saved_whole(name: str, tmp_path: Path) -> None:
    model = variant(name)
    motion = sample(model)
    assert motion.shape == (150, SPACE.size)
    assert np.isfinite(motion).all()
    assert motion.std() > 0.05
    np.testing.assert_array_equal(motion, sample(model))
    assert np.abs(motion - sample(model, seed=1)).max() > 0.05
    other = sample(model, speech=speech(model.config, 150, seed=1))
    assert np.abs(motion - other).max() > 0.01, "speech matters"

    path = tmp_path / "variant.safetensors"
    save_checkpoint(path, model, SPACE)
    loaded = load_checkpoint(path)
    assert loaded.config.motion == model.config
    np.testing.assert_array_equal(sample(loaded.model), motion)


@torch.inference_mode()
@pytest.mark.parametrize("name", list(VARIANTS))
def test_shortcuts_do_not_change_a_variant(name: str) -> None:
    model = variant(name)
    config = model.config
    given = (torch.randn(2, 9, config.generated_size), torch.randn(2, 1, config.motion_size))
    conditions = model.encode_conditions(
        torch.randn(2, 9 + 2 * config.speech_embedder.context, config.speech.size),
        torch.tensor([0, 8]),
        torch.randn(2, 63),
    )
    short = model(*given, torch.tensor([1.0, 900.0]), conditions)
    model.exact_shortcuts = False
    whole = model(*given, torch.tensor([1.0, 900.0]), conditions)
    torch.testing.assert_close(short, whole, atol=2e-5, rtol=0)
    assert short.shape == (2, 9, config.generated_size)


@pytest.mark.parametrize(
    ("condition", "changes"),
    [
        ("style", {"style": Style((EmotionAt(0.0, "happy"),))}),
        ("identity", {"identity": np.ones(63, np.float32)}),
        ("previous_motion", {"initial_motion": np.ones(SPACE.size, np.float32)}),
    ],
)
def test_what_is_no_condition_changes_nothing(condition: str, changes: dict[str, Any]) -> None:
    every = VariantConfig().conditions
    left = tuple(name for name in every if name != condition)
    told, untold = (
        small_model(config=replace(small_config(), variant=VariantConfig(conditions=names)))
        for names in (every, left)
    )
    assert np.abs(sample(told) - sample(told, **changes)).max() > 1e-3
    np.testing.assert_array_equal(sample(untold), sample(untold, **changes))


@torch.inference_mode()
def test_cross_attention_against_torch() -> None:
    """Modulation at its neutral start but for the gates, beside torch's own attention layers."""
    torch.manual_seed(0)
    hidden, heads, frames, others = 16, 2, 5, 7
    block = CrossAttentionBlock(hidden, heads, 32)
    for head, gates in ((block.stream.modulation, (2, 5)), (block.modulation, (2,))):
        head.linear.weight.zero_()
        head.linear.bias.zero_()
        for gate in gates:
            head.linear.bias[gate * hidden : (gate + 1) * hidden] = 1.0
    motion, conditions = torch.randn(1, frames, hidden), torch.randn(1, others, hidden)
    still = torch.ones(frames + others, hidden // heads // 2, dtype=torch.complex64)
    modulations = block.modulations(torch.zeros(1, hidden))
    found, same = block([motion, conditions], modulations, still)
    assert same is conditions

    def unit(tokens: Tensor) -> Tensor:
        return tokens / (tokens.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mixed = []
        for part in range(heads):
            own = slice(part * hidden // heads, (part + 1) * hidden // heads)
            normed = [
                each[0, :, own] / (each[0, :, own].square().mean(-1, keepdim=True) + 1e-5).sqrt()
                for each in (query, key)
            ]
            logits = normed[0] @ normed[1].T / (hidden // heads) ** 0.5
            mixed.append(torch.softmax(logits, -1) @ value[0, :, own])
        return torch.cat(mixed, dim=-1)[None]

    stream = block.stream
    expected = motion + stream.projection(attention(*stream.qkv(unit(motion)).chunk(3, -1)))
    key, value = block.key_and_value(unit(conditions)).chunk(2, -1)
    expected = expected + block.projection(attention(block.query(unit(expected)), key, value))
    expected = expected + stream.mlp(unit(expected))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)

    rope = torch.cat([rotary_positions(n, hidden // heads, 256.0, device=torch.device("cpu"))
                        for n in (frames, others)])  # fmt: skip
    assert (block([motion, conditions], modulations, rope)[0] - found).abs().max() > 1e-3


def test_every_weight_of_cross_attention_learns() -> None:
    model = variant("cross-attention")
    config = model.config
    conditions = model.encode_conditions(
        torch.randn(2, 6 + 2 * config.speech_embedder.context, config.speech.size),
        torch.tensor([0, 8]),
        torch.randn(2, 63),
    )
    model(
        torch.randn(2, 6, config.motion_size),
        torch.randn(2, 1, config.motion_size),
        torch.tensor([10.0, 900.0]),
        conditions,
    ).square().mean().backward()
    for name, weight in model.two_stream_blocks.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


@torch.inference_mode()
def test_latents_have_the_statistics_that_were_measured() -> None:
    torch.manual_seed(0)
    autoencoder = MotionAutoencoder(6, AutoencoderConfig(latent_size=3, width=8)).eval()
    motion = torch.randn(4, 50, 6)
    raw = autoencoder.posterior(motion).mean
    autoencoder.set_statistics(raw.flatten(0, 1))
    latents = autoencoder.encode(motion)
    torch.testing.assert_close(latents.mean((0, 1)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(latents.std((0, 1)), torch.ones(3), atol=1e-2, rtol=0)
    torch.testing.assert_close(autoencoder.decode(latents), autoencoder.decode_raw(raw))


@torch.inference_mode()
def test_latents_depend_on_near_frames_only() -> None:
    torch.manual_seed(0)
    autoencoder = MotionAutoencoder(6, AutoencoderConfig(latent_size=3, width=8)).eval()
    motion = torch.randn(1, 40, 6)
    changed = motion.clone()
    changed[:, 20] += 1.0
    differs = (autoencoder.encode(changed) - autoencoder.encode(motion)).abs().amax((0, 2)) > 1e-6
    assert differs.nonzero().ravel().tolist() == list(range(20 - REACH, 21 + REACH))


@pytest.mark.parametrize("name", ["all", "latents"])
def test_weights_are_read_under_their_names_of_earlier_versions(name: str) -> None:
    model = variant(name)
    weights = model.state_dict()
    renamed = {"two_stream_blocks.1.": "cross_attention_blocks.0.", "two_stream_blocks.2.":
               "cross_attention_blocks.1.", "representation.": "autoencoder."}  # fmt: skip
    earlier = {}
    for key, value in weights.items():
        new = next((new for new in renamed if key.startswith(new)), "")
        earlier[renamed.get(new, "") + key.removeprefix(new)] = value
    assert len(earlier.keys() - weights.keys()) > 10
    assert upgraded_weights(model.config, earlier).keys() == weights.keys()
    assert upgraded_weights(model.config, weights).keys() == weights.keys()


def test_a_latent_model_in_the_mesh_space_keeps_its_way_of_sampling(tmp_path: Path) -> None:
    space = load_motion_space()
    config = replace(
        small_config(),
        motion_size=space.size,
        mouth_size=0,
        variant=VariantConfig(autoencoder=AutoencoderConfig(latent_size=4, width=8)),
    )
    whole = ModelConfig("latent", config, SamplerConfig(num_steps=3, head_noise=0.5))
    save_checkpoint(tmp_path / "m.safetensors", small_model(config=config), space, config=whole)
    assert load_checkpoint(tmp_path / "m.safetensors").config == whole
