"""A network with the doors of Kokoro's: every symbol lasts 2 frames, a voice is a level.

Written field by field, as the package ``onnx`` is not needed elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

FLOAT, INT64 = 1, 7
FRAME, RATE_HZ = 600, 24_000
LEVELS = {"af_heart": 0.25, "am_adam": 0.5, "ff_siwis": 0.125}
"""Voices, and the samples that they make."""


def write_kokoro(folder: Path, *, rounds: bool = True, one_file: bool = False) -> Path:
    """A folder as ``MODA_KOKORO`` names it; without a node that rounds nobody knows the times."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(_model(rounds))
    styles = {name: np.full((510, 1, 256), level, "<f4") for name, level in LEVELS.items()}
    if one_file:
        with (folder / "voices-v1.0.bin").open("wb") as file:
            np.savez(file, **styles)
        return folder
    (folder / "voices").mkdir()
    for name, style in styles.items():
        style.tofile(folder / "voices" / f"{name}.bin")
    return folder


def _model(rounds: bool) -> bytes:
    nodes = [
        _node("Cast", ["tokens"], "as_float", to=FLOAT),
        _node("Mul", ["as_float", "zero"], "nothing"),
        _node("Add", ["nothing", "two"], "usual"),
        _node("Div", ["usual", "speed"], "longer"),
        _node("Round" if rounds else "Floor", ["longer"], "frames"),
        _node("ReduceSum", ["frames"], "all_frames"),
        _node("Mul", ["all_frames", "frame"], "count"),
        _node("Cast", ["count"], "as_count", to=INT64),
        _node("Reshape", ["as_count", "one"], "shape"),
        _node("ConstantOfShape", ["shape"], "silence"),
        _node("ReduceMax", ["style"], "level_kept"),
        _node("Reshape", ["level_kept", "one"], "level"),
        _node("Add", ["silence", "level"], "audio"),
    ]
    constants = [_constant(name, np.float32(value)) for name, value in _NUMBERS.items()]
    constants.append(_constant("one", np.array([1], np.int64)))
    inputs = [("tokens", INT64, (1, "n")), ("style", FLOAT, (1, 256)), ("speed", FLOAT, (1,))]
    graph = b"".join(
        [*(_bytes(1, node) for node in nodes), _bytes(2, b"kokoro")]
        + [_bytes(5, constant) for constant in constants]
        + [_bytes(11, _value(*entry)) for entry in inputs]
        + [_bytes(12, _value("audio", FLOAT, ("samples",)))]
    )
    return _number(1, 8) + _bytes(8, _bytes(1, b"") + _number(2, 17)) + _bytes(7, graph)


_NUMBERS = {"zero": 0.0, "two": 2.0, "frame": float(FRAME)}


def _node(operation: str, inputs: list[str], output: str, to: int = 0) -> bytes:
    node = b"".join(_bytes(1, name.encode()) for name in inputs) + _bytes(2, output.encode())
    attribute = _bytes(5, _bytes(1, b"to") + _number(3, to) + _number(20, 2)) if to else b""
    return node + _bytes(4, operation.encode()) + attribute


def _constant(name: str, value: np.generic | np.ndarray) -> bytes:
    kind = INT64 if value.dtype == np.int64 else FLOAT
    sizes = b"".join(_number(1, size) for size in value.shape)
    return sizes + _number(2, kind) + _bytes(8, name.encode()) + _bytes(9, value.tobytes())


def _value(name: str, kind: int, shape: tuple[int | str, ...]) -> bytes:
    sizes = b"".join(
        _bytes(1, _number(1, size) if isinstance(size, int) else _bytes(2, size.encode()))
        for size in shape
    )
    tensor = _number(1, kind) + _bytes(2, sizes)
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, tensor))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])
