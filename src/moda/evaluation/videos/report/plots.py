"""Plots as SVG text for a page that may be light or dark: :data:`INK` is the colour of its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from io import StringIO
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from moda.structures import FRAMES_PER_SECOND
from moda.structures.landmarks import Array

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6fd1", "#7a7a00")
"""After M. Okabe and K. Ito: told apart by colour-blind people too."""
INK = "#010203"
"""Stands for ``currentColor``, which matplotlib does not know; :func:`_svg` puts it in."""
GREYS = ("currentColor", "#8c8c8c", "#b9b9b9")
"""Of the three rows that every report has."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "moda",
    "font.size": 8.5,
    "text.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
}


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


@mpl.rc_context(STYLE)
def dot_plot(title: str, marks: Sequence[Mark], colour: Mapping[str, str]) -> str:
    """One line a row with a dot at its figure, and a bar of one deviation to each side."""
    figure, axes = _axes(title, (4.6, 0.65 + 0.25 * len(marks)))
    for line, mark in enumerate(marks):
        ink = _known(colour[mark.row])
        axes.errorbar(mark.value, line, xerr=mark.deviation, color=ink, marker="o", markersize=6.5)
        axes.annotate(
            mark.text, (1.03, line), xycoords=axes.get_yaxis_transform(), va="center", alpha=0.8
        )
    axes.set_yticks(range(len(marks)), [shortened(mark.row, 22) for mark in marks])
    axes.set_ylim(len(marks) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.grid(axis="x")
    return _svg(figure, title)


@mpl.rc_context(STYLE)
def curves_plot(
    title: str,
    unit: str,
    curves: Sequence[tuple[str, Array]],
    colour: Mapping[str, str],
    sound: Array | None = None,
) -> str:
    """Curves (T,) at 25 fps over time, the loudness (T,) in 0..1 as a shadow below them."""
    figure, axes = _axes(f"{title}, {unit}", (9.0, 2.4))
    for index, (row, values) in enumerate(curves):
        width = 1.8 if index == 0 else 1.2
        axes.plot(_seconds(values), values, color=_known(colour[row]), linewidth=width)
    if sound is not None:
        ground = axes.get_xaxis_transform()
        axes.fill_between(
            _seconds(sound), 0.35 * sound, color=INK, alpha=0.1, linewidth=0.0, transform=ground
        )
    axes.margins(x=0.01)
    axes.xaxis.set_major_formatter("{x:g} s")
    axes.grid(axis="y")
    return _svg(figure, title)


def shortened(text: str, limit: int) -> str:
    """A text that is not longer than ``limit`` letters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _axes(title: str, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """An empty plot of a size in inches."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    figure.suptitle(title, x=0.01, ha="left", fontsize="large", fontweight="bold")
    axes.spines[:].set_visible(False)
    return figure, axes


def _known(colour: str) -> str:
    return INK if colour == "currentColor" else colour


def _seconds(curve: Array) -> Array:
    return np.arange(len(curve)) / FRAMES_PER_SECOND


def _svg(figure: Figure, title: str) -> str:
    text = StringIO()
    nothing = {"Creator": None, "Date": None, "Format": None, "Type": None}
    figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    drawing = text.getvalue()
    drawing = drawing[drawing.index("<svg ") :].replace(INK, "currentColor")
    return drawing.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
