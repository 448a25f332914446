"""Trainings at tiny size, and a program that runs one: for tests that kill or join processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from moda.config import ModelConfig, SpeechEmbedderConfig, SpeechFeaturesConfig, preset
from moda.data.clips import ClipEntry, NeuralTrack, PreparedClip, SpaceName, write_shard
from moda.data.dataset import TrainingClip, WindowSampler
from moda.data.statistics import MotionStatistics
from moda.encoders.tracking import LandmarkTrack
from moda.motion.model import MotionTransformer
from moda.structures import MotionSpace
from moda.training.loop import Trainer
from moda.training.options import TrainingOptions
from moda.training.processes import Processes, join_processes
from moda.training.stages import recorder
from moda.weights.spaces import load_motion_space

HUBERT = SpeechFeaturesConfig(kind="hubert", layers=2, channels=12)


def write_prepared(folder: Path, *clips: PreparedClip) -> None:
    """Shards of clips, without statistics of their motion."""
    for clip in clips:
        space: SpaceName = "mesh" if clip.neural is None else "neural"
        path = folder / f"shard-{clip.name}.safetensors"
        write_shard(path, [ClipEntry.of(clip)], [clip], MotionStatistics.total([], 1), space)


def read_log(folder: Path) -> list[dict[str, float]]:
    """All that a run has logged so far, in order; a line that is not whole is left out."""
    if not (folder / "log.jsonl").exists():
        return []
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def mesh_config() -> ModelConfig:
    """moda-tiny, much smaller, on spectra, with dropout inside the network."""
    tiny = preset("moda-tiny")
    embedder = SpeechEmbedderConfig(width=16, dilations=(1, 2), dropout=0.3)
    spectra = SpeechFeaturesConfig()
    motion = replace(tiny.motion, hidden=32, speech=spectra, speech_embedder=embedder)
    return replace(tiny, motion=motion)


def reader_config() -> ModelConfig:
    """moda-tiny, much smaller, with its reader on tokens of the pretrained encoder."""
    tiny = preset("moda-tiny")
    embedder = replace(tiny.motion.speech_embedder, width=16, compressed=8)
    return replace(tiny, motion=replace(tiny.motion, hidden=32, speech_embedder=embedder))


def neural_config() -> ModelConfig:
    """moda-base, much smaller."""
    base = preset("moda-base")
    embedder = replace(base.motion.speech_embedder, width=16)
    small = replace(
        base.motion,
        hidden=32,
        num_heads=2,
        four_stream_blocks=1,
        two_stream_blocks=1,
        one_stream_blocks=2,
        speech=HUBERT,
        speech_embedder=embedder,
    )
    return replace(base, motion=small)


def mesh_clips(space: MotionSpace) -> list[TrainingClip]:
    """Four clips whose mouth follows the features; the first has no sound."""
    generator = np.random.default_rng(0)
    made = []
    for index in range(4):
        features = generator.standard_normal((120, 160)).astype(np.float32) + 3.0
        motion = 0.1 * generator.standard_normal((120, space.size)).astype(np.float32)
        motion[:, :16] += features[:, :16] - 3.0
        identity = generator.standard_normal(63).astype(np.float32)
        made.append(
            TrainingClip(
                name=f"clip{index}",
                speaker=f"speaker{index}",
                emotion=8 if index else 4,
                motion=(motion, motion),
                identity=(identity, identity),
                features=(features,) if index else (),
                lips=motion[:, :2].astype(np.float64),
            )
        )
    return made


def neural_clip(
    space: MotionSpace, name: str, speaker: str, *, num_frames: int = 100
) -> PreparedClip:
    """Walks of the motion, the lips moving with the features."""
    generator = np.random.default_rng(list(name.encode()))
    features = generator.standard_normal((num_frames, HUBERT.size)).astype(np.float16)
    normal = np.cumsum(generator.standard_normal((2, num_frames, space.size)), axis=1) / 10.0
    normal[:, :, 18:21] = features[:, :3]
    motion = space.denormalize(normal.astype(np.float32))
    motion[..., 63] = 1.4
    identity = generator.standard_normal((2, 63)).astype(np.float32)
    return PreparedClip(
        name,
        speaker,
        None,
        LandmarkTrack(np.zeros((num_frames, 478, 3), np.float32), np.ones(num_frames, bool)),
        np.zeros(640 * num_frames, np.int16),
        neural=NeuralTrack(motion, identity, features),
    )


def mesh_trainer(
    folder: Path,
    options: TrainingOptions,
    *,
    model: MotionTransformer | None = None,
    processes: Processes | None = None,
) -> Trainer:
    space = load_motion_space()
    windows = WindowSampler(mesh_clips(space), before=12, after=12, seed=options.seed)
    return Trainer(mesh_config(), space, windows, options, folder, model=model, processes=processes)


def run_logged(
    folder: Path, options: TrainingOptions, processes: Processes | None = None
) -> Trainer:
    """Train with a log, from where the folder's last run ended."""
    folder.mkdir(parents=True, exist_ok=True)
    trainer = mesh_trainer(folder, options, processes=processes)
    trainer.resume()
    with recorder(trainer, mesh_config(), None, lambda values: None, lambda text: None) as record:
        trainer.run(record)
    return trainer


def start(folder: Path, options: TrainingOptions, **environment: str) -> subprocess.Popen[bytes]:
    """The same as a program of its own."""
    values = {name: getattr(options, name) for name in options.__dataclass_fields__}
    return subprocess.Popen(
        [sys.executable, __file__, str(folder), json.dumps(values)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def main() -> None:
    folder, values = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(1)
    options = TrainingOptions(**{**values, "window_frames": tuple(values["window_frames"])})
    run_logged(folder, options, join_processes("cpu"))


if __name__ == "__main__":
    main()
