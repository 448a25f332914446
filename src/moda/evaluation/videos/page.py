"""The report as one page of HTML: tables, plots and clips, nothing fetched from anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from urllib.parse import quote

import numpy as np

from moda.evaluation.videos.metrics import GROUPS, Group, Metric
from moda.evaluation.videos.plots import Mark, colours, curves_plot, dot_plot
from moda.evaluation.videos.protocol import ROW_NAMES
from moda.evaluation.videos.references import SAMPLES_PER_FRAME
from moda.evaluation.videos.running import ClipFacts, Evaluation
from moda.evaluation.videos.tables import (
    ARROWS,
    Table,
    clip_lines,
    introduction,
    shown_metrics,
    written,
)
from moda.landmarks import Array
from moda.structures import FRAMES_PER_SECOND, Floats

STYLE = """
:root { color-scheme: light dark; --ground: #fbfbfa; --ink: #1d1d1f; --line: #d9d9d6;
  --soft: #f1f1ee; --quiet: #5d5d62; }
@media (prefers-color-scheme: dark) { :root { --ground: #16171a; --ink: #e9e9ea;
  --line: #36373c; --soft: #202126; --quiet: #a3a3aa; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 24px 16px 64px; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 12px; }
h2 { font-size: 1.2rem; margin: 40px 0 10px; }
h3 { font-size: 1rem; margin: 22px 0 8px; }
p { max-width: 80ch; margin: 0 0 10px; }
.quiet { color: var(--quiet); font-size: .88rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: 7px 12px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
tr:last-child > * { border-bottom: 0; }
thead th { background: var(--soft); font-weight: 600; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--ground); }
thead th:first-child { background: var(--soft); }
tr.usual { color: var(--quiet); }
td.best { font-weight: 700; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .5em; }
details { margin: 8px 0 0; }
summary { cursor: pointer; color: var(--quiet); font-size: .88rem; }
details ul { margin: 6px 0; padding-left: 20px; font-size: .88rem; }
.plots { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr));
  margin-top: 14px; }
.plots svg, .wide svg { width: 100%; height: auto; display: block; }
.plots > div { border: 1px solid var(--line); border-radius: 8px; padding: 8px; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; padding: 8px;
  margin-top: 10px; }
.wide svg { min-width: 560px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: .88rem; margin: 10px 0 0; }
video { width: 100%; max-width: 960px; border-radius: 8px; background: #000; display: block; }
pre { overflow-x: auto; background: var(--soft); border-radius: 8px; padding: 12px;
  font-size: .8rem; }
code { font-size: .88em; overflow-wrap: anywhere; }
@media (max-width: 420px) { .plots { grid-template-columns: 1fr; } body { padding: 16px 12px; } }
"""


def page(evaluation: Evaluation, table: Table) -> str:
    """The whole page."""
    title = escape(evaluation.protocol.name)
    colour = colours(evaluation.rows, len(ROW_NAMES))
    body = [
        f"<h1>{title}</h1>",
        *(f"<p>{_inline(text)}</p>" for text in introduction(evaluation)),
        _legend(evaluation.rows, colour),
        *(_clip(evaluation, clip, colour) for clip in evaluation.clips),
        *(_group(evaluation, table, group, colour) for group in GROUPS),
        _emotions(evaluation),
        _left_out(evaluation),
        _protocol(evaluation),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body></html>\n"
    )


def best_rows(evaluation: Evaluation, table: Table, metric: Metric) -> set[str]:
    """Methods with the best mean, if there are several and a best is defined."""
    rows = evaluation.rows[len(ROW_NAMES) :]
    values = {row: table[row][metric.key].mean for row in rows if metric.key in table[row]}
    if len(values) < 2 or metric.better == "like the real video":
        return set()
    best = (max if metric.better == "higher" else min)(values.values())
    return {row for row, value in values.items() if value == best}


def loudness(samples: Floats, num_frames: int) -> Array:
    """(T,) root mean square of each frame's sound over the largest one."""
    padded = np.pad(samples, (0, max(0, num_frames * SAMPLES_PER_FRAME - len(samples))))
    frames = padded[: num_frames * SAMPLES_PER_FRAME].reshape(num_frames, SAMPLES_PER_FRAME)
    level: Array = np.sqrt((frames.astype(np.float64) ** 2).mean(1))
    return level / max(float(level.max()), 1e-9)


def _group(evaluation: Evaluation, table: Table, group: Group, colour: dict[str, str]) -> str:
    metrics = shown_metrics(table, group)
    if not metrics:
        return ""
    heads = "".join(
        f'<th title="{escape(metric.what)}">{escape(metric.label)} {ARROWS[metric.better]}</th>'
        for metric in metrics
    )
    best = {metric.key: best_rows(evaluation, table, metric) for metric in metrics}
    lines = []
    for row in evaluation.rows:
        cells = "".join(
            f'<td class="best">{text}</td>' if row in best[metric.key] else f"<td>{text}</td>"
            for metric in metrics
            for text in [escape(written(table[row].get(metric.key), metric))]
        )
        usual = ' class="usual"' if row in ROW_NAMES else ""
        lines.append(f"<tr{usual}><th>{_dot(colour[row])}{escape(row)}</th>{cells}</tr>")
    meanings = "".join(
        f"<li>{escape(metric.label)}: {escape(metric.what)}.</li>" for metric in metrics
    )
    plots = "".join(
        f"<div>{plot}</div>" for metric in metrics if (plot := _dots(table, metric, colour))
    )
    return (
        f"<h2>{group.capitalize()}</h2>"
        f'<div class="scroll"><table><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
        f"<details><summary>What these figures are</summary><ul>{meanings}</ul></details>"
        f'<div class="plots">{plots}</div>'
    )


def _dots(table: Table, metric: Metric, colour: dict[str, str]) -> str:
    marks = [
        Mark(row, cell.mean, cell.deviation, written(cell, metric))
        for row, cells in table.items()
        if (cell := cells.get(metric.key)) is not None
    ]
    if len({mark.value for mark in marks}) < 2:
        return ""
    return dot_plot(f"{metric.label} {ARROWS[metric.better]}", marks, colour)


def _clip(evaluation: Evaluation, clip: ClipFacts, colour: dict[str, str]) -> str:
    first_seed = evaluation.protocol.seeds[0]
    videos = [
        video
        for video in evaluation.measured
        if video.clip == clip.name and video.seed in (None, first_seed)
    ]
    num_frames = round(clip.seconds * FRAMES_PER_SECOND)
    moving = [video for video in videos if video.row != ROW_NAMES[2]] or videos
    gaps = [(video.row, 100.0 * video.lip_gap) for video in moving]
    nods = [(video.row, video.angles[:, 0]) for video in moving]
    turns = [(video.row, video.angles[:, 1]) for video in moving]
    sound = loudness(clip.samples, num_frames)
    line = clip_lines(evaluation)[evaluation.clips.index(clip)]
    return (
        f"<h2>Clip {escape(clip.name)}</h2><p class='quiet'>{escape(line)}</p>"
        f'<video controls playsinline preload="metadata" '
        f'poster="{quote(clip.side_by_side.removesuffix(".mp4"))}.png" '
        f'src="{quote(clip.side_by_side)}"></video>'
        "<div class='wide'>"
        + curves_plot("Lip gap", "% of the outer-eye distance", gaps, colour, sound)
        + "</div><details><summary>Head</summary><div class='wide'>"
        + curves_plot("Nod (pitch)", "degrees", nods, colour)
        + "</div><div class='wide'>"
        + curves_plot("Turn (yaw)", "degrees", turns, colour)
        + "</div></details>"
    )


def _emotions(evaluation: Evaluation) -> str:
    parts = []
    for row, effects in evaluation.emotions.items():
        measures = list(next(iter(effects.values())))
        heads = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in measures)
        lines = "".join(
            f"<tr><th>{escape(emotion)}</th>"
            + "".join(f"<td>{values[name]:+.1f}</td>" for name in measures)
            + "</tr>"
            for emotion, values in effects.items()
        )
        parts.append(
            f"<h2>What emotions change: {escape(row)}</h2><p class='quiet'>Clip "
            f"{escape(evaluation.protocol.emotions.clip)}, against the neutral video, in % of the "
            "outer-eye distance; heights go up.</p><div class='scroll'><table><thead><tr><th></th>"
            f"{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
        )
    return "".join(parts)


def _left_out(evaluation: Evaluation) -> str:
    if not evaluation.absent:
        return ""
    lines = ""
    for absent in evaluation.absent:
        remedy = f" Get it with <code>{escape(absent.command)}</code>" if absent.command else ""
        lines += f"<li>{escape(absent.metrics)}: {escape(absent.reason)}.{remedy}</li>"
    return f"<h2>Left out</h2><ul>{lines}</ul>"


def _protocol(evaluation: Evaluation) -> str:
    text = json.dumps(asdict(evaluation.protocol), indent=1)
    return (
        f"<h2>Protocol</h2><details><summary>All of it</summary><pre>{escape(text)}</pre></details>"
    )


def _legend(rows: Sequence[str], colour: dict[str, str]) -> str:
    items = "".join(f"<span>{_dot(colour[row])}{escape(row)}</span>" for row in rows)
    return f'<div class="legend">{items}</div>'


def _dot(colour: str) -> str:
    return f'<span class="dot" style="background:{colour}"></span>'


def _inline(text: str) -> str:
    """A paragraph of Markdown with emphasis only."""
    escaped = escape(text.replace("\\*", "\N{LOW ASTERISK}"))
    parts = escaped.split("*")
    return "".join(f"<em>{part}</em>" if index % 2 else part for index, part in enumerate(parts))
