"""Plugin that hides torch and what comes with it: ``pytest -p without_torch``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

HIDDEN = ("torch", "einops", "scipy")
_find_spec = PathFinder.find_spec


def find_spec(
    name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
) -> ModuleSpec | None:
    """As the finder that stands in ``sys.meta_path``, but for what is hidden."""
    return None if name in HIDDEN else _find_spec(name, path, target)


PathFinder.find_spec = staticmethod(find_spec)  # type: ignore[method-assign, assignment]
