"""Closures and rounding of made lips at made phones."""

from __future__ import annotations

import numpy as np
import pytest

from made_clips import tiny_checkpoint
from moda.data.phone_corpus import Utterance as CorpusUtterance
from moda.data.phone_corpus import join_utterances
from moda.evaluation.model.articulation import (
    Tally,
    Utterance,
    articulation_report,
    choose_utterances,
    frames_of,
    held_out_utterances,
    language_of,
    random_spans,
    segments,
    tally_utterance,
)
from moda.phones import Phone


def made_labels() -> np.ndarray:
    """One second: silence, a, b (30 ms), a, p (10 ms), a, u (80 ms), a, silence."""
    labels = np.full(100, Phone.A, np.int8)
    labels[:10], labels[90:] = Phone.SILENCE, Phone.SILENCE
    labels[30:33], labels[50], labels[64:72] = Phone.BILABIAL, Phone.BILABIAL, Phone.ROUNDED
    return labels


def test_short_segments_are_left_out() -> None:
    assert segments(made_labels(), (Phone.BILABIAL,)) == [(30, 33)]
    assert segments(made_labels(), (Phone.ROUNDED, Phone.O)) == [(64, 72)]
    assert segments(np.zeros(0, np.int8), (Phone.O,)) == []


def test_frames_that_overlap() -> None:
    assert frames_of((30, 33)) == slice(7, 9)
    assert frames_of((64, 72)) == slice(16, 18)


def test_perfect_lips() -> None:
    gap, width = np.full(25, 0.1), np.zeros(25)
    gap[8] = 0.0  # one of the two frames of the b
    width[16:18] = -0.05
    tally = tally_utterance(made_labels(), gap, width, np.random.default_rng(0))
    assert (tally.closures, tally.closed) == (1, 1)
    assert (tally.roundings, tally.rounded) == (1, 1)
    assert tally.closure_chances == 4
    assert tally.closed_by_chance == 0
    assert tally.rounded_by_chance == 0
    assert tally.open_frames_closed == 0
    # 25 frames less 3 and 3 silent, 2 of the b, 1 of the p, 2 of the u
    assert tally.open_frames == 14


def test_lips_that_never_open() -> None:
    tally = tally_utterance(made_labels(), np.zeros(25), np.zeros(25), np.random.default_rng(0))
    assert tally.closed == tally.closures == 1
    assert tally.closed_by_chance == tally.closure_chances
    assert tally.open_frames_closed == tally.open_frames
    assert tally.rounded == 0


def test_a_closure_that_comes_late_is_none() -> None:
    gap = np.full(25, 0.1)
    gap[9] = 0.0
    tally = tally_utterance(made_labels(), gap, np.zeros(25), np.random.default_rng(0))
    assert tally.closed == 0


def test_shorter_lips_than_labels() -> None:
    tally = tally_utterance(made_labels(), np.zeros(10), np.zeros(10), np.random.default_rng(0))
    assert tally.closures == 1
    assert tally.roundings == 0


def test_chance_avoids_the_sound_itself() -> None:
    labels = made_labels()
    free = (Phone.BILABIAL, Phone.SILENCE)
    found = random_spans(labels, [(30, 33)] * 50, free, np.random.default_rng(0))
    assert len(found) == 200
    for start, stop in found:
        frames = frames_of((start, stop))
        inside = labels[4 * frames.start : 4 * frames.stop]
        assert stop - start == 3
        assert not np.isin(inside, free).any()
    assert random_spans(labels, [(0, 99)], free, np.random.default_rng(0)) == []


def test_tallies_add() -> None:
    assert Tally(closures=2, closed=1) + Tally(closures=3) == Tally(closures=5, closed=1)


@pytest.mark.parametrize(
    ("voice", "language"),
    [
        ("espeak:fr+f3", "fr"),
        ("espeak:pt-br+m3", "pt"),
        ("espeak:de", "de"),
        ("festival:czech_ph", "cs"),
        ("festival:pc_diphone", "it"),
        ("festival:msu_ru_nsh_clunits", "ru"),
        ("flite:awb", "en"),
    ],
)
def test_language_of_a_voice(voice: str, language: str) -> None:
    assert language_of(voice) == language


def test_the_largest_languages_are_chosen() -> None:
    made = [
        Utterance(name, np.full(1, index, np.float32), made_labels())
        for name, count in (("de", 2), ("fr", 5), ("en", 9))
        for index in range(count)
    ]
    chosen = choose_utterances(made, per_language=4, num_languages=2)
    assert [utterance.language for utterance in chosen] == ["en"] * 4 + ["fr"] * 4
    assert len({float(u.samples[0]) for u in chosen[:4]}) == 4
    again = choose_utterances(made, per_language=4, num_languages=2)
    assert [u.samples[0] for u in chosen] == [u.samples[0] for u in again]


def test_only_held_out_items_are_used() -> None:
    samples, labels = np.full(16_000, 16_384, np.int16), made_labels()
    corpus = join_utterances(
        [
            CorpusUtterance(samples, labels, "0", "espeak:fr+f1", held_out=False),
            CorpusUtterance(samples, labels, "1", "espeak:fr+f5", held_out=True),
        ]
    )
    (only,) = held_out_utterances(corpus)
    assert only.language == "fr"
    assert only.samples[0] == 0.5
    np.testing.assert_array_equal(only.labels, labels)


def test_report_of_models_with_and_without_phones() -> None:
    sound = 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    utterances = [Utterance(name, sound, made_labels()) for name in ("fr", "de", "fr")]
    report = articulation_report(tiny_checkpoint(), utterances)
    assert [row.language for row in report.languages] == ["de", "fr"]
    assert report.overall.alone.closures == 3
    assert report.overall.known is not None
    assert report.overall.known.closed == 3  # told phones close the lips by design
    deaf = articulation_report(tiny_checkpoint(knows_phones=False), utterances[:1])
    assert deaf.overall.known is None
    assert "| - |" in deaf.markdown()[-1]
