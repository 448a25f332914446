"""What the model hears besides the tokens: whether somebody speaks, and when lips are closed.

The energy of the sound cannot tell a melody from a voice; the phones that the speech embedder
recognises can. Where the words are known, their phones take the place of what is recognised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from moda.config import SpeechEmbedderConfig
from moda.motion.flow import Values
from moda.motion.network import Network
from moda.motion.rules.idle import HINTED_CLOSURE
from moda.phones import LABELS_PER_SECOND, Phone, PhoneSegment, label_segments
from moda.structures import FRAMES_PER_SECOND, UNKNOWN_PHONE, Floats, Speech

VOICE_REACH_FRAMES = 4
"""A known phone counts as a voice this many frames before it, for lips open first, and after."""
SHORTEST_PAUSE_FRAMES = 15
"""People keep their lips open in shorter pauses."""
VOICE_THRESHOLD = -1.0
"""Of the voice head's logit: natural speech that is taken for noise stops the lips, which is worse
than a little noise that is taken for speech."""
CLOSURE_FLOOR, CLOSURE_CEILING = 0.3, 0.9
"""Probabilities of p, b or m at which the lips begin to close and are closed."""
CLOSURE_PEAK = 0.35
"""Where the probability is highest among neighbours, and this high, lips close for one frame."""
CLOSURE_HINT = 0.15
"""Where it is highest and only this high, a hint closes lips that are nearly closed anyway."""


def listen(model: Network[Values], speech: Iterable[Speech]) -> Iterator[Speech]:
    """The same speech with the activity limited to voices, and with closures, as a stream.

    Speech comes out as soon as what is ahead of it is known; a model that does not read phones and
    voices leaves it as it is.
    """
    if not model.reads:
        yield from speech
        return
    config = model.config.speech_embedder
    margin = max(config.voice_reach, VOICE_REACH_FRAMES) + SHORTEST_PAUSE_FRAMES
    ahead, behind = config.after + margin, config.before + margin
    held = list[Speech]()
    past = 0
    """Frames at the beginning of what is held that have been given out."""
    pieces = iter(speech)
    ended = False
    while not ended:
        piece = next(pieces, None)
        ended = piece is None
        if piece is not None:
            held.append(piece)
        if not held:
            return
        whole = join_speech(held)
        end = len(whole) if ended else len(whole) - ahead
        if end <= past:
            continue
        yield _hear(model, whole)[past:end]
        start = max(0, end - behind)
        held, past = [whole[start:]], end - start


def tell_phones(speech: Iterable[Speech], segments: Sequence[PhoneSegment]) -> Iterator[Speech]:
    """The same speech with known phones; what lies outside all segments is silence."""
    per_frame = round(LABELS_PER_SECOND / FRAMES_PER_SECOND)
    start = 0
    for stretch in speech:
        count = len(stretch)
        labels = label_segments(segments, count * per_frame, first_label=start * per_frame)
        yield replace(stretch, phones=labels[:: per_frame // 2].reshape(count, 2))
        start += count


def join_speech(parts: list[Speech]) -> Speech:
    """Stretches one after the other as one."""

    def joined(name: str) -> np.ndarray | None:
        values = [getattr(part, name) for part in parts]
        return None if any(value is None for value in values) else np.concatenate(values)

    names = ("features", "activity", "phones", "closure", "loudness")
    return Speech(*(joined(name) for name in names))  # type: ignore[arg-type]


def _hear(model: Network[Values], speech: Speech) -> Speech:
    phones, voices = model.hear(with_context(speech.features, model.config.speech_embedder))
    heard, voice = phones.reshape(len(speech), 2, -1), voices > VOICE_THRESHOLD
    if speech.phones is not None:
        heard = with_known_phones(heard, speech.phones)
        voice = with_known_voice(voice, speech.phones)
    return replace(
        speech,
        activity=without_short_pauses(np.where(voice, speech.activity, np.float32(0.0))),
        closure=closures(heard),
    )


def with_context(features: Floats, config: SpeechEmbedderConfig) -> Floats:
    """A whole recording (T, F) with silence around it, so that each of its frames has a token."""
    return np.pad(features, ((config.before, config.after), (0, 0)))


def with_known_phones(heard: Floats, phones: NDArray[np.int8]) -> Floats:
    """Probabilities (T, 2, phones): 1 of the phones (T, 2) that are known, else as heard."""
    known = np.eye(heard.shape[2], dtype=np.float32)[np.maximum(phones, 0)]
    return np.where((phones != UNKNOWN_PHONE)[:, :, None], known, heard)


def with_known_voice(voice: NDArray[np.bool_], phones: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Voices (T,) with a voice wherever phones (T, 2) are known and sound, and near them."""
    is_known = (phones != UNKNOWN_PHONE).any(1)
    speaks = widened(((phones != UNKNOWN_PHONE) & (phones != Phone.SILENCE)).any(1))
    return np.where(is_known, speaks, voice)


def widened(where: NDArray[np.bool_], reach: int = VOICE_REACH_FRAMES) -> NDArray[np.bool_]:
    """(T,) also up to ``reach`` frames before and after."""
    wide = np.convolve(where, np.ones(2 * reach + 1), mode="full")
    return np.asarray(wide[reach : reach + len(where)] > 0.5, np.bool_)


def without_short_pauses(activity: Floats) -> Floats:
    """Activity (T,) that is 1 in pauses shorter than :data:`SHORTEST_PAUSE_FRAMES`.

    A recording in which nobody speaks is no pause, however short.
    """
    result = activity.astype(np.float32)
    for start, stop in true_runs(activity < 0.5):
        if stop - start < min(SHORTEST_PAUSE_FRAMES, len(activity)):
            result[start:stop] = 1.0
    return result


def true_runs(where: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(N, 2) beginning and end of every run of true values of (T,)."""
    edges = np.diff(np.concatenate([[False], where, [False]]).astype(int))
    return np.flatnonzero(edges).reshape(-1, 2)


def closures(shares: Floats) -> Floats:
    """(T,) in 0..1 how surely lips are closed, from shares (T, 2, phones).

    A frame counts by its surer half: a closure must be seen even if it lasts half a frame.
    """
    heard = shares[:, :, Phone.BILABIAL].max(1)
    closure = np.clip((heard - CLOSURE_FLOOR) / (CLOSURE_CEILING - CLOSURE_FLOOR), 0.0, 1.0)
    before, after = np.pad(heard, (1, 0))[:-1], np.pad(heard, (0, 1))[1:]
    is_peak = (heard >= before) & (heard > after)
    is_hint = is_peak & (heard > CLOSURE_HINT)
    closure = np.maximum(closure, HINTED_CLOSURE * is_hint)
    return np.where(is_peak & (heard > CLOSURE_PEAK), 1.0, closure).astype(np.float32)
