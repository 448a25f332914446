"""The command line: which commands there are, and how errors leave it.

Exit codes: 0 done, 2 something the user can put right (one line on standard error), 1 a bug (with
a traceback), 130 interrupted. The module of a command is imported when the command is asked for.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from types import FrameType
from typing import Annotated, Any, ClassVar, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from moda.errors import ModaError
from moda.version import __version__

EXIT_USER_ERROR, EXIT_INTERRUPTED = 2, 130
TORCH_PARTS = ("torch", "einops")
"""Packages that the built-in system does without."""


class LazyGroup(TyperGroup):
    """Lists commands by their first sentences; imports the module of one that is asked for."""

    lines: ClassVar[dict[str, str]]
    """The first sentence of each command."""
    modules: ClassVar[dict[str, str]]
    """Where commands are that are not in a module of their own name."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        listed = {name: TyperCommand(name, help=line) for name, line in self.lines.items()}
        self.commands = {**listed, **self.commands}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments begin with, before it runs or shows its help."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and self.load(args[0]), rest

    def load(self, name: str) -> Any:
        """A command with its parameters, or a group of them."""
        if name not in self.lines:
            return self.commands[name]
        module = self.modules.get(name, name).replace("-", "_")
        return get_group(import_module(f"moda.cli.{module}").app).commands[name]


class Commands(LazyGroup):
    """``moda``."""

    lines: ClassVar = {
        "demo": "Make the example video: the Mona Lisa speaks with a synthetic voice.",
        "generate": "Make a portrait speak.",
        "reenact": "Make a portrait move like the face in a video.",
        "dub": "Give the face in a video new lips for other speech.",
        "export": "Write visemes and ARKit blend shapes of speech, for a 3D avatar.",
        "doctor": "Check the installation: versions, devices, models, and one rendered frame.",
        "prepare": "Follow the faces of talking videos for training.",
        "evaluate": "Measure a motion model on held-out speakers.",
        "evaluate-renderer": "Measure the renderer by itself, without a motion model.",
        "evaluate-controls": "Measure on rendered frames what each control of generate changes.",
        "serve": "Serve talking heads: live over WebSocket and WebRTC, and videos on request.",
        "train": "Train a motion model.",
        "finetune": "Teach a model the way one person speaks and moves.",
        "train-expert": "Train the network that tells whether lips and speech belong together.",
        "evaluate-videos": "Compare talking videos of any method with real ones.",
        "web": "Serve a web page that makes talking videos.",
        "voices": "List the voices that speak a text here, or write a sample of each.",
    }
    modules: ClassVar = {
        "demo": "generate",
        "reenact": "generate",
        "evaluate-renderer": "evaluate",
        "finetune": "train",
        "train-expert": "train",
    }


class ModelCommands(LazyGroup):
    """Published models for the neural renderer and for natural voices: get and check them."""

    lines: ClassVar = {
        "list": "List the published models, their licences, and which of them are here.",
        "download": "Download published models and convert them.",
        "convert": "Convert official files that are on disk already.",
        "verify": "Read models anew and compare them with their recorded hashes.",
    }
    modules: ClassVar = dict.fromkeys(lines, "models")


class WeightCommands(LazyGroup):
    """Networks of others that some metrics need."""

    lines: ClassVar = {
        "list": "List the networks, what they are for, their licences, and which of them are here.",
        "convert": "Check and convert files that were downloaded.",
    }
    modules: ClassVar = dict.fromkeys(lines, "evaluate_weights")


app = typer.Typer(
    name="moda",
    cls=Commands,
    help="A portrait and a speech recording become a talking-head video.",
    epilog="Example: moda generate portrait.jpg speech.wav -o talk.mp4",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, kind in {"models": ModelCommands, "evaluate-weights": WeightCommands}.items():
    app.add_typer(typer.Typer(cls=kind, help=kind.__doc__, no_args_is_help=True), name=name)


@app.callback(invoke_without_command=True)
def _moda(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        typer.echo(f"moda {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point of the ``moda`` command."""
    # What numpy's linear algebra has to do is small: its threads would wait busily for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
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
    except ModuleNotFoundError as error:
        if error.name not in TORCH_PARTS:
            raise
        _complain(
            "this needs PyTorch, which is not installed; in MoDA's folder run: pip install "
            "'.[train]', or '.[neural]' for the neural renderer alone"
        )
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
