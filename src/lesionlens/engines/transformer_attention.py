"""Maps of a MONAI network: its own attention, rolled out from the regions, or Grad-CAM.

MONAI keeps attention only if `save_attn` was set at construction, does not combine it with flash
attention, and has no such option for Swin blocks. `rollout` therefore switches to the explicit form
for one pass, records each softmax and restores every setting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from monai.networks.blocks.selfattention import SABlock
from monai.networks.nets.swin_unetr import (
    SwinTransformerBlock,
    get_window_size,
    window_partition,
    window_reverse,
)
from torch import Tensor, nn
from torch.nn import functional

Triple = tuple[int, int, int]
Run = Callable[[Tensor], Tensor]


def has_attention(network: nn.Module) -> bool:
    """Return whether a network has blocks whose attention can be read."""
    return any(isinstance(m, SABlock | SwinTransformerBlock) for m in network.modules())


def rollout(network: nn.Module, run: Run, x: Tensor, focus: Tensor) -> Tensor:
    """Return where the voxels of each region attend to in one window: sums of one, or of zero.

    Blocks with the same token grid form a stage. In each stage, attention rollout starts from the
    tokens in the region; stages are averaged, as the decoders of UNETR and SwinUNETR use all.

    Parameters
    ----------
    run : callable
        The network, (1, C, i, j, k) to its logits.
    focus : (R, i, j, k) Tensor
        Non-negative weights of each region in the window `x`.

    Notes
    -----
    Abnar and Zuidema 2020, doi:10.18653/v1/2020.acl-main.385, equation 1, from a region instead of
    from one token.
    """
    layers: list[_Layer] = []
    with ExitStack() as hooks, torch.inference_mode():
        for block in network.modules():
            if isinstance(block, SABlock):
                _watch_global(block, x.shape[2:], layers, hooks)
            elif isinstance(block, SwinTransformerBlock):
                _watch_windows(block, layers, hooks)
        run(x)
    total = torch.zeros_like(focus)
    stages = [list(stage) for _, stage in groupby(layers, key=lambda layer: layer.grid)]
    for stage in stages:
        rows = _with_sums_one(functional.adaptive_avg_pool3d(focus[None], stage[0].grid)[0])
        for layer in reversed(stage):
            rows = 0.5 * rows + 0.5 * layer.propagate(rows)
        voxels = functional.interpolate(rows[None], size=focus.shape[1:], mode="trilinear")[0]
        total += _with_sums_one(voxels) / len(stages)
    return total


def grad_cam(
    network: nn.Module, run: Run, x: Tensor, channels: Sequence[int], stride: int
) -> tuple[Tensor, str]:
    """Return the (R, I, J, K) Grad-CAM of some output channels, and the name of its layer.

    The layer is the last convolution whose output is `stride` times coarser than the input: late
    layers combine global context with sufficient resolution. Maps are not negative.

    Notes
    -----
    Selvaraju et al. 2017, doi:10.1109/ICCV.2017.74, equations 1 and 2, with the class score
    replaced by the sum of the region's logits over the segmented voxels (Vinogradova et al. 2020,
    arXiv:2002.11434, equation 2); if there are none, over the highest thousandth.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    coarse, outputs = list[nn.Module](), list[Tensor]()

    def note_layer(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if output.shape[2] * stride <= x.shape[2] + stride - 1:
            coarse.append(module)

    with ExitStack() as hooks, torch.inference_mode():
        for layer in layers:
            hooks.enter_context(layer.register_forward_hook(note_layer))
        run(x)
    chosen = coarse[-1] if coarse else layers[-1]
    keep = chosen.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    with keep, torch.enable_grad():
        logits = run(x.detach().requires_grad_())
    maps = []
    for channel in channels:
        score = logits[0, channel]
        total = score[above(score, 0)].sum()
        (gradient,) = torch.autograd.grad(total, outputs[-1], retain_graph=True)
        weight = gradient.mean(dim=(2, 3, 4), keepdim=True)
        cam = functional.relu((weight * outputs[-1]).sum(dim=1, keepdim=True)).detach().float()
        maps.append(functional.interpolate(cam, size=x.shape[2:], mode="trilinear")[0, 0])
    return torch.stack(maps), next(n for n, m in network.named_modules() if m is chosen)


def above(values: Tensor, threshold: float) -> Tensor:
    """Return the mask of (I, J, K) values above a threshold; if none, of the highest thousandth."""
    mask = values > threshold
    if not bool(mask.any()):
        mask = values >= values.flatten().topk(max(1, values.numel() // 1000)).values[-1]
    return mask


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """Attention of one block: (W, n, n) of n tokens in each of W windows, rows sum to one."""

    weights: Tensor
    grid: Triple
    """Tokens along I, J, K, in all and in a window; and the cyclic shift of windows."""
    window: Triple
    shift: Triple = (0, 0, 0)

    def propagate(self, rows: Tensor) -> Tensor:
        """Propagate (R, I, J, K) token weights back through this layer."""
        edges = list(zip(self.grid, self.window, strict=True))
        padding = [n for size, edge in reversed(edges) for n in (0, -size % edge)]
        padded = functional.pad(rows, padding).permute(1, 2, 3, 0)[None]
        rolled = torch.roll(padded, [-n for n in self.shift], (1, 2, 3))
        attended = self.weights.transpose(1, 2) @ window_partition(rolled, self.window)
        windows = attended.view(-1, *self.window, len(rows))
        merged = window_reverse(windows, self.window, rolled.shape[:4])
        i, j, k = self.grid
        return torch.roll(merged, self.shift, (1, 2, 3))[0, :i, :j, :k].permute(3, 0, 1, 2)


def _watch_global(
    block: SABlock, size: Sequence[int], layers: list[_Layer], hooks: ExitStack
) -> None:
    for setting in ("use_flash_attention", "save_attn", "att_mat"):
        hooks.callback(setattr, block, setting, getattr(block, setting))
    block.use_flash_attention, block.save_attn = False, True

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        weights = block.att_mat[0].float().mean(0)[None]
        count = weights.shape[-1]
        edge = max(1, round((math.prod(size) / count) ** (1 / 3)))
        grid = (size[0] // edge, size[1] // edge, size[2] // edge)
        first = count - math.prod(grid)
        if first in (0, 1):  # a leading class token has no position
            layers.append(_Layer(weights[:, first:, first:], grid, grid))

    hooks.enter_context(block.register_forward_hook(note))


def _watch_windows(block: SwinTransformerBlock, layers: list[_Layer], hooks: ExitStack) -> None:
    attention, grids = block.attn, list[Triple]()
    hooks.callback(setattr, attention, "use_flash_attention", attention.use_flash_attention)
    attention.use_flash_attention = False

    def note_grid(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        _, i, j, k, _ = inputs[0].shape
        grids.append((i, j, k))

    def note_weights(module: nn.Module, inputs: Any, output: Tensor) -> None:
        window, shift = get_window_size(grids[-1], block.window_size, block.shift_size)
        layers.append(_Layer(output.float().mean(1), grids[-1], window, shift))

    hooks.enter_context(block.register_forward_pre_hook(note_grid))
    hooks.enter_context(attention.softmax.register_forward_hook(note_weights))


def _with_sums_one(maps: Tensor) -> Tensor:
    return maps / maps.sum((1, 2, 3), keepdim=True).clip(1e-12)
