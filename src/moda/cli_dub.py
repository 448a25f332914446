"""The command that gives footage new lips: ``moda dub``."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
