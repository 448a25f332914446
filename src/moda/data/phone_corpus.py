"""Speech with its phones in one file: what the speech embedder is pretrained on."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moda.errors import InputError
from moda.files import whole_file
from moda.phones import LABELS_PER_SECOND, Labels

SAMPLE_RATE_HZ = 16_000
SAMPLES_PER_LABEL = SAMPLE_RATE_HZ // LABELS_PER_SECOND

Samples = NDArray[np.int16]


@dataclass(frozen=True)
class PhoneCorpus:
    """Utterances with their phones, one after the other. Item i is hops offsets[i]:offsets[i+1]."""

    samples: Samples
    """(160 N,) mono, 16 kHz"""
    labels: Labels
    """(N,)"""
    offsets: NDArray[np.int64]
    """(items + 1,) in labels, from 0 to N; 160 times as many samples"""
    names: NDArray[np.str_]
    """(items,) file name of a recording, running number of a synthesised utterance"""
    voices: NDArray[np.str_]
    """(items,) who speaks, as "engine:voice" """
    held_out: NDArray[np.bool_]
    """(items,) kept for tests: no item of these voices is trained on"""

    def __len__(self) -> int:
        return len(self.names)

    def require_whole(self) -> None:
        """Raise :class:`ValueError` unless the arrays are of one corpus."""
        kinds = {"samples": "i", "labels": "i", "offsets": "i", "names": "U", "voices": "U"}
        for name, value in vars(self).items():
            if value.ndim != 1 or value.dtype.kind != kinds.get(name, "b"):
                raise ValueError(f"{name} is {value.shape} {value.dtype}")
        steps = np.diff(self.offsets)
        num_items, num_labels = len(self.names), len(self.labels)
        if (
            len(self.offsets) != num_items + 1
            or (self.offsets[0], self.offsets[-1]) != (0, num_labels)
            or (steps < 0).any()
            or len(self.samples) != SAMPLES_PER_LABEL * num_labels
            or {len(self.voices), len(self.held_out)} != {num_items}
        ):
            raise ValueError("its arrays do not fit each other")

    def item(self, index: int) -> tuple[Samples, Labels]:
        """Samples (160 n,) and labels (n,) of one utterance."""
        start, end = int(self.offsets[index]), int(self.offsets[index + 1])
        samples = self.samples[start * SAMPLES_PER_LABEL : end * SAMPLES_PER_LABEL]
        return samples, self.labels[start:end]

    def labels_by_name(self) -> dict[str, Labels]:
        """Labels of every item by its name without suffix."""
        names = [Path(str(name)).stem for name in self.names]
        return {name: self.item(index)[1] for index, name in enumerate(names)}

    def write(self, path: str | Path) -> None:
        """Write an ``.npz`` file; an existing one is replaced only when the new one is whole."""
        with whole_file(path) as part, part.open("wb") as file:
            np.savez(file, **vars(self))


def read_phone_corpus(path: str | Path) -> PhoneCorpus:
    """Read what :meth:`PhoneCorpus.write` wrote.

    Raises:
        InputError: The file is missing, or is no such corpus.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type for entry in archive.infolist()):
                raise ValueError("its arrays are compressed")  # to whatever size
        with np.load(path, allow_pickle=False) as arrays:
            fields = {name: arrays[name] for name in PhoneCorpus.__dataclass_fields__}
        corpus = PhoneCorpus(**fields)
        corpus.require_whole()
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, SyntaxError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{path} is not a phone corpus ({reason}); scripts/synthesize_speech.py makes one"
        ) from error
    return corpus


class Utterance(NamedTuple):
    """One item of a corpus that is being made."""

    samples: Samples  # (160 n,)
    labels: Labels  # (n,)
    name: str
    voice: str
    held_out: bool


def join_utterances(utterances: Sequence[Utterance]) -> PhoneCorpus:
    """Put utterances one after the other, in order."""
    lengths = [len(utterance.labels) for utterance in utterances]
    return PhoneCorpus(
        samples=np.concatenate([np.zeros(0, np.int16), *(u.samples for u in utterances)]),
        labels=np.concatenate([np.zeros(0, np.int8), *(u.labels for u in utterances)]),
        offsets=np.cumsum([0, *lengths], dtype=np.int64),
        names=np.array([u.name for u in utterances], np.str_),
        voices=np.array([u.voice for u in utterances], np.str_),
        held_out=np.array([u.held_out for u in utterances], np.bool_),
    )
