"""Plots as SVG text, drawn for a page that may be light or dark: ink is ``currentColor``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from moda.landmarks import Array
from moda.structures import FRAMES_PER_SECOND

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6fd1", "#7a7a00")
"""After M. Okabe and K. Ito: told apart by colour-blind people too."""
GREYS = ("currentColor", "#8c8c8c", "#b9b9b9")
"""Of the three rows that every report has."""
MAX_CURVE_POINTS = 600


class Mark(NamedTuple):
    """A figure of one row in a plot."""

    row: str
    value: float
    deviation: float | None
    text: str


def colours(rows: Sequence[str], num_usual: int) -> dict[str, str]:
    """A colour for each row; the first ``num_usual`` are grey."""
    chosen = {row: GREYS[index % len(GREYS)] for index, row in enumerate(rows[:num_usual])}
    for index, row in enumerate(rows[num_usual:]):
        chosen[row] = PALETTE[index % len(PALETTE)]
    return chosen


def dot_plot(title: str, marks: Sequence[Mark], colour: Mapping[str, str]) -> str:
    """One line a row with a dot at its figure, and a bar of one deviation to each side."""
    width, left, right, line, top = 460, 172, 108, 24, 30
    height = top + line * len(marks) + 26
    ends = [mark.value - (mark.deviation or 0.0) for mark in marks]
    ends += [mark.value + (mark.deviation or 0.0) for mark in marks]
    ticks = nice_ticks(min(ends), max(ends))
    low, high = ticks[0], ticks[-1]

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - right)

    parts = [_open(width, height, title), _text(6, 16, title, weight="600")]
    bottom = top + line * len(marks)
    for tick in ticks:
        x = place(tick)
        parts.append(_line(x, top - 4, x, bottom, opacity=0.15))
        parts.append(_text(x, bottom + 16, f"{tick:g}", anchor="middle", size=11, opacity=0.7))
    for index, mark in enumerate(marks):
        y = top + line * (index + 0.5)
        ink = colour[mark.row]
        parts.append(_text(left - 10, y + 4, shortened(mark.row, 22), anchor="end", size=12))
        if mark.deviation:
            ends_x = place(mark.value - mark.deviation), place(mark.value + mark.deviation)
            parts.append(_line(ends_x[0], y, ends_x[1], y, colour=ink, width=2.0))
        parts.append(f'<circle cx="{place(mark.value):.1f}" cy="{y:.1f}" r="5" fill="{ink}"/>')
        parts.append(_text(width - 4, y + 4, mark.text, anchor="end", size=11, opacity=0.8))
    return "".join([*parts, "</svg>"])


def curves_plot(
    title: str,
    unit: str,
    curves: Sequence[tuple[str, Array]],
    colour: Mapping[str, str],
    sound: Array | None = None,
) -> str:
    """Curves (T,) at 25 fps over time, the loudness (T,) in 0..1 as a shadow below them."""
    width, height, left, right, top, bottom = 900, 240, 46, 10, 30, 30
    longest = max(len(values) for _, values in curves)
    seconds = max(longest / FRAMES_PER_SECOND, 0.04)
    everything = np.concatenate([values for _, values in curves])
    ticks = nice_ticks(float(everything.min()), float(everything.max()))
    low, high = ticks[0], ticks[-1]

    def x(time: float) -> float:
        return left + time / seconds * (width - left - right)

    def y(value: float) -> float:
        return height - bottom - (value - low) / (high - low) * (height - top - bottom)

    parts = [_open(width, height, title), _text(6, 16, f"{title}, {unit}", weight="600")]
    if sound is not None:
        parts.append(_shadow(sound, x, height - bottom, height - top - bottom))
    for tick in ticks:
        parts.append(_line(left, y(tick), width - right, y(tick), opacity=0.15))
        parts.append(_text(left - 6, y(tick) + 4, f"{tick:g}", anchor="end", size=11, opacity=0.7))
    for second in nice_ticks(0.0, seconds):
        if second <= seconds:
            parts.append(
                _text(
                    x(second), height - 10, f"{second:g} s", anchor="middle", size=11, opacity=0.7
                )
            )
    for index, (row, values) in enumerate(curves):
        step = max(1, len(values) // MAX_CURVE_POINTS)
        points = " ".join(
            f"{x(frame / FRAMES_PER_SECOND):.1f},{y(float(values[frame])):.1f}"
            for frame in range(0, len(values), step)
        )
        stroke = 2.2 if index == 0 else 1.5
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour[row]}" '
            f'stroke-width="{stroke}" stroke-linejoin="round"><title>{escape(row)}</title>'
            "</polyline>"
        )
    return "".join([*parts, "</svg>"])


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers that reach around a range, at most ``most`` steps of 1, 2 or 5 times 10^n."""
    span = high - low
    if span <= 0.0:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
        span = high - low
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def shortened(text: str, limit: int) -> str:
    """A text that is not longer than ``limit`` letters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _shadow(sound: Array, x: Callable[[float], float], ground: float, height: float) -> str:
    step = max(1, len(sound) // MAX_CURVE_POINTS)
    points = [f"{x(0.0):.1f},{ground}"]
    points += [
        f"{x(frame / FRAMES_PER_SECOND):.1f},{ground - 0.35 * height * float(sound[frame]):.1f}"
        for frame in range(0, len(sound), step)
    ]
    points.append(f"{x((len(sound) - 1) / FRAMES_PER_SECOND):.1f},{ground}")
    return f'<polygon points="{" ".join(points)}" fill="currentColor" opacity="0.10"/>'


def _open(width: int, height: int, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" '
        'xmlns="http://www.w3.org/2000/svg">'
    )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    size: int = 13,
    weight: str = "400",
    opacity: float = 1.0,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'font-weight="{weight}" fill="currentColor" opacity="{opacity}">{escape(text)}</text>'
    )


def _line(
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    *,
    colour: str = "currentColor",
    width: float = 1.0,
    opacity: float = 1.0,
) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}" opacity="{opacity}"/>'
    )
