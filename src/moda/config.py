"""Configurations: frozen dataclasses with defaults, and named presets.

A configuration describes a network and the way it is sampled, and travels inside its checkpoint.
Impossible values are refused with :class:`ConfigError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from moda.errors import ConfigError
from moda.phones import Phone

ObjectiveName = Literal["flow", "diffusion", "v_diffusion"]
"""What the network learns, see :mod:`moda.motion.variants.objectives`."""

Condition = Literal["style", "identity", "previous_motion"]
"""What the motion depends on besides the speech."""

Precision = Literal["float32", "tf32", "float16", "bfloat16"]
"""Of the numbers inside the large networks; tf32 rounds the factors of products alone."""

BLOCK_COUNTS = ("four_stream_blocks", "two_stream_blocks", "one_stream_blocks")
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
    """What the network hears of the sound, per frame of 25 fps.

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

    ``mlp``: three layers of ``width`` on each frame alone (published).

    ``conv``: convolutions at 50 Hz with ``width`` channels and residual layers of the given
    ``dilations``. They need ``2 * context`` frames more than there are tokens. ``delay`` moves
    these frames to the past: a token sees ``context + delay`` frames before its own and
    ``context - delay`` after it.

    ``reader``: on the tokens of the pretrained encoder. A reader reads the mouth, ``num_phones``
    classes of phones and voices from them. The transformer sees their ``compressed`` principal
    components and the prosody through one convolution. Whether somebody speaks is judged over
    ``voice_spans``, stretches of an odd number of frames around each frame.
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
        """Frames before the first one of a window that its tokens see."""
        return self.context + self.delay

    @property
    def after(self) -> int:
        """Frames after the last one of a window that its tokens see: the look-ahead."""
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
class VariantConfig:
    """What the paper's network is measured against, see :mod:`moda.motion.variants`.

    ``cross_attention_blocks`` come between the two-stream and the one-stream blocks. A condition
    that ``conditions`` lacks is the same for everybody, in training and in sampling.
    """

    cross_attention_blocks: int = 0
    objective: ObjectiveName = "flow"
    conditions: tuple[Condition, ...] = ("style", "identity", "previous_motion")
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)

    def __post_init__(self) -> None:
        _require_range(
            "variant", "cross_attention_blocks", self.cross_attention_blocks, 0, MAX_BLOCKS
        )
        if len(set(self.conditions)) != len(self.conditions):
            raise ConfigError(f"variant: conditions {self.conditions} name one of them twice")


@dataclass(frozen=True)
class MotionModelConfig:
    """Sizes of the multi-modal diffusion transformer. Lengths are in frames of 25 fps.

    With a ``mouth_size``, the mean of the first numbers, the mouth, is predicted from the speech at
    once. Each emotion then has a constant offset of all numbers, and the flow makes the residual.
    The flow leaves the numbers in ``unsampled`` to rules.
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
    variant: VariantConfig = field(default_factory=VariantConfig)

    def __post_init__(self) -> None:
        for name in ("motion_size", "hidden", "num_heads", "identity_size", "num_emotions"):
            _require_range("model", name, getattr(self, name), 1, MAX_HIDDEN)
        for name in BLOCK_COUNTS:
            _require_range("model", name, getattr(self, name), 0, MAX_BLOCKS)
        counts = [getattr(self, name) for name in BLOCK_COUNTS]
        if not any((*counts, self.variant.cross_attention_blocks)):
            raise ConfigError(
                f"the model has no blocks; one of {', '.join(BLOCK_COUNTS)} must be 1"
            )
        if self.variant.autoencoder.latent_size and self.mouth_size:
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
        if self.variant.autoencoder.latent_size and self.unsampled:
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
        return self.variant.autoencoder.latent_size or len(self.sampled)

    @property
    def sampled(self) -> tuple[int, ...]:
        """Which numbers of the motion are made from noise, where it is generated as it is."""
        return tuple(k for k in range(self.motion_size) if k not in self.unsampled)

    @property
    def block_sizes(self) -> tuple[int, int, int]:
        """Channels, heads, and channels inside the MLP of a block."""
        return self.hidden, self.num_heads, round(self.hidden * self.mlp_ratio)

    @property
    def none_emotion(self) -> int:
        """Row of the emotion table that means "none"; also the unconditional label."""
        return self.num_emotions

    @property
    def stride(self) -> int:
        """Frames from the start of one window to the start of the next."""
        return self.window - self.overlap

    @staticmethod
    def upgraded(values: Mapping[str, Any]) -> Mapping[str, Any]:
        """JSON values of this or an earlier version, which had no section for the variant."""
        known = {item.name for item in fields(VariantConfig)}
        variant = {key: value for key, value in values.items() if key in known}
        if not variant:
            return values
        own = {key: value for key, value in values.items() if key not in known}
        return own | {"variant": {**own.get("variant", {}), **variant}}


@dataclass(frozen=True)
class SamplerConfig:
    """How motion is sampled. ``schedule``: see :mod:`moda.motion.flow`.

    The flow adds to the mean of the mouth. ``mouth_share`` is the part of this that is kept.
    ``width_share`` is the part that is kept of it in numbers that move the corners of the mouth
    rather than the middle of the lips.
    ``head_noise`` scales the starting noise of the head's pose. Less noise lets the speech decide
    more of the head's motion. ``head_gains`` scale the movement of the head away from rest: its
    place (across, down, forward) and its angles (pitch, yaw, roll).
    """

    num_steps: int = 10
    guidance_scale: float = 1.2
    schedule: Literal["published", "uniform"] = "uniform"
    drop_last_step: bool = False
    mouth_share: float = 1.0
    width_share: float = 1.0
    head_noise: float = 1.0
    head_gains: tuple[float, ...] = (1.0,) * NUM_HEAD_GAINS

    def __post_init__(self) -> None:
        _require_range("sampler", "num_steps", self.num_steps, 1, 1000)
        _require_range("sampler", "mouth_share", self.mouth_share, 0.0, 1.0)
        _require_range("sampler", "width_share", self.width_share, 0.0, 1.0)
        _require_range("sampler", "head_noise", self.head_noise, 0.0, 2.0)
        if len(self.head_gains) != NUM_HEAD_GAINS:
            raise ConfigError(
                f"sampler: head_gains {self.head_gains} must be {NUM_HEAD_GAINS} numbers"
            )
        for gain in self.head_gains:
            _require_range("sampler", "head_gains", gain, 0.0, 4.0)
        _require_range("sampler", "guidance_scale", self.guidance_scale, 1.0, 100.0)

    @staticmethod
    def upgraded(values: Mapping[str, Any]) -> Mapping[str, Any]:
        """JSON values of this or an earlier version, without two keys that are gone."""
        for key in ("mouth_noise", "mouth_gain"):
            if values.get(key, 1.0) != 1.0:
                raise ConfigError(f"sampler: {key} {values[key]} is gone; it must be 1 or left out")
        return {k: v for k, v in values.items() if k not in ("mouth_noise", "mouth_gain")}


@dataclass(frozen=True)
class ModelConfig:
    """All that a checkpoint has to know about itself besides its weights and motion space."""

    name: str
    motion: MotionModelConfig
    sampler: SamplerConfig = field(default_factory=SamplerConfig)

    def __post_init__(self) -> None:
        if self.motion.variant.autoencoder.latent_size and self.sampler.mouth_share != 1.0:
            raise ConfigError(
                f"latents have no mouth of their own: mouth_share {self.sampler.mouth_share} "
                "must be 1 with an autoencoder"
            )


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
