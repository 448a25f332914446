"""``moda voices``: what speaks a text here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from moda.errors import MissingExtraError
from moda.speech_synthesis import ESPEAK_INSTALL, espeak_languages
from moda.speech_synthesis.installed import Voice, installed_voices, write_samples

app = typer.Typer()


@app.command(epilog="Example: moda voices --language fr-fr --samples .")
def voices(
    language: Annotated[
        str | None, typer.Option(help="Only voices that speak this language, such as fr-fr.")
    ] = None,
    samples: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write a sample of each voice here.")
    ] = None,
) -> None:
    """List the voices that speak a text here, or write a sample of each."""
    found = installed_voices(language)
    if not found:
        raise MissingExtraError(ESPEAK_INSTALL)
    if samples is not None:
        for _, path in write_samples(found, samples, language):
            typer.echo(path)
        return
    row = "{:<12}{:<10}{}"
    typer.echo(row.format("--language", "--tts", "--voice"))
    for spoken in dict.fromkeys(voice.language for voice in found if voice.language):
        typer.echo(row.format(spoken, "kokoro", _names(found, spoken)))
    typer.echo(row.format(language or "any", "espeak", _names(found, None)))
    if language is None:
        typer.echo(f"any is one of {', '.join(espeak_languages())}")
    if all(voice.synthesiser == "espeak" for voice in found):
        typer.echo("natural voices: moda models download kokoro")


def _names(voices: Sequence[Voice], language: str | None) -> str:
    return ", ".join(voice.name for voice in voices if voice.language == language)
