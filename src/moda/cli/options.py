"""Parameters that commands share; those of videos are made from :data:`moda.options.OPTIONS`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from moda.options import OPTIONS, Command, DescribedOption, of_command

PortraitFile = Annotated[
    Path, typer.Argument(metavar="PORTRAIT", help="Picture with a face (jpg, png, webp, ...).")
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="Video to write (.mp4, .mov, .mkv, .webm, .gif); replaced."
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", help=OPTIONS["model"].help, show_default=OPTIONS["model"].option.usual or False
    ),
]
Device = Annotated[str, typer.Option(help=OPTIONS["device"].help)]

# Many videos
BatchList = Annotated[
    Path | None,
    typer.Option(
        "--batch",
        metavar="LIST.csv",
        help="Make all the videos of a table: portrait, speech or text, output, and options.",
    ),
]
Workers = Annotated[
    int, typer.Option(help="Of a batch: how many videos are made at the same time.")
]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Make a batch on a Ray cluster, or local."),
]


Given = Mapping[str, Any]
"""What was given of the options of a video, by the names of their fields."""


def takes_video_options(command: Command) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Put the options of a video that a command takes in the place of a parameter ``given``.

    The function's own parameters come before options of the same name.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function).parameters
        parameters = [_parameter(OPTIONS[name]) for name in of_command(command) if name not in own]
        return _spread(function, "given", parameters, _given)

    return decorate


def takes_fields(place: str, kind: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Put the fields of a dataclass, annotated for typer, in the place of a parameter."""
    hints = get_type_hints(kind, include_extras=True)
    parameters = [
        inspect.Parameter(
            entry.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=entry.default,
            annotation=hints[entry.name],
        )
        for entry in fields(kind)
    ]
    return lambda function: _spread(function, place, parameters, lambda values: kind(**values))


def _given(values: dict[str, Any]) -> Given:
    return {name: value for name, value in values.items() if value not in (None, (), [])}


def _spread(
    function: Callable[..., None],
    place: str,
    parameters: Sequence[inspect.Parameter],
    gather: Callable[[dict[str, Any]], Any],
) -> Callable[..., None]:
    """A function with many parameters in the place of one, which is gathered from them."""
    signature: list[inspect.Parameter] = []
    for own in inspect.signature(function, eval_str=True).parameters.values():
        if own.name == place:
            signature += parameters
        else:
            signature.append(own.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(function)
    def run(**values: Any) -> None:
        gathered = gather({one.name: values.pop(one.name) for one in parameters})
        function(**values, **{place: gathered})

    run.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in signature}
    return run


def _parameter(described: DescribedOption) -> inspect.Parameter:
    """A parameter of typer; what is more than a number, a flag or a file stays a text."""
    option, default = described.option, described.default
    kind: Any = next((kind for kind in (bool, float, Path) if kind in described.kinds), str)
    if int in described.kinds and option.parse is None:
        kind = int
    if option.parse_many is not None:
        kind, default = list[str], None
    optional = kind if default is not None else kind | None
    info = typer.Option(
        described.flag,
        help=described.help,
        metavar=option.metavar,
        envvar=option.variable,
        show_default=option.usual or default is not None,
    )
    return inspect.Parameter(
        described.field,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[optional, info],
    )
