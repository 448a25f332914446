"""The tables of an evaluation, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from moda.errors import OutputError
from moda.evaluation.videos.metrics import GROUPS
from moda.evaluation.videos.page import page
from moda.evaluation.videos.protocol import DEFINITIONS
from moda.evaluation.videos.running import Evaluation
from moda.evaluation.videos.tables import (
    ARROWS,
    Table,
    clip_lines,
    introduction,
    shown_metrics,
    summarise,
    written,
)


def markdown(evaluation: Evaluation, table: Table) -> str:
    """The report as text."""
    protocol = evaluation.protocol
    lines = [f"# {protocol.name}", "", *_spaced(introduction(evaluation)), ""]
    for group in GROUPS:
        metrics = shown_metrics(table, group)
        if not metrics:
            continue
        heads = [f"{metric.label} {ARROWS[metric.better]}" for metric in metrics]
        lines += [f"## {group.capitalize()}", "", f"| | {' | '.join(heads)} |"]
        lines += ["|---" * (len(heads) + 1) + "|"]
        for row in evaluation.rows:
            cells = [written(table[row].get(metric.key), metric) for metric in metrics]
            lines.append(f"| {row} | {' | '.join(cells)} |")
        lines += ["", *(f"- {metric.label}: {metric.what}." for metric in metrics), ""]
    lines += _emotion_lines(evaluation)
    lines += ["## Clips", "", *(f"- {line}" for line in clip_lines(evaluation)), ""]
    if evaluation.absent:
        lines += ["## Left out", ""]
        for absent in evaluation.absent:
            remedy = f" Get it with `{absent.command}`" if absent.command else ""
            lines.append(f"- {absent.metrics}: {absent.reason}.{remedy}")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _spaced(paragraphs: Sequence[str]) -> list[str]:
    return "\n\n".join(paragraphs).split("\n")


def _emotion_lines(evaluation: Evaluation) -> list[str]:
    lines = []
    for row, effects in evaluation.emotions.items():
        measures = list(next(iter(effects.values())))
        lines += [
            f"## What emotions change: {row}",
            "",
            f"Clip {evaluation.protocol.emotions.clip}, against the neutral video, in % of the "
            "outer-eye distance; heights go up.",
            "",
            f"| emotion | {' | '.join(name.replace('_', ' ') for name in measures)} |",
            "|---" * (len(measures) + 1) + "|",
        ]
        for emotion, values in effects.items():
            cells = " | ".join(f"{values[name]:+.1f}" for name in measures)
            lines.append(f"| {emotion} | {cells} |")
        lines.append("")
    return lines


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


def write_report(evaluation: Evaluation, folder: Path) -> Table:
    """Write report.json, report.md and report.html; the table that is in them.

    Raises:
        OutputError: the folder cannot be written.
    """
    table = summarise(evaluation)
    text = json.dumps(as_values(evaluation, table), indent=1, allow_nan=False)
    try:
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
        (folder / "report.md").write_text(markdown(evaluation, table), encoding="utf-8")
        (folder / "report.html").write_text(page(evaluation, table), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}") from error
    return table
