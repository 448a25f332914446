"""What an avatar looks like, and how it is brought to life."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from livekit import rtc
from livekit.agents.voice.avatar import AudioReceiver, AvatarOptions, AvatarRunner

from moda import EmotionAt, Style, TalkingHead
from moda.live import LiveOptions, LiveStream
from moda.options import FrameOptions, SpeakingOptions
from moda.structures import Picture

from .generator import VideoGenerator

SAMPLE_RATE_HZ = 24_000
FRAMES_PER_SECOND = 25
MAX_QUEUED_SECONDS = 600.0


@dataclass(frozen=True)
class Face:
    """A portrait, and how it is shown. Raises ``moda.InputError`` outside MoDA's limits."""

    portrait: str | Path | Picture
    """A picture file, or RGB pixels (H, W, 3)."""
    size: int = 512
    """Longer side of the pictures in pixels."""
    crop: bool = False
    """Show head and shoulders only."""
    emotion: str | None = None
    """One of ``moda.EMOTIONS``."""
    intensity: float = 1.0
    """Of the emotion, 0 to 1."""
    seed: int | None = None
    """Of the small movements; None derives one from the portrait."""

    def __post_init__(self) -> None:
        self.options()

    def options(self) -> tuple[LiveOptions, FrameOptions]:
        """The same for MoDA."""
        style = Style((EmotionAt(0.0, self.emotion, self.intensity),))
        live = LiveOptions(
            sample_rate=SAMPLE_RATE_HZ,
            pace="ahead",
            speaking=SpeakingOptions(style=style, seed=self.seed),
            max_queued_seconds=MAX_QUEUED_SECONDS,
        )
        return live, FrameOptions(size=self.size, full_frame=not self.crop)

    async def open(self, talking: TalkingHead | None = None) -> LiveStream:
        """Load model and portrait, without holding up the event loop.

        Raises ``moda.ModaError`` where the portrait cannot be used.
        """
        live, frame = self.options()
        return await LiveStream.open(self.portrait, live, frame=frame, talking=talking)


def make_runner(room: rtc.Room, receiver: AudioReceiver, stream: LiveStream) -> AvatarRunner:
    """What publishes the stream, made to speak by the receiver's sound, in a room."""
    width, height = stream.frame_size
    options = AvatarOptions(width, height, FRAMES_PER_SECOND, stream.sample_rate, 1)
    generator = VideoGenerator(stream)
    runner = AvatarRunner(room, audio_recv=receiver, video_gen=generator, options=options)
    # The stream keeps the time already. A second clock would hold pictures, but not their sound,
    # back for as long as the first of them was late.
    generator.before_picture = runner.av_sync.reset
    return runner
