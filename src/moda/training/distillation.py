"""One small embedder learns what several large efforts agree on.

Teachers see minutes of faces and half a second of future. What they agree on, on hours of speech
that has no face at all, is a calmer target than the faces themselves: a student that follows it
needs less future, and forgets nothing of the phones, which it learns at the same time.

Source: G. Hinton, O. Vinyals and J. Dean, "Distilling the Knowledge in a Neural Network", 2015.

Axis letters: B batch, T frames, M mouth parameters, P phones.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from moda.config import SpeechEmbedderConfig
from moda.data.augment import augment_features
from moda.data.dataset import WindowSampler
from moda.errors import InputError
from moda.motion.layers import SpeechConv
from moda.motion.listening import with_context
from moda.motion.model import MotionTransformer
from moda.structures import UNKNOWN_PHONE, Floats
from moda.training.losses import MotionMetric
from moda.training.speech_pretraining import UNLABELLED, PhoneItem

Number = TypeVar("Number", bound=np.generic)

LESSON_FRAMES = 80
ITEMS_AT_ONCE = 24
"""Utterances that the teachers hear in one go."""
LABEL_SMOOTHING = 0.05
TOKEN_DROPOUT = 0.1
TELL_PHONES_SHARE = 0.5
"""Of the lessons with exact phones in which the student is told them."""
GRADIENT_CLIP = 2.0
EMA_DECAY = 0.995


@dataclass(frozen=True)
class DistillationOptions:
    """How the student learns. The parts of a batch are counts of windows."""

    steps: int = 2000
    learning_rate: float = 2e-3
    synthetic: int = 8
    natural: int = 10
    faces: int = 6
    """windows of the talking clips themselves"""
    face_weight: float = 0.3
    """of the real lips beside those of the teachers"""
    phone_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or min(self.synthetic, self.natural, self.faces) < 0:
            raise InputError(
                "distillation steps must be at least 1 and parts of a batch at least 0"
            )
        if self.synthetic + self.natural < 1 or self.faces < 1:
            raise InputError("a batch of distillation needs both speech and faces")


@dataclass(frozen=True)
class Lesson:
    """An utterance with what the teachers say of it."""

    features: NDArray[np.float16]
    """(T, 160)"""
    mouth: NDArray[np.float16]
    """(T, M) normalised, mean of the teachers"""
    phones: NDArray[np.int64]
    """(2 T,) exact classes at 50 Hz; -1 where only the teachers' ``shares`` are known"""
    shares: NDArray[np.float16]
    """(2 T, P) mean of the teachers' probabilities"""


@dataclass(frozen=True)
class Lessons:
    """Utterances of one kind, and how much of its part of a batch is theirs."""

    items: Sequence[Lesson]
    share: float


class _Window(NamedTuple):
    features: Floats  # (before + T + after, 160)
    told: NDArray[np.int64]  # (2 (before + T + after),)
    mouth: Floats  # (T, M)
    inside: Floats  # (T,)
    shares: Floats  # (2 T, P), zero where nothing is known


def teach(
    teachers: Sequence[MotionTransformer], items: Sequence[PhoneItem], *, exact: bool
) -> list[Lesson]:
    """What the teachers say of utterances; ``exact`` phones are kept, guessed ones are not."""
    lessons: list[Lesson] = []
    for first in range(0, len(items), ITEMS_AT_ONCE):
        some = items[first : first + ITEMS_AT_ONCE]
        answers = _answers(teachers, [item.features for item in some])
        for item, (mouth, shares) in zip(some, answers, strict=True):
            phones = np.where(item.phones == UNLABELLED, UNKNOWN_PHONE, item.phones)
            known = phones if exact else np.full_like(phones, UNKNOWN_PHONE)
            lessons.append(Lesson(item.features, mouth, known, shares))
    return lessons


@torch.inference_mode()
def _answers(
    teachers: Sequence[MotionTransformer], features: Sequence[NDArray[np.float16]]
) -> list[tuple[NDArray[np.float16], NDArray[np.float16]]]:
    """Mean mouths (T, M) and shares (2 T, P) of utterances (T, 160).

    They are asked of all at once, with as much silence between two of them as any token hears.
    """
    embedders = [cast(SpeechConv, teacher.speech_embedder) for teacher in teachers]
    gap = 2 * max(embedder.config.context for embedder in embedders)
    row = np.concatenate([np.pad(part, ((0, gap), (0, 0))) for part in features])
    mouths, shares = [], []
    for teacher, embedder in zip(teachers, embedders, strict=True):
        sound = with_context(row.astype(np.float32), embedder.config)
        tokens, logits = embedder.tokens_and_phones(sound)
        mouths.append(teacher.mouth_head(tokens)[0])
        shares.append(torch.softmax(logits, dim=1)[0].T)
    mouth = torch.stack(mouths).mean(0).numpy().astype(np.float16)
    share = torch.stack(shares).mean(0).numpy().astype(np.float16)
    stops = np.cumsum([len(part) + gap for part in features]) - gap
    spans = [(stop - len(part), stop) for part, stop in zip(features, stops, strict=True)]
    return [(mouth[start:stop], share[2 * start : 2 * stop]) for start, stop in spans]


def distil(
    student: MotionTransformer,
    synthetic: Sequence[Lessons],
    natural: Sequence[Lesson],
    windows: WindowSampler,
    metric: MotionMetric,
    options: DistillationOptions,
    *,
    seed: int = 0,
    report: Callable[[dict[str, float]], None] = lambda values: None,
) -> None:
    """Train the student's speech embedder and the mean of its mouth in place.

    ``windows`` are those of the talking clips, with the student's context.
    """
    embedder = student.speech_embedder
    assert isinstance(embedder, SpeechConv)
    torch.manual_seed(seed)
    generator = np.random.default_rng([seed, 0xD157])
    parts = nn.ModuleList([embedder, student.mouth_head]).train()
    average = copy.deepcopy(parts).requires_grad_(False)
    optimizer = torch.optim.AdamW(parts.parameters(), options.learning_rate, weight_decay=0.02)
    draw = _Draw(synthetic, natural, options, embedder.config, generator)
    for step in range(options.steps):
        warm_up = min(1.0, (step + 1) / 100)
        cosine = max(0.01, 0.5 * (1.0 + math.cos(math.pi * step / options.steps)))
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * warm_up * cosine
        losses = _losses(student, draw(), windows, metric, options)
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            raise InputError(
                f"the loss is {loss.item()} at step {step} of the distillation; "
                "lower its learning rate or look for broken clips"
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parts.parameters(), GRADIENT_CLIP)
        optimizer.step()
        _follow(average, parts, min(EMA_DECAY, (step + 1) / (step + 20)))
        values = {name: float(value.detach()) for name, value in losses.items()}
        report({"step": step + 1, **values})
    parts.load_state_dict(average.state_dict())
    parts.eval()


def _losses(
    student: MotionTransformer,
    lessons: Sequence[_Window],
    windows: WindowSampler,
    metric: MotionMetric,
    options: DistillationOptions,
) -> dict[str, Tensor]:
    embedder = student.speech_embedder
    assert isinstance(embedder, SpeechConv)
    batch = windows.batch(options.faces, LESSON_FRAMES)
    stacked = _Window(*(np.stack(parts) for parts in zip(*lessons, strict=True)))
    features = torch.from_numpy(np.concatenate([stacked.features, batch.speech]))
    told = torch.from_numpy(np.concatenate([stacked.told, batch.phones]))
    tokens, logits = embedder.tokens_and_phones(features, told)
    mouth = student.mouth_head(F.dropout(tokens, TOKEN_DROPOUT, training=True))
    count = len(lessons)
    truth = torch.from_numpy(batch.motion)[..., metric.mouth]
    has_sound = torch.from_numpy(batch.weight * ~batch.is_silent[:, None])
    return {
        "phones": options.phone_weight
        * soft_cross_entropy(logits[:count], torch.from_numpy(stacked.shares)),
        "teachers": metric.regression_loss(
            mouth[:count], torch.from_numpy(stacked.mouth), torch.from_numpy(stacked.inside)
        ),
        "faces": options.face_weight * metric.regression_loss(mouth[count:], truth, has_sound),
    }


def soft_cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """Mean cross entropy of logits (B, P, L) against shares (B, L, P); zero rows don't count."""
    surprise = -(shares * F.log_softmax(logits, dim=1).transpose(1, 2)).sum()
    return surprise / shares.sum().clamp(min=1.0)


@torch.no_grad()
def _follow(average: nn.Module, current: nn.Module, decay: float) -> None:
    pairs = zip(average.state_dict().values(), current.state_dict().values(), strict=True)
    for slow, fast in pairs:
        if slow.is_floating_point():
            slow.lerp_(fast, 1.0 - decay)
        else:
            slow.copy_(fast)


class _Draw:
    """Random windows of lessons, padded with silence; the same seed draws the same ones."""

    def __init__(
        self,
        synthetic: Sequence[Lessons],
        natural: Sequence[Lesson],
        options: DistillationOptions,
        config: SpeechEmbedderConfig,
        generator: np.random.Generator,
    ) -> None:
        shares = np.array([group.share if group.items else 0.0 for group in synthetic])
        self._counts = (options.synthetic if shares.sum() > 0.0 else 0, options.natural)
        self._shares = shares / max(float(shares.sum()), 1e-9)
        self._groups = [(group.items, _by_length(group.items)) for group in synthetic]
        self._natural = (natural, _by_length(natural))
        self._config, self._generator = config, generator

    def __call__(self) -> list[_Window]:
        synthetic, natural = self._counts
        kinds = self._generator.choice(len(self._groups) or 1, size=synthetic, p=self._shares)
        groups = [self._groups[kind] for kind in kinds]
        groups += [self._natural] * (natural if len(self._natural[0]) else 0)
        return [
            self._window(items[self._generator.choice(len(items), p=shares)])
            for items, shares in groups
        ]

    def _window(self, lesson: Lesson) -> _Window:
        random, config = self._generator, self._config
        length = len(lesson.features)
        start = int(random.integers(0, max(1, length - LESSON_FRAMES + 1)))
        stop = start + LESSON_FRAMES
        first, last = start - config.before, stop + config.after
        features = padded_rows(lesson.features, first, last).astype(np.float32)
        phones = padded_rows(lesson.phones, 2 * first, 2 * last, fill=UNKNOWN_PHONE)
        shares = padded_rows(lesson.shares, 2 * start, 2 * stop).astype(np.float32)
        own = phones[2 * config.before : len(phones) - 2 * config.after]
        exact = np.eye(shares.shape[1], dtype=np.float32)[np.maximum(own, 0)]
        exact = (1.0 - LABEL_SMOOTHING) * exact + LABEL_SMOOTHING / shares.shape[1]
        told = phones
        if random.random() >= TELL_PHONES_SHARE:
            told = np.full_like(phones, UNKNOWN_PHONE)
        return _Window(
            augment_features(features, random),
            told,
            padded_rows(lesson.mouth, start, stop).astype(np.float32),
            (np.arange(start, stop) < length).astype(np.float32),
            np.where(own[:, None] == UNKNOWN_PHONE, shares, exact),
        )


def padded_rows(
    values: NDArray[Number], first: int, last: int, *, fill: int = 0
) -> NDArray[Number]:
    """Rows ``first`` to ``last`` of an array, ``fill`` where it has none."""
    inner = values[max(first, 0) : max(last, 0)]
    before = min(max(-first, 0), last - first)
    around = [(before, last - first - before - len(inner))] + [(0, 0)] * (values.ndim - 1)
    return np.pad(inner, around, constant_values=fill)


def _by_length(items: Sequence[Lesson]) -> NDArray[np.float64]:
    lengths = np.array([len(item.features) for item in items], float)
    return lengths / max(float(lengths.sum()), 1.0)
