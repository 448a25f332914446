"""The command of people who have videos: ``moda prepare``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from moda.data.clip_jobs import PrepareOptions, device_of
from moda.data.corpora import VALIDATION_SHARE, read_corpus
from moda.data.prepare import REPORT_NAME, Outcome, count_reasons, prepare_corpus
from moda.devices import choose_device
from moda.errors import InputError
from moda.files import check_folder
from moda.workers import LocalProcesses, RayCluster, RunJobs, run_here

app = typer.Typer()


class Space(StrEnum):
    """The motion spaces."""

    MESH = "mesh"
    NEURAL = "neural"


@app.command(epilog="Example: moda prepare talking/ prepared/ --labels labels.csv --workers 4")
def prepare(
    corpus: Annotated[Path, typer.Argument(help="Folder of the corpus.")],
    output: Annotated[Path, typer.Argument(help="Folder for the prepared clips.")],
    layout: Annotated[
        str,
        typer.Option(help="folder (plain videos), lrs3, voxceleb2, hdtf, mead or celebv-hq."),
    ] = "folder",
    labels: Annotated[
        Path | None,
        typer.Option(help="CSV file with file, speaker, emotion, sound; for plain folders."),
    ] = None,
    sound: Annotated[
        bool, typer.Option("--sound/--no-sound", help="Whether the sound is the speaker's own.")
    ] = True,
    space: Annotated[
        Space, typer.Option(help="mesh, or neural for moda-base; needs the published weights.")
    ] = Space.MESH,
    validation_share: Annotated[
        float | None,
        typer.Option(
            help="Share of the training speakers set aside for validation, 0 to 0.5.",
            show_default="0.05; 0 for plain folders",
        ),
    ] = None,
    keep_all: Annotated[
        bool, typer.Option("--keep-all", help="Keep clips outside the limits of quality as well.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes.", min=1, show_default="1; with Ray one per processor"),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Run on a Ray cluster: its address, auto, or local.",
            show_default=False,
        ),
    ] = None,
    clips_per_shard: Annotated[
        int, typer.Option(help="Clips in a file, of a folder that is prepared anew.", min=1)
    ] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Follow the faces of talking videos for training.

    Writes shards of clips with landmarks, sound and labels, and an index; for the neural space also
    motion, identity and speech features. What is already there is kept; what cannot be used is left
    out, and the report says why.
    """
    started = time.perf_counter()
    if validation_share is None:
        validation_share = 0.0 if layout == "folder" else VALIDATION_SHARE
    if not 0.0 <= validation_share <= 0.5:
        raise InputError(f"validation share {validation_share} is outside 0..0.5")
    check_folder(output)
    found = read_corpus(layout, corpus, labels=labels, validation_share=validation_share)
    if not sound:
        clips = tuple(replace(clip, has_own_sound=False) for clip in found.clips)
        found = replace(found, clips=clips)
    options = PrepareOptions(
        keep_all=keep_all,
        space=space.value,
        device=device if ray else choose_device(device),
        clips_per_shard=clips_per_shard,
    )
    runner, progress = _runner(ray, workers), _Progress(started)
    outcomes = prepare_corpus(found, output, options=options, run_jobs=runner, report=progress)
    _say(outcomes, time.perf_counter() - started, output)


def _say(outcomes: Sequence[Outcome], took_seconds: float, output: Path) -> None:
    """What has become of the clips; if none can be used, that is an error."""
    minutes = sum(outcome.seconds for outcome in outcomes) / 60.0
    statuses = Counter(outcome.status for outcome in outcomes)
    counts = ", ".join(f"{statuses[name]} {name}" for name in ("prepared", "kept", "skipped"))
    typer.echo(f"{counts}; {minutes:.1f} minutes of video in {took_seconds:.0f} s: {output}")
    for kind, count in count_reasons(outcomes).most_common():
        typer.echo(f"{count:6d} {kind}")
    if not statuses["prepared"] + statuses["kept"]:
        raise InputError(
            f"none of the {len(outcomes)} clips can be used; {output / REPORT_NAME} says why"
        )


def _runner(ray: str | None, workers: int | None) -> RunJobs:
    if ray is not None:
        return RayCluster(ray, workers, device_of)
    return run_here if workers in (None, 1) else LocalProcesses(workers or 1)


class _Progress:
    """One line per clip: how many, what, how fast, how long still."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._made = 0

    def __call__(self, outcome: Outcome, done: int, total: int) -> None:
        self._made += outcome.is_new
        reasons = f": {'; '.join(outcome.reasons)}" if outcome.reasons else ""
        minutes = (time.perf_counter() - self._started) / 60.0
        speed = ""
        if self._made:
            rate = self._made / minutes
            speed = f" ({rate:.0f} clips a minute, {(total - done) / rate:.1f} min left)"
        typer.echo(f"[{done}/{total}] {outcome.status} {outcome.name}{reasons}{speed}", err=True)
