"""What speaks: the protocol of a synthesiser, and what it hands back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from moda.errors import InputError
from moda.phones import PhoneSegment
from moda.structures.words import TimedWord


@dataclass(frozen=True)
class Utterance:
    """A spoken stretch of text."""

    samples: NDArray[np.int16]  # (N,) mono
    rate_hz: int
    phones: tuple[PhoneSegment, ...] = ()
    """Empty where the synthesiser does not say them."""
    words: tuple[TimedWord, ...] = ()
    """Empty where the synthesiser does not say when they come."""

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate_hz


class Synthesiser(Protocol):
    """Speaks a text of moderate length."""

    takes_language: bool
    """Whether it speaks the language that it is told; otherwise it has one of its own."""

    def speak(self, text: str, *, language: str, voice: str | None, rate: float) -> Utterance:
        """Speak one text, ``rate`` times as fast as usual (0.5..2).

        Raises:
            InputError: The language or the voice is unknown, or the synthesiser fails.
            MissingExtraError: The synthesiser is not installed.
        """
        ...


def run_program(
    command: Sequence[str], stdin: bytes, *, name: str, timeout_seconds: float
) -> bytes:
    """Run a program without a shell; what it wrote on standard output.

    Raises:
        InputError: It is not there, fails, or takes too long.
    """
    try:
        done = subprocess.run(
            list(command),
            input=stdin,
            capture_output=True,
            check=False,
            timeout=timeout_seconds,
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"{name} has not spoken the text within {timeout_seconds:.0f} s; give less text"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be started ({error}); check the command") from None
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = lines[-1][:300] if lines else "no message"
        raise InputError(f"{name} ended with code {done.returncode}: {reason}")
    return done.stdout


def ask_worker(
    command: Sequence[str], request: dict[str, Any], *, name: str, timeout_seconds: float
) -> tuple[dict[str, Any], NDArray[np.int16]]:
    """A worker's line of JSON, and its samples.

    Raises:
        InputError: As :func:`run_program`, or the answer is not of that form.
    """
    stdin = json.dumps(request).encode()
    answer = run_program(command, stdin, name=name, timeout_seconds=timeout_seconds)
    line, _, sound = answer.partition(b"\n")
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or len(sound) % 2:
        raise InputError(f"{name} answered something else than times and samples")
    return header, np.frombuffer(sound, "<i2").astype(np.int16, copy=False)
