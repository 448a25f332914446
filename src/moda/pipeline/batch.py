"""Many videos from a table: several at a time, on one machine or many, continued where it stopped.

Beside the table stands a journal, ``LIST.csv.journal``: one line of JSON for every video that is
finished, with a fingerprint of its options and input files. A run that was killed, by whatever, is
continued by the same command: videos appear whole or not at all, so what the journal names and what
is there need not be made again. Change an option or an input, and that video is made anew.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

from moda.errors import InputError, ModaError, OutputError, describe_fault
from moda.files import check_outputs, whole_file, write_text
from moda.media.tables import MAX_TABLE_BYTES, table_rows
from moda.media.texts import read_text_file
from moda.options import ModelChoice, field_name
from moda.pipeline.jobs import VideoJob, job_from_row, make_video
from moda.pipeline.loading import load_head
from moda.pipeline.talking_head import TalkingHead
from moda.strict_json import parse_json
from moda.version import __version__
from moda.workers import LocalProcesses, LostJob, RayCluster, RunJobs, one_thread, run_here

MAX_ROWS = 100_000


class Row(NamedTuple):
    """A line of the table."""

    number: int
    """Of the line in the file; the heading is line 1."""
    job: VideoJob
    fingerprint: str


@dataclass(frozen=True)
class Outcome:
    """What came of one row."""

    row: int
    output: str
    status: Literal["made", "kept", "failed"]
    frames: int = 0
    seconds: float = 0.0
    """Length of the video."""
    wall_seconds: float = 0.0
    message: str = ""
    """Why it failed, or what was not understood."""
    fingerprint: str = ""


def read_table(path: Path, defaults: Mapping[str, Any]) -> list[Row]:
    """Read a table with the columns portrait, output, speech or text, and any other option.

    Args:
        path: CSV in UTF-8 or UTF-16, with a heading; commas, semicolons or tabs part the columns.
            Relative names in it are relative to its folder.
        defaults: Options for rows that do not say otherwise.

    Raises:
        InputError: The table cannot be read, or some of its rows are wrong; it says which.
    """
    name = f"table {path}"
    records = table_rows(read_text_file(path, name, MAX_TABLE_BYTES), name, max_rows=MAX_ROWS)
    rows: list[Row] = []
    problems: list[str] = []
    places: dict[Path, int] = {}
    """Lines by their outputs."""
    for number, record in records:
        try:
            job = job_from_row(_with_defaults(record, defaults), path.parent)
            job.check()
            for output in job.outputs:
                line = places.setdefault(output.resolve(), number)
                if line != number:
                    raise InputError(f"its output {output} is also that of line {line}")
            rows.append(Row(number, job, fingerprint(job)))
        except ModaError as error:
            problems.append(f"line {number}: {error}")
    sources = {source.resolve() for row in rows for source in row.job.inputs} | {path.resolve()}
    problems += [
        f"line {number}: its output {output} is also an input; choose another name"
        for output, number in places.items()
        if output in sources
    ]
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise InputError(f"{name}, {'; '.join(problems[:3])}{more}")
    return rows


def _with_defaults(record: Mapping[str, str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    given = {field_name(column): value for column, value in record.items() if value}
    said = {"speech", "text", "text_file", "face"} & given.keys()
    kept = {
        name: value
        for name, value in defaults.items()
        if not (said and name in ("speech", "text", "text_file"))
    }
    return {**kept, **given}


def fingerprint(job: VideoJob) -> str:
    """Of everything that decides what a video looks like: options, input files, version."""
    named = {"portrait": job.portrait, "output": job.output, "speech": job.speech}
    options = {name: str(value) for name, value in (named | vars(job.options)).items()}
    files = []
    for path in job.inputs:
        try:
            status = path.stat()
            files.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
        except OSError:
            files.append([str(path), -1, -1])
    content = json.dumps([__version__, options, files], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def make_batch(
    table: Path,
    rows: Sequence[Row],
    *,
    run_jobs: RunJobs = run_here,
    watch: Callable[[Outcome, int, int], None] | None = None,
) -> list[Outcome]:
    """Make the videos of a table that are not there yet; a row that fails stops no other.

    Args:
        table: Names the journal and the reports, ``LIST.csv.report.csv`` and ``.json``.
        rows: Of :func:`read_table`.
        run_jobs: Where the work is done, see :mod:`moda.workers`.
        watch: Called with every outcome, how many are done, and how many there are.

    Raises:
        OutputError: The journal or a report cannot be written.
    """
    journal = _journal_of(table)
    inputs = [source for row in rows for source in row.job.inputs]
    check_outputs((journal, *report_files(table)), (table, *inputs))
    known = _read_journal(journal)
    outcomes: dict[int, Outcome] = {}

    def done(outcome: Outcome) -> None:
        outcomes[outcome.row] = outcome
        if watch is not None:
            watch(outcome, len(outcomes), len(rows))

    waiting: list[Row] = []
    for row in rows:
        before = known.get(row.fingerprint)
        if before is not None and row.job.output.is_file():
            done(Outcome(**{**asdict(before), "row": row.number, "status": "kept"}))
        else:
            waiting.append(row)
    try:
        for row, result in run_jobs(make_row, waiting):
            outcome = result
            if isinstance(result, LostJob):
                outcome = Outcome(
                    row.number, str(row.job.output), "failed", message=f"it {result.reason}"
                )
            assert isinstance(outcome, Outcome)
            if outcome.status == "made":
                with journal.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(outcome)) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
            done(outcome)
    except OSError as error:
        raise OutputError(f"journal {journal} cannot be written: {error}") from None
    finally:
        _write_reports(table, [outcomes[number] for number in sorted(outcomes)])
    return [outcomes[number] for number in sorted(outcomes)]


def report_files(table: Path) -> tuple[Path, Path]:
    """Where the reports of a table are written."""
    return table.with_name(table.name + ".report.csv"), table.with_name(table.name + ".report.json")


def _journal_of(table: Path) -> Path:
    return table.with_name(table.name + ".journal")


def make_row(row: Row) -> Outcome:
    """Make the video of one row; whatever goes wrong becomes a message."""
    started = time.perf_counter()
    said: list[str] = []
    output = str(row.job.output)
    try:
        with one_thread():
            head = _head(row.job.options.model_choice)
            summary = make_video(row.job, head, tell=said.append)
    except ModaError as error:
        message = " ".join(str(error).split())
        return Outcome(row.number, output, "failed", message=message)
    except Exception as error:
        return Outcome(row.number, output, "failed", message=describe_fault(error))
    wall = time.perf_counter() - started
    return Outcome(
        row.number,
        output,
        "made",
        summary.num_frames,
        round(summary.seconds, 3),
        round(wall, 3),
        "; ".join((*said, *summary.notes)),
        row.fingerprint,
    )


@functools.lru_cache(maxsize=2)
def _head(choice: ModelChoice) -> TalkingHead:
    """A worker loads a model once."""
    return load_head(*choice)


def choose_workers(num_workers: int, ray_address: str | None) -> RunJobs:
    """Where the jobs of a batch run.

    Raises:
        InputError: There must be at least one worker.
        MissingExtraError: Ray is asked for and not installed.
    """
    if not 1 <= num_workers <= 256:
        raise InputError(f"number of workers {num_workers} is outside 1..256; choose one inside")
    if ray_address is not None:
        return RayCluster(ray_address, num_workers if num_workers > 1 else None, device_of)
    return run_here if num_workers == 1 else LocalProcesses(num_workers)


def device_of(row: Row) -> str:
    """The device of a row; the mesh renderer leaves GPUs of a cluster alone unless told."""
    options = row.job.options
    is_neural = options.renderer == "neural" or options.model == "moda-base"
    return "cpu" if options.device == "auto" and not is_neural else options.device


def _read_journal(path: Path) -> dict[str, Outcome]:
    """Finished rows by their fingerprint; a last line that was cut off is passed over."""
    names = {field.name for field in fields(Outcome)}
    known: dict[str, Outcome] = {}
    for line in _lines(path):
        try:
            record = parse_json(line)
        except ValueError:
            continue
        if (
            isinstance(record, dict)
            and record.keys() == names
            and type(record["fingerprint"]) is str
        ):
            known[record["fingerprint"]] = Outcome(**record)
    return known


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"journal {path} cannot be read: {error}; remove it") from None


def _write_reports(table: Path, outcomes: Sequence[Outcome]) -> None:
    records = [
        {name: value for name, value in asdict(outcome).items() if name != "fingerprint"}
        for outcome in outcomes
    ]
    names = [field.name for field in fields(Outcome) if field.name != "fingerprint"]
    with (
        whole_file(report_files(table)[0]) as part,
        part.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(records)
    text = json.dumps(records, indent=2, ensure_ascii=False) + "\n"
    write_text(report_files(table)[1], text)
