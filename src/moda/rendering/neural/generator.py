"""Features of a frame to its picture (LivePortrait's network G).

A SPADE decoder (arXiv 1903.07291) that is modulated by its own input, with pixel shuffle at the
end (arXiv 1609.05158), as LivePortrait (arXiv 2407.03168, section 3.2) trained it. Attribute
names are the keys of the released file, once :func:`resolve_spectral_norm` has been there.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from moda.errors import CheckpointError
from moda.rendering.neural.layers import RenderingConfig

LEAKY_SLOPE = 0.2
NUM_MIDDLE_BLOCKS = 6


def leaky_relu(features: Tensor, *, inplace: bool = False) -> Tensor:
    """Leaky ReLU of the generator's slope."""
    return F.leaky_relu(features, LEAKY_SLOPE, inplace=inplace)


def enlarge(features: Tensor, factor: int) -> Tensor:
    """Every position repeated ``factor`` times in both directions."""
    return F.interpolate(features, scale_factor=factor, mode="nearest")


class SpadeNorm(nn.Module):
    """Instance norm with a scale and shift of every position, made of a map (SPADE, eq. 1-2)."""

    def __init__(self, channels: int, map_channels: int, hidden: int) -> None:
        super().__init__()
        shared = nn.Conv2d(map_channels, hidden, kernel_size=3, padding=1)
        self.mlp_shared = nn.Sequential(shared, nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, kernel_size=3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, kernel_size=3, padding=1)

    @property
    def shared(self) -> nn.Conv2d:
        """The convolution that scale and shift have in common."""
        conv = self.mlp_shared[0]
        assert isinstance(conv, nn.Conv2d)
        return conv

    def forward(self, features: Tensor, enlarged_map: Tensor) -> Tensor:
        """Features (B, C, H, W) and the map at the same size."""
        activated = self.mlp_shared(enlarged_map)
        gamma, beta = self.mlp_gamma(activated), self.mlp_beta(activated)
        return F.instance_norm(features) * (1 + gamma) + beta


class SpadeBlock(nn.Module):
    """Residual block of two modulated convolutions; a third one where the width changes.

    With a ``factor`` of more than 1 the block works at that many times the size of the map, and
    doubles the features first, which come from a block of half its factor.
    """

    def __init__(
        self, channels_in: int, channels_out: int, map_channels: int, hidden: int, factor: int
    ) -> None:
        super().__init__()
        middle = min(channels_in, channels_out)
        self.factor = factor
        self.learned_shortcut = channels_in != channels_out
        self.conv_0 = nn.Conv2d(channels_in, middle, kernel_size=3, padding=1)
        self.conv_1 = nn.Conv2d(middle, channels_out, kernel_size=3, padding=1)
        self.norm_0 = SpadeNorm(channels_in, map_channels, hidden)
        self.norm_1 = SpadeNorm(middle, map_channels, hidden)
        if self.learned_shortcut:
            self.conv_s = nn.Conv2d(channels_in, channels_out, kernel_size=1, bias=False)
            self.norm_s = SpadeNorm(channels_in, map_channels, hidden)

    def forward(self, features: Tensor, feature_map: Tensor) -> Tensor:
        large = feature_map
        if self.factor > 1:
            features, large = enlarge(features, 2), enlarge(feature_map, self.factor)
        change = self.conv_0(leaky_relu(self.norm_0(features, large)))
        change = self.conv_1(leaky_relu(self.norm_1(change, large)))
        if self.learned_shortcut:
            features = self.conv_s(self.norm_s(features, large))
        return features + change


class SpadeGenerator(nn.Module):
    """Features (B, 256, 64, 64) -> RGB (B, 3, 512, 512) in 0..1."""

    def __init__(self, config: RenderingConfig) -> None:
        super().__init__()
        small, double, fourfold = config.generator_channels
        feature_channels, hidden = config.feature_channels, config.spade_hidden
        self.fc = nn.Conv2d(feature_channels, small, kernel_size=3, padding=1)
        for index in range(NUM_MIDDLE_BLOCKS):
            block = SpadeBlock(small, small, feature_channels, hidden, factor=1)
            self.add_module(f"G_middle_{index}", block)
        self.up_0 = SpadeBlock(small, double, feature_channels, hidden, factor=2)
        self.up_1 = SpadeBlock(double, fourfold, feature_channels, hidden, factor=4)
        shuffle = nn.PixelShuffle(2)
        self.conv_img = nn.Sequential(
            nn.Conv2d(fourfold, 3 * 2 * 2, kernel_size=3, padding=1), shuffle
        )

    def forward(self, feature_map: Tensor) -> Tensor:
        features = self.fc(feature_map)
        for index in range(NUM_MIDDLE_BLOCKS):
            features = self.get_submodule(f"G_middle_{index}")(features, feature_map)
        features = self.up_0(features, feature_map)
        features = self.up_1(features, feature_map)
        return self.conv_img(leaky_relu(features)).sigmoid()


def resolve_spectral_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official tensors with every spectrally normalised weight as one plain ``weight``.

    ``weight = weight_orig / (u^T W v)``, with ``W`` the weight as a matrix (out, rest) and ``u``
    and ``v`` as they are stored (spectral normalisation, arXiv 1802.05957, algorithm 1), in
    float64. Raises CheckpointError if one of the three is missing.
    """
    resolved: dict[str, Tensor] = {}
    for key, tensor in state.items():
        layer, _, part = key.rpartition(".")
        if part not in ("weight_orig", "weight_u", "weight_v"):
            resolved[key] = tensor
            continue
        parts = [f"{layer}.weight_{name}" for name in ("orig", "u", "v")]
        missing = [name for name in parts if name not in state]
        if missing:
            raise CheckpointError(
                f"{key} is of a spectral norm, but {' and '.join(missing)} is missing; "
                "take the complete official file"
            )
        if part == "weight_orig":
            weight, u, v = (state[name].double() for name in parts)
            resolved[f"{layer}.weight"] = (weight / (u @ weight.flatten(1) @ v)).float()
    return resolved
