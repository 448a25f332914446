"""The exception tree. Everything a user can cause derives from :class:`ModaError`.

The command line prints such an error as one line and exits with code 2. A message names the
value, the limit and the remedy.
"""

from __future__ import annotations


class ModaError(Exception):
    """Base of all errors that a user can cause."""


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
