"""A corpus to shards of prepared clips: tracked, judged, resumable, on one machine or many.

Clips are made one by one into work files; when all of a shard are there, they are packed. Whatever
is killed when, the next run does what is missing, and the shards are the same, byte for byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from moda.data.clip_jobs import (
    ClipJob,
    PrepareOptions,
    fingerprint,
    prepare_clip,
    statistics_size,
)
from moda.data.clips import SpaceName, read_shards
from moda.data.corpora import Corpus
from moda.data.neural import require_networks
from moda.data.packing import ShardFolder
from moda.data.statistics import MotionStatistics
from moda.errors import CheckpointError, OutputError
from moda.strict_json import write_json
from moda.workers import LostJob, RunJobs

INDEX_FORMAT = "moda-index-1"
REPORT_NAME, INDEX_NAME = "report.json", "index.json"


class Outcome(NamedTuple):
    """What became of one clip in this run."""

    name: str
    status: str
    """``prepared``, ``skipped``, ``kept`` from an earlier run, or ``failed``"""
    seconds: float = 0.0
    reasons: tuple[str, ...] = ()
    is_new: bool = False
    """whether this run made it"""


Report = Callable[[Outcome, int, int], None]


def prepare_corpus(
    corpus: Corpus,
    output: Path,
    *,
    options: PrepareOptions,
    run_jobs: RunJobs,
    report: Report = lambda outcome, done, total: None,
) -> list[Outcome]:
    """Make the shards of a corpus in ``output``, with ``index.json`` and ``report.json``.

    What is there and still fits is kept; a clip whose files, labels or limits have changed is made
    again, and with it its shard is packed anew. Clips that are gone are taken out. ``report`` is
    called with the outcome, the number of clips done and their total.

    Raises:
        CheckpointError: ``output`` holds shards that do not belong together, or the networks of the
            neural space are not here.
        OutputError: Clips killed their workers again and again, or met a fault of MoDA. All others
            are done.
    """
    if options.space == "neural":
        require_networks()
    shards = ShardFolder(corpus, output.absolute(), options)
    outcomes: list[Outcome] = []
    total = len(corpus.clips) + len(corpus.problems)

    def add(outcome: Outcome) -> None:
        outcomes.append(outcome)
        report(outcome, len(outcomes), total)

    for name, reason in corpus.problems:
        add(Outcome(name, "skipped", 0.0, (reason,)))
    jobs = []
    for clip in corpus.clips:
        job = ClipJob(clip, shards.work_file(clip.name), fingerprint(clip, options), options)
        entry = shards.find(clip.name, job.fingerprint)
        if entry is None:
            jobs.append(job)
            continue
        status = "kept" if entry.status == "prepared" else "skipped"
        add(Outcome(entry.name, status, entry.seconds, entry.reasons))
        shards.add(entry)
    for job, result in run_jobs(prepare_clip, jobs):
        if isinstance(result, LostJob):
            add(Outcome(job.clip.name, "failed", 0.0, (result.reason,)))
            continue
        add(Outcome(result.name, result.status, result.seconds, result.reasons, is_new=True))
        shards.add(result)
    shards.finish()
    write_index(output, options.space)
    write_report(output, outcomes)
    lost = [outcome for outcome in outcomes if outcome.status == "failed"]
    if lost:
        raise OutputError(
            f"{len(lost)} clips were not made, the first is {lost[0].name}: {lost[0].reasons[0]}; "
            "the others are done; run again, or take these out of the corpus"
        )
    return outcomes


def write_index(output: Path, space: SpaceName) -> None:
    """``index.json``: every clip and where it is, and the statistics of the motion."""
    try:
        shards = list(read_shards(output))
    except CheckpointError:
        shards = []
    parts = (shard.statistics for shard in shards)
    statistics = MotionStatistics.total(parts, statistics_size(space))
    clips = [
        {"shard": shard.path.name, **asdict(entry)} for shard in shards for entry in shard.entries
    ]
    index = {
        "format": INDEX_FORMAT,
        "space": space,
        "statistics": {**statistics.to_dict(), "std": statistics.std.tolist()},
        "clips": sorted(clips, key=lambda clip: str(clip["name"])),
    }
    write_json(output / INDEX_NAME, index)


def write_report(output: Path, outcomes: Sequence[Outcome]) -> None:
    """``report.json``: what was done in this run, and how often each reason was met."""
    reasons = count_reasons(outcomes)
    report = {
        "clips": Counter(outcome.status for outcome in outcomes),
        "seconds": round(sum(outcome.seconds for outcome in outcomes), 2),
        "reasons": dict(reasons.most_common()),
        "outcomes": [outcome._asdict() for outcome in sorted(outcomes)],
    }
    write_json(output / REPORT_NAME, report)


def count_reasons(outcomes: Sequence[Outcome]) -> Counter[str]:
    """How many clips met each kind of reason: the words before its colon."""
    return Counter(reason.split(":")[0] for outcome in outcomes for reason in outcome.reasons)
