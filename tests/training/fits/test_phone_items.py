"""Items of phone corpora: what is in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moda.config import NUM_PROSODY, preset
from moda.data.phone_corpus import PhoneCorpus, Utterance, join_utterances
from moda.encoders.speech import encode_speech
from moda.phones import Phone
from moda.structures import Floats
from moda.training.fits.phone_items import PhoneItem, SpeechCorpora, non_speech_items, phone_items

FEATURE_SIZE = preset("moda-tiny").motion.speech.size
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
    arguments = {"versions": 1, **options}
    return phone_items(corpus, generator=np.random.default_rng(0), **arguments)  # type: ignore[arg-type]


def tone_agreement(items: list[PhoneItem], lag: int) -> float:
    """Strongest correlation of a channel of the tokens, moved by a lag, with the tone."""
    tokens, tones = [], []
    for item in items:
        own = tokens_of(item)
        tokens.append(np.roll(own - own.mean(0), lag, axis=0))
        tones.append(item.phones - item.phones.mean())
    moved, tone = np.concatenate(tokens), np.concatenate(tones)
    return float(np.abs((moved * tone[:, None]).mean(0) / moved.std(0) / tone.std()).max())


def tokens_of(item: PhoneItem) -> Floats:
    """(2 T, C) in the order of the phones."""
    return item.features[:, :-NUM_PROSODY].astype(np.float32).reshape(len(item.phones), -1)


def test_features_and_phones_are_of_the_same_time(corpus: PhoneCorpus) -> None:
    lags = range(-5, 6)
    clean, changed = items_of(corpus), items_of(corpus, versions=8)
    for items, least in ((clean, 0.8), (changed, 0.6)):
        agreement = [tone_agreement(items, lag) for lag in lags]
        assert max(agreement) > least
        assert abs(lags[int(np.argmax(agreement))]) <= 1  # tokens see their neighbours
    assert clean[0].features.shape == (40, FEATURE_SIZE)
    np.testing.assert_array_equal(clean[0].phones, tones(0, 160).labels[::2])


def test_features_are_those_of_the_encoder(corpus: PhoneCorpus) -> None:
    """Of the clean version, but for the faint noise that is added to it."""
    samples = tones(0, 160).samples.astype(np.float32) / 32768.0
    samples += 1e-4 * np.random.default_rng(8).standard_normal(len(samples)).astype(np.float32)
    expected = np.concatenate([part.features for part in encode_speech([samples])])
    found = items_of(corpus)[0].features.astype(np.float32)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97


def test_one_version_each_is_clean_or_changed(corpus: PhoneCorpus) -> None:
    clean = items_of(corpus)
    mixed = [items_of(corpus, clean_share=share) for share in (0.0, 1.0)]
    assert [len(items) for items in mixed] == [len(clean)] * 2
    for item, changed, same in zip(clean, *mixed, strict=True):
        np.testing.assert_array_equal(same.features, item.features)
        longest = min(len(item.features), len(changed.features))
        assert np.abs(changed.features[:longest] - item.features[:longest]).mean() > 0.05


def test_what_is_held_out_or_left_out_or_too_short(corpus: PhoneCorpus) -> None:
    assert [len(item.features) for item in items_of(corpus)] == [40, 60]
    assert [len(item.features) for item in items_of(corpus, leave_out={"0"})] == [60]
    assert len(items_of(corpus, versions=3)) == 6


def test_no_more_hours_than_asked_for(corpus: PhoneCorpus) -> None:
    """Whole utterances, until there is enough; each version counts once."""
    lengths = [len(item.features) for item in items_of(corpus)]
    for seconds, count in ((0.0, 0), (0.1, 1), (10.0, 2)):
        items = items_of(corpus, hours=seconds / 3600.0)
        assert [len(item.features) for item in items] == lengths[:count]


def test_corpora_are_read_when_they_are_asked_for(corpus: PhoneCorpus, tmp_path: Path) -> None:
    synthetic, natural = tmp_path / "synthetic.npz", tmp_path / "natural.npz"
    corpora = SpeechCorpora([synthetic], [natural], 1.0, 2, 1, {"1"}, seed=0)
    corpus.write(synthetic)
    corpus.write(natural)
    assert len(corpora.synthetic) == 1
    assert len(corpora.natural) == 2
    assert len(corpora.non_speech) == 1
    natural.unlink()
    assert len(corpora.natural) == 2


def test_music_and_noise_are_labelled_silence() -> None:
    items = non_speech_items(2, np.random.default_rng(0))
    assert len(items) == 2
    for item in items:
        assert item.phones.shape == (300,)
        assert (item.phones == Phone.SILENCE).all()
        assert item.features.shape == (150, FEATURE_SIZE)
        assert item.features.astype(np.float32).std() > 0.1
