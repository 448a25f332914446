"""Low-rank adapters (LoRA, arXiv 2106.09685): a person's way of moving in few numbers.

``W x`` becomes ``W x + (s / r) B A x`` with ``A`` (r, in), ``B`` (out, r): only A and B learn. peft
puts them into the network; merged into W they cost nothing, and the model is a usual checkpoint.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor, nn

from moda.errors import InputError, MissingExtraError
from moda.motion.model import MotionTransformer
from moda.motion.variants.building import build_model

if TYPE_CHECKING:
    from types import ModuleType

MARK = "lora_"
MAX_RANK = 256


def require_adapters(rank: int) -> None:
    """See that adapters of this rank can be made, before anything takes time.

    Raises:
        InputError: the rank is impossible.
        MissingExtraError: peft is not installed.
    """
    if not 1 <= rank <= MAX_RANK:
        raise InputError(f"the rank of the adapter is {rank}; it must be in 1..{MAX_RANK}")
    _peft()


def add_adapters(model: MotionTransformer, rank: int) -> None:
    """Give every linear layer that learns an adapter that changes nothing yet; freeze all else.

    What was fitted in closed form, such as the mouth of a speech reader, learns no step and gets
    none. The scale s is the rank, so that learning rates carry over between ranks.

    Raises:
        InputError: the rank is impossible.
        MissingExtraError: peft is not installed.
    """
    require_adapters(rank)
    peft = _peft()
    linear = [
        name
        for name, module in model.named_modules()
        if type(module) is nn.Linear and module.weight.requires_grad
    ]
    config = peft.LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=linear)
    peft.inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(MARK in name)


def merged(model: MotionTransformer) -> MotionTransformer:
    """A usual model whose linear layers have the adapters added to their weights.

    The model with the adapters stays as it is.
    """
    plain = build_model(model.config)
    plain.load_state_dict(dict(_merged_weights(model)))
    return plain.train(model.training)


def _merged_weights(model: MotionTransformer) -> Iterator[tuple[str, Tensor]]:
    adapted = copy.deepcopy(model)
    for module in adapted.modules():
        if hasattr(module, "base_layer"):
            module.merge()  # type: ignore[operator]
    for name, value in adapted.state_dict().items():
        if MARK not in name:
            yield name.replace(".base_layer.", "."), value


def _peft() -> ModuleType:
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError(
            "low-rank adapters need the package peft; in MoDA's folder run: pip install '.[train]'"
        ) from error
    return peft
