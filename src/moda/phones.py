"""Phones as the lips see them: 17 classes, at 100 labels a second.

Sounds that look alike are one class. Synthesisers and recognisers name their phones in IPA or
ARPAbet; the functions here turn such names and times into labels.

Label ``k`` is the class at ``(k + 0.5) / 100`` seconds, the centre of the 10 ms hop ``k`` of
:mod:`moda.encoders.speech`.
"""

# ruff: noqa: RUF001 - IPA letters look like Latin ones

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moda.errors import InputError
from moda.files import read_limited

MAX_FILE_BYTES = 16 * 2**20
"""Of a file of phones with their times."""
LABELS_PER_SECOND = 100

Labels = NDArray[np.int8]
"""(N,) values of :class:`Phone`, 100 a second."""


class Phone(IntEnum):
    """The classes; the comment lists typical members in IPA."""

    SILENCE = 0
    BILABIAL = 1  # p b m
    LABIODENTAL = 2  # f v
    DENTAL = 3  # θ ð
    ALVEOLAR = 4  # t d n
    SIBILANT = 5  # s z ts
    POSTALVEOLAR = 6  # ʃ ʒ tʃ
    VELAR = 7  # k g ŋ x ɲ
    GLOTTAL = 8  # h ʔ
    RHOTIC = 9  # r ʁ
    LATERAL = 10  # l
    ROUNDED = 11  # w u y
    O = 12  # noqa: E741  o ɔ ø
    A = 13  # a æ ʌ
    E = 14  # e ɛ
    I = 15  # noqa: E741  i ɪ j
    SCHWA = 16  # ə ɝ


Classes = tuple[Phone, ...]
"""What one symbol stands for: a class, two of a diphthong, none of an unknown symbol."""


class PhoneSegment(NamedTuple):
    """One phone of an utterance. Several classes share its time in equal parts."""

    symbol: str
    start_seconds: float
    end_seconds: float
    phones: Classes


def _table(rows: Mapping[Phone, str]) -> dict[str, Phone]:
    return {symbol: phone for phone, symbols in rows.items() for symbol in symbols.split()}


# Capitals: some voices of espeak-ng have no IPA for a phone and fall back on Kirshenbaum's ASCII.
_IPA = _table(
    {
        Phone.BILABIAL: "p b m ɓ ʙ",
        # Bilabial fricatives hiss like f and v and don't close the lips either.
        Phone.LABIODENTAL: "f v ɱ ʋ β ɸ ⱱ",
        Phone.DENTAL: "θ ð",
        Phone.ALVEOLAR: "t d n ʈ ɖ ɳ ɗ ɾ ɽ",
        Phone.SIBILANT: "s z ʦ ʣ",
        Phone.POSTALVEOLAR: "ʃ ʒ ʂ ʐ ɕ ʑ ɧ S ʧ ʤ ʨ ʥ",
        Phone.VELAR: "k g ɡ ŋ N X x ɣ q ɢ χ c ɟ ɲ ç ʝ ɴ ɠ ɰ ʄ",
        Phone.GLOTTAL: "h ɦ ʔ ħ ʕ",
        Phone.RHOTIC: "r ɹ ʁ ʀ ɻ",
        Phone.LATERAL: "l ɫ ʎ ɭ ɬ ɮ ʟ ɺ",
        Phone.ROUNDED: "w u ʊ y ʏ ɥ ʍ ʉ",
        Phone.O: "o ɔ ø œ ɒ ɵ ɞ",
        Phone.A: "a A ɑ æ ʌ ɐ ɶ",
        Phone.E: "e ɛ ε",
        Phone.I: "i ɪ j ɨ ɯ ᵻ",
        Phone.SCHWA: "ə ɜ ɝ ɚ ɘ ɤ",
    }
)

_ARPABET = _table(
    {
        Phone.SILENCE: "pau sil h# brth +spn+ +nsn+ #",
        Phone.BILABIAL: "p b m em",
        Phone.LABIODENTAL: "f v",
        Phone.DENTAL: "th dh",
        Phone.ALVEOLAR: "t d n dx en nx",
        Phone.SIBILANT: "s z",
        Phone.POSTALVEOLAR: "sh zh ch jh",
        Phone.VELAR: "k g ng",
        Phone.GLOTTAL: "hh hv",
        Phone.RHOTIC: "r",
        Phone.LATERAL: "l el",
        Phone.ROUNDED: "w uw uh",
        Phone.O: "ao",
        Phone.A: "aa ae ah",
        Phone.E: "eh",
        Phone.I: "iy ih y",
        Phone.SCHWA: "ax axr er ix",
    }
)
_ARPABET_DIPHTHONGS: dict[str, Classes] = {
    "ay": (Phone.A, Phone.I),
    "aw": (Phone.A, Phone.ROUNDED),
    "ey": (Phone.E, Phone.I),
    "ow": (Phone.O, Phone.ROUNDED),
    "oy": (Phone.O, Phone.I),
}


def ipa_phones(symbol: str) -> Classes:
    """Classes of one IPA symbol with any marks: ``"aɪ"`` -> A, I; ``"tʃʰ"`` -> POSTALVEOLAR.

    An affricate is one class, that of its second part: its lips do not change on the way. Marks
    (length, tone, aspiration, nasality, a tie bar) are passed over.
    """
    phones: list[Phone] = []
    for character in unicodedata.normalize("NFD", symbol):
        phone = _IPA.get(character)
        if phone is None or phones[-1:] == [phone]:
            continue
        if phone in (Phone.SIBILANT, Phone.POSTALVEOLAR) and phones[-1:] == [Phone.ALVEOLAR]:
            phones.pop()
        phones.append(phone)
    return tuple(phones)


def arpabet_phones(symbol: str) -> Classes:
    """Classes of one ARPAbet symbol of any case, with or without its stress digit."""
    plain = symbol.lower().rstrip("0123456789")
    if plain in _ARPABET_DIPHTHONGS:
        return _ARPABET_DIPHTHONGS[plain]
    return (_ARPABET[plain],) if plain in _ARPABET else ()


def label_segments(
    segments: Sequence[PhoneSegment], num_labels: int, *, first_label: int = 0
) -> Labels:
    """Segments in order of time -> (num_labels,) classes, from ``first_label`` on.

    Time outside all segments is silence; a segment without classes (an unknown symbol) prolongs the
    one before it.
    """
    starts, phones = [-np.inf], [Phone.SILENCE]
    for index, segment in enumerate(segments):
        before = segments[index - 1] if index else segment
        if segment.start_seconds > before.end_seconds + OVERLAP_SECONDS:
            starts.append(before.end_seconds)
            phones.append(Phone.SILENCE)
        span = segment.end_seconds - segment.start_seconds
        for part, phone in enumerate(segment.phones):
            starts.append(segment.start_seconds + span * part / len(segment.phones))
            phones.append(phone)
    if segments:
        starts.append(segments[-1].end_seconds)
        phones.append(Phone.SILENCE)
    centres = (np.arange(first_label, first_label + num_labels) + 0.5) / LABELS_PER_SECOND
    return np.array(phones, np.int8)[np.searchsorted(starts, centres, side="right") - 1]


VOICELESS_STOPS = "ptkcqʈ"
LONGEST_CLOSURE_SECONDS = 0.09
CLOSURE_IN_PAUSE_SECONDS = 0.05
"""A closure cannot be heard in a pause; this is what speakers usually take for it."""
SHORTEST_PHONE_SECONDS = 0.02
OVERLAP_SECONDS = 0.005
"""What times in text files may overlap by rounding."""
SILENCE_SYMBOLS = ("sil", "SIL", "sp", "spn", "SPN", "-", "_", "pau")
_BLOCK_SECONDS = 0.005
_QUIET_FRACTION = 0.025
"""Near-silence: this much of the loud parts' mean amplitude, -32 dB."""


def restore_closures(
    segments: Sequence[PhoneSegment], samples: NDArray[np.generic], sample_rate_hz: int
) -> list[PhoneSegment]:
    """Move the start of p, t, k from the burst back to where the mouth closed.

    espeak-ng reports voiceless stops (and affricates) at their burst; the silent closure before it
    would belong to the previous phone, and lips would close late. The start moves back over
    near-silence, at most 90 ms, and leaves the phone before it at least 20 ms.

    Args:
        segments: IPA symbols in order of time.
        samples: (N,) waveform of these segments, any amplitude.
        sample_rate_hz: Of the waveform.
    """
    levels = _block_levels(samples, sample_rate_hz)
    quiet = levels < _QUIET_FRACTION * np.percentile(levels, 95) if len(levels) else levels < 0
    restored: list[PhoneSegment] = []
    for segment in segments:
        if restored and segment.symbol[:1] and segment.symbol[0] in VOICELESS_STOPS:
            before = restored[-1]
            earliest = min(before.start_seconds + SHORTEST_PHONE_SECONDS, segment.start_seconds)
            if before.phones == (Phone.SILENCE,):
                earliest = max(earliest, segment.start_seconds - CLOSURE_IN_PAUSE_SECONDS)
            start = max(earliest, _quiet_since(quiet, segment.start_seconds))
            restored[-1] = before._replace(end_seconds=start)
            segment = segment._replace(start_seconds=start)
        restored.append(segment)
    return restored


def _block_levels(samples: NDArray[np.generic], sample_rate_hz: int) -> NDArray[np.float64]:
    """Mean amplitude of blocks of 5 ms."""
    block = round(_BLOCK_SECONDS * sample_rate_hz)
    whole = samples[: len(samples) // block * block].astype(np.float64)
    return np.abs(whole).reshape(-1, block).mean(1)


def _quiet_since(quiet: NDArray[np.bool_], seconds: float) -> float:
    """Where the near-silence that ends at a time began, at most 90 ms earlier."""
    block = min(int(seconds / _BLOCK_SECONDS + 1e-6), len(quiet))
    last = max(0, block - round(LONGEST_CLOSURE_SECONDS / _BLOCK_SECONDS))
    first = block
    while first > last and quiet[first - 1]:
        first -= 1
    return seconds if first == block else first * _BLOCK_SECONDS


def read_phone_times(path: str | Path) -> tuple[PhoneSegment, ...]:
    """Phones with their times from a text file, as aligners and audio editors write them.

    Every line has start and end in seconds and a symbol, separated by tabs or spaces; empty lines
    and lines that begin with ``#`` are passed over. Symbols are ARPAbet (``AH0``, ``p``) or IPA;
    ``sil``, ``sp``, ``spn`` and ``-`` mean silence. The alphabet is the one that knows more of the
    symbols.

    Raises:
        InputError: The file cannot be read, a line is not of this form, times run backwards, or a
            symbol is not of the file's alphabet.
    """
    try:
        text = read_limited(Path(path), MAX_FILE_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"phone times {path} cannot be read: {error}") from error
    lines = [
        (number, line.split())
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    symbols = [parts[2] for _, parts in lines if len(parts) == 3]
    spoken = [symbol for symbol in symbols if symbol not in SILENCE_SYMBOLS]
    in_arpabet = sum(bool(arpabet_phones(symbol)) for symbol in spoken)
    is_arpabet = in_arpabet >= sum(bool(ipa_phones(symbol)) for symbol in spoken)
    segments: list[PhoneSegment] = []
    for number, parts in lines:
        where = f"phone times {path}, line {number}"
        try:
            start_text, end_text, symbol = parts
            start, end = float(start_text), float(end_text)
        except ValueError:
            raise InputError(
                f"{where}: expected start, end and one symbol, got {' '.join(parts)!r}"
            ) from None
        earliest = segments[-1].end_seconds - OVERLAP_SECONDS if segments else 0.0
        if not earliest <= start <= end < math.inf:
            raise InputError(
                f"{where}: {start:g} to {end:g} s does not follow on {max(earliest, 0.0):g} s; "
                "times must rise from line to line"
            )
        phones: Classes = (Phone.SILENCE,)
        if symbol not in SILENCE_SYMBOLS:
            phones = arpabet_phones(symbol) if is_arpabet else ipa_phones(symbol)
        if not phones:
            alphabet = "ARPAbet" if is_arpabet else "IPA"
            raise InputError(
                f"{where}: {symbol!r} is no symbol of {alphabet}, in which the others are written"
            )
        segments.append(PhoneSegment(symbol, start, end, phones))
    if not segments:
        raise InputError(f"phone times {path} holds no phones")
    return tuple(segments)
