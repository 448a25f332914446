"""Networks as graphs that onnxruntime computes; the weights come from elsewhere.

``scripts/export_networks.py`` makes the graphs and lists the weights that each takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from moda.structures import Floats

WEIGHT_LISTS = "graphs.json"
"""Names of the weights by the name of the graph, and shapes of all of a motion network."""
MOTION = "motion"
ASSETS = resources.files("moda") / "assets"
TRANSPOSED = ".T"
"""End of the name where the graph takes the transpose of a matrix."""


class Graph:
    """A graph of the package with weights by their names, run on one thread.

    Networks this small gain nothing from more threads, which would take the processor from the
    renderer and the encoder. Calls are safe from several threads.
    """

    def __init__(self, name: str, weights: Mapping[str, NDArray[Any]]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False
        names = _lists()[name]
        arrays = [_array(weights, weight) for weight in names]  # the session copies them
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays]
        options.add_external_initializers(names, values)
        graph, providers = (ASSETS / name).read_bytes(), ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(graph, options, providers=providers)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[Floats]:
        """All outputs, in their order."""
        outputs: list[Floats] = self._session.run(None, inputs)
        return outputs


class Kind(NamedTuple):
    """Of a tensor."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.float32]


def weights_of_motion() -> dict[str, Kind]:
    """The weights that a motion network of moda-tiny's configuration has."""
    single = np.dtype(np.float32)
    return {name: Kind(tuple(shape), single) for name, shape in _lists()[MOTION].items()}


@cache
def _lists() -> Any:
    return json.loads((ASSETS / WEIGHT_LISTS).read_text(encoding="utf-8"))


def _array(weights: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    is_transposed = name.endswith(TRANSPOSED)
    array = weights[name.removesuffix(TRANSPOSED)]
    return np.ascontiguousarray(array.T if is_transposed else array)
