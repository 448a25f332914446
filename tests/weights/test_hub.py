"""Downloads with the real client of the hub from a small hub of our own."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session, constants, hf_hub_download
from huggingface_hub.utils import disable_progress_bars

from hub_server import FakeHub, StoredFile, serve_hub
from moda.errors import CheckpointError, InputError, MissingExtraError, OutputError
from moda.files import models_folder
from moda.speech_synthesis.kokoro import find_kokoro
from moda.speech_synthesis.kokoro.voices import VOICE_SHA256
from moda.weights.catalogue import (
    CATALOGUE,
    HubFile,
    PublishedModel,
    find_model,
    published_model,
)
from moda.weights.installation import (
    download_originals,
    install_model,
    model_state,
    verify_model,
)
from moda.weights.official import KINDS

COMMIT, LATER_COMMIT = "a" * 40, "b" * 40
WEIGHTS = bytes(range(256)) * 400
CONFIG = b'{"hidden_size": 768}'
LARGE = StoredFile(WEIGHTS)
MODEL = PublishedModel(
    name="moda-base",
    what="a test",
    repository="someone/faces",
    revision=COMMIT,
    files=(HubFile("nets/weights.pth", len(WEIGHTS), LARGE.sha256), HubFile("config.json", 20)),
    licence="none",
    licence_note="none",
)
BRANCH_MODEL = replace(MODEL, revision="main", files=(HubFile("nets/weights.pth", 100_000),))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The server, and the client turned to it as ``HF_ENDPOINT`` does at its import."""
    disable_progress_bars()
    with serve_hub() as hub:
        hub.branches["someone/faces", "main"] = COMMIT
        hub.add("someone/faces", COMMIT, "nets/weights.pth", LARGE)
        hub.add("someone/faces", COMMIT, "config.json", StoredFile(CONFIG, large=False))
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "client-cache"))
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield hub
        close_session()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


def download(model: PublishedModel, folder: Path) -> list[Path]:
    return download_originals(model, folder, say=lambda text: None)


def original_files(folder: Path) -> list[str]:
    """Everything that lies in the folder of the originals."""
    return sorted(path.name for path in (folder / "originals").rglob("*") if path.is_file())


def records(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "models.json").read_text())["originals"]


def test_files_arrive_and_are_written_down(hub: FakeHub, folder: Path) -> None:
    weights, config = download(MODEL, folder)
    assert weights.read_bytes() == WEIGHTS
    assert config.read_bytes() == CONFIG
    assert weights == folder / "originals/someone/faces/nets/weights.pth"
    assert original_files(folder) == ["config.json", "weights.pth"]
    assert records(folder) == {
        "someone/faces/nets/weights.pth": {"commit": COMMIT, "sha256": LARGE.sha256},
        "someone/faces/config.json": {"commit": COMMIT, "sha256": StoredFile(CONFIG).sha256},
    }
    assert model_state(MODEL, folder) == "downloaded"


def test_the_pinned_commit_is_asked_for_and_the_token_stays_on_the_hub(
    hub: FakeHub, folder: Path
) -> None:
    download(MODEL, folder)
    for request in hub.requests:
        if request.path.startswith("/storage/"):
            assert request.token is None
        else:
            assert f"/resolve/{COMMIT}/" in request.path
            assert request.token == "Bearer hf_secret"
    assert sum(request.path.startswith("/storage/") for request in hub.requests) == 1


def test_what_is_here_is_not_downloaded_again(hub: FakeHub, folder: Path) -> None:
    paths = download(MODEL, folder)
    hub.requests.clear()
    assert download(MODEL, folder) == paths
    assert hub.requests == []


def test_a_damaged_file_is_downloaded_again_and_said(hub: FakeHub, folder: Path) -> None:
    weights, _ = download(MODEL, folder)
    weights.write_bytes(WEIGHTS[:-1] + b"x")
    said: list[str] = []
    download_originals(MODEL, folder, say=said.append)
    assert weights.read_bytes() == WEIGHTS
    assert any("weights.pth is damaged" in text for text in said)


def test_a_connection_that_keeps_breaking_is_said(hub: FakeHub, folder: Path) -> None:
    hub.break_after = 30_000
    with pytest.raises(CheckpointError, match=r"connection to .* broke off .*again$"):
        download(MODEL, folder)
    assert original_files(folder) == []
    hub.break_after = None
    assert download(MODEL, folder)[0].read_bytes() == WEIGHTS


def test_what_a_killed_run_left_is_cleared_away(hub: FakeHub, folder: Path) -> None:
    left = folder / "originals/someone/faces/.incoming/nets/weights.pth"
    left.parent.mkdir(parents=True)
    left.write_bytes(WEIGHTS[:1000])
    assert download(MODEL, folder)[0].read_bytes() == WEIGHTS
    assert original_files(folder) == ["config.json", "weights.pth"]


def test_wrong_content_is_deleted(hub: FakeHub, folder: Path) -> None:
    hub.sent_instead = WEIGHTS[:-1] + b"x"
    with pytest.raises(CheckpointError, match=r"arrived with another hash.*bad copy was deleted"):
        download(MODEL, folder)
    assert original_files(folder) == []


def test_wrong_content_of_a_small_file_is_deleted(hub: FakeHub, folder: Path) -> None:
    file = StoredFile(CONFIG, large=False)
    hub.add("someone/faces", COMMIT, "config.json", file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoredFile, "git_blob", property(lambda self: "c" * 40))
        with pytest.raises(CheckpointError, match=r"config.json .*another hash than c{40}"):
            download(MODEL, folder)


def test_a_hub_that_offers_other_content_than_pinned_is_not_asked_for_it(
    hub: FakeHub, folder: Path
) -> None:
    hub.add("someone/faces", COMMIT, "nets/weights.pth", StoredFile(b"other"))
    with pytest.raises(CheckpointError, match="another file than before; nothing was downloaded"):
        download(MODEL, folder)
    assert hub.asked("GET") == []


def test_a_branch_is_held_to_what_was_found_first(hub: FakeHub, folder: Path) -> None:
    (weights,) = download(BRANCH_MODEL, folder)
    assert records(folder)["someone/faces/nets/weights.pth"]["commit"] == COMMIT
    hub.branches["someone/faces", "main"] = LATER_COMMIT
    hub.add("someone/faces", LATER_COMMIT, "nets/weights.pth", StoredFile(b"later"))
    weights.unlink()
    assert download(BRANCH_MODEL, folder)[0].read_bytes() == WEIGHTS
    weights.unlink()
    hub.add("someone/faces", COMMIT, "nets/weights.pth", StoredFile(b"rewritten"))
    with pytest.raises(CheckpointError, match="another file than before"):
        download(BRANCH_MODEL, folder)


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        ((401, "RepoNotFound"), r"does not give .*weights\.pth of someone/faces.*HTTP 401.*login"),
        ((403, "GatedRepo"), r"does not give .*HTTP 403.*hf auth login"),
        ((404, "RepoNotFound"), r"does not give .*HTTP 404.*gone"),
        ((404, "RevisionNotFound"), r"the hub has no nets/weights\.pth .* at aaaaaaaaaaaa"),
        ((404, "EntryNotFound"), r"the hub has no nets/weights\.pth"),
        ((503, ""), r"HTTP 503 .*try again later"),
    ],
)
def test_refusals_of_the_hub_are_explained(
    hub: FakeHub, folder: Path, refuse: tuple[int, str], message: str
) -> None:
    hub.refuse = refuse
    with pytest.raises(CheckpointError, match=message):
        download(MODEL, folder)


def test_a_mirror_without_hashes_is_refused(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StoredFile, "git_blob", property(lambda self: "W/what"))
    with pytest.raises(CheckpointError, match=r"declares no hash of config\.json"):
        download(MODEL, folder)


def test_a_hub_that_is_not_there(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(CheckpointError, match="connection to"):
        download(MODEL, folder)


def test_offline_with_and_without_the_files(
    hub: FakeHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = download(MODEL, folder)
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert download(MODEL, folder) == paths
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE forbids"):
        download(MODEL, tmp_path / "elsewhere")
    assert hub.requests == []


@pytest.mark.parametrize("model", [MODEL, BRANCH_MODEL])
def test_offline_the_cache_of_the_client_is_used(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch, model: PublishedModel
) -> None:
    cached = [
        hf_hub_download(model.repository, file.path, revision=model.revision)
        for file in model.files
    ]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert [str(path) for path in download(model, folder)] == cached
    blob = Path(cached[0]).resolve()
    blob.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE"):
        download(model, folder)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert download(model, folder)[0].read_bytes() == WEIGHTS


def test_a_disk_without_room_is_found_before(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(folder.parent)._replace(free=150_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=r"moda-base needs 0\.0 GB .*free some space"):
        download(MODEL, folder)
    assert hub.requests == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=300_000))
    download(MODEL, folder)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError("File I/O error: No space left on device (os error 28)"),  # of Xet
    ],
)
def test_a_disk_that_fills_up_while_the_client_writes(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(OutputError, match=r"disk is full .*MODA_HOME"):
        download(MODEL, folder)


FULL_DISK = """
import sys
from dataclasses import replace
from pathlib import Path
from moda.errors import OutputError
from moda.weights.installation import download_originals
from test_hub import MODEL, HubFile
small = replace(MODEL, files=(replace(MODEL.files[0], size=0),))
try:
    download_originals(small, Path(sys.argv[1]) / "models", say=print)
except OutputError as error:
    print(error)
print([path.name for path in Path(sys.argv[1]).rglob("*") if path.name.startswith("weights")])
"""


def test_a_disk_that_really_fills_up(hub: FakeHub, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = 'mount -t tmpfs -o size=64k tmpfs "$1"'
    try:
        subprocess.run(["unshare", "-rm", "sh", "-c", mount, "sh", disk], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk is not permitted here")
    command = f'{mount} && exec "$2" -c "$3" "$1"'
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command, "sh", disk, sys.executable, FULL_DISK],
        env=os.environ
        | {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    downloading, message, left = result.stdout.splitlines()
    assert "downloading nets/weights.pth" in downloading
    assert "the disk is full" in message
    assert left == "[]"


def test_a_folder_that_cannot_be_made(hub: FakeHub, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        download(MODEL, file / "models")


def test_two_downloads_at_once_are_kept_apart(hub: FakeHub, folder: Path) -> None:
    from filelock import FileLock

    folder.mkdir()
    with (
        FileLock(folder / ".models.lock"),
        pytest.raises(OutputError, match="another moda models download is at work"),
    ):
        download(MODEL, folder)


def test_without_the_client(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"huggingface_hub.*pip install '\.\[neural\]'"):
        download(MODEL, folder)


def test_damaged_records_are_refused(hub: FakeHub, folder: Path) -> None:
    folder.mkdir()
    for text in ("{", "[]", '{"originals": {"a": {}}, "verified": {}}'):
        (folder / "models.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"models\.json is damaged .*delete it"):
            download(MODEL, folder)


def test_the_catalogue_is_pinned_and_complete() -> None:
    names = {kind.usual_name for kind in KINDS} | {"config.json"}
    for name, model in CATALOGUE.items():
        assert model.name == name
        assert (
            not model.is_converted
            or {file.path.rpartition("/")[2] for file in model.files} <= names
        )
        assert model.licence
        assert len(model.licence_note) > 20
        assert len(model.revision) == 40 or name == "moda-base"
        assert all(file.sha256 is None or len(file.sha256) == 64 for file in model.files)
    converted = [model for model in CATALOGUE.values() if model.is_converted]
    found = {file.path.rpartition("/")[2] for model in converted for file in model.files}
    assert found == names
    for name in ("liveportrait", "kokoro"):
        assert all(file.sha256 for file in CATALOGUE[name].files)


def test_files_that_are_used_as_they_are(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(MODEL, is_converted=False)
    said: list[str] = []
    installed = install_model(model, folder, keep_originals=False, say=said.append)
    assert installed.path == folder / "originals/someone/faces/nets/weights.pth"
    assert installed.path.read_bytes() == WEIGHTS
    assert not any("converting" in line for line in said)
    assert model_state(model, folder) == "downloaded"
    verify_model(model, folder)
    assert model_state(model, folder) == "verified"
    (folder / "originals/someone/faces/config.json").unlink()
    assert model_state(model, folder) == "missing"


def test_kokoro_is_found_where_it_is_downloaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODA_HOME", str(folder))
    monkeypatch.delenv("MODA_KOKORO", raising=False)
    model = CATALOGUE["kokoro"]
    for file in model.files:
        path = folder / "originals" / model.repository / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert model_state(model, folder) == "downloaded"
    found = find_kokoro()
    assert found.model.name == "model_quantized.onnx"
    assert set(found.voices) == set(VOICE_SHA256)


def test_names_and_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"'moda-huge'.*moda-base, liveportrait, hubert, kokoro"):
        published_model("moda-huge")
    monkeypatch.delenv("MODA_HOME", raising=False)
    assert models_folder() == Path.home() / ".cache" / "moda"
    monkeypatch.setenv("MODA_HOME", str(tmp_path))
    assert models_folder() == tmp_path
    with pytest.raises(CheckpointError, match="moda models download hubert"):
        find_model("hubert")
    assert model_state(CATALOGUE["hubert"], tmp_path) == "missing"
    (tmp_path / "hubert.safetensors").touch()
    assert find_model("hubert") == tmp_path / "hubert.safetensors"
    assert model_state(CATALOGUE["hubert"], tmp_path) == "converted"
