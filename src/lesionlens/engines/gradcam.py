"""Grad-CAM for segmentation networks: which features contributed to the segmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn import functional

from lesionlens.base.labels import Region
from lesionlens.base.run_context import SILENT, RunContext

THREADS = 4
"""Fixed number of threads for gradients on any CPU: another number would change the last digits."""


def last_convolution_below(network: nn.Module, stride: int, x: Tensor) -> nn.Module:
    """Return the last convolution whose output is `stride` times coarser than the input.

    Late decoder layers combine global context with sufficient spatial resolution.

    Parameters
    ----------
    stride : int
        1 for full resolution.
    """
    candidates: list[nn.Module] = []

    def record_layer(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        del inputs
        if output.dim() == 5 and output.shape[2] * stride <= x.shape[2] + stride - 1:
            candidates.append(module)

    layers = [m for m in network.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    with ExitStack() as hooks, torch.inference_mode():
        for layer in layers:
            hooks.enter_context(layer.register_forward_hook(record_layer))
        network(x)
    return candidates[-1] if candidates else layers[-1]


def mask_above(values: Tensor, threshold: float) -> Tensor:
    """Return the mask of (I, J, K) values above a threshold; if none, of the highest thousandth."""
    mask = values > threshold
    if not bool(mask.any()):
        mask = values >= values.flatten().topk(max(1, values.numel() // 1000)).values[-1]
    return mask


def maps(
    network: Callable[[Tensor], Tensor],
    layer: nn.Module,
    x: Tensor,
    channels: Mapping[Region, int],
    context: RunContext = SILENT,
) -> dict[Region, Tensor]:
    """Return the Grad-CAM map of each region.

    Parameters
    ----------
    network : callable
        (1, C, I, J, K) to (1, R, I, J, K) logits.

    Returns
    -------
    dict of Region to (I, J, K) float32 Tensor
        Non-negative, on the input's grid.

    Notes
    -----
    Selvaraju et al. 2017, doi:10.1109/ICCV.2017.74, equations 1 and 2, with the class score
    replaced by the sum of the region's logits over the segmented voxels (Vinogradova et al. 2020,
    arXiv:2002.11434, equation 2); if there are none, over the highest thousandth.
    """
    outputs: list[Tensor] = []

    def record_output(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        del module, inputs
        outputs.append(output)

    with layer.register_forward_hook(record_output), torch.enable_grad():
        logits = network(x.detach().requires_grad_())
    features = outputs[-1]
    cam_by_region = {}
    for region, channel in channels.items():
        context.check("Grad-CAM")
        score = logits[0, channel]
        (gradient,) = torch.autograd.grad(
            score[mask_above(score, 0)].sum(), features, retain_graph=True
        )
        weight = gradient.mean(dim=(2, 3, 4), keepdim=True)
        cam = functional.relu((weight * features).sum(dim=1, keepdim=True))
        size = [int(n) for n in x.shape[2:]]
        cam_by_region[region] = functional.interpolate(cam, size=size, mode="trilinear")[
            0, 0
        ].detach()
    return cam_by_region
