"""Every option of a video, described once, and the parts that systems take."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from moda.errors import InputError
from moda.options.description import Command, Option, check_limits
from moda.options.texts import (
    Speaker,
    parse_background,
    parse_emotion,
    parse_emotion_times,
    parse_faces,
    parse_size,
)
from moda.phones import PhoneSegment
from moda.structures import EMOTIONS, Background, EmotionAt, Motion, Style

Gaze = Literal["wander", "camera"]
MIN_SIZE_PX, MAX_SIZE_PX = 64, 4096
USUAL_SIZE_PX = 512, 1024
"""Least and largest size that is taken where none is chosen; between them, that of the picture."""
VISITOR_SIZE_PX = 2160
"""Largest size for visitors of a page or a server: time and memory grow with its square."""
USUAL_BLINK_RATE, MAX_BLINK_RATE = 17.0, 60.0
"""Blinks a minute: of people who talk calmly, and the most that can be told apart."""
RATE_LIMITS = (0.5, 2.0)
"""Of synthesised speech, 1 is usual."""
MAX_STYLE_CHARACTERS = 500
SPOKEN: tuple[Command, ...] = ("dub", "export")
REENACT: tuple[Command, ...] = ("reenact",)
EXPORT: tuple[Command, ...] = ("export",)
BOTH: tuple[Command, ...] = ("dub", "reenact")
ALL: tuple[Command, ...] = ("dub", "reenact", "export")


class ModelChoice(NamedTuple):
    """What has to be loaded for a video."""

    model: str | None
    renderer: str | None
    device: str
    precision: str
    compat: str | None


@dataclass(frozen=True)
class FrameOptions:
    """How a portrait is framed; fields and limits are those of :class:`VideoOptions`."""

    size: int | Literal["own"] | None = None
    full_frame: bool = True
    face: int | None = None
    eyes: float | None = None
    lips: float | None = None
    background: Background | None = None

    def __post_init__(self) -> None:
        check_limits(self, VideoOptions)

    def longer_side(self, own: int) -> int:
        """Longer side of the frames in pixels, even.

        ``own``: that of what they show in the picture, to which a size that is not chosen keeps.
        """
        low, high = USUAL_SIZE_PX if self.size is None else (MIN_SIZE_PX, MAX_SIZE_PX)
        wanted = self.size if isinstance(self.size, int) else min(max(own, low), high)
        return wanted // 2 * 2


@dataclass(frozen=True)
class MotionAmounts:
    """Factors on what moves; the limits are those of :class:`VideoOptions`."""

    head_motion: float = 1.0
    expression: float = 1.0

    def __post_init__(self) -> None:
        check_limits(self, VideoOptions)


@dataclass(frozen=True)
class SpeakingOptions:
    """How speech becomes motion; the limits are those of :class:`VideoOptions`."""

    style: Style = field(default_factory=Style)
    seed: int | None = None
    """None derives one from portrait and speech."""
    num_steps: int | None = None
    guidance_scale: float | None = None
    blink: bool = True
    blink_rate: float | None = None
    """None is that of people who talk, or the guide's."""
    gaze: Gaze | None = None
    """None: wander, or as the guide's."""
    lips_only: bool = False
    """Nothing moves but the mouth, and what the guide moves."""
    guide: Motion | None = None
    """Motion at 25 fps of a driving video: its head, eyes and brows with the lips of the speech."""
    amounts: MotionAmounts = field(default_factory=MotionAmounts)
    phones: tuple[PhoneSegment, ...] = ()
    """What is said, with its times, where it is known."""

    def __post_init__(self) -> None:
        check_limits(self, VideoOptions)


@dataclass(frozen=True)
class VideoOptions:
    """Every option of a video. Raises :class:`InputError` for values outside the limits."""

    # fmt: off
    # What is said
    text: Annotated[str | None, Option(
        "Speak this text instead of a recording; [happy], [sad:0.6], [pause:1] are tags.",
        keyword=False, label="what is said", also=SPOKEN)] = None
    text_file: Annotated[Path | None, Option(
        "The same from a text file or subtitles, - for input.", keyword=False, also=SPOKEN,
        private=True)] = None
    transcript: Annotated[str | None, Option(
        "What is said in SPEECH, or a text file of it: surer lips, tags, subtitles.", keyword=False,
        metavar="TEXT|FILE", also=SPOKEN, private=True)] = None
    sound_track: Annotated[int | None, Option(
        "Which sound track of SPEECH, from 1.", 1, 100, usual="its default one", also=SPOKEN,
        private=True)] = None
    language: Annotated[str, Option(
        "Of text and transcript, such as en-us, de, fr-fr, es, ru, cmn.", keyword=False,
        also=SPOKEN)] = "en-us"
    voice: Annotated[str | None, Option(
        "One of moda voices, such as af_heart.", keyword=False, usual="the synthesiser's",
        also=SPOKEN)] = None
    rate: Annotated[float | None, Option(
        "Of synthesised speech, {limits}.", *RATE_LIMITS, keyword=False, label="rate of speech",
        usual="1", also=SPOKEN)] = None
    tts: Annotated[str | None, Option(
        "espeak or kokoro.", keyword=False, usual="the voice's, or espeak", also=SPOKEN,
        private=True)] = None
    tts_command: Annotated[str | None, Option(
        "Another synthesiser: reads text from its input and writes the file {{output}}.",
        keyword=False, metavar="COMMAND", also=SPOKEN, private=True)] = None
    subtitles: Annotated[bool, Option(
        "Write subtitles of text or transcript.", keyword=False, also=("dub",),
        private=True)] = False
    phones: Annotated[Path | tuple[PhoneSegment, ...] | None, Option(
        "What is said: TextGrid, or a text file with start, end and phone per line.", only="mesh",
        private=True)] = None

    # How it is said
    emotion: Annotated[EmotionAt | None, Option(
        f"One of {', '.join(EMOTIONS)}.", metavar="NAME[:AMOUNT]", parse=parse_emotion,
        also=EXPORT)] = None
    emotion_at: Annotated[tuple[EmotionAt, ...], Option(
        "Change the emotion at a time; may be given again. The name none ends it.",
        metavar="SECONDS=NAME[:AMOUNT]", label="emotions at times",
        parse_many=parse_emotion_times, also=EXPORT)] = ()
    style: Annotated[Style | str | None, Option(
        'Free words, such as "warm, a little tired, nods".', also=EXPORT)] = None
    head_motion: Annotated[float | None, Option(
        "Amount of head motion, {limits}.", 0, 2, usual="1", also=("reenact", "export"))] = None
    expression: Annotated[float | None, Option(
        "Amount of expression, {limits}.", 0, 2, usual="1", also=ALL)] = None
    blink: Annotated[bool, Option(
        "Let the eyes blink.", flag="--blink/--no-blink", also=EXPORT)] = True
    blink_rate: Annotated[float | None, Option(
        "Blinks a minute, {limits}.", 0, MAX_BLINK_RATE, label="blinks a minute",
        usual=f"about {USUAL_BLINK_RATE:g}", only="mesh", also=EXPORT)] = None
    gaze: Annotated[Gaze | None, Option(
        "Where the eyes are: camera or wander.", usual="wander", only="mesh", also=EXPORT)] = None
    lips_only: Annotated[bool, Option(
        "Move nothing but the mouth, or what a driving video moves.", also=EXPORT)] = False
    driving: Annotated[Path | None, Option(
        "Take head, brows and eyes from this video.", metavar="VIDEO",
        label="driving video")] = None
    seed: Annotated[int | None, Option(
        "Another number, another performance.", 0, 2**63 - 1, usual="from portrait and speech",
        also=SPOKEN)] = None

    # What is seen
    frames_per_second: Annotated[float, Option(
        "Frames per second, {limits}.", 10, 60, name="fps", also=REENACT)] = 25.0
    size: Annotated[int | Literal["own"] | None, Option(
        "Longer side of the video in pixels, {limits}, or own: that of what it shows.", MIN_SIZE_PX,
        MAX_SIZE_PX, metavar="PIXELS|own", label="size in pixels",
        usual="that of the picture, 512 to 1024; with the neural renderer at most 1920",
        parse=parse_size, also=REENACT, visitors_high=VISITOR_SIZE_PX)] = None
    full_frame: Annotated[bool, Option(
        "The whole picture, or only the head.", flag="--full-frame/--crop", also=REENACT)] = True
    background: Annotated[Background | None, Option(
        "Behind the person: none (transparent), a name such as green, or #rrggbb.",
        metavar="none|COLOUR", usual="the picture", parse=parse_background, only="mesh",
        also=REENACT)] = None
    face: Annotated[int | tuple[Speaker, ...] | None, Option(
        "Which face, from left to right from 1; with a recording each, several may speak.", 1,
        metavar="NUMBER[=SPEECH]", usual="the largest", parse_many=parse_faces,
        also=ALL)] = None
    in_turns: Annotated[bool, Option(
        "Faces speak one after the other, not at once.", keyword=False, private=True)] = False
    eyes: Annotated[float | None, Option(
        "Open the portrait's eyes this far, {limits} of their width; neural renderer only.", 0, 0.8,
        label="opening of the eyes", usual="as they are", only="neural", also=REENACT)] = None
    lips: Annotated[float | None, Option(
        "Open the portrait's lips this far, {limits} of their width; neural renderer only.", 0, 0.8,
        label="opening of the lips", usual="as they are", only="neural", also=REENACT)] = None

    # How it is made
    num_steps: Annotated[int | None, Option(
        "Steps of the sampler, {limits}.", 1, 1000, name="steps", label="number of steps",
        usual="the model's", also=EXPORT)] = None
    guidance_scale: Annotated[float | None, Option(
        "How much motion follows speech and emotion, {limits}.", 1, 10, usual="the model's",
        also=EXPORT)] = None
    renderer: Annotated[str | None, Option(
        "How frames are made: mesh or neural.", keyword=False, usual="the model's", also=REENACT,
        private=True)] = None
    model: Annotated[str | None, Option(
        "moda-tiny, moda-base, or a .safetensors file.", keyword=False,
        usual="moda-tiny; moda-base with the neural renderer", also=ALL, private=True)] = None
    device: Annotated[str, Option(
        "auto, cpu, cuda or mps; auto is a GPU for moda-base alone.", keyword=False, also=ALL,
        private=True)] = "auto"
    precision: Annotated[str, Option(
        "Of moda-base: float32; tf32, float16 or bfloat16 are for GPUs.", keyword=False,
        also=REENACT, private=True)] = "float32"
    compat: Annotated[str | None, Option(
        "moda-base exactly as its released implementation computes it.", keyword=False,
        metavar="reference", private=True)] = None

    # What the file says of itself
    synthetic_metadata: Annotated[bool, Option(
        "Whether tags and a signed manifest say that the video is synthetic.", keyword=False,
        flag="--synthetic-metadata/--no-synthetic-metadata", also=BOTH, private=True)] = True
    sign_cert: Annotated[Path | None, Option(
        "Certificate chain (PEM) for the signed manifest.", keyword=False,
        usual="one for this file alone", variable="MODA_SIGN_CERT", also=BOTH, private=True)] = None
    sign_key: Annotated[Path | None, Option(
        "Its private key (PEM).", keyword=False, variable="MODA_SIGN_KEY", also=BOTH,
        private=True)] = None
    # fmt: on

    def __post_init__(self) -> None:
        check_limits(self, VideoOptions)
        Style(self.chosen_emotions)
        if (self.sign_cert is None) != (self.sign_key is None):
            raise InputError("a signature needs both --sign-cert and --sign-key")

    @property
    def chosen_emotions(self) -> tuple[EmotionAt, ...]:
        return (*(() if self.emotion is None else (self.emotion,)), *self.emotion_at)

    @property
    def speakers(self) -> tuple[Speaker, ...]:
        """Faces with recordings of their own."""
        return self.face if isinstance(self.face, tuple) else ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that are read besides the portrait and a recording."""
        named = [value for value in vars(self).values() if isinstance(value, Path)]
        texts = [Path(text) for text in (self.transcript, self.model) if text and _is_file(text)]
        return (*named, *texts, *(speaker.speech for speaker in self.speakers))

    @property
    def is_transparent(self) -> bool:
        return self.background is not None and self.background.colour is None

    @property
    def model_choice(self) -> ModelChoice:
        return ModelChoice(self.model, self.renderer, self.device, self.precision, self.compat)

    @property
    def amounts(self) -> MotionAmounts:
        return MotionAmounts(
            1.0 if self.head_motion is None else self.head_motion,
            1.0 if self.expression is None else self.expression,
        )

    def frame(self) -> FrameOptions:
        """The part that is about the picture.

        Raises:
            InputError: Faces have recordings of their own.
        """
        if isinstance(self.face, tuple):
            raise InputError("faces with recordings of their own cannot be combined with others")
        return FrameOptions(
            self.size, self.full_frame, self.face, self.eyes, self.lips, self.background
        )

    def speaking(self, style: Style, phones: tuple[PhoneSegment, ...]) -> SpeakingOptions:
        """The part that is about motion, with all emotions and phones that are known by now."""
        return SpeakingOptions(
            style=style,
            seed=self.seed,
            num_steps=self.num_steps,
            guidance_scale=self.guidance_scale,
            blink=self.blink,
            blink_rate=self.blink_rate,
            gaze=self.gaze,
            lips_only=self.lips_only,
            amounts=self.amounts,
            phones=phones,
        )


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # a text that is no name
        return False
