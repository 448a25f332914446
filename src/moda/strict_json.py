"""Configurations to JSON and back, strictly, and JSON files that are whole.

Reading refuses unknown keys, wrong types and impossible values with :class:`ConfigError`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from moda.errors import ConfigError
from moda.files import write_text

C = TypeVar("C")


def changed(config: C, changes: Mapping[str, Any], *, where: str = "") -> C:
    """The configuration with some of its keys changed, in nested objects too.

    Raises :class:`ConfigError` as :func:`from_dict` does.
    """
    return from_dict(type(config), merged(to_dict(config), changes), where=where)


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values in which ``changes`` win; objects are merged key by key, lists replaced."""
    result = dict(values)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def parse_json(text: str | bytes) -> Any:
    """The values of JSON that somebody else wrote. Raises :class:`ValueError` and nothing else."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def write_json(path: Path, values: object) -> None:
    """Write values, keys sorted, whole or not at all. Raises :class:`OutputError`."""
    write_text(path, json.dumps(values, indent=1, sort_keys=True))


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values (tuples become lists)."""
    return json.loads(json.dumps(asdict(config)))


def from_dict(kind: type[C], values: object, *, where: str = "") -> C:
    """Build a configuration from JSON values.

    A class can have a method ``upgraded`` that takes the values of earlier versions to those of
    this one. Raises :class:`ConfigError` that names the offending key: unknown, missing, of the
    wrong type, or out of range.
    """
    label = where or kind.__name__
    if not isinstance(values, Mapping):
        raise ConfigError(f"{label}: expected an object, got {_show(values)}")
    assert is_dataclass(kind)
    read: Mapping[str, Any] = getattr(kind, "upgraded", dict)(values)
    known = {item.name: item for item in fields(kind)}
    for key in read:
        if key not in known:
            raise ConfigError(f"{label}: unknown key {key!r}; known are {', '.join(known)}")
    for key, item in known.items():
        has_default = item.default is not NO_DEFAULT or item.default_factory is not NO_DEFAULT
        if key not in read and not has_default:
            raise ConfigError(f"{label}: missing key {key!r}")
    hints = get_type_hints(kind)
    arguments = {key: _convert(value, hints[key], f"{label}.{key}") for key, value in read.items()}
    return kind(**arguments)


def to_json(config: Any) -> str:
    """A configuration as readable JSON; :func:`from_json` is the inverse."""
    return json.dumps(asdict(config), indent=2)


def from_json(kind: type[C], text: str) -> C:
    """Inverse of :func:`to_json`. Raises :class:`ConfigError`."""
    try:
        values = parse_json(text)
    except ValueError as error:
        raise ConfigError(f"{kind.__name__}: not JSON: {error}") from error
    return from_dict(kind, values)


def _convert(value: object, hint: Any, where: str) -> Any:
    """One JSON value as the type of its field."""
    if is_dataclass(hint):
        return from_dict(hint, value, where=where)  # type: ignore[arg-type]
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint):
            choices = ", ".join(map(repr, get_args(hint)))
            raise ConfigError(f"{where}: expected one of {choices}, got {_show(value)}")
        return value
    if origin is Mapping:
        if not isinstance(value, Mapping):
            _reject(value, "an object", where)
        return dict(value)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            _reject(value, "a list", where)
        return tuple(_convert(item, get_args(hint)[0], where) for item in value)
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            _reject(value, "a number", where)
        if not abs(value) <= sys.float_info.max:
            _reject(value, "a finite number", where)
        return float(value)
    if type(value) is not hint:
        _reject(value, f"of type {hint.__name__}", where)
    return value


def _reject(value: object, expected: str, where: str) -> NoReturn:
    raise ConfigError(f"{where}: expected {expected}, got {_show(value)}")


def _show(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
