"""What a run says of itself: one line of JSON per logged step, and the same for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from moda.files import write_text
from moda.strict_json import parse_json
from moda.structures import Picture

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG = "log.jsonl"
EVENTS = "tensorboard"


class RunLog:
    """Writes ``log.jsonl``, and the folder ``tensorboard`` where that package is installed.

    What an interrupted run logged after its last snapshot is taken out, for it happens again.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        self._path = folder / LOG
        _keep_until(self._path, step)
        self._file = self._path.open("a", encoding="utf-8")
        self._events = _writer(folder / EVENTS, step)

    @property
    def has_tensorboard(self) -> bool:
        return self._events is not None

    def close(self) -> None:
        """Write what is still held back."""
        self._file.close()
        if self._events is not None:
            self._events.close()

    def scalars(self, values: Mapping[str, float]) -> None:
        """The values of one step, among them ``step``."""
        rounded = {key: float(f"{value:.7g}") for key, value in values.items()}
        self._file.write(json.dumps(rounded) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in values.items():
                if name != "step":
                    self._events.add_scalar(name, value, int(values["step"]))

    def picture(self, name: str, picture: Picture, step: int) -> None:
        """A picture (H, W, 3) for TensorBoard."""
        if self._events is not None:
            self._events.add_image(name, picture, step, dataformats="HWC")
            self._events.flush()


def _keep_until(path: Path, step: int) -> None:
    kept = [line for line in _lines(path) if line["step"] <= step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def _lines(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(parse_json(text))
        except ValueError:
            break
    return lines


def _writer(folder: Path, step: int) -> SummaryWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
