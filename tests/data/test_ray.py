"""A Ray cluster of two workers on this machine: the same shards, also when a worker is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moda.data.clip_jobs import ClipJob, PrepareOptions, prepare_clip
from moda.data.clips import ClipEntry
from moda.data.corpora import read_corpus
from moda.data.prepare import prepare_corpus
from moda.data.quality import QualityLimits
from moda.errors import InputError
from moda.workers import RayCluster, run_here
from talking_videos import Talk

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
OPTIONS = PrepareOptions(
    QualityLimits(
        min_seconds=0.2,
        min_speech_share=0.0,
        min_lip_correlation=-1.0,
        min_lip_correlation_of_a_second=-1.0,
    ),
    clips_per_shard=2,
)


@pytest.fixture(scope="module")
def folder(talk: Talk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("videos")
    for index in range(6):
        talk.part(8 * index, 8 * index + 12).write(made / f"clip{index}.mp4")
    (made / "broken.mp4").write_bytes(b"this is not a video")
    return made


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("whole")
    prepare_corpus(read_corpus("folder", folder), output, options=OPTIONS, run_jobs=run_here)
    return contents(output)


def contents(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.iterdir() if path.name != "report.json"}


def kill_once(job: ClipJob) -> ClipEntry:
    """Prepares a clip, but the first time one of them kills its worker."""
    note = job.target.parents[2] / "killed"
    if job.clip.name == "clip3" and not note.exists():
        note.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return prepare_clip(job)


def test_the_same_shards(folder: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    cluster = RayCluster("local", 2)
    corpus = read_corpus("folder", folder)
    prepare_corpus(corpus, tmp_path / "out", options=OPTIONS, run_jobs=cluster)
    assert contents(tmp_path / "out") == whole


def test_a_killed_worker(folder: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers don't find the tests

    def killing(function: object, jobs: list[ClipJob]) -> Iterator[object]:
        return RayCluster("local", 2)(kill_once, jobs)

    corpus = read_corpus("folder", folder)
    prepare_corpus(corpus, tmp_path / "out", options=OPTIONS, run_jobs=killing)  # type: ignore[arg-type]
    assert (tmp_path / "killed").exists()
    assert contents(tmp_path / "out") == whole


def test_no_cluster_there() -> None:
    with pytest.raises(InputError, match=r"no Ray cluster answers at '127\.0\.0\.1:1'"):
        list(RayCluster("127.0.0.1:1")(prepare_clip, []))
