"""Items of phone corpora: what is in them, and how they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from moda.training.speech_pretraining import (
    PhoneGroup,
    PhoneItem,
    draw_items,
    fit_voice_head,
    non_speech_items,
    phone_items,
)

from moda.config import SpeechEmbedderConfig
from moda.data.phone_corpus import PhoneCorpus, Utterance, join_utterances
from moda.encoders.speech import encode_speech
from moda.motion.layers import SpeechConv
from moda.motion.listening import with_context
from moda.phones import Phone
from moda.training import speech_pretraining

LOUD = 0.1
"""Of full scale; the other samples are zero."""


def tones(seed: int, num_labels: int) -> Utterance:
    """Silence and a tone, in stretches of 80 ms."""
    labels = np.repeat(np.random.default_rng(seed).integers(0, 2, num_labels // 8), 8)
    seconds = np.arange(160 * len(labels)) / 16_000
    sound = LOUD * np.sin(2 * np.pi * 500.0 * seconds) * np.repeat(labels, 160)
    samples = np.round(32767 * sound).astype(np.int16)
    name, voice = f"folder/{seed}.wav", f"made:{seed}"
    return Utterance(samples, labels.astype(np.int8), name, voice, held_out=seed == 2)


@pytest.fixture(scope="module")
def corpus() -> PhoneCorpus:
    return join_utterances([tones(0, 160), tones(1, 240), tones(2, 320), tones(3, 32)])


def items_of(corpus: PhoneCorpus, **options: object) -> list[PhoneItem]:
    arguments = {"held_out": False, "versions": 1, **options}
    return phone_items(corpus, generator=np.random.default_rng(0), **arguments)  # type: ignore[arg-type]


def test_features_and_phones_are_of_the_same_time(corpus: PhoneCorpus) -> None:
    for item in items_of(corpus, versions=8):
        bands = item.features.astype(np.float32).reshape(len(item.phones), 2, 40).mean(1)
        bands = (bands - bands.mean(0)) / (bands.std(0) + 1e-6)
        tone = (item.phones - item.phones.mean()) / item.phones.std()
        lags = range(-5, 6)
        # Correlation of the band that follows the tone best, rolled by a lag.
        agreement = [(np.roll(bands, lag, axis=0) * tone[:, None]).mean(0).max() for lag in lags]
        assert max(agreement) > 0.7
        assert abs(lags[int(np.argmax(agreement))]) <= 1  # a room's echo is late
    clean = items_of(corpus)[0]
    assert clean.features.shape == (40, 160)
    np.testing.assert_array_equal(clean.phones, tones(0, 160).labels[::2])


def test_one_version_each_is_clean_or_changed(corpus: PhoneCorpus) -> None:
    clean = items_of(corpus)
    mixed = [items_of(corpus, clean_share=share) for share in (0.0, 1.0)]
    assert [len(items) for items in mixed] == [len(clean)] * 2
    for item, changed, same in zip(clean, *mixed, strict=True):
        # The faint noise that is added to clean sound is drawn anew.
        assert np.abs(same.features - item.features).mean() < 0.1
        longest = min(len(item.features), len(changed.features))
        assert np.abs(changed.features[:longest] - item.features[:longest]).mean() > 0.2


def test_what_is_held_out_or_left_out_or_too_short(corpus: PhoneCorpus) -> None:
    assert [len(item.features) for item in items_of(corpus)] == [40, 60]
    assert [len(item.features) for item in items_of(corpus, held_out=True)] == [80]
    assert [len(item.features) for item in items_of(corpus, leave_out={"0"})] == [60]
    assert len(items_of(corpus, versions=3)) == 6


def test_music_and_noise_are_labelled_silence() -> None:
    items = non_speech_items(2, np.random.default_rng(0))
    assert len(items) == 2
    for item in items:
        assert item.phones.shape == (300,)
        assert (item.phones == Phone.SILENCE).all()
        assert item.features.astype(np.float32).std() > 0.1


def test_groups_are_drawn_by_their_shares(corpus: PhoneCorpus) -> None:
    first, second = items_of(corpus), items_of(corpus, held_out=True)
    groups = [PhoneGroup(first, 0.35), PhoneGroup([], 0.5), PhoneGroup(second, 0.15)]
    drawn = draw_items(groups, 2000, np.random.default_rng(1))
    counts = [sum(one is item for one in drawn) for item in (*first, *second)]
    assert sum(counts) == 2000
    # 4 standard deviations; the group without items has no share
    np.testing.assert_allclose(np.array(counts) / 2000, [0.35, 0.35, 0.3], atol=0.045)
    again = draw_items(groups, 2000, np.random.default_rng(1))
    assert all(one is other for one, other in zip(drawn, again, strict=True))


def test_the_voice_head_alone_learns_who_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speech: two tones in turn; music and noise are the other sounds; also silence in speech."""
    monkeypatch.setattr(speech_pretraining, "SPEECH_ITEMS", 30)
    monkeypatch.setattr(speech_pretraining, "NATURAL_ITEMS", 10)
    torch.manual_seed(0)
    config = SpeechEmbedderConfig(
        width=16, dilations=(1, 2), delay=1, num_phones=len(Phone), voice_spans=(9, 25)
    )
    embedder = SpeechConv(160, 32, config).eval()
    before = {name: value.clone() for name, value in embedder.state_dict().items()}
    spoken = [spoken_item(seed) for seed in range(12)]
    others = non_speech_items(50, np.random.default_rng(1))
    fit_voice_head(embedder, [PhoneGroup(spoken[:4], 1.0)], spoken[4:8], others[:40], steps=400)
    for name, value in embedder.state_dict().items():
        assert torch.equal(value, before[name]) == (not name.startswith("voice_head.")), name
    for item in spoken[8:]:
        # The second half of each is silence; near its beginning either answer is right.
        voice = heard_voice(embedder, item)
        assert voice[:70].mean() > 0.9
        assert voice[100:].mean() < 0.05
        # The last frame of what is known so far.
        assert np.mean([heard_voice(embedder, item, frame)[-1] for frame in range(20, 70, 5)]) > 0.8
        assert (
            np.mean([heard_voice(embedder, item, frame)[-1] for frame in range(110, 150, 5)]) < 0.2
        )
    assert np.mean([heard_voice(embedder, item).mean() for item in others[40:]]) < 0.2


def spoken_item(seed: int) -> PhoneItem:
    random = np.random.default_rng(seed)
    seconds = np.arange(6 * 16_000) / 16_000
    notes_hz = np.repeat(random.choice([300.0, 1500.0], 120), 800)
    sound = LOUD * np.sin(2 * np.pi * notes_hz * seconds) * (seconds < 3.0)
    features = np.concatenate([part.features for part in encode_speech([sound.astype(np.float32)])])
    phones = np.where(np.arange(300) < 150, Phone.A, Phone.SILENCE).astype(np.int64)
    return PhoneItem(features.astype(np.float16), phones)


def heard_voice(
    embedder: SpeechConv, item: PhoneItem, known_frames: int | None = None
) -> np.ndarray:
    with torch.inference_mode():
        features = with_context(item.features.astype(np.float32), embedder.config)
        sound = embedder.inner_hidden(features)
        inputs = embedder.voice_inputs(sound[:, :, : known_frames and 2 * known_frames])
        return (embedder.voice_head(inputs)[0, :, 0] > 0.0).numpy()
