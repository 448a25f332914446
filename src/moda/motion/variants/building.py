"""The network of any configuration: the paper's, or a variant of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from moda.config import MotionModelConfig, VariantConfig
from moda.motion.generation import SampledNumbers
from moda.motion.model import Conditions, MotionTransformer
from moda.motion.variants.autoencoder import MotionAutoencoder
from moda.motion.variants.cross_attention import CrossAttentionBlock
from moda.motion.variants.objectives import OBJECTIVES

Value = TypeVar("Value")


def build_model(config: MotionModelConfig) -> MotionTransformer:
    """A new network with the blocks, the objective and the representation of a configuration."""
    return MotionTransformer(config) if config.variant == VariantConfig() else Variant(config)


class Variant(MotionTransformer):
    """The paper's network with other parts, and without the conditions that it does not have."""

    def __init__(self, config: MotionModelConfig) -> None:
        variant = config.variant
        count, has_latents = variant.cross_attention_blocks, variant.autoencoder.latent_size > 0
        super().__init__(
            config,
            more_blocks=(CrossAttentionBlock(*config.block_sizes) for _ in range(count)),
            objective=OBJECTIVES[variant.objective],
            representation=_autoencoder if has_latents else SampledNumbers,
        )

    def encode_conditions(
        self,
        speech: Tensor,
        emotion: Tensor,
        identity: Tensor,
        *,
        intensity: Tensor | None = None,
        null_speech: Tensor | None = None,
    ) -> Conditions:
        if "style" not in self.config.variant.conditions:
            emotion = torch.full_like(emotion, self.config.none_emotion)
        if "identity" not in self.config.variant.conditions:
            identity = torch.zeros_like(identity)
        return super().encode_conditions(
            speech, emotion, identity, intensity=intensity, null_speech=null_speech
        )

    def embed_motion(self, noisy_motion: Tensor, previous_motion: Tensor) -> Tensor:
        if "previous_motion" not in self.config.variant.conditions:
            previous_motion = torch.zeros_like(previous_motion)
        return super().embed_motion(noisy_motion, previous_motion)


def _autoencoder(config: MotionModelConfig) -> MotionAutoencoder:
    return MotionAutoencoder(config.motion_size, config.variant.autoencoder)


def upgraded_weights(config: MotionModelConfig, weights: Mapping[str, Value]) -> dict[str, Value]:
    """Weights by name, those of a variant under the names that earlier versions gave them."""
    first = config.two_stream_blocks
    names = {
        f"cross_attention_blocks.{index}.": f"two_stream_blocks.{first + index}."
        for index in range(config.variant.cross_attention_blocks)
    } | {"autoencoder.": "representation."}

    def renamed(name: str) -> str:
        old = next((old for old in names if name.startswith(old)), "")
        return names[old] + name.removeprefix(old) if old else name

    return {renamed(name): value for name, value in weights.items()}
