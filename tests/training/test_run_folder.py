"""A folder keeps one run: another one is refused by what differs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from moda.config import SamplerConfig
from moda.errors import CheckpointError, InputError
from moda.training.options import TrainingOptions
from moda.training.preview import PreviewOptions
from moda.training.recipe import Recipe
from moda.training.run_folder import RUN_FILE, claim_folder
from moda.weights.official import load_published_space
from small_runs import neural_clip, write_prepared


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "clips").mkdir()
    space = load_published_space()
    write_prepared(tmp_path / "clips", neural_clip(space, "one", "anna", num_frames=8))
    return Recipe(clips=("clips",), options=TrainingOptions(flow_steps=10), seed=1)


@pytest.fixture
def run(recipe: Recipe, tmp_path: Path) -> Path:
    """The folder of a run that has done something."""
    folder = tmp_path / "runs" / "run"
    claim_folder(folder, recipe, tmp_path)
    (folder / "lags.json").write_text("{}")
    return folder


def test_the_same_run_goes_on(recipe: Recipe, run: Path, tmp_path: Path) -> None:
    """Also with other records, previews and sampling, and from another place."""
    options = replace(recipe.options, checkpoint_every=1, log_every=7, accumulation=2)
    other = replace(
        recipe,
        options=options,
        preview=PreviewOptions(every=5, portrait="a.jpg", speech="b.wav"),
        sampler=SamplerConfig(num_steps=3),
    )
    claim_folder(run, other, tmp_path)
    (tmp_path / "clips").rename(tmp_path / "moved")
    claim_folder(run, replace(recipe, clips=("moved",)), tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"adapter_rank": 4}, "adapter_rank 0 there, 4 now"),
        ({"seed": 2}, "seed 1 there, 2 now"),
        ({"options": TrainingOptions(flow_steps=20)}, "options.flow_steps 10 there, 20 now"),
        ({"network": {"hidden": 64}}, "network"),
    ],
)
def test_another_run_is_refused(
    recipe: Recipe, run: Path, tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    before = (run / RUN_FILE).read_bytes()
    with pytest.raises(InputError) as caught:
        claim_folder(run, replace(recipe, **changes), tmp_path)  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"{run} holds another run: {says}; use another folder, or remove it"
        if says != "network"
        else f"{run} holds another run: network.hidden null there, 64 now; use another folder, or "
        "remove it"
    )
    assert (run / RUN_FILE).read_bytes() == before


def test_clips_of_others_are_refused(recipe: Recipe, run: Path, tmp_path: Path) -> None:
    space = load_published_space()
    (tmp_path / "more").mkdir()
    write_prepared(tmp_path / "more", neural_clip(space, "two", "bert", num_frames=8))
    with pytest.raises(InputError, match="clips of anna there, of bert now"):
        claim_folder(run, replace(recipe, clips=("more",)), tmp_path)
    write_prepared(tmp_path / "clips", neural_clip(space, "two", "anna", num_frames=8))
    with pytest.raises(InputError, match=r"other clips \(1 there, 2 now, or made otherwise\)"):
        claim_folder(run, recipe, tmp_path)


def test_a_folder_without_a_run_is_taken(recipe: Recipe, run: Path, tmp_path: Path) -> None:
    """Nothing but the note is there, or all but the note."""
    (run / "lags.json").unlink()
    claim_folder(run, replace(recipe, seed=5), tmp_path)
    assert json.loads((run / RUN_FILE).read_text())["recipe"]["seed"] == 5
    (run / RUN_FILE).rename(run / "lags.json")
    claim_folder(run, replace(recipe, seed=6), tmp_path)


def test_a_damaged_note(recipe: Recipe, run: Path, tmp_path: Path) -> None:
    (run / RUN_FILE).write_text('{"format": "moda-run-1"}')
    with pytest.raises(CheckpointError, match=r"run\.json is damaged"):
        claim_folder(run, recipe, tmp_path)
    (run / RUN_FILE).write_text('{"format": "moda-run-9"}')
    with pytest.raises(CheckpointError, match="another version"):
        claim_folder(run, recipe, tmp_path)


def test_no_clips_no_folder(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no prepared clips"):
        claim_folder(tmp_path / "other", replace(recipe, clips=("nowhere",)), tmp_path)
    assert not (tmp_path / "other").exists()
