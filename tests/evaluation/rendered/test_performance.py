"""Finished videos of the example, and lips beside filmed ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from made_clips import made_clip, tiny_checkpoint
from moda.encoders.face import FaceModels
from moda.evaluation.model.articulation import Utterance
from moda.evaluation.model.lips import SpokenClip, spoken_clips
from moda.evaluation.rendered.beside_filmed import beside_filmed, compare_with_filmed
from moda.evaluation.rendered.filming import SeenFace, Stage, phone_segments, see_face, write_wav
from moda.evaluation.rendered.performance import (
    PerformanceOptions,
    choose_clips,
    mirrored,
    performance_report,
    tally_seen,
)
from moda.media import AudioReader, read_image
from moda.phones import Phone, label_segments
from moda.structures import Motion
from moda.structures.landmarks import rotation_from_euler
from moda.weights.checkpoints import load_checkpoint
from moda.weights.spaces import load_motion_space

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def clips() -> list[SpokenClip]:
    return spoken_clips([made_clip(speaker, seed) for seed, speaker in enumerate("abc")])


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    sound = np.concatenate(list(AudioReader(EXAMPLES / "speech.wav")))
    return sound[:32_000]


@pytest.fixture(scope="module")
def stage() -> Stage:
    portrait = read_image(EXAMPLES / "portrait.jpg")
    return Stage(load_checkpoint("moda-tiny"), portrait, FaceModels())


def lips(gap: np.ndarray, width: np.ndarray) -> SeenFace:
    return SeenFace(gap, width, np.zeros((len(gap), 3)))


def test_turned_faces_are_seen_turned() -> None:
    space = load_motion_space()
    assert space.canonical_face is not None
    yaw = 8.0 * np.sin(np.arange(60) / 9.0)
    canonical = space.canonical_face.astype(np.float64)
    faces = np.stack([100.0 * canonical @ rotation_from_euler(0.0, y, 0.0).T for y in yaw])
    seen = see_face(faces.astype(np.float32))
    assert np.corrcoef(seen.angles[:, 1], yaw)[0, 1] > 0.999
    assert seen.angles[:, 1].std() == pytest.approx(yaw.std(), rel=0.02)
    assert seen.angles[:, 2].std() < 0.2
    assert len(seen.first(10)) == 10


def test_wav_is_what_was_said(tmp_path: Path, speech: np.ndarray) -> None:
    path = write_wav(tmp_path / "a.wav", speech)
    heard = np.concatenate(list(AudioReader(path)))
    np.testing.assert_allclose(heard, speech, atol=1.0 / 32768.0)


def test_segments_say_the_labels() -> None:
    labels = np.repeat([Phone.SILENCE, Phone.A, Phone.BILABIAL, Phone.A], [7, 12, 5, 9])
    segments = phone_segments(labels.astype(np.int8))
    assert [part.phones for part in segments] == [
        (Phone.SILENCE,), (Phone.A,), (Phone.BILABIAL,), (Phone.A,),
    ]  # fmt: skip
    np.testing.assert_array_equal(label_segments(segments, len(labels)), labels)
    assert phone_segments(np.full(4, -1, np.int8)) == ()
    assert phone_segments(np.zeros(0, np.int8)) == ()


def test_the_stage_shows_what_the_motion_says(stage: Stage, speech: np.ndarray) -> None:
    """The head on the frames follows the head of the motion; seeds and their absence count."""
    motion = stage.motion(speech, seed=3)
    shown, made = stage.show(motion), stage.perform(speech, seed=3)
    assert len(shown) == len(made) == len(motion) == 50
    np.testing.assert_allclose(shown.gap, made.gap, atol=1e-9)
    yaw = motion.part("yaw")[:, 0].astype(np.float64)
    assert abs(np.corrcoef(made.angles[:, 1], yaw)[0, 1]) > 0.8
    other = stage.perform(speech, seed=4)
    default = stage.perform(speech)
    assert np.abs(other.angles - made.angles).max() > 0.5
    assert np.abs(default.angles - made.angles).max() > 0.5


def test_a_mouth_is_seen_in_another_head(stage: Stage, speech: np.ndarray) -> None:
    first, second = (stage.motion(speech, seed=seed) for seed in (0, 1))
    space, mouth = first.space, first.space.slice("mouth")
    values = second.values.copy()
    values[:, mouth] = first.values[:, mouth]
    seen, own = stage.show(Motion(values, space)), stage.show(first)
    assert np.corrcoef(seen.gap, own.gap)[0, 1] > 0.8


def test_lips_beside_filmed_ones_are_known() -> None:
    generator = np.random.default_rng(0)
    sound = generator.standard_normal(100 * 640).astype(np.float32)
    sound[: 25 * 640] = 0.0  # silence of a second: 75 frames of speech
    filmed = lips(np.full(100, 0.1), 0.5 + 0.1 * generator.standard_normal(100))
    filmed.gap[::10] = 0.01
    ours = lips(0.5 * filmed.gap, 0.25 * filmed.width)
    clip = compare_with_filmed("a", sound, ours, filmed)
    assert clip.num_frames == 100
    assert clip.speaking_frames == 75
    assert clip.filmed.closed_frames == clip.ours.closed_frames == 7
    whole = beside_filmed([clip, replace(clip, name="b", speaking_frames=25)])
    assert whole.gap_spread.middle == pytest.approx(0.5)
    assert whole.width_spread.middle == pytest.approx(0.25)
    assert whole.closed == pytest.approx(14 / 100)
    assert clip.closures.closures == clip.closures.met > 5
    assert whole.closures.closures == 2 * clip.closures.closures
    assert "| frames with closed lips while speaking | 14.0% | 14.0% |" in whole.rows()


def test_closures_are_counted_where_they_are_seen() -> None:
    labels = np.full(200, Phone.A, np.int8)
    for start in (40, 80, 120):
        labels[start : start + 8] = Phone.BILABIAL
    gap = np.full(50, 0.1)
    gap[10], gap[20] = 0.015, 0.025
    utterance = Utterance("fr", np.zeros(32_000, np.float32), labels)
    seen = tally_seen(utterance, lips(gap, np.zeros(50)))
    assert seen.closed.closures == seen.low.closures == 3
    assert (seen.closed.closed, seen.low.closed) == (1, 2)
    assert (seen + seen).low.closed == 4


def test_the_longest_clip_of_each_speaker_comes_first(clips: list[SpokenClip]) -> None:
    a, b, c = clips
    short = replace(a, name="short", speaker="b", gap=a.gap[:50])
    chosen = choose_clips([short, c, b, a], 3)
    assert [clip.name for clip in chosen] == ["a0", "b1", "c2"]
    assert choose_clips([short, c, b, a], 4)[3].name == "short"


def test_a_portrait_is_mirrored() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(1, 4, 3)
    np.testing.assert_array_equal(mirrored(picture)[0, 0], picture[0, 3])


def test_the_report_films_and_counts(clips: list[SpokenClip]) -> None:
    """A model that is not trained: its head is noise of the seed, whatever is said."""
    portrait = read_image(EXAMPLES / "portrait.jpg")
    labels = np.full(100, Phone.A, np.int8)
    labels[40:52] = Phone.BILABIAL
    utterance = Utterance("fr", clips[0].samples[:16_000], labels)
    report = performance_report(
        tiny_checkpoint(),
        clips[:1],
        clips[1:],
        (portrait, mirrored(portrait)),
        [utterance],
        PerformanceOptions(seconds=2.0, num_clips=1),
    )
    assert report.num_videos == 3 + 3 + 3 + 4 + 2
    assert report.same_noise.num_pairs == 3
    assert report.same_noise.seconds == 2.0
    assert report.defaults.num_pairs == 6
    same = report.same_noise
    assert max(same.pitch.largest, same.yaw.largest, same.roll.largest) > 0.8, "it is deaf"
    assert report.other_seed.heads.yaw.mean < report.same_noise.yaw.mean
    assert report.other_seed.lips.gap > 0.0
    assert [clip.name for clip in report.beside_filmed.clips] == ["a0"]
    assert report.beside_filmed.clips[0].num_frames == 50
    assert report.articulation is not None
    assert report.articulation.known is not None
    assert report.articulation.known.closed.closures == 1
    assert 0.0 < report.rest_gap < 0.03
    text = "\n".join(report.markdown())
    assert "| same seed, other speech | 3 of 2.0 s |" in text
    assert "1 p, b, m: gap below 0.02, phones known" in text
