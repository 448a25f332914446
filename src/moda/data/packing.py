"""Clips that are done to shards, as soon as all of a shard are there.

A clip belongs to a shard by a hash of its name, whatever other clips there are. Its work file goes
only when the shard is written, so a run that is killed between the two loses nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from moda.data.clip_jobs import PrepareOptions, motion_statistics
from moda.data.clips import PARTIAL_PATTERN, SHARD_PATTERN, ClipEntry, Shard, write_shard
from moda.data.corpora import Corpus
from moda.errors import CheckpointError

WORK_NAME = "work"


def shard_number(name: str, num_shards: int) -> int:
    """The shard of a clip: other clips don't matter."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % num_shards


class ShardFolder:
    """The shards of a corpus in ``output``, those of earlier runs and those that become complete.

    Raises:
        CheckpointError: ``output`` holds shards that do not belong together, or of another space.
    """

    def __init__(self, corpus: Corpus, output: Path, options: PrepareOptions) -> None:
        self._output, self._space = output, options.space
        self._work = output / WORK_NAME
        self._work.mkdir(parents=True, exist_ok=True)
        for folder in (output, self._work):
            for path in folder.glob(PARTIAL_PATTERN):
                path.unlink()
        self._existing = dict(_existing_shards(output))
        self._check_space()
        wanted = max(1, math.ceil(len(corpus.clips) / options.clips_per_shard))
        self._count = _num_shards(self._existing) or wanted
        self._known = {
            entry.name: (entry, number)
            for number, shard in self._existing.items()
            for entry in shard.entries
        }
        self._missing: dict[int, set[str]] = defaultdict(set)
        for clip in corpus.clips:
            self._missing[shard_number(clip.name, self._count)].add(clip.name)
        self._entries: dict[int, list[ClipEntry]] = defaultdict(list)

    def work_file(self, name: str) -> Path:
        """Where a clip is written before its shard is complete."""
        return self._work / f"{name}.safetensors"

    def find(self, name: str, fingerprint: str) -> ClipEntry | None:
        """The entry of a clip that an earlier run made and that still fits."""
        known, _ = self._known.get(name, (None, 0))
        for entry in (known, self._work_entry(name)):
            if entry is not None and entry.fingerprint == fingerprint:
                return entry
        return None

    def add(self, entry: ClipEntry) -> None:
        """Take note of a clip that is there."""
        number = shard_number(entry.name, self._count)
        self._entries[number].append(entry)
        self._missing[number].discard(entry.name)
        if not self._missing[number]:
            self._pack(number)

    def finish(self) -> None:
        """Remove shards and work files none of whose clips are left in the corpus."""
        for number, shard in self._existing.items():
            if not self._entries[number] and not self._missing[number]:
                shard.path.unlink()
        if any(self._missing.values()):
            return
        for path in self._work.iterdir():
            path.unlink()
        self._work.rmdir()

    def _pack(self, number: int) -> None:
        entries = sorted(self._entries[number], key=lambda entry: entry.name)
        old = self._existing.get(number)
        if old is None or old.entries != tuple(entries):
            clips = [
                self._source(entry).clip(entry) for entry in entries if entry.status == "prepared"
            ]
            path = self._output / f"shard-{number:05d}-of-{self._count:05d}.safetensors"
            statistics = motion_statistics(clips, self._space)
            write_shard(path, entries, clips, statistics, self._space)
        for entry in entries:
            self.work_file(entry.name).unlink(missing_ok=True)

    def _source(self, entry: ClipEntry) -> Shard:
        """The file that holds this entry: its work file, or its shard of an earlier run."""
        if self._work_entry(entry.name) == entry:
            return Shard(self.work_file(entry.name))
        return self._existing[self._known[entry.name][1]]

    def _work_entry(self, name: str) -> ClipEntry | None:
        path = self.work_file(name)
        if not path.exists():
            return None
        try:
            (entry,) = Shard(path).entries
        except (CheckpointError, ValueError):
            return None
        return entry

    def _check_space(self) -> None:
        others = {shard.space for shard in self._existing.values()} - {self._space}
        if others:
            raise CheckpointError(
                f"{self._output} holds shards of the {min(others)} space, not {self._space}; use "
                "another folder"
            )


def _existing_shards(output: Path) -> Iterator[tuple[int, Shard]]:
    """Shards of an earlier run by their number; damaged ones are removed, and so made again."""
    for path in sorted(output.glob(SHARD_PATTERN)):
        try:
            yield int(path.stem.split("-")[1]), Shard(path)
        except CheckpointError:
            path.unlink()


def _num_shards(existing: Mapping[int, Shard]) -> int | None:
    counts = {int(shard.path.stem.split("-")[3]) for shard in existing.values()}
    if len(counts) > 1:
        folder = next(iter(existing.values())).path.parent
        raise CheckpointError(f"{folder} has shards of several preparations; use another folder")
    return counts.pop() if counts else None
