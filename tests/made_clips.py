"""Made clips and a tiny model, for reports with known answers."""

from __future__ import annotations

import numpy as np
import torch

from moda.config import (
    ModelConfig,
    MotionModelConfig,
    SamplerConfig,
    SpeechEmbedderConfig,
    SpeechFeaturesConfig,
)
from moda.data.clips import PreparedClip
from moda.data.dataset import TrainingClip, build_clips
from moda.encoders.tracking import LandmarkTrack
from moda.motion.model import MotionTransformer
from moda.phones import Phone
from moda.structures import MotionSpace
from moda.weights.checkpoints import Checkpoint
from moda.weights.spaces import load_motion_space


def made_clip(speaker: str, seed: int) -> PreparedClip:
    """A face whose lip gap follows the loudness of noise bursts, five seconds."""
    space = load_motion_space()
    assert space.canonical_face is not None
    generator = np.random.default_rng(seed)
    level = np.repeat(generator.random(25), 5)
    level[40:60] = 0.0
    landmarks = np.repeat(100.0 * space.canonical_face[None].astype(np.float64), 125, 0)
    landmarks[:, 14, 1] = landmarks[:, 13, 1] + 20.0 * level
    landmarks[:, 61, 0] -= 5.0 * level
    sound = generator.standard_normal(125 * 640) * np.repeat(level, 640) * 3000.0
    track = LandmarkTrack(landmarks.astype(np.float32), np.ones(125, bool))
    return PreparedClip(f"{speaker}{seed}", speaker, None, track, sound.astype(np.int16))


def made_training_clips(space: MotionSpace, num_speakers: int) -> list[TrainingClip]:
    """One clip of each speaker, as training takes them."""
    prepared = [made_clip(f"speaker{seed}", seed) for seed in range(num_speakers)]
    return build_clips(prepared, space, versions=0, in_sync="*")


def tiny_checkpoint(*, knows_phones: bool = True, has_mean: bool = True) -> Checkpoint:
    """An untrained model in the mesh space; one that knows phones reads them, and the mean."""
    torch.manual_seed(0)
    space = load_motion_space()
    speech = SpeechFeaturesConfig()
    embedder = SpeechEmbedderConfig(width=8, dilations=(1,), context=4)
    if knows_phones and has_mean:
        speech = SpeechFeaturesConfig("whisper", channels=384)
        embedder = SpeechEmbedderConfig(
            "reader",
            width=8,
            dilations=(),
            context=4,
            num_phones=len(Phone),
            voice_spans=(9,),
            compressed=4,
        )
    config = MotionModelConfig(
        motion_size=space.size,
        hidden=16,
        num_heads=2,
        four_stream_blocks=1,
        two_stream_blocks=0,
        one_stream_blocks=1,
        mlp_ratio=1.0,
        speech=speech,
        speech_embedder=embedder,
        mouth_size=16 if has_mean else 0,
    )
    sampler = SamplerConfig(num_steps=1, guidance_scale=1.0, head_noise=0.5)
    model = MotionTransformer(config).eval()
    return Checkpoint(model, space, ModelConfig("tiny", config, sampler), {})
