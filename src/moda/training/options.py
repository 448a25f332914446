"""The options of a training, and what tells how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from moda.errors import ConfigError, InputError

PROBABILITIES = (
    "condition_dropout",
    "token_dropout",
    "speech_dropout",
    "forget_previous",
    "forget_identity",
    "forget_emotion",
)
MAX_LEARNING_RATE = 1.0
FIXED = {
    "gradient_clip": 1.0,
    "keep_statistics": True,
    "keep_checkpoints": 2,
    "train_speech_projection": False,
}
"""Options of earlier versions that are constants now."""


def require_seed(seed: int) -> None:
    """Raises :class:`InputError` for what random generators do not take."""
    if not 0 <= seed < 2**63:
        raise InputError(f"seed {seed} is outside 0..2^63 - 1; give a number in it")


@dataclass(frozen=True)
class TrainingOptions:
    """How long and how fast to train. Learning rates are reached after the warm-up."""

    speech_steps: int = 400
    """of the speech embedder and the mean of the mouth alone; 0 where a model predicts no mean"""
    flow_steps: int = 3000
    batch_size: int = 24
    """windows of a step, over all processes together"""
    window_frames: tuple[int, ...] = (48, 64, 80)
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warm_up_steps: int = 100
    ema_decay: float = 0.995
    condition_dropout: float = 0.1
    """probability that a window has neither speech nor emotion"""
    token_dropout: float = 0.15
    """probability that a training step does not see a number of the speech tokens"""
    freeze_speech_embedder: bool = True
    """keep the speech embedder as it is while the flow is trained: it forgets strangers' voices
    otherwise, see docs/experiments.md"""
    seed: int = 0
    checkpoint_every: int = 500
    schedule: Literal["cosine", "constant"] = "cosine"
    """of the learning rate after the warm-up, for each of the two stages on its own"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """of the numbers inside the network; weights, their averages and losses are float32"""
    accumulation: int = 1
    """passes over which every process spreads its part of a batch"""
    speech_dropout: float = 0.0
    """probability that a window has the emotion and not the speech"""
    forget_previous: float = 0.15
    forget_identity: float = 0.3
    forget_emotion: float = 0.1
    """probabilities that a window lacks one of the conditions, each by itself"""
    sync_weight: float = 0.0
    """of the sync expert's loss; 0 trains without one"""
    sync_gate: float = 0.4
    """least cosine of the real lips and the speech at which the expert's loss counts"""
    log_every: int = 20

    def __post_init__(self) -> None:
        if self.batch_size < 1 or min(self.speech_steps, self.flow_steps) < 0:
            raise InputError("batch size must be at least 1 and steps at least 0")
        if not self.window_frames or min(self.window_frames) < 8:
            raise InputError("windows must have at least 8 frames")
        for name in ("accumulation", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)} must be at least 1")
        for name in PROBABILITIES:
            if not 0.0 <= getattr(self, name) < 1.0:
                raise InputError(f"{name} {getattr(self, name)} is outside 0..1")
        if not 0.0 < self.learning_rate <= MAX_LEARNING_RATE:
            raise InputError(
                f"learning rate {self.learning_rate} is outside 0..{MAX_LEARNING_RATE}; "
                "1e-4 to 1e-3 are usual"
            )
        if self.warm_up_steps < 0 or not (self.weight_decay >= 0.0 and 0.0 <= self.ema_decay < 1.0):
            raise InputError(
                f"warm_up_steps {self.warm_up_steps} and weight_decay {self.weight_decay} must be "
                f"at least 0, ema_decay {self.ema_decay} in 0..1"
            )
        require_seed(self.seed)
        if not (self.sync_weight >= 0.0 and -1.0 <= self.sync_gate <= 1.0):
            raise InputError("the sync weight must be at least 0, and the gate a cosine")

    @staticmethod
    def upgraded(values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Values of this or an earlier version, without the keys that are gone."""
        for key, fixed in FIXED.items():
            if values.get(key, fixed) != fixed:
                raise ConfigError(f"options: {key} is always {fixed}; leave it out")
        return {key: value for key, value in values.items() if key not in FIXED}


Report = Callable[[dict[str, float]], None]
"""Takes the named values of a step."""
