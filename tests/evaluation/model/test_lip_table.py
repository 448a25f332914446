"""The lip table on made clips: damaged sound, comparison, rendered motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from made_clips import made_clip, tiny_checkpoint
from moda.encoders.face import FaceModels
from moda.encoders.portrait import encode_portrait
from moda.evaluation.model.lip_table import (
    LipTableOptions,
    add_at_ratio,
    baselines,
    compare_rows,
    damaged_clips,
    exchanged_speech,
    lip_table,
    make_babble,
    narrow_band,
)
from moda.evaluation.model.lips import SpokenClip, heard_by, score, spoken_clips
from moda.evaluation.rendered.filming import watch
from moda.media import read_image
from moda.motion.hearing.lips import lips_of_motion
from moda.rendering.mesh.renderer import MeshRenderer
from moda.structures import Motion
from moda.weights.spaces import load_motion_space
from paths import PORTRAIT


@pytest.fixture(scope="module")
def clips() -> list[SpokenClip]:
    return spoken_clips([made_clip(speaker, seed) for seed, speaker in enumerate("abcdef")])


def test_noise_has_the_ratio() -> None:
    generator = np.random.default_rng(0)
    sound = generator.standard_normal(16_000).astype(np.float32)
    noise = 7.0 * generator.standard_normal(16_000)
    added = add_at_ratio(sound, noise, 20.0) - sound
    assert 10 * np.log10((sound**2).mean() / (added**2).mean()) == pytest.approx(20.0, abs=0.01)


def test_narrow_band_ends_at_4_khz() -> None:
    seconds = np.arange(16_000) / 16_000
    low, high = (np.sin(2 * np.pi * hz * seconds).astype(np.float32) for hz in (1000, 6000))
    heard = narrow_band(low + high)
    assert heard.shape == low.shape
    np.testing.assert_allclose(heard[1000:-1000], low[1000:-1000], atol=0.01)


def test_babble_is_of_several_voices() -> None:
    voices = [np.sin(np.arange(4000) * step).astype(np.float32) for step in (0.1, 0.2, 0.3)]
    babble = make_babble(voices, 6000, np.random.default_rng(1))
    assert babble.shape == (6000,)
    spectrum = np.abs(np.fft.rfft(babble[:4000]))
    loud = spectrum > 0.1 * spectrum.max()
    assert sum(loud[round(step * 4000 / (2 * np.pi))] for step in (0.1, 0.2, 0.3)) >= 2


def test_damaged_clips_keep_their_lips(clips: list[SpokenClip]) -> None:
    damaged = damaged_clips(clips[:2], clips[2:])
    assert set(damaged) == {"white and babble noise at 20 dB", "8 kHz"}
    for changed in damaged.values():
        np.testing.assert_array_equal(changed[0].gap, clips[0].gap)
        assert len(changed[0].speech) == len(clips[0].speech)
        assert np.abs(changed[0].speech.features - clips[0].speech.features).max() > 0.1


def test_speech_is_exchanged(clips: list[SpokenClip]) -> None:
    first, second = exchanged_speech(clips[:2])
    np.testing.assert_array_equal(first.speech.features, clips[1].speech.features)
    np.testing.assert_array_equal(second.speech.features, clips[0].speech.features)
    np.testing.assert_array_equal(first.gap, clips[0].gap)


def test_baselines_hear_the_made_link(clips: list[SpokenClip]) -> None:
    loudness, linear = baselines(clips[:2], clips[2:])
    assert loudness.gap > 0.5
    assert linear.gap > 0.5
    assert loudness.row().count("|") == 6
    assert [row.method for row in baselines(clips[:2], [])] == ["loudness"]


def test_rows_are_compared_clip_by_clip(clips: list[SpokenClip]) -> None:
    own = score("own", clips, lambda clip: (clip.gap, clip.width))
    worse = replace(
        own,
        per_clip={name: replace(clip, gap=clip.gap - 0.25) for name, clip in own.per_clip.items()},
    )
    found = compare_rows(own, worse, "worse")
    assert found.gap.difference == pytest.approx(0.25)
    assert found.gap.high - found.gap.low == pytest.approx(0.0, abs=1e-9)
    assert found.width.difference == 0.0


def test_the_table_has_what_the_model_can_do(clips: list[SpokenClip]) -> None:
    labels = {clip.name: np.zeros(500, np.int8) for clip in clips}
    plain = tiny_checkpoint(knows_phones=False, has_mean=False)
    options = LipTableOptions(seeds=(0,), clip_phones=labels, compare=("plain", plain))
    table = lip_table(tiny_checkpoint(), clips[:1], clips[1:], options)
    methods = [row.method for row in table.rows]
    assert "sampled, phones known" in methods
    assert "regression (the model's mean)" in methods
    assert methods[-1] == "other model, plain"
    assert table.comparison is not None
    assert len(table.notes) == 1  # no portrait
    poorer = lip_table(
        plain, heard_by(plain, clips[:1]), [], LipTableOptions((0,), clip_phones=labels)
    )
    assert "sampled, phones known" not in [row.method for row in poorer.rows]
    assert [note.split(",")[0] for note in poorer.notes[:2]] == ["known phones", "regression"]
    assert "| sampled | " in "\n".join(poorer.markdown())


def test_rendered_lips_are_seen_again() -> None:
    space, models = load_motion_space(), FaceModels()
    portrait = encode_portrait(read_image(PORTRAIT), space, models=models)
    renderer = MeshRenderer(portrait, space, size=256, full_frame=False)
    values = np.tile(space.rest, (12, 1))
    assert space.basis is not None
    gaps = space.basis[:16, 14, 1] - space.basis[:16, 13, 1]
    widest = int(np.argmax(np.abs(gaps)))  # a component opens the mouth forwards or backwards
    values[:, widest] = 1.5 * np.sign(gaps[widest]) * np.abs(np.sin(np.arange(12)))
    motion = Motion(values.astype(np.float32), space)
    seen = watch(renderer.render(motion), models)
    assert np.corrcoef(seen.gap, lips_of_motion(motion)[0])[0, 1] > 0.9
