"""The table of ablations: means, spreads, and what counts as a difference."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from ablations.table import AblationTable, Figure, Result, ranges_are_apart

LIPS = Figure("generated.lip_gap", "lip gap r", 3)


def results(**values: list[float]) -> list[Result]:
    return [
        Result(name, seed, {"generated": {"lip_gap": value}})
        for name, found in values.items()
        for seed, value in enumerate(found)
    ]


def table(**values: list[float]) -> AblationTable:
    return AblationTable({"Fusion": tuple(values)}, results(**values), figures=(LIPS,))


def test_mean_deviation_and_star() -> None:
    made = table(base=[0.5, 0.6, 0.7], worse=[0.1, 0.2, 0.4], same_thing=[0.65, 0.8, 0.9])
    assert made.markdown().splitlines() == [
        "### Fusion",
        "",
        "| fusion | lip gap r | seeds |",
        "| --- | --- | --- |",
        "| base | 0.600 ± 0.100 | 3 |",
        f"| worse | 0.233 ± {np.std([0.1, 0.2, 0.4], ddof=1):.3f} * | 3 |",
        f"| same thing | 0.783 ± {np.std([0.65, 0.8, 0.9], ddof=1):.3f} | 3 |",
    ]


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [
        ([1.0, 2.0], [3.0, 4.0], True),
        ([3.0, 4.0], [1.0, 2.0], True),
        ([1.0, 3.0], [3.0, 4.0], False),
        ([1.0, 9.0], [3.0, 4.0], False),
        ([1.0], [3.0, 4.0], False),
        ([math.nan, math.nan], [3.0, 4.0], False),
        ([5.0, 5.0], [3.0, 3.0], False),
        ([5.0, 5.0], [3.0, 4.0], True),
    ],
)
def test_only_ranges_that_do_not_touch_differ(
    first: list[float], second: list[float], apart: bool
) -> None:
    assert ranges_are_apart(first, second) == apart


def test_one_in_ten_pairs_of_three_seeds_differs_by_chance() -> None:
    draws = np.random.default_rng(0).standard_normal((20_000, 2, 3))
    share = np.mean([ranges_are_apart(*pair) for pair in draws.tolist()])
    assert share == pytest.approx(0.1, abs=0.01)


def test_what_is_missing_is_left_empty() -> None:
    made = AblationTable(
        {"Space": ("base", "latent", "absent")},
        [*results(base=[0.5]), Result("latent", 0, {"generated": {"lip_gap": None}})],
        figures=(LIPS,),
    )
    assert made.group_markdown("Space").splitlines()[2:] == [
        "| base | 0.500 | 1 |",
        "| latent |  | 1 |",
    ]


def test_groups_leave_out_what_says_nothing_and_groups_of_one_are_none() -> None:
    made = AblationTable(
        {"Fusion": ("base", "worse"), "Space": ("base", "latent")},
        results(base=[0.5], worse=[0.4]),
        (LIPS, Figure("denoising.mouth", "mouth error")),
        {"Fusion": ("denoising",)},
    )
    assert made.markdown().splitlines()[2] == "| fusion | lip gap r | seeds |"
    assert "Space" not in made.markdown()


def test_json_has_every_value() -> None:
    values = json.loads(json.dumps(table(base=[0.5, 0.6], worse=[0.1, 0.2]).to_json()))
    found = values["Fusion"]["worse"]["generated.lip_gap"]
    assert found["values"] == [0.1, 0.2]
    assert found["differs"] is True
    assert found["mean"] == pytest.approx(0.15)
