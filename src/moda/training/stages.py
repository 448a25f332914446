"""The stages of a recipe around its loop: where it begins, its data, its expert, its records."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np

from moda.config import ModelConfig
from moda.data.clips import PreparedClip, iterate_clips
from moda.data.dataset import TrainingClip, WindowSampler, build_neural_clips
from moda.data.prepare import REPORT_NAME
from moda.errors import ConfigError, InputError
from moda.motion.layers import SpeechEmbedder
from moda.motion.model import MotionTransformer
from moda.structures import FRAMES_PER_SECOND, Floats, MotionSpace
from moda.training.adapters import add_adapters, merged
from moda.training.loop import Trainer
from moda.training.options import Report, TrainingOptions
from moda.training.preview import Preview
from moda.training.recipe import Recipe
from moda.training.run_log import RunLog
from moda.training.sync.expert import ExpertOptions, sync_accuracy, train_expert
from moda.training.sync.network import SyncExpert, load_expert, save_expert
from moda.weights.catalogue import find_model
from moda.weights.checkpoints import Checkpoint, load_checkpoint
from moda.weights.motion_files import BUILT_IN

MAX_NAMED = 4
EXPERT_FILE = "sync_expert.safetensors"
IDLE_STEPS = 50
IDLE = (
    "the sync loss is idle: in {} steps no lips of the clips agreed with their speech by sync_gate "
    "{}; lower the gate, give the expert more clips or steps, or set sync_weight to 0"
)


class TrainingData(NamedTuple):
    """What the loop learns from."""

    space: MotionSpace
    clips: list[TrainingClip]
    held_out: list[TrainingClip]
    """of the validation speakers, with clean sound only"""
    embedder: SpeechEmbedder | None = None
    """knows something of speech already"""
    emotion_mean: Floats | None = None
    """(num_emotions + 1, D) normalised"""

    @property
    def minutes(self) -> float:
        return sum(len(clip) for clip in self.clips) / FRAMES_PER_SECOND / 60.0


def read_start(name: str, base: Path) -> Checkpoint | None:
    """The checkpoint that a recipe begins with: a model's name, or a file relative to ``base``."""
    if not name:
        return None
    path = base / name
    if path.exists():
        return load_checkpoint(path)
    return load_checkpoint(find_model(name) if name == "moda-base" else name)


def starting_model(start: Checkpoint | None, adapter_rank: int) -> MotionTransformer | None:
    """The model of a checkpoint, with adapters if wanted. None starts with a new one."""
    if start is None:
        return None
    if adapter_rank:
        add_adapters(start.model, adapter_rank)
    return start.model


def plain(model: MotionTransformer) -> MotionTransformer:
    """The model as a checkpoint holds it, adapters merged."""
    adapted = any("lora_" in name for name, _ in model.named_parameters())
    return merged(model) if adapted else model


def embedder_of(recipe: Recipe, base: Path) -> SpeechEmbedder:
    """The speech embedder of the checkpoint that a recipe names.

    Raises:
        ConfigError: it is another one than that of the recipe's network.
    """
    name = recipe.speech_embedder_from
    source = load_checkpoint(name if name in BUILT_IN else base / name)
    wanted, found = recipe.config.motion, source.config.motion
    own = found.speech_embedder
    if (found.speech, own) != (wanted.speech, wanted.speech_embedder):
        raise ConfigError(
            f"the speech embedder of {name} is another one than the recipe's network has: {own}; "
            "give the same in 'network'"
        )
    if found.hidden != wanted.hidden:
        raise ConfigError(
            f"tokens of {name} have {found.hidden} channels, the recipe's network {wanted.hidden}; "
            "give the same 'hidden' in 'network'"
        )
    return source.model.speech_embedder


def without_unreliable(clip: PreparedClip, patterns: Sequence[str]) -> PreparedClip:
    """The clip, without its sound if its name matches one of the patterns."""
    if not any(fnmatchcase(clip.name, pattern) for pattern in patterns):
        return clip
    neural = clip.neural
    if neural is not None:
        neural = replace(neural, features=neural.features[:0])
    return replace(clip, samples=clip.samples[:0], neural=neural)


def require_speakers(names: Collection[str], known: Collection[str]) -> None:
    """Refuse validation speakers that no clip has: misspelt, they would be trained on.

    Raises:
        ConfigError: a name is unknown; the message says the known ones.
    """
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ConfigError(
            f"no clip is of the validation speaker {', '.join(unknown)}; "
            f"known are {', '.join(sorted(known, key=str.lower)) or 'none'}"
        )


def require_patterns(patterns: Sequence[str], names: Sequence[str]) -> None:
    """Refuse patterns of clip names that match no clip: misspelt, they would change nothing.

    Raises:
        ConfigError: a pattern matches none; the message says how clips are named.
    """
    idle = [pattern for pattern in patterns if not any(fnmatchcase(n, pattern) for n in names)]
    if idle:
        known = ", ".join(sorted(names, key=str.lower)[:MAX_NAMED])
        raise ConfigError(f"no clip is named like {', '.join(idle)}; clips are named like {known}")


def require_sound(count: int, has_sound: bool, folders: Sequence[Path]) -> None:
    """Refuse clips of which none has sound of its own.

    Raises:
        InputError: the message names the report of what was left out.
    """
    if has_sound:
        return
    reports = ", ".join(str(folder / REPORT_NAME) for folder in folders)
    raise InputError(
        f"none of the {count} clips in {', '.join(map(str, folders))} has sound of its own to "
        f"learn from; what moda prepare left out, and why, is in {reports}"
    )


def is_held_out(clip: PreparedClip, validation_speakers: Sequence[str]) -> bool:
    """Whether a clip is for validation: by its corpus, or because the recipe names its speaker."""
    return clip.split == "validation" or clip.speaker in validation_speakers


def neural_data(
    folders: Sequence[Path],
    space: MotionSpace,
    validation_speakers: Sequence[str],
    unreliable: Sequence[str],
) -> TrainingData:
    """Clips of the neural space, which stay on disk: one at a time is looked at."""
    own: list[TrainingClip] = []
    held_out: list[TrainingClip] = []
    speakers: set[str] = set()
    names: list[str] = []
    for folder in folders:
        for clip in iterate_clips(folder):
            if clip.split == "test":
                continue
            speakers.add(clip.speaker)
            names.append(clip.name)
            group = held_out if is_held_out(clip, validation_speakers) else own
            group += build_neural_clips([without_unreliable(clip, unreliable)], space)
    require_speakers(validation_speakers, speakers)
    require_patterns(unreliable, names)
    require_sound(len(own), any(clip.features for clip in own), folders)
    return TrainingData(space, own, held_out)


def validation_windows(clips: Sequence[TrainingClip], config: ModelConfig) -> WindowSampler | None:
    """Windows of held-out clips as they are; None without speech in them."""
    if not any(clip.features for clip in clips):
        return None
    reach = config.motion.speech_embedder
    return WindowSampler(
        clips,
        before=reach.before,
        after=reach.after,
        seed=0,
        forget_previous=0.0,
        forget_identity=0.0,
        forget_emotion=0.0,
        augment=False,
    )


def window_sampler(
    clips: Sequence[TrainingClip], config: ModelConfig, options: TrainingOptions, seed: int
) -> WindowSampler:
    """Windows as the model and the options want them."""
    reach = config.motion.speech_embedder
    return WindowSampler(
        clips,
        before=reach.before,
        after=reach.after,
        seed=seed,
        forget_previous=options.forget_previous,
        forget_identity=options.forget_identity,
        forget_emotion=options.forget_emotion,
        augment=config.motion.speech.kind == "log_mel",
    )


def expert_of(
    recipe: Recipe, data: TrainingData, base: Path, folder: Path, say: Callable[[str], None]
) -> SyncExpert | None:
    """The sync expert of a recipe; None if its loss has no weight."""
    if not recipe.options.sync_weight:
        return None
    path = base / recipe.sync_expert if recipe.sync_expert else folder / EXPERT_FILE
    if not recipe.sync_expert and not path.exists():
        make_expert(data, recipe.expert, path, seed=recipe.seed, say=say)
    expert, metadata = load_expert(path)
    if metadata.get("space") != space_digest(data.space):
        raise InputError(
            f"the sync expert {path} was trained in another motion space; train it on the clips of "
            "this recipe, or leave sync_expert out"
        )
    return expert


def space_digest(space: MotionSpace) -> str:
    """Tells whether two motion spaces give the same numbers to the same face."""
    digest = hashlib.sha256()
    for values in (space.mean, space.std, space.basis):
        digest.update(b"" if values is None else np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def make_expert(
    data: TrainingData,
    options: ExpertOptions,
    path: Path,
    *,
    seed: int,
    say: Callable[[str], None],
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train a sync expert, measure it on the held-out speakers, and write it."""
    say(f"training the sync expert for {options.steps} steps")
    augment = data.space.name == "mesh"
    expert = train_expert(
        data.clips, data.space, options=options, augment=augment, seed=seed, report=report
    )
    metadata = {
        "steps": str(options.steps),
        "minutes": f"{data.minutes:.1f}",
        "space": space_digest(data.space),
    }
    try:
        accuracy = sync_accuracy(expert, data.held_out, data.space)
    except InputError as error:
        say(f"the sync expert is not measured: {error}")
    else:
        say(f"sync expert on {len(data.held_out)} held-out clips: {accuracy.line()}")
        metadata |= {name: f"{value:.4f}" for name, value in accuracy._asdict().items()}
    save_expert(path, expert, metadata)


@contextmanager
def recorder(
    trainer: Trainer,
    config: ModelConfig,
    preview: Preview | None,
    report: Report,
    say: Callable[[str], None],
) -> Iterator[Report]:
    """What the loop calls after every step: the log, previews, and the caller's ``report``.

    The first process alone keeps records.
    """
    if trainer.processes.index:
        yield lambda values: None
        return
    with closing(RunLog(trainer.folder, step=trainer.step)) as log:
        if not log.has_tensorboard:
            say("tensorboard is not installed: the log is log.jsonl alone; pip install '.[train]'")

        idle_steps, idle_limit = 0, min(IDLE_STEPS, trainer.num_steps)

        def record(values: dict[str, float]) -> None:
            nonlocal idle_steps
            step = int(values["step"])
            idle_steps = idle_steps + 1 if values.get("sync") == 0.0 else 0
            if idle_steps == idle_limit:
                say(IDLE.format(idle_steps, trainer.options.sync_gate))
            due = step % trainer.options.log_every == 0 or step == trainer.num_steps
            if due or "validation" in values:
                log.scalars(values)
            if preview is not None and step % preview.every == 0:
                model = plain(copy.deepcopy(trainer.average).cpu()).eval()
                path, strip = preview.write(Checkpoint(model, trainer.space, config, {}), step)
                log.picture("preview", strip, step)
                say(f"preview of step {step}: {path}")
            report(values)

        yield record
