"""The report of an evaluation: figures as JSON, tables as Markdown, and one page of HTML."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from moda.errors import MissingExtraError
from moda.evaluation.videos.metrics import Metric
from moda.evaluation.videos.protocol import DEFINITIONS, ROW_NAMES
from moda.evaluation.videos.references import SAMPLES_PER_FRAME
from moda.evaluation.videos.report.tables import (
    ARROWS,
    Table,
    clip_lines,
    introduction,
    sheets,
    summarise,
    written,
)
from moda.evaluation.videos.running import ClipFacts, Evaluation
from moda.files import write_text
from moda.structures import FRAMES_PER_SECOND, Floats
from moda.structures.landmarks import Array

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
    from markupsafe import Markup, escape

    from moda.evaluation.videos.report.plots import Mark, colours, curves_plot, dot_plot
except ImportError as error:
    raise MissingExtraError(
        "the report of an evaluation needs the packages matplotlib and jinja2; in MoDA's folder "
        "run: pip install '.[evaluate]'"
    ) from error

TEMPLATES = Path(__file__).with_name("templates")


def markdown(evaluation: Evaluation, table: Table) -> str:
    """The report as text."""
    return _filled("report.md", evaluation, table).rstrip() + "\n"


def page(evaluation: Evaluation, table: Table) -> str:
    """The report as one page: tables, plots and clips, nothing fetched from anywhere."""
    colour = colours(evaluation.rows, len(ROW_NAMES))

    return _filled(
        "report.html",
        evaluation,
        table,
        colours=colour,
        usual_rows=ROW_NAMES,
        dots=cache(lambda metric: _dots(table, metric, colour)),
        curves=lambda clip: _curves(evaluation, clip, colour),
        protocol=json.dumps(asdict(evaluation.protocol), indent=1),
    )


def as_values(evaluation: Evaluation, table: Table) -> dict[str, Any]:
    """The report as plain values; figures that are not known are not there."""
    return {
        "definitions": DEFINITIONS,
        "protocol": asdict(evaluation.protocol),
        "versions": evaluation.versions,
        "machine": evaluation.machine,
        "rows": {
            row: {key: cell._asdict() for key, cell in cells.items()}
            for row, cells in table.items()
        },
        "videos": [
            {
                "row": video.row,
                "clip": video.clip,
                "seed": video.seed,
                "figures": video.figures,
            }
            for video in evaluation.measured
        ],
        "emotions": evaluation.emotions,
        "clips": [
            {key: value for key, value in vars(clip).items() if key != "samples"}
            for clip in evaluation.clips
        ],
        "left_out": [absent._asdict() for absent in evaluation.absent],
        "notes": evaluation.notes,
    }


REPORT_FILES = ("report.json", "report.md", "report.html")


def write_report(evaluation: Evaluation, folder: Path) -> Table:
    """Write report.json, report.md and report.html; the table that is in them.

    Raises:
        OutputError: the folder cannot be written.
    """
    table = summarise(evaluation)
    text = json.dumps(as_values(evaluation, table), indent=1, allow_nan=False)
    contents = (text + "\n", markdown(evaluation, table), page(evaluation, table))
    for name, content in zip(REPORT_FILES, contents, strict=True):
        write_text(folder / name, content)
    return table


def loudness(samples: Floats, num_frames: int) -> Array:
    """(T,) root mean square of each frame's sound over the largest one."""
    padded = np.pad(samples, (0, max(0, num_frames * SAMPLES_PER_FRAME - len(samples))))
    frames = padded[: num_frames * SAMPLES_PER_FRAME].reshape(num_frames, SAMPLES_PER_FRAME)
    level: Array = np.sqrt((frames.astype(np.float64) ** 2).mean(1))
    return level / max(float(level.max()), 1e-9)


def _filled(template: str, evaluation: Evaluation, table: Table, **more: object) -> str:
    """A template with what every report says, and more."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        lstrip_blocks=True,
    )
    environment.filters["emphasised"] = _emphasised
    return environment.get_template(template).render(
        evaluation=evaluation,
        introduction=introduction(evaluation),
        clip_lines=clip_lines(evaluation),
        sheets=sheets(evaluation, table),
        **more,
    )


def _dots(table: Table, metric: Metric, colour: dict[str, str]) -> str:
    """The plot of a metric; empty where there is nothing to compare."""
    marks = [
        Mark(row, cell.mean, cell.deviation, written(cell, metric))
        for row, cells in table.items()
        if (cell := cells.get(metric.key)) is not None
    ]
    if len({mark.value for mark in marks}) < 2:
        return ""
    return dot_plot(f"{metric.label} {ARROWS[metric.better]}", marks, colour)


def _curves(evaluation: Evaluation, clip: ClipFacts, colour: dict[str, str]) -> list[str]:
    """Plots of a clip over time: the lips, then the head, of the first seed."""
    seeds = (None, evaluation.protocol.seeds[0])
    videos = [v for v in evaluation.measured if v.clip == clip.name and v.seed in seeds]
    moving = [video for video in videos if video.row != ROW_NAMES[2]] or videos
    gaps = [(video.row, 100.0 * video.lip_gap) for video in moving]
    nods = [(video.row, video.angles[:, 0]) for video in moving]
    turns = [(video.row, video.angles[:, 1]) for video in moving]
    sound = loudness(clip.samples, round(clip.seconds * FRAMES_PER_SECOND))
    return [
        curves_plot("Lip gap", "% of the outer-eye distance", gaps, colour, sound),
        curves_plot("Nod (pitch)", "degrees", nods, colour),
        curves_plot("Turn (yaw)", "degrees", turns, colour),
    ]


def _emphasised(text: str) -> Markup:
    """A paragraph of Markdown with emphasis only."""
    parts = escape(text.replace("\\*", "\N{LOW ASTERISK}")).split("*")
    return Markup().join(
        Markup("<em>{}</em>").format(part) if index % 2 else part
        for index, part in enumerate(parts)
    )
