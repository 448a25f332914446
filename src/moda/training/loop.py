"""The training loop: lips from speech first, then the flow of all the rest.

Both stages keep a moving average of the weights.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from moda.config import ModelConfig
from moda.data.dataset import Batch, WindowSampler
from moda.errors import CheckpointError, InputError
from moda.motion.flow import interpolate, velocity
from moda.motion.idle import LipClosure
from moda.motion.layers import SpeechConv
from moda.motion.model import MotionTransformer
from moda.structures import Floats, MotionSpace
from moda.training.losses import MotionMetric

PRETRAINED = ("first.", "residual.", "phone_head.")
"""Parts of the speech embedder that know phones already and learn at a rate of their own."""
SETTLING_BATCHES = 20
QUIETEST_SHARE = 0.1
MEAN_DROPOUT = 0.2
"""Share of the tokens' channels that the mean of the mouth does not see in training."""
SIGMA_LOGIT_MEAN, SIGMA_LOGIT_STD = 0.3, 1.2
"""Noise levels are drawn from a logit-normal; a little more of the noisy ones."""


@dataclass(frozen=True)
class TrainingOptions:
    """How long and how fast to train. Learning rates are reached after the warm-up."""

    speech_steps: int = 400
    """of the speech embedder and the mean of the mouth alone; 0 where a model predicts no mean"""
    flow_steps: int = 3000
    batch_size: int = 24
    window_frames: tuple[int, ...] = (48, 64, 80)
    learning_rate: float = 1e-3
    speech_learning_rate: float = 3e-4
    """of the parts of the speech embedder that are pretrained"""
    weight_decay: float = 0.05
    warm_up_steps: int = 100
    gradient_clip: float = 1.0
    ema_decay: float = 0.995
    condition_dropout: float = 0.1
    """share of windows that are told neither speech nor emotion"""
    token_dropout: float = 0.15
    """share of the speech tokens' channels that a training step does not see"""
    keep_statistics: bool = True
    """leave the batch norms of the speech embedder as its pretraining left them"""
    freeze_speech_embedder: bool = True
    """keep the speech embedder as it is while the flow is trained: it forgets strangers' voices
    otherwise, see docs/experiments.md"""
    seed: int = 0
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        if self.batch_size < 1 or min(self.speech_steps, self.flow_steps) < 0:
            raise InputError("batch size must be at least 1 and steps at least 0")
        if not self.window_frames or min(self.window_frames) < 8:
            raise InputError("windows must have at least 8 frames")


Report = Callable[[dict[str, float]], None]


class Trainer:
    """Trains one model; :meth:`run` continues where the last checkpoint of the folder ends."""

    def __init__(
        self,
        config: ModelConfig,
        space: MotionSpace,
        windows: WindowSampler,
        options: TrainingOptions,
        folder: Path,
    ) -> None:
        torch.manual_seed(options.seed)
        self.options, self.folder, self.windows = options, folder, windows
        self.model = MotionTransformer(config.motion)
        self.metric, self.space = MotionMetric(space), space
        mouth_size = self.metric.mouth.stop - self.metric.mouth.start
        if config.motion.mouth_size not in (0, mouth_size):
            raise InputError(
                f"the model predicts the mean of {config.motion.mouth_size} numbers of the mouth; "
                f"this motion space has {mouth_size}"
            )
        if options.speech_steps and not config.motion.mouth_size:
            raise InputError(
                f"{options.speech_steps} speech steps train the mean of the mouth, and the model "
                f"{config.name} predicts none; set speech_steps to 0"
            )
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        knows = [
            parameter
            for name, parameter in self.model.speech_embedder.named_parameters()
            if name.startswith(PRETRAINED)
        ]
        known = {id(parameter) for parameter in knows}
        others = [p for p in self.model.parameters() if id(p) not in known]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": knows, "base": options.speech_learning_rate},
                {"params": others, "base": options.learning_rate},
            ],
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
            betas=(0.9, 0.99),
        )
        self.random = np.random.default_rng(options.seed)
        self.step = 0

    def run(self, report: Report = lambda values: None) -> MotionTransformer:
        """Train to the end and return the averaged model.

        Raises:
            InputError: the loss is not a number; the step and the learning rate are named.
        """
        total = self.options.speech_steps + self.options.flow_steps
        started = time.perf_counter()
        while self.step < total:
            values = self._train_step()
            self.step += 1
            if self.step == self.options.speech_steps:
                self.settle_mean()
            report({"step": self.step, "seconds": time.perf_counter() - started, **values})
            if self.step % self.options.checkpoint_every == 0 or self.step == total:
                self.save()
        return self.average.eval()

    def _train_step(self) -> dict[str, float]:
        options = self.options
        speech_only = self.step < options.speech_steps
        rate = self._set_learning_rate(speech_only)
        num_frames = 80 if speech_only else int(self.random.choice(options.window_frames))
        batch = self.windows.batch(options.batch_size, num_frames)
        self.model.train()
        frozen = options.freeze_speech_embedder and not speech_only
        for parameter in self.model.speech_embedder.layer_parameters():
            parameter.requires_grad_(not frozen)
        if self.model.config.mouth_size:
            self.model.mouth_head.requires_grad_(speech_only)
        if frozen:
            self.model.speech_embedder.eval()
        for module in self.model.speech_embedder.modules():
            if isinstance(module, nn.BatchNorm1d) and (options.keep_statistics or not speech_only):
                module.eval()  # its statistics are settled; small batches would only shake them
        losses = self._speech_losses(batch) if speech_only else self._flow_losses(batch)
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            raise InputError(
                f"the loss is {loss.item()} at step {self.step} with learning rate {rate:.2g}; "
                "lower the learning rate or look for broken clips"
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), options.gradient_clip)
        self.optimizer.step()
        self._update_average()
        return {name: float(value.detach()) for name, value in losses.items()} | {"rate": rate}

    def _speech_losses(self, batch: Batch) -> dict[str, Tensor]:
        speaking = torch.from_numpy(~batch.is_silent)
        mouth = self._mean_mouth(batch.speech, batch.phones)[speaking]
        truth = torch.from_numpy(batch.motion)[speaking][..., self.metric.mouth]
        inside = torch.from_numpy(batch.weight)[speaking]
        return {"regression": self.metric.regression_loss(mouth, truth, inside)}

    def start_from(self, embedder: SpeechConv) -> None:
        """Begin with a speech embedder that has learned something already."""
        self.model.speech_embedder.load_state_dict(embedder.state_dict())
        self.average.load_state_dict(self.model.state_dict())

    @torch.no_grad()
    def settle_mean(self) -> None:
        """Go on with the averaged mean of the mouth, with lips that come together in speech.

        A mean over speakers is never quite closed: the quietest tenth of the middle gap becomes 0,
        by the smallest change of the face, the same in all frames.
        """
        self.model.load_state_dict(self.average.state_dict())
        self.model.eval()
        mouths = []
        for _ in range(SETTLING_BATCHES):
            batch = self.windows.batch(self.options.batch_size, 80)
            speaking = batch.weight.astype(bool) & ~batch.is_silent[:, None]
            mouths.append(self._mean_mouth(batch.speech, batch.phones).numpy()[speaking])
        scale = self.space.scale[self.metric.mouth]
        raw = np.concatenate(mouths) * scale + self.space.mean[self.metric.mouth]
        closure = LipClosure(self.space)
        gaps = closure.gaps(raw.astype(np.float64))
        middle = gaps[:, gaps.shape[1] // 2]
        shape = gaps.mean(0) / max(float(middle.mean()), 1e-6)
        excess = max(0.0, float(np.quantile(middle, QUIETEST_SHARE)))
        change = closure.narrowing(excess * shape) / scale
        self.model.mouth_head.bias.add_(torch.from_numpy(change.astype(np.float32)))
        self.average.load_state_dict(self.model.state_dict())

    def _mean_mouth(self, speech: Floats, phones: NDArray[np.int64]) -> Tensor:
        embedder = self.model.speech_embedder
        assert isinstance(embedder, SpeechConv)
        told = torch.from_numpy(phones) if embedder.config.num_phones else None
        tokens = embedder(torch.from_numpy(speech), told)
        tokens = F.dropout(tokens, MEAN_DROPOUT, training=self.model.training)
        mouth: Tensor = self.model.mouth_head(tokens)
        return mouth

    def _flow_losses(self, batch: Batch) -> dict[str, Tensor]:
        options = self.options
        motion = torch.from_numpy(batch.motion)
        count = len(motion)
        silent = torch.from_numpy(batch.is_silent)
        forgotten = torch.rand(count) < options.condition_dropout
        emotion = torch.from_numpy(batch.emotion)
        if self.model.config.mouth_size:
            motion = motion - self.model.emotion_mean[emotion][:, None]
        emotion = torch.where(forgotten, self.model.config.none_emotion, emotion)
        conditions = self.model.encode_conditions(
            torch.from_numpy(batch.speech),
            emotion,
            torch.from_numpy(batch.identity),
            null_speech=silent | forgotten,
            phones=torch.from_numpy(batch.phones),
        )
        tokens = F.dropout(conditions.speech, options.token_dropout)
        conditions = conditions._replace(speech=tokens)
        sigma = torch.sigmoid(torch.randn(count) * SIGMA_LOGIT_STD + SIGMA_LOGIT_MEAN)
        noise = torch.randn_like(motion)
        rest = motion - conditions.mean.detach()
        noisy = interpolate(rest, noise, sigma[:, None, None])
        predicted = self.model(
            noisy,
            torch.from_numpy(batch.previous_motion),
            (1000.0 * sigma).clamp(min=1.0),
            conditions,
        )
        error = predicted - velocity(rest, noise)
        if self.model.config.mouth_size:
            # A mouth without its sound differs from the mean by all that it says.
            error[silent, :, self.metric.mouth] = 0.0
        return {"flow": self.metric.flow_loss(error, torch.from_numpy(batch.weight))}

    def _set_learning_rate(self, speech_only: bool) -> float:
        """Warm-up, then a cosine to 2 %, for each of the two stages on its own."""
        options = self.options
        first = 0 if speech_only else options.speech_steps
        length = options.speech_steps if speech_only else options.flow_steps
        progress = (self.step - first) / max(1, length)
        warm_up = min(1.0, (self.step - first + 1) / max(1, options.warm_up_steps))
        factor = warm_up * max(0.02, 0.5 * (1.0 + math.cos(math.pi * progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["base"]
        return factor * options.learning_rate

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.options.ema_decay, (self.step + 1) / (self.step + 20))
        for average, current in zip(
            self.average.state_dict().values(), self.model.state_dict().values(), strict=True
        ):
            if average.is_floating_point():
                average.lerp_(current, 1.0 - decay)
            else:
                average.copy_(current)

    @property
    def checkpoint_path(self) -> Path:
        return self.folder / "training.pt"

    def save(self) -> None:
        """Write everything that is needed to go on, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint_path.with_suffix(".partial")
        torch.save(
            {
                "step": self.step,
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "torch_random": torch.get_rng_state(),
                "random": json.dumps(self.random.bit_generator.state),
                "windows": json.dumps(self.windows.random_state),
            },
            partial,
        )
        partial.replace(self.checkpoint_path)

    def resume(self) -> bool:
        """Continue from the folder's checkpoint; False if there is none.

        Raises:
            CheckpointError: it is damaged or of another model.
        """
        if not self.checkpoint_path.exists():
            return False
        try:
            state: dict[str, Any] = torch.load(self.checkpoint_path, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            torch.set_rng_state(state["torch_random"])
            self.random.bit_generator.state = json.loads(state["random"])
            self.windows.random_state = json.loads(state["windows"])
            self.step = int(state["step"])
        except (RuntimeError, KeyError, ValueError, OSError) as error:
            raise CheckpointError(
                f"{self.checkpoint_path} does not fit this training: {error}; "
                "use another folder, or remove it to start anew"
            ) from error
        return True
