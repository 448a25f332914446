"""The sync expert finds the speech of lips, and only where there is something to find."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from moda.data.dataset import TrainingClip
from moda.errors import CheckpointError, InputError
from moda.structures import MotionSpace
from moda.training.keypoint_metric import lip_columns
from moda.training.stages import TrainingData, make_expert, space_digest
from moda.training.sync.expert import ExpertOptions, sync_accuracy, train_expert
from moda.training.sync.network import (
    CLOSE_FRAMES,
    REACH,
    SyncConfig,
    SyncExpert,
    load_expert,
    save_expert,
)

OPTIONS = ExpertOptions(
    steps=150, batch_size=8, pairs=8, learning_rate=1e-2, width=32, embedding=16, dropout=0.0
)


def clips(
    space: MotionSpace, names: str, *, follow: bool = True, lag: int = 0
) -> list[TrainingClip]:
    """Lips that say the first features, each lip number another one, or have nothing to do with
    them."""
    made = []
    for name in names:
        generator = np.random.default_rng(ord(name))
        features = generator.standard_normal((160, 8)).astype(np.float32)
        motion = 0.1 * generator.standard_normal((160, space.size)).astype(np.float32)
        if follow:
            motion[:, lip_columns(space)[:8]] += np.roll(features, lag, axis=0)
        identity = np.zeros(63, np.float32)
        made.append(
            TrainingClip(
                name,
                name,
                8,
                (motion, motion),
                (identity, identity),
                (features,),
                np.zeros((0, 2)),
                lag=float(lag),
            )
        )
    return made


@pytest.fixture(scope="module")
def expert(published_space: MotionSpace) -> SyncExpert:
    return train_expert(
        clips(published_space, "abcdefghijklmnop"), published_space, options=OPTIONS, augment=False
    )


def test_it_finds_speech_of_strangers(published_space: MotionSpace, expert: SyncExpert) -> None:
    found = sync_accuracy(expert, clips(published_space, "xyz"), published_space)
    assert found.shifted > 0.9
    assert found.shifted_mean > 0.95
    assert found.others > 0.9
    assert found.agreement > 0.4
    assert found.num_positions == 3 * 24  # every fifth of 160 - 12 - 30 positions, rounded up
    assert "chance" in found.line()


def test_it_finds_nothing_where_nothing_is(
    published_space: MotionSpace, expert: SyncExpert
) -> None:
    found = sync_accuracy(expert, clips(published_space, "xyz", follow=False), published_space)
    assert found.shifted < 3 / 31 + 4 * np.sqrt(0.1 * 0.9 / 72)
    assert found.others < 1 / 31 + 4 * np.sqrt(0.03 / 72)
    assert found.agreement < 0.2


def test_known_lags_are_undone(published_space: MotionSpace, expert: SyncExpert) -> None:
    late = clips(published_space, "xyz", lag=4)
    assert sync_accuracy(expert, late, published_space).shifted > 0.9
    unknown = [replace(clip, lag=0.0) for clip in late]
    assert sync_accuracy(expert, unknown, published_space).shifted < 0.4


def test_contrastive_loss_in_closed_form() -> None:
    """Against numpy: pair by pair, without those of one clip that are too near."""
    generator = np.random.default_rng(0)
    lips, speech = generator.standard_normal((2, 5, 3))
    lips /= np.linalg.norm(lips, axis=1, keepdims=True)
    speech /= np.linalg.norm(speech, axis=1, keepdims=True)
    close = np.eye(5, dtype=bool)
    close[0, 1] = close[1, 0] = True
    expert = SyncExpert(SyncConfig(2, 2))
    scale = np.exp(expert.log_scale.item())
    total = 0.0
    for first, second in ((lips, speech), (speech, lips)):
        for i in range(5):
            others = [j for j in range(5) if j == i or not close[i, j]]
            terms = [np.exp(scale * first[i] @ second[j]) for j in others]
            total -= np.log(np.exp(scale * first[i] @ second[i]) / np.sum(terms)) / 10.0
    found = expert.contrastive_loss(
        torch.from_numpy(lips), torch.from_numpy(speech), torch.from_numpy(close)
    )
    assert found.item() == pytest.approx(total, rel=1e-6)


def test_an_embedding_knows_thirteen_frames() -> None:
    expert = SyncExpert(SyncConfig(4, 4)).eval()
    values = torch.randn(1, 40, 4)
    changed = values.clone()
    changed[0, 20] += 1.0
    with torch.no_grad():
        difference = (expert.lips(values) - expert.lips(changed)).abs().sum(-1)[0]
    touched = torch.nonzero(difference > 1e-7).flatten()
    assert touched.min() == 20 - 2 * REACH
    assert touched.max() == 20
    assert REACH > CLOSE_FRAMES


def test_it_is_written_with_what_it_can_do(
    published_space: MotionSpace, expert: SyncExpert, tmp_path: Path
) -> None:
    path = tmp_path / "expert.safetensors"
    said: list[str] = []
    data = TrainingData(
        published_space, clips(published_space, "abcd"), clips(published_space, "xyz")
    )
    make_expert(data, replace(OPTIONS, steps=2), path, seed=0, say=said.append)
    assert "3 held-out clips" in said[-1]
    loaded, metadata = load_expert(path)
    assert metadata["space"] == space_digest(published_space)
    assert 0.0 <= float(metadata["others"]) <= 1.0
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    save_expert(path, expert, {})
    again, _ = load_expert(path)
    values = torch.randn(1, 30, 18)
    assert torch.equal(again.lips(values), expert.lips(values))


def test_what_it_refuses(published_space: MotionSpace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two clips with sound of at least 64 frames; there are 1"):
        train_expert(clips(published_space, "a"), published_space, options=OPTIONS, augment=False)
    with pytest.raises(InputError, match="two held-out clips"):
        sync_accuracy(
            SyncExpert(SyncConfig(18, 8)).eval(), clips(published_space, "x"), published_space
        )
    broken = clips(published_space, "abc")
    for clip in broken:
        clip.motion[0][:] = np.nan
    with pytest.raises(InputError, match=r"loss is nan at step 0; .* a"):
        train_expert(broken, published_space, options=replace(OPTIONS, steps=1), augment=False)
    with pytest.raises(CheckpointError):
        load_expert(tmp_path / "nowhere.safetensors")
