"""Two faces of one picture speak: each with its own lips, together or in turns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from media_files import decode_video, tone, write_wav
from moda.errors import FaceError, InputError
from moda.options import Speaker
from moda.pipeline import TalkingHead
from moda.pipeline.group import animate_group, ownership
from paths import EXAMPLES


@pytest.fixture(scope="module")
def head() -> TalkingHead:
    return TalkingHead.from_pretrained("moda-tiny", device="cpu")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    face = Image.open(EXAMPLES / "portrait.jpg").crop((110, 0, 366, 256))
    both = Image.new("RGB", (512, 256))
    both.paste(face, (0, 0))
    both.paste(face, (256, 0))
    path = tmp_path_factory.mktemp("group") / "two.png"
    both.save(path)
    return path


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A second of the example, and half a second of a tone."""
    folder = tmp_path_factory.mktemp("speech")
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav", frames=24_000)
    return (
        write_wav(folder / "a.wav", samples, rate_hz),
        write_wav(folder / "b.wav", tone(0.5, 16_000), 16_000),
    )


def moved(frames: list[np.ndarray]) -> tuple[float, float]:
    """How much the left and the right half change over time."""
    spread = np.stack(frames).astype(float).std(0).mean(-1)
    middle = spread.shape[1] // 2
    return float(spread[:, :middle].mean()), float(spread[:, middle:].mean())


def test_both_move_and_the_rest_does_not(
    head: TalkingHead, pair: Path, speech: tuple[Path, Path], tmp_path: Path
) -> None:
    speakers = [Speaker(1, speech[0]), Speaker(2, speech[1])]
    video = animate_group(head, pair, speakers, tmp_path, size=256, num_steps=1)
    frames = list(video.frames())
    left, right = moved(frames)
    assert min(left, right) > 0.1
    alone = animate_group(head, pair, speakers[:1], tmp_path, size=256, num_steps=1)
    left, right = moved(list(alone.frames()))
    assert left > 0.1
    assert right < 0.2 * left, "who is not named stays still"
    np.testing.assert_array_equal(frames[3], list(video.frames())[3])
    summary = video.write(tmp_path / "talk.mp4")
    written = decode_video(summary.path)
    assert len(written.frames) == summary.num_frames == 25
    assert written.sound_seconds == pytest.approx(1.0, abs=0.03)


def test_in_turns(head: TalkingHead, pair: Path, speech: tuple[Path, Path], tmp_path: Path) -> None:
    speakers = [Speaker(2, speech[1]), Speaker(1, speech[0])]
    video = animate_group(
        head, pair, speakers, tmp_path, in_turns=True, size=128, num_steps=1, head_motion=0.0,
        blink=False,
    )  # fmt: skip
    samples, rate_hz = soundfile.read(tmp_path / "all.wav")
    assert len(samples) / rate_hz == pytest.approx(0.5 + 0.4 + 1.0, abs=1e-3)
    assert np.abs(samples[: rate_hz // 2]).max() > 0.2
    assert np.abs(samples[int(0.55 * rate_hz) : int(0.85 * rate_hz)]).max() < 1e-3
    assert video.num_frames == 48


def test_ownership() -> None:
    shares = ownership([np.array([20.0, 30.0]), np.array([80.0, 30.0])], (100, 60))
    np.testing.assert_allclose(sum(shares), 1.0, atol=1e-6)
    assert shares[0][30, 20, 0] == 1.0
    assert shares[0][30, 80, 0] == 0.0
    assert shares[0][30, 50, 0] == pytest.approx(0.5, abs=0.05)
    (alone,) = ownership([np.array([5.0, 5.0])], (10, 10))
    assert (alone == 1.0).all()


def test_mistakes(head: TalkingHead, pair: Path, speech: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="named twice"):
        animate_group(head, pair, [Speaker(1, speech[0]), Speaker(1, speech[1])], tmp_path)
    with pytest.raises(FaceError, match="there is no face 3"):
        animate_group(head, pair, [Speaker(3, speech[0])], tmp_path)


def test_notes_on_all_recordings_are_handed_on(
    head: TalkingHead, pair: Path, speech: tuple[Path, Path], tmp_path: Path
) -> None:
    silent, twice = tmp_path / "silent.wav", tmp_path / "twice.wav"
    write_wav(silent, np.zeros(16_000), 16_000)
    twice.write_bytes(speech[0].read_bytes() * 2)
    speakers = [Speaker(1, twice), Speaker(2, silent)]
    video = animate_group(head, pair, speakers, tmp_path, size=64, num_steps=1)
    assert [note for note in video.notes if "several recordings" in note] == [
        f"{twice} holds several recordings one after the other; the first is used"
    ]
    assert len(set(video.notes)) == len(video.notes)
    assert len(list(video.frames())) == 25
    assert video.notes_afterwards() == ("no speech was found in silent.wav; the lips stay closed",)
