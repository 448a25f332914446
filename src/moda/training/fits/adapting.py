"""The readout of the mouth pulled towards one person: in seconds, and no further than it helps.

What the reader says already is where the regression begins: a ridge on what it misses, so that a
minute of somebody changes it a little, and where that minute says nothing, not at all. How strong
the ridge is, and whether anything changes, is decided on stretches of time that were kept aside.

Axis letters: T frames, C token channels, M mouth, S strengths, K folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from moda.data.dataset import TrainingClip
from moda.data.sync import best_lag, correlation_at_lag, rows_at
from moda.motion.reading import SpeechReader
from moda.structures import FRAMES_PER_SECOND, Floats, MotionSpace
from moda.structures.landmarks import Array
from moda.training.fits.reading import (
    AUGMENTED_WEIGHT,
    ReaderOptions,
    lip_changes,
    lip_gains,
    stacked_frames,
)

STRENGTHS = tuple(10.0 ** (3.0 + 0.5 * step) for step in range(9))
"""Of the ridge, for standardised tokens, from weak to strong."""
FOLDS = 5
"""Stretches of time; each is read by what was learned of the others."""
MARGIN_FRAMES = FRAMES_PER_SECOND
"""Around a stretch, from which nothing is learned that it is read by."""
LEAST_FRAMES = 10 * FRAMES_PER_SECOND
LEAST_GAIN = 0.01
"""Mean correlation that a change of the readout must be worth."""
LARGEST_LOSS = 0.01
"""That either of gap and width may lose where the other gains."""
TOLERANCE = 0.003
"""Of two strengths as good as this, the stronger is taken."""
SMALLEST_SIZE, LARGEST_SIZE = 0.7, 1.4
"""Limits of a person's lip movements over those of everybody."""
NOTABLE_SIZE = 0.05


class LipAgreement(NamedTuple):
    """Correlations of read and tracked lips, means over the held-out stretches."""

    gap: float
    width: float

    def __str__(self) -> str:
        return f"gap {self.gap:.3f}, width {self.width:.3f}"

    @property
    def mean(self) -> float:
        return 0.5 * (self.gap + self.width)


class MouthAdaptation(NamedTuple):
    """What :func:`adapt_mouth` did, judged on stretches that it had not seen."""

    before: LipAgreement | None
    """None: there were too few frames to try"""
    after: LipAgreement | None
    strength: float | None
    """of the ridge; None leaves the directions of the readout as they were"""
    gap_size: float = 1.0
    width_size: float = 1.0
    """of this person's lip movements over those that the reader would make"""

    @property
    def changes_anything(self) -> bool:
        return self.strength is not None or (self.gap_size, self.width_size) != (1.0, 1.0)

    def __str__(self) -> str:
        if self.before is None:
            least = LEAST_FRAMES / FRAMES_PER_SECOND
            return f"lips stay as they were: there are less than {least:.0f} s of speech"
        agreement = f"on held-out stretches read and tracked lips agree by r {self.before}"
        if self.strength is not None:
            agreement += f" before and {self.after} after"
        if not self.changes_anything:
            return f"lips stay as they were, nothing was better: {agreement}"
        sizes = f"gap movements x {self.gap_size:.2f}, width movements x {self.width_size:.2f}"
        what = "no other readout was better" if self.strength is None else "lips adapted"
        return f"{what}: {agreement}; {sizes}"


def with_read_lags(
    reader: SpeechReader, clips: Sequence[TrainingClip], space: MotionSpace
) -> list[TrainingClip]:
    """The clips at the lags at which tracked lips fit best to those that the reader reads.

    A clip by itself cannot tell its lag from other clips, but the reader knows when lips move.
    """
    weights, rows = _head(reader), lip_rows(space)
    return [
        replace(
            clip,
            lag=float(
                best_lag(
                    stacked_frames(reader, clip.features[0])[: len(clip)] @ weights @ rows.T,
                    clip.lips[: len(clip)],
                )
            ),
        )
        if clip.features
        else clip
        for clip in clips
    ]


def adapt_mouth(
    reader: SpeechReader,
    clips: Sequence[TrainingClip],
    space: MotionSpace,
    options: ReaderOptions,
) -> tuple[list[TrainingClip], MouthAdaptation]:
    """Change the mouth head in place; the clips with the mouth that is read of stretches not seen.

    The head makes lip distances larger than a mean is, see :class:`ReaderOptions`. That is undone
    before the regression and done again after it, with the same ``options`` as when the reader was
    fitted. The mean mouth of the person's speech stays what it was.
    """
    larger, added = lip_gains(space, options)
    head, bias = _head(reader), reader.mouth_head.bias.detach().double().numpy()
    base = head @ np.linalg.inv(larger)
    person = _Person(reader, [clip for clip in clips if clip.features], space)
    change, changes = np.zeros_like(base), np.zeros((FOLDS, *base.shape))
    found = MouthAdaptation(None, None, None)
    if person.num_frames >= LEAST_FRAMES:
        sums = person.sums(base)
        before, after, strength, read = person.try_strengths(base, sums)
        if strength is not None:
            eye = strength * np.eye(len(base))
            *folds, change = [np.linalg.solve(products + eye, missed) for products, missed in sums]
            changes = np.stack(folds)
        gap_size, width_size = (person.size(read, index) for index in (0, 1))
        found = MouthAdaptation(before, after, strength, gap_size, width_size)
    sizes, _ = lip_gains(
        space, replace(options, gap_gain=found.gap_size, width_gain=found.width_size)
    )
    if found.changes_anything:
        adapted = (base + change) @ sizes @ larger
        shift = person.mean_frames @ (head - adapted)
        with torch.no_grad():
            reader.mouth_head.weight.copy_(torch.from_numpy(adapted.T))
            reader.mouth_head.bias.copy_(torch.from_numpy(bias + shift))
    mouths = person.read_mouths(base, changes, sizes, bias - added)
    return [replace(clip, mouth_mean=mouths.get(clip.name)) for clip in clips], found


class _Person:
    """The speech of a person as regression samples, each clip around its own mean.

    Frames are numbered through all clips; the folds are as many stretches of equal length.
    """

    def __init__(
        self, reader: SpeechReader, clips: Sequence[TrainingClip], space: MotionSpace
    ) -> None:
        self._reader, self._clips = reader, clips
        self._rows, self._weights = lip_rows(space), _face_weights(space)
        self._starts = np.cumsum([0, *map(len, clips)])
        self.num_frames = int(self._starts[-1])
        self._bounds = np.linspace(0, self.num_frames, FOLDS + 1).round().astype(int)
        part = space.slice("mouth")
        times = [np.arange(len(clip)) + clip.lag for clip in clips]
        mouths = [
            0.5 * (rows_at(clip.motion[0][:, part], time) + rows_at(clip.motion[1][:, part], time))
            for clip, time in zip(clips, times, strict=True)
        ]
        lips = [rows_at(clip.lips, time) for clip, time in zip(clips, times, strict=True)]
        self._mouth = np.concatenate([values - values.mean(0) for values in mouths])
        self._lips = np.concatenate([values - values.mean(0) for values in lips])
        frames = [stacked_frames(reader, clip.features[0])[: len(clip)] for clip in clips]
        self.mean_frames: Array = np.concatenate(frames).mean(0)
        self._frames = np.concatenate([values - values.mean(0) for values in frames])

    def try_strengths(
        self, base: Array, sums: Sequence[tuple[Array, Array]]
    ) -> tuple[LipAgreement, LipAgreement, float | None, Array]:
        """Agreement without and with the best strength, that strength, and what is read (T, M).

        The strength is None where none is worth it.
        """
        plain = self._frames @ base
        read = np.repeat(plain[None], len(STRENGTHS), 0)
        for fold, (products, missed) in enumerate(sums[:-1]):
            held_out = slice(*self._bounds[fold : fold + 2])
            for index, change in enumerate(_ridges(products, missed)):
                read[index, held_out] += self._frames[held_out] @ change
        before, error = self._agreement(plain), self._error(plain)
        tried = [self._agreement(values) for values in read]
        worth = [
            index
            for index, found in enumerate(tried)
            if found.mean >= before.mean + LEAST_GAIN
            and found.gap >= before.gap - LARGEST_LOSS
            and found.width >= before.width - LARGEST_LOSS
            and self._error(read[index]) <= error
        ]
        if not worth:
            return before, before, None, plain
        best = max(tried[index].mean for index in worth)
        chosen = max(index for index in worth if tried[index].mean >= best - TOLERANCE)
        return before, tried[chosen], STRENGTHS[chosen], read[chosen]

    def size(self, read: Array, index: int) -> float:
        """By what the gap (0) or width (1) that is read of held-out frames should be larger.

        1 unless what the other stretches say is better on nearly all stretches.
        """
        lips, truth = read @ self._rows[index], self._mouth @ self._rows[index]
        folds = [slice(*self._bounds[fold : fold + 2]) for fold in range(FOLDS)]
        products = np.array([lips[fold] @ truth[fold] for fold in folds])
        squares = np.array([lips[fold] @ lips[fold] for fold in folds])
        others = _limited((products.sum() - products) / (squares.sum() - squares + 1e-12))
        gains = (2 * others * products - others**2 * squares) - (2 * products - squares)
        size = float(_limited(products.sum() / (squares.sum() + 1e-12)))
        agree = gains.sum() > 0.0 and int((gains > 0.0).sum()) >= FOLDS - 1
        return size if agree and abs(size - 1.0) >= NOTABLE_SIZE else 1.0

    def read_mouths(
        self, base: Array, changes: Array, sizes: Array, bias: Array
    ) -> dict[str, tuple[Floats, Floats]]:
        """By clip, the mean mouth (T, M) that is read of stretches not seen, own and mirrored."""
        mouths = {}
        fold = np.searchsorted(self._bounds[1:-1], np.arange(self.num_frames), side="right")
        for start, clip in zip(self._starts, self._clips, strict=False):
            part = slice(start, start + len(clip))
            change = np.zeros((len(clip), base.shape[1]))
            for index in range(FOLDS):
                inside = fold[part] == index
                change[inside] = self._frames[part][inside] @ changes[index]
            frames = stacked_frames(self._reader, clip.features[0])[: len(clip)]
            mean = frames.mean(0) @ base
            moving = self._frames[part] @ base + change
            read = (moving @ sizes + mean + bias).astype(np.float32)
            mouths[clip.name] = (read, read)
        return mouths

    def sums(self, base: Array) -> list[tuple[Array, Array]]:
        """Products of the frames (3 C, 3 C), and with what ``base`` misses (3 C, M): for each fold
        of the frames away from it, and last of all frames. Changed sounds count a little."""
        size, outputs = base.shape
        products, missed = np.zeros((FOLDS + 1, size, size)), np.zeros((FOLDS + 1, size, outputs))
        for start, clip in zip(self._starts, self._clips, strict=False):
            number = start + np.arange(len(clip))
            mouth = self._mouth[start : start + len(clip)]
            for version, features in enumerate(clip.features):
                weight = AUGMENTED_WEIGHT if version else 1.0
                frames = stacked_frames(self._reader, features)[: len(clip)]
                frames = frames - frames.mean(0)
                residual = mouth[: len(frames)] - frames @ base
                near = [
                    (number[: len(frames)] >= first - MARGIN_FRAMES)
                    & (number[: len(frames)] < last + MARGIN_FRAMES)
                    for first, last in zip(self._bounds[:-1], self._bounds[1:], strict=True)
                ]
                for fold, inside in enumerate([*near, np.ones(len(frames), bool)]):
                    products[fold] += weight * frames[inside].T @ frames[inside]
                    missed[fold] += weight * frames[inside].T @ residual[inside]
        products[:-1] = products[-1] - products[:-1]
        missed[:-1] = missed[-1] - missed[:-1]
        return list(zip(products, missed, strict=True))

    def _agreement(self, read: Array) -> LipAgreement:
        lips = read @ self._rows.T
        folds = [slice(*self._bounds[fold : fold + 2]) for fold in range(FOLDS)]
        gap, width = (
            float(
                np.mean(
                    [correlation_at_lag(lips[fold, k], self._lips[fold, k], 0) for fold in folds]
                )
            )
            for k in (0, 1)
        )
        return LipAgreement(gap, width)

    def _error(self, read: Array) -> float:
        return float((((read - self._mouth) * self._weights) ** 2).mean())


def _head(reader: SpeechReader) -> Array:
    """(3 C, M) weights of the mouth head."""
    return reader.mouth_head.weight.detach().double().numpy().T


def lip_rows(space: MotionSpace) -> Array:
    """(2, M): gap and width that a normalised mouth makes."""
    assert space.basis is not None
    part = space.slice("mouth")
    basis, scale = space.basis[part].astype(np.float64), space.scale[part].astype(np.float64)
    return lip_changes(basis) * scale


def _face_weights(space: MotionSpace) -> Array:
    """(M,): how far a normalised parameter of the mouth moves the face."""
    assert space.basis is not None
    part = space.slice("mouth")
    weights: Array = np.sqrt((space.basis[part].astype(np.float64) ** 2).sum((1, 2)))
    return weights * space.scale[part]


def _ridges(products: Array, missed: Array) -> list[Array]:
    """The solutions (3 C, M) for all strengths."""
    spread, axes = np.linalg.eigh(products)
    inside = axes.T @ missed
    return [axes @ (inside / (spread[:, None] + strength)) for strength in STRENGTHS]


def _limited(sizes: Array) -> Array:
    return np.clip(sizes, SMALLEST_SIZE, LARGEST_SIZE)
