"""What is delivered: names, files in the wheel, pins, run.py, and a README that tells the truth."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path
from types import ModuleType

import av
import pytest

import moda
from moda.errors import ModaError
from paths import ROOT, load_file

PACKAGE = ROOT / "src" / "moda"
DISTRIBUTION = "moda-talking-head"
PIN = re.compile(
    r"([a-z0-9-]+)==([0-9.]+)(?:post\d+)?"
    r'(?: ; sys_platform == "(linux|win32)"| ; python_full_version (?:<|>=) "[0-9.]+")?'
)
SLOW_TO_IMPORT = {"av", "cv2", "numba", "onnxruntime", "scipy", "torch"}


class TestNames:
    def test_version_is_that_of_the_distribution(self) -> None:
        assert metadata.version(DISTRIBUTION) == moda.__version__
        assert re.fullmatch(r"\d+\.\d+\.\d+", moda.__version__)

    @pytest.mark.parametrize("name", ["EmotionAt", "ModaError", "Style", "TalkingHead"])
    def test_documented_names_are_public(self, name: str) -> None:
        assert name in moda.__all__

    def test_all_public_names_are_there(self) -> None:
        assert sorted(moda.__all__, key=str.lower) == sorted(set(moda.__all__), key=str.lower)
        for name in moda.__all__:
            assert getattr(moda, name) is not None

    def test_all_errors_have_one_root(self) -> None:
        errors = importlib.import_module("moda.errors")
        classes = [
            value
            for value in vars(errors).values()
            if isinstance(value, type) and value.__module__ == errors.__name__
        ]
        assert len(classes) > 1
        assert all(issubclass(value, ModaError) for value in classes)

    @pytest.mark.parametrize("module", ["moda", "moda.cli"])
    def test_import_is_quick(self, module: str) -> None:
        code = f"import sys, {module}; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert not SLOW_TO_IMPORT & set(done.stdout.decode().split())

    def test_no_library_reports_its_use(self, tmp_path: Path) -> None:
        code = "from moda.encoders.face import FaceModels; FaceModels()"
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        environment.pop("ORT_DISABLE_TELEMETRY", None)
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        assert list(tmp_path.iterdir()) == [], "no number of a session to report under"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


class TestFiles:
    def test_installed_package_has_models_and_types(self) -> None:
        files = resources.files("moda")
        assert (files / "py.typed").is_file()
        assets = {file.name for file in (files / "assets").iterdir()}
        assert assets >= {"face_detector.onnx", "face_mesh.onnx", "person_mask.onnx"}
        assert assets >= {"face_embedding.safetensors", "mesh_space.safetensors"}
        assert assets >= {"moda-tiny.safetensors", "speech_encoder.safetensors"}

    def test_wheel_has_every_file_of_the_package(self, built: Path) -> None:
        (wheel,) = built.glob("*.whl")
        names = set(zipfile.ZipFile(wheel).namelist())
        missing = {f"moda/{path.relative_to(PACKAGE).as_posix()}" for path in sources()} - names
        assert not missing
        assert {Path(name).name for name in names if "/licenses/" in name} == {"LICENSE", "NOTICE"}

    def test_an_index_would_take_both(self, built: Path) -> None:
        files = sorted(built.iterdir())
        checks = (
            ["twine", "check", "--strict", *files],
            ["check_wheel_contents", *built.glob("*.whl")],
        )
        for name, *arguments in checks:
            command = [sys.executable, "-m", str(name), *map(str, arguments)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr

    def test_wheel_alone_makes_the_demo(self, built: Path, tmp_path: Path) -> None:
        """Where nothing of the repository is in reach."""
        (wheel,) = built.glob("*.whl")
        zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
        done = subprocess.run(
            [sys.executable, "-m", "moda", "demo"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "221 frames, 8.84 s of video" in done.stdout
        with av.open(str(tmp_path / "demo.mp4")) as demo:
            assert len(list(demo.decode(video=0))) == 221
            assert demo.streams.audio

    def test_source_distribution_can_set_itself_up(self, built: Path) -> None:
        (archive,) = built.glob("*.tar.gz")
        with tarfile.open(archive) as file:
            names = {name.split("/", 1)[1] for name in file.getnames()}
        needed = {"run.py", "constraints.txt", "pyproject.toml", "scripts/check.py", "README.md"}
        assert needed | {"examples/portrait.jpg", "examples/speech.wav"} <= names


def sources() -> Iterator[Path]:
    """All files of the package, without what Python leaves behind."""
    for path in PACKAGE.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    matches = [PIN.fullmatch(line) for line in lines if not line.startswith("#")]
    assert all(matches), "only name==version, on some lines with a marker"
    return {match[1]: match[2] for match in matches if match}


class TestPins:
    def test_every_direct_dependency_is_pinned_within_its_bounds(
        self, pins: dict[str, str]
    ) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        groups = project["optional-dependencies"].values()
        wanted = [*project["dependencies"], *(name for group in groups for name in group)]
        for requirement in wanted:
            if requirement.startswith(f"{DISTRIBUTION}["):
                continue  # other groups, which are looked at themselves
            name, floor, ceiling = re.fullmatch(
                r"([\w-]+)>=([\d.]+)(?:,<([\d.]+))?", requirement
            ).groups()  # type: ignore[union-attr]
            assert numbers(pins[name]) >= numbers(floor), requirement
            assert ceiling is None or numbers(pins[name]) < numbers(ceiling), requirement

    def test_installed_versions_need_no_other_packages(self, pins: dict[str, str]) -> None:
        names, waiting = set[str](), [DISTRIBUTION]
        while waiting:
            for requirement in metadata.requires(waiting.pop()) or ():
                name = re.split("[^A-Za-z0-9._-]", requirement)[0]
                name = re.sub("[-_.]+", "-", name).lower()
                if ";" not in requirement and name not in names:
                    names.add(name)
                    waiting.append(name)
        assert names <= set(pins)


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


@pytest.fixture(scope="module")
def run() -> ModuleType:
    return load_file(ROOT / "run.py")


class TestRun:
    @pytest.mark.parametrize(
        ("version", "bits", "tag", "machine"),
        [
            ((3, 11), 64, "linux-x86_64", "x86_64"),
            ((3, 14), 64, "linux-aarch64", "aarch64"),
            ((3, 12), 64, "macosx-11.0-universal2", "arm64"),
            ((3, 13), 64, "win-amd64", "AMD64"),
        ],
    )
    def test_supported(
        self, run: ModuleType, version: tuple[int, int], bits: int, tag: str, machine: str
    ) -> None:
        assert run.unsupported(version, bits, tag, machine) == ""

    @pytest.mark.parametrize(
        ("version", "bits", "tag", "machine", "said"),
        [
            ((3, 10), 64, "linux-x86_64", "x86_64", "Python 3.11 to 3.14, this is 3.10"),
            ((3, 15), 64, "linux-x86_64", "x86_64", "Python 3.11 to 3.14, this is 3.15"),
            ((3, 11), 32, "win32", "AMD64", "64-bit"),
            ((3, 12), 64, "macosx-11.0-universal2", "x86_64", "Intel"),
            ((3, 12), 64, "win-arm64", "ARM64", "x64"),
        ],
    )
    def test_unsupported_is_one_line(
        self,
        run: ModuleType,
        version: tuple[int, int],
        bits: int,
        tag: str,
        machine: str,
        said: str,
    ) -> None:
        line = run.unsupported(version, bits, tag, machine)
        assert said in line
        assert "\n" not in line

    def test_supported_pythons_are_those_of_the_package(self, run: ModuleType) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        above = (run.NEWEST_PYTHON[0], run.NEWEST_PYTHON[1] + 1)
        expected = ">={}.{},<{}.{}".format(*run.OLDEST_PYTHON, *above)
        assert project["requires-python"] == expected

    def test_parts_of_the_environment(self, run: ModuleType) -> None:
        folder = Path("a folder") / ".venv"
        assert run.environment_in(folder, "posix").python == folder / "bin" / "python"
        windows = run.environment_in(folder, "nt")
        assert windows.python == folder / "Scripts" / "python.exe"
        assert windows.moda == folder / "Scripts" / "moda.exe"

    def test_cpu_index_serves_torch_alone(self, run: ModuleType) -> None:
        torch, project = run.install_commands(Path("python"), dev=True, cpu_torch=True)
        assert torch[1][-1] == "torch"
        assert {"--no-deps", run.CPU_TORCH_INDEX, "constraints.txt"} <= set(torch[1])
        assert project[1][-1] == ".[dev]"
        assert run.CPU_TORCH_INDEX not in project[1]
        for cpu_torch in (False, True):
            (plain,) = run.install_commands(Path("python"), dev=False, cpu_torch=cpu_torch)
            assert plain[1][-1] == "."

    @pytest.mark.parametrize(
        ("output", "said"),
        [
            ("... [Errno -3] Temporary failure in name resolution ...", "no network"),
            ("ERROR: Could not install: [Errno 28] No space left on device", "disk"),
            ("ERROR: No matching distribution found for torch==2.13.0", "no build"),
            ("Retrying after NewConnectionError: /whl/cpu/torch/", ""),
            ("something new", ""),
        ],
    )
    def test_causes_of_failure(self, run: ModuleType, output: str, said: str) -> None:
        cause = run.cause_of_failure(output)
        assert said in cause
        assert bool(said) == bool(cause)

    def test_damaged_stamp_counts_as_none(self, run: ModuleType, tmp_path: Path) -> None:
        stamp = tmp_path / "stamp.json"
        assert run.read_stamp(stamp) == {}
        for text in ("", "{", "[1]"):
            stamp.write_text(text, encoding="utf-8")
            assert run.read_stamp(stamp) == {}
        stamp.write_text('{"dev": true}', encoding="utf-8")
        assert run.read_stamp(stamp) == {"dev": True}

    def test_digest_follows_both_files(self, run: ModuleType, tmp_path: Path) -> None:
        digests = set()
        for project, pins in (("a", "b"), ("a", "c"), ("d", "b")):
            (tmp_path / "pyproject.toml").write_text(project, encoding="utf-8")
            (tmp_path / "constraints.txt").write_text(pins, encoding="utf-8")
            digests.add(run.inputs_digest(tmp_path))
        assert len(digests) == 3


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


class TestReadme:
    def test_it_is_short(self, readme: str) -> None:
        assert len(readme.splitlines()) <= 170

    def test_tree_names_every_entry(self) -> None:
        tree = (
            (ROOT / "docs" / "how-it-works.md")
            .read_text(encoding="utf-8")
            .split("src/moda/\n├")[1]
            .split("```")[0]
        )
        named = set(re.findall(r"── ([\w.]+)", "├" + tree))
        there = {path.relative_to(PACKAGE).parts[0] for path in sources()}
        assert named == there - {"py.typed"}

    def test_every_module_says_what_it_is_for(self) -> None:
        for path in sources():
            if path.suffix == ".py":
                assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
