"""What a live session and its client say to each other over a WebSocket.

Binary messages to the server are sound, 16-bit little-endian mono PCM, or pictures of a camera,
JPEG or PNG, if the session follows one; binary messages from it are
frames, packed by :func:`pack_frame`. Text messages are JSON objects with a ``type``. Everything a
client says is checked here. docs/live.md describes the protocol for people.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from moda.encoders.live_speech import LIVE_RATES_HZ
from moda.errors import InputError, MediaError
from moda.media.images import decode_picture
from moda.media.waves import read_pcm
from moda.strict_json import parse_json
from moda.structures import EMOTIONS, Floats, Picture

PictureKind = Literal["jpeg", "webp", "png", "mouth"]
"""What frames show: a picture, one before a transparent background, the same without loss, or in
its place an event with the amounts of blend shapes."""
PICTURES, TRANSPARENT = get_args(PictureKind), ("webp", "png")
SUBPROTOCOL = "moda.v1"
KEY_SUBPROTOCOL = "moda.key."
"""Beginning of a subprotocol by which a browser, which can set no header, says its API key."""

FRAME_HEADER = struct.Struct("<4sIIII")
"""``MODA``, number of the frame, flags, bytes of the JPEG, bytes of the sound; little-endian."""
FRAME_MAGIC = b"MODA"
SPEAKING = 1
"""Flag of a frame: somebody speaks in it."""
MAX_TEXT_BYTES = 4096
MAX_SOUND_BYTES = 192_000
"""Of one binary message: 2 s at 48 kHz."""
MAX_CAMERA_BYTES = 256_000
MAX_CAMERA_PIXELS = 1920 * 1080
MAX_SEED = 2**53
"""JavaScript has no larger integers."""

MAX_NAME_LENGTH = 200
PACES = ("realtime", "ahead")

CLOSE_NORMAL, CLOSE_REFUSED, CLOSE_FAILED, CLOSE_BUSY = 1000, 1008, 1011, 1013


class ProtocolError(InputError):
    """A message that is none of this protocol."""


@dataclass(frozen=True)
class Start:
    """How a client wants its session; the first message."""

    portrait: str | None = None
    """By name; None is the first."""
    sample_rate: int = 48_000
    pace: Literal["realtime", "ahead"] = "realtime"
    emotion: str | None = None
    intensity: float = 1.0
    seed: int = 0
    picture: PictureKind = "jpeg"
    follow: bool = False
    """The portrait follows a camera, whose pictures come in place of sound."""


START_SCHEMA: dict[str, Any] = {
    "properties": {
        "portrait": {"type": ["string", "null"], "maxLength": MAX_NAME_LENGTH},
        "sample_rate": {"enum": list(LIVE_RATES_HZ)},
        "pace": {"enum": list(PACES)},
        "emotion": {"enum": [*EMOTIONS, None]},
        "intensity": {"type": "number", "minimum": 0, "maximum": 1},
        "seed": {"type": "integer", "minimum": 0, "maximum": MAX_SEED},
        "picture": {"enum": list(PICTURES)},
        "follow": {"type": "boolean"},
    },
    "additionalProperties": False,
}
"""What :func:`read_start` takes, as JSON Schema."""


class Interrupt(NamedTuple):
    """Stop speaking at once."""


class End(NamedTuple):
    """Nothing more comes: speak what is left, then end the session."""


class Express(NamedTuple):
    """Another emotion from now on."""

    emotion: str | None
    intensity: float


class Say(NamedTuple):
    """A text that the server speaks."""

    values: dict[str, str | float]
    """As the options of a video have them; judged where it is spoken."""


Control = Start | Interrupt | End | Express | Say
SAY_FIELDS = {"text": str, "language": str, "voice": str, "rate": (int, float)}


def read_control(text: str) -> Control:
    """Understand a text message.

    Raises:
        ProtocolError: it is too long, no JSON object, of an unknown type, or holds a value that is
            unknown or outside its limits.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        raise ProtocolError(f"a text message is longer than {MAX_TEXT_BYTES} bytes")
    try:
        message = parse_json(text)
    except ValueError:
        raise ProtocolError("a text message is no JSON") from None
    if not isinstance(message, dict):
        raise ProtocolError("a text message is no JSON object")
    kind = message.pop("type", None)
    if kind == "start":
        return read_start(message)
    if kind == "emotion":
        _require_known(message, ("emotion", "intensity"))
        return Express(*_emotion(message))
    if kind == "text":
        return _say(message)
    plain: dict[str, Interrupt | End] = {"interrupt": Interrupt(), "end": End()}
    if not isinstance(kind, str) or kind not in plain:
        raise ProtocolError("a message has no type of start, text, interrupt, emotion, end")
    _require_known(message, ())
    return plain[kind]


def read_start(message: dict[str, Any]) -> Start:
    """Check the values of a ``start`` message. Raises :class:`ProtocolError`."""
    _require_known(message, tuple(Start.__dataclass_fields__))
    portrait = message.get("portrait")
    if portrait is not None and not (
        isinstance(portrait, str) and len(portrait) <= MAX_NAME_LENGTH
    ):
        raise ProtocolError("portrait is no name")
    rate, pace = message.get("sample_rate", 48_000), message.get("pace", "realtime")
    if type(rate) is not int or rate not in LIVE_RATES_HZ:
        raise ProtocolError(f"sample_rate is none of {', '.join(map(str, LIVE_RATES_HZ))}")
    if pace not in PACES:
        raise ProtocolError("pace is neither realtime nor ahead")
    seed = message.get("seed", 0)
    if type(seed) is not int or not 0 <= seed <= MAX_SEED:
        raise ProtocolError(f"seed is no whole number of 0..{MAX_SEED}")
    picture = message.get("picture", "jpeg")
    if picture not in PICTURES:
        raise ProtocolError(f"picture is none of {', '.join(PICTURES)}")
    follow = message.get("follow", False)
    if type(follow) is not bool:
        raise ProtocolError("follow is neither true nor false")
    if follow and picture == "mouth":
        raise ProtocolError(
            "a session that follows a camera shows pictures; choose jpeg, webp or png"
        )
    emotion, intensity = _emotion(message)
    return Start(portrait, rate, pace, emotion, intensity, seed, picture, follow)


def read_sound(data: bytes) -> Floats:
    """Sound (N,) in -1..1 from 16-bit PCM. Raises :class:`ProtocolError`."""
    if len(data) > MAX_SOUND_BYTES:
        raise ProtocolError(f"a sound message is longer than {MAX_SOUND_BYTES} bytes")
    if len(data) % 2:
        raise ProtocolError("a sound message has an odd number of bytes; send 16-bit PCM")
    return read_pcm(data)


def read_camera(data: bytes) -> Picture:
    """A picture (H, W, 3) of a camera. Raises :class:`ProtocolError`."""
    try:
        return decode_picture(data, MAX_CAMERA_PIXELS)
    except MediaError as error:
        raise ProtocolError(f"a picture of the camera {error}") from None


def check_binary(data: bytes, *, follow: bool) -> None:
    """Whether a binary message may be sound, or a picture. Raises :class:`ProtocolError`."""
    if follow and len(data) > MAX_CAMERA_BYTES:
        raise ProtocolError(
            f"a picture of {len(data)} bytes; send JPEG or PNG of up to {MAX_CAMERA_BYTES}"
        )
    if not follow and (len(data) > MAX_SOUND_BYTES or len(data) % 2):
        raise ProtocolError(
            f"sound of {len(data)} bytes; send 16-bit PCM of an even number up to {MAX_SOUND_BYTES}"
        )


class PackedFrame(NamedTuple):
    """A binary message from the server."""

    number: int
    is_speaking: bool
    jpeg: bytes
    """Or a WebP or PNG, if the client asked for that; empty where the picture stays as it is."""
    sound: bytes
    """16-bit PCM of 40 ms"""


def pack_frame(frame: PackedFrame) -> bytes:
    """A frame as the binary message that carries it."""
    flags = SPEAKING if frame.is_speaking else 0
    sizes = len(frame.jpeg), len(frame.sound)
    return FRAME_HEADER.pack(FRAME_MAGIC, frame.number, flags, *sizes) + frame.jpeg + frame.sound


def unpack_frame(message: bytes) -> PackedFrame:
    """Inverse of :func:`pack_frame`. Raises :class:`ProtocolError`."""
    if len(message) < FRAME_HEADER.size:
        raise ProtocolError(f"a frame has {len(message)} bytes, less than its header")
    magic, number, flags, jpeg, sound = FRAME_HEADER.unpack_from(message)
    if magic != FRAME_MAGIC or len(message) != FRAME_HEADER.size + jpeg + sound:
        raise ProtocolError("a binary message is no frame")
    body = message[FRAME_HEADER.size :]
    return PackedFrame(number, bool(flags & SPEAKING), body[:jpeg], body[jpeg:])


def without_picture(message: bytes) -> bytes:
    """The same frame with its sound alone."""
    return pack_frame(unpack_frame(message)._replace(jpeg=b""))


def _say(message: dict[str, Any]) -> Say:
    _require_known(message, tuple(SAY_FIELDS))
    values = {name: value for name, value in message.items() if value is not None}
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, SAY_FIELDS[name]):  # type: ignore[arg-type]
            raise ProtocolError(f"{name} is not of its type")
    if not str(values.get("text", "")).strip():
        raise ProtocolError("there is no text")
    return Say(values)


def _emotion(message: dict[str, Any]) -> tuple[str | None, float]:
    emotion, intensity = message.get("emotion"), message.get("intensity", 1.0)
    if emotion is not None and emotion not in EMOTIONS:
        raise ProtocolError(f"emotion is none of {', '.join(EMOTIONS)}, null")
    if isinstance(intensity, bool) or not isinstance(intensity, int | float):
        raise ProtocolError("intensity is no number")
    if not 0.0 <= intensity <= 1.0:
        raise ProtocolError("intensity is outside 0..1")
    return emotion, float(intensity)


def _require_known(message: dict[str, Any], known: tuple[str, ...]) -> None:
    unknown = [key for key in message if key not in known]
    if unknown:
        raise ProtocolError(f"unknown key {unknown[0][:40]!r}")
