"""What the flow makes, while somebody speaks: head, brows and cheeks a little ahead of time.

A window slides over the frames. Its beginning is known motion: at every step
the flow is given that motion at the noise level of the step (the replacement method of arXiv
2011.13456, appendix I.2, for a straight flow). Its end lies in the future, where the speech is as
after the end of a recording. Every frame keeps its own noise, so that windows agree on the frames
they share. Steps of the sampler are taken one per frame, which spreads the work evenly.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from moda.errors import InputError
from moda.motion.flow import guide, interpolate, uniform_schedule
from moda.motion.network import Network
from moda.motion.noise import NoiseGenerator
from moda.motion.sampler import (
    SamplingOptions,
    encode_window,
    fuse,
    guidance_weights,
    schedule_modulations,
    smooth_pose,
)
from moda.structures import EmotionAt, Floats

STRIDE_FRAMES = 12
"""A new plan is made this often, 0.48 s."""
WINDOW_FRAMES = 48
"""Of a plan at most: as long as the model's own costs twice as much, with the same lips."""
OVERLAP_FRAMES = 8
"""Frames over which one plan becomes the next."""
MOUTH_SHARE = 0.5
"""Of what the flow adds to the mouth offline: a plan has not heard what its last frames say."""


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
        model: Network[Any],
        *,
        identity: Floats,
        generator: NoiseGenerator,
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
        self._noise_scale = np.ones(config.generated_size, np.float32)
        if scale is not None:
            self._noise_scale = scale[list(config.sampled)]
        self._share = np.ones(config.motion_size, np.float32) if share is None else share.copy()
        self._share[: config.mouth_size] *= MOUTH_SHARE
        self._per_frame = -(-num_steps // STRIDE_FRAMES)
        self._lead = -(-num_steps // self._per_frame)
        """Frames that a plan takes to be made."""
        self._num_new = STRIDE_FRAMES + OVERLAP_FRAMES
        self._window = min(config.window, WINDOW_FRAMES)
        self._num_known = self._window - self._num_new
        self._unheard = self._lead + self._num_new - 1 + config.speech_embedder.after - look_ahead
        if self._num_known <= self._lead or self._unheard < 0:
            raise InputError(
                f"windows of {self._window} frames with {num_steps} steps and a look-ahead of "
                f"{look_ahead} frames cannot be planned live; take fewer steps"
            )
        self.num_frames = self._window + 2 * config.speech_embedder.context - self._unheard
        """Frames of speech, up to the last that was heard, that a plan hears."""
        self._emotion = EmotionAt(0.0, None, 0.0)
        self._noise = self._draw(self._window)
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
            self._noise = np.concatenate([self._noise[STRIDE_FRAMES:], self._draw(STRIDE_FRAMES)])
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

    def _steps(self, previous: Floats, known: Floats, features: Floats) -> Iterator[Floats | None]:
        """Take the steps of a plan after the frame ``previous`` (D,) and ``known`` rows (K, D).

        Yields None after each Euler step but the last, and then the window (W, D) with its known
        frames exact, and smooth in the pose.
        """
        model, count = self._model, len(known)
        heard = features[len(features) - self.num_frames :]
        window = np.pad(heard, ((0, self._unheard), (0, 0)))
        conditions = encode_window(model, window, self._identity, self._emotion)
        modulations = schedule_modulations(model, conditions, self._schedule, self._guidance_scale)
        weights = guidance_weights(model.config, self._guidance_scale)
        before = model.array(previous[None, None])
        with model.inference():
            encoded = model.floats(model.represent(model.array(known[None])))
            if self._guidance_scale > 1.0:
                conditions = model.with_unconditional(conditions)
        motion = noise = self._noise[None] * self._noise_scale
        for step, (sigma, following) in enumerate(self._schedule.tolist()):
            if step:
                yield None
            beginning = interpolate(encoded, noise[:, :count], sigma)
            noisy = np.concatenate([beginning, motion[:, count:]], axis=1)
            with model.inference():
                of_step = [part[step] for part in modulations]
                slope = model.floats(model.predict(model.array(noisy), before, of_step, conditions))
            if len(slope) == 2:
                slope = guide(slope[:1], slope[1:], weights)
            motion = noisy + (following - sigma) * slope
        with model.inference():
            made = model.floats(model.decode(model.array(motion[:, count:])))
        yield smooth_pose(np.concatenate([known, made[0]]), self._pose)

    def _draw(self, count: int) -> Floats:
        return self._generator.normal(count, self._model.config.generated_size)
