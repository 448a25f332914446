"""What makes an error count in the neural motion space, which has no vertices to see lips in."""

from __future__ import annotations

from torch import Tensor, nn

from moda.motion.rules.published import LIP_DIMENSIONS
from moda.structures import MotionSpace
from moda.training.losses import MotionMetric, plain_loss


class KeypointMetric(nn.Module):
    """All normalised numbers weigh the same.

    Depth too, which never varies: the sampler follows its velocity like the others', and the
    network must see there what it saw in training. The members are those of :class:`MotionMetric`
    that a model without a mean of the mouth needs.
    """

    def flow_loss(self, error: Tensor, inside: Tensor) -> Tensor:
        """Mean square of a velocity error (B, T, D), plus half of that of its change over time.

        ``inside`` (B, T) is 0 in the padding. The target of the velocity is noise less motion, so
        the change of its error is that of the estimated motion: the second term keeps it smooth.
        """
        return plain_loss(error, inside)


def metric_of(space: MotionSpace) -> MotionMetric | KeypointMetric:
    """The metric of a motion space."""
    return MotionMetric(space) if space.basis is not None else KeypointMetric()


def lip_columns(space: MotionSpace) -> list[int]:
    """Which numbers of a motion vector move the lips."""
    if space.name == "neural":
        return LIP_DIMENSIONS
    mouth = space.slice("mouth")
    return list(range(mouth.start, mouth.stop))
