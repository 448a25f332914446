"""Kokoro: a small neural synthesiser with natural voices, in a process of its own.

Its phonemes come from espeak-ng, also in a process of its own; its weights (Apache-2.0) from
``moda models download kokoro``, or from a folder that ``MODA_KOKORO`` names.
"""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moda.errors import InputError, MissingExtraError
from moda.files import ORIGINALS, models_folder
from moda.speech_synthesis.espeak import espeak_phonemes
from moda.speech_synthesis.kokoro.clauses import (
    Clause,
    SaidClause,
    joined,
    pair_words,
    split_clauses,
    timed_phones,
    timed_words,
    without_mark,
)
from moda.speech_synthesis.kokoro.notation import NUMBERS, kokoro_phonemes
from moda.speech_synthesis.kokoro.voices import (
    ALIASES,
    LANGUAGES,
    REPOSITORY,
    VOICE_SHA256,
    voice_language,
)
from moda.speech_synthesis.synthesiser import Utterance, ask_worker
from moda.structures.words import split_words

WORKER = Path(__file__).parents[1] / "workers" / "kokoro_worker.py"
TIMEOUT_SECONDS = 900.0
FRAME_SECONDS = 0.025
LATE_SECONDS = 0.065
"""The sound of a symbol comes this much before its frames, measured on closures of lips."""
EDGE_SECONDS = 0.05
"""Silence that is kept before and after; the network makes a third of a second and more."""
INSTALL = "Kokoro is not here; get it with: moda models download kokoro"


class KokoroFiles(NamedTuple):
    """The network, and what holds each voice: a file of its own, or one of all."""

    model: Path
    voices: dict[str, Path]


class Kokoro:
    """A :class:`moda.speech_synthesis.Synthesiser` around Kokoro."""

    takes_language = True

    def speak(self, text: str, *, language: str, voice: str | None, rate: float) -> Utterance:
        language = ALIASES.get(language.lower(), language.lower())
        if language not in LANGUAGES:
            raise InputError(
                f"Kokoro does not speak {language!r}; choose one of {', '.join(LANGUAGES)}"
            )
        files = find_kokoro()
        voice = voice or LANGUAGES[language]
        _check_voice(voice, language, files)
        groups = list(joined(_clauses(text, language)))
        if not groups:
            return Utterance(np.zeros(0, np.int16), 24_000)
        request = {
            "model": str(files.model),
            "style": str(files.voices[voice]),
            "voice": voice,
            "rate": rate,
            "groups": [[NUMBERS[symbol] for symbol in _symbols(group)] for group in groups],
        }
        command = [sys.executable, "-I", str(WORKER)]
        header, samples = ask_worker(
            command, request, name="Kokoro", timeout_seconds=TIMEOUT_SECONDS
        )
        return _utterance(groups, header, samples)


def find_kokoro() -> KokoroFiles:
    """Kokoro's files on this computer.

    Raises:
        MissingExtraError: They are not here.
    """
    named = os.environ.get("MODA_KOKORO")
    folder = Path(named) if named else models_folder() / ORIGINALS / REPOSITORY
    models = sorted([*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx")])
    voices = {path.stem: path for path in sorted(folder.glob("voices/*.bin"))}
    for path in () if voices else sorted(folder.glob("*.bin")):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                voices |= {name.removesuffix(".npy"): path for name in archive.namelist()}
    known = {voice: path for voice, path in voices.items() if voice in VOICE_SHA256}
    if not models or not known:
        if named:
            raise MissingExtraError(
                f"MODA_KOKORO names {folder}, which has no .onnx file with voices/*.bin or "
                "voices-v1.0.bin beside it; unset it, or name another folder"
            )
        raise MissingExtraError(INSTALL)
    return KokoroFiles(models[0], known)


def _check_voice(voice: str, language: str, files: KokoroFiles) -> None:
    own = voice_language(voice)
    fitting = [name for name in files.voices if voice_language(name) == language]
    if own is None or voice not in files.voices:
        raise InputError(f"Kokoro has no voice {voice!r}; choose one of {', '.join(fitting)}")
    if own != language:
        raise InputError(
            f"the voice {voice!r} speaks {own}, not {language}; choose that language, or one of "
            f"{', '.join(fitting)}"
        )


def _clauses(text: str, language: str) -> list[Clause]:
    """The clauses of a text that have something to say."""
    texts = split_clauses(text)
    bare = [without_mark(clause) for clause in texts]
    said = _said([clause for clause, _ in bare], language)
    words = [split_words(clause) for clause in texts]
    odd = [index for index in range(len(texts)) if len(words[index]) != len(said[index])]
    alone = iter(_said([without_mark(word)[0] for index in odd for word in words[index]], language))
    found: list[Clause] = []
    for index, (_, mark) in enumerate(bare):
        parts = [next(alone) for _ in words[index]] if index in odd else []
        if said[index]:
            paired = pair_words(words[index], ["".join(part) for part in parts], said[index])
            found.append(Clause(paired, mark))
        elif found:
            last = found[-1].words[-1]
            last = last._replace(text=last.text + texts[index])
            found[-1] = found[-1]._replace(words=(*found[-1].words[:-1], last))
    return found


def _symbols(group: Sequence[Clause]) -> str:
    return " ".join(clause.symbols for clause in group)


def _said(texts: Sequence[str], language: str) -> list[list[str]]:
    """What is said for each text, in Kokoro's notation, cut at its spaces."""
    phonemes = espeak_phonemes(texts, language) if texts else []
    return [kokoro_phonemes(ipa, language).split() for ipa in phonemes]


def _utterance(
    groups: Sequence[Sequence[Clause]], header: dict[str, Any], samples: NDArray[np.int16]
) -> Utterance:
    """The sound without the silence around it, with phones and words where their times are told."""
    rate_hz = int(header["rate_hz"])
    said: list[SaidClause] = []
    begins = np.cumsum([0, *header["counts"][:-1]]) / rate_hz
    for group, begin, frames in zip(groups, begins, header["frames"], strict=True):
        symbols = _symbols(group)
        if len(frames) != len(symbols) + 2:
            return Utterance(samples, rate_hz)
        edges = begin + np.cumsum(frames) * FRAME_SECONDS - LATE_SECONDS
        at = 0
        for clause in group:
            said.append(SaidClause(clause, edges[at : at + len(clause.symbols) + 1]))
            at += len(clause.symbols) + 1
    first = max(0.0, float(said[0].edges[0]) - EDGE_SECONDS)
    spoken = max(phone.end_seconds for phone in timed_phones(said) if phone.symbol != "_")
    kept = samples[round(first * rate_hz) : round((spoken + 2 * EDGE_SECONDS) * rate_hz)]
    said = [clause._replace(edges=clause.edges - first) for clause in said]
    return Utterance(kept, rate_hz, tuple(timed_phones(said)), timed_words(said))
