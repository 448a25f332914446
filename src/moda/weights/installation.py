"""Downloading, converting and checking whole models, and what is known of their files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from moda.errors import CheckpointError, OutputError
from moda.files import ORIGINALS
from moda.strict_json import parse_json, write_json
from moda.weights.catalogue import SUFFIXES, ConvertedModel, HubFile, PublishedModel
from moda.weights.transfer import (
    HubAddress,
    fetch,
    file_sha256,
    find_in_client_cache,
    require_client,
)

State = Literal["missing", "downloaded", "converted", "verified"]
Say = Callable[[str], None]

RECORDS_FILE = "models.json"
LOCK_FILE = ".models.lock"


def model_state(model: PublishedModel, folder: Path) -> State:
    """How far a model has come, without reading its weights."""
    converted = _used_file(model, folder)
    kept = all(_original(model, file, folder).is_file() for file in model.files)
    if converted.is_file() and (model.is_converted or kept):
        verified = Records.read(folder).verified.get(model.name)
        if verified == FileStamp.of(converted):
            return "verified"
        return "converted" if model.is_converted else "downloaded"
    return "downloaded" if kept else "missing"


def install_model(
    model: PublishedModel, folder: Path, *, keep_originals: bool = True, say: Say
) -> ConvertedModel:
    """Download the official files of a model, unless they are here, and convert them.

    Files that are used as they are stay, also where originals are not to be kept.

    Raises:
        CheckpointError: A file is not to be had, or is not what it should be.
        MissingExtraError: The hub's client, or what the conversion needs, is not installed.
        OutputError: The folder cannot be written, or its disk is full.
    """
    paths = download_originals(model, folder, say=say)
    if not model.is_converted:
        return ConvertedModel(model.name, paths[0], ())
    say(f"converting {model.name}")
    from moda.weights.official import convert_official_files  # needs torch

    sources = [path for path in paths if path.suffix in SUFFIXES]
    (converted,) = convert_official_files(sources, folder).models
    if not keep_originals:
        shutil.rmtree(folder / ORIGINALS / model.repository)
    return converted


def download_originals(model: PublishedModel, folder: Path, *, say: Say) -> list[Path]:
    """The official files of a model, each with the right SHA-256; raises as :func:`install_model`.

    What is here already, also in the cache of the hub's client, is checked and used.
    """
    require_client()
    with _alone_in(folder):
        records = Records.read(folder)
        kept = [_kept(model, file, folder, records, say) for file in model.files]
        if model.is_converted and not all(kept) and (cached := _in_client_cache(model, records)):
            return cached
        missing = [file for file, there in zip(model.files, kept, strict=True) if not there]
        _require_space(model, missing, folder)
        for file in missing:
            say(f"downloading {file.path} from {model.repository}")
            place, expected = (
                folder / ORIGINALS / model.repository,
                records.expected_sha256(model, file),
            )
            fetched = fetch(_address(model, file, records), place, expected)
            records.add(model, file, OriginalRecord(*fetched))
            records.write(folder)
    return [_original(model, file, folder) for file in model.files]


def verify_model(model: PublishedModel, folder: Path) -> None:
    """Read a model anew: its converted file and, where they were kept, its official files.

    Raises :class:`CheckpointError` if something is missing, damaged or not what was recorded.
    """
    converted = _used_file(model, folder)
    if not converted.is_file():
        raise CheckpointError(f"{converted} is missing; run moda models download {model.name}")
    if model.is_converted:
        from moda.weights.official import load_converted  # needs torch

        load_converted(model.name, converted)
    records = Records.read(folder)
    for file in model.files:
        path, expected = _original(model, file, folder), records.expected_sha256(model, file)
        if path.is_file() and expected is not None and file_sha256(path) != expected:
            raise CheckpointError(
                f"{path} is damaged: its SHA-256 is not {expected}; run moda models download "
                f"{model.name}, which replaces it"
            )
    records.verified[model.name] = FileStamp.of(converted)
    records.write(folder)


class OriginalRecord(NamedTuple):
    """What an official file was when it was first downloaded."""

    commit: str
    sha256: str


class FileStamp(NamedTuple):
    """Tells whether a file has been written since."""

    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> FileStamp:
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)


@dataclass
class Records:
    """What has been found out about the files of a models folder, kept in :data:`RECORDS_FILE`."""

    originals: dict[str, OriginalRecord] = field(default_factory=dict)
    """by ``repository/path``"""
    verified: dict[str, FileStamp] = field(default_factory=dict)
    """converted files as they were when they were verified, by name of the model"""

    @classmethod
    def read(cls, folder: Path) -> Records:
        """Raises :class:`CheckpointError` if the file is damaged."""
        path = folder / RECORDS_FILE
        if not path.is_file():
            return cls()
        try:
            values = parse_json(path.read_text(encoding="utf-8"))
            originals = {key: OriginalRecord(**entry) for key, entry in values["originals"].items()}
            verified = {key: FileStamp(**entry) for key, entry in values["verified"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(
                f"{path} is damaged ({error}); delete it: the hashes in it are then taken from "
                "the hub again"
            ) from error
        return cls(originals, verified)

    def write(self, folder: Path) -> None:
        """Raises :class:`OutputError`."""
        values = {
            "originals": {key: entry._asdict() for key, entry in self.originals.items()},
            "verified": {key: entry._asdict() for key, entry in self.verified.items()},
        }
        write_json(folder / RECORDS_FILE, values)

    def of(self, model: PublishedModel, file: HubFile) -> OriginalRecord | None:
        return self.originals.get(f"{model.repository}/{file.path}")

    def add(self, model: PublishedModel, file: HubFile, record: OriginalRecord) -> None:
        self.originals[f"{model.repository}/{file.path}"] = record

    def expected_sha256(self, model: PublishedModel, file: HubFile) -> str | None:
        """From the catalogue, else from the first download, else unknown."""
        record = self.of(model, file)
        return file.sha256 or (record.sha256 if record else None)


def _original(model: PublishedModel, file: HubFile, folder: Path) -> Path:
    return folder / ORIGINALS / model.repository / file.path


def _used_file(model: PublishedModel, folder: Path) -> Path:
    """What is loaded: the converted file, or the first official one."""
    if model.is_converted:
        return folder / model.converted_name
    return _original(model, model.files[0], folder)


def _address(model: PublishedModel, file: HubFile, records: Records) -> HubAddress:
    record = records.of(model, file)
    return HubAddress(model.repository, file.path, record.commit if record else model.revision)


def _kept(model: PublishedModel, file: HubFile, folder: Path, records: Records, say: Say) -> bool:
    """Whether the file is in the folder, and its content known to be right."""
    expected, path = records.expected_sha256(model, file), _original(model, file, folder)
    if expected is None or not path.is_file():
        return False
    right = file_sha256(path) == expected
    if not right:
        say(f"{path} is damaged and is downloaded again")
    return right


def _in_client_cache(model: PublishedModel, records: Records) -> list[Path]:
    """All files from the cache of the hub's client, or none."""
    paths = []
    for file in model.files:
        address, expected = _address(model, file, records), records.expected_sha256(model, file)
        if (path := find_in_client_cache(address, expected)) is None:
            return []
        paths.append(path)
    return paths


def _require_space(model: PublishedModel, files: Sequence[HubFile], folder: Path) -> None:
    """Room for the files that are still to come, and for the converted one."""
    needed = sum(file.size for file in files) + model.size * model.is_converted
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"{model.name} needs {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are "
            "free; free some space, or set MODA_HOME to a folder with more"
        )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep a second download out of the folder."""
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise OutputError(
            f"another moda models download is at work in {folder}; wait until it has finished"
        ) from error
    except OSError as error:
        raise OutputError(f"cannot write in {folder}: {error}; set MODA_HOME to another") from error
    try:
        yield
    finally:
        lock.release()
