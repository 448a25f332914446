"""A process of its own around Kokoro's network: numbers of symbols in, samples and durations out.

Started as a file by :mod:`moda.speech_synthesis.kokoro`, so that its memory goes when it has
spoken. It speaks the same protocol as ``espeak_worker.py``: one JSON object in, one line of JSON
and 16-bit samples out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

RATE_HZ = 24_000
SAMPLES_PER_FRAME = 600
"""A symbol lasts a whole number of frames of 25 ms."""
STYLE_SIZE = 256
GRAPH, NODE, OUTPUT, OPERATION, GRAPH_OUTPUT = 7, 1, 2, 4, 12
"""Numbers of fields in the file format of ONNX."""


def fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields of a protobuf message that have a length: their numbers and contents."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = number()
        kind = key & 7
        if kind == 2:
            size = number()
            yield key >> 3, data[at : at + size]
            at += size
        elif kind == 0:
            number()
        else:
            at += 8 if kind == 1 else 4


def rounded_output(model: bytes) -> bytes | None:
    """The name of what the one node that rounds makes: the durations of the symbols, in frames."""
    graphs = [content for field, content in fields(memoryview(model)) if field == GRAPH]
    names = []
    for field, node in fields(graphs[0]):
        if field == NODE:
            parts = list(fields(node))
            if any(part == OPERATION and bytes(name) == b"Round" for part, name in parts):
                names += [bytes(name) for part, name in parts if part == OUTPUT]
    return names[0] if len(names) == 1 else None


def with_output(model: bytes, name: bytes) -> bytes:
    """The model with one more output: messages of protobuf are merged by writing them together."""

    def field(number: int, content: bytes) -> bytes:
        size, left = b"", len(content)
        while left > 127:
            size += bytes([left & 127 | 128])
            left >>= 7
        return bytes([number << 3 | 2]) + size + bytes([left]) + content

    return model + field(GRAPH, field(GRAPH_OUTPUT, field(1, name)))


def read_style(path: Path, voice: str) -> Any:
    """(N, 256) the style of a voice for texts of 1 to N symbols, from its file or that of all."""
    if path.suffix == ".npz" or path.read_bytes()[:2] == b"PK":
        with np.load(path, allow_pickle=False) as voices:
            return voices[voice].astype(np.float32).reshape(-1, STYLE_SIZE)
    return np.fromfile(path, "<f4").reshape(-1, STYLE_SIZE)


def speak(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Speak groups of symbols; the samples and the frames of each symbol of each group."""
    model = Path(request["model"]).read_bytes()
    rounded = rounded_output(model)
    if rounded is not None:
        model = with_output(model, rounded)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    tokens = next(entry.name for entry in session.get_inputs() if "int64" in entry.type)
    styles = read_style(Path(request["style"]), request["voice"])
    sound, counts, frames = [], [], []
    for numbers in request["groups"]:
        style = styles[min(len(numbers), len(styles)) - 1][None]
        speed = np.array([request["rate"]], np.float32)
        values = {tokens: np.array([[0, *numbers, 0]]), "style": style, "speed": speed}
        samples, *others = session.run(None, values)
        samples = np.asarray(samples, np.float32).reshape(-1)
        lasted = np.maximum(1, others[0].reshape(-1)).astype(int).tolist() if others else []
        if sum(lasted) * SAMPLES_PER_FRAME != len(samples):
            lasted = []
        frames.append(lasted)
        counts.append(len(samples))
        sound.append(np.round(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2").tobytes())
    header = {"rate_hz": RATE_HZ, "counts": counts, "frames": frames}
    return header, b"".join(sound)


def main() -> None:
    """Answer the request on standard input; whatever libraries print goes to standard error."""
    answer, sys.stdout = sys.stdout.buffer, sys.stderr
    header, sound = speak(json.load(sys.stdin.buffer))
    answer.write(json.dumps(header).encode() + b"\n" + sound)


if __name__ == "__main__":
    main()
