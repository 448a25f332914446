"""Options by their names, from whichever door they come."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from moda.errors import InputError
from moda.options.description import Command, DescribedOption, described, require_range
from moda.options.video import VideoOptions

OPTIONS: Mapping[str, DescribedOption] = described(VideoOptions)
"""By the names of the fields, in the order in which they are shown."""
Renderer = Literal["mesh", "neural"]
_FIELDS = {name: known.field for known in OPTIONS.values() for name in (known.field, known.name)}


def field_name(name: str) -> str:
    """``--steps``, ``Steps`` and ``num_steps`` are the field ``num_steps``; others stay."""
    plain = re.sub(r"[- ]", "_", name.strip().removeprefix("--").lower())
    return _FIELDS.get(plain, plain)


def read_options(
    values: Mapping[str, Any],
    *,
    start: VideoOptions | None = None,
    allowed: Iterable[str] = tuple(OPTIONS),
    folder: Path = Path(),
) -> VideoOptions:
    """Options by their names, as texts or as values that are what they should be.

    Args:
        values: Names of the command line or of fields.
        start: The other options; None are the defaults.
        allowed: Fields that may be named.
        folder: Of relative files.

    Raises:
        InputError: A name is unknown, or a value is wrong.
    """
    allowed = tuple(allowed)
    chosen = {}
    for given, value in values.items():
        name = field_name(given)
        if name not in allowed:
            raise InputError(f"unknown option {given!r}; known are {', '.join(allowed)}")
        chosen[name] = OPTIONS[name].convert(value, folder)
    return replace(start or VideoOptions(), **chosen)


def of_command(command: Command) -> tuple[str, ...]:
    """The fields that a command takes."""
    return tuple(
        name
        for name, known in OPTIONS.items()
        if command == "generate" or command in known.option.also
    )


def of_head(command: Command = "generate") -> tuple[str, ...]:
    """The fields that decide what frames look like: the keywords in Python."""
    return tuple(name for name in of_command(command) if OPTIONS[name].option.keyword)


def for_visitors(renderer: Renderer | None = None) -> tuple[str, ...]:
    """The fields that visitors of a page or a server may set, with one renderer or with any."""
    return tuple(
        name
        for name, known in OPTIONS.items()
        if not known.option.private and (renderer is None or known.option.only in (None, renderer))
    )


def read_visitor_options(values: Mapping[str, Any]) -> VideoOptions:
    """Options of a visitor of a page or a server, within the limits for visitors.

    Raises:
        InputError: As :func:`read_options`.
    """
    options = read_options(values, allowed=for_visitors())
    for known in OPTIONS.values():
        low, high, value = known.option.low, known.visitors_high, getattr(options, known.field)
        if low is None or high is None or value is None:
            continue
        if isinstance(value, str):
            raise InputError(f"{known.label} {value!r} is no number; give {low:g} to {high:g}")
        if isinstance(value, int | float):
            require_range(known.label, value, low, high)
    return options


def document(keywords: Sequence[str]) -> str:
    """The part of a docstring that says what keywords mean."""
    lines = ["", "        Options:"]
    for name in keywords:
        usual = OPTIONS[name].option.usual
        default = f" None: {usual}." if usual else ""
        lines.append(f"            {name}: {OPTIONS[name].help}{default}")
    return "\n".join(lines) + "\n"
