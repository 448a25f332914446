"""Parameters that commands share; those of videos are made from :data:`moda.options.OPTIONS`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from moda.options import OPTIONS, Command, DescribedOption, of_command
from moda.options.description import described

PortraitFile = Annotated[
    Path, typer.Argument(metavar="PORTRAIT", help="Picture with a face (jpg, png, webp, ...).")
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="Video to write (.mp4, .mov, .mkv, .webm, .gif); replaced."
    ),
]
OneFace = Annotated[
    int | None,
    typer.Option(
        "--face", help="Which face, from left to right from 1.", show_default="the largest"
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
"""What was given of the options of a command, by the names of their fields."""
Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def takes_video_options(command: Command) -> Decorator:
    """Put the options of a video that a command takes in the place of a parameter ``given``.

    The function's own parameters come before options of the same name.
    """
    return _takes([OPTIONS[name] for name in of_command(command)])


def takes_fields(kind: type) -> Decorator:
    """Put the described fields of a dataclass in the place of a parameter ``given``."""
    return _takes(described(kind).values())


def _takes(options: Iterable[DescribedOption]) -> Decorator:
    """A function with many parameters in the place of one, which is gathered from them."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function, eval_str=True).parameters
        parameters = [_parameter(known) for known in options if known.field not in own]
        signature: list[inspect.Parameter] = []
        for parameter in own.values():
            if parameter.name == "given":
                signature += parameters
            else:
                signature.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

        @functools.wraps(function)
        def run(**values: Any) -> None:
            taken = {one.name: values.pop(one.name) for one in parameters}
            given = {name: value for name, value in taken.items() if value not in (None, (), [])}
            function(**values, given=given)

        run.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in signature}
        return run

    return decorate


def _parameter(known: DescribedOption) -> inspect.Parameter:
    """A parameter of typer; what is more than a number, a flag or a file stays a text."""
    option, default = known.option, known.default
    kind: Any = next((kind for kind in (bool, float, Path, list[Path]) if kind in known.kinds), str)
    if int in known.kinds and option.parse is None:
        kind = int
    if option.parse_many is not None:
        kind, default = list[str], None
    optional = kind if default is not None else kind | None
    info = typer.Option(
        known.flag,
        help=known.help,
        metavar=option.metavar,
        envvar=option.variable,
        show_default=option.usual or default is not None,
    )
    return inspect.Parameter(
        known.field,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[optional, info],
    )
