"""Teach the speech embedder the sounds of speech before it sees a face.

Minutes of talking faces are too few to learn what a phone sounds like in every voice. Synthesised
speech has exact phone times and costs nothing; a second classification head takes the coarser
labels that a recogniser gives to natural recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly
from torch import Tensor, nn
from torch.nn import functional as F

from moda.data.augment import augment_features, augment_waveform
from moda.data.nonspeech import make_non_speech
from moda.data.phone_corpus import SAMPLES_PER_LABEL, PhoneCorpus
from moda.encoders.speech import FEATURE_SIZE, HOPS_PER_FRAME, encode_speech
from moda.motion.layers import SpeechConv
from moda.motion.listening import widened, with_context
from moda.phones import LABELS_PER_SECOND, Phone
from moda.structures import Floats

CROP_FRAMES = 104  # 4.2 s
SYNTHETIC_PER_BATCH, NATURAL_PER_BATCH = 12, 20
SPEECH_ITEMS, NATURAL_ITEMS = 900, 300
"""Whose frames the voice head is fitted on, beside music and noise."""
VOICE_FRAME_SHARE = 0.2
VOICE_CUTS = 8
"""Frames of each item that are judged without their future."""
VOICE_BATCH = 1024
SPREAD_FLOOR = 1e-3
NON_SPEECH_SECONDS = 6.0
UNLABELLED = -100


@dataclass(frozen=True)
class PhoneItem:
    """Features (T, 160) of one utterance and its phone classes at 50 Hz (2 T,)."""

    features: NDArray[np.float16]
    phones: NDArray[np.int64]


def phone_items(
    corpus: PhoneCorpus,
    *,
    held_out: bool,
    versions: int,
    generator: np.random.Generator,
    leave_out: Collection[str] = (),
    clean_share: float = 1.0,
) -> list[PhoneItem]:
    """Utterances of a corpus: the first version clean, the others with changed voice and room.

    Where there is time for one version only, a ``clean_share`` of the utterances begins with the
    clean one and the others with a changed one.
    ``leave_out`` are names without suffix, such as those of clips of held-out speakers.
    """
    items = []
    for index in range(len(corpus)):
        if bool(corpus.held_out[index]) != held_out:
            continue
        if Path(str(corpus.names[index])).stem in leave_out:
            continue
        samples, labels = corpus.item(index)
        clean = samples.astype(np.float32) / 32768.0
        clean = clean + 1e-4 * generator.standard_normal(len(clean)).astype(np.float32)
        first = 0 if clean_share >= 1.0 or generator.random() < clean_share else 1
        for version in range(first, first + versions):
            sound, phones = clean, labels
            if version:
                if generator.random() < 0.6:  # pitch, formants and speed together
                    percent = int(generator.choice([88, 92, 96, 105, 110, 116]))
                    sound = resample_poly(sound, percent, 100).astype(np.float32)
                    source = np.arange(len(labels) * percent // 100) * 100 // percent
                    phones = labels[np.minimum(source, len(labels) - 1)]
                sound = augment_waveform(sound, generator)
            items.append(_item(sound, phones))
    return [item for item in items if len(item.features) >= 10]


def non_speech_items(count: int, generator: np.random.Generator) -> list[PhoneItem]:
    """Music and noise, labelled silence."""
    num_labels = int(NON_SPEECH_SECONDS * LABELS_PER_SECOND)
    silence = np.full(num_labels, Phone.SILENCE, np.int8)
    items = []
    for _ in range(count):
        sound = make_non_speech(num_labels * SAMPLES_PER_LABEL, generator)
        level = 10.0 ** generator.uniform(-2.0, -0.7)
        items.append(_item((level * sound).astype(np.float32), silence))
    return items


def _item(sound: Floats, phones: NDArray[np.int8]) -> PhoneItem:
    features = np.concatenate([part.features for part in encode_speech([sound])])
    num_frames = min(len(features), len(phones) // HOPS_PER_FRAME)
    halves = phones[: num_frames * HOPS_PER_FRAME : 2].astype(np.int64)
    return PhoneItem(features[:num_frames].astype(np.float16), halves)


@dataclass(frozen=True)
class PhoneGroup:
    """Utterances of one kind, and how much of a batch is theirs."""

    items: Sequence[PhoneItem]
    share: float


def pretrain_speech_embedder(
    embedder: SpeechConv,
    synthetic: Sequence[PhoneGroup],
    natural: Sequence[PhoneItem],
    *,
    steps: int,
    learning_rate: float = 2e-3,
    seed: int = 0,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train ``embedder`` and its phone head in place.

    Natural recordings have a head of their own, which is thrown away: their labels are guesses.
    """
    generator = np.random.default_rng(seed)
    torch.manual_seed(seed)
    natural_head = nn.Conv1d(embedder.config.width, len(Phone), 1)
    modules = nn.ModuleList([embedder, natural_head]).train()
    optimizer = torch.optim.AdamW(modules.parameters(), learning_rate, weight_decay=0.02)
    natural_share = np.array([len(item.features) for item in natural], float)
    natural_share /= max(natural_share.sum(), 1.0)
    for step in range(steps):
        warm_up = min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warm_up * (1.0 - step / steps)
        chosen = draw_items(synthetic, SYNTHETIC_PER_BATCH, generator)
        loss = _loss(embedder, embedder.phone_head, chosen, generator)
        if natural:
            picks = generator.choice(len(natural), size=NATURAL_PER_BATCH, p=natural_share)
            chosen = [natural[i] for i in picks]
            loss = loss + _loss(embedder, natural_head, chosen, generator)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(modules.parameters(), 2.0)
        optimizer.step()
        report(step, float(loss.detach()))
    modules.eval()


def fit_voice_head(
    embedder: SpeechConv,
    speech: Sequence[PhoneGroup],
    natural: Sequence[PhoneItem],
    non_speech: Sequence[PhoneItem],
    *,
    steps: int = 1500,
    seed: int = 0,
) -> None:
    """Teach the voice head, in place, to tell speech from pauses, music and noise.

    A logistic regression on frozen layers: those that learned music and noise themselves followed
    lips less closely, see docs/experiments.md.
    """
    generator = np.random.default_rng([seed, 0x701CE])
    torch.manual_seed(seed)
    embedder.eval()
    spoken = draw_items(speech, SPEECH_ITEMS, generator) if speech else []
    if natural:
        spoken += [natural[i] for i in generator.integers(len(natural), size=NATURAL_ITEMS)]
    frames = [_voice_frames(embedder, item, generator) for item in [*spoken, *non_speech]]
    inputs, targets = (torch.cat(parts) for parts in zip(*frames, strict=True))
    mean, spread = inputs.mean(0), inputs.std(0) + SPREAD_FLOOR
    inputs = (inputs - mean) / spread
    head = nn.Linear(inputs.shape[1], 1)
    optimizer = torch.optim.AdamW(head.parameters(), 2e-3, weight_decay=0.05)
    for _ in range(steps):
        batch = torch.randint(len(inputs), (VOICE_BATCH,))
        loss = F.binary_cross_entropy_with_logits(head(inputs[batch])[:, 0], targets[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        embedder.voice_head.weight.copy_(head.weight / spread)
        embedder.voice_head.bias.copy_(head.bias - (head.weight * mean / spread).sum())


@torch.no_grad()
def _voice_frames(
    embedder: SpeechConv, item: PhoneItem, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Some frames of an item: inputs (n, N) of the voice head, and 1 where somebody speaks.

    Frames between, in short pauses, are left out: they may count as either. Some are judged without
    what comes after them, as they are while somebody is still speaking.
    """
    sound = embedder.inner_hidden(with_context(item.features.astype(np.float32), embedder.config))
    voiced = (item.phones != Phone.SILENCE).reshape(-1, 2).any(1)
    speaks = widened(voiced)
    is_clear = speaks | ~widened(voiced, 12)
    chosen = is_clear & (generator.random(len(voiced)) < VOICE_FRAME_SHARE)
    inputs = [embedder.voice_inputs(sound)[0, torch.from_numpy(chosen)]]
    last = np.zeros(0, np.intp)
    if is_clear.any():
        last = generator.choice(np.flatnonzero(is_clear), size=VOICE_CUTS)
    inputs += [embedder.voice_inputs(sound[:, :, : 2 * (frame + 1)])[0, -1:] for frame in last]
    targets = np.concatenate([speaks[chosen], speaks[last]]).astype(np.float32)
    return torch.cat(inputs), torch.from_numpy(targets)


def draw_items(
    groups: Sequence[PhoneGroup], count: int, generator: np.random.Generator
) -> list[PhoneItem]:
    """Random items, each group by its share."""
    shares = np.array([group.share if group.items else 0.0 for group in groups])
    chosen = generator.choice(len(groups), size=count, p=shares / shares.sum())
    return [groups[k].items[int(generator.integers(len(groups[k].items)))] for k in chosen]


def _loss(
    embedder: SpeechConv,
    head: nn.Conv1d,
    items: Sequence[PhoneItem],
    generator: np.random.Generator,
) -> Tensor:
    crops = [_crop(item, generator) for item in items]
    features = torch.from_numpy(np.stack([crop[0] for crop in crops]))
    phones = torch.from_numpy(np.stack([crop[1] for crop in crops]))
    shift = 2 * embedder.config.delay
    logits = head(embedder.hidden(features))[:, :, : phones.shape[1] - shift]
    return F.cross_entropy(logits, phones[:, shift:], label_smoothing=0.05, ignore_index=UNLABELLED)


def _crop(item: PhoneItem, generator: np.random.Generator) -> tuple[Floats, NDArray[np.int64]]:
    """A random stretch of fixed length, padded with silence; features changed a little."""
    start = int(generator.integers(0, max(1, len(item.features) - CROP_FRAMES + 1)))
    features = item.features[start : start + CROP_FRAMES].astype(np.float32)
    phones = item.phones[2 * start : 2 * (start + CROP_FRAMES)]
    missing = CROP_FRAMES - len(features)
    features = augment_features(features, generator)
    padded = np.concatenate([features, np.zeros((missing, FEATURE_SIZE), np.float32)])
    return padded, np.pad(phones, (0, 2 * missing), constant_values=UNLABELLED)


@torch.inference_mode()
def phone_accuracy(embedder: SpeechConv, items: Sequence[PhoneItem]) -> tuple[float, float, float]:
    """Share of right 50 Hz labels; recall and precision of the bilabials."""
    embedder.eval()
    right = total = hits = actual = claimed = 0
    for item in items:
        features = with_context(item.features.astype(np.float32), embedder.config)
        guess = embedder.phone_logits(features)[0].argmax(0).numpy()
        right += int((guess == item.phones).sum())
        total += len(item.phones)
        hits += int(((guess == Phone.BILABIAL) & (item.phones == Phone.BILABIAL)).sum())
        actual += int((item.phones == Phone.BILABIAL).sum())
        claimed += int((guess == Phone.BILABIAL).sum())
    return right / max(total, 1), hits / max(actual, 1), hits / max(claimed, 1)
