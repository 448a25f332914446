"""One file from the hub to its place, checked.

Everything goes through the hub's own client, so that ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``,
``HF_TOKEN`` and proxies mean what they always mean. The client resumes a connection that breaks
within a run; a later run begins the file anew.
"""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from moda.errors import CheckpointError, MissingExtraError, ModaError, OutputError

SHA256 = re.compile(r"[0-9a-f]{64}")
GIT_BLOB = re.compile(r"[0-9a-f]{40}")
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
INCOMING = ".incoming"
"""Folder of what has not been checked yet; gone after each download."""


class HubAddress(NamedTuple):
    """A file of a repository at a revision."""

    repository: str
    path: str
    revision: str

    def __str__(self) -> str:
        return f"{self.path} of {self.repository} at {self.revision[:12]}"


class Fetched(NamedTuple):
    """What was downloaded."""

    commit: str
    sha256: str


def fetch(address: HubAddress, folder: Path, expected_sha256: str | None) -> Fetched:
    """Download a file to its path inside a folder, and check its content.

    Without an expected SHA-256 the hash holds that the hub declares. The file appears at its place
    whole or not at all. Nobody else may download into the folder meanwhile.

    Raises:
        CheckpointError: The file is not to be had, or its content is wrong.
        OutputError: The disk is full, or the folder cannot be written.
    """
    require_client()
    incoming = folder / INCOMING
    shutil.rmtree(incoming, ignore_errors=True)  # of a run that was killed
    try:
        return _fetch(address, folder / address.path, incoming, expected_sha256)
    except ModaError:
        raise
    except Exception as error:  # the client's, its HTTP library's, or those of Xet
        raise _explained(error, address) from error
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def find_in_client_cache(address: HubAddress, expected_sha256: str | None) -> Path | None:
    """The file in the cache of the hub's client, which names files by the hash that was declared.

    Only if its content has that hash, or the expected one.
    """
    require_client()
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(address.repository, address.path, revision=address.revision)
    if not isinstance(cached, str):
        return None
    path = Path(cached)
    return path if _has_content(path, expected_sha256 or path.resolve().name) else None


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_client() -> None:
    """Raise :class:`MissingExtraError` if the hub's client is not installed."""
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "downloading needs the package huggingface_hub; in MoDA's folder run: "
            "pip install '.[neural]'"
        ) from error


def _fetch(
    address: HubAddress, target: Path, incoming: Path, expected_sha256: str | None
) -> Fetched:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    url = hf_hub_url(address.repository, address.path, revision=address.revision)
    answer = get_hf_file_metadata(url)
    declared, commit = answer.etag or "", answer.commit_hash or address.revision
    if not (SHA256.fullmatch(declared) or GIT_BLOB.fullmatch(declared)):
        raise CheckpointError(
            f"the hub declares no hash of {address}; if HF_ENDPOINT is set, choose another mirror"
        )
    expected = expected_sha256 or declared
    if expected != declared and SHA256.fullmatch(declared):
        raise CheckpointError(
            f"{address} has SHA-256 {declared} on the hub, expected {expected}: it is another file "
            "than before; nothing was downloaded"
        )
    arrived = Path(
        hf_hub_download(
            address.repository,
            address.path,
            revision=commit,
            local_dir=incoming,
            force_download=True,  # not from the client's cache, whose copy may be damaged
        )
    )
    if not _has_content(arrived, expected):
        raise CheckpointError(
            f"{address} arrived with another hash than {expected}; the bad copy was deleted; try "
            "again, without HF_ENDPOINT if that is set"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    arrived.replace(target)
    return Fetched(commit, file_sha256(target))


def _has_content(path: Path, content_hash: str) -> bool:
    """Whether the file has this SHA-256, or this hash of git's."""
    if SHA256.fullmatch(content_hash):
        return file_sha256(path) == content_hash
    if not GIT_BLOB.fullmatch(content_hash):
        return False
    content = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return blob.hexdigest() == content_hash


def _explained(error: Exception, address: HubAddress) -> ModaError:
    """The same in words that say what to do."""
    from huggingface_hub import constants, errors

    if isinstance(error, ValueError | errors.LocalEntryNotFoundError):
        cause = error.__cause__  # why the client could not ask the hub
        error = cause if isinstance(cause, Exception) else error
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return CheckpointError(
            f"{address} is not on this computer, and HF_HUB_OFFLINE forbids to download it; unset "
            "it, or bring the official files here and run moda models convert"
        )
    if isinstance(error, errors.RevisionNotFoundError | errors.EntryNotFoundError):
        return CheckpointError(f"the hub has no {address}; if HF_ENDPOINT is set, unset it")
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        return CheckpointError(
            f"the hub does not give {address} (HTTP {status}): the repository is gone or needs a "
            "login; set HF_TOKEN, or run hf auth login"
        )
    if status is not None:
        return CheckpointError(f"the hub answers HTTP {status} for {address}; try again later")
    if getattr(error, "errno", None) in FULL_DISK or "No space left" in str(error):
        return OutputError(
            f"the disk is full while downloading {address}; free some space, or set MODA_HOME to "
            "a folder with more, and run the command again"
        )
    if isinstance(error, OSError) and error.filename is not None:
        return OutputError(f"cannot write {error.filename}: {error.strerror}")
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return CheckpointError(
        f"the connection to {constants.ENDPOINT} broke off at {address} ({reason}); run the "
        "command again"
    )
