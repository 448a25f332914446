"""Preparation for the neural space: with small networks, and with the published ones filled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from moda import cli
from moda.data import clip_jobs
from moda.data.clip_jobs import PrepareOptions, track_clip
from moda.data.clips import read_clips
from moda.data.corpora import CorpusClip, read_corpus
from moda.data.neural import NeuralEncoders
from moda.data.prepare import prepare_corpus
from moda.data.quality import QualityLimits
from moda.encoders.neural.hubert import (
    HubertEncoder,
    build_hubert,
    encode_speech_hubert,
    pre_emphasise,
)
from moda.encoders.neural.motion_extractor import MotionExtractor, extract_faces
from moda.structures import Floats
from moda.workers import run_here
from official_files import Shapes, State, write_hubert, write_live_portrait, zeros
from published_weights import fill
from talking_videos import Talk

OPTIONS = PrepareOptions(
    QualityLimits(
        min_seconds=0.2,
        min_speech_share=0.0,
        min_lip_correlation=-1.0,
        min_lip_correlation_of_a_second=-1.0,
    ),
    space="neural",
)
SMALL_HUBERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [8] * 7,
    "num_conv_pos_embedding_groups": 4,
}


@pytest.fixture(scope="module")
def encoders() -> Iterator[NeuralEncoders]:
    """The real networks at small sizes, computed on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    extractor = MotionExtractor(depths=(1, 1, 1, 1), channels=(8, 8, 8, 8)).eval()
    hubert = build_hubert(SMALL_HUBERT)
    shapes = {key: tuple(value.shape) for key, value in hubert.state_dict().items()}
    hubert.load_state_dict(fill("small_hubert", shapes), assign=True)
    yield NeuralEncoders(extractor, HubertEncoder(hubert))
    torch.set_num_threads(threads)


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch, encoders: NeuralEncoders) -> None:
    monkeypatch.setattr(clip_jobs, "_encoders", lambda device: encoders)
    monkeypatch.setattr("moda.data.prepare.require_networks", lambda: None)


def example(talk: Talk, path: Path, **labels: object) -> CorpusClip:
    return CorpusClip(talk.part(0, 15).write(path), path.stem, "anna", **labels)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_small")
def test_motion_identity_and_features(talk: Talk, tmp_path: Path, encoders: NeuralEncoders) -> None:
    prepared, _ = track_clip(example(talk, tmp_path / "a.mp4"), OPTIONS)
    neural = prepared.neural
    assert neural is not None
    assert neural.motion.shape == (2, len(prepared.track), 70)
    assert neural.motion.dtype == np.float32
    assert neural.identity.shape == (2, 63)
    assert np.ptp(neural.motion[0], axis=0).max() > 1e-3, "it moves"
    assert np.abs(neural.motion[0] - neural.motion[1]).max() > 1e-3, (
        "a face is not its mirror image"
    )
    assert neural.features.shape == (len(prepared.track), 64)
    assert neural.features.dtype == np.float16
    speech = encode_speech_hubert(pre_emphasise([prepared.sound]), encoders.hubert)
    expected = np.concatenate([part.features for part in speech])[: len(neural.features)]
    np.testing.assert_allclose(neural.features, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.usefixtures("_small")
def test_the_mirrored_video_is_the_other_half(talk: Talk, tmp_path: Path) -> None:
    """What the networks say of the mirror image is what they say of the mirrored video."""
    one, _ = track_clip(example(talk, tmp_path / "a.mp4"), OPTIONS)
    mirrored = talk.each(lambda picture: picture[:, ::-1])
    other, _ = track_clip(example(mirrored, tmp_path / "b.mp4"), OPTIONS)
    assert one.neural is not None
    assert other.neural is not None
    spread = np.abs(one.neural.motion[0] - one.neural.motion[1]).mean()
    for mine, theirs in ((0, 1), (1, 0)):
        difference = np.abs(one.neural.motion[mine] - other.neural.motion[theirs]).mean()
        assert difference < 0.7 * spread
        own, same = one.neural.identity[mine], other.neural.identity[theirs]
        assert np.abs(own - same).mean() < 0.7 * np.abs(own - one.neural.identity[1 - mine]).mean()


@pytest.mark.usefixtures("_small")
def test_silence_after_the_sound_and_no_sound_at_all(
    encoders: NeuralEncoders, talk: Talk, tmp_path: Path
) -> None:
    sound: Floats = talk.sound[: 10 * 640]
    longer = encoders.hear(sound, 14)
    assert longer.shape == (14, 64)
    padded = encoders.hear(np.pad(sound, (0, 4 * 640)), 14)
    np.testing.assert_array_equal(longer, padded)
    assert encoders.hear(sound, 4).shape == (4, 64)
    clip = example(talk, tmp_path / "a.mp4", has_own_sound=False)
    prepared, reasons = track_clip(clip, OPTIONS)
    assert prepared.neural is not None
    assert prepared.neural.features.shape == (0, 64)
    assert reasons == []


@pytest.mark.usefixtures("_small")
def test_shards_of_the_neural_space(talk: Talk, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    for name in ("a", "b"):
        example(talk, videos / f"{name}.mp4")
    output = tmp_path / "out"
    prepare_corpus(read_corpus("folder", videos), output, options=OPTIONS, run_jobs=run_here)
    clips = read_clips([output])
    rows = np.concatenate([clip.neural.motion.reshape(-1, 70) for clip in clips if clip.neural])
    index = json.loads((output / "index.json").read_text())
    assert index["space"] == "neural"
    assert index["statistics"]["num_frames"] == len(rows) == 60
    np.testing.assert_allclose(index["statistics"]["mean"], rows.mean(0, np.float64), atol=1e-9)
    np.testing.assert_allclose(index["statistics"]["std"], rows.std(0, np.float64), atol=1e-7)


def only_the_extractor(network: str, shapes: Shapes) -> State:
    return fill(network, shapes) if network == "motion_extractor" else zeros(network, shapes)


@pytest.mark.slow
def test_the_command_with_the_published_networks(
    talk: Talk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of the official layout at full size, converted; the renderer's weights are zeros."""
    official, models = tmp_path / "official", tmp_path / "models"
    write_live_portrait(official, only_the_extractor)
    write_hubert(official)
    for arguments in (
        ["models", "convert", str(official), "--output-folder", str(models)],
        ["prepare", str(tmp_path / "videos"), str(tmp_path / "out"), "--space", "neural",
         "--keep-all"],
    ):  # fmt: skip
        monkeypatch.setenv("MODA_HOME", str(models))
        example(talk, tmp_path / "videos" / "a.mp4")
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 0
    (clip,) = read_clips([tmp_path / "out"])
    assert clip.neural is not None
    assert clip.neural.features.shape == (15, 12 * 768)
    assert np.isfinite(clip.neural.features).all()
    assert clip.neural.motion.shape == (2, 15, 70)
    network = NeuralEncoders.load("cpu").extractor
    crop = np.full((1, 256, 256, 3), 99, np.uint8)
    assert np.isfinite(extract_faces(network, crop)[0].motion).all()
