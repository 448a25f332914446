"""The motion network computed by onnxruntime: small, and there without torch.

It is a :class:`moda.motion.network.Network` of numpy's arrays, whose documentation it shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moda.config import MotionModelConfig, Precision, preset
from moda.graphs import Graph
from moda.motion.flow import sample_euler
from moda.motion.network import GRAPHS, Conditions, Heard
from moda.structures import Floats

NULL_SPEECH, EMOTIONS, EMOTION_MEAN = (
    "speech_embedder.null_speech",
    "emotion_embedder.weight",
    "emotion_mean",
)
OUTSIDE_GRAPHS = (NULL_SPEECH, EMOTIONS, EMOTION_MEAN)
"""Weights that are looked at; the graphs have copies of all others."""


def has_graph(config: MotionModelConfig) -> bool:
    """Whether the package has graphs for networks of this configuration.

    Windows may have any length; neither that nor dropout is part of the graphs.
    """
    known = preset("moda-tiny").motion
    embedder = replace(known.speech_embedder, dropout=config.speech_embedder.dropout)
    return config == replace(
        known, window=config.window, overlap=config.overlap, speech_embedder=embedder
    )


class OnnxNetwork:
    """A trained motion network of moda-tiny's configuration.

    Args:
        config: one that :func:`has_graph`.
        weights: by the names that :class:`moda.motion.model.MotionTransformer` gives them.
    """

    def __init__(self, config: MotionModelConfig, weights: Mapping[str, NDArray[Any]]) -> None:
        assert has_graph(config)
        self.config = config
        self._weights = {name: np.array(weights[name]) for name in OUTSIDE_GRAPHS}
        self._encode, self._modulations, self._predict, self._hear, self._mean = (
            Graph(name, weights) for name in GRAPHS.values()
        )

    @property
    def reads(self) -> bool:
        return True

    def emotion_offsets(self) -> Floats | None:
        offsets: Floats = self._weights[EMOTION_MEAN]
        return offsets

    def hear(self, features: Floats) -> Heard:
        return Heard(*self._hear.run({"features": features[None]}))

    def mean_of(self, features: Floats) -> Floats:
        return self._mean.run({"features": features[None]})[0]

    def inference(self, precision: Precision = "float32") -> AbstractContextManager[object]:
        return nullcontext()

    def array(self, values: Floats) -> Floats:
        return values

    def floats(self, values: Floats) -> Floats:
        return values

    def encode(
        self, features: Floats, emotion: int, intensity: float, identity: Floats
    ) -> Conditions[Floats]:
        given = {
            "features": features[None],
            "emotion": np.array([emotion, self.config.none_emotion]),
            "intensity": np.array([intensity], np.float32),
            "identity": identity[None],
        }
        return Conditions(*self._encode.run(given))

    def with_unconditional(self, conditions: Conditions[Floats]) -> Conditions[Floats]:
        null = self._weights[NULL_SPEECH]
        none = self._weights[EMOTIONS][self.config.none_emotion]
        without = (
            np.broadcast_to(null, conditions.speech.shape),
            none[None],
            conditions.identity,
            conditions.mean,
        )
        return Conditions(*(np.concatenate(pair) for pair in zip(without, conditions, strict=True)))

    def modulations(self, timestep: Floats, emotion: Floats) -> Sequence[Floats]:
        given = {"timestep": timestep, "embedded_emotion": emotion}
        return self._modulations.run(given)

    def predict(
        self,
        noisy_motion: Floats,
        previous_motion: Floats,
        modulations: Sequence[Floats],
        conditions: Conditions[Floats],
    ) -> Floats:
        batch, num_frames = conditions.speech.shape[:2]
        head_size = self.config.hidden // self.config.num_heads
        given = {
            "noisy": noisy_motion.repeat(batch, axis=0),
            "previous": previous_motion.repeat(batch, axis=0),
            "speech": conditions.speech,
            "embedded_emotion": conditions.emotion,
            "embedded_identity": conditions.identity,
            **_positions(num_frames, head_size, self.config.rope_base),
            **{f"modulation_{index}": part for index, part in enumerate(modulations)},
        }
        return self._predict.run(given)[0]

    def sample(
        self, predict: Callable[[Floats, int], Floats], noise: Floats, schedule: Floats
    ) -> Floats:
        return sample_euler(predict, noise, schedule)

    def represent(self, motion: Floats) -> Floats:
        return motion[..., list(self.config.sampled)]

    def decode(self, generated: Floats) -> Floats:
        whole = np.zeros((*generated.shape[:-1], self.config.motion_size), np.float32)
        whole[..., list(self.config.sampled)] = generated
        return whole


@cache
def _positions(num_frames: int, head_size: int, base: float) -> dict[str, Floats]:
    """Rotations (N, d/2, 2) of the tokens, and what is added to the logits of the keys.

    As :meth:`moda.motion.model.MotionTransformer._positions`, with one token each for emotion and
    identity, which counts for all frames.
    """
    exponent = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
    angle = np.outer(np.arange(num_frames, dtype=np.float32), np.float32(base) ** -exponent)
    frames = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    plain = np.broadcast_to(np.array([1.0, 0.0], np.float32), (2, head_size // 2, 2))
    bias = np.zeros(2 * num_frames + 2, np.float32)
    bias[2 * num_frames :] = math.log(num_frames)
    return {
        "rope": np.concatenate([frames] * 4),
        "joint_rope": np.concatenate([frames, frames, plain]),
        "key_bias": bias,
    }
