"""Sound to HuBERT features on the 25 fps grid, as a stream: what the published model listens with.

A frame is described by the outputs of all layers of the network (HuBERT, arXiv 2106.07447). The
network hears a stretch of sound at once, so a long recording is cut in pieces that overlap and are
faded into each other. Memory is constant in the length of the recording.

Needs the package transformers, which the extra ``neural`` installs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, tee
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from moda.encoders.speech import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, encode_speech
from moda.errors import ConfigError, MissingExtraError
from moda.structures import FRAMES_PER_SECOND, Floats, Speech

if TYPE_CHECKING:
    from transformers import HubertModel

BASE_HUBERT: Mapping[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "feat_proj_layer_norm": True,
    "feat_extract_norm": "group",
    "feat_extract_activation": "gelu",
    "conv_dim": [512, 512, 512, 512, 512, 512, 512],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_bias": False,
    "conv_pos_batch_norm": False,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "do_stable_layer_norm": False,
    "mask_time_prob": 0.05,
    "mask_feature_prob": 0.0,
}
"""What decides the layers of the network and the keys of its weights, with the values of HuBERT
base. The masking itself belongs to training, but without it there is no key for the mask."""
FIXED = (
    "hidden_act",
    "feat_extract_norm",
    "feat_extract_activation",
    "conv_stride",
    "conv_kernel",
    "conv_bias",
    "conv_pos_batch_norm",
    "feat_proj_layer_norm",
    "do_stable_layer_norm",
)
"""Other values make another network, or one that is not on the grid of 50 features a second."""
MAX_SIZE = 8192
"""Far above every real network: a damaged or hostile file must not claim all memory."""
CONV_MARGIN = 20
"""Samples of each of the two reflections that make the convolutions yield two features a frame."""
POSITION_KEY = "encoder.pos_conv_embed.conv."
WEIGHT_NORM_KEYS = {
    f"{POSITION_KEY}weight_g": f"{POSITION_KEY}parametrizations.weight.original0",
    f"{POSITION_KEY}weight_v": f"{POSITION_KEY}parametrizations.weight.original1",
}

PRE_EMPHASIS = np.float32(0.97)
FULL_SCALE = np.float32(32768)  # of 16-bit samples
SILENCE_SECONDS = 2
PUBLISHED_PIECE_SAMPLES = 60 * SAMPLE_RATE_HZ
CONTEXT_FRAMES = 64
"""2.56 s."""
FADE_FRAMES = 25
"""One second, over which a piece is faded into the next."""

Timing = Literal["stretched", "centred"]
"""Where frame i of n lies in the 2n features of the convolutions: ``stretched`` from the first to
the last, so that its place among its two features shifts over the piece (published), or always in
the middle of the two, so that pieces of any length agree."""


def hubert_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a HuBERT ``config.json`` that decides the network; the rest is left out.

    Raises :class:`ConfigError` for another kind of network, or a value of the wrong type.
    """
    kind = config.get("model_type", "hubert")
    if kind != "hubert":
        raise ConfigError(f"model_type is {kind!r}; the speech network must be a 'hubert'")
    needed = {key: _config_value(key, config.get(key, BASE_HUBERT[key])) for key in BASE_HUBERT}
    if len(needed["conv_dim"]) != len(BASE_HUBERT["conv_dim"]):
        raise ConfigError(f"HuBERT's conv_dim is {needed['conv_dim']}; it must have 7 numbers")
    for part in ("num_attention_heads", "num_conv_pos_embedding_groups"):
        if needed["hidden_size"] % needed[part]:
            raise ConfigError(
                f"HuBERT's {part} {needed[part]} must divide hidden_size {needed['hidden_size']}"
            )
    return needed


def _config_value(key: str, value: Any) -> Any:
    """One value as HuBERT base has it: lists for tuples, numbers with a point where it has them."""
    base = BASE_HUBERT[key]
    if isinstance(value, tuple):
        value = list(value)
    elif type(value) is int and isinstance(base, float):
        value = float(value)
    numbers = value if isinstance(value, list) else [value]
    like = base[0] if isinstance(base, list) else base
    if type(value) is not type(base) or any(type(number) is not type(like) for number in numbers):
        raise ConfigError(f"HuBERT's {key} is {value!r}; it must be like {base!r}")
    if key in FIXED and value != base:
        raise ConfigError(f"HuBERT's {key} is {value!r}; only {base!r} is supported")
    if type(like) is int and not all(1 <= number <= MAX_SIZE for number in numbers):
        raise ConfigError(f"HuBERT's {key} is {value!r}; the limits are 1 and {MAX_SIZE}")
    return value


def build_hubert(config: Mapping[str, Any]) -> HubertModel:
    """transformers' HuBERT by its ``config.json``, in evaluation mode, without memory or values.

    Give it weights with ``load_state_dict(weights, assign=True)``.

    Raises:
        ConfigError: See :func:`hubert_config`.
        MissingExtraError: transformers is not installed.
    """
    needed = hubert_config(config)
    try:
        from transformers import HubertConfig, HubertModel
    except ImportError as error:
        raise MissingExtraError(
            "HuBERT speech features need the package transformers; in MoDA's folder run: "
            "pip install '.[neural]'"
        ) from error
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = HubertModel(HubertConfig(**needed, attn_implementation="sdpa"))
    return model.to("meta").eval()


def modern_hubert_keys(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of an older file under the names that :func:`build_hubert`'s network has."""
    return {WEIGHT_NORM_KEYS.get(key, key): value for key, value in weights.items()}


class HubertEncoder:
    """Sound to the outputs of all layers of a HuBERT, at 25 instead of its own 50 frames a second.

    The rate is halved between the convolutions and the projection: the transformer already runs
    at 25. Attention is not kept. The network stays on its device and in its precision.
    """

    def __init__(self, model: HubertModel) -> None:
        self.model = model.eval()

    @property
    def feature_size(self) -> int:
        """Length F of one frame's vector: layer-major, 12 x 768 for HuBERT base."""
        return self.model.config.num_hidden_layers * self.model.config.hidden_size

    @torch.inference_mode()
    def encode(self, samples: Floats, num_frames: int, timing: Timing = "stretched") -> Floats:
        """(N,) samples at 16 kHz, heard as one, to features (num_frames, F).

        The samples are brought to zero mean and unit variance, then cut off, or filled with
        zeros, to 640 a frame.
        """
        wave = _to_length(normalise_sound(samples), num_frames * SAMPLES_PER_FRAME)
        model = self.model
        weight = model.feature_projection.projection.weight
        sound = torch.from_numpy(wave)[None].to(weight.device, weight.dtype)
        fine = model.feature_extractor(pad_for_convolutions(sound))
        hidden = model.feature_projection(halve_rate(fine, timing).mT)
        hidden = model.encoder.layer_norm(hidden + model.encoder.pos_conv_embed(hidden))
        layers = hidden.new_empty(num_frames, len(model.encoder.layers), hidden.shape[-1])
        for index, layer in enumerate(model.encoder.layers):
            hidden = layer(hidden)
            layers[:, index] = hidden[0]
        return layers.flatten(1).float().cpu().numpy()


def normalise_sound(samples: Floats) -> Floats:
    """(N,) samples to zero mean and unit variance; silence stays silence."""
    mean, variance = samples.mean(dtype=np.float64), samples.var(dtype=np.float64)
    return ((samples - mean) / np.sqrt(variance + 1e-7)).astype(np.float32)


def pad_for_convolutions(sound: Tensor) -> Tensor:
    """(B, N) to (B, N + 80): two reflections by 20 samples, which is not one by 40."""
    for _ in range(2):
        sound = F.pad(sound, (CONV_MARGIN, CONV_MARGIN), mode="reflect")
    return sound


def halve_rate(fine: Tensor, timing: Timing) -> Tensor:
    """(B, C, 2n) at 50 frames a second to (B, C, n), linearly interpolated."""
    if timing == "centred":
        return (fine[..., 0::2] + fine[..., 1::2]) / 2
    return F.interpolate(fine, size=fine.shape[-1] // 2, mode="linear", align_corners=True)


def encode_speech_hubert(
    chunks: Iterable[Floats],
    encoder: HubertEncoder,
    *,
    chunk_seconds: float = 30.0,
) -> Iterator[Speech]:
    """Mono 16 kHz samples in chunks of any length to stretches of :class:`Speech`.

    Frame ``t`` describes the sound from ``t / 25`` to ``(t + 1) / 25`` seconds; there are
    ``ceil(samples / 640)`` frames in all. Sound of at most ``chunk_seconds`` is heard as one, as
    the released implementation does. Longer sound is heard in pieces of that length, the last
    one ending with the sound. Of two neighbours neither is believed within 2.56 s of
    its cut end (as far as its convolution over positions reaches); between these ends one is faded
    into the other over a second.
    """
    size, overlap = round(chunk_seconds * FRAMES_PER_SECOND), 2 * CONTEXT_FRAMES + FADE_FRAMES
    sound, heard = tee(_blocks(chunks))
    pieces = _overlapping_pieces(sound, size, size - overlap)
    encoded = ((piece, _encode_piece(piece, encoder)) for piece in pieces)
    yield from _with_activity(_faded(encoded, CONTEXT_FRAMES), encode_speech(heard, "log_mel"))


def encode_speech_hubert_reference(
    chunks: Iterable[Floats], encoder: HubertEncoder
) -> Iterator[Speech]:
    """The same as the released implementation does it, with two seconds of silence at the end.

    The sound is pre-emphasised and rounded to 16 bits, cut every 60 seconds, and what is left of
    a frame at the end is dropped.
    """
    silence = np.zeros(SILENCE_SECONDS * SAMPLE_RATE_HZ, np.float32)
    sound, heard = tee(_blocks(chunks))
    recorded = _blocks(chain(_as_16_bit(pre_emphasise(sound)), [silence]), PUBLISHED_PIECE_SAMPLES)
    encoded = (
        encoder.encode(piece, len(piece) // SAMPLES_PER_FRAME)
        for piece in recorded
        if len(piece) >= SAMPLES_PER_FRAME
    )
    yield from _with_activity(encoded, encode_speech(chain(heard, [silence]), "log_mel"))


def pre_emphasise(chunks: Iterable[Floats]) -> Iterator[Floats]:
    """High frequencies raised: ``y[n] = x[n] - 0.97 x[n - 1]``.

    The sample before the first is the straight continuation of the first two, with the sign and
    scale that librosa gives it: ``y[0] = 3 x[0] - x[1]``.
    """
    previous: np.float32 | None = None
    for block in _blocks(chunks):
        delayed = np.empty_like(block)
        delayed[1:] = block[:-1]
        if previous is not None:
            delayed[0] = previous
        emphasised: Floats = block - PRE_EMPHASIS * delayed
        if previous is None:
            emphasised[0] = 3 * block[0] - block[min(1, len(block) - 1)]
        previous = block[-1]
        yield emphasised


class _Piece(NamedTuple):
    samples: Floats
    start: int
    """Frame of the sound at which it begins."""
    is_last: bool


def _to_length(samples: Floats, length: int) -> Floats:
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def _as_16_bit(chunks: Iterable[Floats]) -> Iterator[Floats]:
    """What a WAV file keeps: libsndfile rounds down and clips."""
    for chunk in chunks:
        yield np.clip(np.floor(chunk * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1) / FULL_SCALE


def _blocks(chunks: Iterable[Floats], size: int = SAMPLE_RATE_HZ) -> Iterator[Floats]:
    """Samples in blocks of one length, the last one shorter: how they came has no influence."""
    pending = np.zeros(0, np.float32)
    for chunk in chunks:
        pending = np.concatenate([pending, np.asarray(chunk, np.float32)])
        whole = len(pending) - len(pending) % size
        yield from np.split(pending[:whole], whole // size) if whole else ()
        pending = pending[whole:]
    if len(pending):
        yield pending


def _overlapping_pieces(blocks: Iterable[Floats], size: int, step: int) -> Iterator[_Piece]:
    """Pieces of ``size`` frames, one every ``step``; the last one ends with the sound."""
    held = np.zeros(0, np.float32)
    start = first_held = 0
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > (start - first_held + size) * SAMPLES_PER_FRAME:
            first = (start - first_held) * SAMPLES_PER_FRAME
            yield _Piece(held[first : first + size * SAMPLES_PER_FRAME], start, is_last=False)
            held, first_held = held[first:], start
            start += step
    if len(held):
        num_frames = first_held - (-len(held) // SAMPLES_PER_FRAME)
        start = max(0, num_frames - size)
        yield _Piece(held[(start - first_held) * SAMPLES_PER_FRAME :], start, is_last=True)


def _encode_piece(piece: _Piece, encoder: HubertEncoder) -> Floats:
    num_frames = -(-len(piece.samples) // SAMPLES_PER_FRAME)
    is_whole = piece.start == 0 and piece.is_last
    return encoder.encode(piece.samples, num_frames, "stretched" if is_whole else "centred")


def _faded(encoded: Iterable[tuple[_Piece, Floats]], context: int) -> Iterator[Floats]:
    """Features of overlapping pieces to stretches that follow each other without a jump."""
    share = (np.arange(1, FADE_FRAMES + 1, dtype=np.float32) / (FADE_FRAMES + 1))[:, None]
    tail, tail_start = None, 0
    for piece, features in encoded:
        begin = tail_start - piece.start
        if tail is not None:
            fading = features[begin : begin + FADE_FRAMES]
            fading += (1 - share) * (tail - fading)
        end = len(features) if piece.is_last else len(features) - context - FADE_FRAMES
        yield features[begin:end]
        tail, tail_start = features[end : end + FADE_FRAMES].copy(), piece.start + end


def _with_activity(stretches: Iterable[Floats], speech: Iterator[Speech]) -> Iterator[Speech]:
    """Features with the speech activity of the same frames, of which there are at least as many."""
    activity = np.zeros(0, np.float32)
    for features in stretches:
        while len(activity) < len(features):
            activity = np.concatenate([activity, next(speech).activity])
        yield Speech(features, activity[: len(features)])
        activity = activity[len(features) :]
