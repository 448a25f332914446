"""Plugin that hides torch, as in an environment without it: ``pytest -p without_torch``."""

import sys

for name in ("torch", "einops"):
    sys.modules[name] = None  # type: ignore[assignment]
