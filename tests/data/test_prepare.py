"""Preparation of a folder of videos that the test makes from the example portrait."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from media_files import write_moving_portrait
from moda.data.clips import read_clip, read_clips
from moda.data.prepare import prepare_folder, read_labels
from moda.encoders.face import FaceModels
from moda.errors import CheckpointError, InputError
from moda.landmarks import eye_distance


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("videos")
    write_moving_portrait(made / "moves.mp4", 24.0)
    write_moving_portrait(made / "stays.mp4", 0.0)
    (made / "broken.mp4").write_bytes(b"this is not a video")
    (made / "notes.txt").write_text("not a video")
    return made


@pytest.fixture(scope="module")
def models() -> FaceModels:
    return FaceModels()


@pytest.fixture(scope="module")
def prepared(folder: Path, models: FaceModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("prepared")
    labels = output.parent / "labels.csv"
    labels.write_text("file,speaker,emotion,sound\nmoves.mp4,anna,happy,\nstays.mp4,ben,,none\n")
    outcomes = prepare_folder(folder, output, models=models, labels=labels)
    assert {outcome.file: outcome.status for outcome in outcomes} == {
        "broken.mp4": "skipped",
        "moves.mp4": "prepared",
        "stays.mp4": "prepared",
    }
    return output


def test_motion_is_that_of_the_video(prepared: Path) -> None:
    clip = read_clip(prepared / "moves.safetensors")
    nose = clip.track.landmarks[:, 1, 0]
    assert len(clip.track) == 30  # 36 frames at 30 fps are 1.2 s
    assert nose[-2] - nose[0] == pytest.approx(24.0 * 28 / 30, abs=1.5)
    assert np.ptp(eye_distance(clip.track.landmarks)) < 2.0
    still = read_clip(prepared / "stays.safetensors")
    assert np.ptp(still.track.landmarks[:, 1, 0]) < 1.0


def test_labels_and_sound(prepared: Path) -> None:
    clip = read_clip(prepared / "moves.safetensors")
    assert (clip.speaker, clip.emotion) == ("anna", "happy")
    spectrum = np.abs(np.fft.rfft(clip.sound[2000:12_000]))
    assert int(spectrum.argmax()) * 1.6 == pytest.approx(300.0, abs=2.0)
    assert not read_clip(prepared / "stays.safetensors").has_speech


def test_a_second_run_keeps_what_is_there(
    folder: Path, prepared: Path, models: FaceModels, tmp_path: Path
) -> None:
    output = tmp_path / "again"
    shutil.copytree(prepared, output)
    (output / "stays.safetensors").write_bytes(b"cut off")
    labels = tmp_path / "labels.csv"
    labels.write_text("file,speaker,emotion,sound\nmoves.mp4,anna,happy,\nstays.mp4,ben,,none\n")
    outcomes = prepare_folder(folder, output, models=models, labels=labels)
    statuses = {outcome.file: outcome.status for outcome in outcomes}
    assert statuses == {"broken.mp4": "skipped", "moves.mp4": "kept", "stays.mp4": "prepared"}
    for name in ("moves", "stays"):
        one, other = (read_clip(root / f"{name}.safetensors") for root in (prepared, output))
        np.testing.assert_array_equal(one.track.landmarks, other.track.landmarks)
    report = json.loads((output / "report.json").read_text())
    assert "broken.mp4" in report[0]["reason"]
    assert not list(output.glob("*.partial"))


def test_unusable_folders(tmp_path: Path, models: FaceModels) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        prepare_folder(tmp_path / "nowhere", tmp_path / "out", models=models)
    with pytest.raises(InputError, match="holds no videos"):
        prepare_folder(tmp_path, tmp_path / "out", models=models)
    with pytest.raises(CheckpointError, match="holds no prepared clips"):
        read_clips([tmp_path])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\nx.mp4\n", "columns file and speaker"),
        ("file,speaker,emotion\nx.mp4,anna,hungry\n", "unknown emotion 'hungry'"),
    ],
)
def test_wrong_labels(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_labels(path)


def test_damaged_clip(tmp_path: Path) -> None:
    path = tmp_path / "clip.safetensors"
    path.write_bytes(b"\x00" * 100)
    with pytest.raises(CheckpointError, match="is not a prepared clip"):
        read_clip(path)
