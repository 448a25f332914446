"""What a reader knows before the flow is trained, each head on data with a planted answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from moda.config import NUM_PROSODY, SpeechFeaturesConfig
from moda.data.dataset import TrainingClip
from moda.motion.hearing.listening import with_context
from moda.motion.reading import SpeechReader
from moda.phones import Phone
from moda.structures import Floats, MotionSpace
from moda.structures.landmarks import MOUTH_CORNERS, Array, lip_gaps
from moda.training.fits import reading
from moda.training.fits.phone_items import PhoneItem, SpeechCorpora
from moda.training.fits.reading import (
    ReaderOptions,
    fit_mouth,
    fit_phones,
    fit_reader,
    fit_tokens,
    fit_voices,
    lip_gains,
)
from moda.weights.spaces import load_motion_space
from small_runs import reader_config

CHANNELS, COMPRESSED, NUM_FRAMES = 6, 4, 500
PLAIN = ReaderOptions(ridge=1e-3, gap_gain=1.0, width_gain=1.0, opening=0.0)
"""Of a mouth that is read as it is."""


@pytest.fixture(scope="module")
def space() -> MotionSpace:
    return load_motion_space()


@pytest.fixture
def reader() -> SpeechReader:
    config = replace(
        reader_config().motion.speech_embedder, compressed=COMPRESSED, voice_spans=(9, 25)
    )
    torch.manual_seed(0)
    made = SpeechReader(SpeechFeaturesConfig("whisper", channels=CHANNELS), 16, 32, config)
    return made.eval()


def recording(seed: int, num_frames: int = NUM_FRAMES) -> Floats:
    """(T, F) tokens that depend on each other, far from standard."""
    random = np.random.default_rng([seed, 1])
    mixing = np.random.default_rng(2).normal(size=(CHANNELS, CHANNELS))
    tokens = random.normal(size=(num_frames, 2, CHANNELS)) @ mixing + np.arange(CHANNELS)
    return np.concatenate(
        [tokens.reshape(num_frames, -1), random.normal(size=(num_frames, NUM_PROSODY))], axis=1
    ).astype(np.float32)


def frames_of(features: Floats) -> Array:
    """(T, F) -> (T, C): a frame is the mean of its two tokens."""
    tokens = features[:, :-NUM_PROSODY].astype(np.float64)
    return 0.5 * (tokens[:, :CHANNELS] + tokens[:, CHANNELS:])


def neighbours(frames: Array) -> Array:
    """(T, C) -> (T - 2, 3 C): the frame before, the frame, the frame after."""
    return np.concatenate([frames[:-2], frames[1:-1], frames[2:]], axis=1)


def in_silence(reader: SpeechReader, features: Floats) -> torch.Tensor:
    """A recording (T, F) as a batch of one with silence around it."""
    return torch.from_numpy(with_context(features, reader.config))[None]


def read_mouth(reader: SpeechReader, features: Floats) -> Array:
    with torch.inference_mode():
        return reader.mouth(in_silence(reader, features))[0].double().numpy()


def planted_mouth(features: Floats, weights: Array, bias: Array) -> Array:
    """(T, M) linear in three frames; the first and last are at rest."""
    inner = neighbours(frames_of(features)) @ weights
    return np.pad(inner, ((1, 1), (0, 0)), mode="edge") + bias


def talker(
    space: MotionSpace, name: str, speaker: str, features: tuple[Floats, ...], mouth: Array
) -> TrainingClip:
    motion = np.zeros((len(mouth), space.size), np.float32)
    motion[:, space.slice("mouth")] = mouth
    identity = np.zeros(63, np.float32)
    return TrainingClip(
        name, speaker, 8, (motion, motion), (identity, identity), features, lips=mouth[:, :2]
    )


def planted(seed: int = 0) -> tuple[Array, Array]:
    random = np.random.default_rng([seed, 3])
    return random.normal(size=(3 * CHANNELS, 16)) / 4.0, random.normal(size=16)


class TestTokens:
    def test_they_are_whitened(self, reader: SpeechReader) -> None:
        """Compressed frames have no mean, unit spread, and nothing in common."""
        recordings = [recording(seed, 200) for seed in range(4)]
        fit_tokens(reader, recordings)
        tokens = np.concatenate([part[:, :-NUM_PROSODY] for part in recordings])
        tokens = tokens.reshape(-1, CHANNELS)
        np.testing.assert_allclose(reader.token_mean, tokens.mean(0), atol=1e-4)
        np.testing.assert_allclose(reader.token_scale, tokens.std(0), rtol=1e-4)
        frames = np.concatenate([frames_of(part) for part in recordings])
        standard = (frames - tokens.mean(0)) / tokens.std(0)
        with torch.inference_mode():
            heard = reader.compress(torch.from_numpy(standard.astype(np.float32))).numpy()
        np.testing.assert_allclose(heard.mean(0), 0.0, atol=1e-4)
        np.testing.assert_allclose(np.cov(heard.T, bias=True), np.eye(COMPRESSED), atol=1e-3)

    def test_the_strongest_directions_are_kept(self, reader: SpeechReader) -> None:
        """What is left out has the smallest eigenvalues of the covariance."""
        recordings = [recording(0)]
        fit_tokens(reader, recordings)
        frames = frames_of(recordings[0])
        standard = (frames - frames.mean(0)) / reader.token_scale.double().numpy()
        variances, axes = np.linalg.eigh(np.cov(standard.T))
        assert variances[1] < 0.99 * variances[2], "the kept ones are told from the others"
        left_out = axes[:, : CHANNELS - COMPRESSED]
        weight = reader.compress.weight.detach().double().numpy()
        np.testing.assert_allclose(weight @ left_out, 0.0, atol=1e-4)


class TestMouth:
    def test_a_planted_map_is_found(self, reader: SpeechReader, space: MotionSpace) -> None:
        """Also of a recording that was not among the clips, by way of the reader itself."""
        weights, bias = planted()
        sounds = [recording(seed) for seed in range(3)]
        clips = [
            talker(space, f"clip{k}", f"speaker{k}", (sound,), planted_mouth(sound, weights, bias))
            for k, sound in enumerate(sounds)
        ]
        fit_tokens(reader, sounds)
        fit_mouth(reader, clips, space, PLAIN)
        other = recording(9)
        expected = planted_mouth(other, weights, bias)
        found = read_mouth(reader, other)
        # Each clip is around its own mean: that of a new one is known to its standard error.
        apart = (found - expected)[1:-1]
        assert np.abs(apart - apart.mean(0)).mean() < 0.01 * expected.std()
        np.testing.assert_allclose(apart - apart.mean(0), 0.0, atol=0.05 * expected.std())
        assert np.abs(apart.mean(0)).max() < 0.3 * expected.std()

    def test_the_lag_of_a_clip_is_taken_out(self, reader: SpeechReader, space: MotionSpace) -> None:
        """Lips at ``t + lag`` go with the sound at ``t``."""
        weights, bias = planted()
        sound = recording(0)
        mouth = planted_mouth(sound, weights, bias)
        late = talker(space, "late", "anna", (sound,), np.roll(mouth, 4, axis=0))
        fit_tokens(reader, [sound])
        fit_mouth(reader, [replace(late, lag=4.0)], space, PLAIN)
        found = read_mouth(reader, sound)[10:-10]
        assert np.abs(found - mouth[10:-10]).mean() < 0.05 * mouth.std()

    def test_means_do_not_see_the_speaker(self, reader: SpeechReader, space: MotionSpace) -> None:
        """Whatever the lips of a speaker do, what is read of that speaker's mouth stays the same
        but for the overall mean; what is read of the others does not."""
        weights, bias = planted()
        sounds = {name: recording(seed) for seed, name in enumerate(("a1", "a2", "b", "c"))}
        own = [
            talker(space, name, name[0], (sound,), planted_mouth(sound, weights, bias))
            for name, sound in sounds.items()
        ]
        changed = [
            clip
            if clip.speaker != "a"
            else talker(
                space,
                clip.name,
                "a",
                clip.features,
                planted_mouth(sounds[clip.name], planted(5)[0], bias),
            )
            for clip in own
        ]
        fit_tokens(reader, list(sounds.values()))
        first = fit_mouth(reader, own, space, PLAIN)
        second = fit_mouth(reader, changed, space, PLAIN)
        assert first.keys() == set(sounds)
        for name in sounds:
            one, other = (means[name][0] for means in (first, second))
            assert one.shape == (NUM_FRAMES, 16)
            np.testing.assert_array_equal(one, first[name][1])  # mouths are symmetric
            apart = (one - other) - (one - other).mean(0)
            if name.startswith("a"):
                np.testing.assert_allclose(apart, 0.0, atol=1e-4)
            else:
                assert np.abs(apart).mean() > 0.2 * one.std()

    def test_a_changed_sound_counts_less(self, reader: SpeechReader, space: MotionSpace) -> None:
        """Two versions that say the opposite: the clean one wins, by its weight."""
        weights, _ = planted()
        sound = recording(0)
        opposite = sound.copy()
        middle = sound[:, : 2 * CHANNELS].reshape(-1, CHANNELS).mean(0)
        opposite[:, : 2 * CHANNELS] = 2.0 * np.tile(middle, 2) - sound[:, : 2 * CHANNELS]
        mouth = planted_mouth(sound, weights, np.zeros(16))
        clip = talker(space, "clip", "anna", (sound, opposite), mouth)
        fit_tokens(reader, [sound])
        fit_mouth(reader, [clip], space, PLAIN)
        found = read_mouth(reader, sound)[1:-1]
        found, wanted = found - found.mean(0), mouth[1:-1] - mouth[1:-1].mean(0)
        slope = (found * wanted).sum() / np.square(wanted).sum()
        # Least squares of weights 1 and 1/4: (1 - 1/4) / (1 + 1/4)
        assert slope == pytest.approx(0.6, abs=0.02)

    def test_one_speaker_alone_has_no_means(self, reader: SpeechReader, space: MotionSpace) -> None:
        sound = recording(0)
        weights, bias = planted()
        clip = talker(space, "clip", "anna", (sound,), planted_mouth(sound, weights, bias))
        fit_tokens(reader, [sound])
        assert fit_mouth(reader, [clip], space, PLAIN) == {}


def gap_and_width(space: MotionSpace, mouths: Array) -> tuple[Array, Array]:
    """Of normalised mouths (N, M), measured on the faces that they make."""
    part = space.slice("mouth")
    raw = mouths * space.scale[part].astype(np.float64) + space.mean[part]
    assert space.basis is not None
    assert space.canonical_face is not None
    faces = np.repeat(space.canonical_face[None].astype(np.float64), len(raw), axis=0)
    faces[:, : space.basis.shape[1]] += np.einsum("nm,mpc->npc", raw, space.basis[part])
    right, left = MOUTH_CORNERS
    return lip_gaps(faces)[:, 4], faces[:, left, 0] - faces[:, right, 0]


class TestLipGains:
    @pytest.mark.parametrize("gains", [(1.45, 1.7), (1.0, 2.0), (0.5, 1.0)])
    def test_gap_and_width_change_by_their_factors(
        self, space: MotionSpace, gains: tuple[float, float]
    ) -> None:
        options = ReaderOptions(gap_gain=gains[0], width_gain=gains[1], opening=0.0)
        larger, added = lip_gains(space, options)
        assert not added.any()
        mouths = np.random.default_rng(0).normal(size=(20, 16))
        before, after = (gap_and_width(space, some) for some in (mouths, mouths @ larger))
        rest = gap_and_width(space, np.zeros((1, 16)))
        for gain, old, new, still in zip(gains, before, after, rest, strict=True):
            np.testing.assert_allclose(new - still, gain * (old - still), atol=1e-9)

    def test_nothing_else_changes(self, space: MotionSpace) -> None:
        """Mouths of the same gap and width stay; all changes are combinations of two movements, one
        for each of the two."""
        larger, _ = lip_gains(space, ReaderOptions())
        probe = np.eye(16)
        still = np.concatenate([gap_and_width(space, np.zeros((1, 16)))])
        rows = np.concatenate([gap_and_width(space, probe)]) - still  # (2, M)
        _, _, axes = np.linalg.svd(rows)
        unmoved = axes[2:]
        np.testing.assert_allclose(rows @ unmoved.T, 0.0, atol=1e-9)
        np.testing.assert_allclose(unmoved @ larger, unmoved, atol=1e-9)
        assert np.linalg.matrix_rank(larger - np.eye(16), tol=1e-9) == 2

    def test_the_movement_is_the_smallest_one(self, space: MotionSpace) -> None:
        """Of the face: any other with the same gap and width moves its points more."""
        larger, _ = lip_gains(space, ReaderOptions())
        part = space.slice("mouth")
        assert space.basis is not None
        flat = space.basis[part].reshape(16, -1).astype(np.float64)
        random = np.random.default_rng(1)
        mouths = random.normal(size=(10, 16))
        change = mouths @ larger - mouths
        rows = np.stack(gap_and_width(space, np.eye(16))) - np.concatenate(
            [gap_and_width(space, np.zeros((1, 16)))]
        )
        _, _, axes = np.linalg.svd(rows)
        scale = space.scale[part].astype(np.float64)
        size = np.linalg.norm((change * scale) @ flat, axis=1)
        for _ in range(20):
            other = change + 0.1 * random.normal(size=(10, 14)) @ axes[2:]
            assert (np.linalg.norm((other * scale) @ flat, axis=1) > 0.999 * size).all()

    def test_lips_open(self, space: MotionSpace) -> None:
        """By the opening, in canonical units, and the mouth is as wide as before."""
        _, added = lip_gains(space, ReaderOptions(opening=0.03))
        still = gap_and_width(space, np.zeros((1, 16)))
        moved = gap_and_width(space, added[None])
        np.testing.assert_allclose(moved[0] - still[0], 0.03, atol=1e-9)
        np.testing.assert_allclose(moved[1], still[1], atol=1e-9)

    def test_the_head_that_stays_has_them(self, reader: SpeechReader, space: MotionSpace) -> None:
        """And what the flow is told has not."""
        weights, bias = planted()
        sounds = [recording(seed) for seed in range(2)]
        clips = [
            talker(space, f"clip{k}", f"speaker{k}", (sound,), planted_mouth(sound, weights, bias))
            for k, sound in enumerate(sounds)
        ]
        fit_tokens(reader, sounds)
        plain = fit_mouth(reader, clips, space, PLAIN)
        as_it_is = read_mouth(reader, sounds[0])
        means = fit_mouth(
            reader, clips, space, replace(PLAIN, gap_gain=1.5, width_gain=2.0, opening=0.02)
        )
        np.testing.assert_array_equal(means["clip0"][0], plain["clip0"][0])
        before = gap_and_width(space, as_it_is)
        after = gap_and_width(space, read_mouth(reader, sounds[0]))
        centre = np.concatenate([clip.motion[0][:, :16] for clip in clips]).astype(np.float64)
        middle = gap_and_width(space, centre.mean(0, keepdims=True))
        for gain, opening, old, new, still in zip(
            (1.5, 2.0), (0.02, 0.0), before, after, middle, strict=True
        ):
            np.testing.assert_allclose(new - still, gain * (old - still) + opening, atol=1e-4)


def spoken(seed: int, num_frames: int = 60) -> PhoneItem:
    """Every class has a token of its own, with noise; classes last 100 ms, and none is silence."""
    random = np.random.default_rng([seed, 21])
    places = 2.0 * np.random.default_rng(22).normal(size=(len(Phone), CHANNELS))
    count = -(-2 * num_frames // 5)
    phones = np.repeat(random.integers(1, len(Phone), count), 5)[: 2 * num_frames]
    return item(phones, places[phones] + 0.2 * random.normal(size=(len(phones), CHANNELS)))


def item(phones: np.ndarray, tokens: Array) -> PhoneItem:
    features = np.concatenate(
        [tokens.reshape(len(phones) // 2, -1), np.zeros((len(phones) // 2, NUM_PROSODY))], axis=1
    )
    return PhoneItem(features.astype(np.float16), phones.astype(np.int64))


def humming(seed: int, num_frames: int = 100) -> PhoneItem:
    """One sound all the time, which is no voice."""
    random = np.random.default_rng([seed, 23])
    tokens = np.tile(2.0 * random.normal(size=CHANNELS), (2 * num_frames, 1))
    tokens += 0.2 * random.normal(size=tokens.shape)
    return item(np.zeros(2 * num_frames, np.int64), tokens)


def heard_voice(reader: SpeechReader, heard: PhoneItem) -> np.ndarray:
    features = in_silence(reader, heard.features.astype(np.float32))
    with torch.inference_mode():
        return (reader.voice_logits(features)[0] > 0.0).numpy()


@torch.inference_mode()
def phone_accuracy(reader: SpeechReader, items: list[PhoneItem]) -> tuple[float, float, float]:
    """Share of right 50 Hz labels; recall and precision of the bilabials."""
    right = total = hits = actual = claimed = 0
    for item in items:
        features = in_silence(reader, item.features.astype(np.float32))
        guess = reader.phone_logits(features)[0].argmax(0).numpy()
        right += int((guess == item.phones).sum())
        total += len(item.phones)
        hits += int(((guess == Phone.BILABIAL) & (item.phones == Phone.BILABIAL)).sum())
        actual += int((item.phones == Phone.BILABIAL).sum())
        claimed += int((guess == Phone.BILABIAL).sum())
    return right / max(total, 1), hits / max(actual, 1), hits / max(claimed, 1)


def state(reader: SpeechReader) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in reader.state_dict().items()}


def assert_only_changed(reader: SpeechReader, before: dict[str, torch.Tensor], *heads: str) -> None:
    for name, value in reader.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith(heads), name


class TestPhones:
    @pytest.mark.parametrize("with_natural", [False, True])
    def test_planted_classes_are_learned(self, reader: SpeechReader, with_natural: bool) -> None:
        synthetic = [spoken(seed) for seed in range(40)]
        natural = [spoken(seed) for seed in range(40, 44)] if with_natural else []
        fit_tokens(reader, [each.features.astype(np.float32) for each in synthetic])
        before = state(reader)
        others = [spoken(seed) for seed in range(90, 94)]
        right, *_ = phone_accuracy(reader, others)
        assert right < 0.3
        fit_phones(reader, synthetic, natural, steps=120, seed=0)
        assert_only_changed(reader, before, "phone_head.")
        right, recall, precision = phone_accuracy(reader, others)
        assert right > 0.93
        assert min(recall, precision) > 0.8

    def test_the_same_seed_the_same_head(self, reader: SpeechReader) -> None:
        heads = []
        for seed in (3, 3, 4):
            fit_phones(reader, [spoken(0)], [], steps=2, seed=seed)
            heads.append(reader.phone_head[0].weight.clone())
        assert torch.equal(heads[0], heads[1])
        assert not torch.equal(heads[0], heads[2])


class TestVoices:
    @pytest.fixture
    def taught(self, reader: SpeechReader) -> SpeechReader:
        items = [spoken(seed) for seed in range(40)]
        fit_tokens(reader, [each.features.astype(np.float32) for each in items])
        fit_phones(reader, items, [], steps=60, seed=0)
        return reader

    def test_speech_against_noise(
        self, taught: SpeechReader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "VOICE_STEPS", 400)
        before = state(taught)
        speech = [spoken(seed) for seed in range(30)]
        noise = [humming(seed) for seed in range(30)]
        fit_voices(taught, speech, noise, seed=0)
        assert_only_changed(taught, before, "voice_head.")
        voices = np.concatenate([heard_voice(taught, spoken(seed)) for seed in range(70, 80)])
        noises = np.concatenate([heard_voice(taught, humming(seed)) for seed in range(70, 80)])
        assert voices.mean() > 0.95
        assert noises.mean() < 0.05

    def test_also_while_somebody_still_speaks(
        self, taught: SpeechReader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The last frame of what is known so far, and then a hum after the words."""
        monkeypatch.setattr(reading, "VOICE_STEPS", 400)

        def ending(seed: int) -> PhoneItem:
            words, hum = spoken(seed), humming(seed)
            return PhoneItem(
                np.concatenate([words.features, hum.features]),
                np.concatenate([words.phones, hum.phones]),
            )

        fit_voices(
            taught, [ending(seed) for seed in range(30)], [humming(s) for s in range(30)], seed=0
        )
        said, hummed = [], []
        for seed in range(70, 76):
            whole = ending(seed)
            for frame in (20, 40, 55, 100, 130, 150):
                known = PhoneItem(whole.features[: frame + 1], whole.phones[: 2 * frame + 2])
                (said if frame < 60 else hummed).append(heard_voice(taught, known)[-1])
        assert np.mean(said) > 0.85
        assert np.mean(hummed) < 0.15


class TestReader:
    def corpora(self) -> SpeechCorpora:
        made = SpeechCorpora([], [], 1.0, 1, 0, (), 0)
        made.__dict__["synthetic"] = [spoken(seed) for seed in range(10)]
        made.__dict__["natural"] = []
        made.__dict__["non_speech"] = [humming(seed) for seed in range(10)]
        return made

    def clips(self, space: MotionSpace) -> list[TrainingClip]:
        made = []
        for index, name in enumerate(("anna", "bert", "carl")):
            sound = recording(index)
            mouth = planted_mouth(sound, *planted())
            features = () if name == "carl" else (sound,)
            made.append(talker(space, f"clip{index}", name, features, mouth))
        return made

    def test_all_heads_are_fitted(
        self, reader: SpeechReader, space: MotionSpace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "VOICE_STEPS", 5)
        before = state(reader)
        told = fit_reader(
            reader, self.clips(space), self.corpora(), space, ReaderOptions(phone_steps=5), seed=0
        )
        heads = ("token_", "compress.", "mouth_head.", "phone_head.", "voice_head.")
        assert_only_changed(reader, before, *heads)
        assert [clip.name for clip in told] == ["clip0", "clip1", "clip2"]
        assert [clip.mouth_mean is None for clip in told] == [False, False, True]

    def test_without_corpora_only_the_mouth(self, reader: SpeechReader, space: MotionSpace) -> None:
        before = state(reader)
        fit_reader(reader, self.clips(space), None, space, ReaderOptions(), seed=0)
        assert_only_changed(reader, before, "mouth_head.")
