"""Network configuration and named presets, without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lesionlens.base.errors import ConfigError
from lesionlens.base.labels import Region


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Hyperparameters of one network."""

    channels: tuple[int, int, int, int]
    """(4,) int: channels at 1/1, 1/2, 1/4 and 1/8 of the grid."""
    blocks: tuple[int, int, int] = (1, 2, 1)
    """(3,) int: residual blocks of the encoder at 1/2, 1/4 and 1/8."""
    layers: int = 4
    heads: int = 4
    ratio: int = 2
    """Self-attention over the tokens at 1/8."""
    query_dim: int = 64
    """Channels of a query."""
    query_heads: tuple[int, int, int] = (2, 2, 1)
    """(3,) int: cross-attention heads at 1/4, 1/2 and 1/1."""
    regions: int = len(Region)
    """Region queries; one more than there are regions if the resection cavity is outlined too."""
    lesions: int = 0
    """Lesion queries; 0 omits that branch."""
    inputs: int = 8
    """Sequences and presence channels."""
    design: str = "hybrid"
    """A key of `network.build.DESIGNS`."""

    def with_cavity(self) -> NetworkConfig:
        """Return the configuration of the same network that also outlines the cavity."""
        return replace(self, regions=len(Region) + 1)


PRESETS: dict[str, NetworkConfig] = {
    "tiny": NetworkConfig(
        channels=(8, 16, 32, 64), blocks=(1, 1, 1), layers=2, query_dim=32, lesions=8),
    "base": NetworkConfig(channels=(16, 32, 64, 128), lesions=12),
    "large": NetworkConfig(
        channels=(16, 48, 96, 192), blocks=(2, 2, 2), layers=6, heads=6, lesions=16),
}  # fmt: skip
"""Name to configuration."""


def preset(name: str) -> NetworkConfig:
    """Return a preset.

    Raises
    ------
    ConfigError
        Unknown preset.
    """
    if name not in PRESETS:
        raise ConfigError(
            found=f'network "{name}"',
            expected=f"one of {', '.join(PRESETS)}",
            next_step="Choose a preset, or give the sizes themselves",
        )
    return PRESETS[name]
