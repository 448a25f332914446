"""Recipes are read whole or refused with what is wrong in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moda.errors import ConfigError, InputError
from moda.training.recipe import Recipe, read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


def recipe_file(folder: Path, **values: object) -> Path:
    path = folder / "recipe.json"
    path.write_text(json.dumps({"clips": ["prepared"], **values}), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", [path.name for path in RECIPES.glob("*.json")])
def test_our_recipes(name: str) -> None:
    recipe = read_recipe(RECIPES / name)
    assert recipe.clips
    assert len(recipe.synthetic_phones) == len(recipe.synthetic_shares) > 0


def test_values_arrive(tmp_path: Path) -> None:
    path = recipe_file(
        tmp_path,
        synthetic_phones=["a.npz", "b.npz"],
        synthetic_shares=[0.3, 0.7],
        options={"speech_steps": 7},
        seed=5,
    )
    recipe = read_recipe(path)
    assert recipe.synthetic_phones == ("a.npz", "b.npz")
    assert recipe.synthetic_shares == (0.3, 0.7)
    assert (recipe.options.speech_steps, recipe.seed) == (7, 5)
    assert recipe.options.flow_steps == Recipe().options.flow_steps


@pytest.mark.parametrize(
    ("corpora", "shares", "says"),
    [
        (["a.npz", "b.npz"], [0.5], "names 2 corpora .* 1 shares .* give one for each"),
        (["a.npz"], [], "names 1 corpora .* 0 shares"),
        ([], [1.0], "names 0 corpora .* 1 shares"),
        (["a.npz", "b.npz"], [0.6, 0.5], r"\(0.6, 0.5\) in .* do not sum to 1"),
        (["a.npz"], [-0.1], "-0.1"),
        (["a.npz", "b.npz"], [-0.5, 1.5], "-0.5"),
        (["a.npz", "b.npz"], [0.6, 0.2], r"\(0.6, 0.2\) in .* do not sum to 1"),
        (["a.npz"], ["half"], "synthetic_shares"),
    ],
)
def test_shares_that_do_not_fit(
    tmp_path: Path, corpora: list[str], shares: list[object], says: str
) -> None:
    path = recipe_file(tmp_path, synthetic_phones=corpora, synthetic_shares=shares)
    with pytest.raises(ConfigError, match=says) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"clips": []}, "names no folders"),
        ({"model": "moda-huge"}, "moda-huge"),
        ({"practice": 1}, "unknown key 'practice'"),
        ({"teachers": 2}, "wants 2 teachers and names 0 corpora"),
        ({"teachers": -1}, "-1 teachers"),
        ({"distillation": [{"pace": 1}]}, "unknown key 'pace'"),
        ({"options": {"batch_size": "many"}}, "batch_size"),
    ],
)
def test_other_values_that_do_not_fit(tmp_path: Path, values: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_recipe(recipe_file(tmp_path, **values))


def test_recipes_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json cannot be read"):
        read_recipe(tmp_path / "nowhere.json")
    (tmp_path / "text.json").write_text("speech")
    with pytest.raises(ConfigError, match="not JSON"):
        read_recipe(tmp_path / "text.json")
