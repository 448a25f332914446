"""The commands of people who compare: ``moda evaluate | evaluate-renderer``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from moda.cli.options import Given, takes_fields
from moda.data.clips import read_clips
from moda.data.phone_corpus import read_phone_corpus
from moda.data.quality import count_disagreeing
from moda.encoders.face import FaceModels
from moda.errors import InputError
from moda.evaluation.model.report import (
    QUICK,
    Effort,
    Evidence,
    evaluate_model,
    read_utterances,
)
from moda.evaluation.rendered.reenactment import self_reenactment
from moda.evaluation.rendered.reference import measure_picture, table_head
from moda.files import check_outputs, example
from moda.media import AudioReader, read_image, write_image
from moda.options import Option
from moda.structures import Floats, Picture
from moda.training.recipe import read_recipe
from moda.weights.checkpoints import load_checkpoint
from moda.weights.spaces import load_motion_space

app = typer.Typer()

EXAMPLE_PORTRAITS = ("portrait.jpg", "portraits/hopper.jpg", "portraits/mona_lisa.jpg")

Speakers = Annotated[
    list[str] | None,
    typer.Option(
        "--speaker", help="A held-out speaker; may be given again. Default: the recipe's."
    ),
]


@dataclass(frozen=True)
class EvidenceFiles:
    """What a model is measured on besides clips."""

    compare: Annotated[str | None, Option("Another model to compare the lips with.")] = None
    phones: Annotated[
        list[Path] | None,
        Option("Corpus (.npz) of speech with phone times; may be given again."),
    ] = None
    clip_phones: Annotated[
        Path | None, Option("Corpus (.npz) with the phones of the clips' own sound.")
    ] = None
    rerender: Annotated[
        Path | None,
        Option("Portrait on which motion is rendered and tracked again. Default: the example's."),
    ] = None
    other_portrait: Annotated[
        Path | None,
        Option("A second portrait, for default videos of two. Default: the first, mirrored."),
    ] = None

    def read(self) -> Evidence:
        """Read all of them. Raises :class:`moda.errors.ModaError`."""
        portrait, other = self.rerender or example("portrait.jpg"), self.other_portrait
        compare, phones = self.compare, self.clip_phones
        return Evidence(
            utterances=read_utterances(self.phones or []),
            clip_phones=read_phone_corpus(phones).labels_by_name() if phones else None,
            portrait=read_image(portrait),
            other_portrait=read_image(other) if other else None,
            example=_read_sound(example("speech.wav")),
            compare=(Path(compare).stem, load_checkpoint(compare)) if compare else None,
        )


@app.command(epilog="Example: moda evaluate prepared/ --speaker anna --speaker bert -o report.json")
@takes_fields(EvidenceFiles)
def evaluate(
    clips: Annotated[list[Path], typer.Argument(help="Folders made by moda prepare.")],
    model: Annotated[str, typer.Option(help="Built-in model, or a .safetensors file.")] = (
        "moda-tiny"
    ),
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe whose held-out speakers are used.")
    ] = None,
    speaker: Speakers = None,
    *,
    given: Given,
    seeds: Annotated[int, typer.Option(help="How many seeds.", min=1, max=20)] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="One seed, and less of all.")] = False,
    threads: Annotated[int, typer.Option(help="Processor threads.", min=1)] = 2,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSON file; Markdown goes beside it.")
    ] = None,
) -> None:
    """Measure a motion model on held-out speakers.

    Lips against the real ones and against simple methods, in clean and in bad sound; closures and
    rounding at known phones; lips in silence, music and noise; minutes of motion beside real ones;
    finished videos, tracked again: what other speech, another portrait and another seed change, and
    lips beside filmed ones; emotions; speed. What cannot be measured is left out, and the report
    says why.
    """
    torch.set_num_threads(threads)
    speakers = list(speaker or (read_recipe(recipe).validation_speakers if recipe else ()))
    if not speakers:
        raise InputError("no held-out speakers; give --speaker or --recipe")
    files = EvidenceFiles(**given)
    if output is not None:
        named = (recipe, model, files.compare, *(files.phones or ()), files.clip_phones,
                 files.rerender, files.other_portrait)  # fmt: skip
        inputs = [Path(name) for name in named if name is not None]
        check_outputs((output, output.with_suffix(".md")), inputs)
    evidence = replace(files.read(), num_disagreeing=count_disagreeing(clips, speakers))
    result = evaluate_model(
        load_checkpoint(model),
        read_clips(clips),
        speakers,
        evidence=evidence,
        effort=QUICK if quick else Effort(seeds=range(seeds)),
        say=lambda text: typer.echo(text, err=True),
    )
    if output is not None:
        result.write(output)
    typer.echo(result.markdown(), nl=False)


def _read_sound(path: Path) -> Floats:
    return np.concatenate(list(AudioReader(path)))


@app.command("evaluate-renderer", epilog="Example: moda evaluate-renderer clip.mp4 other.mp4")
def evaluate_renderer(
    videos: Annotated[
        list[Path] | None, typer.Argument(help="Videos of one face each, or none.")
    ] = None,
    portrait: Annotated[
        list[Path] | None,
        typer.Option(
            help="Picture for the reference motion; may be given again. "
            "Default without videos: the examples."
        ),
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="PNG of the frames.")] = None,
) -> None:
    """Measure the renderer by itself, without a motion model.

    A video: one frame of it is animated with the video's own motion. PSNR in dB of face and mouth
    against the real frames, and that of the still photograph. The sheet has the real frames above.

    A portrait: it performs a fixed reference motion. What the frames show: motion of the
    background, stripes at the border, how much of lips and head is kept, how near closed lips come,
    bending of the hair and flicker. Lengths are in outer-eye distances.
    """
    if sheet is not None:
        check_outputs([sheet], [*(videos or ()), *(portrait or ())])
    models, space = FaceModels(), load_motion_space()
    portraits = list(portrait or ([] if videos else [example(name) for name in EXAMPLE_PORTRAITS]))
    rows: list[Picture] = []
    if videos:
        typer.echo("| video | face dB | still | mouth dB | still |\n|---|---|---|---|---|")
    for video in videos or []:
        score, pairs = self_reenactment(video, models, space)
        typer.echo(score.row())
        rows += [np.hstack([pair[side] for pair in pairs]) for side in (0, 1)]
    if portraits:
        typer.echo(table_head())
    for path in portraits:
        faults, frames = measure_picture(read_image(path), models, space)
        typer.echo(faults.row(path.stem))
        rows.append(np.hstack(frames))
    if sheet is not None:
        width = max(row.shape[1] for row in rows)
        padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
        write_image(sheet, np.vstack(padded))
