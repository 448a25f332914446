"""Variants of the model are trained by the same recipe, saved, and make videos."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from device_double import DeviceDouble
from made_clips import made_clip
from media_files import decode_video, tone, write_wav
from moda import cli
from moda.config import AutoencoderConfig, ModelConfig, preset
from moda.data.dataset import WindowSampler, build_clips
from moda.encoders.face import FaceModels
from moda.errors import ConfigError, InputError
from moda.motion.variants.autoencoder import MotionAutoencoder
from moda.motion.variants.building import build_model
from moda.pipeline import TalkingHead
from moda.strict_json import changed, merged
from moda.structures import MotionSpace
from moda.systems.embedded import EmbeddedSystem
from moda.training.autoencoding import AutoencoderOptions, divergence, train_autoencoder
from moda.training.losses import SMOOTHNESS_WEIGHT, MotionMetric, plain_loss
from moda.training.recipe import read_recipe
from moda.training.run import train
from moda.training.stages import TrainingData
from moda.weights.checkpoints import load_checkpoint, save_checkpoint
from moda.weights.spaces import load_motion_space, save_motion_space
from paths import PORTRAIT
from small_runs import write_prepared

VARIANTS: dict[str, dict[str, Any]] = {
    "one_stream": {"four_stream_blocks": 0, "two_stream_blocks": 0},
    "two_stream": {"four_stream_blocks": 0, "one_stream_blocks": 0},
    "cross_attention": {
        "four_stream_blocks": 0,
        "two_stream_blocks": 0,
        "one_stream_blocks": 0,
        "cross_attention_blocks": 1,
    },
    "diffusion": {"objective": "diffusion"},
    "v_diffusion": {"objective": "v_diffusion"},
    "latent": {"autoencoder": {"latent_size": 6, "width": 8}},
    "without": {"conditions": []},
}
NETWORK = {
    "hidden": 32,
    "mouth_size": 0,
    "unsampled": [],
    "speech": {"kind": "log_mel"},
    "speech_embedder": {
        "kind": "conv",
        "width": 16,
        "dilations": [1, 2],
        "context": 12,
        "num_phones": 0,
        "voice_spans": [],
        "compressed": 0,
    },
}
"""On spectra, without a mean of the mouth: what all variants can have."""
OPTIONS = {
    "speech_steps": 0,
    "flow_steps": 4,
    "batch_size": 3,
    "window_frames": [16],
    "checkpoint_every": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared clips of three speakers, and a model whose speech embedder is taken over."""
    folder = tmp_path_factory.mktemp("variants")
    (folder / "prepared").mkdir()
    for seed in range(3):
        clip = made_clip(f"speaker{seed}", seed)
        write_prepared(folder / "prepared", clip)
    torch.manual_seed(0)
    motion = changed(preset("moda-tiny").motion, NETWORK)
    model = build_model(motion).eval()
    config = ModelConfig("source", motion)
    save_checkpoint(folder / "source.safetensors", model, load_motion_space(), config=config)
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> TrainingData:
    prepared = [made_clip(f"speaker{seed}", seed) for seed in range(3)]
    space = load_motion_space()
    clips = build_clips(prepared, space, versions=1, in_sync="*")
    embedder = load_checkpoint(folder / "source.safetensors").model.speech_embedder
    return TrainingData(space, clips, [], embedder)  # type: ignore[arg-type]


def recipe_file(folder: Path, name: str, **values: object) -> Path:
    path = folder / f"{name}.json"
    network = values.pop("network", {})
    latent = {"autoencoder": {"steps": 3, "batch_size": 3, "window_frames": 16}}
    whole = {
        "name": name,
        "clips": ["prepared"],
        "network": merged(NETWORK, network),  # type: ignore[arg-type]
        "speech_embedder_from": "source.safetensors",
        "options": OPTIONS,
        "sampler": {"num_steps": 2, "guidance_scale": 1.5},
        **(latent if name == "latent" else {}),
        **values,
    }
    path.write_text(json.dumps(whole), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", list(VARIANTS))
def test_every_variant_is_trained_saved_and_talks(
    name: str, folder: Path, data: TrainingData, models: FaceModels, tmp_path: Path
) -> None:
    """All through the Python interface, one through the command, too."""
    path = recipe_file(folder, name, network=VARIANTS[name])
    recipe = read_recipe(path)
    result = train(recipe, folder, tmp_path / "run", data=data)
    loaded = load_checkpoint(result)
    assert loaded.config == recipe.config
    start = build_model(recipe.config.motion).final_layer.linear.weight
    assert not torch.equal(loaded.model.final_layer.linear.weight, start), "something was learned"

    speech = write_wav(tmp_path / "speech.wav", tone(0.2, 16_000), 16_000)
    head = TalkingHead(EmbeddedSystem(loaded, models))
    frames = list(head.generate(PORTRAIT, speech, size=96).frames())
    assert len(frames) == 5
    assert np.ptp(np.stack(frames).astype(int), axis=0).max() > 0, "something moves"
    if name != "latent":
        return
    video = tmp_path / "talk.mp4"
    with pytest.raises(SystemExit) as exited:
        cli.main(["generate", str(PORTRAIT), str(speech), "-o", str(video), "--model", str(result),
                  "--size", "96"])  # fmt: skip
    assert not exited.value.code
    assert len(decode_video(video).frames) == 5


def run_folder(path: Path) -> Path:
    """With a motion space, which is then not fitted."""
    path.mkdir()
    save_motion_space(path / "mesh_space.safetensors", load_motion_space())
    return path


def test_a_killed_run_with_an_autoencoder_goes_on_as_if_nothing_had_happened(
    folder: Path, tmp_path: Path
) -> None:
    """From the recipe alone."""
    path = recipe_file(folder, "latent", network=VARIANTS["latent"], augmented_versions=0)
    recipe = read_recipe(path)
    whole = load_checkpoint(train(recipe, folder, run_folder(tmp_path / "whole")))

    def stop(values: dict[str, float]) -> None:
        if values["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, folder, run_folder(tmp_path / "cut"), report=stop)
    cut = load_checkpoint(train(recipe, folder, tmp_path / "cut"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, cut.model.state_dict()[name]), name


def test_a_frozen_embedder_is_taken_over(folder: Path, data: TrainingData, tmp_path: Path) -> None:
    source = load_checkpoint(folder / "source.safetensors").model.speech_embedder.state_dict()
    recipe = read_recipe(recipe_file(folder, "flow"))
    found = load_checkpoint(train(recipe, folder, tmp_path / "run", data=data))
    changed = {
        name
        for name, value in found.model.speech_embedder.state_dict().items()
        if not torch.equal(value, source[name])
    }
    assert changed == {"null_speech"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"network": {"hidden": 64}}, "32 channels, .* network 64"),
        ({"network": {"speech_embedder": {"width": 64}}}, "another one than the recipe's network"),
    ],
)
def test_embedders_that_do_not_fit(
    folder: Path, tmp_path: Path, values: dict[str, object], says: str
) -> None:
    recipe = read_recipe(recipe_file(folder, "wrong", augmented_versions=0, **values))
    with pytest.raises(ConfigError, match=says):
        train(recipe, folder, run_folder(tmp_path / "run"))


def test_divergence_against_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn((2, 3, 7, 4), generator=generator)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
    found = divergence(mean, log_variance, torch.ones(3, 7))
    torch.testing.assert_close(found, expected.mean())
    assert divergence(mean, log_variance, torch.zeros(3, 7)).item() == 0.0


def test_latent_loss_of_noise_is_known_and_padding_does_not_count() -> None:
    error = torch.randn(40, 50, 8, generator=torch.Generator().manual_seed(0))
    inside = torch.ones(40, 50)
    assert plain_loss(error, inside).item() == pytest.approx(1 + 2 * SMOOTHNESS_WEIGHT, rel=0.05)
    inside[:, 25:] = 0.0
    error[:, 25:] = 1e6
    assert plain_loss(error, inside).item() < 2.0


def wave_windows(space: MotionSpace, data: TrainingData) -> WindowSampler:
    """Motion of two hidden waves: two latents are enough for it."""
    generator = np.random.default_rng(0)
    mixing = generator.standard_normal((2, space.size)).astype(np.float32)
    clips = []
    for clip in data.clips:
        time = np.arange(125, dtype=np.float32)
        waves = np.stack([np.sin(time / 3), np.cos(time / 7)], axis=1) @ mixing
        clips.append(replace(clip, motion=(waves, waves)))
    return WindowSampler(clips, before=12, after=12, seed=0)


def test_the_autoencoder_learns_motion_of_two_waves(data: TrainingData) -> None:
    torch.manual_seed(0)
    space = data.space
    autoencoder = MotionAutoencoder(space.size, AutoencoderConfig(latent_size=2, width=24))
    windows, metric = wave_windows(space, data), MotionMetric(space)
    options = AutoencoderOptions(steps=150, batch_size=8, window_frames=24, learning_rate=1e-2)
    loss = train_autoencoder(autoencoder, windows, metric, options)
    batch = windows.batch(8, 24)
    motion = torch.from_numpy(batch.motion)
    latents = autoencoder.encode(motion)
    share = (autoencoder.decode(latents) - motion).square().mean() / motion.var()
    assert share < 0.1
    assert loss < 0.2 * float(metric.flow_loss(motion, torch.from_numpy(batch.weight)))
    assert latents.std().item() == pytest.approx(1.0, abs=0.2)
    assert not any(weight.requires_grad for weight in autoencoder.parameters())


def test_the_autoencoder_learns_on_another_device(data: TrainingData, device: DeviceDouble) -> None:
    weights = []
    for name in ("cpu", "mps"):
        torch.manual_seed(0)
        config = AutoencoderConfig(latent_size=2, width=8)
        autoencoder = MotionAutoencoder(data.space.size, config).to(name)
        options = AutoencoderOptions(steps=3, batch_size=2, window_frames=16)
        metric = MotionMetric(data.space).to(name)
        train_autoencoder(autoencoder, wave_windows(data.space, data), metric, options)
        weights.append([values.cpu() for values in autoencoder.state_dict().values()])
    for here, there in zip(*weights, strict=True):
        torch.testing.assert_close(there, here)


def test_a_broken_clip_stops_the_autoencoder(data: TrainingData) -> None:
    broken = [replace(clip, motion=(clip.motion[0] * np.nan,) * 2) for clip in data.clips]
    autoencoder = MotionAutoencoder(data.space.size, AutoencoderConfig(latent_size=2, width=8))
    with pytest.raises(InputError, match="the autoencoder's loss is nan at step 0"):
        train_autoencoder(
            autoencoder,
            WindowSampler(broken, before=12, after=12, seed=0),
            MotionMetric(data.space),
            AutoencoderOptions(steps=3, batch_size=2, window_frames=16),
        )


@pytest.mark.parametrize("options", [{"steps": -1}, {"batch_size": 0}, {"window_frames": 4}])
def test_impossible_options(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="must be at least"):
        AutoencoderOptions(**options)
