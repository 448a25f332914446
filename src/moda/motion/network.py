"""What sampling and hearing ask of a motion network, whichever library computes it.

Two networks answer: :class:`moda.motion.model.MotionTransformer` with torch, which also learns, and
:class:`moda.motion.onnx_network.OnnxNetwork` with onnxruntime. Their own arrays, ``Values``, go in
and out where one result is the next one's input.

Axis letters: B batch, T frames, F speech features, C hidden channels, D motion, G numbers of the
motion that are made from noise, M modulations, P phones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Generic, NamedTuple, Protocol

from moda.config import MotionModelConfig, Precision
from moda.motion.flow import Values
from moda.structures import Floats

GRAPHS = {
    name: f"motion_{name}.onnx" for name in ("encode", "modulations", "predict", "hear", "mean")
}
"""Files of the package with the graphs of moda-tiny's configuration."""


class Conditions(NamedTuple, Generic[Values]):
    """What does not change while one window is sampled, embedded."""

    speech: Values  # (B, T, C)
    emotion: Values  # (B, C)
    identity: Values  # (B, C)
    mean: Values
    """(B, T, D) mean of the motion given the speech, to be added to what the flow makes; (B, 1, D)
    zeros where the model predicts none"""


class Heard(NamedTuple):
    """What a network recognises in T frames of speech."""

    phones: Floats
    """(2 T, P) probabilities at 50 Hz"""
    voice: Floats
    """(T,) above 0 where somebody speaks"""


class Network(Protocol[Values]):
    """A trained motion network. Speech features come with their context, (T + 2 * context, F)."""

    @property
    def config(self) -> MotionModelConfig: ...

    @property
    def reads(self) -> bool:
        """Whether it recognises mouth, phones and voices in the speech at once."""
        ...

    def emotion_offsets(self) -> Floats | None:
        """(num_emotions + 1, D) what each emotion adds to the normalised motion of all frames."""
        ...

    def hear(self, features: Floats) -> Heard:
        """Phones and voices in speech, of a network that :attr:`reads`."""
        ...

    def mean_of(self, features: Floats) -> Floats:
        """(T, D) mean of the normalised motion given the speech, zeros (1, D) if there is none."""
        ...

    def inference(self, precision: Precision = "float32") -> AbstractContextManager[object]:
        """What has to be entered around the methods below.

        Raises:
            InputError: The network is learning.
        """
        ...

    def array(self, values: Floats) -> Values:
        """The same numbers as the network's own array, on its device."""
        ...

    def floats(self, values: Values) -> Floats:
        """The reverse of :meth:`array`."""
        ...

    def encode(
        self, features: Floats, emotion: int, intensity: float, identity: Floats
    ) -> Conditions[Values]:
        """Embed what a window is conditioned on, as a batch of one.

        ``identity`` (63,); an ``intensity`` in 0..1 moves the ``emotion`` towards "none".
        """
        ...

    def with_unconditional(self, conditions: Conditions[Values]) -> Conditions[Values]:
        """A batch of two: without speech and emotion, and as it is; see :func:`flow.guide`."""
        ...

    def modulations(self, timestep: Values, emotion: Values) -> Sequence[Values]:
        """Time steps (S, 1) in 1..1000 and embedded emotions (B, C) -> (S, B, M) of each block."""
        ...

    def predict(
        self,
        noisy_motion: Values,
        previous_motion: Values,
        modulations: Sequence[Values],
        conditions: Conditions[Values],
    ) -> Values:
        """Velocity (B, T, G), or what the network learned to predict in its place.

        ``noisy_motion`` (1, T, G) after ``previous_motion`` (1, 1, D) is the same for all B
        conditions; ``modulations`` (B, M) are of the time step.
        """
        ...

    def sample(
        self, predict: Callable[[Values, int], Values], noise: Values, schedule: Floats
    ) -> Values:
        """From noise (1, T, G) to what the network makes, along the steps (N, 2) of a schedule."""
        ...

    def represent(self, motion: Values) -> Values:
        """Normalised motion (1, T, D) -> what is made from noise (1, T, G)."""
        ...

    def decode(self, generated: Values) -> Values:
        """The reverse of :meth:`represent`; numbers that are not made are 0."""
        ...
