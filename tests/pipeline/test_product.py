"""The installed command on a real photograph and a spoken sentence.

The written video is decoded and tracked again, and what it shows is measured. Nothing of the
program's own arrays is looked at.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from moda.encoders.face import FaceModels, FaceTracker
from moda.structures.landmarks import eye_opening, lip_gap
from paths import EXAMPLES

COMMAND = shutil.which("moda", path=str(Path(sys.executable).parent)) or "moda"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("product") / "talk.mp4"
    done = run("generate", EXAMPLES / "portrait.jpg", EXAMPLES / "speech.wav", "-o", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert str(path) in done.stdout
    return path


@pytest.fixture(scope="module")
def frames(video: Path) -> list[np.ndarray]:
    with av.open(str(video)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def landmarks(frames: list[np.ndarray]) -> np.ndarray:
    tracker = FaceTracker(FaceModels())
    tracked = [tracker.track(frame) for frame in frames]
    assert all(face is not None for face in tracked)
    return np.stack([face.points for face in tracked if face is not None])


@pytest.fixture(scope="module")
def loudness() -> np.ndarray:
    """Level of the sentence in dB per frame of 40 ms, read without the project's code."""
    with wave.open(str(EXAMPLES / "speech.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768.0
        size = file.getframerate() // 25
    pieces = samples[: len(samples) // size * size].reshape(-1, size)
    return np.asarray(10.0 * np.log10((pieces**2).mean(1) + 1e-9))


def test_picture_and_sound_are_as_long_as_the_speech(
    video: Path, frames: list[np.ndarray], loudness: np.ndarray
) -> None:
    with av.open(str(video)) as container:
        sound = container.streams.audio[0]
        assert container.streams.video[0].average_rate == 25
        assert abs(float(sound.duration * sound.time_base) - len(frames) / 25.0) <= 0.04
        assert container.metadata["synthetic_media"] == "true"
    assert 0 <= len(frames) - len(loudness) <= 1


def test_lips_move_with_the_speech_and_rest_in_the_pause(
    landmarks: np.ndarray, loudness: np.ndarray
) -> None:
    gap = lip_gap(landmarks)[: len(loudness)]
    speaking, silent = loudness > loudness.max() - 25.0, loudness < loudness.max() - 45.0
    quiet = np.convolve(silent, np.ones(13), "same") > 12.5  # half a second of silence around
    assert quiet.sum() >= 5, "the example has a pause"
    assert np.median(gap[quiet]) < 0.03
    assert np.median(gap[quiet]) < 0.6 * np.percentile(gap[speaking], 75)
    assert gap[speaking].std() > 0.008
    assert np.median(gap[speaking]) > 1.3 * np.median(gap[quiet])


def test_the_face_is_alive(landmarks: np.ndarray) -> None:
    opening = eye_opening(landmarks)
    assert opening.min() < 0.5 * np.median(opening), "somewhere it blinks"
    nose = landmarks[:, 1, :2]
    steps = np.linalg.norm(np.diff(nose, axis=0), axis=1)
    assert np.ptp(nose, axis=0).max() > 1.0, "the head moves"
    assert steps.max() < 4.0, "and does not jump"


def test_the_background_is_the_photograph(frames: list[np.ndarray]) -> None:
    photo = np.asarray(Image.open(EXAMPLES / "portrait.jpg").convert("RGB"), np.float64)
    strip = np.s_[-40:, -60:]  # lower right corner, far from the head
    for frame in frames[::40]:
        assert frame.shape == photo.shape
        assert np.abs(frame[strip] - photo[strip]).mean() < 6.0  # what H.264 costs


def test_same_seed_same_file_other_seed_other_head(video: Path, tmp_path: Path) -> None:
    """But for the signed manifest, which has a key of its own in every file."""
    speech = tmp_path / "short.wav"
    with wave.open(str(EXAMPLES / "speech.wav")) as source, wave.open(str(speech), "wb") as target:
        target.setparams(source.getparams())
        target.writeframes(source.readframes(2 * source.getframerate()))
    paths = [tmp_path / f"{name}.mp4" for name in ("first", "second", "other")]
    for path, seed in zip(paths, ("5", "5", "6"), strict=True):
        done = run(
            "generate", EXAMPLES / "portrait.jpg", speech, "-o", path, "--seed", seed,
            "--no-synthetic-metadata",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    first, second, other = (path.read_bytes() for path in paths)
    assert first == second
    assert first != other


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["portrait.jpg", "speech.wav", "--face", "5"], "face"),
        (["portrait.jpg", "speech.wav", "--emotion", "hungry"], "unknown emotion"),
        (["portrait.jpg", "speech.wav", "--steps", "-3"], "steps"),
        (["portrait.jpg", "portrait.jpg"], "portrait.jpg"),
        (["README.md", "speech.wav"], "README.md"),
        (["portrait.jpg", "nothing.wav"], "nothing.wav"),
    ],
)
def test_bad_input_is_one_clear_line(arguments: list[str], words: str, tmp_path: Path) -> None:
    target = tmp_path / "talk.mp4"
    inputs = [EXAMPLES / name for name in arguments[:2]]
    done = run("generate", *inputs, *arguments[2:], "-o", target)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
