"""The exception tree. Everything a user can cause derives from :class:`ModaError`.

The command line prints such an error as one line and exits with code 2. A message names the
value, the limit and the remedy.
"""

from __future__ import annotations

import traceback
from pathlib import Path


class ModaError(Exception):
    """Base of all errors that a user can cause."""

    def __str__(self) -> str:
        """In one line, whatever of the user's input is quoted."""
        return " ".join(line.strip() for line in super().__str__().splitlines() if line.strip())


def describe_fault(error: Exception) -> str:
    """One line on an error that no user has caused, where one job of many must not stop the rest.

    The traceback goes to the standard error.
    """
    traceback.print_exception(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    text = " ".join(str(error).split())
    return f"a fault of MoDA, {type(error).__name__} at {where}: {text}; please report it"


class InputError(ModaError):
    """An option or argument has a value that cannot be used."""


class MediaError(ModaError):
    """A picture, sound or video cannot be read, or is outside the limits."""


class OutputError(ModaError):
    """The result cannot be written: no folder, no permission, no space."""


class FaceError(ModaError):
    """A picture shows no face, or not the face asked for."""


class CheckpointError(ModaError):
    """Weights are missing, damaged, or do not fit the configuration."""


class ConfigError(ModaError):
    """A configuration file has an unknown key or a value of the wrong type."""


class MissingExtraError(ModaError):
    """An optional part is not installed; the message says the command that installs it."""
