"""What the flow makes, while somebody speaks: head, brows and cheeks a little ahead of time.

A window of the usual length slides over the frames. Its beginning is known motion: at every step
the flow is given that motion at the noise level of the step (the replacement method of arXiv
2011.13456, appendix I.2, for a straight flow). Its end lies in the future, where the speech is as
after the end of a recording. Every frame keeps its own noise, so that windows agree on the frames
they share. One step of the sampler is taken per frame, which spreads the work evenly.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from moda.errors import InputError
from moda.motion.flow import guide, interpolate, uniform_schedule
from moda.motion.model import MotionTransformer
from moda.motion.sampler import (
    SamplingOptions,
    encode_window,
    fuse,
    guidance_weights,
    schedule_modulations,
    smooth_pose,
)
from moda.structures import EmotionAt, Floats

STRIDE_FRAMES = 8
"""A new plan is made this often, 0.32 s."""
OVERLAP_FRAMES = 8
"""Frames over which one plan becomes the next."""


class HeadPlanner:
    """Gives what is added to the mean, frame by frame, from speech heard up to now.

    The known motion of later windows is the flow's own. The ``share`` of that motion is given out.
    Numbers that rules make are 0 in it.

    Args:
        model: in evaluation mode.
        identity: (63,)
        generator: source of the noise.
        sampling: the model's way of sampling.
        pose: where the pose lies in the motion.
        look_ahead: frames by which the frames that are asked for are behind those heard.
    """

    def __init__(
        self,
        model: MotionTransformer,
        *,
        identity: Floats,
        generator: torch.Generator,
        sampling: SamplingOptions,
        pose: slice,
        look_ahead: int,
    ) -> None:
        config, num_steps = model.config, sampling["num_steps"]
        self._model, self._pose = model, pose
        self._identity = identity.astype(np.float32)
        self._generator = generator
        self._schedule = uniform_schedule(num_steps)
        self._guidance_scale = sampling["guidance_scale"]
        scale, share = sampling["noise_scale"], sampling["share"]
        self._noise_scale = torch.ones(config.generated_size)
        if scale is not None:
            self._noise_scale = torch.from_numpy(scale)[list(config.sampled)]
        self._share = np.ones(config.motion_size, np.float32) if share is None else share
        self._per_frame = -(-num_steps // STRIDE_FRAMES)
        self._lead = -(-num_steps // self._per_frame)
        """Frames that a plan takes to be made."""
        self._num_new = STRIDE_FRAMES + OVERLAP_FRAMES
        self._num_known = config.window - self._num_new
        self._unheard = self._lead + self._num_new - 1 + config.speech_embedder.after - look_ahead
        if self._num_known <= self._lead or self._unheard < 0:
            raise InputError(
                f"windows of {config.window} frames with {num_steps} steps and a look-ahead of "
                f"{look_ahead} frames cannot be planned live; take fewer steps"
            )
        self.num_frames = config.window + 2 * config.speech_embedder.context - self._unheard
        """Frames of speech, up to the last that was heard, that a plan hears."""
        self._emotion = EmotionAt(0.0, None, 0.0)
        self._noise = self._draw(config.window)
        self._means = np.zeros((self._num_known + 1, config.motion_size), np.float32)
        """The mean of the last frames that were given out."""
        self._work: Iterator[Floats | None] = iter(())
        nothing = np.zeros((self.num_frames, config.speech.size), np.float32)
        *_, rows = self._steps(self._means[0], self._means[:0], nothing)
        assert rows is not None
        spare = STRIDE_FRAMES - self._lead
        begin = self._num_known + spare
        self._past = np.pad(rows[:begin], ((1, 0), (0, 0)))[-self._num_known - 1 :]
        """What the flow made of the last frames that were given out."""
        self._plan = rows[begin:]
        self._age = 0

    def express(self, emotion: EmotionAt) -> None:
        """The emotion of the plans to come."""
        self._emotion = emotion

    def next(self, mean: Floats, features: Floats) -> Floats:
        """What is added (D,) to the ``mean`` (D,) of the next frame.

        ``features`` (N, F) are of the last frames that were heard, ``num_frames`` or more.
        """
        if self._age % STRIDE_FRAMES == 0:
            before = np.concatenate([self._past, self._plan[: self._lead]])
            self._noise = torch.cat([self._noise[STRIDE_FRAMES:], self._draw(STRIDE_FRAMES)])
            known = before[-self._num_known - 1 :]
            previous = self._share * known[0] + self._means[self._lead]
            self._work = self._steps(previous, known[1:], features)
        row: Floats = self._plan[0]
        self._plan = self._plan[1:]
        self._past = np.concatenate([self._past[1:], row[None]])
        self._means = np.concatenate([self._means[1:], mean[None]])
        self._age += 1
        for new in islice(self._work, self._per_frame):
            if new is not None:
                self._plan = fuse(self._plan, new[self._num_known :], OVERLAP_FRAMES)
        return row * self._share

    @torch.inference_mode()
    def _steps(self, previous: Floats, known: Floats, features: Floats) -> Iterator[Floats | None]:
        """Take the steps of a plan after the frame ``previous`` (D,) and ``known`` rows (K, D).

        Yields None after each Euler step but the last, and then the window (W, D) with its known
        frames exact, and smooth in the pose.
        """
        model, count, device = self._model, len(known), next(self._model.parameters()).device
        beginning = torch.from_numpy(known)[None].to(device)
        before = torch.from_numpy(previous)[None, None].to(device)
        heard = features[len(features) - self.num_frames :]
        window = np.pad(heard, ((0, self._unheard), (0, 0)))
        conditions = [encode_window(model, window, self._identity, self._emotion)]
        if self._guidance_scale > 1.0:
            conditions.insert(0, model.without_speech_and_emotion(conditions[0]))
        modulations = [
            schedule_modulations(model, half, self._schedule, 1.0) for half in conditions
        ]
        weights = guidance_weights(model.config, self._guidance_scale).to(device)
        motion = noise = (self._noise[None] * self._noise_scale).to(device)
        for step, (sigma, following) in enumerate(self._schedule.to(device)):
            if step:
                yield None
            encoded = model.representation.encode(beginning)
            noisy = torch.cat(
                [interpolate(encoded, noise[:, :count], sigma), motion[:, count:]], dim=1
            )
            slopes = [
                model.velocity(
                    noisy,
                    before,
                    [part[step] for part in own],
                    half,
                )
                for half, own in zip(conditions, modulations, strict=True)
            ]
            slope = guide(slopes[0], slopes[1], weights) if len(slopes) == 2 else slopes[0]
            motion = noisy + (following - sigma) * slope
        made = model.representation.decode(motion[:, count:])
        yield smooth_pose(torch.cat([beginning, made], dim=1)[0].cpu().numpy(), self._pose)

    def _draw(self, count: int) -> Tensor:
        return torch.randn(count, self._model.config.generated_size, generator=self._generator)
