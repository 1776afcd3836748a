"""Networks that answer the same question of the same brain, for timing: ours and MONAI's.

Ours, with and without convolutions and attention, read the whole brain at the glance's voxel size,
in one pass. MONAI's read the same brain at 1 mm, in the settings of its BraTS bundle (SegResNet)
and BraTS tutorial (Swin UNETR). Random weights take the same time as trained ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional

from lesionlens.inference.ready import make_ready
from lesionlens.network import weights
from lesionlens.network.attention import Form
from lesionlens.network.build import PRESETS, build
from lesionlens.network.model import channels_last
from lesionlens.records.prediction import Variant
from lesionlens.records.study import PreparedStudy

WINDOW = (96, 96, 96)
OVERLAP = 0.5
_ALL = Variant((True, True, True, True))
_SEGRESNET_STEP = 8
_MM = 1.0


@dataclass(frozen=True, slots=True)
class Contender:
    """One network and what it is given.

    Parameters
    ----------
    name, setting : str
        For the table.
    make : callable
        Builds the network in evaluation mode on the device.
    make_input : callable
        The (1, C, I, J, K) float32 input of the whole brain on the device.
    window : (3,) int or None
        Read by sliding windows of this size, half overlapping; None for one pass.
    bf16 : bool
        Under autocast.
    """

    name: str
    setting: str
    make: Callable[[], nn.Module]
    make_input: Callable[[], Tensor]
    window: tuple[int, int, int] | None = None
    bf16: bool = False


def has_monai() -> bool:
    """Whether MONAI's networks can take part."""
    return find_spec("monai") is not None


def contenders(prepared: PreparedStudy, device: torch.device) -> Iterator[Contender]:
    """Yield everything that takes part, the shipped weights first.

    Parameters
    ----------
    prepared : PreparedStudy
        The brain that all read.
    device : torch.device
        Where they run.
    """
    spacing = weights.load_default("cpu")[1].spacing_mm
    yield from _ours(prepared, device, spacing)
    if has_monai():
        yield from _monai(prepared, device)


def _ours(prepared: PreparedStudy, device: torch.device, spacing: float) -> Iterator[Contender]:
    def look() -> Tensor:
        x = make_ready(prepared, spacing, device).input_of(_ALL)
        return x.contiguous(memory_format=torch.channels_last_3d)

    def shipped(form: Form) -> Callable[[], nn.Module]:
        def make() -> nn.Module:
            network, _ = weights.load_default(device)
            network.set_attention(form)
            return network

        return make

    grid = f"whole brain at {spacing:g} mm"
    for form in (Form.FLASH, Form.READABLE):
        for bf16 in (False, True):
            words = f"{grid}, {form.value}, {'bf16' if bf16 else 'fp32'}"
            yield Contender("Lens, shipped weights", words, shipped(form), look, bf16=bf16)
    for name in PRESETS:
        yield Contender(f"Lens {name}, random weights", grid, _fresh(name, device), look)


def _fresh(name: str, device: torch.device) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        return channels_last(build(name).to(device)).eval()

    return make


def _monai(prepared: PreparedStudy, device: torch.device) -> Iterator[Contender]:
    def brain() -> Tensor:
        return make_ready(prepared, _MM, device).channels

    def padded() -> Tensor:
        x = brain()
        amounts = [n for size in reversed(x.shape[2:]) for n in (0, -size % _SEGRESNET_STEP)]
        return functional.pad(x, amounts)

    def segresnet() -> nn.Module:
        from monai.networks.nets import SegResNet  # noqa: PLC0415  (an extra)

        made: nn.Module = SegResNet(
            spatial_dims=3,
            init_filters=16,
            in_channels=4,
            out_channels=3,
            dropout_prob=0.2,
            blocks_down=(1, 2, 2, 4),
            blocks_up=(1, 1, 1),
        )
        return made.to(device).eval()

    def swin() -> nn.Module:
        from monai.networks.nets import SwinUNETR  # noqa: PLC0415

        made: nn.Module = SwinUNETR(in_channels=4, out_channels=3, feature_size=48)
        return made.to(device).eval()

    yield Contender("MONAI SegResNet", "brain at 1 mm, one pass", segresnet, padded)
    edge = WINDOW[0]
    words = f"brain at 1 mm, {edge}³ windows, overlap {OVERLAP:g}"
    yield Contender("MONAI Swin UNETR", words, swin, brain, window=WINDOW)
