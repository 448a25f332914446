"""A whole training from a recipe: clips, space, speech reader, flow, checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import torch

from moda.config import ModelConfig
from moda.data.clips import PreparedClip, read_clips
from moda.data.dataset import TrainingClip, build_clips
from moda.data.mesh_space import fit_mesh_space
from moda.files import write_text
from moda.motion.layers import SpeechEmbedder
from moda.motion.reading import SpeechReader
from moda.motion.variants.autoencoder import MotionAutoencoder
from moda.structures import MotionSpace
from moda.training.adapters import require_adapters
from moda.training.autoencoding import train_autoencoder
from moda.training.fits.adapting import adapt_mouth, with_read_lags
from moda.training.fits.emotions import emotion_means
from moda.training.fits.lags import refine_lags
from moda.training.fits.phone_items import SpeechCorpora
from moda.training.fits.reading import Say, fit_reader
from moda.training.loop import Trainer, require_shares
from moda.training.options import Report
from moda.training.preview import Preview
from moda.training.processes import Processes, in_turn
from moda.training.recipe import Recipe
from moda.training.run_folder import claim_folder
from moda.training.stages import (
    TrainingData,
    embedder_of,
    expert_of,
    is_held_out,
    make_expert,
    neural_data,
    plain,
    read_start,
    recorder,
    require_patterns,
    require_sound,
    require_speakers,
    starting_model,
    validation_windows,
    window_sampler,
    without_unreliable,
)
from moda.weights.checkpoints import save_checkpoint
from moda.weights.official import load_published_space
from moda.weights.spaces import load_motion_space, save_motion_space

ADAPTED = "finetuned"
READER_FILE = "reader.pt"


def train(
    recipe: Recipe,
    base: Path,
    folder: Path,
    *,
    report: Report = lambda values: None,
    say: Say = lambda text: None,
    processes: Processes | None = None,
    data: TrainingData | None = None,
) -> Path:
    """Run a recipe and write ``folder / <name>.safetensors``; continues an interrupted run.

    What began with a checkpoint becomes ``finetuned.safetensors``. A folder that holds another run
    is left alone.

    Args:
        base: what the recipe's paths are relative to.
        folder: of the run: motion space, pretrained embedder, training state, log, result.
        report: called in the first process, after every step.
        processes: of which this is one; by default it is alone, on the CPU.
        data: what :func:`load_training_data` gave for the same clips, space and embedder; runs that
            differ in the network alone can share it.

    Raises:
        ModaError: something is missing or damaged; the message says what.
    """
    processes = processes or Processes()
    require_shares(recipe.options, processes)
    if recipe.adapter_rank:
        require_adapters(recipe.adapter_rank)
    start = read_start(recipe.start_from, base)
    in_turn(processes, lambda: claim_folder(folder, recipe, base))
    config = recipe.config if start is None else start.config
    data = data or in_turn(processes, lambda: load_training_data(recipe, base, folder, say))
    minutes = f"{data.minutes:.1f}"
    say(f"{len(data.clips)} clips, {minutes} minutes to train on")
    if start is not None and data.embedder is not None:
        start.model.speech_embedder.load_state_dict(data.embedder.state_dict())
    trainer = Trainer(
        config,
        data.space,
        window_sampler(data.clips, config, recipe.options, recipe.seed),
        recipe.options,
        folder,
        model=starting_model(start, recipe.adapter_rank),
        processes=processes,
        expert=in_turn(processes, lambda: expert_of(recipe, data, base, folder, say)),
        validation=validation_windows(data.held_out, config),
    )
    if not trainer.resume() and start is None:
        if data.embedder is not None:
            trainer.model.speech_embedder.load_state_dict(data.embedder.state_dict())
        representation = trainer.model.representation
        if isinstance(representation, MotionAutoencoder):
            say(f"training the autoencoder for {recipe.autoencoder.steps} steps")
            train_autoencoder(
                representation,
                window_sampler(data.clips, config, recipe.options, recipe.seed),
                trainer.losses.metric,
                recipe.autoencoder,
                seed=recipe.seed,
            )
        if data.emotion_mean is not None:
            trainer.model.emotion_mean.copy_(torch.from_numpy(data.emotion_mean))
        trainer.average.load_state_dict(trainer.model.state_dict())
    preview = (
        Preview(recipe.preview, base, folder, data.space.name) if recipe.preview.every else None
    )
    with recorder(trainer, config, preview, report, say) as record:
        model = trainer.run(record)
    result = folder / f"{config.name if start is None else ADAPTED}.safetensors"
    if processes.index == 0:
        metadata = {"steps": str(trainer.step), "minutes": minutes}
        save_checkpoint(result, plain(model), data.space, metadata=metadata, config=config)
    processes.wait()
    return result


def train_sync_expert(
    recipe: Recipe,
    base: Path,
    path: Path,
    *,
    report: Callable[[int, float], None] = lambda step, loss: None,
    say: Say = lambda text: None,
) -> None:
    """Train a recipe's sync expert by itself and write it, with a folder ``<name>.run`` beside it.

    Raises:
        ModaError: something is missing or damaged; the message says what.
    """
    folder = path.with_suffix(".run")
    folder.mkdir(parents=True, exist_ok=True)
    data = load_training_data(recipe, base, folder, say)
    make_expert(data, recipe.expert, path, seed=recipe.seed, say=say, report=report)


def load_training_data(
    recipe: Recipe, base: Path, folder: Path, say: Say = lambda text: None
) -> TrainingData:
    """Training clips in the motion space of the model, and what is learned of them beforehand.

    What takes long is kept in ``folder``.

    Raises:
        ModaError: something is missing or damaged; the message says what.
    """
    start = read_start(recipe.start_from, base)
    config = recipe.config if start is None else start.config
    folders = [base / name for name in recipe.clips]
    if config.motion.speech.kind == "hubert":
        space = load_published_space() if start is None else start.space
        return neural_data(folders, space, recipe.validation_speakers, recipe.unreliable)
    prepared = [
        without_unreliable(clip, recipe.unreliable)
        for clip in read_clips(folders)
        if clip.split != "test"
    ]
    require_speakers(recipe.validation_speakers, {clip.speaker for clip in prepared})
    require_patterns((*recipe.unreliable, recipe.in_sync), [clip.name for clip in prepared])
    others = [clip for clip in prepared if is_held_out(clip, recipe.validation_speakers)]
    own = [clip for clip in prepared if not is_held_out(clip, recipe.validation_speakers)]
    require_sound(len(own), any(clip.has_speech for clip in own), folders)
    folder.mkdir(parents=True, exist_ok=True)
    space = _space(own, folder / "mesh_space.safetensors", say) if start is None else start.space
    kind = config.motion.speech.mesh_kind  # HuBERT has returned above
    clips, held_out = (
        build_clips(
            some, space, versions=versions, in_sync=recipe.in_sync, kind=kind, seed=recipe.seed
        )
        for some, versions in ((own, recipe.augmented_versions), (others, 0))
    )
    embedder: SpeechEmbedder | None = None
    if start is not None:
        embedder = start.model.speech_embedder
    elif recipe.speech_embedder_from:
        embedder = embedder_of(recipe, base)
    if start is not None and start.model.reader is not None:
        clips = with_read_lags(start.model.reader, clips, space)
        clips, adaptation = adapt_mouth(start.model.reader, clips, space, recipe.reader)
        say(str(adaptation))
    elif kind == "whisper":
        clips = refine_lags(clips, recipe.in_sync)
        names = {clip.name for clip in others}
        embedder, clips = _read(recipe, config, space, clips, names, embedder, base, folder, say)
    _write_lags(clips, folder / "lags.json")
    has_mean = config.motion.mouth_size and start is None
    emotion_mean = emotion_means(own, space) / space.scale if has_mean else None
    return TrainingData(space, clips, held_out, embedder, emotion_mean)


def _read(
    recipe: Recipe,
    config: ModelConfig,
    space: MotionSpace,
    clips: Sequence[TrainingClip],
    held_out: Collection[str],
    known: SpeechEmbedder | None,
    base: Path,
    folder: Path,
    say: Say,
) -> tuple[SpeechReader, list[TrainingClip]]:
    """The fitted reader, and the clips with the mouth that it reads without having seen them.

    It begins with the heads of a ``known`` one. The result is kept in the folder.
    """
    motion, path = config.motion, folder / READER_FILE
    torch.manual_seed(recipe.seed)
    reader = SpeechReader(motion.speech, motion.mouth_size, motion.hidden, motion.speech_embedder)
    corpora = None
    if known is not None:
        reader.load_state_dict(known.state_dict())
    elif path.exists():
        reader.load_state_dict(torch.load(path, weights_only=True))
    else:
        corpora = SpeechCorpora(
            [base / name for name in recipe.synthetic_phones],
            [base / name for name in recipe.natural_phones],
            recipe.synthetic_hours,
            recipe.natural_versions,
            recipe.non_speech_items,
            held_out,
            recipe.seed,
        )
    known_mouths = fit_reader(
        reader, clips, corpora, space, recipe.reader, seed=recipe.seed, say=say
    )
    if corpora is not None:
        torch.save(reader.state_dict(), path)
    return reader.eval(), known_mouths


def _space(own: Sequence[PreparedClip], path: Path, say: Say) -> MotionSpace:
    if not path.exists():
        say("fitting the motion space")
        triangles = load_motion_space().triangles
        assert triangles is not None
        save_motion_space(path, fit_mesh_space([clip.track for clip in own], triangles))
    return load_motion_space(path)


def _write_lags(clips: Sequence[TrainingClip], path: Path) -> None:
    lags = {clip.name: round(clip.lag, 2) for clip in clips if clip.features}
    write_text(path, json.dumps(lags, indent=1))
