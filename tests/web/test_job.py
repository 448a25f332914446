"""A video in the making, with the real model at a small size."""

from __future__ import annotations

import time
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import pytest

from media_files import decode_video
from moda.errors import InputError, MediaError
from moda.pipeline import Progress, TalkingHead, TalkingVideo
from moda.structures.words import TimedWord
from moda.web.job import Job, JobView
from moda.web.page import shown
from moda.web.words import status
from paths import PORTRAIT


def job_for(
    head: TalkingHead, speech: Path, folder: Path, *, max_seconds: float = 60.0, size: int = 96
) -> Job:
    def begin(_: Path, __: Progress) -> TalkingVideo:
        return head.generate(PORTRAIT, speech, size=size, num_steps=1)

    return Job(begin, parent=folder, max_seconds=max_seconds)


def looks(job: Job) -> Iterator[JobView]:
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        view = job.look(0.02)
        yield view
        if view.is_over:
            return
    raise AssertionError("the job does not end")


def test_from_the_first_look_to_the_last(
    head: TalkingHead, five_seconds: Path, tmp_path: Path
) -> None:
    job = job_for(head, five_seconds, tmp_path)
    job.start()
    views = list(looks(job))
    assert views[0].state == "preparing"
    assert [view.state for view in views[-1:]] == ["done"]
    counts = [view.frames_done for view in views]
    assert counts == sorted(counts)
    assert counts[-1] == views[-1].frames_expected == 125
    rendering = [view for view in views if view.state == "rendering" and view.frames_done > 20]
    assert rendering, "it can be watched"
    estimates = [view.seconds_left for view in rendering if view.seconds_left is not None]
    assert estimates
    assert all(0.0 <= estimate < 60.0 for estimate in estimates)
    segments = [segment for view in views for segment in view.segments]
    assert sum(segment.seconds for segment in segments) == pytest.approx(5.0, abs=0.05)
    assert len({segment.path for segment in segments}) == len(segments), "each is seen once"
    assert any(view.segments for view in views[:-1]), "some of it plays before the end"
    summary = views[-1].summary
    assert summary is not None
    assert len(decode_video(summary.path).frames) == 125
    job.close()
    assert list(tmp_path.iterdir()) == []


def test_stop_ends_the_work_and_keeps_nothing(
    head: TalkingHead, five_seconds: Path, tmp_path: Path
) -> None:
    job = job_for(head, five_seconds, tmp_path, size=512)
    job.start()
    stopped_at = 0.0
    for view in looks(job):
        if view.frames_done > 5 and not stopped_at:
            job.stop()
            stopped_at = time.monotonic()
    assert view.state == "stopped"
    assert view.frames_done < view.frames_expected
    assert not job.path.exists()
    job.close()
    assert list(tmp_path.iterdir()) == []


def test_stop_while_a_driving_video_is_followed(
    head: TalkingHead, two_seconds: Path, tmp_path: Path
) -> None:
    driving = tmp_path / "driving.mp4"
    head.generate(PORTRAIT, two_seconds, size=96, num_steps=1).write(driving)

    def begin(_: Path, progress: Progress) -> TalkingVideo:
        return head.generate(PORTRAIT, two_seconds, size=96, driving=driving, progress=progress)

    job = Job(begin, parent=tmp_path, max_seconds=60.0)
    job.start()
    for view in looks(job):
        if view.state == "preparing" and view.frames_done > 5:
            assert view.frames_expected == 50
            assert "Following the face in the video: " in status(view)
            job.stop()
    assert view.state == "stopped"
    assert view.frames_done < 50
    job.close()
    assert list(tmp_path.iterdir()) == [driving]


def test_close_waits_for_the_thread(head: TalkingHead, two_seconds: Path, tmp_path: Path) -> None:
    job = job_for(head, two_seconds, tmp_path)
    job.start()
    job.close()
    assert job.look(0.0).is_over
    assert list(tmp_path.iterdir()) == []


def test_close_before_start(head: TalkingHead, two_seconds: Path, tmp_path: Path) -> None:
    job_for(head, two_seconds, tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_too_long_is_found_before_the_work(
    head: TalkingHead, five_seconds: Path, tmp_path: Path
) -> None:
    job = job_for(head, five_seconds, tmp_path, max_seconds=4.0)
    job.start()
    *_, view = looks(job)
    assert view.state == "failed"
    assert isinstance(view.error, InputError)
    assert "more than 4 s, the limit of this page" in str(view.error)
    assert view.frames_done == 0
    job.close()


def test_a_header_that_understates_the_length_does_not_help(
    head: TalkingHead, five_seconds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = head.generate(PORTRAIT, five_seconds, size=96, num_steps=1)
    object.__setattr__(video, "num_frames", 25)
    job = Job(lambda *_: video, parent=tmp_path, max_seconds=2.0)
    job.start()
    *_, view = looks(job)
    assert isinstance(view.error, InputError)
    assert 50 <= view.frames_done <= 52
    job.close()


def test_errors_are_kept_for_whoever_looks(head: TalkingHead, tmp_path: Path) -> None:
    job = job_for(head, tmp_path / "none.wav", tmp_path)
    job.start()
    *_, view = looks(job)
    assert view.state == "failed"
    assert isinstance(view.error, MediaError)
    job.close()


def test_what_the_visitor_should_know_is_there_at_the_end(
    head: TalkingHead, tmp_path: Path
) -> None:
    with wave.open(str(tmp_path / "silent.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(32_000))
    job = job_for(head, tmp_path / "silent.wav", tmp_path / "jobs")
    job.start()
    last = list(looks(job))[-1]
    assert last.notes == ("no speech was found in silent.wav; the lips stay closed",)
    job.close()


def test_subtitles_are_in_the_file_and_beside_it(
    head: TalkingHead, two_seconds: Path, tmp_path: Path
) -> None:
    words = (TimedWord("Please ", 0.2, 0.6), TimedWord("remember.", 0.6, 1.4))

    def begin(_: Path, __: Progress) -> TalkingVideo:
        return replace(head.generate(PORTRAIT, two_seconds, size=96, num_steps=1), words=words)

    job = Job(begin, parent=tmp_path, max_seconds=60.0, subtitles=True)
    job.start()
    assert list(looks(job))[-1].state == "done"
    beside = job.path.with_suffix(".srt")
    assert "Please remember." in beside.read_text(encoding="utf-8")
    with av.open(str(job.path)) as container:
        assert len(container.streams.subtitles) == 1
    update = shown(None, "", busy=False, file=job.path)[4]
    assert (update["value"], update["visible"]) == (str(beside), True)
    beside.unlink()
    assert not shown(None, "", busy=False, file=job.path)[4]["visible"]
    job.close()
