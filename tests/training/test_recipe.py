"""Recipes are read whole or refused with what is wrong in them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from moda.config import preset
from moda.errors import ConfigError, InputError
from moda.training.recipe import Recipe, read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


NO_READER = {"num_phones": 0, "voice_spans": [], "compressed": 0}


def recipe_file(folder: Path, **values: object) -> Path:
    path = folder / "recipe.json"
    known = {"clips": ["prepared"], "synthetic_phones": ["a.npz"], **values}
    path.write_text(json.dumps(known), encoding="utf-8")
    return path


OURS = sorted(RECIPES.rglob("*.json"))


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_our_recipes(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.clips
    knows_speech = bool(recipe.synthetic_phones or recipe.speech_embedder_from)
    reads = recipe.config.motion.speech_embedder.kind == "reader"
    assert knows_speech == reads
    assert reads == (recipe.model == "moda-tiny" and path.parent.name != "ablations")
    frozen = recipe.options.freeze_speech_embedder
    assert knows_speech or not frozen, "an embedder that nobody has taught learns with the flow"
    assert recipe.config.name == path.stem


@pytest.mark.parametrize(
    "path", [path for path in OURS if path.parent.name == "ablations"], ids=lambda path: path.stem
)
def test_ablations_differ_from_their_base_in_one_thing(path: Path) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    extends = values.pop("extends", None)
    assert (extends is None) == (path.stem == "base")
    if extends:
        differs = set(values) - {"name"}
        of_sync = {"expert", "options"}
        assert differs in ({"network"}, {"sampler"}, {"network", "autoencoder"}, of_sync)
        assert set(values.get("options", ["sync_weight"])) == {"sync_weight"}
        assert extends in ("base.json", "diffusion.json", "v_diffusion.json")


def test_a_recipe_says_only_what_differs(tmp_path: Path) -> None:
    recipe_file(tmp_path, options={"flow_steps": 7, "batch_size": 3}, seed=5)
    (tmp_path / "recipe.json").rename(tmp_path / "base.json")
    path = tmp_path / "other.json"
    path.write_text('{"extends": "base.json", "options": {"flow_steps": 9}, "clips": ["b"]}')
    recipe = read_recipe(path)
    assert (recipe.options.flow_steps, recipe.options.batch_size, recipe.seed) == (9, 3, 5)
    assert recipe.clips == ("b",)


@pytest.mark.parametrize(
    ("extends", "error", "says"),
    [
        ("recipe.json", ConfigError, "more than 8 recipes extend each other"),
        ("../recipe.json", ConfigError, "same folder"),
        (3, ConfigError, "extends 3; give the name"),
        ("absent.json", InputError, r"absent\.json cannot be read"),
    ],
)
def test_extensions_that_cannot_be(
    tmp_path: Path, extends: object, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        read_recipe(recipe_file(tmp_path, extends=extends))


def test_the_network_may_differ_from_its_model(tmp_path: Path) -> None:
    path = recipe_file(
        tmp_path, name="wide", network={"hidden": 64, "speech_embedder": {"voice_spans": [9]}}
    )
    recipe = read_recipe(path)
    tiny = preset("moda-tiny").motion
    embedder = replace(tiny.speech_embedder, voice_spans=(9,))
    assert recipe.config.motion == replace(tiny, hidden=64, speech_embedder=embedder)
    assert recipe.config.name == "wide"
    assert recipe.config.sampler == recipe.sampler


def test_values_arrive(tmp_path: Path) -> None:
    path = recipe_file(
        tmp_path,
        synthetic_phones=["a.npz", "b.npz"],
        options={"speech_steps": 7},
        seed=5,
    )
    recipe = read_recipe(path)
    assert recipe.synthetic_phones == ("a.npz", "b.npz")
    assert (recipe.options.speech_steps, recipe.seed) == (7, 5)
    assert recipe.options.flow_steps == Recipe().options.flow_steps


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"clips": []}, "names no folders"),
        ({"model": "moda-huge"}, "moda-huge"),
        ({"practice": 1}, "unknown key 'practice'"),
        ({"network": {"depth": 1}}, "network: unknown key 'depth'"),
        ({"network": []}, "network: expected an object"),
        ({"network": {"hidden": 0}}, "hidden 0 is outside"),
        ({"autoencoder": {"steps": 5}}, "latent_size 0 and 5 steps .* do not fit"),
        (
            {
                "network": {
                    "mouth_size": 0,
                    "unsampled": [],
                    "speech": {"kind": "log_mel"},
                    "speech_embedder": {"kind": "conv", **NO_READER},
                    "autoencoder": {"latent_size": 4},
                }
            },
            "latent_size 4 and 0 steps .* do not fit",
        ),
        ({"synthetic_phones": []}, "what the model reads of phones must come from somewhere"),
        ({"reader": {"pace": 1}}, "unknown key 'pace'"),
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


def test_a_list_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(ConfigError, match="expected an object, got list"):
        read_recipe(tmp_path / "list.json")
