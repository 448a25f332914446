"""Emotions while speaking: what becomes of the lips and the eyes of a drawn face."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moda.encoders.face import FaceModels
from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.encoders.tracking import track_landmarks
from moda.evaluation.model.lips import sampled_motion, whole_speech
from moda.evaluation.rendered.emotions import eye_opening, gap_spread, landmark_effects
from moda.media import AudioReader
from moda.rendering.mesh.renderer import MeshRenderer
from moda.structures import EMOTIONS, EmotionAt, Motion, Portrait, Style
from moda.structures.landmarks import Array, lip_gaps
from moda.training.fits.emotions import emotion_means
from moda.weights.checkpoints import Checkpoint, load_checkpoint
from paths import SPEECH

SECONDS = 5
SHOWN = [emotion for emotion in EMOTIONS if emotion != "neutral"]
LEAST_SPREAD = 0.8
"""Of the lip gap, in that without an emotion."""


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """The packaged model with the emotions of the anatomy alone."""
    checkpoint = load_checkpoint("moda-tiny")
    table = emotion_means([], checkpoint.space) / checkpoint.space.scale
    checkpoint.model.emotion_mean.copy_(torch.from_numpy(table))
    return checkpoint


@pytest.fixture(scope="module")
def motions(checkpoint: Checkpoint, portrait: Portrait) -> dict[str | None, Motion]:
    """Some seconds of speech by emotion; None is without."""
    samples = np.concatenate(list(AudioReader(SPEECH, SAMPLE_RATE_HZ)))
    speech = whole_speech(samples[: SECONDS * SAMPLE_RATE_HZ])
    motions = {}
    for emotion in (None, *SHOWN):
        style = Style() if emotion is None else Style((EmotionAt(0.0, emotion, 1.0),))
        motions[emotion] = sampled_motion(
            checkpoint, speech, identity=portrait.identity, style=style
        )
    return motions


@pytest.fixture(scope="module")
def drawn_gaps(
    motions: dict[str | None, Motion], crop_renderer: MeshRenderer
) -> dict[str | None, Array]:
    """(T, 9) gaps of the mesh that is drawn."""
    retargeting = crop_renderer._retargeting
    return {
        emotion: lip_gaps(np.stack([retargeting.geometry(row)[0].shape for row in motion.values]))
        for emotion, motion in motions.items()
    }


@pytest.mark.parametrize("emotion", SHOWN)
def test_lips_go_on_speaking(drawn_gaps: dict[str | None, Array], emotion: str) -> None:
    plain, shown = drawn_gaps[None][:, 4], drawn_gaps[emotion][:, 4]
    assert shown.std() >= LEAST_SPREAD * plain.std()
    assert np.corrcoef(plain, shown)[0, 1] > 0.85


@pytest.mark.parametrize("emotion", SHOWN)
def test_lips_that_meet_meet_in_every_emotion(
    motions: dict[str | None, Motion], drawn_gaps: dict[str | None, Array], emotion: str
) -> None:
    basis = motions[None].space.basis
    assert basis is not None
    gaps = motions[None].part("mouth") @ lip_gaps(basis[:16].astype(np.float64))[:, 4]
    met = gaps <= 0.0
    assert met.sum() > 20
    assert drawn_gaps[emotion][met, 4].max() < 0.006


def test_happy_lips_show_teeth_where_they_are_open(drawn_gaps: dict[str | None, Array]) -> None:
    plain, happy = drawn_gaps[None][:, 4], drawn_gaps["happy"][:, 4]
    is_open = plain > 0.04
    assert is_open.sum() > 10
    assert (happy - plain)[is_open].mean() > 0.02


@pytest.mark.slow
def test_emotions_are_seen_in_the_frames_and_do_not_shut_the_mouth(
    motions: dict[str | None, Motion], crop_renderer: MeshRenderer, models: FaceModels
) -> None:
    """A face tracker looks at them: the corners and the eyes of MoDA's happy and sad."""

    def tracked(motion: Motion) -> Array:
        frames = crop_renderer.render(motion)
        timed = ((index / 25, frame) for index, frame in enumerate(frames))
        return track_landmarks(timed, models).landmarks.astype(np.float64)

    tracks = {emotion: tracked(motion) for emotion, motion in motions.items()}
    plain = tracks[None]
    for emotion in SHOWN:
        assert gap_spread(plain, tracks[emotion]) >= LEAST_SPREAD, emotion
    effects = {emotion: landmark_effects(plain, tracks[emotion]) for emotion in SHOWN}
    assert 3.0 < effects["happy"]["corner_height"] - effects["sad"]["corner_height"] < 7.0
    # The photograph smiles already, and the width of a smile on a smile saturates.
    assert effects["happy"]["mouth_width"] > effects["sad"]["mouth_width"] + 1.0
    eyes = {emotion: eye_opening(track) for emotion, track in tracks.items()}
    assert eyes["happy"] < 0.9 * eyes["sad"]
    assert eyes["surprised"] > 1.03 * eyes[None]
