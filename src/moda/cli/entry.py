"""The command line: the commands of the modules beside it, and how errors leave it.

Exit codes: 0 done, 2 something the user can put right (one line on standard error), 1 a bug (with
a traceback), 130 interrupted. Heavy imports are inside the commands, so that help is quick.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from moda.cli import (
    doctor,
    dub,
    evaluate,
    evaluate_controls,
    evaluate_videos,
    generate,
    models,
    prepare,
    serve,
    train,
    web,
)
from moda.errors import ModaError
from moda.version import __version__

EXIT_USER_ERROR, EXIT_INTERRUPTED = 2, 130

app = typer.Typer(
    name="moda",
    help="A portrait and a speech recording become a talking-head video.",
    epilog="Example: moda generate portrait.jpg speech.wav -o talk.mp4",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _moda(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        typer.echo(f"moda {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


generate.register(app)
dub.register(app)
doctor.register(app)
models.register(app)
prepare.register(app)
evaluate.register(app)
evaluate_controls.register(app)
serve.register(app)
train.register(app)
evaluate_videos.register(app)
web.register(app)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point of the ``moda`` command."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _terminate)
    try:
        code = app(args=arguments, prog_name="moda", standalone_mode=False)
    except (ModaError, KeyboardInterrupt, typer.Abort) as error:
        code = EXIT_INTERRUPTED
        if isinstance(error, ModaError):
            _complain(str(error))
            code = EXIT_USER_ERROR
    except Exception as error:
        # What typer raises for wrong arguments has this method, in all its versions.
        describe = getattr(error, "format_message", None)
        if describe is None:
            raise
        _complain(f"{describe().rstrip('.')}; see moda --help")
        code = EXIT_USER_ERROR
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str) -> None:
    line = " ".join(message.split())
    sys.stderr.write(f"moda: {line}\n")


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Leave by an exception, so that a half-written video is removed."""
    sys.exit(128 + number)
