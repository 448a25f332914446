"""Portrait and speech to video through the published networks, at small sizes and at full size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from media_files import click, decode_video, tone, write_video, write_wav
from moda.config import SamplerConfig, preset
from moda.encoders.face import FaceModels
from moda.encoders.neural.hubert import HubertEncoder, build_hubert
from moda.encoders.neural.motion_extractor import MotionExtractor
from moda.errors import CheckpointError, InputError
from moda.media import read_image
from moda.motion.model import MotionTransformer
from moda.options import FrameOptions
from moda.pipeline import TalkingHead
from moda.rendering.neural.layers import RenderingConfig
from moda.rendering.neural.networks import RenderingNetworks
from moda.structures import EmotionAt, Floats, Picture, Style
from moda.structures.keypoints import EYE_KEYPOINTS
from moda.systems.published import PublishedSystem, load_published_system
from moda.weights.checkpoints import Checkpoint
from moda.weights.official import LivePortrait, load_published_space
from paths import PORTRAIT

LAYERS, CHANNELS = 2, 32
TINY_HUBERT = {
    "hidden_size": CHANNELS, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
    "intermediate_size": 64, "conv_dim": [16] * 7, "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
TINY_RENDERING = RenderingConfig(
    picture_channels=(8, 8, 16),
    volume_channels=8,
    volume_depth=2,
    num_residual_blocks=1,
    compressed_channels=2,
    hourglass_channels=(4, 8, 8),
    feature_channels=16,
    generator_channels=(16, 8, 8),
    spade_hidden=8,
)


SMALL = FrameOptions(size=128)


def photograph_file() -> Picture:
    return read_image(PORTRAIT)


def speech_encoder() -> HubertEncoder:
    model = build_hubert(TINY_HUBERT).to_empty(device="cpu")
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return HubertEncoder(model)


@pytest.fixture(scope="module")
def system(models: FaceModels) -> PublishedSystem:
    """The real classes at small sizes, with weights that have learned nothing."""
    torch.manual_seed(0)
    config = preset("moda-base")
    features = replace(config.motion.speech, layers=LAYERS, channels=CHANNELS)
    sizes = {"hidden": 32, "num_heads": 2, "four_stream_blocks": 1, "two_stream_blocks": 1}
    motion = replace(config.motion, speech=features, one_stream_blocks=1, **sizes)
    model = MotionTransformer(motion).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    config = replace(config, motion=motion, sampler=SamplerConfig(num_steps=2))
    live_portrait = LivePortrait(
        MotionExtractor((1, 1, 1, 1), (8, 8, 8, 16)).eval(),
        RenderingNetworks(TINY_RENDERING).eval(),
    )
    checkpoint = Checkpoint(model, load_published_space(), config, {})
    return PublishedSystem(checkpoint, models, live_portrait, speech_encoder())


@pytest.fixture(scope="module")
def head(system: PublishedSystem) -> TalkingHead:
    return TalkingHead(system)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("speech") / "speech.wav", tone(5.1, 16_000), 16_000)


def all_motion(head: TalkingHead, speech: Path, **options: object) -> Floats:
    video = head.generate(PORTRAIT, speech, size=128, **options)
    return np.concatenate([motion.values for motion in video.motion()])


class TestGenerate:
    def test_picture_and_sound_agree(self, head: TalkingHead, tmp_path: Path) -> None:
        sound = write_wav(tmp_path / "speech.wav", click(0.334, 44_100, at=0.2), 44_100)
        video = head.generate(PORTRAIT, sound, size=128, frames_per_second=30)
        written = decode_video(video.write(tmp_path / "talk.mp4").path)
        assert len(written.frames) == 11
        assert written.loudest_at == pytest.approx(0.2, abs=0.001)
        assert written.sound_seconds == pytest.approx(11 / 30, abs=1e-3)

    def test_the_same_again_and_another_seed(self, head: TalkingHead, speech: Path) -> None:
        first, again, other = (all_motion(head, speech, seed=seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert len(first) == 128
        assert np.abs(first - other).max() > 0.01

    def test_the_picture_keeps_its_size(self, head: TalkingHead, speech: Path) -> None:
        image = np.pad(photograph_file(), ((0, 1), (0, 3), (0, 0)), mode="edge")
        assert head.generate(image, speech).frame_size == (514, 512)
        assert head.generate(image, speech, size=300).frame_size == (300, 298)
        assert head.generate(image, speech, full_frame=False).frame_size == (512, 512)

    def test_speech_moves_with_the_portraits_own_scale(
        self, head: TalkingHead, speech: Path
    ) -> None:
        actor = head.system.prepare(photograph_file(), SMALL)
        scale = head.space.slice("scale")
        assert set(all_motion(head, speech)[:, scale].ravel()) == {actor.rest[scale].item()}

    def test_amounts_of_zero_hold_still(self, head: TalkingHead, speech: Path) -> None:
        rest = head.system.prepare(photograph_file(), SMALL).rest
        still = all_motion(head, speech, head_motion=0.0, expression=0.0)
        np.testing.assert_array_equal(still, np.broadcast_to(rest, still.shape))

    def test_eyes_are_held(self, head: TalkingHead, speech: Path) -> None:
        rest = head.system.prepare(photograph_file(), SMALL).rest[:63].reshape(21, 3)
        held, free = (
            all_motion(head, speech, blink=blink)[:, :63].reshape(-1, 21, 3)
            for blink in (False, True)
        )
        eyes = list(EYE_KEYPOINTS)
        assert not np.ptp(held[:, eyes], axis=0).any()
        np.testing.assert_array_equal(held[0, eyes], rest[eyes])
        assert np.ptp(free[:, eyes], axis=0).min() > 0
        np.testing.assert_array_equal(np.delete(held, eyes, 1), np.delete(free, eyes, 1))

    def test_emotions_change_the_motion(self, head: TalkingHead, speech: Path) -> None:
        plain = all_motion(head, speech)
        happy = all_motion(head, speech, style=Style((EmotionAt(0.0, "happy"),)))
        assert np.abs(plain - happy).max() > 1e-4


class TestReference:
    """The released implementation's way of doing things."""

    def test_the_silence_is_cut_off_again(self, system: PublishedSystem, speech: Path) -> None:
        ours, theirs = (
            all_motion(TalkingHead(replace(system, compat=compat)), speech)
            for compat in (None, "reference")
        )
        assert ours.shape == theirs.shape == (128, 70)
        assert np.abs(ours - theirs).max() > 1e-3


def test_a_driving_video_moves_a_portrait(head: TalkingHead, tmp_path: Path) -> None:
    picture = photograph_file()[::2, ::2]
    frames = [np.roll(picture, shift, axis=1) for shift in (0, 0, 2, 4, 6, 8)]
    driving = write_video(tmp_path / "in.mkv", frames, [40 * n for n in range(len(frames))])
    video = head.reenact(PORTRAIT, driving, size=128)
    assert len(decode_video(video.write(tmp_path / "talk.mp4").path).frames) == 6
    still = head.reenact(PORTRAIT, driving, size=128, head_motion=0.0, expression=0.0)
    rest = head.system.prepare(photograph_file(), SMALL).rest
    values = np.concatenate([motion.values for motion in still.motion()])
    np.testing.assert_array_equal(values, np.tile(rest, (6, 1)))


@pytest.mark.parametrize(
    ("precision", "compat", "says"),
    [("int8", None, "unknown precision 'int8'"), ("float32", "v2", "unknown compat 'v2'")],
)
def test_unknown_options(
    system: PublishedSystem, precision: str, compat: str | None, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        load_published_system(system.checkpoint, "cpu", precision, compat)


def test_missing_networks_are_named(
    system: PublishedSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODA_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match="moda models download liveportrait"):
        load_published_system(system.checkpoint, "cpu", "float32", None)


@pytest.mark.slow
def test_the_whole_way_at_full_size(
    published_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content means nothing with these weights; sizes, lengths and the chain do."""
    monkeypatch.setenv("MODA_HOME", str(published_folder))
    samples = tone(0.08, 16_000)
    speech = write_wav(tmp_path / "speech.wav", samples, 16_000)
    head = TalkingHead.from_pretrained("moda-base", device="cpu")
    video = head.generate(PORTRAIT, speech, size=256, num_steps=2)
    written = decode_video(video.write(tmp_path / "talk.mp4").path)
    assert [frame.shape for frame in written.frames] == [(256, 256, 3)] * 2
    outside = np.s_[:8, :8]
    still = photograph_file()[::2, ::2][outside].astype(int)
    assert np.abs(written.frames[1][outside].astype(int) - still).mean() < 12
