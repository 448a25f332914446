"""Listening while somebody speaks: each frame is judged with a short look-ahead and no more.

Whether somebody speaks is judged over more of the future than there is. The missing future is
filled with zeros, as after the end of a recording; the voice head was trained on such ends, too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moda.errors import InputError
from moda.motion.hearing.listening import (
    SHORTEST_PAUSE_FRAMES,
    VOICE_THRESHOLD,
    closures,
)
from moda.motion.network import Network
from moda.phones import Phone
from moda.structures import Floats, RecentSpeech, Speech

ONSET_PAST_FRAMES = 2
"""At the beginning of a voice more is known of the silence before than of the voice. The frame is
therefore judged a second time, as if the recording had begun this many frames ago."""


class JudgedFrame(NamedTuple):
    """One frame of speech, judged."""

    speech: Speech  # of one frame
    mouth: Floats
    """(D,) mean of the normalised motion given the sound"""
    phone: Phone
    """The most probable one"""


class LiveListener:
    """Judges the frame ``look_ahead`` frames before the last that was heard.

    Raises:
        InputError: the model does not read the mouth from the speech at once.
    """

    def __init__(self, model: Network[Any], look_ahead: int) -> None:
        if not model.reads:
            raise InputError(
                "this model cannot speak live: it does not read the mouth from the sound frame by "
                "frame; choose the model moda-tiny"
            )
        self._model, self._ahead = model, look_ahead
        self._embedder = model.config.speech_embedder
        self.num_frames = self._embedder.voice_reach + self._embedder.before + 1 + look_ahead
        """Frames of speech, up to the last that was heard, that a judgement takes."""
        self._pause: int | None = None
        """Frames since somebody spoke; None where nobody has."""

    def judge(self, recent: RecentSpeech) -> JudgedFrame:
        """Judge a frame by the last frames that were heard."""
        now = len(recent.features) - 1 - self._ahead
        closure, voice, phone = self._listen(recent, now)
        activity = recent.activity[now:].copy()
        activity[: len(voice)] *= voice
        speech = Speech(
            recent.features[now : now + 1],
            np.array([self._without_short_pauses(activity)], np.float32),
            closure=closure,
            loudness=recent.loudness[now : now + 1],
        )
        return JudgedFrame(speech, self._mouth(recent.features, now), phone)

    def forget(self) -> None:
        """Nobody has spoken yet."""
        self._pause = None

    def _mouth(self, features: Floats, now: int) -> Floats:
        """(D,) of the frame ``now``."""
        return self._model.mean_of(self._around(features, now, now))[0]

    def _listen(self, recent: RecentSpeech, now: int) -> tuple[Floats, NDArray[np.bool_], Phone]:
        """Closure (1,) and phone of the frame ``now``, voices (n,) of it and those after it."""
        features, reach = recent.features, self._embedder.voice_reach
        known = features[: len(features) - recent.num_pending]
        last = min(now + reach, len(known) - 1)
        whole = self._model.hear(self._around(known, now - reach, last))
        onset = self._model.hear(self._around(known, now - ONSET_PAST_FRAMES, last))
        voice = np.maximum(whole.voice[reach:], onset.voice[ONSET_PAST_FRAMES:])
        heard = whole.phones.reshape(-1, 2, whole.phones.shape[1])[reach - 1 : reach + 2]
        phone = Phone(int(heard[1].mean(0).argmax()))
        return closures(heard)[1:2], voice > VOICE_THRESHOLD, phone

    def _around(self, features: Floats, first: int, last: int) -> Floats:
        """Frames ``first`` to ``last`` with their context."""
        context = self._embedder.context
        part = features[first - context : last + context + 1]
        missing = last + context + 1 - len(features)
        return np.pad(part, ((0, missing), (0, 0))) if missing > 0 else part

    def _without_short_pauses(self, activity: Floats) -> float:
        """Activity of the frame; 1 in a pause that is, or may become, a short one."""
        quiet: NDArray[np.bool_] = activity < 0.5
        if not quiet[0]:
            self._pause = 0
            return float(activity[0])
        if self._pause is None:
            return float(activity[0])
        self._pause += 1
        ahead = int(np.argmin(quiet)) if not quiet.all() else len(quiet)
        decided = self._pause - 1 + ahead >= SHORTEST_PAUSE_FRAMES
        return float(activity[0]) if decided else 1.0
