"""The benchmark of a GPU runs without one, at a tiny size; both ways draw and sample the same."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from paths import ROOT, load_file

CPU = torch.device("cpu")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return load_file(ROOT / "benchmarks" / "gpu.py")


def test_both_ways_make_the_same(gpu: ModuleType) -> None:
    size = gpu.SIZES["tiny"]
    found = gpu.measure(CPU, size._replace(num_frames=1), 1)
    sampler, renderer = found["sampler, a window"], found["renderer, a clip"]
    assert sampler["largest_difference"] < 0.01  # the last step is left out
    assert renderer["largest_difference"] <= 1
    assert sampler["peak_mb"] == {"reference": None, "ours": None}
    assert found["frames_per_second"]["ours"] > 0


def test_frames_per_second_count_windows_and_frames(gpu: ModuleType) -> None:
    sampler = {"median_s": {"reference": 6.4, "ours": 3.2}}
    renderer = {"median_s": {"reference": 0.8, "ours": 0.4}}
    size = gpu.SIZES["tiny"]._replace(num_frames=4)
    found = gpu.frames_per_second(sampler, renderer, size)
    assert found == {"aim": 3.2, "reference": 3.33, "ours": 6.67, "times_as_fast": 2.0}


def test_recordings(gpu: ModuleType) -> None:
    assert max(gpu.golden_keypoints(CPU).values()) < 1.0
