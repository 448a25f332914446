"""What a second process compiles is what the renderer calls."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from moda.rendering.mesh import first_use
from moda.rendering.mesh.mouth_painting import _tabulate, paint_mouth
from moda.rendering.mesh.renderer import MeshRenderer
from moda.rendering.mesh.warp import gather_samples, scatter_samples
from moda.structures import Motion

KERNELS: list[Any] = [_tabulate, paint_mouth, scatter_samples, gather_samples]


def test_the_kinds_of_the_arguments_are_those_of_a_frame(
    renderer: MeshRenderer, wild_motion: Motion
) -> None:
    frames = renderer.render(Motion(wild_motion.values[:4], wild_motion.space))
    assert len(list(frames)) == 4
    drawn = [list(kernel.signatures) for kernel in KERNELS]
    assert all(drawn)
    first_use.call_for_nothing()
    assert [list(kernel.signatures) for kernel in KERNELS] == drawn


def test_the_second_process_ends_well_and_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[subprocess.Popen[bytes]] = []

    class Process(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            begun.append(self)

    monkeypatch.setattr(first_use.subprocess, "Popen", Process)
    monkeypatch.setattr(first_use, "_is_kept", lambda kernel: False)
    monkeypatch.setattr(first_use, "_running", [])
    assert not first_use.was_compiled()
    first_use.compile_beside()
    first_use.wait_until_compiled()
    assert first_use.was_compiled()
    assert [process.returncode for process in begun] == [0]
    first_use.wait_until_compiled()  # nothing is left to wait for


def test_the_second_process_runs_nothing_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = "from pathlib import Path\nPath(__file__).with_name('sprung').touch()\n"
    (tmp_path / "numba.py").write_text(trap)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(first_use, "_is_kept", lambda kernel: False)
    monkeypatch.setattr(first_use, "_running", [])
    first_use.compile_beside()
    first_use.wait_until_compiled()
    assert [process.returncode for process in first_use._running] == [0]
    assert not (tmp_path / "sprung").exists()


def test_a_kernel_is_kept_until_its_source_is_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "loops.py"
    source.write_text(
        "from moda.rendering.compiled import compiled\n\n\n"
        "@compiled\ndef twice(number: float) -> float:\n    return 2.0 * number\n"
    )
    found = importlib.util.spec_from_file_location("loops", source)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    twice = cast(Any, module).twice
    assert not first_use._is_kept(twice)
    assert twice(2.0) == 4.0
    assert first_use._is_kept(twice)
    [index] = Path(twice.stats.cache_path).glob("loops.twice-*.nbi")
    later = index.stat().st_mtime + 10.0
    os.utime(source, (later, later))
    assert not first_use._is_kept(twice)


@pytest.mark.parametrize(("name", "value"), [("frozen", True), ("executable", "")])
def test_programs_that_python_does_not_run_begin_nothing(
    name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_use, "_is_kept", lambda kernel: False)
    monkeypatch.setattr(sys, name, value, raising=False)
    monkeypatch.setattr(first_use, "_running", [])
    first_use.compile_beside()
    assert not first_use.was_compiled()
