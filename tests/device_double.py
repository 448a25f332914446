"""A device that is none: as strict as a GPU on a machine without one.

What lies on it is kept on the CPU, so that results can be compared. As Apple's GPUs it has no
float64. As every GPU it refuses to compute with tensors of the host, and to be read without a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten

NAME = "mps"
"""Known to torch, without events and streams, and without float64."""
AS_NUMBERS = ("item", "tolist", "__bool__", "__float__", "__int__")
AS_ARRAY = ("numpy", "__array__")
ACROSS = ("copy_", "__set__", "_has_compatible_shallow_copy_type")
"""What takes tensors of both: copies between them, and what is asked before one."""


class DeviceDouble(TorchFunctionMode):
    """Tensors that are moved to ``mps`` lie on it while the context lasts.

    Attributes:
        copies: from and to the host, ``in`` and ``out``, in their order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[str] = []
        self._storages: dict[int, torch.UntypedStorage] = {}
        """Of what lies on the device; kept, so that no other takes an address."""

    def has(self, values: Tensor) -> bool:
        """Whether a tensor lies on the device."""
        with torch._C.DisableTorchFunction():
            return values.untyped_storage()._cdata in self._storages

    def put(self, values: Tensor) -> None:
        """Let a tensor lie on the device."""
        with torch._C.DisableTorchFunction():
            if values.dtype in (torch.float64, torch.complex128):
                raise TypeError("the device has no float64; use float32")
            storage = values.untyped_storage()
            self._storages[storage._cdata] = storage

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        tensors = list(_tensors((args, kwargs)))
        on_device = [values for values in tensors if self.has(values)]
        if name == "__get__":
            return self._property(func, args[0], on_device)
        if name in ("to", "_to_copy", "cpu"):
            return self._move(func, args, kwargs, on_device)
        wanted = _name_of(kwargs.get("device"))
        if wanted == NAME:
            kwargs["device"] = "cpu"
        if on_device:
            self._require_together(name, tensors)
        result = func(*args, **kwargs)
        if wanted == NAME or (on_device and wanted is None):
            for values in _tensors(result):
                self.put(values)
        return result

    def _property(self, func: Any, values: Any, on_device: list[Tensor]) -> Any:
        owner = getattr(func, "__self__", None)
        kind = getattr(owner, "__name__", "")
        result = func(values)
        if on_device and kind == "device":
            return torch.device(NAME)
        if on_device and kind == "is_cpu":
            return False
        if on_device and isinstance(result, Tensor):
            self.put(result)
        return result

    def _move(self, func: Any, args: Any, kwargs: Any, on_device: list[Tensor]) -> Any:
        """``to`` and ``cpu``: the device, the type, or both as those of another tensor."""
        values, *others = args
        wanted = "cpu" if func.__name__ == "cpu" else _name_of(kwargs.get("device"))
        is_here = bool(on_device) and self.has(values)
        for index, other in enumerate(others):
            if isinstance(other, Tensor):
                wanted = NAME if self.has(other) else "cpu"
            elif isinstance(other, str | torch.device):
                wanted = _name_of(other)
                others[index] = "cpu" if wanted == NAME else other
        if wanted == NAME:
            kwargs = {**kwargs, **({"device": "cpu"} if "device" in kwargs else {})}
        result = func(values, *others, **kwargs)
        stays = wanted is None or (wanted == NAME) == is_here
        if not stays:
            result = result.clone() if result is values else result
            self.copies.append("in" if wanted == NAME else "out")
        if wanted == NAME or (wanted is None and is_here):
            self.put(result)
        return result

    def _require_together(self, name: str, tensors: list[Tensor]) -> None:
        if name in AS_ARRAY:
            raise TypeError("a tensor of the device is read as an array; copy it to the host")
        if name in AS_NUMBERS:
            self.copies.append("out")
        if name in ACROSS:
            return
        for values in tensors:
            if not self.has(values) and values.ndim:
                raise RuntimeError(f"{name} is given tensors of the device and of the host")


class GeneratorDouble(torch.Generator):
    """In the place of ``torch.Generator``: that of the device draws what one of the host does."""

    def __new__(cls, device: Any = "cpu") -> GeneratorDouble:
        return super().__new__(cls, "cpu" if _name_of(device) == NAME else device)


def _name_of(device: Any) -> str | None:
    return None if device is None else torch.device(device).type


def _tensors(values: Any) -> Iterator[Tensor]:
    leaves: Iterable[Any] = tree_flatten(values)[0]
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            yield leaf
