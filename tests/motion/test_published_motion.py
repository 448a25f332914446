"""The full-size network and its sampler against recordings of the released implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from moda.motion.flow import interpolate, published_schedule, timestep_of, velocity
from moda.motion.model import MotionTransformer
from moda.motion.sampler import fuse, sample_window, sample_windows, smooth_pose, speech_windows
from moda.structures import EmotionAt, Speech, Style
from published_weights import noise

LIMIT = 1e-4
POSE = slice(63, 70)
Golden = Callable[[str], dict[str, Tensor]]


@contextmanager
def recorded(model: MotionTransformer) -> Iterator[dict[str, Any]]:
    """What the named parts of the network give while the context lasts."""
    seen: dict[str, Any] = {}
    parts = {
        "emb_motion": model.motion_embedder,
        "emb_time": model.time_embedder,
        "b4_0": model.four_stream_blocks[0],
        "b4": model.four_stream_blocks[-1],
        "b2_0": model.two_stream_blocks[0],
        "b2": model.two_stream_blocks[-1],
        "b1_0": model.one_stream_blocks[0],
        "b1": model.one_stream_blocks[-1],
    }

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: seen.update({name: output})

    handles = [part.register_forward_hook(keep(name)) for name, part in parts.items()]
    yield seen
    for handle in handles:
        handle.remove()


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max())


@pytest.mark.parametrize(
    ("call", "times", "emotions"), [("A", [1000.0, 334.0], [3, 8]), ("B", [112.0, 1.0], [8, 0])]
)
@torch.inference_mode()
def test_every_stage_of_the_network(
    published_model: MotionTransformer,
    golden: Golden,
    call: str,
    times: list[float],
    emotions: list[int],
) -> None:
    expected = golden("dit_forward")
    previous, noisy = noise("input/dit/motion", 2, 80, 140).split(70, dim=-1)
    speech = noise("input/dit/audio", 2, 80, 1, 12, 768)
    identity = 0.3 * noise("input/dit/audio_cond", 2, 1, 63)[:, 0]
    with recorded(published_model) as seen:
        conditions = published_model.encode_conditions(speech, torch.tensor(emotions), identity)
        out = published_model(noisy, previous, torch.tensor(times), conditions)
    found = {
        "emb_time": seen["emb_time"],
        "emb_emo": conditions.emotion,
        "emb_identity": conditions.identity,
        "emb_motion": seen["emb_motion"][:, ::5, ::4],
        "emb_audio": conditions.speech[:, ::5, ::4],
        "b1_0": seen["b1_0"][:, ::5, ::4],
        "b1": seen["b1"][:, ::5, ::4],
        "out": out,
    }
    for block in ("b4_0", "b4"):
        for part, tokens in zip(("motion", "audio", "emo", "identity"), seen[block], strict=True):
            found[f"{block}_{part}"] = tokens[:, ::5, ::4]
    for block in ("b2_0", "b2"):
        for part, tokens in zip(("motion", "cond"), seen[block], strict=True):
            found[f"{block}_{part}"] = tokens[:, ::5, ::4]
    recorded_stages = {key.removeprefix(f"{call}/") for key in expected if key.startswith(call)}
    assert set(found) == recorded_stages
    for stage, value in found.items():
        reference = expected[f"{call}/{stage}"]
        # one emotion token stands for 80; the last block computes its motion tokens only
        reference = reference[:, : value.shape[1]] if reference.ndim == 3 else reference
        assert distance(value, reference) < LIMIT, stage


@pytest.mark.slow
def test_ten_guided_steps(published_model: MotionTransformer, golden: Golden) -> None:
    expected = golden("subclip")
    with torch.inference_mode():
        conditions = published_model.encode_conditions(
            noise("input/subclip/audio", 1, 80, 1, 12, 768),
            torch.tensor([3]),
            0.3 * noise("input/subclip/ref_kp", 1, 63),
        )
    states: list[Tensor] = []
    handle = published_model.motion_embedder.register_forward_pre_hook(
        lambda module, inputs: states.append(inputs[0][:1, :, 70:])
    )
    out = sample_window(
        published_model,
        conditions,
        0.5 * noise("input/subclip/prev_motion", 1, 1, 70),
        noise("input/subclip/init_latents", 1, 80, 70),
        schedule=published_schedule(),
        guidance_scale=1.2,
    )
    handle.remove()
    assert distance(out, expected["out"]) < LIMIT
    after_steps = torch.cat((*states[1:], out))
    assert after_steps.shape == expected["latents"].shape
    assert distance(after_steps, expected["latents"]) < LIMIT


@pytest.mark.slow
def test_a_clip_of_three_windows(published_model: MotionTransformer, golden: Golden) -> None:
    expected = golden("sample200")
    features = noise("input/sample/audio", 200, 12, 768).flatten(1).numpy()
    stretches = sample_windows(
        published_model,
        speech_windows([Speech(features, np.ones(200, np.float32))], published_model.config),
        identity=0.3 * noise("input/sample/ref_kp", 1, 63)[0].numpy(),
        style=Style((EmotionAt(0.0, "sad"),)),
        noise=(noise(f"input/sample/init_latents/{index}", 1, 80, 70) for index in range(3)),
        schedule=published_schedule(),
        guidance_scale=1.2,
        initial_motion=0.5 * noise("input/sample/prev_motion", 1, 1, 70)[0, 0].numpy(),
        pose=POSE,
    )
    motion = torch.from_numpy(np.concatenate(list(stretches)))
    assert motion.shape == (200, 70)
    far = distance(motion, expected["motion"])
    print(f"distance of the 200-frame clip: {far:.2e}")  # noqa: T201
    assert far < LIMIT


def test_schedule_is_exact(golden: Golden) -> None:
    expected = golden("scheduler")
    sigma, following = torch.from_numpy(published_schedule()).unbind(dim=1)
    assert torch.equal(sigma, expected["sigma_of_timesteps"])
    assert torch.equal(following, expected["prev_sigma"])
    assert torch.equal(timestep_of(sigma), expected["timesteps"])


def test_steps_and_training_noise(golden: Golden) -> None:
    expected = golden("scheduler")
    sample = noise("input/sched/sample", 2, 5, 7)
    output = noise("input/sched/model_output", 2, 5, 7)
    for index, (sigma, following) in enumerate(published_schedule().tolist()):
        moved = sample + (following - sigma) * output
        assert distance(moved, expected[f"step{index}/prev_sample"]) < 1e-6
        estimate = sample - sigma * output
        assert distance(estimate, expected[f"step{index}/pred_original"]) < 1e-6
    sigma = (expected["add_noise/timesteps"] / 1000)[:, None, None]
    drawn = noise("input/sched/noise", 2, 5, 7)
    assert distance(interpolate(sample, drawn, sigma), expected["add_noise/noisy"]) < 1e-6
    assert torch.equal(velocity(sample, drawn), expected["add_noise/target"])


def test_smoothing_and_fusing(golden: Golden) -> None:
    expected = golden("smooth_fuse")
    before = noise("input/smooth/motion", 1, 80, 70)[0].numpy()
    after = noise("input/smooth/motion2", 1, 80, 70)[0].numpy()
    smooth = torch.from_numpy(smooth_pose(before, POSE))
    assert distance(smooth, expected["smooth"][0]) < 1e-6
    joined = torch.from_numpy(fuse(before, after, int(expected["overlap_len"])))
    assert joined.shape == (144, 70)
    assert distance(joined[:80], expected["fuse"][0]) < 1e-6
    assert torch.equal(joined[80:], torch.from_numpy(after[16:]))
