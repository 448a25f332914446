"""Words about style mean what the table says, and what they do not mean is said."""

from __future__ import annotations

import pytest

from moda.encoders.style import DEGREES, WORDS, encode_style
from moda.errors import InputError
from moda.structures import EMOTIONS, EmotionAt


def test_the_example() -> None:
    delivery = encode_style("warm, a little tired, nods")
    assert delivery.style.schedule == (EmotionAt(0.0, "happy", 0.4),)
    assert delivery.head_motion == pytest.approx(0.8 * 1.5)
    assert delivery.expression == pytest.approx(0.9)
    assert delivery.blink_rate == pytest.approx(22.5)
    assert delivery.rate == pytest.approx(0.95)
    (aside,) = delivery.not_understood
    assert "sad of 'tired'" in aside


@pytest.mark.parametrize("word", WORDS)
def test_every_word_alone(word: str) -> None:
    delivery, meaning = encode_style(word), WORDS[word]
    assert delivery.not_understood == ()
    assert delivery.head_motion == pytest.approx(meaning.head_motion)
    assert delivery.expression == pytest.approx(meaning.expression)
    assert delivery.blink_rate == meaning.blink_rate
    assert delivery.gaze == meaning.gaze
    if meaning.emotion is None:
        assert delivery.style.schedule == ()
    else:
        assert delivery.style.schedule == (EmotionAt(0.0, meaning.emotion, meaning.intensity),)
    changes = (meaning.emotion, meaning.head_motion, meaning.expression, meaning.blink_rate)
    assert changes != (None, 1.0, 1.0, None) or meaning.gaze or meaning.rate != 1.0


def test_all_emotions_have_words() -> None:
    assert {meaning.emotion for meaning in WORDS.values()} == {None, *EMOTIONS}


@pytest.mark.parametrize("degree", DEGREES)
def test_degrees(degree: str) -> None:
    (entry,) = encode_style(f"{degree} friendly").style.schedule
    assert entry.intensity == pytest.approx(min(1.0, 0.5 * DEGREES[degree]))


@pytest.mark.parametrize(
    ("words", "unknown"),
    [
        ("purple", ("'purple'",)),
        ("warm, purple and flying", ("'purple'", "'flying'")),
        ("not happy", ("'not happy'",)),
        ("less angry, calm", ("'less angry'",)),
        ("in a friendly voice", ()),
        ("", ()),
        ("freundlich", ("'freundlich'",)),
    ],
)
def test_what_is_not_understood(words: str, unknown: tuple[str, ...]) -> None:
    assert encode_style(words).not_understood == unknown


def test_limits() -> None:
    assert encode_style("extremely lively, extremely excited").head_motion == 2.0
    assert encode_style("furious, very furious").style.schedule[0].intensity == 1.0
    with pytest.raises(InputError, match="501 characters"):
        encode_style("a" * 501)
