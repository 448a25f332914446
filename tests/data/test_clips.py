"""Shards: what goes in comes out, the same clips give the same bytes, damage is noticed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from moda.data.clips import (
    ClipEntry,
    NeuralTrack,
    PreparedClip,
    Shard,
    iterate_clips,
    read_clips,
    read_shards,
    write_shard,
)
from moda.data.corpora import Word
from moda.data.statistics import MotionStatistics
from moda.encoders.tracking import LandmarkTrack
from moda.errors import CheckpointError

STATISTICS = MotionStatistics.of(np.random.default_rng(0).random((5, 33)))


def made_clip(name: str, *, num_frames: int = 6, neural: bool = False) -> PreparedClip:
    generator = np.random.default_rng(num_frames)
    landmarks = generator.random((num_frames, 478, 3), np.float32)
    track = LandmarkTrack(landmarks, generator.random(num_frames) > 0.3)
    samples = generator.integers(-9000, 9000, 640 * num_frames, np.int16)
    rows = NeuralTrack(
        generator.random((2, num_frames, 70), np.float32),
        generator.random((2, 63), np.float32),
        generator.random((num_frames, 48), np.float32).astype(np.float16),
    )
    words = (Word("hello", 0.25, 0.5), Word("you", 0.5, 0.75))
    return PreparedClip(
        name, "anna", "happy", track, samples, "validation", "hello you", words,
        rows if neural else None,
    )  # fmt: skip


def entry_of(clip: PreparedClip) -> ClipEntry:
    return ClipEntry.of(clip, "f" * 24)


def skipped(name: str) -> ClipEntry:
    return ClipEntry(name, "ben", "train", "skipped", "0" * 24, reasons=("no face: none; really",))


def write(path: Path, clips: list[PreparedClip], *others: ClipEntry) -> Path:
    space = "neural" if any(clip.neural for clip in clips) else "mesh"
    entries = sorted([*map(entry_of, clips), *others], key=lambda entry: entry.name)
    write_shard(path, entries, clips, STATISTICS, space)
    return path


@pytest.mark.parametrize("neural", [False, True], ids=["mesh", "neural"])
def test_a_clip_comes_back(tmp_path: Path, neural: bool) -> None:
    clip = made_clip("a.b-1", neural=neural)
    path = tmp_path / "shard-00000-of-00001.safetensors"
    shard = Shard(write(path, [clip, made_clip("c", num_frames=4, neural=neural)], skipped("x")))
    assert shard.space == ("neural" if neural else "mesh")
    assert [entry.status for entry in shard.entries] == ["prepared", "prepared", "skipped"]
    assert shard.entries[2] == skipped("x")
    np.testing.assert_array_equal(shard.statistics.mean, STATISTICS.mean)
    again = shard.clip(shard.entries[0])
    assert [clip.name for clip in shard.clips()] == ["a.b-1", "c"]
    for name in ("name", "speaker", "emotion", "split", "transcript", "words", "seconds"):
        assert getattr(again, name) == getattr(clip, name)
    np.testing.assert_array_equal(again.track.landmarks, clip.track.landmarks)
    np.testing.assert_array_equal(again.track.found, clip.track.found)
    np.testing.assert_array_equal(again.samples, clip.samples)
    assert (again.neural is not None) == neural
    if again.neural and clip.neural:
        for name in ("motion", "identity", "features"):
            ours, theirs = getattr(again.neural, name), getattr(clip.neural, name)
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


def test_no_speech_comes_back_as_none(tmp_path: Path) -> None:
    silent = replace(made_clip("a"), samples=np.zeros(0, np.int16))
    clip = next(Shard(write(tmp_path / "shard-0.safetensors", [silent])).clips())
    assert not clip.has_speech
    assert clip.sound.shape == (0,)


def test_the_same_clips_give_the_same_bytes(tmp_path: Path) -> None:
    clips = [made_clip("b"), made_clip("a", num_frames=9)]
    one = write(tmp_path / "shard-1.safetensors", clips).read_bytes()
    assert write(tmp_path / "shard-2.safetensors", clips[::-1]).read_bytes() == one
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "shard-1.safetensors",
        "shard-2.safetensors",
    ]


def test_folders_in_the_order_of_names(tmp_path: Path) -> None:
    write(tmp_path / "shard-00000-of-00002.safetensors", [made_clip("b"), made_clip("d")])
    train = replace(made_clip("c"), split="train")
    write(tmp_path / "shard-00001-of-00002.safetensors", [made_clip("a"), train], skipped("0"))
    assert [clip.name for clip in read_clips([tmp_path])] == ["a", "b", "c", "d"]
    assert [clip.name for clip in iterate_clips(tmp_path) if clip.split == "train"] == ["c"]
    assert [clip.name for clip in iterate_clips(tmp_path) if clip.split == "validation"] == [
        "b",
        "d",
        "a",
    ]


def test_damage(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no prepared clips; run moda prepare"):
        next(read_shards(tmp_path))
    path = write(tmp_path / "shard-0.safetensors", [made_clip("a")])
    whole, tensors = path.read_bytes(), load_file(path)
    for content in (b"", whole[:-1], whole[: len(whole) // 2], b"\0" * 100):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="is no shard"):
            Shard(path)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="of format moda-shard-1"):
        Shard(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": "cartoon"}, "unknown motion space 'cartoon'"),
        ({"clips": [{"name": "a"}]}, "cannot be read"),
        ({"clips": 3}, "cannot be read"),
        ({"statistics": {}}, "cannot be read"),
    ],
    ids=["space", "entry", "list", "statistics"],
)
def test_headers_that_make_no_sense(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    header = {"format": "moda-shard-1", "space": "mesh", "clips": [], "statistics": {}}
    header["statistics"] = STATISTICS.to_dict()
    path = tmp_path / "shard-0.safetensors"
    one = {"x": np.zeros(1)}
    save_file(one, path, metadata={"shard": json.dumps(header)})
    assert Shard(path).entries == ()
    save_file(one, path, metadata={"shard": json.dumps(header | change)})
    with pytest.raises(CheckpointError, match=message):
        Shard(path)


def test_an_unknown_emotion_and_a_missing_clip(tmp_path: Path) -> None:
    path = write(tmp_path / "shard-0.safetensors", [replace(made_clip("a"), emotion="hungry")])
    with pytest.raises(CheckpointError, match="unknown emotion 'hungry' of a"):
        Shard(path)
    path = write(tmp_path / "shard-1.safetensors", [made_clip("a")])
    with pytest.raises(CheckpointError, match="lacks the clip b"):
        Shard(path).clip(entry_of(made_clip("b")))
