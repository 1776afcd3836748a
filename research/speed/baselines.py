"""Networks whose speed is compared on the same brain: Lens and MONAI's.

Lens, with and without convolutions and attention, process the whole brain in one pass at their own
voxel size. MONAI's process the same brain at 1 mm, in the settings of its BraTS bundle (SegResNet)
and BraTS tutorial (Swin UNETR). Random weights take the same time as trained ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional

from lesionlens.base.records.prediction import InputPerturbation
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines.network_input import make_network_input
from lesionlens.network import weights
from lesionlens.network.attention import Form
from lesionlens.network.build import build
from lesionlens.network.config import PRESETS
from lesionlens.network.model import channels_last
from research.attention.variants import CNN_ONLY

WINDOW = (96, 96, 96)
OVERLAP = 0.5
_ALL = InputPerturbation((True, True, True, True))
_SEGRESNET_STEP = 8
_MM = 1.0


@dataclass(frozen=True, slots=True)
class Baseline:
    """One network and its input.

    Parameters
    ----------
    name, form, reads : str
        For the table: the network, its attention and precision, its input.
    make : callable
        Builds the network in evaluation mode on the device.
    make_input : callable
        The (1, C, I, J, K) float32 input of the whole brain on the device.
    window : (3,) int or None
        Size of sliding windows that overlap by half; None for one pass.
    bf16 : bool
        Whether to run under bfloat16 autocast.
    """

    name: str
    form: str
    reads: str
    make: Callable[[], nn.Module]
    make_input: Callable[[], Tensor]
    window: tuple[int, int, int] | None = None
    bf16: bool = False


def has_monai() -> bool:
    """Return whether MONAI is installed."""
    return find_spec("monai") is not None


def all_baselines(prepared: PreparedStudy, device: torch.device) -> Iterator[Baseline]:
    """Yield all networks, Lens with the shipped weights first.

    Parameters
    ----------
    prepared : PreparedStudy
        The brain that all of them process.
    device : torch.device
        The device that they run on.
    """
    spacing = weights.load_shipped()[1].spacing_mm
    yield from _lens_baselines(prepared, device, spacing)
    if has_monai():
        yield from _monai_baselines(prepared, device)


def _in_both(baseline: Baseline) -> Iterator[Baseline]:
    """Yield a network in full precision and under autocast."""
    for bf16 in (False, True):
        form = ", ".join(filter(None, (baseline.form, "bf16" if bf16 else "fp32")))
        yield replace(baseline, form=form, bf16=bf16)


def _lens_baselines(
    prepared: PreparedStudy, device: torch.device, spacing: float
) -> Iterator[Baseline]:
    def whole_brain() -> Tensor:
        x: Tensor = make_network_input(prepared, spacing, device).input_of(_ALL)
        return x.contiguous(memory_format=torch.channels_last_3d)

    def maker(name: str | None, form: Form) -> Callable[[], nn.Module]:
        def make() -> nn.Module:
            if name is None:
                network = weights.load_shipped(device=device)[0]
            else:
                network = channels_last(build(name).to(device)).eval()
            network.set_attention(form)
            return network

        return make

    reads = f"brain at {spacing:g} mm, one pass"
    for preset in (None, *PRESETS):
        name = "Lens, as shipped" if preset is None else f"Lens {preset}"
        for form in Form if preset != CNN_ONLY else (Form.FLASH,):
            form_name = form.value if preset != CNN_ONLY else ""
            yield from _in_both(Baseline(name, form_name, reads, maker(preset, form), whole_brain))


def _monai_baselines(prepared: PreparedStudy, device: torch.device) -> Iterator[Baseline]:
    def brain() -> Tensor:
        channels: Tensor = make_network_input(prepared, _MM, device).channels
        return channels

    def padded() -> Tensor:
        x = brain()
        padding = [n for size in reversed(x.shape[2:]) for n in (0, -size % _SEGRESNET_STEP)]
        return functional.pad(x, padding)

    def segresnet() -> nn.Module:
        from monai.networks.nets import SegResNet

        network: nn.Module = SegResNet(
            spatial_dims=3,
            init_filters=16,
            in_channels=4,
            out_channels=3,
            dropout_prob=0.2,
            blocks_down=(1, 2, 2, 4),
            blocks_up=(1, 1, 1),
        )
        return network.to(device).eval()

    def swin() -> nn.Module:
        from monai.networks.nets import SwinUNETR

        network: nn.Module = SwinUNETR(in_channels=4, out_channels=3, feature_size=48)
        return network.to(device).eval()

    reads = f"brain at {_MM:g} mm, one pass"
    yield from _in_both(Baseline("MONAI SegResNet", "", reads, segresnet, padded))
    reads = f"brain at {_MM:g} mm, {WINDOW[0]}³ windows, overlap {OVERLAP:g}"
    yield from _in_both(Baseline("MONAI Swin UNETR", "", reads, swin, brain, window=WINDOW))
