"""What one training step minimises, from a batch of windows to named losses.

All random numbers of a window follow from the window's own seed, so that the loss of a batch is the
same in one process and in many.

Axis letters: B batch, T frames, D motion, M lip numbers, F speech features, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from moda.data.dataset import Batch, DrawnWindow
from moda.errors import InputError
from moda.motion.flow import timestep_of
from moda.motion.generation import SampledNumbers
from moda.motion.layers import DrawnDropout
from moda.motion.model import MotionTransformer
from moda.structures import MotionSpace
from moda.training.keypoint_metric import lip_columns, metric_of
from moda.training.losses import MotionMetric, plain_loss
from moda.training.options import TrainingOptions
from moda.training.sync.network import SyncExpert, gated_sync_loss

INSIDE_STREAM = 1
"""Of the dropout inside the network."""
MEAN_DROPOUT = 0.2
"""Probability that the mean of the mouth does not see a channel of a token in training."""


class WindowNoise:
    """Random numbers for each of some windows, from the window's own seed.

    ``stream`` makes them others than those of another stream of the same windows.
    """

    def __init__(
        self, windows: Sequence[DrawnWindow], device: torch.device, *, stream: int = 0
    ) -> None:
        self._device = device
        self._generators = [torch.Generator(device).manual_seed(w.seed ^ stream) for w in windows]

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) standard normal."""
        return torch.stack(
            [torch.randn(shape, generator=g, device=self._device) for g in self._generators]
        )

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) in 0..1."""
        return torch.stack(
            [torch.rand(shape, generator=g, device=self._device) for g in self._generators]
        )

    def dropout(self, values: Tensor, probability: float) -> Tensor:
        """Values (B, ...), each 0 with the probability p, the others larger by 1 / (1 - p)."""
        if probability == 0.0:
            return values
        return values * (self.uniform(*values.shape[1:]) >= probability) / (1.0 - probability)


class StepLosses(nn.Module):
    """The losses of a motion model on a batch; the module that several processes share.

    The forward pass returns the named losses, each the mean over the batch's windows that it is
    about, and the number of these.
    """

    def __init__(
        self,
        model: MotionTransformer,
        space: MotionSpace,
        options: TrainingOptions,
        expert: SyncExpert | None = None,
    ) -> None:
        super().__init__()
        self.model, self.options, self.metric = model, options, metric_of(space)
        self.lips = lip_columns(space)
        self.expert = expert
        if expert is not None:
            _require_fitting(expert, model, len(self.lips))
            expert.eval().requires_grad_(False)

    def forward(self, batch: Batch, speech_only: bool) -> tuple[dict[str, Tensor], int]:
        inside = WindowNoise(batch.windows, self._device, stream=INSIDE_STREAM)
        dropouts = [part for part in self.model.modules() if isinstance(part, DrawnDropout)]
        for dropout in dropouts:
            dropout.draw = inside.dropout
        try:
            if speech_only:
                return self.speech_losses(batch), int((~batch.is_silent).sum())
            return self.flow_losses(batch), len(batch.motion)
        finally:
            for dropout in dropouts:
                dropout.draw = None

    def speech_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Of the mean of the mouth, on the windows that have sound."""
        assert isinstance(self.metric, MotionMetric)
        noise = WindowNoise(batch.windows, self._device)
        speaking = self._tensor(~batch.is_silent)
        mouth = self.mean_mouth(self._tensor(batch.speech), noise)
        mouth = mouth[speaking]
        truth = self._tensor(batch.motion)[speaking]
        inside = self._tensor(batch.weight)[speaking]
        if not len(mouth):  # the other parts of the batch have the windows with sound
            return {name: mouth.sum() for name in self._names("regression")}
        losses = {
            "regression": self.metric.regression_loss(mouth, truth[..., self.metric.mouth], inside)
        }
        if self.expert is not None:
            heard = self._heard(batch)[speaking]
            losses["sync"] = self._sync_loss(mouth, truth[..., self.lips], heard, inside)
        return losses

    def mean_mouth(self, speech: Tensor, noise: WindowNoise | None = None) -> Tensor:
        """(B, T, M) the mean of the mouth, with dropped channels if there is ``noise``."""
        with self._autocast():
            tokens = self.model.speech_embedder(speech)
            if noise is not None:
                tokens = noise.dropout(tokens, MEAN_DROPOUT)
            mouth = self.model.mean_mouth(speech, tokens)
        return mouth.float()

    def flow_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Of what the network predicts, and of what the sync expert says of the motion in it."""
        options, config = self.options, self.model.config
        objective, representation = self.model.objective, self.model.representation
        random = WindowNoise(batch.windows, self._device)
        motion, inside = self._tensor(batch.motion), self._tensor(batch.weight)
        silent = self._tensor(batch.is_silent)
        dropout = (options.condition_dropout, options.speech_dropout)
        chance = torch.tensor(dropout, device=self._device)
        forgotten, deaf = (random.uniform(2) < chance).unbind(1)
        label = self._tensor(batch.emotion)
        offset = torch.zeros_like(motion[:, :1])
        if config.mouth_size:
            offset = self.model.emotion_mean[label][:, None]
        with self._autocast():
            conditions = self.model.encode_conditions(
                self._tensor(batch.speech),
                torch.where(forgotten, config.none_emotion, label),
                self._tensor(batch.identity),
                null_speech=silent | forgotten | deaf,
            )
        tokens = random.dropout(conditions.speech, options.token_dropout)
        conditions = conditions._replace(speech=tokens)
        sigma = objective.sigma_of(random.normal())
        level = sigma[:, None, None]
        mean = conditions.mean.detach().float()
        if batch.mouth_mean.shape[-1]:
            mouth_mean = self._tensor(batch.mouth_mean)
            mean = F.pad(mouth_mean, (0, motion.shape[-1] - mouth_mean.shape[-1]))
        residual = representation.encode(motion - offset - mean)
        noise = random.normal(*residual.shape[1:])
        noisy = objective.corrupt(residual, noise, level)
        with self._autocast():
            predicted = self.model(
                noisy,
                self._tensor(batch.previous_motion),
                timestep_of(sigma).clamp(min=1.0),
                conditions,
            )
        predicted = predicted.float()
        error = predicted - objective.target(residual, noise, level)
        losses = {"flow": self._flow_loss(error, silent, inside)}
        if self.expert is not None:
            generated = objective.estimate(noisy, predicted, level)
            found = representation.decode(generated) + mean + offset
            weight = (~(silent | forgotten | deaf)).float() * (1.0 - sigma)
            losses["sync"] = self._sync_loss(
                found[..., self.lips],
                motion[..., self.lips],
                self._heard(batch),
                inside * weight[:, None],
            )
        return losses

    def _flow_loss(self, error: Tensor, silent: Tensor, inside: Tensor) -> Tensor:
        """Of the error (B, T, G) of a prediction; some windows (B,) are silent."""
        if not isinstance(self.model.representation, SampledNumbers):
            return plain_loss(error, inside)  # no latent is a lip
        error = self.model.representation.decode(error)
        if isinstance(self.metric, MotionMetric) and self.model.config.mouth_size:
            # A mouth without its sound differs from the mean by all that it says.
            error[silent, :, self.metric.mouth] = 0.0
        return self.metric.flow_loss(error, inside)

    def _names(self, name: str) -> list[str]:
        """Of the losses of a stage."""
        return [name] if self.expert is None else [name, "sync"]

    def _sync_loss(self, found: Tensor, true: Tensor, heard: Tensor, weight: Tensor) -> Tensor:
        assert self.expert is not None
        self.expert.eval()
        loss = gated_sync_loss(self.expert, found, true, heard, weight, self.options.sync_gate)
        return self.options.sync_weight * loss

    def _heard(self, batch: Batch) -> Tensor:
        """(B, T, F) the speech of the frames themselves, without the context around them."""
        before = self.model.config.speech_embedder.before
        heard = batch.speech[:, before : before + batch.motion.shape[1]]
        return self._tensor(heard)

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        """An array of the batch on the model's device; half precision becomes single."""
        tensor = torch.from_numpy(values).to(self._device, non_blocking=True)
        return tensor.float() if tensor.dtype == torch.float16 else tensor

    @property
    def _device(self) -> torch.device:
        return self.model.final_layer.linear.weight.device

    def _autocast(self) -> AbstractContextManager[object]:
        enabled = self.options.precision == "bfloat16"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=enabled)


def _require_fitting(expert: SyncExpert, model: MotionTransformer, num_lips: int) -> None:
    sizes = (expert.config.lip_size, expert.config.speech_size)
    needed = (num_lips, model.config.speech.size)
    if sizes != needed:
        raise InputError(
            f"the sync expert judges {sizes[0]} lip numbers by {sizes[1]} speech features; "
            f"this model needs {needed[0]} by {needed[1]}: train an expert on the same data"
        )
