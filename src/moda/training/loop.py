"""The training loop: lips from speech first, then the flow of all else.

Both stages keep a moving average of the weights. Everything random follows from the seed and the
number of the step, so a run that was interrupted goes on as if it had not been, and several
processes that share each batch train what one would.
"""

from __future__ import annotations

import copy
import math
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from moda.config import ModelConfig
from moda.data.dataset import Batch, WindowSampler
from moda.errors import CheckpointError, InputError
from moda.motion.model import MotionTransformer
from moda.motion.rules.idle import LipClosure
from moda.motion.variants.building import build_model
from moda.structures import MotionSpace
from moda.training.losses import MotionMetric
from moda.training.options import Report, TrainingOptions
from moda.training.processes import Processes
from moda.training.read_ahead import ReadAhead
from moda.training.snapshots import Snapshots
from moda.training.step_losses import StepLosses
from moda.training.sync.network import SyncExpert

SPEECH_FRAMES = 80
"""Length of the windows of the first stage."""
SETTLING_BATCHES = 20
QUIETEST_SHARE = 0.1
LOWEST_RATE = 0.02
"""Part of the learning rate at which a cosine ends."""
GRADIENT_CLIP = 1.0
"""Largest norm of all gradients together."""
KEPT_SNAPSHOTS = 2
VALIDATION_PASSES, VALIDATION_WINDOWS = 3, 8
"""Of the validation loss, always the same windows and noise."""


def require_shares(options: TrainingOptions, processes: Processes) -> None:
    """Raises :class:`InputError` where a batch is no whole number of windows for every pass."""
    parts = processes.count * options.accumulation
    if options.batch_size % parts:
        raise InputError(
            f"a batch of {options.batch_size} windows cannot be shared by {processes.count} "
            f"processes in {options.accumulation} passes each; make it a multiple of {parts}"
        )


class Trainer:
    """Trains one model; :meth:`run` continues where the last snapshot of the folder ends.

    ``model`` begins with weights of its own, such as those of a checkpoint; what of it requires no
    gradient is left as it is. ``validation`` draws windows of held-out speakers.
    """

    def __init__(
        self,
        config: ModelConfig,
        space: MotionSpace,
        windows: WindowSampler,
        options: TrainingOptions,
        folder: Path,
        *,
        model: MotionTransformer | None = None,
        processes: Processes | None = None,
        expert: SyncExpert | None = None,
        validation: WindowSampler | None = None,
    ) -> None:
        torch.manual_seed(options.seed)
        self.options, self.folder, self.windows, self.space = options, folder, windows, space
        self.processes = processes or Processes()
        require_shares(options, self.processes)
        self.model = build_model(config.motion) if model is None else model
        self.model.representation.requires_grad_(False)
        if expert is None and options.sync_weight:
            raise InputError("sync_weight is set and there is no sync expert")
        expert = expert if options.sync_weight else None
        self.losses = StepLosses(self.model, space, options, expert)
        self._require_mean_of_mouth(config)
        self._trainable = {id(p) for p in self.model.parameters() if p.requires_grad}
        self._shared = self.processes.wrap(self.losses)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self._validation = validation
        self.optimizer = self._make_optimizer()
        self.snapshots = Snapshots(folder / "snapshots", KEPT_SNAPSHOTS)
        self.step = 0

    @property
    def num_steps(self) -> int:
        """Of both stages together."""
        return self.options.speech_steps + self.options.flow_steps

    @property
    def _learns_mean(self) -> bool:
        """Whether the mean of the mouth may be changed; that of an adapted model may not."""
        head = getattr(self.model, "mouth_head", None)
        return head is not None and id(head.bias) in self._trainable

    def run(self, report: Report = lambda values: None) -> MotionTransformer:
        """Train to the end and return the averaged model. ``report`` is called in every process.

        Raises:
            InputError: the loss is not a number; step, learning rate and windows are named.
        """
        started = time.perf_counter()
        ahead = ReadAhead(self._make_part, self.num_steps * self.options.accumulation)
        try:
            self._run(ahead, report, started)
        finally:
            ahead.close()
        return self.average.eval()

    def _run(self, ahead: ReadAhead[Batch], report: Report, started: float) -> None:
        while self.step < self.num_steps:
            values = self._train_step(ahead)
            self.step += 1
            if self.step == self.options.speech_steps and self._learns_mean:
                self.settle_mean()
            pauses = self.step % self.options.checkpoint_every == 0 or self.step == self.num_steps
            if pauses and self.step > self.options.speech_steps:
                values |= self._validate()
            report({"step": self.step, "seconds": time.perf_counter() - started, **values})
            if pauses:
                self.save()

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Loss of the averaged flow on windows of held-out speakers, told all there is.

        The first process measures; nothing where nobody is held out.
        """
        if self._validation is None or self.processes.index:
            return {}
        options = replace(
            self.options, condition_dropout=0.0, speech_dropout=0.0, token_dropout=0.0
        )
        losses = StepLosses(self.average.eval(), self.space, options)
        num_frames = max(options.window_frames)
        batches = [
            self._validation.batch(VALIDATION_WINDOWS, num_frames, draw=draw)
            for draw in range(VALIDATION_PASSES)
        ]
        found = [float(losses.flow_losses(batch)["flow"]) for batch in batches]
        return {"validation": float(np.mean(found))}

    def _train_step(self, ahead: ReadAhead[Batch]) -> dict[str, float]:
        options, processes = self.options, self.processes
        speech_only = self.step < options.speech_steps
        rate = self._set_learning_rate(speech_only)
        self._set_stage(speech_only)
        self.optimizer.zero_grad()
        totals: dict[str, Tensor] = {}
        for index in range(options.accumulation):
            batch = ahead[self.step * options.accumulation + index]
            averages = index == options.accumulation - 1
            with nullcontext() if averages else processes.without_averaging(self._shared):
                losses, count = self._shared(batch, speech_only)
                # Gradients are averaged over processes; this makes it a mean over all windows.
                weight = processes.count * count / self._num_windows(speech_only)
                loss = weight * torch.stack(list(losses.values())).sum()
                loss.backward()
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + weight * value.detach()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_CLIP)
        found = processes.mean(torch.stack([*totals.values(), norm.detach()])).tolist()
        values = dict(zip([*totals, "gradient"], found, strict=True))
        self._require_numbers(values, rate)
        self.optimizer.step()
        self._update_average()
        return values | {"rate": rate}

    def _make_part(self, number: int) -> Batch:
        """What this process computes in a pass; passes are numbered through all steps."""
        step, index = divmod(number, self.options.accumulation)
        parts = self.processes.count * self.options.accumulation
        first = self.processes.index * self.options.accumulation + index
        return self._make_batch(step, slice(first, None, parts))

    def _make_batch(self, step: int, part: slice) -> Batch:
        options, num_frames = self.options, SPEECH_FRAMES
        if step >= options.speech_steps:
            random = np.random.default_rng([options.seed, step])
            num_frames = int(random.choice(options.window_frames))
        return self.windows.batch(options.batch_size, num_frames, draw=step, part=part)

    def _num_windows(self, speech_only: bool) -> int:
        """Of the whole batch, those that the losses are about."""
        size = self.options.batch_size
        return size - self.windows.num_silent(size) if speech_only else size

    def _set_stage(self, speech_only: bool) -> None:
        """Choose what learns and what stays as it is."""
        options, model = self.options, self.model
        model.train()
        frozen = options.freeze_speech_embedder and not speech_only
        for parameter in model.speech_embedder.layer_parameters():
            parameter.requires_grad_(not frozen and id(parameter) in self._trainable)
        if hasattr(model, "mouth_head"):
            for parameter in model.mouth_head.parameters():
                parameter.requires_grad_(speech_only and id(parameter) in self._trainable)
        if frozen:
            model.speech_embedder.eval()
        for module in model.speech_embedder.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()  # its statistics are settled; small batches would only shake them

    def _require_numbers(self, values: dict[str, float], rate: float) -> None:
        """Raise :class:`InputError` that names the windows unless all values are finite."""
        if all(math.isfinite(value) for value in values.values()):
            return
        name, value = next(item for item in values.items() if not math.isfinite(item[1]))
        what = f"the loss is {value}" if name != "gradient" else f"the gradient is {value}"
        batch = self._make_batch(self.step, slice(None))
        num_frames = batch.motion.shape[1]
        whole = [
            np.isfinite(batch.motion[k]).all() and np.isfinite(batch.speech[k]).all()
            for k in range(len(batch.motion))
        ]
        broken = [window for window, good in zip(batch.windows, whole, strict=True) if not good]
        named = ", ".join(
            f"{window.clip} frames {window.start}..{window.start + num_frames - 1}"
            for window in broken or batch.windows
        )
        remedy = (
            f"these windows are broken, prepare or leave out their clips: {named}"
            if broken
            else f"all windows hold numbers, so lower the learning rate; they are {named}"
        )
        raise InputError(f"{what} at step {self.step} with learning rate {rate:.2g}; {remedy}")

    @torch.no_grad()
    def settle_mean(self) -> None:
        """Go on with the averaged mean of the mouth, with lips that come together in speech.

        A mean over speakers is never quite closed: the quietest tenth of the middle gap becomes 0,
        by the smallest change of the face, the same in all frames.
        """
        mouth_part = self.space.slice("mouth")
        self.model.load_state_dict(self.average.state_dict())
        self.model.eval()
        mouths = []
        for index in range(SETTLING_BATCHES):
            draw = self.num_steps + index
            batch = self.windows.batch(self.options.batch_size, SPEECH_FRAMES, draw=draw)
            speaking = batch.weight.astype(bool) & ~batch.is_silent[:, None]
            speech = torch.from_numpy(batch.speech).to(self.processes.device)
            mouth = self.losses.mean_mouth(speech)
            mouths.append(mouth.cpu().numpy()[speaking])
        scale = self.space.scale[mouth_part]
        raw = np.concatenate(mouths) * scale + self.space.mean[mouth_part]
        closure = LipClosure(self.space)
        gaps = closure.gaps(raw.astype(np.float64))
        middle = gaps[:, gaps.shape[1] // 2]
        shape = gaps.mean(0) / max(float(middle.mean()), 1e-6)
        excess = max(0.0, float(np.quantile(middle, QUIETEST_SHARE)))
        change = closure.narrowing(excess * shape) / scale
        bias = self.model.mouth_head.bias
        bias.add_(self.processes.same(torch.from_numpy(change.astype(np.float32))).to(bias.device))
        self.average.load_state_dict(self.model.state_dict())

    def _set_learning_rate(self, speech_only: bool) -> float:
        """Warm-up, then constant or a cosine to 2 %, for each of the two stages on its own."""
        options = self.options
        first = 0 if speech_only else options.speech_steps
        length = options.speech_steps if speech_only else options.flow_steps
        progress = (self.step - first) / max(1, length)
        factor = min(1.0, (self.step - first + 1) / max(1, options.warm_up_steps))
        if options.schedule == "cosine":
            factor *= max(LOWEST_RATE, 0.5 * (1.0 + math.cos(math.pi * progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = factor * options.learning_rate
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

    def _make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            [p for p in self.model.parameters() if p.requires_grad],
            lr=self.options.learning_rate,
            weight_decay=self.options.weight_decay,
            betas=(0.9, 0.99),
        )

    def _require_mean_of_mouth(self, config: ModelConfig) -> None:
        metric, size = self.losses.metric, config.motion.mouth_size
        if not isinstance(metric, MotionMetric):
            if size or self.options.speech_steps:
                raise InputError(
                    f"the {self.space.name} motion space has no vertices to see a mouth in; "
                    "set mouth_size and speech_steps to 0"
                )
            return
        mouth_size = metric.mouth.stop - metric.mouth.start
        if size not in (0, mouth_size):
            raise InputError(
                f"the model predicts the mean of {size} numbers of the mouth; "
                f"this motion space has {mouth_size}"
            )
        if self.options.speech_steps and not hasattr(self.model, "mouth_head"):
            raise InputError(
                f"{self.options.speech_steps} speech steps train the mean of the mouth, and the "
                f"model {config.name} predicts none, or reads it; set speech_steps to 0"
            )

    def save(self) -> None:
        """Write everything that is needed to go on, whole or not at all; old ones are removed."""
        if self.processes.index == 0:
            self.snapshots.write(
                self.step,
                {
                    "model": self.model.state_dict(),
                    "average": self.average.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                },
            )

    def resume(self) -> bool:
        """Continue from the folder's newest snapshot; False if there is none.

        Raises:
            CheckpointError: it is damaged or of another model.
        """
        found = self.snapshots.read(self.processes.device)
        if found is None:
            return False
        try:
            self.model.load_state_dict(found.state["model"])
            self.average.load_state_dict(found.state["average"])
            self.optimizer.load_state_dict(found.state["optimizer"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{found.path} does not fit this training: {error}; "
                "use another folder, or remove it to start anew"
            ) from error
        self.step = found.step
        return True
