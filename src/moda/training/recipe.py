"""A whole training from one JSON file: clips, space, speech pretraining, flow, checkpoint."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from moda.checkpoints import load_motion_space, save_checkpoint, save_motion_space
from moda.config import (
    ModelConfig,
    SamplerConfig,
    SpeechEmbedderConfig,
    from_json,
    preset,
)
from moda.data.clips import PreparedClip, read_clips
from moda.data.dataset import TrainingClip, WindowSampler, build_clips
from moda.data.mesh_space import fit_mesh_space
from moda.data.phone_corpus import read_phone_corpus
from moda.errors import ConfigError, InputError
from moda.motion.layers import SpeechConv
from moda.motion.model import MotionTransformer
from moda.phones import Phone
from moda.structures import Floats, MotionSpace
from moda.training.distillation import DistillationOptions
from moda.training.emotions import emotion_means
from moda.training.lags import refine_lags
from moda.training.loop import Report, Trainer, TrainingOptions
from moda.training.teachers import (
    Say,
    SpeechCorpora,
    distilled_student,
    pretrained_embedder,
    trained_teacher,
)


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
    clip_phones: tuple[str, ...] = ()
    """phone corpora (.npz) with labels of the clips' own sound, by name of file"""
    synthetic_phones: tuple[str, ...] = ()
    """phone corpora with exact labels, for the pretraining of the speech embedder"""
    synthetic_shares: tuple[float, ...] = ()
    """how much of a batch of synthesised speech is of each of them"""
    natural_phones: tuple[str, ...] = ()
    """phone corpora of natural speech, whose labels are guesses; clips of the validation speakers
    are left out"""
    phone_versions: int = 2
    natural_versions: int = 5
    """versions of each utterance, the first clean, the others with changed voice and room"""
    non_speech_items: int = 900
    """stretches of music and noise, from which the voice head learns what is no voice"""
    pretraining_steps: int = 5000
    teachers: int = 0
    """models that only know the mean of the mouth; with some, the speech embedder and the mean of
    the model itself are distilled from them"""
    teacher_embedder: SpeechEmbedderConfig = field(
        default_factory=lambda: SpeechEmbedderConfig(num_phones=len(Phone))
    )
    distillation: tuple[DistillationOptions, ...] = (DistillationOptions(),)
    """legs of the student's way, one after the other"""
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
    if len(recipe.synthetic_shares) != len(recipe.synthetic_phones):
        raise ConfigError(
            f"recipe {path} names {len(recipe.synthetic_phones)} corpora in 'synthetic_phones' and "
            f"{len(recipe.synthetic_shares)} shares in 'synthetic_shares'; give one for each"
        )
    shares = recipe.synthetic_shares
    if shares and (min(shares) < 0.0 or abs(sum(shares) - 1.0) > 1e-3):
        raise ConfigError(
            f"recipe {path}: the shares {shares} in 'synthetic_shares' are below 0 or do not sum "
            "to 1; make them the parts of a batch"
        )
    if recipe.teachers < 0 or (recipe.teachers and not recipe.synthetic_phones):
        raise ConfigError(
            f"recipe {path} wants {recipe.teachers} teachers and names "
            f"{len(recipe.synthetic_phones)} corpora in 'synthetic_phones' for them to learn from"
        )
    preset(recipe.model)
    return recipe


def train(
    recipe: Recipe,
    base: Path,
    folder: Path,
    *,
    report: Report = lambda values: None,
    say: Say = lambda text: None,
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
        phones=_clip_phones(recipe, base),
        seed=recipe.seed,
    )
    config = preset(recipe.model)
    held_out = {clip.name for clip in prepared} - {clip.name for clip in own}
    corpora = _corpora(recipe, base, held_out)
    embedders = _embedders(recipe, config, corpora, folder, say)
    if embedders:
        clips = refine_lags(clips, embedders[0], recipe.in_sync)
    _write_lags(clips, folder / "lags.json")
    student = None
    if recipe.teachers:
        student = _student(recipe, config, space, embedders, corpora, clips, folder, say)
    emotions = emotion_means(own, space) / space.scale if config.motion.mouth_size else None
    trainer = _trainer(recipe, config, space, clips, folder, student, embedders, emotions)
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


def _space(own: Sequence[PreparedClip], path: Path, say: Say) -> MotionSpace:
    if not path.exists():
        say("fitting the motion space")
        triangles = load_motion_space().triangles
        assert triangles is not None
        save_motion_space(path, fit_mesh_space([clip.track for clip in own], triangles))
    return load_motion_space(path)


def _clip_phones(recipe: Recipe, base: Path) -> dict[str, NDArray[np.int8]]:
    """Labels at 50 Hz by name of clip."""
    labels: dict[str, NDArray[np.int8]] = {}
    for corpus in (read_phone_corpus(base / name) for name in recipe.clip_phones):
        labels |= {name: heard[::2] for name, heard in corpus.labels_by_name().items()}
    return labels


def _corpora(recipe: Recipe, base: Path, held_out: Collection[str]) -> SpeechCorpora:
    return SpeechCorpora(
        [base / name for name in recipe.synthetic_phones],
        recipe.synthetic_shares,
        [base / name for name in recipe.natural_phones],
        recipe.phone_versions,
        recipe.natural_versions,
        recipe.non_speech_items,
        held_out,
        recipe.seed,
    )


def _embedders(
    recipe: Recipe, config: ModelConfig, corpora: SpeechCorpora, folder: Path, say: Say
) -> list[SpeechConv]:
    """Embedders that know phones, each trained once per run folder; none without phone corpora.

    They are the teachers', or the only one is the model's own.
    """
    if not recipe.synthetic_phones or config.motion.speech_embedder.kind != "conv":
        return []
    seeds = range(recipe.seed, recipe.seed + max(1, recipe.teachers))
    return [
        pretrained_embedder(
            _teaching(recipe, config) if recipe.teachers else config,
            corpora,
            folder / f"speech_embedder_{seed}.pt",
            steps=recipe.pretraining_steps,
            seed=seed,
            say=say,
        )
        for seed in seeds
    ]


def _teaching(recipe: Recipe, config: ModelConfig) -> ModelConfig:
    motion = replace(config.motion, speech_embedder=recipe.teacher_embedder)
    return replace(config, name=f"{config.name}-teacher", motion=motion)


def _student(
    recipe: Recipe,
    config: ModelConfig,
    space: MotionSpace,
    embedders: Sequence[SpeechConv],
    corpora: SpeechCorpora,
    clips: Sequence[TrainingClip],
    folder: Path,
    say: Say,
) -> MotionTransformer:
    """The model before its flow is trained, taught by teachers that are trained first."""
    teachers = []
    for seed, embedder in enumerate(embedders, start=recipe.seed):
        say(f"training teacher {seed}")
        teachers.append(
            trained_teacher(
                _teaching(recipe, config),
                space,
                embedder,
                clips,
                replace(recipe.options, seed=seed),
                folder / f"teacher_{seed}",
            )
        )
    return distilled_student(
        config,
        space,
        teachers,
        corpora,
        clips,
        recipe.distillation,
        folder / "student.pt",
        seed=recipe.seed,
        say=say,
    )


def _trainer(
    recipe: Recipe,
    config: ModelConfig,
    space: MotionSpace,
    clips: Sequence[TrainingClip],
    folder: Path,
    student: MotionTransformer | None,
    embedders: Sequence[SpeechConv],
    emotions: Floats | None,
) -> Trainer:
    """Of the model itself, from its checkpoint or from what its parts have learned so far."""
    reach = config.motion.speech_embedder
    windows = WindowSampler(clips, before=reach.before, after=reach.after, seed=recipe.seed)
    options = replace(recipe.options, speech_steps=0) if student else recipe.options
    trainer = Trainer(config, space, windows, options, folder)
    if trainer.resume():
        return trainer
    if student is not None:
        trainer.average.load_state_dict(student.state_dict())
        trainer.settle_mean()
    elif embedders:
        trainer.start_from(embedders[0])
    if emotions is not None:
        for model in (trainer.model, trainer.average):
            model.emotion_mean.copy_(torch.from_numpy(emotions))
    return trainer


def _write_lags(clips: Sequence[TrainingClip], path: Path) -> None:
    lags = {clip.name: round(clip.lag, 2) for clip in clips if clip.features}
    path.write_text(json.dumps(lags, indent=1))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _minutes(clips: Sequence[PreparedClip]) -> float:
    return sum(clip.seconds for clip in clips) / 60.0
