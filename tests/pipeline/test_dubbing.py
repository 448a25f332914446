"""New lips on footage: the mouth says something else, everything else stays what it was."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile

from media_files import decode_video, level_pictures, tone, write_video, write_wav
from moda.encoders.tracking import track_landmarks
from moda.errors import FaceError, InputError
from moda.media import VideoReader
from moda.motion.hearing.lips import lips_of_motion
from moda.pipeline import TalkingHead, TalkingVideo
from moda.pipeline.dubbing import dub, track_face
from moda.structures import Motion
from moda.structures.landmarks import FACE_OVAL, LIPS, lip_gap
from moda.systems.embedded import EmbeddedSystem
from paths import EXAMPLES

SECONDS = 1.6


@pytest.fixture(scope="module")
def head() -> TalkingHead:
    return TalkingHead.from_pretrained("moda-tiny", device="cpu")


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav", frames=int(SECONDS * 24_000))
    return write_wav(tmp_path_factory.mktemp("speech") / "a.wav", samples, rate_hz)


@pytest.fixture(scope="module")
def footage(head: TalkingHead, speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, speaking, with its head turning."""
    path = tmp_path_factory.mktemp("footage") / "talk.mp4"
    head.generate(EXAMPLES / "portrait.jpg", speech, size=512, full_frame=False, seed=2).write(path)
    return path


def landmarks(frames: list[np.ndarray], head: TalkingHead) -> np.ndarray:
    assert isinstance(head.system, EmbeddedSystem)
    timed = ((index / 25, frame) for index, frame in enumerate(frames))
    return track_landmarks(timed, head.system.models).landmarks.astype(float)


def film_of(pictures: list[np.ndarray], path: Path) -> list[np.ndarray]:
    """Write pictures at 25 a second; returns them as they are read again."""
    write_video(path, pictures, [40 * n for n in range(len(pictures))], rate=25)
    return list(VideoReader(path))


def test_silence_closes_the_lips_and_leaves_the_rest(
    head: TalkingHead, footage: Path, tmp_path: Path
) -> None:
    silence = write_wav(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    counts: list[tuple[int, int]] = []
    video = dub(head, footage, silence, progress=lambda *count: counts.append(count))
    frames, filmed = list(video.frames()), list(VideoReader(footage))
    assert len(frames) == len(filmed) == video.num_frames == 40
    assert counts[-1] == (40, 40)
    assert video.notes_afterwards() == ("no speech was found in silence.wav; the lips stay closed",)
    before, after = landmarks(filmed, head), landmarks(frames, head)
    assert lip_gap(before).max() > 0.05, "the footage speaks"
    assert np.percentile(lip_gap(after)[6:], 90) < 0.030, "the dubbed one does not"
    eyes = [33, 133, 362, 263, 168, 6]
    assert np.abs(after[:, eyes, :2] - before[:, eyes, :2]).mean() < 0.7
    for drawn, original, points in zip(frames, filmed, before, strict=True):
        top = int(points[1, 1] - 0.5 * np.ptp(points[:, 1]))
        np.testing.assert_array_equal(drawn[:top], original[:top])


def test_the_same_speech_gives_nearly_the_same_lips(
    head: TalkingHead, footage: Path, speech: Path, tmp_path: Path
) -> None:
    video = dub(head, footage, speech, seed=2)
    frames, filmed = list(video.frames()), list(VideoReader(footage))
    gaps = [lip_gap(landmarks(part, head))[10:] for part in (filmed, frames)]
    wanted, _ = lips_of_motion(
        Motion(np.concatenate([part.values for part in video.motion()]), head.space)
    )
    assert np.corrcoef(*gaps)[0, 1] > 0.5  # small openings are drawn larger
    assert np.corrcoef(gaps[1], wanted[10:])[0, 1] > 0.7
    again = list(video.frames())
    np.testing.assert_array_equal(again, frames)
    steps = [
        np.abs(np.diff(np.stack(part).astype(float), axis=0)).mean() for part in (filmed, frames)
    ]
    assert steps[1] < 1.4 * steps[0], "no flicker"
    summary = video.write(tmp_path / "dubbed.mp4")
    assert summary.notes == ()
    written = decode_video(summary.path)
    assert len(written.frames) == 40
    assert written.sound_seconds == pytest.approx(1.6, abs=0.05)


@pytest.mark.parametrize("slowly", [False, True])
def test_frames_without_a_face_stay(
    head: TalkingHead, footage: Path, tmp_path: Path, slowly: bool
) -> None:
    """The face goes and comes back: a cut to black, or a curtain that falls and rises."""
    pictures = decode_video(footage).frames
    for index, picture in enumerate(pictures):
        fallen = np.interp(index, [4, 16, 22, 34], [0, 1, 1, 0]) if slowly else 8 < index < 30
        picture[: int(512 * fallen)] = 90 if slowly else 0
    filmed = film_of(pictures, tmp_path / "in.mkv")
    silence = write_wav(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    video = dub(head, tmp_path / "in.mkv", silence)
    assert isinstance(head.system, EmbeddedSystem)
    film = track_face(VideoReader(tmp_path / "in.mkv", 25.0), head.system)
    shares = np.zeros(film.num_frames)
    for shot in film.shots:
        shares[shot.start : shot.stop] = shot.share
    hidden = np.flatnonzero(shares == 0.0)
    assert film.num_hidden == len(hidden)
    (note,) = video.notes
    assert f"not seen in {len(hidden) / 25:.1f} of 1.6 s" in note
    assert 0.2 < len(hidden) / len(shares) < 0.6
    assert (len(np.unique(shares)) > 3) == slowly, "new lips fade in and out with the face"
    for index, frame in enumerate(video.frames()):
        changed = np.abs(frame.astype(int) - filmed[index]).max()
        assert (changed == 0) == (index in hidden), index


def test_footage_loops_back_and_forth(head: TalkingHead, footage: Path, tmp_path: Path) -> None:
    film = tmp_path / "short.mkv"
    filmed = film_of(decode_video(footage).frames[:10], film)
    silence = write_wav(tmp_path / "silence.wav", np.zeros(17_920), 16_000)
    with pytest.raises(InputError, match="--loop"):
        dub(head, film, silence)
    frames = list(dub(head, film, silence, loop=True).frames())
    top = filmed[0].shape[0] // 4  # away from the mouth: the pictures as they are
    places = [*range(10), *range(8, -1, -1), *range(1, 10)]
    for frame, place in zip(frames, places, strict=True):
        np.testing.assert_array_equal(frame[:top], filmed[place][:top])


def changed_places(video: TalkingVideo, filmed: list[np.ndarray]) -> np.ndarray:
    """(H, W) where new lips change a film clearly."""
    pairs = zip(video.frames(), filmed, strict=True)
    return np.any([np.abs(np.subtract(*pair, dtype=int)).max(2) > 40 for pair in pairs], axis=0)


def test_the_face_to_dub_is_chosen(head: TalkingHead, footage: Path, tmp_path: Path) -> None:
    both = [np.hstack([picture, picture[:, ::-1]]) for picture in decode_video(footage).frames[:6]]
    filmed = film_of(both, tmp_path / "two.mkv")
    silence = write_wav(tmp_path / "silence.wav", np.zeros(4_000), 16_000)
    for face, untouched in ((1, np.s_[:, 512:]), (2, np.s_[:, :512])):
        video = dub(head, tmp_path / "two.mkv", silence, face=face)
        assert not video.notes
        places = changed_places(video, filmed)
        assert places.any()
        assert not places[untouched].any()
    (note,) = dub(head, tmp_path / "two.mkv", silence).notes
    assert re.match(r"2 faces are seen at 0\.0 s; .* number [12] from the left; .*--face$", note)
    with pytest.raises(FaceError, match="a face 3"):
        dub(head, tmp_path / "two.mkv", silence, face=3)


def test_covered_mouths_stay(head: TalkingHead, footage: Path, tmp_path: Path) -> None:
    pictures = decode_video(footage).frames[:20]
    for picture, points in zip(pictures, landmarks(pictures, head), strict=True):
        nose = points[197, :2]
        oval = points[list(FACE_OVAL), :2]
        lower = np.array([nose, *oval[oval[:, 1] > nose[1]]], np.float32)
        cv2.fillConvexPoly(picture, cv2.convexHull(lower).astype(np.int32), (120, 175, 215))
    filmed = film_of(pictures, tmp_path / "masked.mkv")
    silence = write_wav(tmp_path / "silence.wav", np.zeros(4_000), 16_000)
    video = dub(head, tmp_path / "masked.mkv", silence)
    np.testing.assert_array_equal(list(video.frames()), filmed)
    (note,) = video.notes
    assert note.startswith("the mouth is covered in 0.8 of 0.8 s")


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_faces_may_lie_on_their_sides(
    head: TalkingHead, footage: Path, tmp_path: Path, quarter_turns: int
) -> None:
    upright = decode_video(footage).frames[:6]
    lying = [np.rot90(picture, quarter_turns) for picture in upright]
    filmed = film_of(lying, tmp_path / "lying.mkv")
    silence = write_wav(tmp_path / "silence.wav", np.zeros(4_000), 16_000)
    places = changed_places(dub(head, tmp_path / "lying.mkv", silence), filmed)
    places = np.rot90(places, -quarter_turns)
    faces = landmarks(upright, head)[..., :2]
    mouth = faces[:, list(LIPS)].mean((0, 1)).astype(int)
    reach = int(np.ptp(faces[..., 1], axis=1).max() / 2)
    around = np.s_[mouth[1] - reach : mouth[1] + reach, mouth[0] - reach : mouth[0] + reach]
    assert places[around].any()
    places[around] = False
    assert not places.any()


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_films_of_turned_phones_are_upright(
    head: TalkingHead, footage: Path, tmp_path: Path, quarter_turns: int, suffix: str
) -> None:
    """Stored on its side, with a matrix that says so: dubbed and copied like any other."""
    upright = [picture[:, 32:-32] for picture in decode_video(footage).frames[:6]]
    one = 1 << 16
    right, down = (((0, one), (-one, 0)), ((-one, 0), (0, -one)), ((0, -one), (one, 0)))[
        quarter_turns - 1
    ]
    films = [tmp_path / f"plain.{suffix}", tmp_path / f"turned.{suffix}"]
    times = [40 * number for number in range(len(upright))]
    write_video(films[0], upright, times, rate=25)
    lying = [np.ascontiguousarray(np.rot90(picture, quarter_turns)) for picture in upright]
    matrix = (*right, 0, *down, 0, 0, 0, 1 << 30)
    write_video(films[1], lying, times, rate=25, display_matrix=matrix)
    silence = write_wav(tmp_path / "silence.wav", np.zeros(4_000), 16_000)
    plain, turned = (dub(head, film, silence) for film in films)
    assert turned.frame_size == plain.frame_size == (448, 512)
    for expected, frame in zip(plain.frames(), turned.frames(), strict=True):
        assert np.abs(frame.astype(int) - expected).mean() < 2.0
    copies = [head.reenact(EXAMPLES / "portrait.jpg", film, size=64) for film in films]
    expected, found = (np.vstack([part.values for part in copy.motion()]) for copy in copies)
    assert np.abs((found - expected) / head.space.scale).mean() < 0.25


def test_what_cannot_be_dubbed(head: TalkingHead, footage: Path, tmp_path: Path) -> None:
    long = write_wav(tmp_path / "long.wav", tone(4.0, 16_000), 16_000)
    with pytest.raises(InputError, match=r"speech lasts 4\.0 s, the footage only 1\.6 s.*--loop"):
        dub(head, footage, long)
    short = write_wav(tmp_path / "short.wav", tone(0.1, 16_000), 16_000)
    empty = write_video(tmp_path / "in.mkv", level_pictures([10, 20, 30, 40]), [0, 40, 80, 120])
    with pytest.raises(FaceError, match="shows a face"):
        dub(head, empty, short)
