"""Plots and the page: well-formed, to scale, and nothing fetched."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from moda.evaluation.videos.plots import Mark, colours, curves_plot, dot_plot, nice_ticks

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3.0, 12.0, [-5.0, 0.0, 5.0, 10.0, 15.0]),
        (20.3, 31.0, [20.0, 25.0, 30.0, 35.0]),
        (2.0, 2.0, [1.8, 1.9, 2.0, 2.1, 2.2]),
    ],
)
def test_ticks_are_round_and_reach_around(low: float, high: float, expected: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, -7.5, 1e-9, 3e7])
def test_ticks_of_one_value(value: float) -> None:
    ticks = nice_ticks(value, value)
    assert ticks[0] <= value <= ticks[-1]
    assert len(ticks) >= 2


def test_dots_stand_where_their_values_are() -> None:
    rows = ["real video", "<method>", "other"]
    marks = [Mark(row, value, 0.1, "x") for row, value in zip(rows, (0.0, 5.0, 10.0), strict=True)]
    text = dot_plot("A & B", marks, colours(rows, 1))
    root = ElementTree.fromstring(text)
    places = [float(dot.attrib["cx"]) for dot in root.iter(f"{SVG}circle")]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.11)
    assert [label.text for label in root.iter(f"{SVG}text")].count("<method>") == 1


def test_curves_are_drawn_to_scale() -> None:
    rows = ["a", "b"]
    rising = np.linspace(0.0, 10.0, 50)
    text = curves_plot("Lip gap", "%", [("a", rising), ("b", rising[::-1])], colours(rows, 0))
    root = ElementTree.fromstring(text)
    lines = list(root.iter(f"{SVG}polyline"))
    points = np.array([p.split(",") for p in lines[0].attrib["points"].split()], float)
    assert len(points) == 50
    np.testing.assert_allclose(np.diff(points[:, 0]), np.diff(points[:, 0])[0], atol=0.11)
    assert points[0, 1] > points[-1, 1]  # up is smaller in pictures
    assert lines[0].attrib["stroke"] != lines[1].attrib["stroke"]
