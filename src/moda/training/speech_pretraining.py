"""Teach the speech embedder the sounds of speech before it sees a face.

Minutes of talking faces are too few to learn what a phone sounds like in every voice. Synthesised
speech has exact phone times and costs nothing; a second classification head takes the coarser
labels that a recogniser gives to natural recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly
from torch import Tensor, nn
from torch.nn import functional as F

from moda.data.augment import augment_features, augment_waveform
from moda.data.phones import Phone, PhoneCorpus
from moda.encoders.speech import FEATURE_SIZE, HOPS_PER_FRAME, encode_speech
from moda.motion.layers import SpeechConv
from moda.structures import Floats

CROP_FRAMES = 104  # 4.2 s
SYNTHETIC_PER_BATCH, NATURAL_PER_BATCH = 20, 12
NATURAL_WEIGHT = 0.6
UNLABELLED = -100


@dataclass(frozen=True)
class PhoneItem:
    """Features (T, 160) of one utterance and its phone classes at 50 Hz (2 T,)."""

    features: NDArray[np.float16]
    phones: NDArray[np.int64]


def phone_items(
    corpus: PhoneCorpus, *, held_out: bool, versions: int, generator: np.random.Generator
) -> list[PhoneItem]:
    """Utterances of a corpus: the first version clean, the others with changed voice and room."""
    items = []
    for index in range(len(corpus)):
        if bool(corpus.held_out[index]) != held_out:
            continue
        samples, labels = corpus.item(index)
        clean = samples.astype(np.float32) / 32768.0
        clean = clean + 1e-4 * generator.standard_normal(len(clean)).astype(np.float32)
        for version in range(versions):
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


def _item(sound: Floats, phones: NDArray[np.int8]) -> PhoneItem:
    features = np.concatenate([part.features for part in encode_speech([sound])])
    num_frames = min(len(features), len(phones) // HOPS_PER_FRAME)
    halves = phones[: num_frames * HOPS_PER_FRAME : 2].astype(np.int64)
    return PhoneItem(features[:num_frames].astype(np.float16), halves)


def pretrain_speech_embedder(
    embedder: SpeechConv,
    synthetic: Sequence[PhoneItem],
    natural: Sequence[PhoneItem],
    *,
    steps: int,
    learning_rate: float = 2e-3,
    seed: int = 0,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> nn.Conv1d:
    """Train ``embedder`` in place on phone classes; returns the head (width -> 17) for 50 Hz."""
    generator = np.random.default_rng(seed)
    torch.manual_seed(seed)
    width = embedder.halve.in_channels
    head, natural_head = nn.Conv1d(width, len(Phone), 1), nn.Conv1d(width, len(Phone), 1)
    modules = nn.ModuleList([embedder, head, natural_head]).train()
    optimizer = torch.optim.AdamW(modules.parameters(), learning_rate, weight_decay=0.02)
    natural_share = np.array([len(item.features) for item in natural], float)
    natural_share /= max(natural_share.sum(), 1.0)
    for step in range(steps):
        warm_up = min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warm_up * (1.0 - step / steps)
        chosen = [
            synthetic[i] for i in generator.integers(len(synthetic), size=SYNTHETIC_PER_BATCH)
        ]
        loss = _loss(embedder, head, chosen, generator)
        if natural:
            picks = generator.choice(len(natural), size=NATURAL_PER_BATCH, p=natural_share)
            chosen = [natural[i] for i in picks]
            loss = loss + NATURAL_WEIGHT * _loss(embedder, natural_head, chosen, generator)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(modules.parameters(), 2.0)
        optimizer.step()
        report(step, float(loss.detach()))
    modules.eval()
    return head


def _loss(
    embedder: SpeechConv,
    head: nn.Conv1d,
    items: Sequence[PhoneItem],
    generator: np.random.Generator,
) -> Tensor:
    crops = [_crop(item, generator) for item in items]
    features = torch.from_numpy(np.stack([crop[0] for crop in crops]))
    phones = torch.from_numpy(np.stack([crop[1] for crop in crops]))
    logits = head(embedder.hidden(features))
    return F.cross_entropy(logits, phones, label_smoothing=0.05, ignore_index=UNLABELLED)


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
def phone_accuracy(
    embedder: SpeechConv, head: nn.Conv1d, items: Sequence[PhoneItem]
) -> tuple[float, float, float]:
    """Share of right 50 Hz labels; recall and precision of the bilabials."""
    embedder.eval()
    right = total = hits = actual = claimed = 0
    for item in items:
        features = torch.from_numpy(item.features.astype(np.float32))[None]
        guess = head(embedder.hidden(features))[0].argmax(0).numpy()[: len(item.phones)]
        right += int((guess == item.phones).sum())
        total += len(item.phones)
        hits += int(((guess == Phone.BILABIAL) & (item.phones == Phone.BILABIAL)).sum())
        actual += int((item.phones == Phone.BILABIAL).sum())
        claimed += int((guess == Phone.BILABIAL).sum())
    return right / max(total, 1), hits / max(actual, 1), hits / max(claimed, 1)
