"""A model and its renderer by their names, as the command line takes them."""

from __future__ import annotations

import torch

from moda.errors import InputError
from moda.pipeline import DEFAULT_MODELS, TalkingHead


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
    if renderer not in (None, head.system.renderer):
        raise InputError(
            f"the {renderer} renderer cannot draw the motion of {name}, which is made for the "
            f"{head.system.renderer} renderer; choose {DEFAULT_MODELS[renderer]}, or leave "
            "--renderer out"
        )
    if head.system.renderer == "mesh":
        # A network this small gains nothing from more threads, and their busy waiting takes the
        # processor from the renderer and the encoder: a window takes 0.6 s of processor time on
        # one, 12 s on two.
        torch.set_num_threads(1)
    return head
