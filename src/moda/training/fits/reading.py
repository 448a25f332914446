"""What the speech reader knows before the flow is trained: fitted, not trained step by step.

The mouth is a ridge regression (A. Hoerl and R. Kennard, "Ridge regression", 1970) on the tokens of
speakers whose sound is in sync. Phones have one hidden layer, and voices a logistic regression, on
speech with phones.

Axis letters: T frames, N samples of a regression, F features, C token channels, K compressed,
M mouth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from moda.config import NUM_PROSODY, SpeechEmbedderConfig
from moda.data.dataset import TrainingClip
from moda.data.sync import rows_at
from moda.motion.hearing.listening import widened, with_context
from moda.motion.reading import MOUTH_FRAMES, PHONE_TOKENS, PHONE_WIDTH, SpeechReader
from moda.phones import Phone
from moda.structures import Floats, MotionSpace
from moda.structures.landmarks import MOUTH_CORNERS, Array, lip_gaps
from moda.training.fits.phone_items import PhoneItem, SpeechCorpora

FOLDS = 5
"""Groups of speakers whose mouths are read by what the others taught."""
AUGMENTED_WEIGHT = 0.25
"""Of a frame of a changed sound beside one of the clean sound."""
PHONE_BATCH, PHONE_LEARNING_RATE, PHONE_DECAY, PHONE_DROPOUT = 1536, 2e-3, 0.02, 0.2
NATURAL_SHARE = 0.25
"""Of the tokens of a batch; their phones are guesses."""
LABEL_SMOOTHING = 0.05
VOICE_BATCH, VOICE_STEPS = 1024, 1500
VOICE_ITEMS = 900
VOICE_FRAME_SHARE = 0.2
VOICE_CUTS = 8
"""Frames of each item that are judged without their future."""
SPREAD_FLOOR = 1e-3

Say = Callable[[str], None]


@dataclass(frozen=True)
class ReaderOptions:
    """How the reader is fitted."""

    ridge: float = 16_000.0
    """of the mouth; of standardised tokens, so that it compares with the number of frames"""
    gap_gain: float = 1.6
    width_gain: float = 1.7
    """A mean moves less than the mouth that it is the mean of: lip distances are made larger"""
    opening: float = -0.025
    """by which the lips are further apart while somebody speaks, canonical units: a mean never
    closes, and lips do"""
    phone_steps: int = 2000


def fit_reader(
    reader: SpeechReader,
    clips: Sequence[TrainingClip],
    corpora: SpeechCorpora | None,
    space: MotionSpace,
    options: ReaderOptions,
    *,
    seed: int,
    say: Say = lambda text: None,
) -> list[TrainingClip]:
    """Fit all heads in place; the clips with the mouth that is read by a fold without them.

    Without corpora only the mouth is fitted: tokens, phones and voices stay as they are.
    """
    speaking = [clip for clip in clips if clip.features]
    if corpora is not None:
        fit_tokens(reader, [clip.features[0] for clip in speaking])
    say(f"reading the mouths of {len(speaking)} clips")
    means = fit_mouth(reader, speaking, space, options)
    if corpora is not None:
        say(f"reading phones for {options.phone_steps} steps")
        fit_phones(reader, corpora.synthetic, corpora.natural, steps=options.phone_steps, seed=seed)
        fit_voices(reader, [*corpora.synthetic, *corpora.natural], corpora.non_speech, seed=seed)
    return [replace(clip, mouth_mean=means.get(clip.name)) for clip in clips]


@torch.no_grad()
def fit_tokens(reader: SpeechReader, features: Sequence[NDArray[np.floating]]) -> None:
    """Standardise the tokens of recordings (T, F), and compress them to principal components."""
    tokens = np.concatenate([_tokens(part) for part in features]).astype(np.float64)
    reader.token_mean.copy_(torch.from_numpy(tokens.mean(0)))
    reader.token_scale.copy_(torch.from_numpy(tokens.std(0) + 1e-6))
    frames = np.concatenate([_frames(reader, part) for part in features])
    _, spread, axes = np.linalg.svd(frames - frames.mean(0), full_matrices=False)
    count = reader.config.compressed
    weight = axes[:count] / (spread[:count, None] / np.sqrt(len(frames)))
    reader.compress.weight.copy_(torch.from_numpy(weight))
    reader.compress.bias.copy_(torch.from_numpy(-weight @ frames.mean(0)))


def fit_mouth(
    reader: SpeechReader,
    clips: Sequence[TrainingClip],
    space: MotionSpace,
    options: ReaderOptions,
) -> dict[str, tuple[Floats, Floats]]:
    """Fit the mouth head in place; by clip, the mouth (T, M) that the other speakers' head reads.

    Mouths are symmetric, each clip around its own mean. The head that stays is larger, see
    :class:`ReaderOptions`; what is returned is the plain mean, own and mirrored.
    """
    speakers = sorted({clip.speaker for clip in clips}, key=str.lower)
    sums = {clip.name: mouth_products(reader, clip, space) for clip in clips}
    centre = _centre(clips, space)
    means: dict[str, tuple[Floats, Floats]] = {}
    for start in range(min(FOLDS, len(speakers))):
        group = set(speakers[start::FOLDS])
        others = [sums[clip.name] for clip in clips if clip.speaker not in group]
        if not others:
            continue
        weights = solve_mouth(others, options.ridge)
        for clip in clips:
            if clip.speaker in group:
                read = (stacked_frames(reader, clip.features[0]) @ weights + centre).astype(
                    np.float32
                )
                means[clip.name] = (read, read)
    weights = solve_mouth(list(sums.values()), options.ridge)
    larger, added = lip_gains(space, options)
    with torch.no_grad():
        reader.mouth_head.weight.copy_(torch.from_numpy((weights @ larger).T))
        reader.mouth_head.bias.copy_(torch.from_numpy(centre + added))
    return means


def lip_gains(space: MotionSpace, options: ReaderOptions) -> tuple[Array, Array]:
    """What makes lip distances larger: a matrix (M, M) for changes of the normalised mouth, from
    the right, and an offset (M,) that opens the lips.

    Gap and width are changed by the smallest movement of the face; all else stays as it is.
    """
    assert space.basis is not None
    part = space.slice("mouth")
    basis, scale = space.basis[part].astype(np.float64), space.scale[part].astype(np.float64)
    rows = lip_changes(basis)
    flat = basis.reshape(len(basis), -1)
    metric = np.linalg.inv(flat @ flat.T + 1e-4 * np.eye(len(basis)))
    pull = metric @ rows.T @ np.linalg.inv(rows @ metric @ rows.T)  # (M, 2), raw
    gains = np.diag([options.gap_gain - 1.0, options.width_gain - 1.0])
    raw = np.eye(len(basis)) + pull @ gains @ rows
    larger = (raw * scale[None, :] / scale[:, None]).T
    added: Array = pull[:, 0] * options.opening / scale
    return larger, added


def lip_changes(basis: Array) -> Array:
    """(2, M): gap and width that each parameter of the mouth makes, from its basis (M, 468, 3)."""
    right, left = MOUTH_CORNERS
    return np.stack([lip_gaps(basis)[:, 4], basis[:, left, 0] - basis[:, right, 0]])


def _centre(clips: Sequence[TrainingClip], space: MotionSpace) -> Array:
    """(M,) mean mouth, each clip counting by its length."""
    part = space.slice("mouth")
    mouths = [clip.motion[side][: len(clip), part] for clip in clips for side in (0, 1)]
    return np.concatenate(mouths).astype(np.float64).mean(0)


def mouth_products(
    reader: SpeechReader, clip: TrainingClip, space: MotionSpace
) -> tuple[Array, Array]:
    """Sums of products of the stacked tokens (3 C, 3 C), and with the clip's mouth (3 C, M)."""
    times = np.arange(len(clip)) + clip.lag
    part = space.slice("mouth")
    own, other = (rows_at(motion[:, part], times) for motion in clip.motion)
    mouth = 0.5 * (own + other)
    mouth = mouth - mouth.mean(0)
    size = len(reader.token_mean) * MOUTH_FRAMES
    products, covariances = np.zeros((size, size)), np.zeros((size, mouth.shape[1]))
    for version, features in enumerate(clip.features):
        weight = AUGMENTED_WEIGHT if version else 1.0
        inputs = stacked_frames(reader, features[: len(clip)])
        products += weight * inputs.T @ inputs
        covariances += weight * inputs.T @ mouth
    return products, covariances


def solve_mouth(sums: Sequence[tuple[Array, Array]], ridge: float) -> Array:
    products = np.sum([part for part, _ in sums], axis=0)
    covariances = np.sum([part for _, part in sums], axis=0)
    return np.linalg.solve(products + ridge * np.eye(len(products)), covariances)


def _tokens(features: NDArray[np.floating]) -> Floats:
    """(T, F) -> (2 T, C)."""
    return features[:, :-NUM_PROSODY].reshape(2 * len(features), -1).astype(np.float32)


def _frames(reader: SpeechReader, features: NDArray[np.floating]) -> Array:
    """(T, F) -> standardised tokens (T, C) of frames."""
    mean, scale = reader.token_mean.numpy(), reader.token_scale.numpy()
    tokens = (_tokens(features) - mean) / scale
    return tokens.reshape(len(features), 2, -1).mean(1).astype(np.float64)


def stacked_frames(reader: SpeechReader, features: NDArray[np.floating]) -> Array:
    """(T, F) -> (T, 3 C): what the mouth of each frame is read from."""
    frames = _frames(reader, features)
    reach = (MOUTH_FRAMES - 1) // 2
    padded = np.pad(frames, ((reach, reach), (0, 0)))
    return np.concatenate([padded[k : k + len(frames)] for k in range(MOUTH_FRAMES)], axis=1)


def fit_phones(
    reader: SpeechReader,
    synthetic: Sequence[PhoneItem],
    natural: Sequence[PhoneItem],
    *,
    steps: int,
    seed: int,
) -> None:
    """Fit the phone head in place: one hidden layer on seven tokens."""
    generator = np.random.default_rng([seed, 0x9F0])
    groups = [_PhoneTokens(reader, items) for items in (synthetic, natural) if len(items)]
    shares = [1.0 - NATURAL_SHARE, NATURAL_SHARE] if len(groups) == 2 else [1.0]
    torch.manual_seed(seed)
    conv, _, last = reader.phone_head
    first = nn.Linear(groups[0].size, PHONE_WIDTH)
    second = nn.Linear(PHONE_WIDTH, reader.config.num_phones)
    head = nn.Sequential(nn.Dropout(PHONE_DROPOUT), first, nn.GELU(), second)
    optimizer = torch.optim.AdamW(head.parameters(), PHONE_LEARNING_RATE, weight_decay=PHONE_DECAY)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = PHONE_LEARNING_RATE * (1.0 - step / steps)
        drawn = [
            tokens.draw(round(share * PHONE_BATCH), generator)
            for tokens, share in zip(groups, shares, strict=True)
        ]
        inputs, phones = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        loss = F.cross_entropy(head(inputs), phones, label_smoothing=LABEL_SMOOTHING)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        weight = first.weight.reshape(PHONE_WIDTH, PHONE_TOKENS, -1).transpose(1, 2)
        conv.load_state_dict({"weight": weight, "bias": first.bias})
        last.load_state_dict({"weight": second.weight[:, :, None], "bias": second.bias})


class _PhoneTokens:
    """Tokens of many utterances, of which random ones are drawn with their neighbours."""

    def __init__(self, reader: SpeechReader, items: Sequence[PhoneItem]) -> None:
        reach = (PHONE_TOKENS - 1) // 2
        mean, scale = reader.token_mean.numpy(), reader.token_scale.numpy()
        edge = ((reach, reach), (0, 0))
        parts = [
            np.pad((_tokens(item.features) - mean) / scale, edge).astype(np.float16)
            for item in items
        ]
        self._tokens = np.concatenate(parts)
        starts = np.cumsum([0, *map(len, parts)])[:-1]
        self._first = np.concatenate(
            [start + np.arange(len(item.phones)) for start, item in zip(starts, items, strict=True)]
        )
        self._phones = np.concatenate([item.phones for item in items])
        self.size = PHONE_TOKENS * self._tokens.shape[1]

    def draw(self, count: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Stacked tokens (count, 7 C) and phones (count,)."""
        chosen = generator.integers(len(self._first), size=count)
        rows = self._first[chosen, None] + np.arange(PHONE_TOKENS)
        inputs = self._tokens[rows].reshape(count, -1).astype(np.float32)
        return torch.from_numpy(inputs), torch.from_numpy(self._phones[chosen])


def fit_voices(
    reader: SpeechReader,
    speech: Sequence[PhoneItem],
    non_speech: Sequence[PhoneItem],
    *,
    seed: int,
) -> None:
    """Fit the voice head in place: speech against pauses, music and noise."""
    generator = np.random.default_rng([seed, 0x701CE])
    torch.manual_seed(seed)
    reader.eval()
    chosen = generator.integers(len(speech), size=min(VOICE_ITEMS, len(speech)))
    items = [*(speech[index] for index in chosen), *non_speech]
    frames = [_voice_frames(reader, item, generator) for item in items]
    inputs, targets = (torch.cat(parts) for parts in zip(*frames, strict=True))
    mean, spread = inputs.mean(0), inputs.std(0) + SPREAD_FLOOR
    inputs = (inputs - mean) / spread
    head = nn.Linear(inputs.shape[1], 1)
    optimizer = torch.optim.AdamW(head.parameters(), 2e-3, weight_decay=0.05)
    for _ in range(VOICE_STEPS):
        batch = torch.randint(len(inputs), (VOICE_BATCH,))
        loss = F.binary_cross_entropy_with_logits(head(inputs[batch])[:, 0], targets[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        reader.voice_head.weight.copy_(head.weight / spread)
        reader.voice_head.bias.copy_(head.bias - (head.weight * mean / spread).sum())


@torch.no_grad()
def _voice_frames(
    reader: SpeechReader, item: PhoneItem, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Some frames of an item: inputs (n, N) of the voice head, and 1 where somebody speaks.

    Frames between, in short pauses, are left out: they may count as either. Some are judged without
    what comes after them, as they are while somebody is still speaking.
    """
    features = item.features.astype(np.float32)
    voiced = (item.phones != Phone.SILENCE).reshape(-1, 2).any(1)
    speaks = widened(voiced)
    is_clear = speaks | ~widened(voiced, 12)
    chosen = is_clear & (generator.random(len(voiced)) < VOICE_FRAME_SHARE)
    whole = reader.voice_inputs(_with_context(features, reader.config))[0]
    inputs = [whole[torch.from_numpy(chosen)]]
    last = list[int]()
    if is_clear.any():
        last = generator.choice(np.flatnonzero(is_clear), size=VOICE_CUTS).tolist()
    inputs += [
        reader.voice_inputs(_with_context(features[: frame + 1], reader.config))[0, -1:]
        for frame in last
    ]
    targets = np.concatenate([speaks[chosen], speaks[last]]).astype(np.float32)
    return torch.cat(inputs), torch.from_numpy(targets)


def _with_context(features: Floats, config: SpeechEmbedderConfig) -> Tensor:
    return torch.from_numpy(with_context(features, config))[None]
