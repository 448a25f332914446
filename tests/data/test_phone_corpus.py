"""Phone names of three alphabets to classes, times to labels, closures back to their stops."""

# ruff: noqa: RUF001 - IPA letters look like Latin ones

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from moda.data.phone_corpus import (
    Utterance,
    join_utterances,
    read_phone_corpus,
)
from moda.errors import InputError
from moda.phones import (
    Phone,
    PhoneSegment,
    arpabet_phones,
    ipa_phones,
    label_segments,
    restore_closures,
)
from paths import load_file

SCRIPT = Path(__file__).parents[2] / "scripts" / "festival_phones.py"


@pytest.fixture(scope="module")
def festival() -> ModuleType:
    """The module ``scripts/festival_phones.py``."""
    return load_file(SCRIPT)


ARPABET = (
    "aa ae ah ao aw ax axr ay b ch d dh dx eh el em en er ey f g hh hv ih iy jh k l m n nx ng ow "
    "oy p r s sh t th uh uw v w y z zh pau h# brth"
)
PHONE_SETS: dict[str, str] = {
    "arpabet": ARPABET,
    "italian": (
        "i e E a o O u i1 e1 E1 a1 o1 O1 u1 j w p t k b d g f s S v z Z ts tS dz dZ m n J ng nf l "
        "L r #"
    ),
    "finnish": (
        "a e i o u y @ 7 & a: e: i: o: u: y: @: 7: p t k b d g f T s S h v m n N l L r j w p: t: "
        "k: b: d: g: f: T: D: s: z: S: Z: h: v: m: n: N: w: l: L: r: j: ## #"
    ),
    "czech": (
        "# _ a a: b c c~ ch d d~ dz dz~ e e: f g h i i: j k l m n n* n~ o o: p r r~ r~* s s~ t t~ "
        "u u: v z z~"
    ),
    "catalan": (
        "ax a a1 b d e e1 E E1 f g i i1 j J k l L m n o o1 O O1 p r rr s S t u u1 w z Z pau _ #"
    ),
    "russian": (
        "pau ii yy uu ee oo aa a e i y u ae ay ur p pp b bb t tt d dd k kk g gg c ch f ff v vv s "
        "ss z zz sh sch zh h hh m mm n nn l ll r rr j"
    ),
    "indic": (
        "a aa ih iy uh uw eh ee ay oh oo aw f k g ch T D N th dh n p b m y r l v L R s sh j h ksh "
        "x kh gh td tth ddh bh zh @ pau w"
    ),
}
IPA = (
    "p b m f v θ ð t d n s z ʃ ʒ k ɡ ŋ x ɣ ɲ ç c ɟ h ʔ ɦ r ɹ ʁ ɾ l ʎ ɫ w u ʊ y ʏ o ɔ ø œ a ɑ æ ʌ ɐ "
    "e ɛ i ɪ j ɨ ɯ ə ɜ ɚ ɤ ʋ β q ʂ ʐ ɕ ʑ ɭ ɳ ʈ ɖ ɽ ħ ʕ ɥ ʉ"
)


@pytest.mark.parametrize("phone_set", PHONE_SETS)
def test_every_phone_of_every_festival_set_has_a_class(
    festival: ModuleType, phone_set: str
) -> None:
    unknown = [
        s for s in PHONE_SETS[phone_set].split() if not festival.festival_phones(s, phone_set)
    ]
    assert unknown == []


def test_every_ipa_letter_has_one_class_and_every_class_is_reached() -> None:
    classes = [ipa_phones(symbol) for symbol in IPA.split()]
    assert all(len(phones) == 1 for phones in classes)
    reached = {phone for phones in classes for phone in phones}
    assert reached == set(Phone) - {Phone.SILENCE}
    assert {phone for s in ARPABET.split() for phone in arpabet_phones(s)} == set(Phone)


@pytest.mark.parametrize(
    ("symbol", "phones"),
    [
        ("aɪ", (Phone.A, Phone.I)),
        ("oʊ", (Phone.O, Phone.ROUNDED)),
        ("iː", (Phone.I,)),
        ("ɔ̃", (Phone.O,)),
        ("õ", (Phone.O,)),
        ("pʰ", (Phone.BILABIAL,)),
        ("pf", (Phone.BILABIAL, Phone.LABIODENTAL)),
        ("tʃ", (Phone.POSTALVEOLAR,)),
        ("t͡s", (Phone.SIBILANT,)),
        ("nʲ", (Phone.ALVEOLAR,)),
        ("ʲ", ()),
        ("", ()),
    ],
)
def test_ipa_marks_diphthongs_and_affricates(symbol: str, phones: tuple[Phone, ...]) -> None:
    assert ipa_phones(symbol) == phones


def test_arpabet_takes_stress_and_case() -> None:
    assert arpabet_phones("AY1") == (Phone.A, Phone.I)
    assert arpabet_phones("ER0") == (Phone.SCHWA,)
    assert arpabet_phones("SIL") == (Phone.SILENCE,)
    assert arpabet_phones("QQ") == ()


def test_same_name_means_another_phone_in_another_set(festival: ModuleType) -> None:
    classes = festival.festival_phones
    assert classes("ch", "czech") == (Phone.VELAR,)
    assert classes("ch", "russian") == (Phone.POSTALVEOLAR,)
    assert classes("@", "finnish") == (Phone.A,)
    assert classes("y", "finnish") == (Phone.ROUNDED,)
    assert classes("y", "russian") == (Phone.I,)


def test_labels_sit_at_hop_centres_and_diphthongs_split_in_half() -> None:
    segments = [
        PhoneSegment("b", 0.02, 0.046, (Phone.BILABIAL,)),
        PhoneSegment("aɪ", 0.046, 0.086, (Phone.A, Phone.I)),
        PhoneSegment("?", 0.086, 0.1, ()),
    ]
    expected = [0, 0, 1, 1, 1, 13, 13, 15, 15, 15, 0, 0]
    # hop 4 is centred at 0.045, before the vowel; the unknown symbol prolongs the I
    assert label_segments(segments, 12).tolist() == expected


def test_no_segments_are_silence() -> None:
    assert label_segments([], 3).tolist() == [0, 0, 0]


def test_a_hole_between_segments_is_silence_and_a_part_is_that_of_the_whole() -> None:
    segments = [
        PhoneSegment("p", 0.02, 0.04, (Phone.BILABIAL,)),
        PhoneSegment("a", 0.07, 0.094, (Phone.A,)),
        PhoneSegment("o", 0.096, 0.12, (Phone.O,)),
    ]
    expected = [0, 0, 1, 1, 0, 0, 0, 13, 13, 13, 12, 12, 0, 0]
    # hop 9 is centred at 0.095, in a hole of 2 ms that is none
    assert label_segments(segments, 14).tolist() == expected
    for first in range(14):
        assert label_segments(segments, 14 - first, first_label=first).tolist() == expected[first:]


def vowel_closure_burst(
    closure_seconds: float, *, rate_hz: int = 22_050, noise: float = 0.0
) -> tuple[NDArray[np.int16], float]:
    """A vowel of 0.2 s, a closure, then a burst and a vowel; and the time of the burst."""
    generator = np.random.default_rng(0)
    sound = 8000.0 * np.sin(2 * np.pi * 200.0 * np.arange(rate_hz // 2) / rate_hz)
    start, end = round(0.2 * rate_hz), round((0.2 + closure_seconds) * rate_hz)
    sound[start:end] = noise * generator.standard_normal(end - start)
    return sound.astype(np.int16), 0.2 + closure_seconds


def closed_at(symbol: str, before: str, closure_seconds: float, noise: float = 0.0) -> float:
    """Start of the stop after the fix, where the phone before it began at 0.1 s."""
    sound, burst = vowel_closure_burst(closure_seconds, noise=noise)
    phones = ipa_phones(before) or (Phone.SILENCE,)
    segments = [
        PhoneSegment(before, 0.1, burst, phones),
        PhoneSegment(symbol, burst, burst + 0.03, ipa_phones(symbol)),
    ]
    restored = restore_closures(segments, sound, 22_050)
    assert restored[0].end_seconds == restored[1].start_seconds
    assert restored[1].end_seconds == segments[1].end_seconds
    return restored[1].start_seconds


@pytest.mark.parametrize("symbol", ["p", "tʃ", "kʰ"])
def test_voiceless_stop_gets_its_closure_back(symbol: str) -> None:
    assert closed_at(symbol, "a", 0.06) == pytest.approx(0.2, abs=0.006)
    assert closed_at(symbol, "a", 0.06, noise=40.0) == pytest.approx(0.2, abs=0.006)


def test_closure_is_limited() -> None:
    assert closed_at("p", "a", 0.15) == pytest.approx(0.35 - 0.09, abs=0.006)
    assert closed_at("p", "", 0.15) == pytest.approx(0.35 - 0.05)  # before it a pause


def test_voiced_stop_and_loud_closure_stay() -> None:
    assert closed_at("b", "a", 0.06) == pytest.approx(0.26)
    assert closed_at("p", "a", 0.06, noise=2000.0) == pytest.approx(0.26)


def test_phone_before_a_closure_keeps_its_minimum() -> None:
    sound, burst = vowel_closure_burst(0.09)
    segments = [
        PhoneSegment("s", 0.25, burst, (Phone.SIBILANT,)),
        PhoneSegment("t", burst, 0.32, (Phone.ALVEOLAR,)),
    ]
    assert restore_closures(segments, sound, 22_050)[1].start_seconds == pytest.approx(0.27)


def test_first_stop_and_empty_sound() -> None:
    segments = [PhoneSegment("p", 0.0, 0.1, (Phone.BILABIAL,))]
    assert restore_closures(segments, np.zeros(0, np.int16), 16_000) == segments


def test_corpus_comes_back_as_written(tmp_path: Path) -> None:
    first = Utterance(np.arange(320, dtype=np.int16), np.array([1, 2], np.int8), "0", "a:x", False)
    second = Utterance(np.full(160, 7, np.int16), np.array([3], np.int8), "1", "b:ÿ", True)
    path = tmp_path / "corpus.npz"
    join_utterances([first, second]).write(path)
    corpus = read_phone_corpus(path)
    assert len(corpus) == 2
    assert corpus.voices.tolist() == ["a:x", "b:ÿ"]
    assert corpus.held_out.tolist() == [False, True]
    for index, utterance in enumerate((first, second)):
        samples, labels = corpus.item(index)
        np.testing.assert_array_equal(samples, utterance.samples)
        np.testing.assert_array_equal(labels, utterance.labels)
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_corpus_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.npz"
    np.savez(other, samples=np.zeros(3))
    for path in (other, tmp_path / "missing.npz"):
        with pytest.raises(InputError, match="not a phone corpus"):
            read_phone_corpus(path)
