"""What stands in the tables of an evaluation, whichever way they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from moda.evaluation.videos.measuring import Measured
from moda.evaluation.videos.metrics import GROUPS, METRICS, STATED, Group, Metric
from moda.evaluation.videos.protocol import DEFINITIONS, ROW_NAMES
from moda.evaluation.videos.running import Evaluation

ARROWS = {"higher": "↑", "lower": "↓", "like the real video": "≈"}
EMPTY = "-"


class Sheet(NamedTuple):
    """A table as it is shown."""

    title: str
    corner: str
    """above the names of the rows"""
    heads: list[str]
    rows: dict[str, list[str]]
    note: str = ""
    """what stands above it"""
    metrics: tuple[Metric, ...] = ()
    """of its columns"""
    best: frozenset[tuple[str, int]] = frozenset()
    """row and column of the best figures"""


class Cell(NamedTuple):
    """A figure of a row: mean over the clips, then over the seeds."""

    mean: float
    deviation: float | None
    """standard deviation over the seeds; None of fewer than two"""
    num_clips: int
    """in which it is known"""
    is_stated: bool = False
    """whether the protocol says so, not this measurement"""


Table = dict[str, dict[str, Cell]]
"""By row, by metric; what is not known is not there."""


def summarise(evaluation: Evaluation) -> Table:
    """Means of all figures by row."""
    stated = {
        method.name: {key for key in STATED if not method.model and getattr(method.stated, key)}
        for method in evaluation.protocol.methods
    }
    table: Table = {}
    for row in evaluation.rows:
        videos = [video for video in evaluation.measured if video.row == row]
        cells = {
            key: cell
            for key in METRICS
            if (cell := _cell(videos, key, key in stated.get(row, ()))) is not None
        }
        clips = len({video.clip for video in videos})
        for key, value in evaluation.of_rows.get(row, {}).items():
            cells[key] = Cell(value, None, clips)
        table[row] = cells
    return table


def _cell(videos: Sequence[Measured], key: str, is_stated: bool) -> Cell | None:
    by_seed: dict[int | None, list[float]] = {}
    for video in videos:
        if key in video.figures:
            by_seed.setdefault(video.seed, []).append(video.figures[key])
    if not by_seed:
        return None
    means = [float(np.mean(values)) for values in by_seed.values()]
    deviation = float(np.std(means, ddof=1)) if len(means) > 1 else None
    num_clips = len({video.clip for video in videos if key in video.figures})
    return Cell(float(np.mean(means)), deviation, num_clips, is_stated)


def sheets(evaluation: Evaluation, table: Table) -> list[Sheet]:
    """All tables of the report; a group without figures has none."""
    groups = [_group_sheet(evaluation, table, group) for group in GROUPS]
    emotions = [
        Sheet(
            title=f"What emotions change: {row}",
            corner="emotion",
            heads=[name.replace("_", " ") for name in next(iter(effects.values()))],
            rows={
                emotion: [f"{value:+.1f}" for value in values.values()]
                for emotion, values in effects.items()
            },
            note=f"Clip {evaluation.protocol.emotions.clip}, against the neutral video, in % of "
            "the outer-eye distance; heights go up.",
        )
        for row, effects in evaluation.emotions.items()
    ]
    return [sheet for sheet in groups if sheet.metrics] + emotions


def _group_sheet(evaluation: Evaluation, table: Table, group: Group) -> Sheet:
    metrics = tuple(
        metric
        for metric in METRICS.values()
        if metric.group == group and any(metric.key in cells for cells in table.values())
    )
    return Sheet(
        title=group.capitalize(),
        corner="",
        heads=[f"{metric.label} {ARROWS[metric.better]}" for metric in metrics],
        rows={
            row: [written(table[row].get(metric.key), metric) for metric in metrics]
            for row in evaluation.rows
        },
        metrics=metrics,
        best=frozenset(
            (row, index)
            for index, metric in enumerate(metrics)
            for row in best_rows(evaluation, table, metric)
        ),
    )


def best_rows(evaluation: Evaluation, table: Table, metric: Metric) -> set[str]:
    """Methods with the best mean, if there are several and a best is defined."""
    rows = evaluation.rows[len(ROW_NAMES) :]
    values = {row: table[row][metric.key].mean for row in rows if metric.key in table[row]}
    if len(values) < 2 or metric.better == "like the real video":
        return set()
    best = (max if metric.better == "higher" else min)(values.values())
    return {row for row, value in values.items() if value == best}


def written(cell: Cell | None, metric: Metric) -> str:
    """A figure as text."""
    if cell is None:
        return EMPTY
    if metric.percent:
        return f"{100.0 * cell.mean:.0f} %"
    text = f"{cell.mean:.{metric.digits}f}"
    if cell.deviation is not None and round(cell.deviation, metric.digits) > 0.0:
        text += f" ± {cell.deviation:.{metric.digits}f}"
    return text + (" *" if cell.is_stated else "")


def introduction(evaluation: Evaluation) -> list[str]:
    """Paragraphs that say how the figures are to be read."""
    protocol = evaluation.protocol
    versions = ", ".join(f"{name} {version}" for name, version in evaluation.versions.items())
    lines = [
        f"Clips: {len(evaluation.clips)}; seeds: {', '.join(map(str, protocol.seeds))}; crop: "
        f"{protocol.crop.kind}, {protocol.crop.size_px} px; source frame: "
        f"{protocol.source_frame.rule}. Means over clips, then over seeds; ± is the standard "
        "deviation over seeds. Definitions "
        f"{DEFINITIONS}. {evaluation.machine}; {versions}.",
        f"Read a figure between its bounds: *{ROW_NAMES[0]}* is what is to be reached, "
        f"*{ROW_NAMES[1]}* what this renderer can reach, *{ROW_NAMES[2]}* what a picture that does "
        f"not move gets. ↑ higher is better, ↓ lower, ≈ like the real video; {EMPTY} cannot be "
        "known.",
    ]
    if any(method.stated != type(method.stated)() for method in protocol.methods):
        machines = ", ".join(
            f"{method.name}: {method.stated.machine}"
            for method in protocol.methods
            if method.stated.machine
        )
        lines += [f"\\* as the protocol states it, not measured here ({machines})."]
    if not any(clip.has_real for clip in evaluation.clips):
        lines += ["No clip has a real video, so nothing is compared with one."]
    lines += [f"Other versions: {note}." for note in evaluation.notes]
    return lines


def clip_lines(evaluation: Evaluation) -> list[str]:
    """What each clip is, in words."""
    lines = []
    for clip in evaluation.clips:
        parts = [f"{clip.name}: {clip.seconds:.2f} s", f"{clip.size[0]} x {clip.size[1]} px"]
        parts.append("real video" if clip.has_real else "no real video")
        if clip.source_index is not None:
            parts.append(f"portrait is frame {clip.source_index}")
        parts.append("phone times" if clip.has_phones else "no phone times")
        lines.append(", ".join(parts))
    return lines
