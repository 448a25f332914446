"""A network that tells whether lips and speech belong together, and what it teaches.

Speech and lip motion are embedded by a network each, so that the cosine of what was said and what
the lips did at the same time is high (SyncNet, Chung and Zisserman 2016, with the symmetric
contrastive loss of CLIP, arXiv 2103.00020, section 2.3, in place of the margin).

Axis letters: B batch, T frames, P = T - 2 REACH positions, M lip numbers, F speech features,
E embedding, N pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moda.errors import CheckpointError, ConfigError
from moda.strict_json import from_json, to_json
from moda.weights.checkpoints import load_weights, read_network_weights, save_network_weights

KIND = "sync expert"
LAYERS = 3
KERNEL = 5
REACH = LAYERS * (KERNEL // 2)
"""Frames on either side of a frame that its embedding knows: windows of 13 frames, 0.52 s."""
CLOSE_FRAMES = 2
"""Pairs of one clip that are no further apart are neither right nor wrong."""
LARGEST_SCALE = 100.0


@dataclass(frozen=True)
class SyncConfig:
    """Sizes of the network."""

    lip_size: int
    speech_size: int
    width: int = 128
    embedding: int = 64
    dropout: float = 0.2

    def __post_init__(self) -> None:
        for name in ("lip_size", "speech_size", "width", "embedding"):
            if not 1 <= getattr(self, name) <= 100_000:
                raise ConfigError(f"sync expert: {name} {getattr(self, name)} is outside 1..100000")


class Tower(nn.Module):
    """(B, T, n) -> unit vectors (B, P, E)."""

    def __init__(self, size: int, config: SyncConfig) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(size)
        self.first = nn.Conv1d(size, config.width, 1)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.GELU(),
                nn.Dropout(config.dropout),
                nn.Conv1d(config.width, config.width, KERNEL),
                nn.BatchNorm1d(config.width),
            )
            for _ in range(LAYERS)
        )
        self.last = nn.Conv1d(config.width, config.embedding, 1)

    def forward(self, values: Tensor) -> Tensor:
        hidden = self.first(self.norm(values.transpose(1, 2)))
        for layer in self.layers:
            hidden = layer(hidden)
        embedded: Tensor = self.last(F.gelu(hidden)).transpose(1, 2)
        return F.normalize(embedded, dim=-1)


class SyncExpert(nn.Module):
    """Unit vectors of lips and of speech; their product is how surely they belong together."""

    def __init__(self, config: SyncConfig) -> None:
        super().__init__()
        self.config = config
        self.lips = Tower(config.lip_size, config)
        self.speech = Tower(config.speech_size, config)
        self.log_scale = nn.Parameter(torch.tensor(2.5))

    def agreement(self, lips: Tensor, speech: Tensor) -> Tensor:
        """Cosines (B, P) of normalised lips (B, T, M) and speech features (B, T, F)."""
        return (self.lips(lips) * self.speech(speech)).sum(-1)

    def contrastive_loss(self, lips: Tensor, speech: Tensor, close: Tensor) -> Tensor:
        """Cross entropy of finding the partner of each of N embedded pairs (N, E), both ways.

        ``close`` (N, N) are pairs too near to each other to be wrong.
        """
        scale = self.log_scale.exp().clamp(max=LARGEST_SCALE)
        logits: Tensor = scale * lips @ speech.T
        apart = ~torch.eye(len(lips), dtype=torch.bool, device=lips.device)
        logits = logits.masked_fill(close & apart, -torch.inf)
        target = torch.arange(len(lips), device=lips.device)
        both: Tensor = F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)
        return 0.5 * both


def gated_sync_loss(
    expert: SyncExpert,
    estimated: Tensor,
    true: Tensor,
    speech: Tensor,
    weight: Tensor,
    gate: float,
) -> Tensor:
    """``1 - cosine`` of estimated lips and speech where the expert knows better.

    ``estimated`` and ``true`` lips are (B, T, M), ``speech`` (B, T, F), ``weight`` (B, T) is 0
    where nothing is to be learned. A position counts if the *real* lips agree with the speech by
    at least ``gate``: elsewhere, in pauses, bad sound or clips out of sync, the expert would teach
    its own errors. The sum over these is divided by all positions.
    """
    heard = expert.speech(speech)
    with torch.no_grad():
        passes = ((expert.lips(true) * heard).sum(-1) >= gate).float()
    cosine = (expert.lips(estimated) * heard).sum(-1)
    counts = weight[:, REACH : weight.shape[1] - REACH] * passes
    return (counts * (1.0 - cosine)).mean()


def save_expert(path: Path, expert: SyncExpert, metadata: dict[str, str]) -> None:
    """Write an expert, whole or not at all. Raises :class:`OutputError`."""
    config = to_json(expert.config)
    save_network_weights(path, KIND, expert.state_dict(), config=config, metadata=metadata)


def load_expert(path: Path) -> tuple[SyncExpert, dict[str, str]]:
    """Read an expert, frozen, in evaluation mode, and what its file says of it.

    Raises:
        CheckpointError: the file is missing, damaged, or of another kind.
    """
    file = read_network_weights(path, KIND)
    try:
        config = from_json(SyncConfig, file.config)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    expert = SyncExpert(config)
    load_weights(expert, file.weights)
    return expert.eval().requires_grad_(False), file.metadata
