"""What is written replaces no input, and everything that belongs together or nothing."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moda.errors import InputError, OutputError
from moda.media.subtitles import make_cues
from moda.options import VideoOptions
from moda.pipeline.batch import make_batch, read_table
from moda.pipeline.jobs import VideoJob
from moda.pipeline.talking_video import TalkingVideo
from moda.structures.words import TimedWord

WORDS = (TimedWord("Hello ", 0.0, 0.4), TimedWord("Anna.", 0.4, 0.9))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "a.wav", "talk.srt", "key.pem", "own.safetensors", "d.mp4"):
        (tmp_path / name).write_text("mine")
    return tmp_path


def job(folder: Path, output: str = "talk.mp4", **options: Any) -> VideoJob:
    speech = None if "text_file" in options else folder / "a.wav"
    return VideoJob(folder / "a.png", folder / output, speech, VideoOptions(**options))


@pytest.mark.parametrize(
    "options",
    [
        {"text_file": "talk.srt", "subtitles": True},
        {"transcript": "talk.srt", "subtitles": True},
        {"phones": "talk.srt", "subtitles": True},
        {"driving": "d.mp4", "output": "d.mp4"},
        {"driving": "d.mp4", "output": "x/../d.mp4"},
    ],
)
def test_no_output_is_an_input(folder: Path, options: dict[str, Any]) -> None:
    (folder / "x").mkdir()
    output = options.get("output", "talk.mp4")
    values = {
        name: str(folder / value) if name == "transcript" else folder / value
        for name, value in options.items()
        if name not in ("output", "subtitles")
    }
    wanted = job(folder, output, subtitles="subtitles" in options, **values)
    with pytest.raises(InputError, match="also an input"):
        wanted.check()
    assert all(path.read_text() == "mine" for path in folder.iterdir() if path.is_file())


def test_all_files_that_are_read_are_known(folder: Path) -> None:
    options = VideoOptions(
        sign_cert=folder / "key.pem",
        sign_key=folder / "key.pem",
        model=str(folder / "own.safetensors"),
        driving=folder / "d.mp4",
        phones=folder / "talk.srt",
        transcript="some words",
    )
    named = {path.name for path in VideoJob(folder / "a.png", folder / "x.mp4", folder / "a.wav",
                                            options).inputs}  # fmt: skip
    assert named == {"a.png", "a.wav", "key.pem", "own.safetensors", "d.mp4", "talk.srt"}


def test_subtitles_can_be_written_before_any_work(folder: Path) -> None:
    (folder / "talk.srt").unlink()
    (folder / "talk.srt").mkdir()
    with pytest.raises(OutputError, match=r"talk\.srt is a folder"):
        job(folder, subtitles=True, transcript="Hello").check()


class TestTables:
    def table(self, folder: Path, *rows: dict[str, str]) -> Path:
        path = folder / "list.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, sorted({name for row in rows for name in row}))
            writer.writeheader()
            writer.writerows(rows)
        return path

    def test_one_rows_output_is_no_other_ones_input(self, folder: Path) -> None:
        row = {"portrait": "a.png", "speech": "a.wav"}
        path = self.table(
            folder, row | {"output": "d.mp4"}, row | {"output": "e.mp4", "driving": "d.mp4"}
        )
        with pytest.raises(InputError, match=r"line 2: its output .*d\.mp4 is also an input"):
            read_table(path, {})

    def test_subtitles_of_two_rows_are_two_files(self, folder: Path) -> None:
        (folder / "talk.srt").unlink()
        row = {"portrait": "a.png", "speech": "a.wav", "subtitles": "yes", "transcript": "Hi"}
        path = self.table(folder, row | {"output": "v.mp4"}, row | {"output": "v.webm"})
        with pytest.raises(InputError, match=r"line 3: its output .*v\.srt is also that of line 2"):
            read_table(path, {})

    @pytest.mark.parametrize("name", ["report.csv", "report.json", "journal"])
    def test_reports_replace_no_input(self, folder: Path, name: str) -> None:
        text = folder / f"list.csv.{name}"
        text.write_text("mine")
        path = self.table(folder, {"portrait": "a.png", "text_file": text.name, "output": "v.mp4"})
        rows = read_table(path, {})
        with pytest.raises(InputError, match="also an input"):
            make_batch(path, rows)
        assert text.read_text() == "mine"

    def test_reports_can_be_written_before_any_work(self, folder: Path) -> None:
        (folder / "list.csv.report.json").mkdir()
        path = self.table(folder, {"portrait": "a.png", "speech": "a.wav", "output": "v.mp4"})
        with pytest.raises(OutputError, match="is a folder"):
            make_batch(path, read_table(path, {}))
        assert not (folder / "v.mp4").exists()

    def test_a_table_may_be_only_so_large(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = self.table(folder, {"portrait": "a.png", "speech": "a.wav", "output": "v.mp4"})
        monkeypatch.setattr("moda.pipeline.batch.MAX_TABLE_BYTES", 40)
        with pytest.raises(InputError, match="larger than"):
            read_table(path, {})
        monkeypatch.undo()
        monkeypatch.setattr("moda.pipeline.batch.MAX_ROWS", 0)
        with pytest.raises(InputError, match="more rows than"):
            read_table(path, {})


class TestVideos:
    def video(self, fails: bool = False) -> TalkingVideo:
        def frames() -> Iterator[np.ndarray]:
            for _ in range(5):
                yield np.zeros((64, 64, 3), np.uint8)
            if fails:
                raise KeyboardInterrupt

        return TalkingVideo((64, 64), 25.0, 5, None, (), lambda: iter(()), frames, WORDS)

    def test_come_with_their_subtitles(self, tmp_path: Path) -> None:
        self.video().write(tmp_path / "v.mp4", subtitles=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["v.mp4", "v.srt"]
        assert "Hello Anna." in (tmp_path / "v.srt").read_text()
        assert make_cues(WORDS)

    def test_leave_everything_as_it_was(self, tmp_path: Path) -> None:
        for name in ("v.mp4", "v.srt"):
            (tmp_path / name).write_text("old")
        with pytest.raises(KeyboardInterrupt):
            self.video(fails=True).write(tmp_path / "v.mp4", subtitles=True)
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
            "v.mp4": "old",
            "v.srt": "old",
        }

    @pytest.mark.parametrize("what", ["subtitles", "sources", "segments"])
    def test_find_out_before_the_first_frame(self, tmp_path: Path, what: str) -> None:
        video, folder, pieces = self.video(fails=True), tmp_path / "out", None
        folder.mkdir()
        if what == "subtitles":
            (folder / "v.srt").mkdir()
        elif what == "sources":
            (folder / "v.srt").write_text("mine")
            video = replace(video, sources=(folder / "v.srt",))
        else:
            pieces = tmp_path
        with pytest.raises((InputError, OutputError)):
            video.write(folder / "v.mp4", subtitles=True, segments=pieces)
        assert not (folder / "v.mp4").exists()
