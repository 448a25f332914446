"""Ablations as a table: what variants reach, over seeds, and where that differs from the base.

A difference counts only where the ranges of all seeds do not overlap. Of two sets of three seeds
that differ by chance alone, one pair in ten does that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Figure(NamedTuple):
    """A column: where its value is in a result, how it is called, how many digits it has."""

    key: str
    label: str
    digits: int = 2


FIGURES = (
    Figure("generated.lip_gap", "lip gap r", 3),
    Figure("generated.lip_width", "lip width r", 3),
    Figure("denoising.objective_loss", "held-out loss", 3),
    Figure("denoising.mouth", "mouth error", 3),
    Figure("denoising.rest", "other error", 3),
    Figure("generated.gap_amplitude", "gap amplitude"),
    Figure("generated.head_amplitude", "head amplitude"),
    Figure("generated.head_diversity", "other seed, degrees", 1),
    Figure("generated.mouth_jitter", "mouth jitter"),
    Figure("generated.head_jitter", "head jitter"),
    Figure("generated.join_step", "joins"),
    Figure("generated.frechet", "Fréchet", 1),
    Figure("generated.cpu_seconds_per_second", "CPU s per s", 3),
)
FIGURES_OF_SIZE = (
    Figure("parameters", "parameters", 0),
    Figure("train_seconds", "training, CPU s", 0),
)


@dataclass(frozen=True)
class Result:
    """What one variant reached with one seed; ``values`` are nested JSON values."""

    variant: str
    seed: int
    values: Mapping[str, Any]

    def value(self, key: str) -> float:
        """The number under a dotted key; NaN where there is none."""
        found: Any = self.values
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return float("nan") if found is None else float(found)


@dataclass(frozen=True)
class Summary:
    """One figure of one variant over its seeds."""

    values: tuple[float, ...]
    differs: bool = False
    """whether no seed of the variant lies within the range of the base's seeds, nor reversed"""

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds, of a sample; NaN of one seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else float("nan")

    def text(self, digits: int) -> str:
        """Cell of a table: mean ± deviation, with a star where it differs from the base."""
        if not np.isfinite(self.mean):
            return ""
        varies = np.isfinite(self.deviation) and self.deviation > 0.0
        spread = f" ± {self.deviation:.{digits}f}" if varies else ""
        return f"{self.mean:.{digits}f}{spread}{' *' if self.differs else ''}"


def ranges_are_apart(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether all of one set lie below all of the other; never of fewer than two values, nor where
    none of them depends on the seed."""
    if min(len(first), len(second)) < 2 or len(set(first)) == len(set(second)) == 1:
        return False
    return max(first) < min(second) or max(second) < min(first)


@dataclass(frozen=True)
class AblationTable:
    """Results in groups of variants, each group with the variant that the others differ from."""

    groups: Mapping[str, Sequence[str]]
    """title -> variants; the first one is what the others are compared with"""
    results: Sequence[Result]
    figures: Sequence[Figure] = FIGURES
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """title -> beginnings of the keys of figures that say nothing in that group"""

    def summary(self, variant: str, figure: Figure, base: str) -> Summary:
        """One figure of one variant beside the same figure of ``base``."""
        own, others = (
            tuple(result.value(figure.key) for result in self.results if result.variant == name)
            for name in (variant, base)
        )
        return Summary(own, variant != base and ranges_are_apart(own, others))

    def group_markdown(self, title: str) -> str:
        """A table of the variants that have results, one row each."""
        variants, figures = self.groups[title], self.figures_of(title)
        base = variants[0]
        present = {result.variant for result in self.results}
        rows = [
            [
                variant.replace("_", " "),
                *(self.summary(variant, f, base).text(f.digits) for f in figures),
                str(len([result for result in self.results if result.variant == variant])),
            ]
            for variant in variants
            if variant in present
        ]
        header = [title.lower(), *(figure.label for figure in figures), "seeds"]
        lines = [header, ["---"] * len(header), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def figures_of(self, title: str) -> list[Figure]:
        """The columns of a group."""
        hidden = tuple(self.left_out.get(title, ()))
        return [figure for figure in self.figures if not figure.key.startswith(hidden)]

    def markdown(self) -> str:
        """All groups that have something to compare, under each other."""
        present = {result.variant for result in self.results}
        parts = [
            f"### {title}\n\n{self.group_markdown(title)}"
            for title, variants in self.groups.items()
            if present.intersection(variants[1:])
        ]
        return "\n\n".join(parts) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Every single value, by variant and figure, with means and deviations."""
        return {
            title: {
                variant: {
                    figure.key: {
                        "values": list(found.values),
                        "mean": found.mean,
                        "deviation": found.deviation,
                        "differs": found.differs,
                    }
                    for figure in self.figures
                    if (found := self.summary(variant, figure, variants[0])).values
                }
                for variant in variants
            }
            for title, variants in self.groups.items()
        }
