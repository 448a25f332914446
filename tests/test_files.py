"""Nothing of the user's is lost, and nothing of ours is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from moda.errors import InputError, OutputError
from moda.files import (
    PartFile,
    ScratchFolder,
    check_empty,
    check_folder,
    check_outputs,
    read_limited,
    remove_leftovers,
    whole_file,
    write_text,
)

OLD = 10.0


def make_old(path: Path) -> None:
    os.utime(path, (time.time() - OLD,) * 2)


def run_until_killed(code: str, folder: Path) -> None:
    """Run code that prints a line when it is in the middle of its work, and kill it there."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, cwd=folder
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)


class TestWholeFiles:
    def test_appear_at_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_text("old")
        path.chmod(0o640)
        with whole_file(path) as part:
            part.write_text("new")
            assert path.read_text() == "old"
        assert path.read_text() == "new"
        assert path.stat().st_mode & 0o777 == 0o640
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError(28, "full")])
    def test_do_not_appear_half(self, tmp_path: Path, error: BaseException) -> None:
        path = tmp_path / "a.txt"
        path.write_text("old")
        expected = OutputError if isinstance(error, OSError) else error

        def fail() -> None:
            with whole_file(path) as part:
                part.write_text("ne")
                raise error

        with pytest.raises(expected):
            fail()
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_full_disk_is_said_with_what_helps(self, tmp_path: Path) -> None:
        with (
            pytest.raises(OutputError, match=r"cannot write.*free some space"),
            whole_file(tmp_path / "a"),
        ):
            raise OSError(28, "No space left on device")
        with pytest.raises(OutputError, match="cannot write"):
            write_text(tmp_path / "no" / "folder", "x")

    def test_follow_a_link_and_keep_it(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        link = tmp_path / "link.txt"
        link.symlink_to(tmp_path / "real" / "a.txt")
        write_text(link, "new")
        assert link.is_symlink()
        assert (tmp_path / "real" / "a.txt").read_text() == "new"

    def test_may_be_as_long_as_any_text(self, tmp_path: Path) -> None:
        path = tmp_path / "limited"
        path.write_bytes(bytes(1000))
        assert len(read_limited(path, 1000)) == 1000
        with pytest.raises(InputError, match="larger than"):
            read_limited(path, 999)
        with pytest.raises(InputError, match="larger than"):
            read_limited(Path("/dev/zero"), 1000)


class TestOutputs:
    def test_are_no_inputs(self, tmp_path: Path) -> None:
        source = tmp_path / "a.txt"
        source.write_text("mine")
        hard, soft = tmp_path / "hard.txt", tmp_path / "soft.txt"
        hard.hardlink_to(source)
        soft.symlink_to(source)
        missing = tmp_path / "missing.txt"
        for output, given in (
            (source, source),
            (hard, source),
            (soft, source),
            (tmp_path / "x" / ".." / "a.txt", source),
            (source, soft),
            (missing, tmp_path / "." / "missing.txt"),
        ):
            (tmp_path / "x").mkdir(exist_ok=True)
            with pytest.raises(InputError, match="also an input"):
                check_outputs([tmp_path / "fine.txt", output], [Path("/dev/null"), given])
        assert source.read_text() == "mine"

    def test_are_different_files(self, tmp_path: Path) -> None:
        (tmp_path / "b").mkdir()
        with pytest.raises(InputError, match="are one file"):
            check_outputs([tmp_path / "a", tmp_path / "b" / ".." / "a"])

    def test_can_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "a")
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        os.mkfifo(tmp_path / "pipe")
        for name in (
            "no/a", ".", "file/a", "pipe", "dangling", "loop", "x" * 300, "a\0b"
        ):  # fmt: skip
            with pytest.raises(OutputError):
                check_outputs([tmp_path / name])
        with pytest.raises(OutputError):
            check_folder(tmp_path / "file" / "deeper")
        check_folder(tmp_path / "new" / "deeper")
        with pytest.raises(OutputError, match="not empty"):
            check_empty(tmp_path)
        with pytest.raises(OutputError, match="cannot be used"):
            check_empty(tmp_path / "none")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_are_not_protected(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(OutputError, match="not writable"):
            check_outputs([tmp_path / "a"])


class TestLeftovers:
    def test_of_a_killed_writer_go_when_somebody_writes_beside_them(self, tmp_path: Path) -> None:
        code = (
            "import sys, time; from pathlib import Path; from moda.files import whole_file\n"
            "with whole_file(Path('a.txt')) as part:\n"
            "    part.write_text('half'); print('on', flush=True); time.sleep(60)"
        )
        run_until_killed(code, tmp_path)
        (left,) = tmp_path.iterdir()
        write_text(tmp_path / "b.txt", "x")
        assert left.exists(), "it could be of somebody who has only begun"
        make_old(left)
        write_text(tmp_path / "b.txt", "x")
        assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]

    def test_of_a_killed_program_go_at_the_next_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code = (
            "import time; from moda.files import ScratchFolder\n"
            "with ScratchFolder('work') as folder:\n"
            "    (folder / 'speech.wav').write_bytes(bytes(1000)); (folder / 'x').mkdir()\n"
            "    print('on', flush=True); time.sleep(60)"
        )
        run_until_killed(code, tmp_path)
        (left,) = tmp_path.iterdir()
        make_old(left)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with ScratchFolder("videos") as folder:
            assert list(tmp_path.iterdir()) == [folder]
        assert list(tmp_path.iterdir()) == []

    def test_what_is_in_use_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with ScratchFolder("web") as folder, PartFile(tmp_path / "a.mp4") as part:
            make_old(folder)
            make_old(part.path)
            remove_leftovers()
            write_text(tmp_path / "b", "x")
            assert folder.is_dir()
            assert part.path.exists()
            code = "from moda.files import remove_leftovers, write_text; from pathlib import Path\n"
            code += "remove_leftovers(); write_text(Path('c'), 'x')"
            environment = {**os.environ, "TMPDIR": str(tmp_path)}
            subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
            assert folder.is_dir()
            assert part.path.exists()

    def test_what_is_the_users_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        names = (
            "moda-videos-holidays", "moda-web", "moda-work-2024", ".moda-notes.part", "moda-x-y-z",
            ".moda-0123456789ab.part.txt", "moda-work-0123456789abcdef-short",
        )  # fmt: skip
        for name in names:
            (tmp_path / name).mkdir()
            make_old(tmp_path / name)
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "mine").touch()
        link = tmp_path / "moda-work-0123456789abcdef-abcdefgh"
        link.symlink_to(outside)
        os.utime(link, (time.time() - OLD,) * 2, follow_symlinks=False)
        remove_leftovers()
        write_text(tmp_path / "b", "x")
        assert all((tmp_path / name).is_dir() for name in names)
        assert (outside / "mine").exists()

    def test_no_room_for_temporary_files_is_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
        with pytest.raises(OutputError, match="TMPDIR"):
            ScratchFolder("work")
