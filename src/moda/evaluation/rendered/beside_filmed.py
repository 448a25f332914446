"""Our lips beside those of the filmed speaker of the same speech, both tracked on pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moda.evaluation.metrics import silence_runs
from moda.evaluation.model.liveliness import Quartiles
from moda.evaluation.rendered.closures import ClosuresMet, meet_closures
from moda.evaluation.rendered.filming import SeenFace
from moda.evaluation.videos.motion import CLOSED_GAP
from moda.structures import Floats


@dataclass(frozen=True)
class SeenLips:
    """Of one video; lengths in units of the outer-eye distance."""

    gap_spread: float
    """standard deviation"""
    width_spread: float
    closed_frames: int
    """frames with a gap below :data:`CLOSED_GAP` while somebody speaks"""


@dataclass(frozen=True)
class ClipPerformance:
    """One clip, ours and the filmed speaker in the same frames."""

    name: str
    num_frames: int
    speaking_frames: int
    """outside of silences of 0.5 s and more"""
    ours: SeenLips
    filmed: SeenLips
    closures: ClosuresMet


@dataclass(frozen=True)
class BesideFilmed:
    """All clips together."""

    gap_spread: Quartiles
    """of the clips' ratios, ours over filmed"""
    width_spread: Quartiles
    closed: float
    """share of the frames while somebody speaks"""
    filmed_closed: float
    closures: ClosuresMet
    clips: list[ClipPerformance]

    def rows(self) -> list[str]:
        """Lines of a Markdown table: what, ours, filmed."""

        def middle(part: str) -> list[str]:
            spreads = [(getattr(c.ours, part), getattr(c.filmed, part)) for c in self.clips]
            return [f"{value:.3f}" for value in np.median(spreads, axis=0)]

        met, touched, chance = self.closures.shares
        spread = "standard deviation of the lip"
        return [
            f"| {spread} gap, median of clips | {' | '.join(middle('gap_spread'))} |",
            f"| {spread} gap over the filmed one, quartiles | {self.gap_spread} | 1 |",
            f"| {spread} width, median of clips | {' | '.join(middle('width_spread'))} |",
            f"| {spread} width over the filmed one, quartiles | {self.width_spread} | 1 |",
            f"| frames with closed lips while speaking | {self.closed:.1%} "
            f"| {self.filmed_closed:.1%} |",
            f"| {self.closures.closures} closures of filmed lips met (by chance) | {met:.1%} "
            f"({chance:.1%}) | |",
            f"| the same by a gap below 0.03 | {touched:.1%} | |",
        ]


def compare_with_filmed(
    name: str, samples: Floats, ours: SeenFace, filmed: SeenFace
) -> ClipPerformance:
    """The figures of one clip from its common first frames and its sound (N,)."""
    count = min(len(ours), len(filmed))
    speaking = ~silence_runs(samples)[:count]
    count = len(speaking)

    def lips(face: SeenFace) -> SeenLips:
        gap, width = face.gap[:count], face.width[:count]
        return SeenLips(
            float(gap.std()), float(width.std()), int((gap[speaking] < CLOSED_GAP).sum())
        )

    return ClipPerformance(
        name,
        count,
        int(speaking.sum()),
        lips(ours),
        lips(filmed),
        meet_closures(filmed.gap[:count], ours.gap[:count]),
    )


def beside_filmed(clips: Sequence[ClipPerformance]) -> BesideFilmed:
    """Frames and closures of all clips count alike; spreads are of clips."""
    speaking = max(1, sum(clip.speaking_frames for clip in clips))

    def ratios(part: str) -> Quartiles:
        values = [getattr(clip.ours, part) / getattr(clip.filmed, part) for clip in clips]
        return Quartiles(*(float(q) for q in np.quantile(values, [0.25, 0.5, 0.75])))

    return BesideFilmed(
        ratios("gap_spread"),
        ratios("width_spread"),
        sum(clip.ours.closed_frames for clip in clips) / speaking,
        sum(clip.filmed.closed_frames for clip in clips) / speaking,
        sum((clip.closures for clip in clips), ClosuresMet()),
        list(clips),
    )
