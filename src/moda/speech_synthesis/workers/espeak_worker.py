"""A process of its own around the library of espeak-ng: text in, samples and times out.

It is started by :mod:`moda.speech_synthesis.espeak` as a file, without anything of the package:
espeak-ng is under the GPL and C code that reads any text, so neither its licence nor a crash
reaches the program. Standard input is one JSON object, standard output one line of JSON and then
16-bit little-endian samples. Times are sample numbers.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

SYNCHRONOUS, PHONEME_EVENTS, PHONEME_IPA, UTF8 = 2, 1, 2, 1
DO_NOT_EXIT = 0x8000
TIED_IPA = 0x82 | ord("^") << 8
"""Phonemes as IPA with ``^`` between the letters of one sound."""
RATE, PITCH = 1, 3
WORD, PHONEME, LIST_TERMINATED = 1, 7, 0
LIBRARIES = (
    "libespeak-ng.so.1",
    "libespeak-ng.so",
    "libespeak-ng.dylib",
    "/opt/homebrew/lib/libespeak-ng.dylib",
    "libespeak-ng.dll",
    r"C:\Program Files\eSpeak NG\libespeak-ng.dll",
)
PACKAGE = "espeakng_loader"
"""A package of Python that brings the library and its data; it is never imported."""


class PhonemeName(ctypes.Union):
    """The last field of an event."""

    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("text", ctypes.c_char * 8))


class Event(ctypes.Structure):
    """espeak_EVENT of espeak-ng/speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", PhonemeName),
    )


class Voice(ctypes.Structure):
    """espeak_VOICE of espeak-ng/speak_lib.h, as far as it is read."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event)
)


def load_library() -> tuple[Any, bytes | None]:
    """The library and the folder of its data (None: its usual one); no library if there is none.

    That of the system counts more than that of the package.
    """
    named = os.environ.get("MODA_ESPEAK_LIBRARY")
    for name in (named,) if named else (*LIBRARIES, ctypes.util.find_library("espeak-ng")):
        try:
            if name:
                return ctypes.CDLL(name), None
        except OSError:
            continue
    package = None if named else importlib.util.find_spec(PACKAGE)
    for place in package.submodule_search_locations or () if package else ():
        for suffix in ("so", "dylib", "dll"):
            for path in Path(place).glob(f"*espeak-ng.{suffix}"):
                return ctypes.CDLL(str(path)), os.fsencode(place)
    return None, None


def languages(library: Any) -> dict[str, str]:
    """The languages that espeak-ng speaks here, sorted, with their names in English."""
    # A priority of one byte, a name that ends in 0; only the first of each voice is its own.
    found = {
        ctypes.string_at(voice.languages + 1).decode(): voice.name.decode()
        for voice in voices(library, None)
    }
    return {code: found[code] for code in sorted(found) if code and code != "variant"}


def variants(library: Any) -> list[str]:
    """Names by which a voice can be changed, sorted: the files of the folder ``!v``."""
    wanted = ctypes.create_string_buffer(b"variant")
    specification = Voice(languages=ctypes.cast(wanted, ctypes.c_void_p))
    found = voices(library, ctypes.byref(specification))
    return sorted({voice.identifier.decode().replace("\\", "/").split("/")[-1] for voice in found})


def choose_voice(library: Any, wanted: str) -> bool:
    """Choose a voice by its name, or by its language, with or without a variant behind a plus."""
    language, plus, variant = wanted.partition("+")
    names = [language]
    for voice in voices(library, None):
        if ctypes.string_at(voice.languages + 1).decode() == language:
            names.append(voice.identifier.decode().replace("\\", "/").split("/")[-1])
    return any(
        library.espeak_SetVoiceByName(f"{name}{plus}{variant}".encode()) == 0 for name in names
    )


def voices(library: Any, specification: Any) -> list[Voice]:
    """What ``espeak_ListVoices`` tells: pointers up to one that is null."""
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(Voice))
    pointers = library.espeak_ListVoices(specification)
    found: list[Voice] = []
    while pointers[len(found)]:
        found.append(pointers[len(found)].contents)
    return found


def speak(library: Any, rate_hz: int, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Speak a text; what was said when, and the samples."""
    sound = bytearray()
    phones: list[tuple[str, int]] = []
    words: list[tuple[int, int]] = []

    def receive(wave: Any, count: int, events: Any) -> int:
        if count > 0:
            sound.extend(ctypes.string_at(wave, 2 * count))
        index = 0
        while events[index].type != LIST_TERMINATED:
            event = events[index]
            if event.type == PHONEME:
                phones.append((bytes(event.id.text).decode("utf-8", "ignore"), event.sample))
            elif event.type == WORD:
                words.append((event.text_position - 1, event.sample))
            index += 1
        return 0

    callback = CALLBACK(receive)
    library.espeak_SetSynthCallback(callback)
    if not choose_voice(library, str(request["voice"])):
        return {"error": "voice"}, b""
    library.espeak_SetParameter(RATE, int(request["words_per_minute"]), 0)
    text = str(request["text"]).encode()
    library.espeak_Synth(text, len(text) + 1, 0, 1, 0, UTF8, None, None)
    return {"rate_hz": rate_hz, "phones": phones, "words": words}, bytes(sound)


def phonemes(library: Any, request: dict[str, Any]) -> dict[str, Any]:
    """What is said for each of some texts, in IPA."""
    if not choose_voice(library, str(request["voice"])):
        return {"error": "voice"}
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    said = []
    for text in request["phonemes"]:
        left = ctypes.c_char_p(text.encode())
        parts = []
        while left.value:
            part = library.espeak_TextToPhonemes(ctypes.byref(left), UTF8, TIED_IPA)
            parts.append((part or b"").decode("utf-8", "ignore").strip())
        said.append(" ".join(parts))
    return {"phonemes": said}


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin.buffer)
    library, data = load_library()
    header: dict[str, Any] = {"error": "missing"}
    sound = b""
    if library is not None:
        options = PHONEME_EVENTS | PHONEME_IPA | DO_NOT_EXIT
        rate_hz = library.espeak_Initialize(SYNCHRONOUS, 500, data, options)
        if rate_hz <= 0:
            header = {"error": "data"}
        elif "phonemes" in request:
            header = phonemes(library, request)
        elif "text" in request:
            header, sound = speak(library, rate_hz, request)
        else:
            header = {"languages": languages(library), "variants": variants(library)}
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + sound)


if __name__ == "__main__":
    main()
