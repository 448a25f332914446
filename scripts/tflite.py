"""Read TensorFlow Lite files: a small FlatBuffers and FlexBuffers reader, nothing else needed.

Field numbers and operator codes are those of TensorFlow's ``schema.fbs``, version 3.
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

Constant = NDArray[Any]


class Table:
    """A FlatBuffers table: fields by their number in the schema."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position
        self.fields = position - struct.unpack_from("<i", data, position)[0]
        self.fields_size = struct.unpack_from("<H", data, self.fields)[0]

    def _locate(self, number: int) -> int:
        """Position of a field, 0 if it is absent."""
        entry = 4 + 2 * number
        if entry >= self.fields_size:
            return 0
        offset: int = struct.unpack_from("<H", self.data, self.fields + entry)[0]
        return self.position + offset if offset else 0

    def _follow(self, number: int) -> int:
        """Position that an offset field points to, 0 if the field is absent."""
        at = self._locate(number)
        return at + int(struct.unpack_from("<I", self.data, at)[0]) if at else 0

    def number(self, number: int, kind: str) -> int:
        """A scalar of the ``struct`` kind; 0 if absent."""
        at = self._locate(number)
        return int(struct.unpack_from("<" + kind, self.data, at)[0]) if at else 0

    def table(self, number: int) -> Table | None:
        at = self._follow(number)
        return Table(self.data, at) if at else None

    def array(self, number: int, dtype: str) -> Constant:
        """A vector of scalars; empty if absent."""
        at = self._follow(number)
        if not at:
            return np.empty(0, dtype)
        return np.frombuffer(
            self.data, dtype, struct.unpack_from("<I", self.data, at)[0], at + 4
        ).copy()

    def tables(self, number: int) -> list[Table]:
        at = self._follow(number)
        if not at:
            return []
        count = struct.unpack_from("<I", self.data, at)[0]
        places = range(at + 4, at + 4 + 4 * count, 4)
        return [Table(self.data, p + struct.unpack_from("<I", self.data, p)[0]) for p in places]

    def text(self, number: int) -> str:
        return self.array(number, "u1").tobytes().decode()


class FlexBuffer:
    """Reads the FlexBuffers map that a custom operator keeps its options in."""

    SIGNED, UNSIGNED, REAL = 1, 2, 3
    MAP = 9
    TYPED_VECTORS: ClassVar = {11: SIGNED, 12: UNSIGNED, 13: REAL}
    FORMATS: ClassVar = {
        SIGNED: {1: "<b", 2: "<h", 4: "<i", 8: "<q"},
        UNSIGNED: {1: "<B", 2: "<H", 4: "<I", 8: "<Q"},
        REAL: {2: "<e", 4: "<f", 8: "<d"},
    }

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self) -> dict[str, Any]:
        *_, packed_type, width = self.data
        value = self._value(len(self.data) - 2 - width, width, packed_type)
        if not isinstance(value, dict):
            raise ValueError("the options are not a map")
        return value

    def _scalar(self, at: int, width: int, kind: int) -> Any:
        return struct.unpack_from(self.FORMATS[kind][width], self.data, at)[0]

    def _value(self, at: int, width: int, packed_type: int) -> Any:
        kind, child_width = packed_type >> 2, 1 << (packed_type & 3)
        if kind in self.FORMATS:
            return self._scalar(at, width, kind)
        start = at - self._scalar(at, width, self.UNSIGNED)
        count = self._scalar(start - child_width, child_width, self.UNSIGNED)
        places = [start + i * child_width for i in range(count)]
        if kind in self.TYPED_VECTORS:
            return [self._scalar(p, child_width, self.TYPED_VECTORS[kind]) for p in places]
        if kind != self.MAP:
            raise ValueError(f"FlexBuffers type {kind} is not supported")
        types = self.data[start + count * child_width :]
        values = [self._value(p, child_width, t) for p, t in zip(places, types, strict=False)]
        return dict(zip(self._keys(start, child_width, count), values, strict=True))

    def _keys(self, start: int, width: int, count: int) -> list[str]:
        key_width = self._scalar(start - 2 * width, width, self.UNSIGNED)
        keys_at = start - 3 * width
        keys_at -= self._scalar(keys_at, width, self.UNSIGNED)
        result = []
        for at in range(keys_at, keys_at + count * key_width, key_width):
            text = at - self._scalar(at, key_width, self.UNSIGNED)
            result.append(self.data[text : self.data.index(0, text)].decode())
        return result


class Tensor(NamedTuple):
    name: str
    shape: tuple[int, ...]
    value: Constant | None


class Operator(NamedTuple):
    kind: str
    inputs: list[int]
    output: int
    options: Table | None
    custom_options: bytes

    def option(self, number: int, kind: str = "i") -> int:
        return self.options.number(number, kind) if self.options else 0


class TfliteModel(NamedTuple):
    tensors: list[Tensor]
    operators: list[Operator]
    input: int
    outputs: list[int]


BUILTIN_OPERATORS = {
    0: "ADD", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 6: "DEQUANTIZE",
    14: "LOGISTIC", 17: "MAX_POOL_2D", 18: "MUL", 19: "RELU", 22: "RESHAPE",
    23: "RESIZE_BILINEAR", 34: "PAD", 40: "MEAN", 45: "STRIDED_SLICE", 54: "PRELU",
    117: "HARD_SWISH",
}  # fmt: skip
CUSTOM_OPERATOR = 32
TENSOR_TYPES = {0: "<f4", 1: "<f2", 2: "<i4"}


def read_tflite(data: bytes) -> TfliteModel:
    """Parse a ``.tflite`` file of one graph; dequantised constants keep their float16."""
    model = Table(data, struct.unpack_from("<I", data, 0)[0])
    (graph,) = model.tables(2)
    buffers = model.tables(4)
    tensors = [_read_tensor(table, buffers) for table in graph.tables(0)]
    kinds = []
    for code in model.tables(1):
        number = max(code.number(0, "b"), code.number(3, "i"))
        kinds.append(code.text(1) if number == CUSTOM_OPERATOR else BUILTIN_OPERATORS[number])
    operators = []
    for table in graph.tables(3):
        inputs = [int(i) for i in table.array(1, "<i4") if i >= 0]
        (output,) = (int(i) for i in table.array(2, "<i4"))
        kind = kinds[table.number(0, "I")]
        if kind == "DEQUANTIZE":
            tensors[output] = tensors[output]._replace(value=tensors[inputs[0]].value)
            continue
        custom_options = table.array(5, "u1").tobytes()
        operators.append(Operator(kind, inputs, output, table.table(4), custom_options))
    (input_index,) = (int(i) for i in graph.array(1, "<i4"))
    return TfliteModel(tensors, operators, input_index, [int(i) for i in graph.array(2, "<i4")])


def _read_tensor(table: Table, buffers: list[Table]) -> Tensor:
    shape = tuple(int(size) for size in table.array(0, "<i4"))
    raw = buffers[table.number(2, "I")].array(0, "u1")
    value = None
    if raw.size:
        value = np.frombuffer(raw.tobytes(), TENSOR_TYPES[table.number(1, "b")]).reshape(shape)
    return Tensor(table.text(3), shape, value)
