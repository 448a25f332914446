"""A whole training from one JSON file: clips, space, speech pretraining, flow, checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from moda.checkpoints import (
    BUILT_IN,
    load_checkpoint,
    load_motion_space,
    save_checkpoint,
    save_motion_space,
)
from moda.config import ModelConfig, SamplerConfig, changed, from_dict, merged, preset
from moda.data.clips import PreparedClip, read_clips
from moda.data.dataset import TrainingClip, WindowSampler, build_clips
from moda.data.mesh_space import fit_mesh_space
from moda.data.phone_corpus import read_phone_corpus
from moda.errors import ConfigError, InputError
from moda.motion.layers import SpeechConv
from moda.structures import MotionSpace
from moda.training.autoencoding import AutoencoderOptions, train_autoencoder
from moda.training.emotions import emotion_means
from moda.training.lags import refine_lags
from moda.training.loop import Report, Trainer, TrainingOptions
from moda.training.speech_pretraining import (
    PhoneGroup,
    PhoneItem,
    fit_voice_head,
    non_speech_items,
    phone_items,
    pretrain_speech_embedder,
)

MAX_EXTENSIONS = 8
"""Recipes that extend each other in a row."""


@dataclass(frozen=True)
class Recipe:
    """What ``moda train`` reads. Paths are relative to the file's folder.

    A file may name another one with ``extends`` and say only what differs from it.
    """

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
    options: TrainingOptions = field(default_factory=TrainingOptions)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    seed: int = 0
    name: str = ""
    """of the trained model and its file; that of ``model`` if it is left out"""
    network: Mapping[str, Any] = field(default_factory=dict)
    """what differs from the network of ``model``: keys of its motion configuration"""
    speech_embedder_from: str = ""
    """built-in name or file of a checkpoint whose speech embedder is taken over, instead of a
    pretraining; a last layer of another size is new"""
    autoencoder: AutoencoderOptions = field(default_factory=AutoencoderOptions)
    """training of the motion autoencoder that the network may have"""

    @property
    def config(self) -> ModelConfig:
        """Of the model that is trained.

        Raises:
            ConfigError: a key of ``network`` is unknown or a value impossible.
        """
        base = preset(self.model)
        motion = changed(base.motion, self.network, where="network")
        return ModelConfig(self.name or base.name, motion, self.sampler)


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        InputError: the file cannot be read.
        ConfigError: a key is unknown or a value impossible.
    """
    recipe = from_dict(Recipe, _read_values(path))
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
    latent_size = recipe.config.motion.autoencoder.latent_size
    if bool(latent_size) != bool(recipe.autoencoder.steps):
        raise ConfigError(
            f"recipe {path}: an autoencoder of latent_size {latent_size} and "
            f"{recipe.autoencoder.steps} steps to train it do not fit; give both or none"
        )
    return recipe


def _read_values(path: Path, depth: int = 0) -> dict[str, Any]:
    """The JSON values of a recipe over those that it extends.

    Paths stay as they are: a recipe and those it extends lie in the same folder.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {path} cannot be read: {error}") from error
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"recipe {path}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"recipe {path}: expected an object, got {type(values).__name__}")
    other = values.pop("extends", None)
    if other is None:
        return values
    if not isinstance(other, str) or Path(other).name != other:
        raise ConfigError(
            f"recipe {path} extends {other!r}; give the name of a recipe in the same folder"
        )
    if depth == MAX_EXTENSIONS:
        raise ConfigError(f"recipe {path}: more than {MAX_EXTENSIONS} recipes extend each other")
    return merged(_read_values(path.with_name(other), depth + 1), values)


class TrainingData(NamedTuple):
    """What a run learns from; runs that differ in the network alone can share it."""

    prepared: list[PreparedClip]
    """those that are trained on"""
    clips: list[TrainingClip]
    space: MotionSpace
    embedder: SpeechConv | None
    """a speech embedder that knows phones already"""


def train(
    recipe: Recipe,
    base: Path,
    folder: Path,
    *,
    report: Report = lambda values: None,
    say: Callable[[str], None] = lambda text: None,
    data: TrainingData | None = None,
) -> Path:
    """Run a recipe and write ``folder / <name>.safetensors``; continues an interrupted run.

    Args:
        base: what the recipe's paths are relative to.
        folder: of the run: motion space, pretrained embedder, training state, log, result.
        data: what :func:`load_training_data` gave for the same clips, space and embedder.

    Raises:
        ModaError: something is missing or damaged; the message says what.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = recipe.config
    own, clips, space, embedder = data or load_training_data(recipe, base, folder, say)
    _write_lags(clips, folder / "lags.json")
    reach = config.motion.speech_embedder
    windows = WindowSampler(clips, before=reach.before, after=reach.after, seed=recipe.seed)
    trainer = Trainer(config, space, windows, recipe.options, folder)
    if not trainer.resume():
        if embedder is not None:
            _take_over(embedder, trainer.model.speech_embedder)
        if config.motion.mouth_size:
            offsets = emotion_means(own, space) / space.scale
            trainer.model.emotion_mean.copy_(torch.from_numpy(offsets))
        if trainer.model.autoencoder is not None:
            say(f"training the autoencoder for {recipe.autoencoder.steps} steps")
            others = WindowSampler(clips, before=reach.before, after=reach.after, seed=recipe.seed)
            train_autoencoder(
                trainer.model.autoencoder,
                others,
                trainer.metric,
                recipe.autoencoder,
                seed=recipe.seed,
            )
        trainer.average.load_state_dict(trainer.model.state_dict())
    log = (folder / "log.jsonl").open("a", encoding="utf-8")
    with log:

        def record(values: dict[str, float]) -> None:
            if values["step"] % 20 == 0:
                log.write(json.dumps({key: round(v, 5) for key, v in values.items()}) + "\n")
                log.flush()
            report(values)

        model = trainer.run(record)
    result = folder / f"{config.name}.safetensors"
    metadata = {"steps": str(trainer.step), "minutes": f"{_minutes(own):.1f}"}
    save_checkpoint(result, model, space, metadata=metadata, config=config)
    return result


def load_training_data(
    recipe: Recipe, base: Path, folder: Path, say: Callable[[str], None] = lambda text: None
) -> TrainingData:
    """Clips, motion space and speech embedder of a recipe; what takes long is kept in ``folder``.

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
    held_out = {clip.name for clip in prepared} - {clip.name for clip in own}
    embedder: SpeechConv | None
    if recipe.speech_embedder_from:
        embedder = _embedder_of(recipe, base)
    else:
        embedder = _pretrained(recipe.config, recipe, base, folder, held_out, say)
    if embedder is not None and embedder.config.num_phones:
        clips = refine_lags(clips, embedder, recipe.in_sync)
    return TrainingData(own, clips, space, embedder)


def _space(own: Sequence[PreparedClip], path: Path, say: Callable[[str], None]) -> MotionSpace:
    if not path.exists():
        say("fitting the motion space")
        triangles = load_motion_space().triangles
        assert triangles is not None
        save_motion_space(path, fit_mesh_space([clip.track for clip in own], triangles))
    return load_motion_space(path)


def _synthetic_speech(
    recipe: Recipe, base: Path, generator: np.random.Generator
) -> list[PhoneGroup]:
    """Corpora with exact phones."""
    return [
        PhoneGroup(_items(base / name, recipe.phone_versions, generator), share)
        for name, share in zip(recipe.synthetic_phones, recipe.synthetic_shares, strict=True)
    ]


def _items(
    path: Path,
    versions: int,
    generator: np.random.Generator,
    leave_out: Collection[str] = (),
) -> list[PhoneItem]:
    return phone_items(
        read_phone_corpus(path),
        held_out=False,
        versions=versions,
        generator=generator,
        leave_out=leave_out,
    )


def _clip_phones(recipe: Recipe, base: Path) -> dict[str, NDArray[np.int8]]:
    """Labels at 50 Hz by name of clip."""
    labels: dict[str, NDArray[np.int8]] = {}
    for corpus in (read_phone_corpus(base / name) for name in recipe.clip_phones):
        labels |= {name: heard[::2] for name, heard in corpus.labels_by_name().items()}
    return labels


def _pretrained(
    config: ModelConfig,
    recipe: Recipe,
    base: Path,
    folder: Path,
    held_out: Collection[str],
    say: Callable[[str], None],
) -> SpeechConv | None:
    """An embedder that knows phones, trained once per run folder; None without phone corpora."""
    motion = config.motion
    if not recipe.synthetic_phones or motion.speech_embedder.kind != "conv":
        return None
    torch.manual_seed(recipe.seed)
    embedder = SpeechConv(motion.speech.size, motion.hidden, motion.speech_embedder)
    path = folder / "speech_embedder.pt"
    if not path.exists():
        say("reading phone corpora")
        generator = np.random.default_rng(recipe.seed)
        synthetic = _synthetic_speech(recipe, base, generator)
        natural = [
            item
            for name in recipe.natural_phones
            for item in _items(base / name, recipe.natural_versions, generator, held_out)
        ]
        say(f"pretraining the speech embedder for {recipe.pretraining_steps} steps")
        pretrain_speech_embedder(
            embedder, synthetic, natural, steps=recipe.pretraining_steps, seed=recipe.seed
        )
        if motion.speech_embedder.voice_spans:
            others = non_speech_items(recipe.non_speech_items, generator)
            fit_voice_head(embedder, synthetic, natural, others, seed=recipe.seed)
        torch.save(embedder.state_dict(), path)
    embedder.load_state_dict(torch.load(path, weights_only=True))
    return embedder.eval()


def _embedder_of(recipe: Recipe, base: Path) -> SpeechConv:
    """The speech embedder of the checkpoint that a recipe names."""
    name = recipe.speech_embedder_from
    source = load_checkpoint(name if name in BUILT_IN else base / name)
    embedder = source.model.speech_embedder
    wanted, found = recipe.config.motion, source.config.motion
    own = found.speech_embedder
    if not wanted.speech_embedder.voice_spans:
        own = replace(own, voice_spans=())
    same = (found.speech, own) == (wanted.speech, wanted.speech_embedder)
    if not isinstance(embedder, SpeechConv) or not same:
        raise ConfigError(
            f"the speech embedder of {name} is another one than the recipe's network has: {own}; "
            "give the same in 'network'"
        )
    if found.hidden != wanted.hidden and not recipe.options.train_speech_projection:
        raise ConfigError(
            f"tokens of {name} have {found.hidden} channels, the recipe's network {wanted.hidden}; "
            "set the option train_speech_projection to train a new last layer"
        )
    return embedder


def _take_over(source: SpeechConv, target: nn.Module) -> None:
    """Copy all weights that fit; a last layer of another size stays new, a voice head that the
    target has no place for is left out."""
    own, others = target.state_dict(), source.state_dict()
    fitting = {name: others[name] for name in own if others[name].shape == own[name].shape}
    target.load_state_dict(own | fitting)


def _write_lags(clips: Sequence[TrainingClip], path: Path) -> None:
    lags = {clip.name: round(clip.lag, 2) for clip in clips if clip.features}
    path.write_text(json.dumps(lags, indent=1))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _minutes(clips: Sequence[PreparedClip]) -> float:
    return sum(clip.seconds for clip in clips) / 60.0
