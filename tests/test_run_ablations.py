"""The script that runs all ablations, at a tiny size."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from made_clips import made_clip
from moda.config import ModelConfig, preset
from moda.motion.variants.building import build_model
from moda.strict_json import changed
from moda.training.recipe import read_recipe
from moda.weights.checkpoints import save_checkpoint
from moda.weights.spaces import load_motion_space, save_motion_space
from paths import ROOT, load_file
from small_runs import write_prepared

RECIPES = ROOT / "recipes" / "ablations"
NETWORK = {
    "hidden": 32, "mouth_size": 0, "unsampled": [], "speech": {"kind": "log_mel"},
    "speech_embedder": {
        "kind": "conv", "width": 16, "dilations": [1, 2], "context": 12, "num_phones": 0,
        "voice_spans": [], "compressed": 0,
    },
}  # fmt: skip
SMALL = {
    "name": "base",
    "clips": ["../prepared"],
    "validation_speakers": ["speaker2", "speaker3"],
    "augmented_versions": 0,
    "network": NETWORK,
    "speech_embedder_from": "../source.safetensors",
    "options": {
        "speech_steps": 0, "flow_steps": 2, "batch_size": 2, "window_frames": [16],
    },
    "sampler": {"num_steps": 1, "guidance_scale": 1.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_file(ROOT / "scripts" / "run_ablations.py")


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ablations")
    for name in ("prepared", "recipes"):
        (folder / name).mkdir()
    for seed in range(4):
        clip = made_clip(f"speaker{seed}", seed)
        write_prepared(folder / "prepared", clip)
    torch.manual_seed(0)
    motion = changed(preset("moda-tiny").motion, NETWORK)
    save_checkpoint(
        folder / "source.safetensors",
        build_model(motion).eval(),
        load_motion_space(),
        config=ModelConfig("source", motion),
    )
    variants = {
        "base": SMALL,
        "steps_2": {"extends": "base.json", "sampler": {"num_steps": 2}},
        "diffusion": {"extends": "base.json", "network": {"objective": "diffusion"}},
    }
    for name, values in variants.items():
        path = folder / "recipes" / f"{name}.json"
        path.write_text(json.dumps({**values, "name": name}), encoding="utf-8")
    return folder / "recipes"


def test_every_recipe_has_its_place_in_the_table(script: ModuleType) -> None:
    placed = {name for names in script.GROUPS.values() for name in names}
    assert {path.stem for path in RECIPES.glob("*.json")} == placed - {script.FLOOR}


def test_recipes_that_only_sample_differently_share_a_training(script: ModuleType) -> None:
    key = {path.stem: script.training_key(read_recipe(path)) for path in RECIPES.glob("*.json")}
    same = {name for name, value in key.items() if value == key["base"]}
    assert same == {name for name in key if name.startswith(("base", "steps", "guidance"))}
    assert key["diffusion_steps_4"] == key["diffusion"]
    assert len(set(key.values())) == 13


def test_variants_of_fusion_are_of_one_size(script: ModuleType) -> None:
    """Within 5 percent."""
    sizes = {}
    for name in script.GROUPS["Fusion"]:
        config = read_recipe(RECIPES / f"{name}.json").config
        model = build_model(config.motion)
        checkpoint = type("Loaded", (), {"config": config, "model": model})
        sizes[name] = script.count_parameters(checkpoint)
    for name, size in sizes.items():
        assert size == pytest.approx(sizes["base"], rel=0.05), name


def test_it_runs_goes_on_after_a_kill_and_does_nothing_twice(
    script: ModuleType, recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    (output / "data").mkdir(parents=True)
    save_motion_space(output / "data" / "mesh_space.safetensors", load_motion_space())

    def run() -> None:
        monkeypatch.setattr(sys, "argv", ["x", str(recipes), "-o", str(output), "--seeds", "0"])
        script.main()

    measure = script.measure_denoising
    measured = list[str]()

    def stop(checkpoint: object, *rest: object, **options: object) -> object:
        measured.append("one")
        if len(measured) == 2:
            raise KeyboardInterrupt
        return measure(checkpoint, *rest, **options)

    monkeypatch.setattr(script, "measure_denoising", stop)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert [path.stem for path in (output / "results").iterdir()] == ["base-0"]
    first = (output / "results" / "base-0.json").read_text()
    run()
    assert (output / "results" / "base-0.json").read_text() == first
    found = sorted(path.stem for path in (output / "results").iterdir())
    assert found == ["another_sound-0", "base-0", "diffusion-0", "steps_2-0"]
    assert len(list((output / "trainings").iterdir())) == 2
    assert len(measured) == 5
    run()
    assert len(measured) == 5

    table = json.loads((output / "table.json").read_text())
    assert table["Objective"]["diffusion"]["parameters"]["values"][0] > 10_000
    text = (output / "table.md").read_text()
    assert "| steps 2 |" in text
    assert "one stream" not in text
    assert not list(output.rglob("*.partial"))


def test_the_table_finds_its_place_in_a_document(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "text.md"
    path.write_text(f"Before.\n\n{script.BEGIN}\n\nold\n\n{script.END}\n\nAfter.\n")
    for _ in range(2):
        script.insert_table(path, "new\n")
        expected = f"Before.\n\n{script.BEGIN}\n\nnew\n\n{script.END}\n\nAfter.\n"
        assert path.read_text() == expected
    path.write_text("nothing")
    with pytest.raises(SystemExit, match="lacks the marks"):
        script.insert_table(path, "new")
