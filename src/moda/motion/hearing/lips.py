"""What lips do in a motion of the mesh space, and what a model expects them to do."""

from __future__ import annotations

import numpy as np

from moda.motion.flow import Values
from moda.motion.hearing.listening import with_context
from moda.motion.network import Network
from moda.structures import Floats, Motion, MotionSpace
from moda.structures.landmarks import MOUTH_CORNERS, Array, identity_vector, lip_gaps


def lips_of_motion(motion: Motion) -> tuple[Array, Array]:
    """Middle lip gap, not below 0, and change of the lip width, both (T,) in canonical units."""
    space = motion.space
    assert space.basis is not None
    mouth = space.slice("mouth")
    basis = space.basis[mouth].astype(np.float64)
    right, left = MOUTH_CORNERS
    values = motion.part("mouth").astype(np.float64)
    gaps = values @ lip_gaps(basis)[:, 4]
    widths = values @ (basis[:, left, 0] - basis[:, right, 0])
    return np.maximum(gaps, 0.0), widths


def mean_identity(space: MotionSpace) -> Floats:
    """(63,) of the mean face: an unknown speaker."""
    assert space.canonical_face is not None
    return identity_vector(space.canonical_face.astype(np.float64))


def predicted_mean(model: Network[Values], space: MotionSpace, features: Floats) -> Motion:
    """The mean that a model predicts from speech features (T, F) alone, without any flow."""
    mean = model.mean_of(with_context(features, model.config.speech_embedder))
    return Motion(space.denormalize(np.broadcast_to(mean, (len(features), space.size))), space)
