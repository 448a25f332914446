"""A talking head that is always there: sound goes in as it is spoken, frames come out at 25 fps.

    push(sound) --> queue --> 40 ms a frame --> features --> motion of 0.24 s before --> picture
                                        `-----------> the same sound, 0.24 s late --> with it

:class:`LiveHead` makes one frame after the other, whoever asks: no clock, no thread, the same calls
give the same frames. :class:`LiveSession` runs it by the clock in a thread of its own.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from moda.devices import one_torch_thread
from moda.encoders.live_speech import LIVE_RATES_HZ, LiveFeatures, LiveSpeechEncoder, RateChange
from moda.errors import InputError
from moda.live.preparing import prepare_live
from moda.media.waves import write_pcm
from moda.motion.live.speaking import LiveSpeaker
from moda.options import FrameOptions, SpeakingOptions, require_range
from moda.phones import Phone
from moda.pipeline import TalkingHead
from moda.structures import FRAMES_PER_SECOND, EmotionAt, Floats, Motion, Picture, Style
from moda.systems.embedded import EmbeddedSystem
from moda.systems.protocol import Actor
from moda.threads import BackgroundThread

LOOK_AHEAD_FRAMES = 6
"""0.24 s, by which picture and sound are late; with 4 the lips follow a little less well."""
FIRST_SECONDS = 0.06
"""Sound that must be there before it is begun, so that it does not break off."""
FLUSH_FRAMES = 3
"""A rest of sound shorter than that is played when nothing has come for this many frames."""
RELAXED_SECONDS, LATE_SECONDS = 0.2, 1.0
"""Sound in real time that waits longer than the first is caught up in pauses, longer than the
second at once."""
QUIET_SHARE = 0.05
"""Of the recent loudness: below it sound counts as a pause that may be left out."""
FADE_SECONDS = 0.005
WARM_UP_FRAMES = 6

Pace = Literal["realtime", "ahead"]


@dataclass(frozen=True)
class LiveOptions:
    """How a live head listens and speaks. Raises :class:`InputError` outside the limits."""

    sample_rate: int = 48_000
    """Of the sound that goes in and comes out, see :data:`LIVE_RATES_HZ`."""
    pace: Pace = "realtime"
    """``realtime``: somebody speaks now; what is late is caught up. ``ahead``: speech is made
    faster than it is spoken and waits; all of it is played."""
    speaking: SpeakingOptions = field(default_factory=SpeakingOptions)
    look_ahead_frames: int = LOOK_AHEAD_FRAMES
    max_queued_seconds: float = 60.0
    """Sound that may wait to be spoken."""

    def __post_init__(self) -> None:
        if self.sample_rate not in LIVE_RATES_HZ:
            known = ", ".join(map(str, LIVE_RATES_HZ))
            raise InputError(f"live sound at {self.sample_rate} Hz is not supported; send {known}")
        if self.pace not in ("realtime", "ahead"):
            raise InputError(f"unknown pace {self.pace!r}; choose realtime or ahead")
        require_range("look-ahead in frames", self.look_ahead_frames, 4, 12)
        require_range("queued seconds", self.max_queued_seconds, 0.1, 600.0)
        if self.speaking.phones:
            raise InputError("phones cannot be told to a live head; leave them out")


class LiveFrame(NamedTuple):
    """40 ms of picture and sound that belong together."""

    number: int
    """Counted from 0; it is shown ``number / 25`` seconds after the first."""
    picture: Picture | None
    """(H, W, 3), or (H, W, 4) before a transparent background; None where none was wanted"""
    sound: Floats
    """(N,) at the rate of the options"""
    is_speaking: bool
    is_resting: bool
    """Nothing is left to be spoken"""
    is_sounding: bool
    """Something is being said: from the first sound that is no silence until all that was pushed
    has been heard"""
    marks: tuple[object, ...]
    """Those before which all sound has been heard now, see :meth:`LiveHead.mark`"""
    motion: Motion
    """(1, D) what is drawn"""
    phone: Phone
    """The most probable one"""
    heard_seconds: float
    """Of the sound that was pushed, how much has come out or has been dropped; at most a frame
    less than it was"""

    def pcm(self) -> bytes:
        """The sound as little-endian PCM of 16 bits."""
        return write_pcm(self.sound)


class LiveHead:
    """One portrait that speaks what it is given, and waits, blinking, where it is given nothing.

    Args:
        system: of the mesh renderer, on the CPU.
        actor: what the system has prepared; several heads, one after the other, may share it.
        options: see :class:`LiveOptions`.

    Raises:
        InputError: the model cannot speak live.
    """

    def __init__(
        self, system: EmbeddedSystem, actor: Actor, options: LiveOptions | None = None
    ) -> None:
        self.options = options or LiveOptions()
        self._renderer = actor.renderer
        self._speaker = LiveSpeaker(
            system.checkpoint.model,
            system.space,
            system.checkpoint.config.sampler,
            identity=actor.identity,
            options=self.options.speaking,
            look_ahead=self.options.look_ahead_frames,
        )
        self._memory = LiveFeatures(self._speaker.num_frames)
        self._encoder = LiveSpeechEncoder(self.options.sample_rate)
        rate = RateChange(self.options.sample_rate)
        self._per_frame, self._lead = rate.per_frame, rate.lead
        self._queue = SoundQueue(self.options)
        late = self.options.look_ahead_frames * self._per_frame
        self._pulled = np.zeros(late, np.float32)
        """Heard and not sounded yet."""
        self._number = 0
        self._num_pushed = 0
        self._num_pulled = deque([0], maxlen=self.options.look_ahead_frames + 2)
        """Of the pushed samples, how many had been pulled after each of the last frames."""
        self._marks: deque[tuple[int, object]] = deque()
        self._is_sounding = False

    @classmethod
    def of(
        cls,
        head: TalkingHead,
        portrait: str | Path | Picture,
        options: LiveOptions | None = None,
        *,
        frame: FrameOptions | None = None,
        warm_up: bool = False,
    ) -> LiveHead:
        """Make a portrait, a file or a picture (H, W, 3), speak live.

        ``warm_up`` makes a few frames for nobody, so that what the first frames of a process take
        longer for (compiling, seconds) has been done.

        Raises:
            InputError: The model cannot speak live.
            MediaError, FaceError: As :meth:`TalkingHead.generate`.
        """
        system, actor = prepare_live(head, portrait, frame, "speak live")
        if warm_up:
            other = cls(system, actor, options)
            for _ in range(WARM_UP_FRAMES):
                other.next_frame()
        return cls(system, actor, options)

    @property
    def frame_size(self) -> tuple[int, int]:
        """(width, height)"""
        return self._renderer.frame_size

    @property
    def num_frames(self) -> int:
        """Frames made so far."""
        return self._number

    @property
    def queued_seconds(self) -> float:
        """Sound that waits to be spoken."""
        return len(self._queue) / self.options.sample_rate

    @property
    def skipped_seconds(self) -> float:
        """Sound that was left out because it was late."""
        return self._queue.num_skipped / self.options.sample_rate

    def push(self, samples: Floats) -> None:
        """Take mono sound (N,) in -1..1, of any length.

        Raises:
            InputError: More would wait than is allowed, or the sound is no sound; none is taken.
        """
        self._queue.push(np.asarray(samples, np.float32))
        self._num_pushed += len(samples)

    def mark(self, mark: object) -> None:
        """Put a mark behind the sound that was pushed so far.

        It comes with the first frame after which none of that sound is left; an interruption drops
        it.
        """
        self._marks.append((self._num_pushed, mark))

    def interrupt(self) -> None:
        """Stop speaking: the sound ends with the next frame, and the lips close in 0.12 s."""
        self._queue.clear()
        self._marks.clear()
        self._num_pulled.extend([self._num_pushed] * (self.options.look_ahead_frames + 2))
        self._memory.forget(self.options.look_ahead_frames)
        self._speaker.interrupt()
        self._encoder.forget()
        fade = int(FADE_SECONDS * self.options.sample_rate)
        self._pulled[:fade] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
        self._pulled[fade:] = 0.0

    def express(self, emotion: str | None, intensity: float = 1.0) -> None:
        """Another emotion from now on; None for none. Raises :class:`InputError`."""
        self._speaker.express(emotion, intensity)

    def next_frame(self, *, draw: bool = True) -> LiveFrame:
        """The next 40 ms. ``draw=False`` leaves out the picture, which is most of the work."""
        is_left = self._num_pulled[0] < self._num_pushed
        count = self._per_frame + (self._lead if self._number == 0 else 0)
        taken = self._queue.pull(count)
        self._pulled = np.concatenate([self._pulled, taken])
        (features,) = self._encoder.push(taken)
        with one_torch_thread():
            motion = self._speaker.hear(self._memory.hear(features))
        sound, self._pulled = self._pulled[: self._per_frame], self._pulled[self._per_frame :]
        picture = next(self._renderer.render(motion)) if draw else None
        self._number += 1
        speaks = self._speaker.activity >= 0.5
        rests = not (speaks or len(self._queue) or self._pulled.any())
        self._num_pulled.append(self._num_pushed - len(self._queue))
        self._is_sounding = is_left and (self._is_sounding or bool(sound.any()))
        return LiveFrame(
            number=self._number - 1,
            picture=picture,
            sound=sound,
            is_speaking=speaks,
            is_resting=rests,
            is_sounding=self._is_sounding,
            marks=self._take_marks(self._num_pulled[0]),
            motion=motion,
            phone=self._speaker.phone,
            heard_seconds=self._num_pulled[0] / self.options.sample_rate,
        )

    def _take_marks(self, num_heard: int) -> tuple[object, ...]:
        taken = []
        while self._marks and self._marks[0][0] <= num_heard:
            taken.append(self._marks.popleft()[1])
        return tuple(taken)


class SoundQueue:
    """Sound that waits to be spoken; silence where there is none.

    It is begun once a little is there, so that sound that arrives in uneven pieces does not break
    off, and goes on until it has run out.
    """

    def __init__(self, options: LiveOptions) -> None:
        rate = options.sample_rate
        self._catches_up = options.pace == "realtime"
        self._limit = int(options.max_queued_seconds * rate)
        self._limit_seconds = options.max_queued_seconds
        self._first = int(FIRST_SECONDS * rate)
        self._relaxed, self._late = int(RELAXED_SECONDS * rate), int(LATE_SECONDS * rate)
        self._chunks: deque[Floats] = deque()
        self._count = 0
        self._is_playing = False
        self._waited = 0
        self._loudness = 1e-3
        self.num_skipped = 0

    def __len__(self) -> int:
        return self._count

    def push(self, samples: Floats) -> None:
        """Take samples (N,). Raises :class:`InputError` and takes none, as :class:`LiveHead`."""
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise InputError(
                f"live sound of shape {samples.shape} is not a row of finite numbers; send mono"
            )
        if self._count + len(samples) > self._limit:
            raise InputError(
                f"{(self._count + len(samples)) * self._limit_seconds / self._limit:.1f} s of "
                f"sound would wait, more than {self._limit_seconds:g} s; send it later"
            )
        if len(samples):
            self._chunks.append(np.clip(samples, -1.0, 1.0))
            self._count += len(samples)
            self._waited = 0

    def clear(self) -> None:
        """Drop everything."""
        self._chunks.clear()
        self._count, self._is_playing = 0, False

    def pull(self, count: int) -> Floats:
        """The next samples (count,)."""
        self._waited += 1
        if not self._is_playing:
            enough = self._count >= max(self._first, count)
            self._is_playing = enough or (self._count > 0 and self._waited > FLUSH_FRAMES)
        if not self._is_playing:
            return np.zeros(count, np.float32)
        if self._catches_up:
            self._catch_up(count)
        samples = self._take(min(count, self._count))
        self._loudness = max(0.998 * self._loudness, _rms(samples))
        self._is_playing = len(samples) == count
        return np.pad(samples, (0, count - len(samples)))

    def _catch_up(self, count: int) -> None:
        if self._count > self._late:
            self._skip(self._count - self._relaxed)
        elif self._count > self._relaxed + count:
            chunk = self._take(count)
            if _rms(chunk) < QUIET_SHARE * self._loudness:
                self.num_skipped += count
            else:
                self._chunks.appendleft(chunk)
                self._count += count

    def _skip(self, count: int) -> None:
        self.num_skipped += len(self._take(count))

    def _take(self, count: int) -> Floats:
        parts: list[Floats] = []
        self._count -= count
        while count > 0:
            chunk = self._chunks.popleft()
            parts.append(chunk[:count])
            if len(chunk) > count:
                self._chunks.appendleft(chunk[count:])
            count -= len(parts[-1])
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)


class LiveStatistics(NamedTuple):
    """What a session has done so far."""

    num_frames: int
    num_undrawn: int
    """frames that were shown without a new picture, because the machine was late"""
    max_late_seconds: float
    queued_seconds: float
    skipped_seconds: float


class LiveSession:
    """Runs a head by the clock, in a thread of its own: 25 frames a second, sound first.

    A machine that cannot keep up leaves out pictures and never sound, but draws one every
    ``LONGEST_PAUSE_SECONDS``. One that stood still goes on from where it is.

    Args:
        head: nobody else may use it from now on.
        emit: called in the thread with each frame; must not block for long.
        draw: whether frames have pictures.
        now, sleep: the clock, in seconds.
    """

    UNDRAWN_AFTER_SECONDS = 0.08
    LONGEST_PAUSE_SECONDS = 0.48
    """From one picture to the next where motion alone takes all the time."""
    STOOD_STILL_SECONDS = 1.0
    DUE_WITHIN_SECONDS = 1e-6
    """What is this early is due: a shorter sleep might not move a clock."""

    def __init__(
        self,
        head: LiveHead,
        emit: Callable[[LiveFrame], None],
        *,
        draw: bool = True,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._head, self._emit, self._now, self._sleep = head, emit, now, sleep
        self._draws = draw
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._is_stopped = threading.Event()
        self._thread = BackgroundThread(self._run, "moda-live", self._is_stopped.set)
        self.error: BaseException | None = None
        """Why the thread has ended, if not by :meth:`close`."""
        self.rejected: str | None = None
        """Why the last sound or wish was not taken; reset by whoever reads it."""
        self.statistics = LiveStatistics(0, 0, 0.0, 0.0, 0.0)

    def start(self) -> None:
        """Begin to make frames."""
        self._thread.start()

    def push(self, samples: Floats) -> None:
        """As :meth:`LiveHead.push`, from any thread; see :attr:`rejected`."""
        self._calls.put(lambda: self._head.push(samples))

    def mark(self, mark: object) -> None:
        """As :meth:`LiveHead.mark`, from any thread."""
        self._calls.put(lambda: self._head.mark(mark))

    def interrupt(self, done: Callable[[int], None] | None = None) -> None:
        """As :meth:`LiveHead.interrupt`, from any thread.

        ``done`` is told, in the session's thread, the number of the first silent frame.
        """

        def stop() -> None:
            self._head.interrupt()
            if done is not None:
                done(self._head.num_frames)

        self._calls.put(stop)

    def express(self, emotion: str | None, intensity: float = 1.0) -> None:
        """As :meth:`LiveHead.express`, from any thread. Raises :class:`InputError`."""
        Style((EmotionAt(0.0, emotion, intensity),))
        self._calls.put(lambda: self._head.express(emotion, intensity))

    def call(self, work: Callable[[], None]) -> None:
        """Do something in the session's thread, after all that was asked of it before."""
        self._calls.put(work)

    def close(self) -> None:
        """End; returns when no frame is made any more."""
        self._is_stopped.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._play()
        except BaseException as error:  # reported to whoever owns the session
            self.error = error

    def _play(self) -> None:
        start, due = self._now(), 0
        undrawn, latest, drawn_at = 0, 0.0, start
        while not self._is_stopped.is_set():
            late = self._now() - start - due / FRAMES_PER_SECOND
            if late < -self.DUE_WITHIN_SECONDS:
                self._sleep(-late)
                continue
            if late > self.STOOD_STILL_SECONDS:
                start, due, late = self._now(), 0, 0.0
            self._answer_calls()
            now = self._now()
            draws = (
                late <= self.UNDRAWN_AFTER_SECONDS or now - drawn_at >= self.LONGEST_PAUSE_SECONDS
            )
            drawn_at = now if draws else drawn_at
            frame = self._head.next_frame(draw=self._draws and draws)
            due += 1
            undrawn += self._draws and not draws
            latest = max(latest, late)
            self.statistics = LiveStatistics(
                frame.number + 1,
                undrawn,
                latest,
                self._head.queued_seconds,
                self._head.skipped_seconds,
            )
            self._emit(frame)

    def _answer_calls(self) -> None:
        while not (self._calls.empty() or self._is_stopped.is_set()):
            try:
                self._calls.get_nowait()()
            except InputError as error:
                self.rejected = str(error)


def _rms(samples: Floats) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2))) if len(samples) else 0.0
