"""What teachers say of speech, and a student that learns it with less future than they have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from moda.checkpoints import load_motion_space
from moda.config import MotionModelConfig, SpeechEmbedderConfig
from moda.data.dataset import TrainingClip, WindowSampler
from moda.errors import InputError
from moda.motion.layers import SpeechConv
from moda.motion.listening import with_context
from moda.motion.model import MotionTransformer
from moda.phones import Phone
from moda.training.distillation import (
    DistillationOptions,
    Lessons,
    distil,
    padded_rows,
    soft_cross_entropy,
    teach,
)
from moda.training.losses import MotionMetric
from moda.training.speech_pretraining import UNLABELLED, PhoneItem

TEACHER = SpeechEmbedderConfig(width=16, dilations=(1,), context=4, num_phones=len(Phone))
STUDENT = replace(TEACHER, delay=2)


def model(embedder: SpeechEmbedderConfig, seed: int) -> MotionTransformer:
    torch.manual_seed(seed)
    config = MotionModelConfig(
        motion_size=33,
        hidden=16,
        num_heads=2,
        four_stream_blocks=0,
        two_stream_blocks=0,
        one_stream_blocks=1,
        speech_embedder=embedder,
        mouth_size=16,
    )
    return MotionTransformer(config).eval()


def utterance(seed: int, num_frames: int = 130) -> PhoneItem:
    """Sounds of 160 ms; each class has a spectrum of its own."""
    random = np.random.default_rng(seed)
    spectra = np.random.default_rng(99).uniform(0.0, 8.0, (len(Phone), 160))
    phones = np.repeat(random.integers(0, len(Phone), num_frames // 4 + 1), 8)[: 2 * num_frames]
    features = spectra[phones[::2]] + 0.1 * random.standard_normal((num_frames, 160))
    return PhoneItem(np.maximum(features, 0.0).astype(np.float16), phones.astype(np.int64))


def test_teachers_say_their_mean() -> None:
    item = utterance(0)
    unlabelled = item.phones.copy()
    unlabelled[:20] = UNLABELLED
    item = replace(item, phones=unlabelled)
    teachers = [model(TEACHER, 1), model(STUDENT, 2)]
    between = [utterance(8, 40), item, utterance(9, 70)]
    (_, exact, _), (_, guessed, _) = (
        teach(teachers, between, exact=exact) for exact in (True, False)
    )
    mouths, shares = [], []
    for teacher in teachers:
        embedder = teacher.speech_embedder
        assert isinstance(embedder, SpeechConv)
        with torch.no_grad():
            features = with_context(item.features.astype(np.float32), embedder.config)
            mouths.append(teacher.mouth_head(embedder(features))[0].numpy())
            shares.append(embedder.phone_logits(features)[0].softmax(0).T.numpy())
    for lesson in (exact, guessed):
        np.testing.assert_allclose(lesson.mouth, np.mean(mouths, axis=0), atol=2e-3)
        np.testing.assert_allclose(lesson.shares, np.mean(shares, axis=0), atol=1e-3)
    np.testing.assert_array_equal(exact.phones[20:], item.phones[20:])
    assert (exact.phones[:20] == -1).all()
    assert (guessed.phones == -1).all()


def test_a_student_learns_what_its_teachers_say() -> None:
    """On utterances it has not seen, at the right time, though it hears less of the future."""
    space = load_motion_space()
    teacher = model(TEACHER, 1)
    with torch.no_grad():
        teacher.mouth_head.weight *= 3.0
    lessons = teach([teacher], [utterance(seed) for seed in range(24)], exact=True)
    heard = teach([teacher], [utterance(seed) for seed in range(24, 32)], exact=False)
    student = model(STUDENT, 7)
    untouched = {
        name: value.clone()
        for name, value in student.state_dict().items()
        if not name.startswith(("speech_embedder.", "mouth_head."))
    }
    options = DistillationOptions(
        steps=150, learning_rate=1e-2, synthetic=4, natural=2, faces=1, face_weight=0.0
    )
    windows = WindowSampler([face(space.size)], before=STUDENT.before, after=STUDENT.after, seed=0)
    losses: list[dict[str, float]] = []
    distil(
        student,
        [Lessons(lessons, 1.0), Lessons([], 1.0)],
        heard,
        windows,
        MotionMetric(space),
        options,
        report=losses.append,
    )
    assert [values["step"] for values in losses] == list(range(1, 151))
    assert not student.speech_embedder.training
    for name, value in untouched.items():
        assert torch.equal(value, student.state_dict()[name]), name
    unseen = [utterance(seed) for seed in range(40, 44)]
    wanted = np.concatenate([x.mouth for x in teach([teacher], unseen, exact=False)])
    said = teach([student], unseen, exact=False)
    given = np.concatenate([lesson.mouth for lesson in said])
    metric = MotionMetric(space)
    agreement = {
        lag: lip_agreement(metric, np.roll(given, lag, axis=0), wanted) for lag in range(-3, 4)
    }
    assert max(agreement, key=lambda lag: agreement[lag]) == 0
    assert agreement[0] > 0.8
    right = [
        (lesson.shares.argmax(1) == item.phones).mean()
        for lesson, item in zip(said, unseen, strict=True)
    ]
    assert np.mean(right) > 0.5  # chance is 1 in 17


def face(size: int) -> TrainingClip:
    random = np.random.default_rng(5)
    motion = random.standard_normal((130, size)).astype(np.float32)
    identity = np.zeros(63, np.float32)
    return TrainingClip(
        name="face",
        speaker="face",
        emotion=8,
        motion=(motion, motion),
        identity=(identity, identity),
        features=(utterance(50).features.astype(np.float32),),
        lips=motion[:, :2].astype(np.float64),
    )


def lip_agreement(metric: MotionMetric, given: np.ndarray, wanted: np.ndarray) -> float:
    """Mean correlation of lip gap and width of mouths (T, 16)."""
    one, other = (
        metric.lips(torch.from_numpy(mouth.astype(np.float32)))[:, [4, 9]].numpy()
        for mouth in (given, wanted)
    )
    return float(np.mean([np.corrcoef(one[:, k], other[:, k])[0, 1] for k in range(2)]))


def test_soft_cross_entropy_of_certain_labels() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 7), torch.randint(0, 5, (2, 7))
    shares = F.one_hot(labels, 5).float()
    expected = F.cross_entropy(logits, labels)
    assert soft_cross_entropy(logits, shares) == pytest.approx(expected.item(), rel=1e-5)
    shares[1] = 0.0
    expected = F.cross_entropy(logits[:1], labels[:1])
    assert soft_cross_entropy(logits, shares) == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(("first", "last"), [(-3, 2), (1, 4), (3, 9), (-2, 8), (-5, -1), (6, 9)])
def test_padded_rows(first: int, last: int) -> None:
    values = np.arange(10).reshape(5, 2)
    expected = [values[k] if 0 <= k < 5 else [-1, -1] for k in range(first, last)]
    np.testing.assert_array_equal(padded_rows(values, first, last, fill=-1), expected)


@pytest.mark.parametrize("values", [{"steps": 0}, {"faces": 0}, {"synthetic": 0, "natural": 0}])
def test_impossible_options(values: dict[str, int]) -> None:
    with pytest.raises(InputError):
        DistillationOptions(**values)  # type: ignore[arg-type]
