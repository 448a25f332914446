"""Teach the motion autoencoder, before any flow: a stage of its own in a recipe."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moda.data.dataset import WindowSampler
from moda.errors import InputError
from moda.motion.variants.autoencoder import MotionAutoencoder
from moda.training.keypoint_metric import KeypointMetric
from moda.training.losses import MotionMetric

STATISTICS_BATCHES = 40


@dataclass(frozen=True)
class AutoencoderOptions:
    """How long and how fast to train the autoencoder; no steps where a model has none."""

    steps: int = 0
    batch_size: int = 24
    window_frames: int = 80
    learning_rate: float = 2e-3
    divergence_weight: float = 1e-3
    """of the Kullback-Leibler divergence from the standard normal, beside the reconstruction"""

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch_size < 1 or self.window_frames < 8:
            raise InputError(
                f"autoencoder steps {self.steps}, batch size {self.batch_size} and window frames "
                f"{self.window_frames} must be at least 0, 1 and 8"
            )


def divergence(mean: Tensor, log_variance: Tensor, inside: Tensor) -> Tensor:
    """Kullback-Leibler divergence of N(mean, variance) (B, T, L) from N(0, 1), mean per latent.

    Source: arXiv 1312.6114, appendix B. ``inside`` (B, T) is 0 in the padding.
    """
    each = 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance)
    return (inside[..., None] * each).mean()


def train_autoencoder(
    autoencoder: MotionAutoencoder,
    windows: WindowSampler,
    metric: MotionMetric | KeypointMetric,
    options: AutoencoderOptions,
    *,
    seed: int = 0,
) -> float:
    """Train in place and measure the latents' statistics; returns the last reconstruction loss.

    The reconstruction is judged as an error of the flow is: lips weigh by what they show. The
    learning rate falls to 0 along a line.

    Raises:
        InputError: the loss is not a number.
    """
    device = next(autoencoder.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(autoencoder.parameters(), options.learning_rate)
    autoencoder.requires_grad_(True).train()
    loss = torch.zeros(())
    for step in range(options.steps):
        batch = windows.batch(options.batch_size, options.window_frames)
        motion = torch.from_numpy(batch.motion).to(device)
        inside = torch.from_numpy(batch.weight).to(device)
        mean, log_variance = autoencoder.posterior(motion)
        noise = torch.randn(mean.shape, generator=generator).to(device)
        decoded = autoencoder.decode_raw(mean + (0.5 * log_variance).exp() * noise)
        loss = metric.flow_loss(decoded - motion, inside)
        total = loss + options.divergence_weight * divergence(mean, log_variance, inside)
        if not torch.isfinite(total):
            raise InputError(
                f"the autoencoder's loss is {total.item()} at step {step}; lower its learning rate"
            )
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * (1.0 - step / options.steps)
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
        optimizer.step()
    autoencoder.zero_grad()  # or the gradients would count when those of the network are clipped
    autoencoder.requires_grad_(False).eval()
    latents = []
    with torch.no_grad():
        for _ in range(STATISTICS_BATCHES):
            batch = windows.batch(options.batch_size, options.window_frames)
            mean = autoencoder.posterior(torch.from_numpy(batch.motion).to(device)).mean
            latents.append(mean[torch.from_numpy(batch.weight > 0).to(device)])
    autoencoder.set_statistics(torch.cat(latents))
    return float(loss.detach())
