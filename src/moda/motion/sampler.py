"""Speech of any length to motion, window by window, as the speech arrives.

Windows of 80 frames begin every 64. Each is sampled from noise given the frame before it, smoothed
in pose, and fused with the 16 frames it shares with the one before. Motion is handed out as soon
as no later window can change it; memory does not grow with the length.

Axis letters: T frames, F speech features, D motion. Motion is normalised until it leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, TypedDict

import numpy as np

from moda.config import MotionModelConfig, Precision, SamplerConfig
from moda.errors import InputError
from moda.motion.flow import TIMESTEPS, Values, guide, published_schedule, uniform_schedule
from moda.motion.network import Conditions, Network
from moda.motion.noise import NoiseGenerator
from moda.options import SpeakingOptions
from moda.structures import (
    EMOTIONS,
    FRAMES_PER_SECOND,
    EmotionAt,
    Floats,
    Motion,
    MotionSpace,
    Speech,
    Style,
)
from moda.structures.landmarks import MOUTH_CORNERS, lip_gaps


class SpeechWindow(NamedTuple):
    """What one window hears of the speech."""

    features: Floats  # (window + 2 * context, F), zeros outside the recording
    start: int
    """Frame of the recording at which the window begins."""
    num_frames: int
    """Frames of the window inside the recording; the others are padding."""
    is_last: bool


class SamplingOptions(TypedDict):
    """The arguments of :func:`sample_motion` that a model was made for."""

    num_steps: int
    guidance_scale: float
    schedule: Literal["published", "uniform"]
    drop_last_step: bool
    noise_scale: Floats | None
    share: Floats | None
    gain: Floats | None


def sampling_options(
    space: MotionSpace, config: SamplerConfig, options: SpeakingOptions | None = None
) -> SamplingOptions:
    """A checkpoint's way of sampling, and choices, as arguments of :func:`sample_motion`."""
    options = options or SpeakingOptions()
    noise_scale = share = gain = None
    if config.mouth_share != 1.0:
        share = scale_group(space, "mouth", config.mouth_share)
    if config.width_share != 1.0:
        opens = opening_parts(space)
        share = scale_group(space, "mouth", config.mouth_share)
        share[space.slice("mouth")] *= opens + config.width_share * (1.0 - opens)
    if config.head_noise != 1.0:
        noise_scale = scale_group(space, "pose", config.head_noise)
    if set(config.head_gains) != {1.0}:
        gain = np.ones(space.size, np.float32)
        gain[space.slice("translation").start :] = config.head_gains
    return SamplingOptions(
        num_steps=options.num_steps or config.num_steps,
        guidance_scale=options.guidance_scale or config.guidance_scale,
        schedule=config.schedule,
        drop_last_step=config.drop_last_step,
        noise_scale=noise_scale,
        share=share,
        gain=gain,
    )


def opening_parts(space: MotionSpace) -> Floats:
    """(M,) in 0..1 how far each number of the mouth opens the lips rather than widens them.

    Squares of what one standard deviation of the number does to the middle gap, over those of what
    it does to gap and width together.
    """
    assert space.basis is not None
    part = space.slice("mouth")
    basis, scale = space.basis[part].astype(np.float64), space.scale[part]
    right, left = MOUTH_CORNERS
    gap = (lip_gaps(basis)[:, 4] * scale) ** 2
    width = ((basis[:, left, 0] - basis[:, right, 0]) * scale) ** 2
    return (gap / (gap + width + 1e-12)).astype(np.float32)


def sample_motion(
    model: Network[Values],
    space: MotionSpace,
    speech: Iterable[Speech],
    *,
    identity: Floats,
    style: Style | None = None,
    generator: NoiseGenerator | int,
    num_steps: int = 10,
    guidance_scale: float = 1.2,
    schedule: Literal["published", "uniform"] = "uniform",
    drop_last_step: bool = False,
    initial_motion: Floats | None = None,
    noise_scale: Floats | None = None,
    share: Floats | None = None,
    gain: Floats | None = None,
    precision: Precision = "float32",
) -> Iterator[Motion]:
    """Yield consecutive stretches of motion, as many frames in all as there is speech.

    ``speech`` may come in pieces of any length. A stretch (63 frames, then 64 each, then what is
    left) is yielded when the speech has reached 16 frames and the embedder's look-ahead beyond it.
    ``identity`` (63,); ``initial_motion`` (D,) is the normalised motion before the first frame
    (default 0, the mean); ``noise_scale`` (D,) multiplies the starting noise of every dimension,
    ``share`` (D,) what the flow adds to the mean, and ``gain`` (D,) the result, so that 0, the
    closed mouth, stays 0; see :func:`scale_group`; ``guidance_scale`` 1 asks the model without
    guidance. The emotion of a window is the one in force at its middle. ``generator`` is a seed, or
    the source of all randomness; the same one gives the same motion, bit for bit on a CPU.
    ``precision`` is that of the network's matrix products; the motion itself stays float32.

    Raises :class:`InputError` for values that don't fit the model, and when there is no speech.
    """
    config = model.config
    if space.size != config.motion_size:
        raise InputError(f"motion space has size {space.size}, the model {config.motion_size}")
    if guidance_scale < 1.0 or num_steps < 1:
        raise InputError(
            f"guidance scale {guidance_scale} and steps {num_steps} must both be at least 1"
        )
    if isinstance(generator, int):
        generator = NoiseGenerator(generator)
    if schedule == "published":
        steps = published_schedule(num_steps, drop_last_step=drop_last_step)
    else:
        steps = uniform_schedule(num_steps)
    stretches = sample_windows(
        model,
        speech_windows(speech, config),
        identity=_row(identity, config.identity_size, "identity"),
        style=style or Style(),
        noise=_noise(generator, config, noise_scale),
        share=None if share is None else _row(share, space.size, "share"),
        schedule=steps,
        guidance_scale=guidance_scale,
        initial_motion=_row(initial_motion, config.motion_size, "initial motion"),
        pose=space.slice("pose"),
        precision=precision,
    )
    factors = np.float32(1) if gain is None else _row(gain, config.motion_size, "gain")
    return (Motion(space.denormalize(values) * factors, space) for values in stretches)


def scale_group(space: MotionSpace, group: str, factor: float) -> Floats:
    """(D,) ``factor`` for one part of the motion, 1 for all else."""
    scales = np.ones(space.size, np.float32)
    scales[space.slice(group)] = factor
    return scales


def sample_windows(
    model: Network[Values],
    windows: Iterable[SpeechWindow],
    *,
    identity: Floats,
    style: Style,
    noise: Iterator[Floats],
    schedule: Floats,
    guidance_scale: float,
    initial_motion: Floats,
    pose: slice,
    share: Floats | None = None,
    precision: Precision = "float32",
) -> Iterator[Floats]:
    """The long-audio rule of MoDA: stretches (n, D) of normalised motion from speech windows.

    ``noise`` gives the starting noise (1, window, D) of each window in turn.
    """
    stride = model.config.stride
    joiner = WindowJoiner(model.config.overlap, pose)
    previous = initial_motion
    known_emotion: tuple[str | None, float] | None = None
    for window in windows:
        entry = style.at((window.start + window.num_frames / 2) / FRAMES_PER_SECOND)
        conditions = encode_window(model, window.features, identity, entry)
        if (entry.emotion, entry.intensity) != known_emotion:
            known_emotion = entry.emotion, entry.intensity
            modulations = schedule_modulations(model, conditions, schedule, guidance_scale)
        sampled = sample_window(
            model,
            conditions,
            model.array(previous[None, None]),
            model.array(next(noise)),
            schedule=schedule,
            guidance_scale=guidance_scale,
            share=share,
            precision=precision,
            modulations=modulations,
        )
        smooth = smooth_pose(model.floats(sampled)[0], pose)
        previous = smooth[stride - 1]
        yield joiner.push(smooth[: window.num_frames], is_last=window.is_last)


def guidance_weights(config: MotionModelConfig, guidance_scale: float) -> Floats:
    """(G,) the guidance of each number that is sampled.

    A mouth whose mean is read from the speech follows the speech already, and is left alone.
    """
    weights = np.full(config.generated_size, guidance_scale, np.float32)
    weights[: config.mouth_size] = 1.0
    return weights


def schedule_modulations(
    model: Network[Values], conditions: Conditions[Values], schedule: Floats, guidance_scale: float
) -> Sequence[Values]:
    """Modulations (S, B, M) of all S steps, B = 2 with guidance, for the conditions' emotion."""
    with model.inference():
        both = _halves(model, conditions, guidance_scale)
        timesteps = model.array(schedule[:, :1] * np.float32(TIMESTEPS))
        return model.modulations(timesteps, both.emotion)


def sample_window(
    model: Network[Values],
    conditions: Conditions[Values],
    previous_motion: Values,
    noise: Values,
    *,
    schedule: Floats,
    guidance_scale: float = 1.0,
    share: Floats | None = None,
    precision: Precision = "float32",
    modulations: Sequence[Values] | None = None,
) -> Values:
    """One window (1, T, D) from ``noise`` (1, T, G) after ``previous_motion`` (1, 1, D).

    The flow makes what differs from the conditions' mean. The ``share`` (D,) of this (default all)
    is added to the mean.
    With a guidance scale above 1, both halves of the guidance run as one batch. Another window
    with the same emotion and schedule can be given the ``modulations`` of this one, see
    :func:`schedule_modulations`. Nothing in the loop waits for the device.
    """
    if modulations is None:
        modulations = schedule_modulations(model, conditions, schedule, guidance_scale)
    per_step = modulations
    with model.inference():
        both = _halves(model, conditions, guidance_scale)
    weights = model.array(guidance_weights(model.config, guidance_scale))

    def velocity_at(noisy_motion: Values, step: int) -> Values:
        of_step = [part[step] for part in per_step]
        velocity = model.predict(noisy_motion, previous_motion, of_step, both)
        return velocity if len(velocity) == 1 else guide(velocity[:1], velocity[1:], weights)

    with model.inference(precision):
        sampled = model.decode(model.sample(velocity_at, noise, schedule))
        if share is not None:
            sampled = sampled * model.array(share)
        return sampled + conditions.mean


def speech_windows(speech: Iterable[Speech], config: MotionModelConfig) -> Iterator[SpeechWindow]:
    """Cut a stream of speech in overlapping windows, holding no more than one of them.

    A recording of T frames has 1 window if T <= 80, else ceil((T - 80) / 64) + 1. Raises
    :class:`InputError` if there is no speech or its features have another size.
    """
    length, embedder = config.window, config.speech_embedder
    before, total = embedder.before, length + 2 * embedder.context
    pieces = _pieces(speech, config)
    held = np.zeros((before, config.speech.size), np.float32)
    start, ended = 0, False
    while True:
        while len(held) < before + length + max(embedder.after, 1) and not ended:
            piece = next(pieces, None)
            ended = piece is None
            if piece is not None:
                held = np.concatenate((held, piece))
        remaining = len(held) - before
        if remaining == 0:
            raise InputError("there is no speech: the recording has less than one frame (40 ms)")
        missing = ((0, max(0, total - len(held))), (0, 0))
        is_last = ended and remaining <= length
        yield SpeechWindow(
            np.pad(held[:total], missing),
            start,
            min(remaining, length),
            is_last,
        )
        if is_last:
            return
        held = held[config.stride :].copy()
        start += config.stride


class WindowJoiner:
    """Fuses overlapping windows and smooths the pose of the whole, giving out what is final."""

    def __init__(self, overlap: int, pose: slice) -> None:
        self.overlap = overlap
        self.pose = pose
        self.held: Floats | None = None
        """Fused, not smoothed: the frame before those not given out yet, one more, the overlap."""

    def push(self, window: Floats, *, is_last: bool) -> Floats:
        """Take the next window (n, D); return the frames (m, D) that it makes final."""
        first = self.held is None
        joined = window if self.held is None else fuse(self.held, window, self.overlap)
        smooth = smooth_pose(joined, self.pose)
        begin = 0 if first else 1
        end = len(joined) if is_last else len(joined) - self.overlap - 1
        self.held = joined[end - 1 :].copy()
        return smooth[begin:end]


def fuse(before: Floats, after: Floats, overlap: int) -> Floats:
    """Join (n, D) and (m, D) that share ``overlap`` frames: ``old (1 - k/16) + new k/16``."""
    weight = (np.arange(overlap, dtype=np.float32) / np.float32(overlap))[:, None]
    shared = before[-overlap:] * (1 - weight) + after[:overlap] * weight
    return np.concatenate((before[:-overlap], shared, after[overlap:]))


def smooth_pose(values: Floats, pose: slice) -> Floats:
    """Moving average over 3 frames (2 at the ends) of the pose; expression is untouched."""
    part = values[:, pose]
    total, count = part.copy(), np.ones((len(part), 1), np.float32)
    total[1:] += part[:-1]
    total[:-1] += part[1:]
    count[1:] += 1
    count[:-1] += 1
    smooth = values.copy()
    smooth[:, pose] = total / count
    return smooth


def encode_window(
    model: Network[Values], features: Floats, identity: Floats, entry: EmotionAt
) -> Conditions[Values]:
    """Conditions (batch 1) of a window's speech (T, F)."""
    emotion, intensity = model.config.none_emotion, 1.0
    if entry.emotion is not None:
        emotion, intensity = EMOTIONS.index(entry.emotion), entry.intensity
    with model.inference():
        return model.encode(features, emotion, intensity, identity)


def _halves(
    model: Network[Values], conditions: Conditions[Values], guidance_scale: float
) -> Conditions[Values]:
    """The unconditional and the conditional half as one batch, if there is guidance."""
    return conditions if guidance_scale <= 1.0 else model.with_unconditional(conditions)


def _pieces(speech: Iterable[Speech], config: MotionModelConfig) -> Iterator[Floats]:
    """Features (n, F) in pieces of no more than one stride."""
    for stretch in speech:
        features = np.asarray(stretch.features, dtype=np.float32)
        if features.ndim != 2 or features.shape[1] != config.speech.size:
            raise InputError(
                f"speech features have shape {features.shape}; "
                f"the model needs (T, {config.speech.size})"
            )
        for begin in range(0, len(features), config.stride):
            yield features[begin : begin + config.stride]


def _noise(
    generator: NoiseGenerator, config: MotionModelConfig, noise_scale: Floats | None
) -> Iterator[Floats]:
    """Starting noise (1, window, D) of one window after the other."""
    scale = np.ones(config.generated_size, np.float32)
    if noise_scale is not None:
        whole = _row(noise_scale, config.motion_size, "noise scale")
        scale = whole[list(config.sampled)]
    while True:
        yield generator.normal(1, config.window, config.generated_size) * scale


def _row(values: Floats | None, size: int, name: str) -> Floats:
    """A checked float32 vector (size,); zeros if there is none."""
    if values is None:
        return np.zeros(size, np.float32)
    row = np.array(values, dtype=np.float32).reshape(-1)
    if row.shape != (size,) or not np.isfinite(row).all():
        raise InputError(f"{name} has shape {np.shape(values)}; expected {size} finite numbers")
    return row
