"""Does the flow hear the speech? Its error with the right sound and with that of another clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from moda.data.clips import PreparedClip
from moda.data.dataset import build_clips
from moda.evaluation.model.denoising import Denoising, measure_denoising
from moda.weights.checkpoints import Checkpoint


@dataclass(frozen=True)
class Hearing:
    """Errors of the same noisy windows of held-out speakers; a deaf flow has ratios of 1."""

    right: Denoising
    wrong: Denoising
    """with the sound of another clip"""

    @property
    def rest_ratio(self) -> float:
        """Wrong over right of all that is not the mouth: head, brows, cheeks, eyes."""
        return self.wrong.rest / self.right.rest

    @property
    def mouth_ratio(self) -> float:
        return self.wrong.mouth / self.right.mouth

    def markdown(self) -> list[str]:
        """Lines of the report."""
        return [
            "Error of the flow with the sound of another clip over that with the right one, same "
            f"windows and noise: {self.rest_ratio:.3f} for head, brows, cheeks and eyes, "
            f"{self.mouth_ratio:.3f} for the mouth. 1 hears nothing."
        ]


def hearing_report(checkpoint: Checkpoint, clips: Sequence[PreparedClip]) -> Hearing:
    """Measure on the clips with speech; the picture of each is moved to fit its sound."""
    speaking = [clip for clip in clips if clip.has_speech]
    kind = checkpoint.config.motion.speech.mesh_kind
    windows = build_clips(speaking, checkpoint.space, versions=0, in_sync="*", kind=kind)
    return Hearing(
        measure_denoising(checkpoint, windows),
        measure_denoising(checkpoint, windows, swap_sounds=True),
    )
