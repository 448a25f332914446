"""Complete talking faces by their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from moda.devices import check_device, choose_device, require_torch
from moda.encoders.face import FaceModels
from moda.errors import InputError
from moda.motion.onnx_network import has_graph
from moda.systems.embedded import EmbeddedSystem
from moda.systems.protocol import FaceSystem, MotionCheckpoint
from moda.weights.catalogue import find_model
from moda.weights.motion_files import read_motion_file
from moda.weights.onnx_checkpoints import onnx_checkpoint

DEFAULT_MODELS: Mapping[str, str] = {"mesh": "moda-tiny", "neural": "moda-base"}
"""The model that goes with each renderer."""


def load_system(
    name_or_path: str | Path, device: str, precision: str, compat: str | None
) -> FaceSystem:
    """A system by the name of its model or from a file.

    On a CPU, where ``auto`` computes models of the mesh space, onnxruntime runs those of
    moda-tiny's configuration, and torch all others. Options and errors are those of
    :meth:`moda.TalkingHead.from_pretrained`.
    """
    check_device(device)
    path = name_or_path
    if name_or_path == "moda-base":
        require_torch("the model moda-base, for the neural renderer,")
        path = find_model("moda-base")
    file = read_motion_file(path)
    is_mesh = file.space.name == "mesh"
    if is_mesh and device == "auto":
        device = "cpu"
    if is_mesh and device == "cpu" and has_graph(file.config.motion):
        _refuse_published_options(file.config.name, precision, compat)
        return EmbeddedSystem(onnx_checkpoint(file), FaceModels())
    kind = "whose network has not the sizes of moda-tiny" if is_mesh else "for the neural renderer"
    require_torch(f"the model {file.config.name}, {kind},")
    from moda.weights.checkpoints import checkpoint_of

    device = choose_device(device)
    return system_of(checkpoint_of(file, device), device, precision, compat)


def system_of(
    checkpoint: MotionCheckpoint, device: str, precision: str = "float32", compat: str | None = None
) -> FaceSystem:
    """The system of a checkpoint; errors are those of :func:`load_system`."""
    if checkpoint.space.name == "neural":
        from moda.systems.published import load_published_system

        return load_published_system(checkpoint, device, precision, compat)
    _refuse_published_options(checkpoint.config.name, precision, compat)
    return EmbeddedSystem(checkpoint, FaceModels(device))


def _refuse_published_options(name: str, precision: str, compat: str | None) -> None:
    if precision != "float32" or compat is not None:
        raise InputError(
            f"precision {precision} and compat {compat} are options of moda-base, not of "
            f"{name}; leave them out, or choose moda-base"
        )
