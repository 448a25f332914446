"""How far apart are the emotions of a model? Measured on the motion, without rendering."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from moda.evaluation.model.lips import hear, sampled_motion
from moda.evaluation.rendered.emotions import landmark_effects
from moda.structures import EMOTIONS, EmotionAt, Floats, Motion, Style
from moda.structures.landmarks import NUM_SURFACE, Array
from moda.weights.checkpoints import Checkpoint

Effects = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Expressions:
    """Differences from the motion without an emotion, hundredths of the outer-eye distance."""

    effects: dict[str, dict[str, float]]
    """by emotion and measure, see :func:`moda.evaluation.rendered.emotions.landmark_effects`"""
    nearest: tuple[str, str]
    nearest_distance: float

    def markdown(self) -> list[str]:
        """Lines of the report."""
        measures = list(next(iter(self.effects.values())))
        rows = [
            f"| {emotion} | {' | '.join(f'{effect[name]:+.1f}' for name in measures)} |"
            for emotion, effect in self.effects.items()
        ]
        return [
            "Mean face of every emotion against none, same seed, hundredths of the outer-eye "
            f"distance. Nearest: {' and '.join(self.nearest)}, {self.nearest_distance:.1f} apart.",
            "",
            f"| emotion | {' | '.join(name.replace('_', ' ') for name in measures)} |",
            f"|---|{'---|' * len(measures)}",
            *rows,
        ]


def expressions_report(checkpoint: Checkpoint, samples: Floats) -> Expressions:
    """Speak ``samples`` (N,) with every emotion at full intensity, and with none."""
    speech = hear(checkpoint, samples)
    without = motion_landmarks(sampled_motion(checkpoint, speech))
    effects = {}
    for emotion in EMOTIONS:
        style = Style((EmotionAt(0.0, emotion, 1.0),))
        motion = sampled_motion(checkpoint, speech, style=style)
        effects[emotion] = landmark_effects(without, motion_landmarks(motion))
    return Expressions(effects, *nearest_emotions(effects))


def nearest_emotions(effects: Effects) -> tuple[tuple[str, str], float]:
    """The two emotions that differ least, and their distance over all measures."""

    def distance(first: str, second: str) -> float:
        values = np.array([list(effects[name].values()) for name in (first, second)])
        return float(np.linalg.norm(values[0] - values[1]))

    pairs = {pair: distance(*pair) for pair in combinations(effects, 2)}
    nearest = min(pairs, key=lambda pair: pairs[pair])
    return nearest, pairs[nearest]


def motion_landmarks(motion: Motion) -> Array:
    """(T, 478, 3) mean face with the motion's expression, without its pose, canonical units."""
    space = motion.space
    assert space.basis is not None
    assert space.canonical_face is not None
    basis = space.basis.astype(np.float64)
    faces = np.repeat(space.canonical_face[None].astype(np.float64), len(motion), axis=0)
    faces[:, :NUM_SURFACE] += np.tensordot(motion.values[:, : len(basis)], basis, 1)
    return faces
