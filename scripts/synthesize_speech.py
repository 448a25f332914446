"""Make a corpus of synthesised speech with exact phone times, for pretraining the speech encoder.

Three engines that Debian has (each is left out with one line where it is not installed)::

    apt-get install espeak-ng libespeak-ng1 flite festival \
        festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts festvox-italp16k festvox-itapc16k \
        festvox-suopuhe-lj festvox-suopuhe-mv festvox-czech-dita festvox-czech-krb \
        festvox-czech-machac festvox-czech-ph festvox-ca-ona-hts festvox-ru \
        festvox-hi-nsk festvox-te-nsk festvox-mr-nsk
    apt-get install --no-install-recommends wamerican wbritish wfrench wngerman wspanish witalian \
        wportuguese wbrazilian wpolish wdutch wdanish wswedish wnorwegian wbulgarian wukrainian \
        wcatalan wfaroese wgalician-minimos
    pip install babel
    python scripts/synthesize_speech.py runs/phones

Texts are the sentences below, random words of Debian's lists, names from the CLDR (through Babel)
and numbers. Each engine writes one :class:`moda.data.phone_corpus.PhoneCorpus`. Attempt k of an
engine has a text, voice and speed that depend on the seed and k alone; a run that was cut off goes
on where it last saved. Only espeak-ng carries something over from one utterance to the next (noise,
flutter, some lengths), so there a resumed run has the same utterances but not the same samples.
"""

from __future__ import annotations

import argparse
import ctypes
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import soxr
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.io import wavfile

from festival_phones import PhoneSet, festival_phones
from moda.data.phone_corpus import (
    SAMPLE_RATE_HZ,
    SAMPLES_PER_LABEL,
    Utterance,
    join_utterances,
    read_phone_corpus,
)
from moda.phones import (
    LABELS_PER_SECOND,
    SHORTEST_PHONE_SECONDS,
    Phone,
    PhoneSegment,
    arpabet_phones,
    ipa_phones,
    label_segments,
    restore_closures,
)
from synthesis_texts import TextSource, one_of

SECONDS_LIMITS = (0.8, 16.0)
LEVEL = 0.07
"""Root mean square of an utterance, of full scale; the peak stays below 0.95."""
SAVE_EVERY_HOURS = 0.25
HELD_OUT_VARIANTS = ("f5", "m3")


def make_utterance(
    sound: NDArray[np.float32],
    sample_rate_hz: int,
    segments: Sequence[PhoneSegment],
    voice: str,
    *,
    held_out: bool,
) -> list[Utterance]:
    """One utterance at 16 kHz and a common level; none if it is too short, too long or silent."""
    peak = float(np.abs(sound).max(initial=0.0))
    if peak < 1e-3 or not SECONDS_LIMITS[0] < len(sound) / sample_rate_hz < SECONDS_LIMITS[1]:
        return []
    level = float(np.sqrt(np.mean(np.square(sound))))
    sound = sound * min(LEVEL / level, 0.95 / peak)
    if sample_rate_hz != SAMPLE_RATE_HZ:
        sound = np.clip(soxr.resample(sound, sample_rate_hz, SAMPLE_RATE_HZ), -1.0, 1.0)
    num_labels = len(sound) // SAMPLES_PER_LABEL
    samples = np.round(sound[: num_labels * SAMPLES_PER_LABEL] * 32767.0).astype(np.int16)
    return [Utterance(samples, label_segments(segments, num_labels), "", voice, held_out)]


class EngineMissingError(Exception):
    """A synthesiser is not installed; the message says what to do."""


class Engine(Protocol):
    unknown: Counter[str]
    """Phones that have no class, and how often they came."""

    def speak(self, attempt: int, generator: Generator) -> list[Utterance]:
        """Some utterances of one voice, or none; the same words for the same arguments."""
        ...


class _PhonemeName(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("text", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """espeak_EVENT of espeak-ng/speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _PhonemeName),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Espeak:
    """espeak-ng through its library: formant synthesis in many languages and voice variants."""

    COMMON_LANGUAGES = (
        "en-us", "en", "fr", "de", "es", "es-419", "it", "pt", "pt-br", "ru", "cmn-latn-pinyin",
        "ko", "ja", "ar", "hi", "tr", "pl", "nl", "sv", "id",
    )  # fmt: skip
    OTHER_LANGUAGES = (
        "en-gb-scotland", "fi", "cs", "el", "af", "ro", "hu", "da", "nb", "uk", "be", "bg", "mk",
        "sr", "hr", "bs", "sl", "sk", "lt", "lv", "et", "fa", "sw", "ta", "te", "ml", "kn", "bn",
        "gu", "pa", "ka", "hy", "sq", "az", "kk", "ky", "uz", "tt", "ms", "ca", "eu", "is", "ga",
        "cy", "he", "ur", "mr", "ne", "si", "mt", "lb", "gd", "or", "as", "am",
    )  # fmt: skip
    VARIANTS = (
        "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "klatt",
        "klatt2", "klatt3", "Alex", "Andy", "Annie", "Gene", "Lee", "Mario", "Michael", "Denis",
        "Jacky", "anika", "belinda", "david", "ed", "linda", "max", "rob", "shelby", "steph",
        "travis", "zac", "whisper", "croak", "boris", "aunty", "grandpa", "paul",
    )  # fmt: skip
    SYNCHRONOUS, PHONEME_EVENTS, PHONEME_IPA, UTF8 = 2, 1, 2, 1
    RATE, PITCH, RANGE = 1, 3, 4
    LIST_TERMINATED, PHONEME = 0, 7
    MARKS = ("ʲ", "ᵑ", "ⁿ", "ᵐ")
    """Events of their own that belong to the phone before."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libespeak-ng.so.1")
        except OSError as error:
            raise EngineMissingError("apt-get install libespeak-ng1") from error
        options = self.PHONEME_EVENTS | self.PHONEME_IPA
        self._rate_hz = self._library.espeak_Initialize(self.SYNCHRONOUS, 500, None, options)
        self._callback = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)
        self._sound: list[NDArray[np.int16]] = []
        self._events: list[tuple[int, str]] = []
        self._sources: dict[str, TextSource] = {}
        self.unknown: Counter[str] = Counter()

    def speak(self, attempt: int, generator: Generator) -> list[Utterance]:
        kind = generator.random()
        others = self.OTHER_LANGUAGES if kind < 0.45 else self.COMMON_LANGUAGES
        language = one_of(("en-us", "en") if kind < 0.2 else others, generator)
        variant = one_of(self.VARIANTS, generator)
        base = language.split("-")[0]
        if base not in self._sources:
            self._sources[base] = TextSource(base)
        text = self._sources[base].text(generator)
        if self._library.espeak_SetVoiceByName(f"{language}+{variant}".encode()) != 0:
            return []
        for parameter, low, high in (
            (self.RATE, 110, 231),
            (self.PITCH, 20, 86),
            (self.RANGE, 20, 81),
        ):
            self._library.espeak_SetParameter(parameter, int(generator.integers(low, high)), 0)
        self._sound.clear()
        self._events.clear()
        encoded = text.encode()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, self.UTF8, None, None)
        if not self._sound or any(symbol.startswith("(") for _, symbol in self._events):
            return []  # "(en)" marks a word that this language cannot read
        lead, tail = generator.integers(2000, 9000, 2)
        sound = np.concatenate([np.zeros(lead, np.int16), *self._sound, np.zeros(tail, np.int16)])
        segments = restore_closures(
            self._segments(int(lead), len(sound) - int(tail)), sound, self._rate_hz
        )
        return make_utterance(
            sound.astype(np.float32) / 32768.0,
            self._rate_hz,
            segments,
            f"espeak:{language}+{variant}",
            held_out=variant in HELD_OUT_VARIANTS,
        )

    def _segments(self, lead: int, end: int) -> list[PhoneSegment]:
        """Events to segments; a "pause" of under 20 ms is a seam between words and no silence."""
        starts = [(sample + lead) / self._rate_hz for sample, _ in self._events]
        ends = [*starts[1:], end / self._rate_hz]
        segments: list[PhoneSegment] = []
        for (_, symbol), start, stop in zip(self._events, starts, ends, strict=True):
            pause = symbol.strip("_:") == ""
            if stop <= start or (pause and segments and stop - start < SHORTEST_PHONE_SECONDS):
                phones: tuple[Phone, ...] = ()
            elif pause:
                phones = (Phone.SILENCE,)
            else:
                phones = ipa_phones(symbol)
                if not phones and symbol not in self.MARKS:
                    self.unknown[symbol] += 1
            if phones:
                segments.append(PhoneSegment(symbol, start, stop, phones))
            elif segments:
                segments[-1] = segments[-1]._replace(end_seconds=stop)
        return segments

    def _receive(self, wave: Any, count: int, events: Any) -> int:
        if count > 0:
            self._sound.append(np.ctypeslib.as_array(wave, (count,)).copy())
        index = 0
        while events[index].type != self.LIST_TERMINATED:
            if events[index].type == self.PHONEME:
                symbol = bytes(events[index].id.text).decode("utf-8", "ignore")
                self._events.append((events[index].sample, symbol))
            index += 1
        return 0


class Flite:
    """flite's four built-in English speakers."""

    VOICES = ("kal16", "awb", "rms", "slt")
    HELD_OUT = "awb"

    def __init__(self) -> None:
        if shutil.which("flite") is None:
            raise EngineMissingError("apt-get install flite")
        self._source = TextSource("en", letters="a-z0-9")
        self._folder = tempfile.TemporaryDirectory()
        self.unknown: Counter[str] = Counter()

    def speak(self, attempt: int, generator: Generator) -> list[Utterance]:
        voice = one_of(self.VOICES, generator)
        wave = Path(self._folder.name) / "speech.wav"
        stretch = f"duration_stretch={generator.uniform(0.8, 1.35):.2f}"
        pitch = f"int_f0_target_mean={generator.uniform(85, 230):.0f}"
        command = ["flite", "-voice", voice, "--setf", stretch, "--setf", pitch]
        command += ["-t", self._source.text(generator), "-psdur", "-o", str(wave)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            return []
        segments, start = [], 0.0
        for entry in done.stdout.split():
            symbol, _, end = entry.rpartition(":")
            phones = arpabet_phones(symbol)
            if not phones:
                self.unknown[symbol] += 1
            segments.append(PhoneSegment(symbol, start, float(end), phones))
            start = float(end)
        rate_hz, sound = read_wave(wave)
        held_out = voice == self.HELD_OUT
        return make_utterance(sound, rate_hz, segments, f"flite:{voice}", held_out=held_out)


class FestivalVoice(NamedTuple):
    """A voice, its language and phones, and what text it takes."""

    name: str
    language: str
    phone_set: PhoneSet
    encoding: str
    letters: str = ""


class Festival:
    """festival's voices: diphone, unit selection and statistical ones, in nine languages."""

    VOICES = (
        FestivalVoice("kal_diphone", "en", "arpabet", "ascii", "a-z0-9"),
        FestivalVoice("ked_diphone", "en", "arpabet", "ascii", "a-z0-9"),
        FestivalVoice("cmu_us_slt_arctic_hts", "en", "arpabet", "ascii", "a-z0-9"),
        FestivalVoice("lp_diphone", "it", "italian", "latin-1", "a-zàèéìòù"),
        FestivalVoice("pc_diphone", "it", "italian", "latin-1", "a-zàèéìòù"),
        FestivalVoice("hy_fi_mv_diphone", "fi", "finnish", "latin-1", "a-zäö"),
        FestivalVoice("suo_fi_lj_diphone", "fi", "finnish", "latin-1", "a-zäö"),
        FestivalVoice("czech_dita", "cs", "czech", "iso8859-2", "a-záčďéěíňóřšťúůýž"),
        FestivalVoice("czech_krb", "cs", "czech", "iso8859-2", "a-záčďéěíňóřšťúůýž"),
        FestivalVoice("czech_machac", "cs", "czech", "iso8859-2", "a-záčďéěíňóřšťúůýž"),
        FestivalVoice("czech_ph", "cs", "czech", "iso8859-2", "a-záčďéěíňóřšťúůýž"),
        FestivalVoice("upc_ca_ona_hts", "ca", "catalan", "latin-1", "a-zàçèéíïòóúü"),
        FestivalVoice("msu_ru_nsh_clunits", "ru", "russian", "utf-8", "\u0430-\u044fё"),
        FestivalVoice("hindi_NSK_diphone", "hi", "indic", "utf-8", "\u0900-\u0963"),
        FestivalVoice("telugu_NSK_diphone", "te", "indic", "utf-8", "\u0c00-\u0c63"),
        FestivalVoice("marathi_NSK_diphone", "mr", "indic", "utf-8", "\u0900-\u0963"),
    )
    HELD_OUT = ("pc_diphone", "czech_ph")
    BATCH = 8
    """Utterances per start of festival."""

    def __init__(self) -> None:
        if shutil.which("festival") is None:
            raise EngineMissingError("apt-get install festival")
        installed = {path.name for path in Path("/usr/share/festival/voices").glob("*/*")}
        self._voices = [voice for voice in self.VOICES if voice.name in installed]
        if not self._voices:
            raise EngineMissingError("it has no voices, apt-get install festvox-kallpc16k")
        self._sources: dict[str, TextSource] = {}
        self.unknown: Counter[str] = Counter()

    def speak(self, attempt: int, generator: Generator) -> list[Utterance]:
        voice = self._voices[attempt % len(self._voices)]
        if voice.language not in self._sources:
            english = voice.language == "en"
            source = TextSource(voice.language, letters=voice.letters, numbers=english)
            self._sources[voice.language] = source
        lines = [f"(voice_{voice.name})"]
        with tempfile.TemporaryDirectory() as folder:
            for index in range(self.BATCH):
                text = self._sources[voice.language].text(generator)
                base = f"{folder}/{index}"
                lines += [
                    f"(Parameter.set 'Duration_Stretch {generator.uniform(0.85, 1.3):.2f})",
                    f'(unwind-protect (begin (set! u (utt.synth (Utterance Text "{text}")))'
                    f' (utt.save.wave u "{base}.wav" \'riff) (utt.save.segs u "{base}.segs")) nil)',
                ]
            program = Path(folder) / "speak.scm"
            program.write_bytes("\n".join(lines).encode(voice.encoding, "ignore"))
            command = ["festival", "-b", str(program)]
            try:
                subprocess.run(command, capture_output=True, check=False, timeout=120)
            except subprocess.TimeoutExpired:
                print(f"festival: {voice.name} hangs; its batch is cut short", file=sys.stderr)
            return [
                utterance
                for path in sorted(Path(folder).glob("*.segs"), key=lambda path: int(path.stem))
                for utterance in self._read(path, voice)
            ]

    def _read(self, path: Path, voice: FestivalVoice) -> list[Utterance]:
        segments, start = [], 0.0
        for line in path.read_text("latin-1").splitlines():
            fields = line.split()
            if len(fields) != 3:
                continue
            phones = festival_phones(fields[2], voice.phone_set)
            if not phones:
                self.unknown[f"{voice.phone_set} {fields[2]}"] += 1
            segments.append(PhoneSegment(fields[2], start, float(fields[0]), phones))
            start = float(fields[0])
        rate_hz, sound = read_wave(path.with_suffix(".wav"))
        held_out = voice.name in self.HELD_OUT
        name = f"festival:{voice.name}"
        return make_utterance(sound, rate_hz, segments, name, held_out=held_out)


def read_wave(path: Path) -> tuple[int, NDArray[np.float32]]:
    rate_hz, samples = wavfile.read(path)
    return rate_hz, samples.astype(np.float32) / 32768.0


ENGINES: dict[str, Callable[[], Engine]] = {
    "espeak": Espeak,
    "flite": Flite,
    "festival": Festival,
}


def attempts(engine: Engine, number: int, seed: int, first: int) -> Iterator[list[Utterance]]:
    """Utterances of attempt ``first`` and the following, named ``attempt.index``."""
    attempt = first
    while True:
        spoken = engine.speak(attempt, np.random.default_rng([seed, number, attempt]))
        yield [u._replace(name=f"{attempt:06d}.{index}") for index, u in enumerate(spoken)]
        attempt += 1


def fill(path: Path, engine: Engine, number: int, seed: int, hours: float) -> None:
    """Add utterances to a corpus file until it has that many hours."""
    utterances: list[Utterance] = []
    if path.exists():
        corpus = read_phone_corpus(path)
        utterances = [
            Utterance(
                *corpus.item(index),
                str(corpus.names[index]),
                str(corpus.voices[index]),
                bool(corpus.held_out[index]),
            )
            for index in range(len(corpus))
        ]
    first = int(utterances[-1].name.split(".")[0]) + 1 if utterances else 0
    labels_per_hour = 3600 * LABELS_PER_SECOND
    wanted, done = hours * labels_per_hour, sum(len(u.labels) for u in utterances)
    saved, began = done, time.monotonic()
    for spoken in attempts(engine, number, seed, first) if done < wanted else ():
        utterances += spoken
        done += sum(len(u.labels) for u in spoken)
        if done >= wanted or done - saved > SAVE_EVERY_HOURS * labels_per_hour:
            join_utterances(utterances).write(path)
            saved = done
            elapsed = time.monotonic() - began
            print(f"{path}: {done / labels_per_hour:.2f} h after {elapsed:.0f} s", flush=True)
        if done >= wanted:
            break
    if engine.unknown:
        print(f"{path}: phones without a class: {dict(engine.unknown.most_common(20))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="for espeak.npz, flite.npz, festival.npz")
    parser.add_argument("--espeak-hours", type=float, default=2.0)
    parser.add_argument("--flite-hours", type=float, default=0.5)
    parser.add_argument("--festival-hours", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for number, (name, engine) in enumerate(ENGINES.items()):
        hours = getattr(options, f"{name}_hours")
        if hours <= 0:
            continue
        try:
            fill(options.folder / f"{name}.npz", engine(), number, options.seed, hours)
        except EngineMissingError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
