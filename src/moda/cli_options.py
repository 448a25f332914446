"""Options that commands share: their types, names and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moda.structures import EMOTIONS

PortraitFile = Annotated[
    Path, typer.Argument(metavar="PORTRAIT", help="Picture with a face (jpg, png, webp, ...).")
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="Video to write (.mp4, .mov, .mkv, .webm, .gif); replaced."
    ),
]

# What is said
Text = Annotated[
    str | None,
    typer.Option(
        help="Speak this text instead of a recording; [happy], [sad:0.6], [pause:1] are tags."
    ),
]
TextFile = Annotated[Path | None, typer.Option(help="The same from a UTF-8 file, - for input.")]
Transcript = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT|FILE",
        help="What is said in SPEECH, or a text file of it: surer lips, tags, subtitles.",
    ),
]
Language = Annotated[
    str, typer.Option(help="Of text and transcript, such as en-us, de, fr-fr, es, ru, cmn.")
]
Voice = Annotated[
    str | None, typer.Option(help="Of the synthesiser.", show_default="its usual one")
]
Rate = Annotated[
    float | None, typer.Option(help="Of synthesised speech, 0.5 to 2.", show_default="1")
]
Synthesiser = Annotated[
    str | None, typer.Option("--tts", help="espeak or kokoro.", show_default="espeak")
]
SynthesiserCommand = Annotated[
    str | None,
    typer.Option(
        "--tts-command",
        metavar="COMMAND",
        help="Another synthesiser: reads text from its input and writes the file {output}.",
    ),
]
Subtitles = Annotated[
    bool, typer.Option("--subtitles", help="Write subtitles of text or transcript.")
]
Phones = Annotated[
    Path | None,
    typer.Option(help="What is said: a text file with start, end and phone per line."),
]

# How it is said
Emotion = Annotated[
    str | None, typer.Option(metavar="NAME[:AMOUNT]", help=f"One of {', '.join(EMOTIONS)}.")
]
EmotionTimes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SECONDS=NAME[:AMOUNT]",
        help="Change the emotion at a time; may be given again. The name none ends it.",
    ),
]
StyleWords = Annotated[
    str | None,
    typer.Option("--style", help='Free words, such as "warm, a little tired, nods".'),
]
HeadMotion = Annotated[
    float | None, typer.Option(help="Amount of head motion, 0 to 2.", show_default="1")
]
Expression = Annotated[
    float | None, typer.Option(help="Amount of expression, 0 to 2.", show_default="1")
]
Blink = Annotated[bool, typer.Option("--blink/--no-blink", help="Let the eyes blink.")]
BlinkRate = Annotated[
    float | None, typer.Option(help="Blinks a minute, 0 to 60.", show_default="about 17")
]
GazeName = Annotated[
    str | None,
    typer.Option("--gaze", help="Where the eyes are: camera or wander.", show_default="wander"),
]
LipsOnly = Annotated[
    bool, typer.Option("--lips-only", help="Move nothing but the mouth (or what --driving moves).")
]
Driving = Annotated[
    Path | None,
    typer.Option(metavar="VIDEO", help="Take head, brows and eyes from this video."),
]
Seed = Annotated[
    int | None,
    typer.Option(
        help="Another number, another performance.", show_default="from portrait and speech"
    ),
]

# What is seen
FramesPerSecond = Annotated[float, typer.Option("--fps", help="Frames per second, 10 to 60.")]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS|own",
        help="Longer side of the video in pixels, 64 to 4096, or own: that of the picture.",
        show_default="512; with the neural renderer that of the picture, at most 1920",
    ),
]
FullFrame = Annotated[
    bool, typer.Option("--full-frame/--crop", help="The whole picture, or only the head.")
]
BackgroundName = Annotated[
    str | None,
    typer.Option(
        "--background",
        metavar="none|COLOUR",
        help="Behind the person: none (transparent), a name such as green, or #rrggbb.",
        show_default="the picture",
    ),
]
Faces = Annotated[
    list[str] | None,
    typer.Option(
        "--face",
        metavar="NUMBER[=SPEECH]",
        help="Which face, from left to right from 1; with a recording each, several may speak.",
        show_default="the largest",
    ),
]
InTurns = Annotated[
    bool, typer.Option("--in-turns", help="Faces speak one after the other, not at once.")
]
Face = Annotated[
    int | None,
    typer.Option(help="Which face, from left to right from 1.", show_default="the largest"),
]
Eyes = Annotated[
    float | None,
    typer.Option(
        help="Open the portrait's eyes this far, 0 to 0.8 of their width; neural renderer only.",
        show_default="as they are",
    ),
]
Lips = Annotated[
    float | None,
    typer.Option(
        help="Open the portrait's lips this far, 0 to 0.8 of their width; neural renderer only.",
        show_default="as they are",
    ),
]

# How it is made
Steps = Annotated[
    int | None, typer.Option(help="Steps of the sampler, 1 to 1000.", show_default="the model's")
]
GuidanceScale = Annotated[
    float | None,
    typer.Option(
        help="How much motion follows speech and emotion, 1 to 10.", show_default="the model's"
    ),
]
RendererName = Annotated[
    str | None,
    typer.Option(
        "--renderer", help="How frames are made: mesh or neural.", show_default="the model's"
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="moda-tiny, moda-base, or a .safetensors file.",
        show_default="moda-tiny; moda-base with the neural renderer",
    ),
]
Precision = Annotated[
    str, typer.Option(help="Of moda-base: float32; float16 or bfloat16 are for GPUs.")
]
Compat = Annotated[
    str | None,
    typer.Option(
        metavar="reference",
        help="moda-base exactly as its released implementation computes it.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]

# What the file says of itself
SyntheticMetadata = Annotated[
    bool,
    typer.Option(
        "--synthetic-metadata/--no-synthetic-metadata",
        help="Whether tags and a signed manifest say that the video is synthetic.",
    ),
]
SigningCertificate = Annotated[
    Path | None,
    typer.Option(
        "--sign-cert",
        envvar="MODA_SIGN_CERT",
        help="Certificate chain (PEM) for the signed manifest.",
        show_default="one for this file alone",
    ),
]
SigningKey = Annotated[
    Path | None,
    typer.Option("--sign-key", envvar="MODA_SIGN_KEY", help="Its private key (PEM)."),
]

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
