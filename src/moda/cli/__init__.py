"""The command line: one module for each group of commands."""

from moda.cli.entry import app, main

__all__ = [
    "app",
    "main",
]
