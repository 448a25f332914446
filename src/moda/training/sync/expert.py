"""Trains the network that tells whether lips and speech belong together, and says how well it does.

Axis letters: as in :mod:`moda.training.sync.network`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moda.data.dataset import Batch, TrainingClip, WindowSampler
from moda.data.sync import shift_frames
from moda.errors import InputError
from moda.structures import Floats, MotionSpace
from moda.training.keypoint_metric import lip_columns
from moda.training.sync.network import CLOSE_FRAMES, REACH, SyncConfig, SyncExpert

SHIFTS = 15
"""Frames by which the wrong windows of a clip are early or late at most: 31 candidates."""
OTHERS = 30
"""Windows of other clips beside the right one: 31 candidates again."""
GATE = 0.4
"""Cosine from which a position passes."""
RIGHT_FRAMES = 1
"""A window found this close to the right one is found."""
AVERAGED_FRAMES = 25
POSITION_STEP = 5
WARM_UP_SHARE = 0.1
LIP_GAIN, LIP_OFFSET = 0.3, 0.3
"""How far lips are exaggerated and moved in training: amplitude and rest differ between people."""


@dataclass(frozen=True)
class ExpertOptions:
    """How long and how fast the expert is trained."""

    steps: int = 1500
    batch_size: int = 32
    num_frames: int = 64
    pairs: int = 6
    """positions of each window that take part in a step"""
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    width: int = 128
    embedding: int = 64
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.pairs) < 1:
            raise InputError("steps, batch size and pairs of the expert must be at least 1")
        if self.num_frames < 4 * REACH:
            raise InputError(f"the expert needs windows of at least {4 * REACH} frames")


class SyncAccuracy(NamedTuple):
    """Shares of held-out windows of 13 frames whose speech is found among 31 candidates."""

    shifted: float
    """among windows of the same clip up to 15 frames away, at most one frame off; chance 3/31"""
    shifted_mean: float
    """the same with the agreement averaged over a second"""
    others: float
    """among windows of other clips; chance 1/31"""
    agreement: float
    """mean cosine in sync"""
    passing: float
    """share of positions in sync whose cosine is at least the gate"""
    num_positions: int

    def line(self) -> str:
        """One line for people."""
        return (
            f"in-sync window found among shifted ones {self.shifted:.1%} (chance {3 / 31:.1%}), "
            f"averaged over a second {self.shifted_mean:.1%}; among other clips {self.others:.1%} "
            f"(chance {1 / 31:.1%}); mean cosine {self.agreement:.2f}, {self.passing:.0%} pass the "
            f"gate; {self.num_positions} windows"
        )


def train_expert(
    clips: Sequence[TrainingClip],
    space: MotionSpace,
    *,
    options: ExpertOptions,
    augment: bool,
    seed: int = 0,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> SyncExpert:
    """Train an expert on clips with sound.

    Args:
        augment: whether the speech features are log-mel spectra, which are changed a little.

    Raises:
        InputError: the loss is not a number, or too few clips have sound.
    """
    speaking = [clip for clip in clips if clip.features and len(clip) >= options.num_frames]
    if len(speaking) < 2:
        raise InputError(
            f"the sync expert needs two clips with sound of at least {options.num_frames} frames; "
            f"there are {len(speaking)}"
        )
    torch.manual_seed(seed)
    columns = lip_columns(space)
    config = SyncConfig(
        len(columns),
        int(speaking[0].features[0].shape[1]),
        options.width,
        options.embedding,
        options.dropout,
    )
    expert = SyncExpert(config).train()
    windows = WindowSampler(speaking, before=0, after=0, seed=seed, augment=augment)
    optimizer = torch.optim.AdamW(
        expert.parameters(), options.learning_rate, weight_decay=options.weight_decay
    )
    for step in range(options.steps):
        progress = step / options.steps
        warm_up = min(1.0, (step + 1) / (WARM_UP_SHARE * options.steps))
        factor = warm_up * (0.5 + 0.5 * np.cos(np.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * max(0.02, float(factor))
        torch.manual_seed(seed * 1_000_003 + step)
        batch = windows.batch(options.batch_size, options.num_frames, draw=step)
        loss = _batch_loss(expert, batch, columns, options.pairs)
        if not torch.isfinite(loss):
            names = ", ".join(sorted({window.clip for window in batch.windows}))
            raise InputError(
                f"the sync expert's loss is {loss.item()} at step {step}; look for broken clips "
                f"among {names}"
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(expert.parameters(), 1.0)
        optimizer.step()
        report(step + 1, loss.item())
    return expert.eval().requires_grad_(False)


def _batch_loss(expert: SyncExpert, batch: Batch, columns: list[int], pairs: int) -> Tensor:
    lips = torch.from_numpy(batch.motion[..., columns])
    lips = lips * (1.0 + LIP_GAIN * (2.0 * torch.rand(len(lips), 1, 1) - 1.0))
    lips = lips + LIP_OFFSET * torch.randn(len(lips), 1, lips.shape[2])
    speech = torch.from_numpy(batch.speech).float()
    embedded_lips, embedded_speech = expert.lips(lips), expert.speech(speech)
    num_windows, num_positions, _ = embedded_lips.shape
    chosen = torch.stack([torch.randperm(num_positions)[:pairs] for _ in range(num_windows)])
    rows = torch.arange(num_windows)[:, None]
    clips = {name: number for number, name in enumerate({w.clip for w in batch.windows})}
    clip = torch.tensor([clips[window.clip] for window in batch.windows])[:, None].expand_as(chosen)
    frame = torch.tensor([window.start for window in batch.windows])[:, None] + chosen
    clip, frame = clip.flatten(), frame.flatten()
    near = (frame[:, None] - frame).abs() <= CLOSE_FRAMES
    close = (clip[:, None] == clip) & near
    return expert.contrastive_loss(
        embedded_lips[rows, chosen].flatten(0, 1),
        embedded_speech[rows, chosen].flatten(0, 1),
        close,
    )


@torch.inference_mode()
def sync_accuracy(
    expert: SyncExpert,
    clips: Sequence[TrainingClip],
    space: MotionSpace,
) -> SyncAccuracy:
    """How well an expert finds the speech of lips in clips that it was not trained on.

    Raises:
        InputError: there are no two clips that are long enough.
    """
    shortest = 2 * (REACH + SHIFTS) + AVERAGED_FRAMES
    embedded = [
        _embed(expert, clip, space) for clip in clips if clip.features and len(clip) >= shortest
    ]
    if len(embedded) < 2:
        raise InputError(
            f"accuracy needs two held-out clips with sound of {shortest} frames; there are "
            f"{len(embedded)}"
        )
    random = np.random.default_rng(0)
    shifted, averaged, others, agreement = [], [], [], []
    for index, (lips, speech) in enumerate(embedded):
        positions = np.arange(SHIFTS, len(lips) - SHIFTS)
        offsets = np.arange(-SHIFTS, SHIFTS + 1)
        scores = (lips[positions, None] * speech[positions[:, None] + offsets]).sum(-1)
        shifted.append(_is_found(scores[::POSITION_STEP]))
        kernel = np.ones(AVERAGED_FRAMES) / AVERAGED_FRAMES
        smooth = np.stack([np.convolve(s, kernel, "valid") for s in scores.T], axis=1)
        averaged.append(_is_found(smooth[::POSITION_STEP]))
        agreement.append(scores[:, SHIFTS])
        wrong = np.concatenate([other for k, (_, other) in enumerate(embedded) if k != index])
        tested = positions[::POSITION_STEP]
        drawn = wrong[random.integers(len(wrong), size=(len(tested), OTHERS))]
        against = (lips[tested, None] * drawn).sum(-1)
        others.append(scores[::POSITION_STEP, SHIFTS] > against.max(1))
    cosines = np.concatenate(agreement)
    return SyncAccuracy(
        shifted=float(np.concatenate(shifted).mean()),
        shifted_mean=float(np.concatenate(averaged).mean()),
        others=float(np.concatenate(others).mean()),
        agreement=float(cosines.mean()),
        passing=float((cosines >= GATE).mean()),
        num_positions=sum(len(found) for found in shifted),
    )


def _is_found(scores: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether the best of the shifts, in order, is at most a frame off; of scores (n, 31)."""
    return np.abs(scores.argmax(1) - SHIFTS) <= RIGHT_FRAMES


def _embed(expert: SyncExpert, clip: TrainingClip, space: MotionSpace) -> tuple[Floats, Floats]:
    """Unit vectors (P, E) of the clip's lips, in step with the sound, and of its speech."""
    length = len(clip)
    motion = np.asarray(clip.motion[0][:length], np.float32)
    if clip.to_normal is not None:
        motion = motion * clip.to_normal.factor + clip.to_normal.offset
    still = motion[:, lip_columns(space)].astype(np.float64)
    lips = shift_frames(still, clip.lag).astype(np.float32)
    speech = np.asarray(clip.features[0][:length], np.float32)
    found: Floats = expert.lips(torch.from_numpy(lips)[None])[0].numpy()
    heard: Floats = expert.speech(torch.from_numpy(speech)[None])[0].numpy()
    return found, heard
