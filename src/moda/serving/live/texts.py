"""Texts that a client sends into a live session, spoken here and handed on as the head speaks them.

One text is spoken after the other, in a thread of its own; the session takes 40 ms of the sound
with each of its frames, so that sound never waits, whatever the session's pace.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from moda.errors import InputError, ModaError
from moda.files import ScratchFolder
from moda.media import AudioReader
from moda.options import read_visitor_options
from moda.pipeline import Progress
from moda.pipeline.jobs import speak_text
from moda.speech_synthesis import check_spoken_length, espeak_is_installed
from moda.structures import FRAMES_PER_SECOND, EmotionAt, Floats
from moda.threads import BackgroundThread

MAX_WAITING = 32
"""Texts that may wait to be spoken."""
AHEAD_SECONDS = 10.0
"""Sound that is there before the next text is spoken."""
FIRST_FRAMES = 3
"""Handed over at once, so that the sound does not break off."""
NO_VOICE = "this server has no speech synthesis; send sound"


class Spoken(NamedTuple):
    """One text as sound."""

    samples: Floats
    """(N,)"""
    emotions: tuple[EmotionAt, ...]
    """Of the tags of the text, at seconds of its sound."""


class TextReader:
    """Speaks the texts of one session.

    Args:
        sample_rate_hz: Of the session.
        max_seconds: Longest sound of one text.
        reject: Told, in a thread of its own, why a text is not spoken.
    """

    def __init__(
        self, sample_rate_hz: int, max_seconds: float, reject: Callable[[str], None]
    ) -> None:
        self._rate_hz, self._max_seconds, self._reject = sample_rate_hz, max_seconds, reject
        self._texts: queue.SimpleQueue[tuple[int, Mapping[str, Any]] | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._sounds: deque[Spoken] = deque()
        self._position = 0
        """Samples of the first sound that have been handed over."""
        self._num_open = 0
        """Texts that are not spoken out."""
        self._round = 0
        """Counts interruptions; what was begun before the last one is dropped."""
        self._is_flowing = self._is_closed = False
        self._thread = BackgroundThread(self._run, "moda-texts", self.close)

    @property
    def is_busy(self) -> bool:
        """Whether something is left to be said."""
        return self._num_open > 0

    def say(self, values: Mapping[str, Any]) -> None:
        """Take a text, with the language and more, as the options of a video have them."""
        with self._changed:
            if self._num_open >= MAX_WAITING:
                reason = f"{MAX_WAITING} texts wait to be spoken; send more later"
            elif not espeak_is_installed():
                reason = NO_VOICE
            else:
                reason = ""
                self._num_open += 1
                self._texts.put((self._round, values))
                if self._thread.ident is None:
                    self._thread.start()
        if reason:
            self._reject(reason)

    def forget(self) -> None:
        """Drop everything."""
        with self._changed:
            self._sounds.clear()
            self._position = self._num_open = 0
            self._round += 1
            self._is_flowing = False
            self._changed.notify()

    def next_sound(self) -> tuple[Floats | None, list[EmotionAt]]:
        """What to hear with the next frame, and emotions from now on; None for nothing."""
        frame = round(self._rate_hz / FRAMES_PER_SECOND)
        with self._changed:
            if not self._sounds:
                self._is_flowing = False
                return None, []
            count = frame if self._is_flowing else FIRST_FRAMES * frame
            self._is_flowing = True
            samples, emotions = self._sounds[0]
            begin, end = self._position, self._position + count
            due = [e for e in emotions if begin <= e.seconds * self._rate_hz < end]
            self._position = end
            if end >= len(samples):
                self._sounds.popleft()
                self._position = 0
                self._num_open -= 1
                self._changed.notify()
            return samples[begin:end], due

    def close(self) -> None:
        """End; what is being spoken is given up."""
        self._is_closed = True
        self.forget()
        self._texts.put(None)

    def _run(self) -> None:
        while (text := self._texts.get()) is not None:
            begun, values = text
            if begun != self._round:
                continue
            spoken = None
            try:
                spoken = self._speak(begun, values)
            except ModaError as error:
                if begun == self._round:
                    self._reject(str(error))
            with self._changed:
                if begun == self._round and spoken is not None:
                    self._sounds.append(spoken)
                elif begun == self._round:
                    self._num_open -= 1
                self._changed.wait_for(lambda: self._is_closed or not self._is_ahead())

    def _is_ahead(self) -> bool:
        waiting = sum(len(sound.samples) for sound in self._sounds) - self._position
        return waiting > AHEAD_SECONDS * self._rate_hz

    def _speak(self, begun: int, values: Mapping[str, Any]) -> Spoken:
        """Speak a text. Raises :class:`ModaError`."""

        @contextmanager
        def until_forgotten(stage: str) -> Iterator[Progress]:
            def progress(done: int, total: int) -> None:
                if begun != self._round:
                    raise InputError("interrupted")

            yield progress

        options = read_visitor_options(values)
        check_spoken_length(options.text or "", self._max_seconds)
        with ScratchFolder("text") as folder:
            said = speak_text(
                options,
                folder / "speech.wav",
                stages=until_forgotten,
                max_seconds=self._max_seconds,
            )
            samples = np.concatenate(list(AudioReader(said.path, self._rate_hz)))
        return Spoken(samples, said.style.schedule)
