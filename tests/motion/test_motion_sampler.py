"""Windows, seams and streams: the sampler against a whole-clip version written separately."""

from __future__ import annotations

import math
import tracemalloc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from motion_networks import SPACE, small_config, small_model

from moda.config import SamplerConfig
from moda.errors import InputError
from moda.motion.flow import published_schedule, uniform_schedule
from moda.motion.model import MotionTransformer
from moda.motion.noise import NoiseGenerator
from moda.motion.sampler import (
    guidance_weights,
    sample_motion,
    sample_window,
    sampling_options,
    speech_windows,
)
from moda.structures import EmotionAt, Floats, Speech, Style
from moda.structures.landmarks import INNER_LIP_LOWER, MOUTH_CORNERS
from moda.weights.spaces import load_motion_space

IDENTITY = np.linspace(-1, 1, 63, dtype=np.float32)
POSE = slice(3, 10)
LENGTHS = (1, 2, 79, 80, 81, 144, 145, 1000)


@pytest.fixture(scope="module")
def model() -> MotionTransformer:
    return small_model()


def features(frames: int, size: int = 24) -> Floats:
    return np.random.default_rng(7).normal(size=(frames, size)).astype(np.float32)


def speech_of(values: Floats) -> Speech:
    return Speech(values, np.ones(len(values), np.float32))


def pieces(values: Floats, length: int) -> Iterator[Speech]:
    for start in range(0, len(values), length):
        yield speech_of(values[start : start + length])


def sampled(model: MotionTransformer, speech: Any, **options: Any) -> Floats:
    options = {"identity": IDENTITY, "generator": 3, "num_steps": 2} | options
    return np.concatenate([part.values for part in sample_motion(model, SPACE, speech, **options)])


def moving_average(values: Floats) -> Floats:
    """Pose channels averaged frame by frame."""
    result = values.copy()
    for frame in range(len(values)):
        near = values[max(frame - 1, 0) : frame + 2, POSE]
        total = near[0] if len(near) == 1 else near[0] + near[1]
        if len(near) == 3:  # the order of the sum decides the last bit: centre, left, right
            total = (near[1] + near[0]) + near[2]
        result[frame, POSE] = total / np.float32(len(near))
    return result


def whole_clip(model: MotionTransformer, values: Floats) -> Floats:
    """The long-audio rule on a list of whole windows, from the description."""
    frames = len(values)
    count = 1 if frames <= 80 else math.ceil((frames - 80) / 64) + 1
    padded = np.zeros((15 + 80 + 64 * (count - 1) + 9, values.shape[1]), np.float32)
    padded[15 : 15 + frames] = values
    generator = NoiseGenerator(3)
    previous = np.zeros(SPACE.size, np.float32)
    motion = np.zeros((0, SPACE.size), np.float32)
    for index in range(count):
        noise = torch.from_numpy(generator.normal(1, 80, SPACE.size))
        with torch.inference_mode():
            conditions = model.encode_conditions(
                torch.from_numpy(padded[64 * index : 64 * index + 104])[None],
                torch.tensor([8]),
                torch.from_numpy(IDENTITY)[None],
            )
        window = sample_window(
            model,
            conditions,
            torch.from_numpy(previous)[None, None],
            noise,
            schedule=uniform_schedule(2),
            guidance_scale=1.2,
        )
        smooth = moving_average(window[0].numpy())
        previous = smooth[63]
        new = smooth[: frames - 64 * index] if index == count - 1 else smooth
        if index == 0:
            motion = new
            continue
        for k in range(16):
            a = np.float32(k / 16)
            motion[k - 16] = motion[k - 16] * (1 - a) + new[k] * a
        motion = np.concatenate((motion, new[16:]))
    return SPACE.denormalize(moving_average(motion))


@pytest.mark.parametrize("frames", LENGTHS)
def test_stream_is_the_whole_clip_bit_for_bit(model: MotionTransformer, frames: int) -> None:
    values = features(frames)
    expected = whole_clip(model, values)
    whole = sampled(model, [speech_of(values)])
    assert whole.shape == (frames, SPACE.size)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(sampled(model, pieces(values, 37)), whole)


@pytest.mark.parametrize("length", [1, 12, 64, 200])
def test_pieces_of_any_length_give_the_same_motion(model: MotionTransformer, length: int) -> None:
    values = features(145)
    whole = sampled(model, [speech_of(values)])
    np.testing.assert_array_equal(sampled(model, pieces(values, length)), whole)


@pytest.mark.parametrize("frames", LENGTHS)
def test_windows_cover_the_recording(model: MotionTransformer, frames: int) -> None:
    values = features(frames)
    windows = list(speech_windows(pieces(values, 50), model.config))
    assert len(windows) == (1 if frames <= 80 else math.ceil((frames - 80) / 64) + 1)
    assert [window.start for window in windows] == [64 * i for i in range(len(windows))]
    assert [window.is_last for window in windows] == [False] * (len(windows) - 1) + [True]
    assert windows[-1].start + windows[-1].num_frames == frames
    for window in windows:
        assert window.features.shape == (104, 24)
        for row, frame in zip(window.features, range(window.start - 15, frames), strict=False):
            expected = values[frame] if frame >= 0 else np.zeros(24, np.float32)
            np.testing.assert_array_equal(row, expected)
        assert not window.features[frames - window.start + 15 :].any()


def test_motion_comes_before_the_speech_has_ended(model: MotionTransformer) -> None:
    asked = 0

    def endless() -> Iterator[Speech]:
        nonlocal asked
        while True:
            asked += 1
            yield speech_of(features(1))

    stream = sample_motion(
        model, SPACE, endless(), identity=IDENTITY, generator=0, num_steps=1, guidance_scale=1.0
    )
    lengths, needed = [], []
    for _ in range(4):
        lengths.append(len(next(stream)))
        needed.append(asked)
    assert lengths == [63, 64, 64, 64]
    assert needed == [89, 153, 217, 281]


def test_memory_does_not_grow_with_the_length(model: MotionTransformer) -> None:
    alive: list[weakref.ref[Floats]] = []

    def stream(frames: int) -> Iterator[Speech]:
        for _ in range(frames // 10):
            values = features(10)
            alive.append(weakref.ref(values))
            yield speech_of(values)

    def peak(frames: int) -> int:
        tracemalloc.start()
        options = {"identity": IDENTITY, "generator": 0, "num_steps": 1, "guidance_scale": 1.0}
        for part in sample_motion(model, SPACE, stream(frames), **options):  # type: ignore[arg-type]
            assert len(part) <= 64 + 17
            alive[:] = [values for values in alive if values() is not None]
            assert len(alive) <= 3
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(200)  # warm
    motion_bytes = (6000 - 600) * SPACE.size * 4  # the least that keeping anything would cost
    assert peak(6000) - peak(600) < motion_bytes / 3


def test_the_same_seed_gives_the_same_motion(model: MotionTransformer) -> None:
    values = [speech_of(features(100))]
    first = sampled(model, values)
    np.testing.assert_array_equal(first, sampled(model, values))
    np.testing.assert_array_equal(first, sampled(model, values, generator=NoiseGenerator(3)))
    assert not np.array_equal(first, sampled(model, values, generator=4))


def test_guidance_scale_1_is_the_conditional_model_alone(model: MotionTransformer) -> None:
    batches: list[int] = []
    handle = model.final_layer.register_forward_pre_hook(
        lambda _, given: batches.append(len(given[0]))
    )
    values = [speech_of(features(60))]
    plain = sampled(model, values, guidance_scale=1.0)
    guided = sampled(model, values, guidance_scale=1.0 + 1e-6)
    strong = sampled(model, values, guidance_scale=3.0)
    handle.remove()
    assert batches == [1, 1, 2, 2, 2, 2]
    np.testing.assert_allclose(plain, guided, atol=1e-4)
    assert np.abs(plain - strong).max() > 1e-2


def test_emotion_of_a_window_is_the_one_at_its_middle(model: MotionTransformer) -> None:
    labels: list[tuple[int, float]] = []
    original = model.encode_conditions

    def spy(*given: Any, **named: Any) -> Any:
        labels.append((int(given[1]), float(named["intensity"])))
        return original(*given, **named)

    style = Style((EmotionAt(1.6, "happy", 0.5), EmotionAt(4.2, None), EmotionAt(6.0, "sad")))
    model.encode_conditions = spy  # type: ignore[method-assign]
    try:
        sampled(model, [speech_of(features(230))], style=style, num_steps=1)
    finally:
        del model.encode_conditions
    # middles: 1.6 s, 4.16 s, 6.72 s, and of the 38 frames left 8.44 s
    assert labels == [(4, 0.5), (4, 0.5), (6, 1.0), (6, 1.0)]


def test_the_start_and_the_noise_can_be_set(model: MotionTransformer) -> None:
    values = [speech_of(features(30))]
    plain = sampled(model, values)
    zeros = np.zeros(SPACE.size, np.float32)
    np.testing.assert_array_equal(plain, sampled(model, values, initial_motion=zeros))
    np.testing.assert_array_equal(plain, sampled(model, values, noise_scale=zeros + 1))
    assert not np.array_equal(plain, sampled(model, values, initial_motion=zeros + 1))
    quiet = [sampled(model, values, noise_scale=zeros, generator=seed) for seed in (0, 1)]
    np.testing.assert_array_equal(*quiet)


def test_schedules(model: MotionTransformer) -> None:
    values = [speech_of(features(20))]
    published = sampled(model, values, schedule="published", num_steps=10)
    short = sampled(model, values, schedule="published", num_steps=10, drop_last_step=True)
    assert 0 < np.abs(published - short).max() < 0.05
    assert not np.array_equal(published, sampled(model, values, num_steps=10))


def test_the_published_embedder_needs_no_context() -> None:
    model = small_model("mlp")
    values = features(100, size=24)
    motion = sampled(model, pieces(values, 9))
    assert motion.shape == (100, SPACE.size)
    asked = [len(window.features) for window in speech_windows(pieces(values, 9), model.config)]
    assert asked == [80, 80]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speech": []}, "no speech"),
        ({"speech": [speech_of(features(5, size=3))]}, r"\(5, 3\).*\(T, 24\)"),
        ({"identity": np.zeros(62, np.float32)}, "identity.*63"),
        ({"identity": np.full(63, np.nan, np.float32)}, "finite"),
        ({"initial_motion": np.zeros(11, np.float32)}, "initial motion.*10"),
        ({"noise_scale": np.zeros(9, np.float32)}, "noise scale.*10"),
        ({"guidance_scale": 0.5}, "0.5"),
        ({"num_steps": 0}, "steps 0"),
    ],
)
def test_unusable_values_are_refused(
    model: MotionTransformer, options: dict[str, Any], message: str
) -> None:
    speech = options.pop("speech", [speech_of(features(5))])
    with pytest.raises(InputError, match=message):
        sampled(model, speech, **options)


def test_a_model_in_training_is_refused() -> None:
    with pytest.raises(InputError, match="eval"):
        sampled(small_model().train(), [speech_of(features(5))])


def test_a_models_own_way_of_sampling(model: MotionTransformer) -> None:
    values = [speech_of(features(20))]
    config = SamplerConfig(
        num_steps=3, guidance_scale=2.0, schedule="published", drop_last_step=True
    )
    spelled_out = sampled(
        model,
        values,
        num_steps=3,
        guidance_scale=2.0,
        schedule="published",
        drop_last_step=True,
    )
    chosen = dict(sampling_options(SPACE, config))
    np.testing.assert_array_equal(sampled(model, values, **chosen), spelled_out)


def test_no_share_of_the_flow_leaves_the_mean(model: MotionTransformer) -> None:
    values = features(40)
    options = dict(sampling_options(SPACE, SamplerConfig(num_steps=2, mouth_share=0.0)))
    np.testing.assert_array_equal(options["share"], [0.0] * 3 + [1.0] * 7)
    found = sampled(model, [speech_of(values)], **options)
    padded = np.zeros((15 + 80 + 9, values.shape[1]), np.float32)
    padded[15:55] = values
    with torch.inference_mode():
        conditions = model.encode_conditions(
            torch.from_numpy(padded)[None], torch.tensor([8]), torch.from_numpy(IDENTITY)[None]
        )
    mean = SPACE.denormalize(np.broadcast_to(conditions.mean[0].numpy(), (80, SPACE.size)))
    assert mean[:40, :3].std(0).min() > 0.0, "the test needs a mean that follows the speech"
    np.testing.assert_array_equal(found[:, :3], mean[:40, :3])
    plain = sampled(model, [speech_of(values)])
    np.testing.assert_array_equal(found[:, 3:], plain[:, 3:])
    assert np.abs(found - plain)[:, :3].max() > 0.1
    half = sampled(model, [speech_of(values)], share=np.full(SPACE.size, 0.5, np.float32))
    np.testing.assert_allclose(half[:, :3], (found + plain)[:, :3] / 2, atol=1e-5)


def test_head_gains_are_one_for_each_and_leave_the_scale_alone(model: MotionTransformer) -> None:
    values = [speech_of(features(20))]
    gains = (0.25, 0.5, 1.0, 2.0, 1.5, 0.0)
    options = dict(sampling_options(SPACE, SamplerConfig(num_steps=2, head_gains=gains)))
    found, plain = sampled(model, values, **options), sampled(model, values)
    np.testing.assert_array_equal(found[:, :4], plain[:, :4])
    np.testing.assert_allclose(found[:, 4:], np.float32(gains) * plain[:, 4:], rtol=1e-6)
    np.testing.assert_array_equal(options["gain"], [1.0] * 4 + list(gains))


def test_noise_of_the_head(model: MotionTransformer) -> None:
    head = sampling_options(SPACE, SamplerConfig(head_noise=0.25))["noise_scale"]
    np.testing.assert_array_equal(head, [1.0] * 3 + [0.25] * 7)
    assert sampling_options(SPACE, SamplerConfig())["noise_scale"] is None
    # Without any noise nothing is left to chance.
    values = [speech_of(features(20))]
    scale = np.zeros(SPACE.size, np.float32)
    scale[POSE] = head[POSE] if head is not None else 0.0
    quiet = [sampled(model, values, noise_scale=scale, generator=seed) for seed in range(2)]
    loud = [sampled(model, values, generator=seed) for seed in range(2)]
    spread = [np.abs(one - two)[:, POSE].mean() for one, two in (quiet, loud)]
    assert 0.0 < spread[0] < 0.5 * spread[1]


@pytest.fixture(scope="module")
def reading_model() -> MotionTransformer:
    return small_model("reader")


def test_what_is_not_sampled_is_the_mean_of_the_space(reading_model: MotionTransformer) -> None:
    """In normalised motion it is 0."""
    assert reading_model.config.unsampled == (4, 8)
    values = features(200, size=27)
    found = sampled(reading_model, pieces(values, 33), noise_scale=np.ones(SPACE.size, np.float32))
    np.testing.assert_array_equal(found[:, [4, 8]], np.tile(SPACE.mean[[4, 8]], (200, 1)))
    others = np.delete(found, [4, 8], axis=1)
    assert others.std(0).min() > 0.1
    np.testing.assert_array_equal(found, sampled(reading_model, [speech_of(values)]))


def test_scales_of_the_noise_are_of_whole_motion(reading_model: MotionTransformer) -> None:
    """A scale stays with its number though others before it are not sampled."""
    values = [speech_of(features(20, size=27))]
    scale = np.ones(SPACE.size, np.float32)
    scale[4] = scale[8] = 7.0
    plain = sampled(reading_model, values)
    np.testing.assert_array_equal(plain, sampled(reading_model, values, noise_scale=scale))
    last = np.ones(SPACE.size, np.float32)
    last[9] = 0.0
    noise = torch.from_numpy(NoiseGenerator(3).normal(1, 80, 8))
    noise[..., 7] = 0.0
    conditions = conditions_of(reading_model, values[0].features)
    with torch.inference_mode():
        window = sample_window(
            reading_model, conditions, torch.zeros(1, 1, SPACE.size), noise,
            schedule=uniform_schedule(2), guidance_scale=1.2,
        )  # fmt: skip
    smooth = moving_average(moving_average(window[0].numpy())[:20])
    found = sampled(reading_model, values, noise_scale=last)
    np.testing.assert_allclose(found, SPACE.denormalize(smooth), atol=1e-5)


def conditions_of(model: MotionTransformer, values: Floats) -> Any:
    """Of the first window, without an emotion."""
    embedder = model.config.speech_embedder
    padded = np.zeros((80 + 2 * embedder.context, values.shape[1]), np.float32)
    padded[embedder.before : embedder.before + len(values)] = values
    with torch.inference_mode():
        return model.encode_conditions(
            torch.from_numpy(padded)[None], torch.tensor([8]), torch.from_numpy(IDENTITY)[None]
        )


@pytest.mark.parametrize("kind", ["conv", "reader"])
@torch.inference_mode()
def test_guidance_leaves_the_mouth_alone(kind: Any) -> None:
    """Of one step, guided motion is a straight line in the scale, and its mouth a point."""
    model = small_model(kind)
    conditions = conditions_of(model, features(80, model.config.speech.size))
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn((1, 80, model.config.generated_size), generator=generator)
    motions = [
        sample_window(
            model, conditions, torch.zeros(1, 1, SPACE.size), noise,
            schedule=uniform_schedule(1), guidance_scale=scale,
        )
        for scale in (1.0, 2.0, 3.0)
    ]  # fmt: skip
    one, two, three = (motion[0].numpy() for motion in motions)
    np.testing.assert_allclose(two[:, :3], one[:, :3], atol=1e-5)
    np.testing.assert_allclose(three[:, :3], one[:, :3], atol=1e-5)
    guided = [k for k in range(3, SPACE.size) if k not in model.config.unsampled]
    assert np.abs(two - one)[:, guided].max(0).min() > 1e-2
    np.testing.assert_allclose(three[:, guided], (2 * two - one)[:, guided], atol=1e-4)


def test_guidance_weights_of_every_number() -> None:
    reading = guidance_weights(small_config("reader"), 2.5)
    assert reading.tolist() == [1.0] * 3 + [2.5] * 5
    assert guidance_weights(small_config("mlp"), 2.5).tolist() == [2.5] * SPACE.size


def test_modulations_are_made_once_for_each_emotion(model: MotionTransformer) -> None:
    shapes: list[tuple[int, ...]] = []
    handle = model.time_embedder.register_forward_hook(
        lambda module, given, out: shapes.append(tuple(out.shape))
    )
    style = Style((EmotionAt(0.0, "happy"), EmotionAt(4.0, "happy"), EmotionAt(6.0, "sad")))
    sampled(model, [speech_of(features(330))], style=style, num_steps=4)
    handle.remove()
    assert shapes == [(4, 1, 32)] * 2  # five windows, two emotions


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_comes_close(model: MotionTransformer, precision: str) -> None:
    values = [speech_of(features(100))]
    full = sampled(model, values, num_steps=4)
    low = sampled(model, values, num_steps=4, precision=precision)
    assert low.dtype == np.float32
    distance = np.sqrt(np.mean((full - low) ** 2)) / full.std()
    assert 0 < distance < {"bfloat16": 0.03, "float16": 0.004}[precision]


def test_nothing_in_the_loop_waits_for_the_device() -> None:
    """A tensor on the meta device has no numbers that could be waited for."""
    model = small_model().to("meta")
    with torch.inference_mode():
        conditions = model.encode_conditions(
            torch.empty(1, 104, 24, device="meta"),
            torch.empty(1, dtype=torch.long, device="meta"),
            torch.empty(1, 63, device="meta"),
        )
    window = sample_window(
        model,
        conditions,
        torch.zeros(1, 1, SPACE.size, device="meta"),
        torch.zeros(1, 80, SPACE.size, device="meta"),
        schedule=published_schedule(3),
        guidance_scale=1.2,
    )
    assert window.is_meta
    assert window.shape == (1, 80, SPACE.size)


def test_the_callers_code_does_not_run_in_inference_mode(model: MotionTransformer) -> None:
    options = {"identity": IDENTITY, "generator": 0, "num_steps": 1}
    for _ in sample_motion(model, SPACE, pieces(features(100), 10), **options):  # type: ignore[arg-type]
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()


def test_the_corners_keep_their_own_share() -> None:
    """A number that only opens the lips has the mouth's share, one that widens them its own."""
    space = load_motion_space()
    assert space.basis is not None
    basis = np.zeros_like(space.basis)
    basis[: space.expression_size] = space.basis[: space.expression_size]
    basis[0], basis[1] = 0.0, 0.0
    basis[0, list(INNER_LIP_LOWER), 1] = 1.0
    basis[1, MOUTH_CORNERS[1], 0] = 1.0
    made = replace(space, basis=basis)
    share = sampling_options(made, SamplerConfig(mouth_share=0.5, width_share=0.2))["share"]
    assert share is not None
    np.testing.assert_allclose(share[:2], [0.5, 0.1], atol=1e-6)
    assert ((share[:16] > 0.0999) & (share[:16] < 0.5001)).all()
    np.testing.assert_array_equal(share[16:], 1.0)
