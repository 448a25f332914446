"""A small temporal autoencoder over normalised motion: generating in its latents is the alternative
that the joint parameter space is measured against.

Axis letters: B batch, T frames, D motion, L latents.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from moda.config import AutoencoderConfig
from moda.motion.generation import Representation

KERNEL = 5  # frames
REACH = 2 * (KERNEL // 2)
"""Frames on either side that a latent, or a decoded frame, depends on."""


class Posterior(NamedTuple):
    """Normal distribution of the latents given the motion; both (B, T, L)."""

    mean: Tensor
    log_variance: Tensor


class MotionAutoencoder(Representation):
    """Variational autoencoder (D. Kingma and M. Welling, arXiv 1312.6114) of one frame at a time
    with its neighbours; the frame rate stays.

    The generator sees latents of mean 0 and deviation 1: :meth:`encode` and :meth:`decode` know
    their statistics, which are measured once, see :meth:`set_statistics`.
    """

    latent_mean: Tensor  # (L,)
    latent_std: Tensor  # (L,)

    def __init__(self, motion_size: int, config: AutoencoderConfig) -> None:
        super().__init__()
        size, width = config.latent_size, config.width
        self.encoder = _convolutions(motion_size, width, 2 * size)
        self.decoder = _convolutions(size, width, motion_size)
        self.register_buffer("latent_mean", torch.zeros(size))
        self.register_buffer("latent_std", torch.ones(size))

    def posterior(self, motion: Tensor) -> Posterior:
        """Normalised motion (B, T, D) -> distribution of the latents, as they are."""
        both = self.encoder(motion.transpose(1, 2)).transpose(1, 2)
        return Posterior(*both.chunk(2, dim=-1))

    def decode_raw(self, latents: Tensor) -> Tensor:
        """Latents (B, T, L) as :meth:`posterior` has them -> normalised motion (B, T, D)."""
        return cast("Tensor", self.decoder(latents.transpose(1, 2))).transpose(1, 2)

    def encode(self, motion: Tensor) -> Tensor:
        """Normalised motion (B, T, D) -> normalised means of the latents (B, T, L)."""
        return (self.posterior(motion).mean - self.latent_mean) / self.latent_std

    def decode(self, generated: Tensor) -> Tensor:
        """Normalised latents (B, T, L) -> normalised motion (B, T, D)."""
        return self.decode_raw(generated * self.latent_std + self.latent_mean)

    @torch.no_grad()
    def set_statistics(self, latents: Tensor) -> None:
        """Measure mean and deviation on latents (N, L) of many frames."""
        self.latent_mean.copy_(latents.mean(0))
        self.latent_std.copy_(latents.std(0).clamp(min=1e-4))


def _convolutions(channels_in: int, width: int, channels_out: int) -> nn.Sequential:
    """(B, channels_in, T) -> (B, channels_out, T)."""
    return nn.Sequential(
        nn.Conv1d(channels_in, width, KERNEL, padding="same"),
        nn.GELU(),
        nn.Conv1d(width, width, KERNEL, padding="same"),
        nn.GELU(),
        nn.Conv1d(width, channels_out, 1),
    )
