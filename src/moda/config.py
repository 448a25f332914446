"""Configurations: frozen dataclasses with defaults, named presets, and strict JSON both ways.

A configuration describes a network and the way it is sampled, and travels inside its checkpoint.
Reading refuses unknown keys, wrong types and impossible values with :class:`ConfigError`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from moda.errors import ConfigError
from moda.phones import Phone

C = TypeVar("C")

ObjectiveName = Literal["flow", "diffusion", "v_diffusion"]
"""What the network learns, see :mod:`moda.motion.objectives`."""

Condition = Literal["style", "identity", "previous_motion"]
"""What the network can be told besides the speech."""

Precision = Literal["float32", "float16", "bfloat16"]
"""Of the numbers inside the large networks."""

BLOCK_COUNTS = (
    "four_stream_blocks",
    "two_stream_blocks",
    "cross_attention_blocks",
    "one_stream_blocks",
)
"""In the order in which the blocks follow each other."""

MAX_HIDDEN = 8192
MAX_BLOCKS = 128
MAX_WINDOW = 1000
"""Far above every real network: a damaged or hostile file must not claim all memory."""


NUM_PROSODY = 3
"""Loudness, pitch and voicing, which follow the tokens of a frame."""
NUM_HEAD_GAINS = 6
"""Of the head's place and its angles."""


@dataclass(frozen=True)
class SpeechFeaturesConfig:
    """What the network is told of the sound, per frame of 25 fps.

    ``whisper``: two tokens of ``channels`` numbers of the pretrained speech encoder, then loudness,
    pitch and voicing. ``log_mel``: ``stacked`` consecutive spectra of ``bands`` numbers (4 x 40 =
    160), each over ``window`` samples, ``hop`` samples apart. ``hubert``: the outputs of ``layers``
    transformer layers with ``channels`` numbers each. Sizes of another kind have no meaning.
    """

    kind: Literal["whisper", "log_mel", "hubert"] = "log_mel"
    sample_rate: int = 16_000  # Hz
    bands: int = 40
    window: int = 400  # samples
    hop: int = 160  # samples
    stacked: int = 4
    layers: int = 12
    channels: int = 768

    def __post_init__(self) -> None:
        for name in ("sample_rate", "bands", "window", "hop", "stacked", "layers", "channels"):
            _require_range("speech", name, getattr(self, name), 1, 1_000_000)

    @property
    def mesh_kind(self) -> Literal["whisper", "log_mel"]:
        """What :func:`moda.encoders.speech.encode_speech` makes for a model of the mesh space."""
        return "log_mel" if self.kind == "log_mel" else "whisper"

    @property
    def size(self) -> int:
        """Length F of one frame's flat feature vector."""
        if self.kind == "whisper":
            return 2 * self.channels + NUM_PROSODY
        return (self.layers if self.kind == "hubert" else 1) * self.layer_size

    @property
    def layer_size(self) -> int:
        """Length of the part of it that comes from one layer."""
        return self.stacked * self.bands if self.kind == "log_mel" else self.channels


@dataclass(frozen=True)
class SpeechEmbedderConfig:
    """How speech features become one token per frame.

    ``mlp``: three layers of ``width`` on each frame alone (published). ``conv``: convolutions at
    50 Hz with ``width`` channels and residual layers of the given ``dilations``; it wants
    ``2 * context`` frames more than there are tokens. ``delay`` moves them to the past: a token is
    told ``context + delay`` frames before its own and ``context - delay`` after it. ``reader``: of
    the tokens of the pretrained encoder; it reads the mouth, ``num_phones`` classes of phones and
    voices from them, linearly, and tells the transformer their ``compressed`` principal components
    and the prosody through one convolution. Whether somebody speaks is judged over ``voice_spans``,
    stretches of an odd number of frames around each frame.
    """

    kind: Literal["mlp", "conv", "reader"] = "conv"
    width: int = 128
    dilations: tuple[int, ...] = (1, 2, 3, 4)
    context: int = 12  # frames
    dropout: float = 0.1
    delay: int = 0  # frames
    num_phones: int = 0
    voice_spans: tuple[int, ...] = ()
    compressed: int = 0

    def __post_init__(self) -> None:
        _require_range("embedder", "width", self.width, 1, MAX_HIDDEN)
        _require_range("embedder", "dropout", self.dropout, 0.0, 0.9)
        if self.kind == "mlp" and any(
            (self.context, self.dilations, self.dropout, self.delay, self.read)
        ):
            raise ConfigError(
                "an mlp speech embedder sees one frame at a time: "
                "context, delay, dilations and dropout must be 0 or empty, and it reads nothing"
            )
        if self.kind == "conv" and self.read:
            raise ConfigError(
                "a conv speech embedder reads no phones and no voices: num_phones, voice_spans and "
                "compressed must be 0 or empty"
            )
        if self.kind == "reader":
            _require_range("embedder", "num_phones", self.num_phones, 1, 1000)
            _require_range("embedder", "compressed", self.compressed, 1, MAX_HIDDEN)
            if self.dilations or self.delay or not self.voice_spans:
                raise ConfigError(
                    "a reader has one convolution: dilations must be empty, delay 0, and "
                    "voice_spans must name at least one span"
                )
        _require_range("embedder", "delay", self.delay, 0, self.context)
        for dilation in self.dilations:
            _require_range("embedder", "dilations", dilation, 1, 32)
        for span in self.voice_spans:
            _require_range("embedder", "voice_spans", span, 1, 1001)
            if span % 2 == 0:
                raise ConfigError(f"embedder: voice span {span} is even; it has no middle frame")
        if self.kind != "mlp" and not self.reach <= self.context <= MAX_WINDOW:
            raise ConfigError(
                f"speech context {self.context} is outside {self.reach}..{MAX_WINDOW} frames; "
                f"less than {self.reach} would make tokens depend on where the window begins"
            )

    @property
    def read(self) -> tuple[object, ...]:
        """What only a reader has."""
        return tuple(part for part in (self.num_phones, self.voice_spans, self.compressed) if part)

    @property
    def reach(self) -> int:
        """Frames that the convolutions look at on either side of a frame."""
        return 2 + sum(self.dilations)

    @property
    def voice_reach(self) -> int:
        """Frames on either side of a frame that decide whether somebody speaks in it."""
        return max(self.voice_spans, default=1) // 2

    @property
    def before(self) -> int:
        """Frames that a window's tokens are told before its first one."""
        return self.context + self.delay

    @property
    def after(self) -> int:
        """Frames that a window's tokens are told after its last one: the look-ahead."""
        return self.context - self.delay


@dataclass(frozen=True)
class AutoencoderConfig:
    """A small temporal autoencoder over motion, in whose latents the motion is generated.

    ``latent_size`` numbers per frame; 0 means that there is none, and motion is generated as it is.
    """

    latent_size: int = 0
    width: int = 96

    def __post_init__(self) -> None:
        _require_range("autoencoder", "latent_size", self.latent_size, 0, MAX_HIDDEN)
        _require_range("autoencoder", "width", self.width, 1, MAX_HIDDEN)


@dataclass(frozen=True)
class MotionModelConfig:
    """Sizes of the multi-modal diffusion transformer. Lengths are in frames of 25 fps.

    With a ``mouth_size``, the mean of the first numbers, the mouth, is predicted from the speech at
    once, each emotion has a constant offset of all numbers, and the flow makes what is left, but
    for the numbers in ``unsampled``, which are left to rules.
    ``cross_attention_blocks`` come between the two-stream and the one-stream blocks. What is not in
    ``conditions`` is the same for everybody, in training and in sampling.
    """

    motion_size: int
    hidden: int
    num_heads: int
    four_stream_blocks: int
    two_stream_blocks: int
    one_stream_blocks: int
    speech: SpeechFeaturesConfig = field(default_factory=SpeechFeaturesConfig)
    speech_embedder: SpeechEmbedderConfig = field(default_factory=SpeechEmbedderConfig)
    identity_size: int = 63
    mlp_ratio: float = 4.0
    num_emotions: int = 8
    mouth_size: int = 0
    unsampled: tuple[int, ...] = ()
    window: int = 80
    overlap: int = 16
    rope_base: float = 256.0
    cross_attention_blocks: int = 0
    objective: ObjectiveName = "flow"
    conditions: tuple[Condition, ...] = ("style", "identity", "previous_motion")
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)

    def __post_init__(self) -> None:
        for name in ("motion_size", "hidden", "num_heads", "identity_size", "num_emotions"):
            _require_range("model", name, getattr(self, name), 1, MAX_HIDDEN)
        for name in BLOCK_COUNTS:
            _require_range("model", name, getattr(self, name), 0, MAX_BLOCKS)
        if not any(getattr(self, name) for name in BLOCK_COUNTS):
            raise ConfigError(
                f"the model has no blocks; one of {', '.join(BLOCK_COUNTS)} must be 1"
            )
        if len(set(self.conditions)) != len(self.conditions):
            raise ConfigError(f"model: conditions {self.conditions} name one of them twice")
        if self.autoencoder.latent_size and self.mouth_size:
            raise ConfigError(
                f"a mean of {self.mouth_size} numbers of the mouth cannot be added to latents; "
                "set mouth_size or the latent_size of the autoencoder to 0"
            )
        if self.hidden % (2 * self.num_heads):
            raise ConfigError(
                f"hidden {self.hidden} must be a multiple of twice num_heads {self.num_heads}: "
                "rotary positions turn pairs of channels"
            )
        _require_range("model", "mouth_size", self.mouth_size, 0, self.motion_size)
        if len(set(self.unsampled)) != len(self.unsampled) or not all(
            self.mouth_size <= column < self.motion_size for column in self.unsampled
        ):
            raise ConfigError(
                f"unsampled numbers {self.unsampled} must be different ones of "
                f"{self.mouth_size}..{self.motion_size - 1}"
            )
        if self.autoencoder.latent_size and self.unsampled:
            raise ConfigError("latents are of all numbers: leave unsampled empty")
        if (self.speech_embedder.kind == "reader") != (self.speech.kind == "whisper"):
            raise ConfigError(
                f"a {self.speech_embedder.kind} speech embedder does not fit {self.speech.kind} "
                "features; a reader goes with whisper and nothing else does"
            )
        if self.speech_embedder.kind == "reader" and not self.mouth_size:
            raise ConfigError("a reader reads the mouth: set mouth_size")
        _require_range("model", "mlp_ratio", self.mlp_ratio, 0.25, 16.0)
        _require_range("model", "rope_base", self.rope_base, 1.0, 1e9)
        _require_range("model", "window", self.window, 4, MAX_WINDOW)
        _require_range("model", "overlap", self.overlap, 1, self.window // 2)
        if self.speech_embedder.kind == "conv" and self.speech.size % 2:
            raise ConfigError(f"a conv speech embedder halves frames; {self.speech.size} is odd")

    @property
    def generated_size(self) -> int:
        """Numbers per frame that are made from noise: latents, or the motion itself."""
        return self.autoencoder.latent_size or self.motion_size - len(self.unsampled)

    @property
    def none_emotion(self) -> int:
        """Row of the emotion table that means "none"; also the unconditional label."""
        return self.num_emotions

    @property
    def stride(self) -> int:
        """Frames from the start of one window to the start of the next."""
        return self.window - self.overlap


@dataclass(frozen=True)
class SamplerConfig:
    """How motion is sampled. ``schedule``: see :mod:`moda.motion.flow`.

    ``mouth_noise`` scales the starting noise of the mouth: 1 samples among all mouths that fit the
    speech, 0 starts at the middle and comes out near their mean, which follows the speech closer.
    ``mouth_share`` is how much of what the flow adds to the mean of the mouth is kept, and
    ``width_share`` how much of that in those numbers that move the corners rather than the lips'
    middle.
    ``head_noise`` scales the starting noise of the head's pose: the less, the more of its motion is
    the speech's. ``mouth_gain`` sets the amount of movement right, away from the closed mouth, and
    ``head_gains`` that of the head's place (across, down, forward) and angles (pitch, yaw, roll),
    away from rest.
    """

    num_steps: int = 10
    guidance_scale: float = 1.2
    schedule: Literal["published", "uniform"] = "uniform"
    drop_last_step: bool = False
    mouth_noise: float = 1.0
    mouth_share: float = 1.0
    width_share: float = 1.0
    mouth_gain: float = 1.0
    head_noise: float = 1.0
    head_gains: tuple[float, ...] = (1.0,) * NUM_HEAD_GAINS

    def __post_init__(self) -> None:
        _require_range("sampler", "num_steps", self.num_steps, 1, 1000)
        _require_range("sampler", "mouth_noise", self.mouth_noise, 0.0, 2.0)
        _require_range("sampler", "mouth_share", self.mouth_share, 0.0, 1.0)
        _require_range("sampler", "width_share", self.width_share, 0.0, 1.0)
        _require_range("sampler", "mouth_gain", self.mouth_gain, 0.1, 4.0)
        _require_range("sampler", "head_noise", self.head_noise, 0.0, 2.0)
        if len(self.head_gains) != NUM_HEAD_GAINS:
            raise ConfigError(
                f"sampler: head_gains {self.head_gains} must be {NUM_HEAD_GAINS} numbers"
            )
        for gain in self.head_gains:
            _require_range("sampler", "head_gains", gain, 0.0, 4.0)
        _require_range("sampler", "guidance_scale", self.guidance_scale, 1.0, 100.0)


@dataclass(frozen=True)
class ModelConfig:
    """All that a checkpoint has to know about itself besides its weights and motion space."""

    name: str
    motion: MotionModelConfig
    sampler: SamplerConfig = field(default_factory=SamplerConfig)

    def __post_init__(self) -> None:
        latent_size, sampler = self.motion.autoencoder.latent_size, self.sampler
        if latent_size and (sampler.mouth_noise, sampler.mouth_share) != (1.0, 1.0):
            raise ConfigError(
                f"latents have no mouth of their own: mouth_noise {sampler.mouth_noise} and "
                f"mouth_share {sampler.mouth_share} must be 1 with an autoencoder"
            )


def changed(config: C, changes: Mapping[str, Any], *, where: str = "") -> C:
    """The configuration with some of its keys changed, in nested objects too.

    Raises :class:`ConfigError` as :func:`from_dict` does.
    """
    return from_dict(type(config), merged(to_dict(config), changes), where=where)


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values in which ``changes`` win; objects are merged key by key, lists replaced."""
    result = dict(values)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values (tuples become lists)."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain


def from_dict(kind: type[C], values: object, *, where: str = "") -> C:
    """Build a configuration from JSON values.

    Raises :class:`ConfigError` that names the offending key: unknown, missing, of the wrong type,
    or out of range.
    """
    label = where or kind.__name__
    if not isinstance(values, Mapping):
        raise ConfigError(f"{label}: expected an object, got {_show(values)}")
    assert is_dataclass(kind)
    known = {item.name: item for item in fields(kind)}
    for key in values:
        if key not in known:
            raise ConfigError(f"{label}: unknown key {key!r}; known are {', '.join(known)}")
    for key, item in known.items():
        has_default = item.default is not NO_DEFAULT or item.default_factory is not NO_DEFAULT
        if key not in values and not has_default:
            raise ConfigError(f"{label}: missing key {key!r}")
    hints = get_type_hints(kind)
    arguments = {
        key: _convert(value, hints[key], f"{label}.{key}") for key, value in values.items()
    }
    return kind(**arguments)


def to_json(config: Any) -> str:
    """A configuration as readable JSON; :func:`from_json` is the inverse."""
    return json.dumps(asdict(config), indent=2)


def from_json(kind: type[C], text: str) -> C:
    """Inverse of :func:`to_json`. Raises :class:`ConfigError`."""
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"{kind.__name__}: not JSON: {error}") from error
    return from_dict(kind, values)


def _convert(value: object, hint: Any, where: str) -> Any:
    """One JSON value as the type of its field."""
    if is_dataclass(hint):
        return from_dict(hint, value, where=where)  # type: ignore[arg-type]
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint):
            choices = ", ".join(map(repr, get_args(hint)))
            raise ConfigError(f"{where}: expected one of {choices}, got {_show(value)}")
        return value
    if origin is Mapping:
        if not isinstance(value, Mapping):
            _reject(value, "an object", where)
        return dict(value)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            _reject(value, "a list", where)
        return tuple(_convert(item, get_args(hint)[0], where) for item in value)
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            _reject(value, "a number", where)
        if not math.isfinite(value):
            _reject(value, "a finite number", where)
        return float(value)
    if type(value) is not hint:
        _reject(value, f"of type {hint.__name__}", where)
    return value


def _reject(value: object, expected: str, where: str) -> NoReturn:
    raise ConfigError(f"{where}: expected {expected}, got {_show(value)}")


def _show(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _require_range(part: str, name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{part}: {name} {value} is outside {low}..{high}")


PRESETS: Mapping[str, ModelConfig] = {
    "moda-base": ModelConfig(
        name="moda-base",
        motion=MotionModelConfig(
            motion_size=70,
            hidden=768,
            num_heads=12,
            four_stream_blocks=3,
            two_stream_blocks=6,
            one_stream_blocks=12,
            speech=SpeechFeaturesConfig(kind="hubert"),
            speech_embedder=SpeechEmbedderConfig(
                kind="mlp", width=768, dilations=(), context=0, dropout=0.0
            ),
        ),
        sampler=SamplerConfig(schedule="published", drop_last_step=True),
    ),
    "moda-tiny": ModelConfig(
        name="moda-tiny",
        motion=MotionModelConfig(
            motion_size=33,
            hidden=128,
            num_heads=4,
            four_stream_blocks=1,
            two_stream_blocks=1,
            one_stream_blocks=2,
            mlp_ratio=2.0,
            mouth_size=16,
            unsampled=(22, 23),
            speech=SpeechFeaturesConfig(kind="whisper", channels=384),
            speech_embedder=SpeechEmbedderConfig(
                kind="reader",
                width=48,
                dilations=(),
                context=2,
                num_phones=len(Phone),
                voice_spans=(9, 25, 65),
                compressed=32,
            ),
        ),
    ),
}


def preset(name: str) -> ModelConfig:
    """The named configuration. Raises :class:`ConfigError` with the known names."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; known are {', '.join(PRESETS)}")
    return PRESETS[name]
