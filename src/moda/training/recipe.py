"""A whole training from one JSON file: clips, space, speech pretraining, flow, checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch

from moda.checkpoints import load_motion_space, save_checkpoint, save_motion_space
from moda.config import SamplerConfig, from_json, preset
from moda.data.clips import PreparedClip, read_clips
from moda.data.dataset import TrainingClip, WindowSampler, build_clips
from moda.data.mesh_space import fit_mesh_space
from moda.data.phones import read_phone_corpus
from moda.errors import ConfigError, InputError
from moda.motion.layers import SpeechConv
from moda.structures import MotionSpace
from moda.training.loop import Report, Trainer, TrainingOptions
from moda.training.speech_pretraining import PhoneItem, phone_items, pretrain_speech_embedder


@dataclass(frozen=True)
class Recipe:
    """What ``moda train`` reads. Paths are relative to the file's folder."""

    model: str = "moda-tiny"
    clips: tuple[str, ...] = ()
    """folders made by ``moda prepare``"""
    validation_speakers: tuple[str, ...] = ()
    """never trained on, also not by the motion space"""
    unreliable: tuple[str, ...] = ()
    """patterns of clip names whose lips are not used with their sound"""
    in_sync: str = "*"
    """pattern of clip names whose sound is known to fit the picture"""
    augmented_versions: int = 5
    synthetic_phones: tuple[str, ...] = ()
    natural_phones: tuple[str, ...] = ()
    """phone corpora (.npz) for the pretraining of the speech embedder"""
    phone_versions: int = 2
    pretraining_steps: int = 2500
    options: TrainingOptions = field(default_factory=TrainingOptions)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    seed: int = 0


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        InputError: the file cannot be read.
        ConfigError: a key is unknown or a value impossible.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {path} cannot be read: {error}") from error
    recipe = from_json(Recipe, text)
    if not recipe.clips:
        raise ConfigError(f"recipe {path} names no folders of prepared clips in 'clips'")
    preset(recipe.model)
    return recipe


def train(
    recipe: Recipe,
    base: Path,
    folder: Path,
    *,
    report: Report = lambda values: None,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Run a recipe and write ``folder / <model>.safetensors``; continues an interrupted run.

    Args:
        base: what the recipe's paths are relative to.
        folder: of the run: motion space, pretrained embedder, training state, log, result.

    Raises:
        ModaError: something is missing or damaged; the message says what.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prepared = [
        replace(clip, samples=clip.samples[:0]) if _matches(clip.name, recipe.unreliable) else clip
        for clip in read_clips([base / name for name in recipe.clips])
    ]
    own = [clip for clip in prepared if clip.speaker not in recipe.validation_speakers]
    say(f"{len(own)} clips, {sum(clip.seconds for clip in own) / 60:.1f} minutes to train on")
    space = _space(own, folder / "mesh_space.safetensors", say)
    clips = build_clips(
        own,
        space,
        versions=recipe.augmented_versions,
        in_sync=recipe.in_sync,
        seed=recipe.seed,
    )
    _write_lags(clips, folder / "lags.json")
    config = preset(recipe.model)
    context = config.motion.speech_embedder.context
    windows = WindowSampler(clips, context=context, seed=recipe.seed)
    trainer = Trainer(config, space, windows, recipe.options, folder)
    if not trainer.resume():
        _pretrain(trainer, recipe, base, folder, say)
    log = (folder / "log.jsonl").open("a", encoding="utf-8")
    with log:

        def record(values: dict[str, float]) -> None:
            if values["step"] % 20 == 0:
                log.write(json.dumps({key: round(v, 5) for key, v in values.items()}) + "\n")
                log.flush()
            report(values)

        model = trainer.run(record)
    result = folder / f"{recipe.model}.safetensors"
    save_checkpoint(
        result,
        model,
        space,
        metadata={"steps": str(trainer.step), "minutes": f"{_minutes(own):.1f}"},
        config=replace(config, sampler=recipe.sampler),
    )
    return result


def _space(own: Sequence[PreparedClip], path: Path, say: Callable[[str], None]) -> MotionSpace:
    if not path.exists():
        say("fitting the motion space")
        triangles = load_motion_space().triangles
        assert triangles is not None
        save_motion_space(path, fit_mesh_space([clip.track for clip in own], triangles))
    return load_motion_space(path)


def _pretrain(
    trainer: Trainer, recipe: Recipe, base: Path, folder: Path, say: Callable[[str], None]
) -> None:
    """Give the model an embedder that knows phones, trained once per run folder."""
    embedder = trainer.model.speech_embedder
    if not recipe.synthetic_phones or not isinstance(embedder, SpeechConv):
        return
    path = folder / "speech_embedder.pt"
    if not path.exists():
        say("reading phone corpora")
        generator = np.random.default_rng(recipe.seed)

        def items(names: Sequence[str]) -> list[PhoneItem]:
            return [
                item
                for name in names
                for item in phone_items(
                    read_phone_corpus(base / name),
                    held_out=False,
                    versions=recipe.phone_versions,
                    generator=generator,
                )
            ]

        synthetic, natural = items(recipe.synthetic_phones), items(recipe.natural_phones)
        say(f"pretraining the speech embedder for {recipe.pretraining_steps} steps")
        pretrain_speech_embedder(
            embedder, synthetic, natural, steps=recipe.pretraining_steps, seed=recipe.seed
        )
        torch.save(embedder.state_dict(), path)
    embedder.load_state_dict(torch.load(path, weights_only=True))
    trainer.average.load_state_dict(trainer.model.state_dict())


def _write_lags(clips: Sequence[TrainingClip], path: Path) -> None:
    lags = {clip.name: round(clip.lag, 2) for clip in clips if clip.features}
    path.write_text(json.dumps(lags, indent=1))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _minutes(clips: Sequence[PreparedClip]) -> float:
    return sum(clip.seconds for clip in clips) / 60.0
