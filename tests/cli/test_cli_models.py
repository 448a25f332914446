"""``moda models`` as a user meets it: what it prints, its exit codes, and what it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from hub_server import FakeHub, StoredFile, serve_hub
from moda import cli
from moda.encoders.neural.hubert import build_hubert
from moda.weights.catalogue import CATALOGUE
from official_files import HUBERT_CONFIG, motion_state, zeros

COMMAND = Path(sys.executable).with_name("moda")
HUBERT = CATALOGUE["hubert"]
TINY_HUBERT = HUBERT_CONFIG | {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
LAST = "talking_head_dit.final_layer.linear.bias"


def run(*arguments: object) -> int:
    """Run the command in this process; its exit code."""
    with pytest.raises(SystemExit) as exited:
        cli.main(["models", *map(str, arguments)])
    return int(exited.value.code or 0)


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error."""
    error = capsys.readouterr().err
    assert error.startswith("moda: ")
    assert error.count("\n") == 1
    return error


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("MODA_HOME", str(folder))
    return folder


@pytest.fixture(scope="module")
def hubert_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small HuBERT in the official layout."""
    folder = tmp_path_factory.mktemp("hubert")
    (folder / "config.json").write_text(json.dumps(TINY_HUBERT))
    torch.manual_seed(0)
    shapes = {key: value.shape for key, value in build_hubert(TINY_HUBERT).state_dict().items()}
    weights = {key: torch.rand(shape) for key, shape in shapes.items()}
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


@pytest.fixture
def hub(hubert_files: Path) -> Iterator[FakeHub]:
    with serve_hub() as hub:
        for name, large in (("config.json", False), ("pytorch_model.bin", True)):
            file = StoredFile(hubert_files / name, large)
            hub.add(HUBERT.repository, HUBERT.revision, name, file)
        yield hub


def run_with_hub(hub: FakeHub, home: Path, *arguments: str, **variables: str) -> str:
    """Run the installed command with the variables that a user sets; all that it prints."""
    client = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home / "client")}
    result = subprocess.run(
        [COMMAND, "models", *arguments],
        env=os.environ | client | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    return f"{result.stdout}exit code {result.returncode}"


def test_list_shows_licences_sizes_and_states(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    home.mkdir()
    (home / "liveportrait.safetensors").touch()
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    states = {line.split()[0]: line for line in lines}
    assert "1492 MB" in states["moda-base"]
    assert "none stated" in states["moda-base"]
    assert "missing" in states["moda-base"]
    assert "MIT" in states["liveportrait"]
    assert "converted" in states["liveportrait"]
    assert lines[-1] == f"folder: {home}"


def test_without_consent_nothing_is_downloaded(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert run("download") == 2
    captured = capsys.readouterr()
    for model in CATALOGUE.values():
        assert f"licence: {model.licence}; {model.licence_note}" in captured.out
    assert captured.err.endswith("add --yes if you do\n")
    assert not home.exists()


def test_unknown_names(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("download", "verify"):
        assert run(command, "moda-huge") == 2
        assert "unknown model 'moda-huge'" in complaint(capsys)


def test_download_list_verify(hub: FakeHub, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = run_with_hub(hub, home, "download", "hubert", "--yes")
    assert output.endswith("exit code 0")
    assert "licence: MIT" in output
    path = home / "hubert.safetensors"
    assert f"hubert: {path}" in output
    downloads = [request for request in hub.requests if "/api/" not in request.path]
    assert len(downloads) == 6  # what it is, asked by us and by the client, and the content
    assert run("list") == 0
    assert "converted  " in capsys.readouterr().out
    assert run("verify") == 0
    assert capsys.readouterr().out == f"ok       hubert: {path}\n"
    assert run("list") == 0
    assert "verified  " in capsys.readouterr().out
    (original,) = home.rglob("originals/**/pytorch_model.bin")
    content = original.read_bytes()
    original.write_bytes(b"damaged")
    assert run("verify") == 2
    assert f"PROBLEM  hubert: {original} is damaged" in capsys.readouterr().out
    original.write_bytes(content)
    hub.requests.clear()
    arguments = ("download", "hubert", "-y", "--remove-originals")
    assert run_with_hub(hub, home, *arguments, HF_HUB_OFFLINE="1").endswith("exit code 0")
    assert hub.requests == []
    assert not original.exists()
    assert run("verify", "hubert") == 0


def test_errors_of_downloads_are_one_line(hub: FakeHub, home: Path) -> None:
    offline = run_with_hub(hub, home, "download", "hubert", "-y", HF_HUB_OFFLINE="1")
    *_, line, code = offline.splitlines()
    assert line.startswith(
        "moda: config.json of TencentGameMate/chinese-hubert-base at e3a13890b4b2"
    )
    assert code == "exit code 2"
    hub.sent_instead = bytes(
        hub.files[HUBERT.repository, HUBERT.revision, "pytorch_model.bin"].size
    )
    wrong = run_with_hub(hub, home, "download", "hubert", "-y")
    assert f"moda: pytorch_model.bin of {HUBERT.repository} at" in wrong
    assert wrong.endswith("exit code 2")


def test_verify_finds_damage(
    hubert_files: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify") == 2
    assert "no model is in" in complaint(capsys)
    assert run("convert", hubert_files) == 0
    assert run("verify") == 0
    path = home / "hubert.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    capsys.readouterr()
    assert run("verify") == 2
    captured = capsys.readouterr()
    assert captured.out.startswith(f"PROBLEM  hubert: {path} is damaged")
    assert captured.err == "moda: not right: hubert; see above, or download them again\n"
    assert run("verify", "liveportrait") == 2
    assert "liveportrait.safetensors is missing" in capsys.readouterr().out


def test_convert_says_which_null_speech_guidance_uses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = motion_state(zeros)
    del state["null_audio_feat"]
    torch.save(state, tmp_path / "anything.bin")
    assert run("convert", tmp_path / "anything.bin", "--output-folder", tmp_path / "out") == 0
    path = tmp_path / "out" / "moda-base.safetensors"
    name, note = capsys.readouterr().out.splitlines()
    assert name == f"moda-base: {path}"
    assert "no null_audio_feat" in note
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["metadata"])["null_speech"] == "recorded"


def test_refused_files_are_one_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = motion_state(zeros)
    files = {
        "renamed": whole | {"talking_head_dit.x": whole[LAST]},
        "missing": {key: value for key, value in whole.items() if key != LAST},
        "extra": whole | {"talking_head_dit.extra": torch.zeros(1)},
        "shape": whole | {LAST: torch.zeros(71)},
        "code": {"talking_head_dit.x": Path("code")},
    }
    del files["renamed"][LAST]
    messages = {
        "renamed": "missing: talking_head_dit.final_layer.linear.bias; unexpected: talking_hea",
        "missing": "missing: talking_head_dit.final_layer.linear.bias",
        "extra": "unexpected: talking_head_dit.extra",
        "shape": "talking_head_dit.final_layer.linear.bias is (71,) torch.float32, expected (70,)",
        "code": "holds more than tensors",
        "cut": "cannot be read",
    }
    for name, state in files.items():
        torch.save(state, tmp_path / f"{name}.pth")
    content = (tmp_path / "extra.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    output = tmp_path / "output"
    for name, message in messages.items():
        assert run("convert", tmp_path / f"{name}.pth", "--output-folder", output) == 2
        assert message in complaint(capsys)
    assert list(output.glob("*")) == []


def test_a_folder_without_official_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert run("convert", tmp_path / "empty") == 2
    assert "no official file among" in complaint(capsys)
