"""A model and its renderer by their names, as the command line takes them."""

from __future__ import annotations

from moda.errors import InputError
from moda.pipeline.talking_head import TalkingHead
from moda.systems.loading import DEFAULT_MODELS


def load_head(
    model: str | None,
    renderer: str | None,
    device: str,
    precision: str = "float32",
    compat: str | None = None,
) -> TalkingHead:
    """Load a model; the renderer chooses it where the model is not given.

    Raises:
        InputError: The renderer is unknown, or draws another kind of motion than the model makes.
    """
    if renderer is not None and renderer not in DEFAULT_MODELS:
        raise InputError(
            f"unknown renderer {renderer!r}; choose one of {', '.join(DEFAULT_MODELS)}"
        )
    name = model or DEFAULT_MODELS[renderer or "mesh"]
    head = TalkingHead.from_pretrained(name, device=device, precision=precision, compat=compat)
    if renderer not in (None, head.space.name):
        raise InputError(
            f"the {renderer} renderer cannot draw the motion of {name}, which is made for the "
            f"{head.space.name} renderer; choose {DEFAULT_MODELS[renderer]}, or leave "
            "--renderer out"
        )
    return head
