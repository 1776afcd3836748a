"""Random intensities of every tissue in every sequence, over ranges wider than in reality.

Units are arbitrary, because volumes are z-scored afterwards: white matter is 1 on T1 and T1c,
cortex is 1 on T2 and FLAIR. The ranges were derived from intensity medians of real development
cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from lesionlens.base.labels import MrSequence
from training.synth.fields import RandomStreams

CLASSES = (
    "cortex", "white", "sulcus", "ventricle", "deep",
    "oedema", "solid", "necrosis", "enhancing", "shell",
)  # fmt: skip
"""Order of the tissue classes in a membership volume."""

Range = tuple[float, float]
PRIORS: Mapping[MrSequence, Mapping[str, Range]] = MappingProxyType({
    MrSequence.T1: {
        "white": (1.0, 1.0), "cortex": (0.72, 0.96), "deep_mix": (0.2, 1.1), "csf": (0.2, 0.72),
        "oedema": (0.52, 1.0), "solid": (0.50, 1.02), "necrosis": (0.35, 0.95),
        "enhancing": (0.60, 1.20), "shell": (0.0, 0.5)},
    MrSequence.T1C: {
        "white": (1.0, 1.0), "cortex": (0.74, 1.04), "deep_mix": (0.2, 1.6), "csf": (0.22, 0.85),
        "oedema": (0.50, 1.02), "solid": (0.48, 1.05), "necrosis": (0.35, 0.97),
        "enhancing": (1.05, 2.2), "shell": (0.05, 0.6)},
    MrSequence.T2: {
        "white": (0.64, 0.98), "cortex": (1.0, 1.0), "deep_mix": (0.2, 1.1), "csf": (1.3, 2.6),
        "oedema": (1.06, 1.9), "solid": (1.05, 2.5), "necrosis": (1.3, 2.8),
        "enhancing": (0.9, 2.1), "shell": (0.0, 0.7)},
    MrSequence.FLAIR: {
        "white": (0.74, 1.08), "cortex": (1.0, 1.0), "deep_mix": (0.0, 1.0), "csf": (0.2, 0.85),
        "oedema": (1.08, 1.9), "solid": (0.95, 2.1), "necrosis": (0.4, 2.1),
        "enhancing": (0.95, 2.1), "shell": (0.05, 0.65)},
})  # fmt: skip
"""Uniform ranges of intensity."""

Palette = dict[str, Tensor]
_WATERY_FRACTION, _WATERY_FRACTION_OUTLINED = 0.85, 0.35
"""Share of tumours whose core has more water than its oedema."""


def _sample_palette(streams: RandomStreams, sequence: MrSequence) -> Palette:
    """Sample one intensity (B,) for each named tissue."""
    return {name: streams.uniform(*bounds) for name, bounds in PRIORS[sequence].items()}


def _t1c_like_t1(streams: RandomStreams, t1: Palette, t1c: Palette) -> Palette:
    """Derive T1c from T1: the same protocol before and after contrast agent."""
    max_changes = {"cortex": 0.08, "csf": 0.08, "oedema": 0.08, "solid": 0.15, "necrosis": 0.2}
    changed = {n: t1[n] + streams.uniform(0, change) for n, change in max_changes.items()}
    return t1c | changed


def _weak_uptake(streams: RandomStreams, palette: Palette) -> Palette:
    """In half of the tumours, make uptake visible only against the surroundings."""
    surroundings = torch.stack([palette[name] for name in ("oedema", "solid", "necrosis")]).amax(0)
    weak = surroundings + streams.uniform(0.18, 1.2)
    return palette | {"enhancing": torch.where(streams.chance(0.5), weak, palette["enhancing"])}


def _below_fluid(palette: Palette) -> Palette:
    """Limit T2 intensities to little above CSF."""
    csf = palette["csf"]
    return palette | {
        "oedema": torch.minimum(palette["oedema"], 0.95 * csf),
        "solid": torch.minimum(palette["solid"], 1.1 * csf),
        "necrosis": torch.minimum(palette["necrosis"], 1.2 * csf),
    }


def _grey_on_t1(streams: RandomStreams, t1: Palette, t1c: Palette) -> None:
    """Make most tumours isointense with cortex and white matter on T1 and T1c, as in reality."""
    hidden, fluid, mix = streams.chance(0.78), streams.chance(0.5), streams.uniform(-0.2, 1.1)
    for name in ("oedema", "solid", "necrosis"):
        tissue_mix = mix + streams.uniform(-0.25, 0.25)
        chosen = hidden & ~fluid if name == "necrosis" else hidden
        for palette, probability in ((t1, 1.0), (t1c, 0.7)):
            level = palette["cortex"] + tissue_mix * (palette["white"] - palette["cortex"])
            palette[name] = torch.where(chosen & streams.chance(probability), level, palette[name])


def _add_water_to_cores(streams: RandomStreams, palettes: list[Palette], outlined: Tensor) -> None:
    """Give most cores more water than their oedema: darker on T1 and T1c, brighter on T2.

    This is so in eleven of eleven development cases. On FLAIR the core
    is similar to its oedema, unless its water is suppressed (T2-FLAIR mismatch). It is applied less
    often if uptake outlines the core, because readers then follow the uptake.
    """
    roll = streams.uniform(0, 1)
    watery = roll < torch.where(outlined, _WATERY_FRACTION_OUTLINED, _WATERY_FRACTION)
    alike = streams.chance(0.55)
    shared, suppressed = streams.uniform(0.05, 0.9), streams.chance(0.25)
    flair_offset, drop = streams.uniform(-0.12, 0.22), streams.uniform(0.2, 0.9)
    t1, t1c, t2, flair = palettes
    for name in ("solid", "necrosis"):
        water = torch.where(alike, shared, streams.uniform(0.05, 0.95))
        for palette, low, high in ((t1, 0.0, 1.0), (t1c, 0.4, 1.1), (t2, 0.4, 1.1)):
            fraction = water * streams.uniform(low, high)
            level = palette["oedema"] + fraction * (palette["csf"] - palette["oedema"])
            palette[name] = torch.where(watery, level, palette[name])
        level = flair["oedema"] * (1 + flair_offset + streams.uniform(-0.05, 0.05))
        fluid = flair["oedema"] + drop * (flair["csf"] - flair["oedema"])
        level = torch.where(suppressed & (water > 0.35), fluid, level)
        flair[name] = torch.where(watery, level, flair[name])


def _match_oedema_to_core(
    streams: RandomStreams, palettes: list[Palette], outlined: Tensor
) -> None:
    """Give oedema the intensities of the core except on FLAIR, so that only the rim separates them.

    Vasogenic oedema may be as dark on T1c and as bright on T2 as necrosis; readers still follow
    the rim. Not applied if no uptake outlines the core, because the two could not be separated.
    """
    wet, like_necrosis = streams.chance(0.45) & outlined, streams.chance(0.5)
    for palette in palettes:
        core = torch.where(like_necrosis, palette["necrosis"], palette["solid"])
        level = core + streams.uniform(-0.15, 0.15) * (palette["white"] - palette["csf"]).abs()
        palette["oedema"] = torch.where(wet, level, palette["oedema"])


def _palettes(streams: RandomStreams, outlined: Tensor) -> list[Palette]:
    """Return intensities by sequence, with physical constraints between sequences."""
    t1 = _sample_palette(streams, MrSequence.T1)
    blood, spill = streams.chance(0.08), streams.chance(0.5)
    glow = streams.uniform(1.0, 1.4)
    t1["necrosis"] = torch.where(blood & spill, glow, t1["necrosis"])
    t1["enhancing"] = torch.where(blood & ~spill, glow, t1["enhancing"])
    t1c = _sample_palette(streams, MrSequence.T1C)
    derived, is_derived = _t1c_like_t1(streams, t1, t1c), streams.chance(0.5)
    t1c = {name: torch.where(is_derived, derived[name], t1c[name]) for name in t1c}
    t1c = _weak_uptake(streams, t1c)
    _grey_on_t1(streams, t1, t1c)
    t2 = _below_fluid(_sample_palette(streams, MrSequence.T2))
    flair = _sample_palette(streams, MrSequence.FLAIR)
    flair["solid"] = torch.where(streams.chance(0.15), streams.uniform(0.5, 1.1), flair["solid"])
    both, flair_only, t2_only = (streams.chance(p) for p in (0.12, 0.08, 0.16))
    for palette, flat in ((flair, both | flair_only), (t2, both | t2_only)):
        for name in ("oedema", "solid"):
            faint = 1 + (palette[name] - 1) * 0.4
            palette[name] = torch.where(flat, faint, palette[name])
    palettes = [t1, t1c, t2, flair]
    _add_water_to_cores(streams, palettes, outlined)
    _match_oedema_to_core(streams, palettes[:3], outlined)
    fluid = streams.uniform(0.6, 1.0) * streams.chance(0.15)
    for palette in palettes:
        pale = streams.uniform(0.0, 0.3) * (palette["cortex"] - palette["csf"])
        target = palette["csf"] + pale
        palette["necrosis"] = palette["necrosis"] + fluid * (target - palette["necrosis"])
    return palettes


def sample_contrast(streams: RandomStreams, outlined: Tensor) -> Tensor:
    """Sample the intensity of each class in each sequence, (B, 4, len(CLASSES)).

    `outlined` (B,) bool marks tumours of which enough takes up contrast to outline the core.
    """
    rows = []
    for palette in _palettes(streams, outlined):
        mix = palette["deep_mix"]
        palette["deep"] = palette["white"] * mix + palette["cortex"] * (1 - mix)
        palette["ventricle"] = palette["csf"] * streams.uniform(0.92, 1.08)
        impure = streams.uniform(0.0, 0.6)
        palette["sulcus"] = palette["csf"] + (palette["cortex"] - palette["csf"]) * impure
        rows.append(torch.stack([palette[name] for name in CLASSES], 1))
    return torch.stack(rows, 1)
