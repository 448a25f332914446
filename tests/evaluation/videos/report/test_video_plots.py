"""Plots are well-formed, to scale, and in the ink of the page."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from moda.errors import MissingExtraError
from moda.evaluation.videos.report.plots import INK, Mark, colours, curves_plot, dot_plot
from moda.structures.landmarks import Array

SVG = "{http://www.w3.org/2000/svg}"


def dots(root: ElementTree.Element) -> list[float]:
    """Places of the dots from left to right, in points."""
    return [
        float(use.attrib["x"])
        for group in root.iter(f"{SVG}g")
        if re.fullmatch(r"line2d_\d+", group.attrib.get("id", ""))
        for use in group.iter(f"{SVG}use")
        if "fill: #" in use.attrib.get("style", "") or "fill: current" in use.attrib["style"]
    ]


def lines(root: ElementTree.Element, num_points: int) -> list[tuple[str, Array]]:
    """Style and points (T, 2) of the curves."""
    paths = [
        (path.attrib.get("style", ""), re.findall(r"[ML] ([\d.]+) ([\d.]+)", path.attrib["d"]))
        for path in root.iter(f"{SVG}path")
    ]
    return [(s, np.array(p, float)) for s, p in paths if len(p) == num_points and "stroke" in s]


def test_dots_stand_where_their_values_are() -> None:
    rows = ["real video", "<method>", "other"]
    marks = [Mark(row, value, 0.1, "x") for row, value in zip(rows, (0.0, 5.0, 10.0), strict=True)]
    root = ElementTree.fromstring(dot_plot("A & B", marks, colours(rows, 1)))
    assert root.attrib["aria-label"] == "A & B"
    places = dots(root)
    assert len(places) == 3
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=1e-3)
    assert places[1] - places[0] > 50.0
    labels = [label.text for label in root.iter(f"{SVG}text")]
    assert labels.count("<method>") == 1
    assert labels.count("x") == 3


def test_curves_are_drawn_to_scale() -> None:
    bumpy = np.linspace(0.0, 10.0, 50) + np.arange(50) % 2
    curves = [("a", bumpy), ("b", bumpy[::-1])]
    text = curves_plot("Lip gap", "%", curves, colours(["a", "b"], 0))
    first, second = lines(ElementTree.fromstring(text), 50)
    points = first[1]
    np.testing.assert_allclose(np.diff(points[:, 0]), np.diff(points[:, 0])[0], atol=1e-3)
    assert np.corrcoef(points[:, 1], bumpy)[0, 1] == pytest.approx(-1.0)  # up is smaller
    assert "#0072b2" in first[0]
    assert "#d55e00" in second[0]


def test_a_plot_is_in_the_colour_of_the_text_and_the_same_each_time() -> None:
    curve = np.array([0.0, 1.0, 0.5])
    texts = [
        curves_plot("Nod", "degrees", [("real", curve)], colours(["real"], 1), curve)
        for _ in range(2)
    ]
    assert texts[0] == texts[1]
    assert INK not in texts[0]
    assert "stroke: currentColor" in texts[0]


def test_without_matplotlib_the_report_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in ("plots", "files"):
        monkeypatch.delitem(sys.modules, f"moda.evaluation.videos.report.{name}", raising=False)
    with pytest.raises(MissingExtraError, match=r"matplotlib.*pip install '\.\[evaluate\]'"):
        import moda.evaluation.videos.report.files  # noqa: F401
