"""Speech with its phones as training items: features of the speech encoder with classes at 50 Hz.

Synthesised speech has exact phone times and costs nothing; natural recordings have the guesses of a
recogniser; music and noise have none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from moda.data.augment import augment_waveform
from moda.data.nonspeech import make_non_speech
from moda.data.phone_corpus import SAMPLES_PER_LABEL, PhoneCorpus, read_phone_corpus
from moda.encoders.speech import HOPS_PER_FRAME, encode_speech
from moda.phones import LABELS_PER_SECOND, Phone
from moda.structures import Floats

NON_SPEECH_SECONDS = 6.0
CLEAN_SHARE = 0.35
"""Of the utterances of a corpus of which there is one version each."""


@dataclass(frozen=True)
class PhoneItem:
    """Features (T, F) of one utterance and its phone classes at 50 Hz (2 T,)."""

    features: NDArray[np.float16]
    phones: NDArray[np.int64]


def phone_items(
    corpus: PhoneCorpus,
    *,
    versions: int,
    generator: np.random.Generator,
    leave_out: Collection[str] = (),
    clean_share: float = 1.0,
    hours: float = float("inf"),
) -> list[PhoneItem]:
    """Utterances of a corpus that are not held out, the first version clean.

    The others have a changed voice and room.

    Where there is time for one version only, a ``clean_share`` of the utterances begins with the
    clean one and the others with a changed one.
    ``leave_out`` are names without suffix, such as those of clips of held-out speakers. Utterances
    are taken in a random order until there are ``hours`` of them.
    """
    items: list[PhoneItem] = []
    left = hours * 3600.0 * LABELS_PER_SECOND
    for index in generator.permutation(len(corpus)).tolist():
        if left <= 0.0:
            break
        if corpus.held_out[index] or Path(str(corpus.names[index])).stem in leave_out:
            continue
        samples, labels = corpus.item(index)
        left -= len(labels)
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
class SpeechCorpora:
    """Speech with phones: read when it is first asked for, and once."""

    synthetic_paths: Sequence[Path]
    natural_paths: Sequence[Path]
    synthetic_hours: float
    """read of the synthesised corpora together, in equal parts"""
    natural_versions: int
    non_speech_count: int
    leave_out: Collection[str]
    """Names of recordings of held-out speakers"""
    seed: int

    @cached_property
    def synthetic(self) -> list[PhoneItem]:
        """Speech with exact phones, one version of each utterance."""
        hours = self.synthetic_hours / max(1, len(self.synthetic_paths))
        return [
            item
            for number, path in enumerate(self.synthetic_paths)
            for item in self._items(path, 1, number, hours=hours)
        ]

    @cached_property
    def natural(self) -> list[PhoneItem]:
        """Recordings with guessed phones."""
        first = len(self.synthetic_paths)
        return [
            item
            for number, path in enumerate(self.natural_paths, start=first)
            for item in self._items(path, self.natural_versions, number)
        ]

    @cached_property
    def non_speech(self) -> list[PhoneItem]:
        """Music and noise."""
        generator = np.random.default_rng([self.seed, 0x4015E])
        return non_speech_items(self.non_speech_count, generator)

    def _items(
        self, path: Path, versions: int, number: int, *, hours: float = float("inf")
    ) -> list[PhoneItem]:
        return phone_items(
            read_phone_corpus(path),
            versions=versions,
            generator=np.random.default_rng([self.seed, number]),
            leave_out=self.leave_out,
            clean_share=1.0 if versions > 1 else CLEAN_SHARE,
            hours=hours,
        )
