"""A readout is pulled towards somebody by what held-out stretches of that person confirm."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from moda.config import NUM_PROSODY, SpeechFeaturesConfig
from moda.data.dataset import TrainingClip
from moda.motion.reading import SpeechReader
from moda.structures import MotionSpace
from moda.structures.landmarks import Array
from moda.training.fits.adapting import adapt_mouth, lip_rows, with_read_lags
from moda.training.fits.reading import ReaderOptions, lip_gains, stacked_frames
from small_runs import reader_config

CHANNELS = 6
OPTIONS = ReaderOptions(gap_gain=1.3, width_gain=1.2)
NOISE = 0.3


def plain_head(seed: int) -> Array:
    """(3 C, M) weights of one person, before lip distances are made larger."""
    return np.random.default_rng([seed, 7]).normal(size=(3 * CHANNELS, 16)) / 3.0


@pytest.fixture
def reader(space: MotionSpace) -> SpeechReader:
    """Reads what everybody has in common."""
    config = replace(reader_config().motion.speech_embedder, compressed=4)
    made = SpeechReader(SpeechFeaturesConfig(kind="whisper", channels=CHANNELS), 16, 32, config)
    larger, _ = lip_gains(space, OPTIONS)
    with torch.no_grad():
        made.mouth_head.weight.copy_(torch.from_numpy((plain_head(0) @ larger).T))
        made.mouth_head.bias.copy_(torch.linspace(-1, 1, 16))
    return made.eval()


def person(
    reader: SpeechReader,
    space: MotionSpace,
    weights: Array,
    *,
    seed: int = 0,
    num_frames: int = 900,
    lag: int = 0,
    noise: float = NOISE,
) -> TrainingClip:
    """A clip whose mouth follows the tokens by ``weights``, and whose picture is ``lag`` late."""
    random = np.random.default_rng([seed, 11])
    features = random.normal(size=(num_frames, 2 * CHANNELS + NUM_PROSODY)).astype(np.float32)
    mouth = stacked_frames(reader, features) @ weights
    mouth = np.roll(mouth + noise * random.normal(size=mouth.shape), lag, axis=0)
    motion = np.zeros((num_frames, space.size), np.float32)
    motion[:, space.slice("mouth")] = mouth
    identity = np.zeros(63, np.float32)
    return TrainingClip(
        f"clip{seed}", "anna", 8, (motion, motion), (identity, identity), (features,),
        lips=mouth @ lip_rows(space).T,
    )  # fmt: skip


def heads(reader: SpeechReader) -> tuple[Array, Array]:
    return reader.mouth_head.weight.double().numpy().T, reader.mouth_head.bias.double().numpy()


def test_what_somebody_does_differently_is_learned(
    reader: SpeechReader, space: MotionSpace
) -> None:
    """Far closer to that person's own readout, with the gains of the reader kept."""
    own = plain_head(0) + 0.6 * plain_head(1)
    clips = [person(reader, space, own, seed=seed) for seed in (0, 1)]
    before = copy.deepcopy(reader)
    told, found = adapt_mouth(reader, clips, space, OPTIONS)
    assert found.before is not None
    assert found.after is not None
    assert min(found.after.gap - found.before.gap, found.after.width - found.before.width) > 0.03
    assert "before and gap" in str(found)
    larger, added = lip_gains(space, OPTIONS)
    (old, _), (new, bias) = heads(before), heads(reader)
    assert np.abs(new - own @ larger).mean() < 0.6 * np.abs(old - own @ larger).mean()

    other = person(reader, space, own, seed=5, noise=0.0)
    truth = other.motion[0][:, space.slice("mouth")]
    frames = stacked_frames(reader, other.features[0])
    errors = [
        np.square(frames @ head @ np.linalg.inv(larger) - truth).mean() for head in (old, new)
    ]
    assert errors[1] < 0.35 * errors[0]
    # The mean mouth of the clips stays, and what the flow is told has no gains in it.
    mean = np.concatenate([stacked_frames(reader, clip.features[0]) for clip in clips]).mean(0)
    np.testing.assert_allclose(mean @ new + bias, mean @ old + heads(before)[1], atol=1e-5)
    assert told[0].mouth_mean is not None
    read = told[0].mouth_mean[0] - (heads(before)[1] - added)
    truth = clips[0].motion[0][:, space.slice("mouth")]
    assert np.square(read - truth).mean() < 1.3 * NOISE**2 + errors[1]


def test_a_readout_that_fits_or_cannot_be_improved_stays(
    reader: SpeechReader, space: MotionSpace
) -> None:
    """Bit for bit: of somebody who moves as everybody, and of a mouth that follows nothing."""
    before = copy.deepcopy(reader.state_dict())
    for weights, noise in ((plain_head(0), NOISE), (0.0 * plain_head(0), 1.0)):
        _, found = adapt_mouth(
            reader, [person(reader, space, weights, noise=noise)], space, OPTIONS
        )
        assert found.strength is None
        if noise == NOISE:
            assert str(found).startswith("lips stay as they were, nothing was better: on held-out")
            assert all(torch.equal(v, before[name]) for name, v in reader.state_dict().items())


def test_somebody_who_moves_more(reader: SpeechReader, space: MotionSpace) -> None:
    """Movements of lips grow, within limits; all else of the mouth is read as before."""
    larger, _ = lip_gains(space, OPTIONS)
    own, _ = lip_gains(space, replace(OPTIONS, gap_gain=1.25, width_gain=3.0))
    before = heads(reader)[0]
    clip = person(reader, space, plain_head(0) @ own, noise=0.05)
    # A ridge would find the same; this is about the sizes.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moda.training.fits.adapting.LEAST_GAIN", 2.0)
        _, found = adapt_mouth(reader, [clip], space, OPTIONS)
    assert found.strength is None
    assert found.gap_size == pytest.approx(1.25, abs=0.03)
    assert found.width_size == 1.4
    expected, _ = lip_gains(
        space, replace(OPTIONS, gap_gain=found.gap_size, width_gain=found.width_size)
    )
    np.testing.assert_allclose(
        heads(reader)[0], before @ np.linalg.inv(larger) @ expected @ larger, atol=1e-5
    )


def test_too_little_speech_changes_nothing(reader: SpeechReader, space: MotionSpace) -> None:
    before = copy.deepcopy(reader.state_dict())
    clip = person(reader, space, plain_head(1), num_frames=240)
    _, found = adapt_mouth(reader, [clip], space, OPTIONS)
    assert str(found) == "lips stay as they were: there are less than 10 s of speech"
    assert all(torch.equal(value, before[name]) for name, value in reader.state_dict().items())


@pytest.mark.parametrize("lag", [-4, 0, 6])
def test_a_clip_by_itself_has_a_lag(reader: SpeechReader, space: MotionSpace, lag: int) -> None:
    silent = replace(person(reader, space, plain_head(0)), features=())
    clip = person(reader, space, plain_head(0), lag=lag)
    found = with_read_lags(reader, [clip, silent], space)
    assert [clip.lag for clip in found] == [lag, 0.0]
