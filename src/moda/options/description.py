"""How an option is described, and what follows from its description: limits and conversion."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from moda.errors import InputError
from moda.options.texts import Speaker

Command = Literal["generate", "dub", "reenact", "export"]


def require_range(name: str, value: float, low: float, high: float) -> None:
    """Raise :class:`InputError` unless ``low <= value <= high``."""
    if not low <= value <= high:
        raise InputError(
            f"{name} {_shown(value)} is outside {low:g}..{high:g}; choose a value inside"
        )


def _shown(value: float) -> str:
    """A number in a message; whole ones may be larger than any float."""
    try:
        return f"{value:g}"
    except OverflowError:
        return f"{'-' if value < 0 else ''}1e{math.log10(abs(value)):.0f}"


@dataclass(frozen=True, eq=False, repr=False)
class Option:
    """What an option is called, what it means, and where it is offered."""

    help: str
    """``{limits}`` is replaced by the limits."""
    low: float | None = None
    high: float | None = None
    _: KW_ONLY
    keyword: bool = True
    """Whether it decides what frames look like: a keyword of ``TalkingHead.generate``."""
    name: str | None = None
    """On the command line and in tables, where it is not that of the field."""
    flag: str | None = None
    """``--yes/--no``"""
    metavar: str | None = None
    label: str | None = None
    """In messages and on the page."""
    usual: str | None = None
    """What None stands for."""
    variable: str | None = None
    """Of the environment."""
    parse: Callable[[str], Any] | None = None
    """Makes the value of a text, where the type alone does not say how."""
    parse_many: Callable[[Sequence[str]], Any] | None = None
    """The same for an option that may be given again."""
    only: Literal["mesh", "neural"] | None = None
    """The renderer that has it."""
    also: tuple[Command, ...] = ()
    """Commands besides ``generate`` that take it."""
    private: bool = False
    """Not for visitors of a page or a server: it names a file here, or is the operator's."""
    visitors_high: float | None = None
    """The limit for visitors, where it is lower."""


class DescribedOption(NamedTuple):
    """A field of :class:`VideoOptions` with its description."""

    field: str
    option: Option
    kinds: tuple[Any, ...]
    """Types of its values, None left out."""
    default: Any

    @property
    def name(self) -> str:
        """On the command line and in tables, with underscores."""
        return self.option.name or self.field

    @property
    def label(self) -> str:
        return self.option.label or self.field.replace("_", " ")

    @property
    def flag(self) -> str:
        return self.option.flag or "--" + self.name.replace("_", "-")

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that a value may be."""
        return tuple(word for kind in self.kinds for word in get_args(kind) if type(word) is str)

    @property
    def limits(self) -> str:
        return f"{self.option.low:g} to {self.option.high:g}" if self.option.high else ""

    @property
    def visitors_high(self) -> float | None:
        return self.option.visitors_high or self.option.high

    @property
    def help(self) -> str:
        return self.option.help.format(limits=self.limits)

    @property
    def visitors_help(self) -> str:
        """The help with the limits of visitors."""
        high = self.visitors_high
        return self.option.help.format(limits=f"{self.option.low:g} to {high:g}" if high else "")

    def check(self, value: Any) -> None:
        """Raise :class:`InputError` for a value outside the limits."""
        low, high = self.option.low, self.option.high
        if isinstance(value, str) and self.choices:
            if value not in self.choices:
                raise InputError(
                    f"unknown {self.label} {value!r}; choose {' or '.join(self.choices)}"
                )
        elif low is not None and isinstance(value, int | float):
            if high is None and value < low:
                raise InputError(
                    f"{self.label} {_shown(value)} is below {low:g}; choose {low:g} or more"
                )
            require_range(self.label, value, low, float("inf") if high is None else high)

    def convert(self, value: Any, folder: Path) -> Any:
        """A text, or texts, as a value; values as they are. Relative files are in ``folder``.

        Raises:
            InputError: The text is not one of this option.
        """
        parse, parse_many = self.option.parse, self.option.parse_many
        if parse_many is not None and _are_texts(value):
            texts = value.split(";") if isinstance(value, str) else value
            parsed = parse_many([text.strip() for text in texts])
            return _in_folder(parsed, folder)
        if not isinstance(value, str):
            return value
        if parse is not None:
            return parse(value)
        try:
            if bool in self.kinds:
                return _TRUTH[value.strip().lower()]
            if Path in self.kinds:
                return Path(value) if value == "-" else folder / value
            if int in self.kinds or float in self.kinds:
                return int(value) if int in self.kinds else float(value)
        except (KeyError, ValueError):
            expected = "yes or no" if bool in self.kinds else "a number"
            name = self.name.replace("_", "-")
            raise InputError(f"{name} {value!r} is not {expected}") from None
        return value


def _are_texts(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)
    )


def _in_folder(parsed: Any, folder: Path) -> Any:
    if isinstance(parsed, tuple) and parsed and isinstance(parsed[0], Speaker):
        return tuple(Speaker(face, folder / speech) for face, speech in parsed)
    return parsed


_TRUTH = {"yes": True, "true": True, "1": True, "on": True} | {
    "no": False, "false": False, "0": False, "off": False,
}  # fmt: skip


@cache
def described(kind: type) -> Mapping[str, DescribedOption]:
    """The fields of a dataclass that are described, by their names, in their order."""
    found = {}
    hints = get_type_hints(kind, include_extras=True)
    for entry in fields(kind):
        if get_origin(hints[entry.name]) is not Annotated:
            continue
        value, option = get_args(hints[entry.name])
        is_union = isinstance(value, UnionType) or type(None) in get_args(value)
        kinds = tuple(k for k in (get_args(value) if is_union else (value,)) if k is not type(None))
        found[entry.name] = DescribedOption(entry.name, option, kinds, entry.default)
    return found


def check_limits(options: object, kind: type) -> None:
    """Raise :class:`InputError` for a value that is outside the limits of the field of ``kind``."""
    known = described(kind)
    for name, value in vars(options).items():
        if name in known:
            known[name].check(value)
