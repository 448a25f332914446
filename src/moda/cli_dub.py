"""The command that gives footage new lips: ``moda dub``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from moda import cli_options as options
from moda import cli_steps
from moda.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog="Example: moda dub interview.mp4 translated.wav -o dubbed.mp4")(dub)


def dub(
    footage: Annotated[
        Path, typer.Argument(metavar="FOOTAGE", help="Video of one face, seen from the front.")
    ],
    speech: Annotated[
        Path | None, typer.Argument(metavar="[SPEECH]", help="What it shall say instead.")
    ] = None,
    output: options.Output = Path("dubbed.mp4"),
    text: options.Text = None,
    transcript: options.Transcript = None,
    language: options.Language = "en-us",
    voice: options.Voice = None,
    subtitles: options.Subtitles = False,
    expression: options.Expression = None,
    seed: options.Seed = None,
    model: options.ModelName = None,
    device: options.Device = "auto",
    synthetic_metadata: options.SyntheticMetadata = True,
    sign_cert: options.SigningCertificate = None,
    sign_key: options.SigningKey = None,
) -> None:
    """Give the face in a video new lips for other speech.

    Head, eyes and light stay those of FOOTAGE; its sound is replaced by SPEECH.
    """
    import tempfile

    from moda.dubbing import dub as dub_footage
    from moda.jobs import VideoJob, text_or_file
    from moda.provenance import SigningIdentity
    from moda.speech_synthesis import SpokenText, find_synthesiser, synthesise

    started = time.perf_counter()
    if (speech is None) == (text is None):
        raise InputError("what is said must be given once, as a recording or as --text")
    # What the job checks of a portrait holds for footage.
    job = VideoJob(footage, output, speech=speech, text=text, transcript=transcript)
    job.check()
    identity = None
    if sign_cert is not None and sign_key is not None:
        identity = SigningIdentity(sign_cert, sign_key)
    head = cli_steps.load_head(model, None, device)
    said: Path | SpokenText
    with tempfile.TemporaryDirectory(prefix="moda-") as folder:
        if text is not None:
            path = Path(folder) / "speech.wav"
            synthesiser = find_synthesiser()
            said = synthesise(text, path, synthesiser=synthesiser, language=language, voice=voice)
        else:
            assert speech is not None
            said = speech
            if transcript is not None:
                said = head.align(speech, text_or_file(transcript), language=language)
        with cli_steps.progress_bar("Tracking") as progress:
            video = dub_footage(
                head,
                footage,
                said,
                seed=seed,
                expression=1.0 if expression is None else expression,
                progress=progress,
            )
        with cli_steps.progress_bar("Rendering") as progress:
            summary = video.write(
                output,
                progress=progress,
                synthetic_metadata=synthetic_metadata,
                identity=identity,
                subtitles=subtitles,
            )
    cli_steps.tell(summary, started)
