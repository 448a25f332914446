"""Teachers of the small model: pretrained on phones, each from a seed of its own, then on faces."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from moda.config import ModelConfig
from moda.data.dataset import TrainingClip, WindowSampler
from moda.data.phone_corpus import read_phone_corpus
from moda.motion.layers import SpeechConv
from moda.motion.model import MotionTransformer
from moda.structures import MotionSpace
from moda.training.distillation import DistillationOptions, Lessons, distil, teach
from moda.training.loop import Trainer, TrainingOptions
from moda.training.losses import MotionMetric
from moda.training.speech_pretraining import (
    PhoneGroup,
    PhoneItem,
    fit_voice_head,
    non_speech_items,
    phone_items,
    pretrain_speech_embedder,
)

CLEAN_SHARE = 0.35
"""Of the utterances of a corpus of which there is one version each."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class SpeechCorpora:
    """Speech with phones: read when it is first asked for, and once."""

    synthetic_paths: Sequence[Path]
    synthetic_shares: Sequence[float]
    natural_paths: Sequence[Path]
    synthetic_versions: int
    natural_versions: int
    non_speech_count: int
    leave_out: Collection[str]
    """Names of recordings of held-out speakers"""
    seed: int

    @cached_property
    def synthetic(self) -> list[PhoneGroup]:
        """Corpora with exact phones."""
        return [
            PhoneGroup(self._items(path, self.synthetic_versions, number), share)
            for number, (path, share) in enumerate(
                zip(self.synthetic_paths, self.synthetic_shares, strict=True)
            )
        ]

    @cached_property
    def natural(self) -> list[PhoneItem]:
        """Recordings with guessed phones."""
        first = len(self.synthetic_paths)
        return [
            item
            for number, path in enumerate(self.natural_paths, start=first)
            for item in self._items(path, self.natural_versions, number, self.leave_out)
        ]

    def _items(
        self, path: Path, versions: int, number: int, leave_out: Collection[str] = ()
    ) -> list[PhoneItem]:
        return phone_items(
            read_phone_corpus(path),
            held_out=False,
            versions=versions,
            generator=np.random.default_rng([self.seed, number]),
            leave_out=leave_out,
            clean_share=1.0 if versions > 1 else CLEAN_SHARE,
        )

    def fit_voice(self, embedder: SpeechConv, seed: int) -> None:
        """Fit the embedder's voice head in place, if it has one."""
        if embedder.config.voice_spans:
            generator = np.random.default_rng([seed, 0x4015E])
            others = non_speech_items(self.non_speech_count, generator)
            fit_voice_head(embedder, self.synthetic, self.natural, others, seed=seed)


def pretrained_embedder(
    config: ModelConfig, corpora: SpeechCorpora, path: Path, *, steps: int, seed: int, say: Say
) -> SpeechConv:
    """An embedder that knows phones, trained unless it lies at ``path`` already."""
    torch.manual_seed(seed)
    motion = config.motion
    embedder = SpeechConv(motion.speech.size, motion.hidden, motion.speech_embedder)
    if not path.exists():
        say(f"pretraining a speech embedder for {steps} steps")
        pretrain_speech_embedder(
            embedder, corpora.synthetic, corpora.natural, steps=steps, seed=seed
        )
        corpora.fit_voice(embedder, seed)
        torch.save(embedder.state_dict(), path)
    embedder.load_state_dict(torch.load(path, weights_only=True))
    return embedder.eval()


def trained_teacher(
    config: ModelConfig,
    space: MotionSpace,
    embedder: SpeechConv,
    clips: Sequence[TrainingClip],
    options: TrainingOptions,
    folder: Path,
) -> MotionTransformer:
    """A model of which only the mean of the mouth is trained; continues an interrupted run."""
    reach = embedder.config
    windows = WindowSampler(clips, before=reach.before, after=reach.after, seed=options.seed)
    trainer = Trainer(config, space, windows, replace(options, flow_steps=0), folder)
    if not trainer.resume():
        trainer.start_from(embedder)
    return trainer.run()


def distilled_student(
    config: ModelConfig,
    space: MotionSpace,
    teachers: Sequence[MotionTransformer],
    corpora: SpeechCorpora,
    clips: Sequence[TrainingClip],
    legs: Sequence[DistillationOptions],
    path: Path,
    *,
    seed: int,
    say: Say,
    report: Callable[[dict[str, float]], None] = lambda values: None,
) -> MotionTransformer:
    """A model whose speech embedder and mean of the mouth have learned from the teachers.

    Each of the ``legs`` begins where the one before it ends, at its own learning rate. It is
    trained unless it lies at ``path`` already.
    """
    torch.manual_seed(seed)
    student = MotionTransformer(config.motion)
    if not path.exists():
        say("asking the teachers")
        synthetic = [
            Lessons(teach(teachers, group.items, exact=True), group.share)
            for group in corpora.synthetic
        ]
        natural = teach(teachers, corpora.natural, exact=False)
        reach = config.motion.speech_embedder
        windows = WindowSampler(
            clips, before=reach.before, after=reach.after, seed=seed, silent_share=0.0
        )
        metric = MotionMetric(space)
        for leg in legs:
            say(f"teaching the student for {leg.steps} steps")
            distil(student, synthetic, natural, windows, metric, leg, seed=seed, report=report)
        embedder = student.speech_embedder
        assert isinstance(embedder, SpeechConv)
        corpora.fit_voice(embedder, seed)
        torch.save(student.state_dict(), path)
    student.load_state_dict(torch.load(path, weights_only=True))
    return student.eval()
