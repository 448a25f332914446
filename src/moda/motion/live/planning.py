"""What the flow makes, while somebody speaks: head, brows and cheeks a little ahead of time.

A window of the usual length slides over the frames. Its beginning is known motion: at every step
the flow is given that motion at the noise level of the step (the replacement method of arXiv
2011.13456, appendix I.2, for a straight flow). Its end lies in the future, where the speech is as
after the end of a recording. Every frame keeps its own noise, so that windows agree on the frames
they share. One step of the sampler is taken per frame, which spreads the work evenly.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from moda.errors import InputError
from moda.motion.flow import guide, interpolate, uniform_schedule
from moda.motion.model import Conditions, MotionTransformer
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
        self._work: _Sampling | None = None
        nothing = np.zeros((self.num_frames, config.speech.size), np.float32)
        first = self._start(np.zeros((0, config.motion_size), np.float32), nothing)
        while not first.is_done:
            first.step()
        rows = first.rows(self._pose)
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
            self._work = self._start(before[-self._num_known - 1 :], features)
        row: Floats = self._plan[0]
        self._plan = self._plan[1:]
        self._past = np.concatenate([self._past[1:], row[None]])
        self._means = np.concatenate([self._means[1:], mean[None]])
        self._age += 1
        if self._work is not None:
            for _ in range(self._per_frame):
                self._work.step()
            if self._work.is_done:
                new = self._work.rows(self._pose)[self._num_known :]
                self._plan = fuse(self._plan, new, OVERLAP_FRAMES)
                self._work = None
        return row * self._share

    def _start(self, before: Floats, features: Floats) -> _Sampling:
        """Begin a plan after the known rows (num_known + 1, D), or after nothing."""
        known = torch.from_numpy(before[1:])[None]
        previous = torch.zeros(1, 1, self._model.config.motion_size)
        if len(before):
            shown = self._share * before[0] + self._means[self._lead]
            previous[0, 0] = torch.from_numpy(shown)
        heard = features[len(features) - self.num_frames :]
        window = np.pad(heard, ((0, self._unheard), (0, 0)))
        return _Sampling(
            self._model,
            encode_window(self._model, window, self._identity, self._emotion),
            previous,
            known,
            self._noise[None] * self._noise_scale,
            self._schedule,
            self._guidance_scale,
        )

    def _draw(self, count: int) -> Tensor:
        return torch.randn(count, self._model.config.generated_size, generator=self._generator)


class _Sampling:
    """One window on its way from noise to motion, step by step."""

    def __init__(
        self,
        model: MotionTransformer,
        conditions: Conditions,
        previous: Tensor,
        known: Tensor,
        noise: Tensor,
        schedule: Tensor,
        guidance_scale: float,
    ) -> None:
        self._model, self._schedule = model, schedule
        self._weights = guidance_weights(model.config, guidance_scale)
        self._conditions = [conditions]
        if guidance_scale > 1.0:
            self._conditions.insert(0, model.without_speech_and_emotion(conditions))
        self._modulations = [
            schedule_modulations(model, part, schedule, 1.0) for part in self._conditions
        ]
        self._previous, self._known, self._noise = previous, known, noise
        self._motion = noise
        self._done = 0

    @property
    def is_done(self) -> bool:
        return self._done == len(self._schedule)

    @torch.inference_mode()
    def step(self) -> None:
        """One Euler step, of those that are left."""
        if self.is_done:
            return
        sigma, following = self._schedule[self._done]
        count = self._known.shape[1]
        known = self._model.representation.encode(self._known)
        beginning = interpolate(known, self._noise[:, :count], sigma)
        noisy = torch.cat([beginning, self._motion[:, count:]], dim=1)
        slopes = [
            self._model.velocity(
                noisy, self._previous, [part[self._done] for part in modulations], conditions
            )
            for conditions, modulations in zip(self._conditions, self._modulations, strict=True)
        ]
        slope = slopes[-1]
        if len(slopes) == 2:
            slope = guide(slopes[0], slopes[1], self._weights)
        self._motion = noisy + (following - sigma) * slope
        self._done += 1

    @torch.inference_mode()
    def rows(self, pose: slice) -> Floats:
        """(W, D) the window with its known frames exact, and smooth in the pose."""
        count = self._known.shape[1]
        made = self._model.representation.decode(self._motion[:, count:])
        whole = torch.cat([self._known, made], dim=1)
        return smooth_pose(whole[0].numpy(), pose)
