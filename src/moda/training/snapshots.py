"""The states that a training can go on from: written whole or not at all, the last few kept."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import torch

from moda.errors import CheckpointError, OutputError

PATTERN = "step-*.pt"


class Snapshot(NamedTuple):
    """What :meth:`Snapshots.read` finds."""

    path: Path
    step: int
    state: dict[str, Any]


class Snapshots:
    """Numbered files ``step-00000500.pt`` in a folder of their own."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep

    def paths(self) -> list[Path]:
        """From the oldest to the newest."""
        return sorted(self._folder.glob(PATTERN))

    def write(self, step: int, state: dict[str, Any]) -> Path:
        """Write a state, then remove all but the newest ones.

        A kill at any moment, or a power cut, leaves the files of before and perhaps a partial one,
        which the next state replaces. Raises :class:`OutputError`.
        """
        path = self._folder / f"step-{step:08d}.pt"
        partial = self._folder / "writing.partial"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save({"step": step, **state}, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            for old in self.paths()[: -self._keep]:
                old.unlink()
        except (OSError, RuntimeError) as error:
            raise OutputError(f"cannot write {path}: {error}") from error
        return path

    def read(self, device: torch.device | str = "cpu") -> Snapshot | None:
        """The newest state, None if there is none. Raises :class:`CheckpointError`."""
        paths = self.paths()
        if not paths:
            return None
        path = paths[-1]
        try:
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
            return Snapshot(path, int(state.pop("step")), state)
        except (RuntimeError, OSError, KeyError, ValueError, pickle.UnpicklingError) as error:
            raise CheckpointError(
                f"{path} is damaged: {error}; remove it to go on from the one before"
            ) from error
