"""Read the self-attention of transformer blocks in a MONAI network during a forward pass.

MONAI keeps attention weights only if `save_attn` was set at construction, does not combine it with
flash attention, and has no such option for Swin blocks. Here the explicit form is enabled for one
pass, the softmax is recorded, and every setting is restored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import torch
from monai.networks.blocks.patchembedding import PatchEmbed, PatchEmbeddingBlock
from monai.networks.blocks.selfattention import SABlock
from monai.networks.nets.swin_unetr import (
    SwinTransformerBlock,
    get_window_size,
    window_partition,
    window_reverse,
)
from torch import Tensor, nn
from torch.nn import functional

from lesionlens.engines.separable import normalise_sums

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Attention weights of one block, averaged over heads."""

    weights: Tensor
    """(W, n, n) Tensor: of n tokens in each of W windows, rows sum to one; one window for global
    attention."""
    grid: Triple
    """(3,) int: number of tokens along I, J, K."""
    window: Triple
    shift: Triple = (0, 0, 0)
    """(3,) int: tokens per window, and the cyclic shift of windows."""

    def propagate(self, rows: Tensor) -> Tensor:
        """Propagate (R, I, J, K) token weights back through this layer."""
        padding = [
            n for size, w in zip(reversed(self.grid), reversed(self.window), strict=True)
            for n in (0, -size % w)
        ]  # fmt: skip
        padded = functional.pad(rows, padding).permute(1, 2, 3, 0)[None]
        rolled = torch.roll(padded, [-n for n in self.shift], (1, 2, 3))
        windows = window_partition(rolled, self.window)
        attended = self.weights.float().transpose(1, 2) @ windows
        merged = window_reverse(
            attended.view(-1, *self.window, len(rows)), self.window, rolled.shape[:4]
        )
        i, j, k = self.grid
        return torch.roll(merged, self.shift, (1, 2, 3))[0, :i, :j, :k].permute(3, 0, 1, 2)


def has_blocks(network: nn.Module) -> bool:
    """Return whether a network has blocks whose attention can be read."""
    return any(isinstance(m, SABlock | SwinTransformerBlock) for m in network.modules())


def token_edge(network: nn.Module, size: Sequence[int]) -> int:
    """Return the edge of the network's finest tokens in voxels of an input of this size."""
    edges = []
    for module in network.modules():
        if isinstance(module, PatchEmbed):
            edges.append(max(module.patch_size))
        elif isinstance(module, PatchEmbeddingBlock):
            edges.append(round((math.prod(size) / int(module.n_patches)) ** (1 / 3)))
    return min(edges, default=1)


@contextmanager
def recording(network: nn.Module, size: Sequence[int]) -> Iterator[list[Layer]]:
    """Record the attention of every block in the next forward pass, first to last.

    Parameters
    ----------
    network : nn.Module
        The network; run once, with a batch of one.
    size : (3,) int
        Voxels of the input along I, J, K.

    Yields
    ------
    list of Layer
        Filled by the pass; blocks without a regular token grid are omitted.
    """
    layers: list[Layer] = []
    with ExitStack() as restored:
        for module in network.modules():
            if isinstance(module, SABlock):
                for setting in ("use_flash_attention", "save_attn", "att_mat"):
                    restored.callback(setattr, module, setting, getattr(module, setting))
                module.use_flash_attention, module.save_attn = False, True
                note = partial(_note_global, layers, size)
                restored.enter_context(module.register_forward_hook(note))
            elif isinstance(module, SwinTransformerBlock):
                attention, shape = module.attn, list[Triple]()
                is_fast = attention.use_flash_attention
                restored.callback(setattr, attention, "use_flash_attention", is_fast)
                attention.use_flash_attention = False
                note_shape = partial(_note_shape, shape)
                restored.enter_context(module.register_forward_pre_hook(note_shape))
                note_windows = partial(_note_windows, layers, shape, module)
                restored.enter_context(attention.softmax.register_forward_hook(note_windows))
        yield layers


def _note_global(
    layers: list[Layer], size: Sequence[int], module: SABlock, inputs: Any, output: Any
) -> None:
    del inputs, output
    weights = module.att_mat[:1].float().mean(1)
    count = weights.shape[-1]
    edge = max(1, round((size[0] * size[1] * size[2] / count) ** (1 / 3)))
    grid = (size[0] // edge, size[1] // edge, size[2] // edge)
    voxels = grid[0] * grid[1] * grid[2]
    if count - voxels in (0, 1):  # a leading class token has no position
        tokens = slice(count - voxels, count)
        layers.append(Layer(weights[:, tokens, tokens], grid, grid))


def _note_shape(shape: list[Triple], module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    del module
    _, i, j, k, _ = inputs[0].shape
    shape[:] = [(i, j, k)]


def _note_windows(
    layers: list[Layer],
    shape: list[Triple],
    block: SwinTransformerBlock,
    module: nn.Module,
    inputs: Any,
    output: Tensor,
) -> None:
    del module, inputs
    (grid,) = shape
    window, shift = get_window_size(grid, block.window_size, block.shift_size)
    layers.append(Layer(output.mean(1).half(), grid, window, shift))


def of_regions(layers: Sequence[Layer], region_weights: Tensor) -> Tensor:
    """Propagate attention from the segmented regions back through the blocks.

    Blocks with the same token grid form a stage. In each stage, attention rollout starts from the
    tokens in the region; stages are averaged, because the decoders of UNETR and SwinUNETR use all
    of them.

    Parameters
    ----------
    layers : sequence of Layer
        Layers of one pass, first to last; at least one.
    region_weights : (R, I, J, K) Tensor
        Non-negative weights of each region, on the input's voxels.

    Returns
    -------
    (R, I, J, K) float32 Tensor
        Weights that sum to one, or to zero if the region is absent.

    Notes
    -----
    Abnar and Zuidema 2020, doi:10.18653/v1/2020.acl-main.385, equation 1, as in
    `engines.attention`, from a region instead of from one token.
    """
    total = torch.zeros_like(region_weights)
    stages = [list(stage) for _, stage in groupby(layers, key=lambda layer: layer.grid)]
    for stage in stages:
        rows = _on_tokens(region_weights, stage[0].grid)
        for layer in reversed(stage):
            rows = 0.5 * rows + 0.5 * layer.propagate(rows)
        total = total + _on_voxels(rows, region_weights) / len(stages)
    return total


def _on_tokens(region_weights: Tensor, grid: Triple) -> Tensor:
    pooled: Tensor = normalise_sums(functional.adaptive_avg_pool3d(region_weights[None], grid)[0])
    return pooled


def _on_voxels(rows: Tensor, region_weights: Tensor) -> Tensor:
    size = [int(n) for n in region_weights.shape[1:]]
    upsampled = functional.interpolate(rows[None], size=size, mode="trilinear")[0]
    normalised: Tensor = normalise_sums(upsampled)
    return normalised
