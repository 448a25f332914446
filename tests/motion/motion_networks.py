"""Small real networks, and the shapes of the published one."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from moda.config import MotionModelConfig, SpeechEmbedderConfig, SpeechFeaturesConfig, preset
from moda.motion.model import MotionTransformer
from moda.motion.reading import SpeechReader
from moda.motion.variants.building import build_model
from moda.phones import Phone
from moda.structures import MotionSpace
from moda.weights.spaces import load_motion_space

HIDDEN = 768


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the released network, listed from its description."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, size_in: int, size_out: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (size_out, size_in), (size_out,)

    for part, size in (("motion", 140), ("identity", 63), ("time", 256)):
        linear(f"{part}_embedder.mlp.0", size, HIDDEN)
        linear(f"{part}_embedder.mlp.2", HIDDEN, HIDDEN)
    for number, size in ((1, 12 * HIDDEN), (2, HIDDEN), (3, HIDDEN)):
        linear(f"audio_embedder.proj{number}", size, HIDDEN)
    shapes["audio_embedder.norm.weight"] = (HIDDEN,)
    shapes["emo_embedder.embedding_table.weight"] = (9, HIDDEN)
    four = (("xs", "xs", ""), ("au", "audio", "1"), ("au", "audio", "2"), ("au", "audio", "3"))
    two = (("xs", "xs", ""), ("au", "audio", ""))
    for blocks, count, streams in (("blocks4", 3, four), ("blocks2", 6, two)):
        for block in (f"{blocks}.{index}" for index in range(count)):
            for short, long, number in streams:
                linear(f"{block}.attn1.qkv_{short}{number}", HIDDEN, 3 * HIDDEN)
                linear(f"{block}.attn1.{short}_proj{number}", HIDDEN, HIDDEN)
                linear(f"{block}.{long}_mlp{number}.fc1", HIDDEN, 4 * HIDDEN)
                linear(f"{block}.{long}_mlp{number}.fc2", 4 * HIDDEN, HIDDEN)
                linear(f"{block}.adaLN_modulation_{long}{number}.1", HIDDEN, 6 * HIDDEN)
                for part in "qk":
                    shapes[f"{block}.attn1.{short}_{part}_norm{number}.weight"] = (64,)
    for block in (f"blocks.{index}" for index in range(12)):
        linear(f"{block}.qkv_xs", HIDDEN, 7 * HIDDEN)
        linear(f"{block}.linear2", 5 * HIDDEN, HIDDEN)
        linear(f"{block}.adaLN_modulation_xs.1", HIDDEN, 3 * HIDDEN)
        for part in "qk":
            shapes[f"{block}.attn1.xs_{part}_norm.weight"] = (64,)
    linear("final_layer.linear", HIDDEN, 70)
    linear("final_layer.adaLN_modulation.1", HIDDEN, 2 * HIDDEN)
    shapes = {f"talking_head_dit.{name}": shape for name, shape in shapes.items()}
    return shapes | {"null_audio_feat": (1, 1, 1, 1, HIDDEN), "null_motion_feat": (1, 1, 70)}


SPACE = MotionSpace(
    name="neural",
    groups=(("mouth", 3),),
    mean=np.linspace(-1, 1, 10, dtype=np.float32),
    std=np.linspace(0.5, 2, 10, dtype=np.float32),
    pose_reference="camera",
)


READER = SpeechEmbedderConfig(
    kind="reader",
    width=16,
    dilations=(),
    context=4,
    num_phones=len(Phone),
    voice_spans=(9, 21),
    compressed=6,
)
TOKENS = SpeechFeaturesConfig(kind="whisper", channels=12)
"""Two tokens of 12 numbers and the prosody: 27."""


def small_config(kind: Literal["conv", "mlp", "reader"] = "conv") -> MotionModelConfig:
    """A few thousand weights, every kind of block."""
    if kind == "mlp":
        embedder = SpeechEmbedderConfig(kind="mlp", width=24, dilations=(), context=0, dropout=0.0)
        speech = SpeechFeaturesConfig(kind="hubert", layers=2, channels=12)
    elif kind == "conv":
        embedder = SpeechEmbedderConfig(width=16, dilations=(1, 2, 3, 4), delay=3)
        speech = SpeechFeaturesConfig(bands=6)
    else:
        embedder, speech = READER, TOKENS
    return replace(
        preset("moda-tiny").motion,
        motion_size=SPACE.size,
        hidden=32,
        num_heads=2,
        mouth_size=0 if kind == "mlp" else SPACE.groups[0][1],
        unsampled=(4, 8) if kind == "reader" else (),
        speech=speech,
        speech_embedder=embedder,
    )


def mesh_config(*, has_mean: bool = True) -> MotionModelConfig:
    """The small network in the space of the mesh renderer; it reads, unless it has no mean."""
    space = load_motion_space()
    lids = space.slice("blink")
    return replace(
        small_config("reader" if has_mean else "conv"),
        motion_size=space.size,
        mouth_size=space.groups[0][1] if has_mean else 0,
        unsampled=tuple(range(lids.start, lids.stop)) if has_mean else (),
    )


def small_model(
    kind: Literal["conv", "mlp", "reader"] = "conv",
    seed: int = 0,
    config: MotionModelConfig | None = None,
) -> MotionTransformer:
    """A small network in which nothing is at its zero start."""
    model = build_model(config or small_config(kind))
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        numbers = torch.randn(weight.shape, generator=generator)
        if weight.ndim >= 2 and "emotion" not in name:
            numbers *= weight[0].numel() ** -0.5
        elif "norm" in name and "bias" not in name:
            numbers = 1 + 0.1 * numbers
        elif "bias" in name:
            numbers *= 0.05
        weight.data.copy_(numbers)
    if isinstance(model.speech_embedder, SpeechReader):
        channels = model.config.speech.channels
        model.speech_embedder.token_mean.copy_(torch.randn(channels, generator=generator))
        model.speech_embedder.token_scale.copy_(1 + torch.rand(channels, generator=generator))
    return model.eval()
