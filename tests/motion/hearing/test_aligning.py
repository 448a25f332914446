"""A transcript finds its times: in made-up probabilities exactly, in real sound nearly."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from moda.encoders.speech import encode_speech
from moda.errors import InputError
from moda.media import AudioReader
from moda.motion.hearing import aligning
from moda.motion.hearing.aligning import align_phones, best_path, heard_probabilities
from moda.phones import Phone, PhoneSegment
from moda.speech_synthesis import Espeak, espeak_is_installed, synthesise
from moda.weights.checkpoints import load_checkpoint

needs_espeak = pytest.mark.skipif(not espeak_is_installed(), reason="espeak-ng is not installed")
NUM_PHONES = len(Phone)


def said(*phones: tuple[Phone, ...]) -> list[PhoneSegment]:
    return [
        PhoneSegment(phone[0].name, 0.1 * index, 0.1 * index + 0.1, phone)
        for index, phone in enumerate(phones)
    ]


def shares_of(*runs: tuple[Phone, int]) -> np.ndarray:
    labels = np.concatenate([[int(phone)] * count for phone, count in runs])
    sharp = np.full((len(labels), NUM_PHONES), 0.1 / (NUM_PHONES - 1), np.float32)
    sharp[np.arange(len(labels)), labels] = 0.9
    return sharp


class TestBestPath:
    @pytest.mark.parametrize("seed", range(4))
    def test_it_is_the_cheapest(self, seed: int) -> None:
        """Against all ways there are."""
        random = np.random.default_rng(seed)
        optional = np.array([True, False, True, False, False, True])
        costs = random.random((5, len(optional))).astype(np.float32)

        def is_way(path: tuple[int, ...]) -> bool:
            steps = np.diff(path)
            skips = [
                optional[state + 1] for state, step in zip(path, steps, strict=False) if step == 2
            ]
            return (
                set(steps.tolist()) <= {0, 1, 2}
                and all(skips)
                and path[0] in (0, 1)
                and path[-1] in (4, 5)
            )

        ways = [path for path in product(range(6), repeat=5) if is_way(path)]
        prices = [costs[np.arange(5), list(path)].sum() for path in ways]
        found = best_path(costs, optional)
        assert tuple(found) == ways[int(np.argmin(prices))]

    def test_a_band_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        random = np.random.default_rng(1)
        labels = random.integers(1, NUM_PHONES, 80)
        shares = shares_of(*[(Phone(label), int(random.integers(2, 6))) for label in labels])
        costs = -np.log(shares)[:, labels]
        optional = np.zeros(len(labels), np.bool_)
        whole = best_path(costs, optional)
        monkeypatch.setattr(aligning, "BAND_STATES", 16)
        np.testing.assert_array_equal(best_path(costs, optional), whole)


class TestAlign:
    def test_known_times(self) -> None:
        phones = said((Phone.BILABIAL,), (Phone.A, Phone.I), (Phone.SILENCE,), (Phone.SIBILANT,))
        shares = shares_of(
            (Phone.SILENCE, 10), (Phone.BILABIAL, 4), (Phone.A, 6), (Phone.I, 5),
            (Phone.SILENCE, 8), (Phone.SIBILANT, 7), (Phone.SILENCE, 3),
        )  # fmt: skip
        aligned = align_phones(shares, phones, [0.0, 0.3])
        times = [(s.symbol, s.start_seconds, s.end_seconds) for s in aligned.segments if s.symbol]
        assert times == [("BILABIAL", 0.2, 0.28), ("A", 0.28, 0.5), ("SIBILANT", 0.66, 0.8)]
        silences = [s for s in aligned.segments if s.phones == (Phone.SILENCE,)]
        assert [(s.start_seconds, s.end_seconds) for s in silences] == [(0.0, 0.2), (0.5, 0.66)]
        assert aligned.mean_probability == pytest.approx(0.9, abs=0.01)

    def test_what_does_not_fit(self) -> None:
        shares = shares_of((Phone.A, 20), (Phone.I, 20))
        with pytest.raises(InputError, match="does not fit the recording"):
            align_phones(shares, said((Phone.SIBILANT,), (Phone.VELAR,)), [0.0])
        with pytest.raises(InputError, match=r"30 phones, more than can be said in 0\.2 s"):
            align_phones(shares[:10], said(*[(Phone.A,)] * 30), [0.0])
        with pytest.raises(InputError, match="no words"):
            align_phones(shares, said((Phone.SILENCE,)), [])


@needs_espeak
def test_synthesised_speech_with_known_times(tmp_path) -> None:
    """Another voice at another speed: half of the boundaries are within 15 ms."""
    model = load_checkpoint("moda-tiny", "cpu").model
    text = "My mother baked plum pie for Bob. She was sure the sugar should stay there."
    usual = synthesise(text, tmp_path / "a.wav", synthesiser=Espeak())
    other = synthesise(text, tmp_path / "b.wav", synthesiser=Espeak(), voice="f2", rate=0.85)
    shares = heard_probabilities(model, encode_speech(AudioReader(other.path)))
    starts = [word.start_seconds for word in usual.words]
    aligned = align_phones(shares, usual.phones, starts)

    def times(phones) -> np.ndarray:
        return np.array([p.start_seconds for p in phones if p.phones != (Phone.SILENCE,)])

    errors = np.abs(times(aligned.segments) - times(other.phones))
    assert np.median(errors) < 0.015
    assert np.percentile(errors, 90) < 0.06
    spoken = usual.moved_to(other.path, other.seconds, aligned.segments)
    word_errors = [
        abs(found.start_seconds - true.start_seconds)
        for found, true in zip(spoken.words, other.words, strict=True)
    ]
    assert np.median(word_errors) < 0.04
    wrong = synthesise(
        "Peux-tu m'apporter du pain et du fromage frais ?",
        tmp_path / "c.wav",
        synthesiser=Espeak(),
        language="fr-fr",
    )
    with pytest.raises(InputError, match="does not fit"):
        align_phones(shares, wrong.phones, [word.start_seconds for word in wrong.words])
