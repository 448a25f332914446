"""One file from the hub to its place, checked.

Everything goes through the hub's own client, so that ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``,
``HF_TOKEN`` and proxies mean what they always mean. Unlike in the client, a download that was
interrupted goes on where it stopped in a later run, too.
"""

from __future__ import annotations

import errno
import hashlib
import re
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from moda.errors import CheckpointError, MissingExtraError, ModaError, OutputError

SHA256 = re.compile(r"[0-9a-f]{64}")
GIT_BLOB = re.compile(r"[0-9a-f]{40}")
MAX_ATTEMPTS_IN_VAIN = 3
"""Connections in a row that break without having brought anything."""
SECONDS_BETWEEN_ATTEMPTS = 1.0
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


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


class Source(NamedTuple):
    """What the hub says of a file."""

    url: str
    headers: dict[str, str]
    commit: str
    size: int | None
    content_hash: str
    """SHA-256, or that of git for small files"""


def fetch(address: HubAddress, target: Path, expected_sha256: str | None) -> Fetched:
    """Download a file, or the rest of it, and check its content.

    Without an expected SHA-256 the hash holds that the hub declares. The file appears at its place
    whole or not at all; an incomplete one stays beside it, to be continued.

    Raises:
        CheckpointError: The file is not to be had, or its content is wrong.
        OutputError: The disk is full, or the folder cannot be written.
    """
    require_client()
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    try:
        return _fetch(address, target, expected_sha256)
    except (OSError, HTTPError) as error:
        raise _explained(error, address) from error


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


def _fetch(address: HubAddress, target: Path, expected_sha256: str | None) -> Fetched:
    source = _ask_hub(address)
    expected = expected_sha256 or source.content_hash
    if expected != source.content_hash and SHA256.fullmatch(source.content_hash):
        raise CheckpointError(
            f"{address} has SHA-256 {source.content_hash} on the hub, expected {expected}: it is "
            "another file than before; nothing was downloaded"
        )
    partial = target.with_name(f"{target.name}.{expected[:16]}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    _transfer(source, partial)
    if not _has_content(partial, expected):
        partial.unlink()
        raise CheckpointError(
            f"{address} arrived with another hash than {expected}; the bad copy was deleted; try "
            "again, without HF_ENDPOINT if that is set"
        )
    partial.replace(target)
    return Fetched(source.commit, file_sha256(target))


def _ask_hub(address: HubAddress) -> Source:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(address.repository, address.path, revision=address.revision)
    answer = get_hf_file_metadata(url)
    content_hash = answer.etag or ""
    if not (SHA256.fullmatch(content_hash) or GIT_BLOB.fullmatch(content_hash)):
        raise CheckpointError(
            f"the hub declares no hash of {address}; if HF_ENDPOINT is set, choose another mirror"
        )
    # The address of a storage host holds its own permission; the token is for the hub only.
    on_hub = urlsplit(answer.location).netloc == urlsplit(url).netloc
    headers = build_hf_headers() if on_hub else {}
    commit = answer.commit_hash or address.revision
    return Source(answer.location, headers, commit, answer.size, content_hash)


def _transfer(source: Source, partial: Path) -> None:
    """Append what is missing to the incomplete file, in as many connections as that takes."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]

    num_in_vain = 0
    while True:
        size_before = _size(partial)
        try:
            return _transfer_rest(source, partial)
        except HTTPError as error:
            num_in_vain = 0 if _size(partial) > size_before else num_in_vain + 1
            if isinstance(error, HfHubHTTPError) or num_in_vain == MAX_ATTEMPTS_IN_VAIN:
                raise
            time.sleep(SECONDS_BETWEEN_ATTEMPTS)


def _transfer_rest(source: Source, partial: Path) -> None:
    from huggingface_hub.file_download import http_get

    if source.size is None or _size(partial) > source.size:
        partial.unlink(missing_ok=True)
    with partial.open("ab") as file:
        http_get(
            source.url,
            file,
            resume_size=file.tell(),
            headers=source.headers,
            expected_size=source.size,
            displayed_filename=partial.name.rsplit(".", 2)[0],
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


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
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return OutputError(
            f"the disk is full while downloading {address}; free some space, or set MODA_HOME to "
            "a folder with more, and run the command again: it goes on where it stopped"
        )
    if isinstance(error, OSError) and error.filename is not None:
        return OutputError(f"cannot write {error.filename}: {error.strerror}")
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return CheckpointError(
        f"the connection to {constants.ENDPOINT} broke off at {address} ({reason}); run the "
        "command again: it goes on where it stopped"
    )
