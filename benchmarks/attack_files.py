"""Hostile files: tiny valid ones of every kind that is read, damaged by chance, and who reads them.

A file may be read, or refused with one of MoDA's errors in one line, and nothing else. Each is read
in a process with limits on memory and time.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import resource
import signal
import struct
import traceback
import wave
import zipfile
from collections import Counter
from collections.abc import Callable
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from PIL import Image

from moda.config import ModelConfig, preset
from moda.data.corpora import read_labels
from moda.data.phone_corpus import read_phone_corpus
from moda.errors import ModaError
from moda.media import AudioReader, VideoReader, check_image, read_image
from moda.media.phone_times import read_phone_times
from moda.pipeline.batch import _read_journal, read_table
from moda.pipeline.jobs import read_text
from moda.serving.live.protocol import read_control
from moda.speech_synthesis import check_spoken_length
from moda.strict_json import from_json, to_json
from moda.training.recipe import read_recipe

READ_SECONDS = 60
"""For one file, also on a busy machine."""
MEMORY_BYTES = 8 * 2**30
"""Of addresses, which libraries take more of than of memory."""
GROWTH_MEGABYTES = 1500
"""Of resident memory by one tiny file: a picture of 60 million pixels, twice."""
AT_A_TIME = 25
"""Files of one process."""
SAMPLES, RATE = 6400, 16_000
PICTURES = {
    "png": {}, "jpg": {}, "webp": {}, "gif": {"save_all": True}, "bmp": {}, "tiff": {}, "avif": {},
}  # fmt: skip
SOUNDS = {"flac": "flac", "ogg": "libopus", "m4a": "aac", "mp3": "libmp3lame", "mka": "pcm_s16le"}
VIDEOS = {"mp4": "libx264", "mkv": "libx264", "webm": "libvpx", "avi": "mpeg4", "mov": "prores_ks"}
TEXTS = {
    "csv": "portrait,speech,text,output,size,emotion,face\nP.jpg,S.wav,,a.mp4,128,happy:0.5,1\n"
    'P.jpg,,Hello,b.mp4,,,\n"P.jpg",,,"c.mp4",64,,"1=S.wav;2=S.wav"\n',
    "tsv": "Portrait\tText\tOutput\nP.jpg\tHello [pause:1] there\td.mp4\n\t\t\n",
    "txt": "[happy] Hello! [sad:0.6] I have to go. [pause:1.5] [none] \\[x] 1,000 $ \u00e9\u4f60\n",
    "srt": "1\n00:00:00,000 --> 00:00:01,500\n<i>Hello</i> there\n\n2\n0:02.0 --> 0:03.0\nyou\n",
    "vtt": "WEBVTT\n\nNOTE x\n\nSTYLE\n::cue {}\n\n00:00.000 --> 00:01.500\n<v A>Hello</v>\n",
    "phones": "# times\n0.00 0.10 sil\n0.10\t0.25\tHH\n0.25 0.50 AH0\n0.50 0.80 L\n",
    "mfa": "Begin,End,Label,Type,Speaker\n0.0,0.1,hello,words,a\n0.0,0.1,HH,phones,a\n"
    "0.1,.2,AH0,phones,a\n",
    "TextGrid": 'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 1\n'
    'tiers? <exists>\nsize = 1\nitem []:\n item [1]:\n class = "IntervalTier"\n name = "phones"\n'
    ' xmin = 0\n xmax = 1\n intervals: size = 2\n intervals [1]:\n xmin = 0\n xmax = 0.5\n'
    ' text = "HH"\n intervals [2]:\n xmin = 0.5\n xmax = 1\n text = "AH0"\n',
    "recipe": json.dumps({"model": "moda-tiny", "clips": ["a"], "speech_embedder_from": "moda-tiny",
                          "options": {"speech_steps": 10}, "seed": 3,
                          "network": {"window": 40}, "reader": {"phone_steps": 5}}),
    "config": "{}",
    "labels": "file,speaker,emotion,sound\na.mp4,ann,happy,own\nb.mp4,bob,,none\n",
    "control": json.dumps({"type": "start", "sample_rate": 16000, "emotion": "happy",
                           "intensity": 0.5, "seed": 4, "pace": "ahead", "portrait": "p"}),
    "journal": json.dumps({"row": 2, "output": "a", "status": "made", "frames": 1, "seconds": 1.0,
                           "wall_seconds": 1.0, "message": "", "fingerprint": "f"}) + "\n",
}  # fmt: skip
TOKENS = (
    "nan", "inf", "-1", "1e999", "9" * 30, "9" * 5000, "\0", "\ufeff", "\u202e", '"', "'", ",", ";",
    "\t", "\n", "\n\n", "\r", "[", "]", "{", "}", "[pause:60]", "[happy:2]", "-->", "<exists>", ":",
    "null", "true", "\u0661", "\ud800", "\u2028", "..", "/", "\\", "=", "x" * 3000, "[[" * 200,
    "1=", "0x1", "None", "\U0001f600", "-", "1e5", "0.1e-400", "#",
    "<", "00:00:00,000 --> 00:00:00,000",
)  # fmt: skip


def tiny_files(folder: Path) -> dict[str, bytes]:
    """A valid file of every kind, by the kind."""
    found = {kind: text.encode("utf-8", "surrogatepass") for kind, text in TEXTS.items()}
    found["config"] = to_json(preset("moda-tiny")).encode()
    picture = np.zeros((64, 80, 3), np.uint8) + np.arange(80, dtype=np.uint8)[None, :, None] * 3
    for kind, options in PICTURES.items():
        into = io.BytesIO()
        image, second = Image.fromarray(picture), Image.fromarray(255 - picture)
        more: dict[str, Any] = {"append_images": [second]} if options else {}
        image.save(into, "JPEG" if kind == "jpg" else kind, **options, **more)
        found[kind] = into.getvalue()
    try:
        from pillow_heif import from_pillow
    except ImportError:
        pass
    else:
        into = io.BytesIO()
        from_pillow(Image.fromarray(picture)).save(into)
        found["heic"] = into.getvalue()
    tone = (8000 * np.sin(np.arange(SAMPLES) / 9)).astype("<i2")
    into = io.BytesIO()
    with wave.open(into, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(tone.tobytes())
    found["wav"] = into.getvalue()
    for kind, codec in (SOUNDS | VIDEOS).items():
        path = folder / f"tiny.{kind}"
        _write_media(path, codec, picture if kind in VIDEOS else None, tone)
        found[kind] = path.read_bytes()
    into = io.BytesIO()
    np.savez(
        into, samples=tone[:1600], labels=np.zeros(10, np.int8), offsets=np.array([0, 10]),
        names=np.array(["a"]), voices=np.array(["v"]), held_out=np.array([False]),
    )  # fmt: skip
    found["npz"] = into.getvalue()
    return found


def _write_media(path: Path, codec: str, picture: Any, tone: Any) -> None:
    beside = {".webm": "libopus", ".avi": "mp3"}.get(path.suffix, "aac")
    sound_codec = codec if picture is None else beside
    rate = 48_000 if sound_codec == "libopus" else RATE
    with av.open(str(path), "w", format="matroska" if path.suffix == ".mka" else None) as container:
        pictures = []
        if picture is not None:
            video: Any = container.add_stream(codec, rate=25)
            video.width, video.height = 80, 64
            video.pix_fmt = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
            pictures = [np.roll(picture, 8 * shift, axis=1) for shift in range(4)]
        sound: Any = container.add_stream(sound_codec, rate=rate, layout="mono")
        for shown in pictures:
            container.mux(video.encode(VideoFrame.from_ndarray(shown, "rgb24")))
        if pictures:
            container.mux(video.encode(None))
        frame = AudioFrame.from_ndarray(tone[None].astype(np.int16), "s16", "mono")
        frame.sample_rate = rate
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def damaged(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """A file with something wrong in it, mostly near its beginning, where the headers are."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        length = len(content)
        place = min(int(length * rng.random() ** rng.choice((1, 3))), max(length - 1, 0))
        way = rng.randrange(8)
        if not length:
            break
        if way == 0:
            content[place] ^= 1 << rng.randrange(8)
        elif way == 1:
            size = rng.choice((1, 2, 4, 8))
            value = rng.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (4 * size)))
            number = value.to_bytes(size, rng.choice(("little", "big")))
            content[place : place + size] = number[: length - place]
        elif way == 2:
            del content[place:]
        elif way == 3:
            del content[place : place + rng.randrange(1, 64)]
        elif way == 4:
            content[place:place] = content[place : place + rng.randrange(1, 400)] * rng.choice(
                (1, 9)
            )
        elif way == 5:
            content[place : place + 8] = rng.randbytes(8)
        elif way == 6:
            content[place:place] = rng.choice((bytes(64), b"\xff" * 64, struct.pack("<d", np.nan)))
        else:
            content[place:] = rng.choice(others)[place:]
    return bytes(content)


def damaged_text(rng: random.Random, data: bytes) -> bytes:
    """A text with words that nobody means, or in letters that nobody expects."""
    text = data.decode("utf-8", "surrogatepass")
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = rng.randrange(len(text) + 1)
        end = place + rng.choice((0, 0, 1, 3, 12))
        text = text[:place] + rng.choice(TOKENS) * rng.choice((1, 1, 1, 40)) + text[end:]
    encoding = rng.choice(("utf-8", "utf-8", "utf-8", "utf-16", "utf-32", "latin-1", "utf-16-le"))
    handler = "replace" if encoding == "latin-1" else "surrogatepass"
    return text.encode(encoding, handler)


def bombs() -> dict[str, bytes]:
    """Small files that want to become large."""
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as file:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "|i1", "fortran_order": False, "shape": (400 * 2**20,)}
        )
        file.writestr("samples.npy", header.getvalue() + bytes(400 * 2**20))
    wide = io.BytesIO()
    Image.new("1", (60_000, 900)).save(wide, "PNG")
    frames = io.BytesIO()
    blank = [Image.new("P", (7000, 7000)) for _ in range(3)]
    blank[0].save(frames, "GIF", save_all=True, append_images=blank[1:])
    return {
        "npz": into.getvalue(), "png": wide.getvalue(), "gif": frames.getvalue(),
        "csv": b"portrait,output\n" + b",\n" * 2_000_000, "txt": b"[pause:60]a" * 9000,
        "TextGrid": b'File type = "ooTextFile"\n"TextGrid"\n0 1 <exists> 999999999\n' + b'"' * 9999,
        "recipe": b"[" * 200_000, "control": b'{"a":' * 700 + b"1", "labels": b"file" * 500_000,
    }  # fmt: skip


def read(kind: str, path: Path) -> None:
    """Everything that MoDA does with a file of a kind before it makes anything of it.

    Raises :class:`ModaError`, and nothing else.
    """

    def sound(place: Path) -> None:
        for _ in AudioReader(place, max_seconds=60.0):
            pass

    def video(place: Path) -> None:
        for _ in islice(VideoReader(place), 100):
            pass

    def text(place: Path) -> None:
        check_spoken_length(read_text(place), 600.0)

    def picture(place: Path) -> None:
        check_image(place)
        read_image(place)

    readers: dict[str, tuple[Callable[[Path], object], ...]] = {
        **dict.fromkeys((*PICTURES, "heic"), (picture, sound)),
        **dict.fromkeys(("wav", *SOUNDS), (sound, video, picture)),
        **dict.fromkeys(VIDEOS, (video, sound, picture)),
        **dict.fromkeys(("csv", "tsv"), (lambda place: read_table(place, {}), text)),
        **dict.fromkeys(("txt", "srt", "vtt"), (text,)),
        **dict.fromkeys(("phones", "mfa", "TextGrid"), (read_phone_times,)),
        "npz": (lambda place: _use_corpus(read_phone_corpus(place)),),
        "recipe": (lambda place: read_recipe(place).config,),
        "config": (lambda place: from_json(ModelConfig, _letters(place)),),
        "labels": (read_labels,),
        "control": (lambda place: read_control(_letters(place)),),
        "journal": (_read_journal,),
    }
    refusals: list[ModaError] = []
    for reader in readers[kind]:
        try:
            reader(path)
        except ModaError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def _letters(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def _use_corpus(corpus: Any) -> None:
    for index in range(len(corpus)):
        corpus.item(index)


class Trial(NamedTuple):
    """A file to read."""

    name: str
    kind: str
    content: bytes


def trials(folder: Path, seed: str, count: int) -> list[Trial]:
    """So many damaged files, the bombs first."""
    rng = random.Random(f"files {seed}")
    valid = tiny_files(folder)
    found = [Trial(f"bomb {kind}", kind, content) for kind, content in bombs().items()]
    while len(found) < count:
        kind = rng.choice(list(valid))
        if kind in TEXTS:
            content = damaged_text(rng, valid[kind])
        else:
            content = damaged(rng, valid[kind], list(valid.values()))
        found.append(Trial(f"{seed}-{len(found)} {kind}", kind, content))
    return found[:count]


def try_files(
    folder: Path, seed: str, count: int
) -> tuple[Counter[str], Counter[str], list[str], list[str], list[str], list[str]]:
    """Read hostile files in other processes.

    Returns:
        Files by kind, results, crashes, hangs, leaks (none) and what was left.
    """
    place = folder / "hostile"
    place.mkdir()
    kinds: Counter[str] = Counter()
    results: Counter[str] = Counter()
    crashes: list[str] = []
    hangs: list[str] = []
    waiting = trials(folder, seed, count)
    context = multiprocessing.get_context("spawn")
    while waiting:
        ours, theirs = context.Pipe()
        process = context.Process(target=_read_all, args=(theirs, place))
        process.start()
        theirs.close()
        done = 0
        try:
            while done < len(waiting[:AT_A_TIME]):
                trial = waiting[done]
                ours.send(trial)
                result, said = ours.recv()
                kinds[trial.kind] += 1
                results[result] += 1
                if result == "crash":
                    crashes.append(f"{trial.name}: {said}")
                done += 1
        except (EOFError, OSError):
            process.join()
            trial = waiting[done]
            into = hangs if process.exitcode == -signal.SIGALRM else crashes
            into.append(f"{trial.name}: the process ended with {process.exitcode}")
            done += 1
        ours.close()
        process.join()
        waiting = waiting[done:]
    return kinds, results, crashes, hangs, [], [str(path) for path in place.iterdir()]


def _read_all(connection: Connection, place: Path) -> None:
    """Body of a process; one that takes too long is ended by the system."""
    os.environ["TMPDIR"] = str(place)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    (place / "P.jpg").touch()
    while (trial := _received(connection)) is not None:
        path = place / f"file.{trial.kind}"
        path.write_bytes(trial.content)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        signal.alarm(READ_SECONDS)
        try:
            read(trial.kind, path)
            result = "read", ""
        except ModaError as error:
            lines = str(error).splitlines()
            result = ("refused", "") if len(lines) == 1 else ("crash", f"not one line: {lines}")
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__}: {str(error)[:200]} at {last.filename}:{last.lineno}"
            result = "crash", said
        signal.alarm(0)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        if grown > GROWTH_MEGABYTES:
            result = "crash", f"took {grown:.0f} MB"
        path.unlink()
        connection.send(result)
    (place / "P.jpg").unlink()


def _received(connection: Connection) -> Trial | None:
    try:
        return connection.recv()
    except EOFError:
        return None
