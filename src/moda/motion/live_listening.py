"""Listening while somebody speaks: each frame is judged with a short look-ahead and no more.

The speech embedder may want to know more of the future than there is. What is missing is told as
the end of a recording, which it has met in training.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from moda.errors import InputError
from moda.motion.layers import SpeechConv
from moda.motion.listening import SHORTEST_PAUSE_FRAMES, closures
from moda.motion.model import MotionTransformer
from moda.structures import Floats, HeardFrame, Speech

HANGOVER_HOPS, ONSET_HOPS = 9, 14
"""As in :mod:`moda.encoders.speech`: how far loudness reaches to either side."""


class ToldFrame(NamedTuple):
    """One frame of speech, judged."""

    speech: Speech  # of one frame
    mouth: Floats
    """(D,) mean of the normalised motion given the sound"""


class LiveListener:
    """Takes frames as they are heard and judges the one ``look_ahead`` frames before the last.

    Raises:
        InputError: the model does not read the mouth from the speech at once, or its features have
            another size.
    """

    def __init__(self, model: MotionTransformer, identity: Floats, look_ahead: int) -> None:
        embedder, config = model.speech_embedder, model.config
        if not isinstance(embedder, SpeechConv) or not config.mouth_size:
            raise InputError(
                "this model cannot speak live: it does not read the mouth from the sound frame by "
                "frame; choose the model moda-tiny"
            )
        self._model, self._embedder, self._ahead = model, embedder, look_ahead
        self._emotion = torch.tensor([config.none_emotion])
        self._identity = torch.from_numpy(identity.astype(np.float32))[None]
        told = embedder.config
        self._reach = told.voice_reach
        length = self._reach + told.before + 1 + look_ahead
        self._features = np.zeros((length, config.speech.size), np.float32)
        """Of the last frames that were heard, zeros before the first."""
        self._active = np.zeros((0, 0), np.bool_)
        """Loudness (N, H) of the frames around the one that is judged."""
        self._pause: int | None = None
        """Frames since somebody spoke; None where nobody has."""

    def hear(self, frame: HeardFrame) -> ToldFrame:
        """Take the next frame; judge the one ``look_ahead`` before it."""
        if frame.features.shape != self._features.shape[1:]:
            raise InputError(
                f"speech features have shape {frame.features.shape}; "
                f"the model needs {self._features.shape[1:]}"
            )
        self._features = np.concatenate([self._features[1:], frame.features[None]])
        if not self._active.size:
            past = -(-HANGOVER_HOPS // len(frame.active))
            self._active = np.zeros((past + self._ahead + 1, len(frame.active)), np.bool_)
        self._active = np.concatenate([self._active[1:], frame.active[None]])
        return self._judge()

    def forget(self, silence: HeardFrame) -> None:
        """Hear silence instead of all that has been heard and not been judged yet."""
        self._features[len(self._features) - self._ahead :] = silence.features
        self._active[:] = False
        self._pause = None

    @torch.inference_mode()
    def _judge(self) -> ToldFrame:
        told, count = self._embedder.config, len(self._features)
        now = count - 1 - self._ahead
        window = np.pad(self._features, ((0, max(0, told.after - self._ahead)), (0, 0)))
        around = window[now - told.before : now + told.after + 1]
        conditions = self._model.encode_conditions(
            torch.from_numpy(around)[None], self._emotion, self._identity
        )
        activity, closure = self._loudness(), None
        if told.num_phones:
            last = min(now + self._reach, count - 1) if told.voice_spans else now
            heard = window[now - self._reach - told.before : last + told.after + 1]
            missing = last + told.after + 1 - len(window)
            heard = np.pad(heard, ((0, max(0, missing)), (0, 0)))
            sound = self._embedder.inner_hidden(torch.from_numpy(heard)[None])
            shares = self._embedder.phone_shares(sound)[0].T.float().numpy()
            halves = shares.reshape(-1, 2, shares.shape[1])
            closure = closures(halves[self._reach : self._reach + 1])
            if told.voice_spans:
                voice = self._embedder.voice_head(self._embedder.voice_inputs(sound))[0, :, 0]
                judged = (voice[self._reach :] > 0.0).numpy()
                activity[: len(judged)] *= judged
        speech = Speech(
            self._features[now : now + 1],
            np.array([self._without_short_pauses(activity)], np.float32),
            None,
            closure,
        )
        return ToldFrame(speech, conditions.mean[0, 0].numpy())

    def _loudness(self) -> Floats:
        """(look_ahead + 1,) activity of the frame that is judged and of those after it."""
        frames, hops = self._active.shape
        loud = self._active.ravel()
        wide = np.convolve(loud, np.ones(HANGOVER_HOPS + ONSET_HOPS + 1))
        begin = (frames - self._ahead - 1) * hops
        spread = wide[ONSET_HOPS : ONSET_HOPS + len(loud)] > 0.5
        judged: Floats = spread[begin:].reshape(-1, hops).mean(1).astype(np.float32)
        return judged

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
