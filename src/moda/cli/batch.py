"""``moda generate --batch``: the videos of a table."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from moda.cli import steps
from moda.pipeline.batch import Outcome, choose_workers, make_batch, read_table


def run_batch(
    table: Path, defaults: Mapping[str, Any], num_workers: int, ray_address: str | None
) -> None:
    """Make the videos of a table, say how each went, and exit with 2 if one failed."""
    started = time.perf_counter()
    rows = read_table(table, defaults)
    run_jobs = choose_workers(num_workers, ray_address)
    with steps.progress_bar("Videos") as progress:

        def watch(outcome: Outcome, done: int, total: int) -> None:
            progress(done, total)
            line = f"line {outcome.row}: {outcome.output} {outcome.status}"
            typer.echo(f"{line}: {outcome.message}" if outcome.message else line, err=True)

        outcomes = make_batch(table, rows, run_jobs=run_jobs, watch=watch)
    counts = {
        status: sum(outcome.status == status for outcome in outcomes)
        for status in ("made", "kept", "failed")
    }
    seconds = sum(outcome.seconds for outcome in outcomes if outcome.status == "made")
    took = time.perf_counter() - started
    typer.echo(
        f"{counts['made']} videos made ({seconds:.1f} s in {took:.1f} s), {counts['kept']} kept, "
        f"{counts['failed']} failed: {table}.report.csv"
    )
    if counts["failed"]:
        raise typer.Exit(2)
