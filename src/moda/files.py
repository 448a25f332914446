"""Outputs that are whole or not there, and folders for work that a later run removes.

A process that is killed can't clean up. What it was writing carries a lock, which the system takes
from a process that has ended, however. Whoever writes next beside it removes what nobody holds.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from moda.errors import InputError, OutputError

try:
    import fcntl
except ImportError:  # Windows, where leftovers stay
    fcntl = None  # type: ignore[assignment]

PART = re.compile(r"\.moda-[0-9a-f]{12}\.part")
SCRATCH = re.compile(r"moda-[a-z]+-[0-9a-f]{16}-[a-z0-9_]{8}")
NEW_SECONDS = 2.0
"""What is so young may belong to a process that has not locked it yet."""
ORIGINALS = "originals"
"""Folder of official files of others inside the models folder."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def example(name: str) -> Path:
    """A file of the examples: the wheel holds them, the repository has them in ``examples``."""
    installed = Path(__file__).parent / "assets" / "examples" / name
    return installed if installed.exists() else Path(__file__).parents[2] / "examples" / name


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path] = ()) -> None:
    """Find out before any work whether files can be written, and that nothing is lost by it.

    Raises:
        InputError: An output is one of the inputs, or two outputs are one file.
        OutputError: A folder is missing or not writable, or a target is no plain file.
    """
    known: list[Path] = []
    sources = tuple(inputs)
    for path in outputs:
        _check_output(path)
        for source in sources:
            if _are_one_file(path, source):
                raise InputError(f"output {path} is also an input; choose another name")
        for other in known:
            if _are_one_file(path, other):
                raise InputError(f"outputs {other} and {path} are one file; rename one")
        known.append(path)


def _check_output(path: Path) -> None:
    try:
        if path.is_dir():
            raise OutputError(f"output {path} is a folder; give the name of a file in it")
        if not path.parent.is_dir():
            raise OutputError(f"folder {path.parent} does not exist; create it or choose another")
        if path.exists() and not path.is_file():
            raise OutputError(f"output {path} is not a plain file; choose another name")
        folder = path.resolve().parent
    except (OSError, ValueError, RuntimeError) as error:
        raise OutputError(f"output {path} cannot be used ({error}); choose another") from None
    if not folder.is_dir():
        raise OutputError(f"folder {folder} does not exist; create it or choose another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"folder {path.parent} is not writable; choose another")
    if path.exists() and not os.access(path, os.W_OK):
        raise OutputError(f"output {path} is write-protected; choose another name")


def check_folder(folder: Path) -> None:
    """Find out whether files can be written into a folder, which may have to be made first.

    Raises:
        OutputError: It is a file, or the nearest folder that exists is not writable.
    """
    try:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not nearest.is_dir():
            raise OutputError(f"output {nearest} is a file, not a folder; choose another name")
    except (OSError, ValueError) as error:
        raise OutputError(f"folder {folder} cannot be used ({error}); choose another") from None
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"folder {nearest} is not writable; choose another")


def check_empty(folder: Path) -> None:
    """Raise :class:`OutputError` unless files can be written into a folder that holds none."""
    try:
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise OutputError(f"folder {folder} cannot be used ({error}); create it") from None
    if not is_empty:
        raise OutputError(f"folder {folder} is not empty; give one that is")
    check_folder(folder)


def _are_one_file(first: Path, second: Path) -> bool:
    try:
        if first.exists() and second.exists():
            return first.samefile(second)
        return first.resolve() == second.resolve()
    except (OSError, ValueError, RuntimeError):
        return False


def why_not(error: Exception) -> str:
    """Why writing failed, and what helps; FFmpeg's errors have a number and a reason too."""
    full = getattr(error, "errno", None) in FULL
    remedy = "free some space or choose another folder" if full else "choose another folder"
    return f"({getattr(error, 'strerror', None) or error}); {remedy}"


def models_folder() -> Path:
    """Where models are kept: the variable ``MODA_HOME``, else ``.cache/moda`` at home."""
    chosen = os.environ.get("MODA_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "moda"


def read_limited(path: Path, max_bytes: int) -> bytes:
    """All of a small file.

    Raises:
        InputError: It is larger than ``max_bytes``.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise InputError(
            f"{path} is larger than {max_bytes / 1024:.0f} KiB, the limit; give another file"
        )
    return content


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A file to write in place of ``path``, which is replaced when the context is left normally.

    Raises:
        OutputError: The file cannot be written; then ``path`` is as it was.
    """
    path = Path(path)
    try:
        part = PartFile(path)
    except OSError as error:
        raise OutputError(f"cannot write {path} {why_not(error)}") from error
    with part:
        try:
            yield part.path
            part.put_in_place()
        except OSError as error:
            raise OutputError(f"cannot write {path} {why_not(error)}") from error


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8, whole or not at all. Raises :class:`OutputError`."""
    with whole_file(path) as part:
        part.write_bytes(text.encode("utf-8"))


class PartFile:
    """A file beside ``target`` that becomes it once it is whole. Raises :class:`OSError`."""

    def __init__(self, target: Path) -> None:
        self._target = target.resolve()
        folder = self._target.parent
        for left in _named(folder, PART):
            _remove_if_dead(left)
        self.path = folder / f".moda-{secrets.token_hex(6)}.part"
        os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        self._lock = _lock(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        self._unlock()

    def lock_again(self) -> None:
        """Another file has been put in the place of this one."""
        self._unlock()
        self._lock = _lock(self.path)

    def put_in_place(self) -> None:
        """Replace the target, whose permissions are kept."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            shutil.copymode(self._target, self.path)
        self.path.replace(self._target)

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class ScratchFolder:
    """A private folder for work, which is removed by :meth:`close` or by the next run.

    Args:
        kind: Small letters, for people who look at their temporary files.

    Raises:
        OutputError: There is no room for temporary files.
    """

    def __init__(self, kind: str) -> None:
        remove_leftovers()
        prefix = f"moda-{kind}-{secrets.token_hex(8)}-"
        try:
            Path(tempfile.gettempdir()).mkdir(parents=True, exist_ok=True)
            self.path = Path(tempfile.mkdtemp(prefix=prefix))  # readable by its owner only
            self._lock = _lock(self.path)
        except OSError as error:
            raise OutputError(
                f"there is no room for temporary files ({error.strerror}); free some space, or "
                "set the variable TMPDIR"
            ) from None

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *exception: object) -> None:
        self.close()

    def restore(self) -> Path:
        """The folder, made anew if somebody has removed it.

        Raises:
            OSError: It cannot be made, or a stranger has put another one in its place.
        """
        if not self.path.is_dir():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700)
            self._unlock()
            self._lock = _lock(self.path)
        status = self.path.lstat()
        if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077):
            raise PermissionError(errno.EACCES, "others may use the folder", str(self.path))
        return self.path

    def close(self) -> None:
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_leftovers() -> None:
    """Remove the scratch folders of processes that have been killed."""
    for folder in _named(Path(tempfile.gettempdir()), SCRATCH):
        _remove_if_dead(folder)


def _named(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if pattern.fullmatch(path.name)]
    except OSError:
        return []


def _remove_if_dead(path: Path) -> None:
    """Remove what is ours and held by nobody."""
    if fcntl is None:
        return
    with suppress(OSError):
        status = path.lstat()
        if status.st_uid != os.getuid() or time.time() - status.st_mtime < NEW_SECONDS:
            return
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        finally:
            os.close(handle)


def _lock(path: Path) -> int | None:
    """Hold a file or a folder as long as this process lives; None where that can't be had."""
    if fcntl is None:
        return None
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    return handle
