"""Complete talking faces by their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from moda.devices import choose_device
from moda.encoders.face import FaceModels
from moda.errors import InputError
from moda.systems.embedded import EmbeddedSystem
from moda.systems.protocol import FaceSystem
from moda.systems.published import load_published_system
from moda.weights.catalogue import find_model
from moda.weights.checkpoints import Checkpoint, load_checkpoint

DEFAULT_MODELS: Mapping[str, str] = {"mesh": "moda-tiny", "neural": "moda-base"}
"""The model that goes with each renderer."""


def load_system(
    name_or_path: str | Path, device: str, precision: str, compat: str | None
) -> FaceSystem:
    """A system by the name of its model or from a file.

    Options and errors are those of :meth:`moda.TalkingHead.from_pretrained`.
    """
    device = choose_device(device)
    path = find_model(name_or_path) if name_or_path == "moda-base" else name_or_path
    return system_of(load_checkpoint(path, device), device, precision, compat)


def system_of(
    checkpoint: Checkpoint, device: str, precision: str = "float32", compat: str | None = None
) -> FaceSystem:
    """The system of a checkpoint; errors are those of :func:`load_system`."""
    if checkpoint.space.name == "neural":
        return load_published_system(checkpoint, device, precision, compat)
    if precision != "float32" or compat is not None:
        raise InputError(
            f"precision {precision} and compat {compat} are options of moda-base, not of "
            f"{checkpoint.config.name}; leave them out, or choose moda-base"
        )
    return EmbeddedSystem(checkpoint, FaceModels(device))
