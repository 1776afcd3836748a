"""Generate synthetic patients: volumes and labels from a configuration and seeds.

Geometry (warp, tumours, distractors) is generated once and can be rendered several times with other
contrasts and artefacts; both depend on the seed only. Only the shipped anatomies are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lesionlens.network.normalise import zscore
from training.synth import other_lesions
from training.synth import tumour as lesions
from training.synth.anatomy import Anatomy, grow, sample_pose, warp
from training.synth.artefacts import SEQUENCES, Damage, acquire
from training.synth.atlas import choose, sites_of
from training.synth.contrast import sample_contrast
from training.synth.distractors import Distractors, carve_cavity, number, scatter
from training.synth.fields import RandomStreams, SyntheticFrame, blur, noise, spread
from training.synth.other_lesions import LesionFrequencies, Mimics, Plaques

_LESION_ROUGHNESS = (0.5, 0.6, 1.0, 1.0)
"""Texture amplitude of lesions on T1, T1c, T2 and FLAIR, relative to each other."""
_OUTLINING_FRACTION = 0.12
"""Enhancing share of a core at which the uptake outlines it."""


@dataclass(frozen=True, slots=True)
class GeneratorConfig:
    """Configuration of the generator."""

    shape: tuple[int, int, int] = (80, 96, 80)
    """(3,) int: voxels along I, J, K."""
    spacing_mm: tuple[float, float] = (2.0, 2.0)
    """(2,) float: range of voxel edges."""
    individuals: float = 0.8
    """Share of volumes based on one of twenty individuals rather than on the average."""
    tumour_free: float = 0.15
    """Share of volumes without a tumour."""
    cavity: float = 0.05
    """Share of volumes with a cavity, as after surgery: unlabelled, unless the network has it."""
    oedema_label: float = 0.25
    """Tumour fraction at which a voxel is labelled; readers include the fading border."""
    reader_margin_mm: float = 1.2
    """Smoothing before the outer border of core and enhancing labels."""
    kinds: LesionFrequencies = field(default_factory=LesionFrequencies)
    """Lesions other than gliomas."""
    head: bool = False
    """Add skull and scalp instead of a stripped brain."""
    damage: Damage = field(default_factory=Damage)
    """Strength of the artefacts."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Tissue composition and labels, before intensities."""

    frame: SyntheticFrame
    anatomy: Anatomy
    distractors: Distractors
    membership: Tensor
    """(B, 10, I, J, K) fractions of the classes of `contrast.CLASSES`, summing to the mask."""
    labels: Tensor
    """(B, 3, I, J, K) uint8, nested WT, TC, ET."""
    instances: Tensor
    """(B, I, J, K) uint8, from `distractors.number`."""
    kind: Tensor
    """(B,) int64, as in `tumour.LesionPlan`."""
    mimics: Mimics | None
    """Haematomas and infarcts; None if there are none."""
    plaques: Plaques | None = None
    """Plaques; None if there are none."""


@dataclass(frozen=True, slots=True)
class SyntheticBatch:
    """A batch of synthetic patients."""

    channels: Tensor
    """(B, 4, I, J, K) float32: T1, T1c, T2, FLAIR; positive, scanner-like, zero outside the brain
    unless a head was requested."""
    zscored: Tensor
    """(B, 4, I, J, K) float32: the network's input."""
    labels: Tensor
    """(B, 3, I, J, K) uint8, nested WT, TC, ET."""
    instances: Tensor
    """(B, I, J, K) uint8: number of the lesion or distractor, from `distractors.number`."""
    brain: Tensor
    """(B, I, J, K) bool."""
    spacing_mm: Tensor
    """(B,)."""


def _membership(anatomy: Anatomy, tumour: lesions.Tumour) -> Tensor:
    core = (tumour.solid + tumour.necrosis + tumour.enhancing).clamp(0, 1)
    normal = anatomy.tissue * (1 - core - tumour.oedema).clamp(0, 1)
    fractions = torch.cat(
        [normal, tumour.oedema, tumour.solid, tumour.necrosis, tumour.enhancing], 1
    )
    fractions = fractions / fractions.sum(1, keepdim=True).clamp_min(1e-3) * anatomy.brain
    return torch.cat([fractions, anatomy.mask - anatomy.brain], 1)


def _labels(
    config: GeneratorConfig, frame: SyntheticFrame, fractions: Tensor, brain: Tensor
) -> Tensor:
    """Return nested labels as readers outline them: including fading borders and thin rims."""
    oedema, solid, necrosis, enhancing = torch.split(fractions[:, 5:9], 1, 1)
    core = (solid + necrosis + enhancing).clamp(0, 1)
    soft = blur(torch.cat([core, enhancing], 1), frame, config.reader_margin_mm)
    inside = brain > 0
    et = (soft[:, 1:] > 0.22) & (enhancing > 0.6 * torch.maximum(solid, necrosis)) & inside
    tc = ((soft[:, :1] > 0.35) & inside) | et
    wt = tc | ((core + oedema > config.oedema_label) & inside)
    return torch.cat([wt, tc, et], 1).to(torch.uint8)


@torch.no_grad()
def generate_geometry(
    config: GeneratorConfig, seeds: Sequence[int], device: str = "cpu"
) -> Geometry:
    """Generate anatomy, tumours and distractors; see `draw`."""
    torch_device = torch.device(device)
    streams, heads = RandomStreams(seeds, torch_device), choose(seeds, config.individuals)
    low, high = config.spacing_mm
    frame = SyntheticFrame(config.shape, streams.uniform(low, high))
    grid, pose = frame.grid_mm(), sample_pose(streams)
    other_streams = RandomStreams(seeds, torch_device, stream=other_lesions.STREAM)
    plan = lesions.plan_lesions(streams, heads, pose, config.tumour_free)
    plan = other_lesions.replan(other_streams, heads, pose, plan, config.kinds)
    point = warp(streams, frame, pose, grid) - lesions.push(streams, plan, pose, grid)
    anatomy, cavity = carve_cavity(
        streams, frame, grow(streams, frame, heads, point), config.cavity
    )
    distance = lesions.measure(streams, frame, plan, grid)
    membership = _membership(anatomy, lesions.compose(streams, frame, plan, distance, anatomy))
    lesion = membership[:, 5:9].sum(1, keepdim=True)
    labels = _labels(config, frame, membership, anatomy.brain)
    distractors = scatter(streams, frame, anatomy, lesion)
    instances = number(
        labels[:, 0] > 0, distance.nearest[:, 0], distractors, cavity * anatomy.brain
    )
    mimics = None
    if config.kinds.mimics:
        sites = lesions.sample_sites(other_streams, [sites_of(head) for head in heads], pose)
        mimics = other_lesions.scatter_mimics(
            other_streams, frame, sites, anatomy, lesion, config.kinds
        )
    plaques = None
    if config.kinds.plaques > 0:
        plaque_streams = RandomStreams(seeds, torch_device, stream=other_lesions.PLAQUE_STREAM)
        plaques = other_lesions.scatter_plaques(
            plaque_streams, frame, anatomy, lesion, config.kinds.plaques
        )
    return Geometry(
        frame, anatomy, distractors, membership, labels, instances, plan.kind, mimics, plaques
    )


def _texture(streams: RandomStreams, geometry: Geometry, image: Tensor, values: Tensor) -> Tensor:
    """Add texture of tissue, lesions, contrast uptake and remainders around the brain."""
    frame, membership = geometry.frame, geometry.membership
    core, lesion = membership[:, 6:9].sum(1, keepdim=True), membership[:, 5:9].sum(1, keepdim=True)
    edge = 2.5 * frame.spacing
    fine = noise(streams, frame, edge, low=edge.tolist(), octaves=2, channels=2)
    coarse = noise(streams, frame, streams.uniform(24, 36), low=24, channels=SEQUENCES)
    lumps = noise(streams, frame, streams.uniform(9, 22), low=9, octaves=2)
    scraps = noise(streams, frame, streams.uniform(9, 14), low=9, octaves=2, channels=2)
    level = spread(streams.uniform(-0.08, 0.2, SEQUENCES))
    image = image * (1 + geometry.anatomy.cerebellum * level)
    fat = torch.sigmoid((scraps[:, 1:] - 1.6) / 0.2) * spread(streams.uniform(0.3, 1.6, SEQUENCES))
    fat = fat * spread(streams.chance(0.4).float())
    shell = spread(values[:, :, 9])
    image = image + membership[:, 9:10] * (shell * (0.6 * scraps[:, :1]).clamp_min(-1) + fat)
    sign = torch.where(streams.chance(0.25, SEQUENCES), -1.0, 1.0)
    rough = 0.4 * streams.beta(1, 2, SEQUENCES)
    rough = rough + streams.uniform(0.1, 0.4, 1) * streams.chance(0.2, 1)
    rough = rough * torch.where(streams.chance(0.5), 1.0, streams.uniform(0.2, 0.7))[:, None]
    rough = rough * torch.tensor(_LESION_ROUGHNESS, device=image.device)
    affected = core + 0.5 * membership[:, 5:6]
    image = image * (1 + spread(sign * rough) * lumps * affected).clamp_min(0.1)
    image = _darken_patches(streams, image, torch.sigmoid((scraps[:, :1] + lumps) / 0.3 - 1) * core)
    grain = spread(streams.uniform(0.012, 0.075, SEQUENCES))
    grain = grain + spread(streams.uniform(0, 0.12, SEQUENCES)) * lesion
    uneven = spread(streams.uniform(0, 0.07, SEQUENCES)) * coarse
    image = image * (1 + grain * fine[:, [0, 1, 0, 1]] + uneven)
    uptake = streams.uniform(0.04, 0.3, 2) * streams.chance(0.7, 2)
    uneven = (torch.cat([coarse[:, :1], lumps], 1) * spread(uptake)).sum(1, keepdim=True)
    image[:, 1:2] += membership[:, 8:9] * uneven * spread(values[:, 1, 8] - values[:, 1, 0])
    return image


def _darken_patches(streams: RandomStreams, image: Tensor, patch: Tensor) -> Tensor:
    """Darken parts of some cores on T2 and FLAIR: blood, calcium, dense cells."""
    patch = patch * streams.chance(0.25).float().view(-1, 1, 1, 1, 1)
    level = spread(torch.cat([streams.uniform(0.7, 1.1, 2), streams.uniform(0.4, 1.1, 2)], 1))
    amount = patch * spread(
        torch.cat([streams.uniform(0.0, 0.5, 2), streams.uniform(0.5, 1.0, 2)], 1)
    )
    return image + amount * (level - image)


def _overlay(streams: RandomStreams, extra: Distractors, image: Tensor, values: Tensor) -> Tensor:
    """Add the distractors to the sequences that show them."""
    t1, t1c, t2, flair = torch.split(image, 1, 1)
    gain = streams.uniform(0.35, 1.1, 2) * (values[:, 2:, 5] - values[:, 2:, 1]).abs()
    t2 = t2 + extra.white_spots * spread(gain[:, :1])
    flair = flair + extra.white_spots * spread(gain[:, 1:])
    t1 = t1 - extra.white_spots * spread(streams.uniform(0.0, 0.3))
    active = streams.uniform(-0.2, 0.1) + streams.chance(0.1) * streams.uniform(0.2, 0.9)
    t1c = t1c + extra.white_spots * spread(active)
    t1c = t1c + extra.vessels * (spread(streams.uniform(1.1, 2.4)) - t1c)
    t1c = t1c + extra.plexus * (spread(streams.uniform(0.9, 1.9)) - t1c)
    t1c = t1c + extra.dura * spread(streams.uniform(0.2, 1.5))
    flair = flair + extra.dura * spread(streams.uniform(-0.1, 0.5))
    flair = flair + extra.plexus * spread(streams.uniform(0.0, 0.6))
    t2 = t2 * (1 - 0.7 * extra.vessels)
    t2, flair = t2 * (1 - 0.7 * extra.bleeds), flair * (1 - 0.5 * extra.bleeds)
    stain = spread(streams.uniform(-0.3, 0.4))
    t1, t1c = t1 + extra.bleeds * stain, t1c + extra.bleeds * stain
    return torch.cat([t1, t1c, t2, flair], 1).clamp_min(0)


@torch.no_grad()
def paint(
    config: GeneratorConfig, geometry: Geometry, seeds: Sequence[int], round_: int = 0
) -> SyntheticBatch:
    """Render a geometry with contrasts and artefacts; each `round_` simulates another scanner."""
    streams = RandomStreams(seeds, geometry.membership.device, stream=1 + round_)
    membership, frame = geometry.membership, geometry.frame
    _, core, enhancing = geometry.labels.flatten(2).sum(2).unbind(1)
    values = sample_contrast(streams, enhancing > _OUTLINING_FRACTION * core)
    other_streams = RandomStreams(
        seeds, membership.device, stream=other_lesions.STREAM + 1 + round_
    )
    values = other_lesions.recolour(other_streams, values, geometry.kind, config.kinds)
    image = (values @ membership.flatten(2)).view(len(seeds), SEQUENCES, *frame.shape)
    image = _texture(streams, geometry, image, values)
    image = _overlay(streams, geometry.distractors, image, values)
    if geometry.mimics is not None:
        image = other_lesions.overlay_mimics(
            other_streams, geometry.mimics, geometry.anatomy, image, values
        )
    if geometry.plaques is not None:
        plaque_streams = RandomStreams(
            seeds, membership.device, stream=other_lesions.PLAQUE_STREAM + 1 + round_
        )
        image = other_lesions.overlay_plaques(plaque_streams, geometry.plaques, image, values)
    mask = geometry.anatomy.mask
    if config.head:
        image, mask = add_head(streams, frame, image, mask)
    image = acquire(streams, frame, image, mask, config.damage)
    brain = geometry.anatomy.mask[:, 0] > 0
    scale = spread(streams.log_uniform(200, 1500, SEQUENCES))
    labels, instances = geometry.labels, geometry.instances
    return SyntheticBatch(
        image * scale, zscore(image, brain), labels, instances, brain, frame.spacing
    )


def draw(config: GeneratorConfig, seeds: Sequence[int], device: str = "cpu") -> SyntheticBatch:
    """Generate one patient for each seed; the same seed gives the same one in any batch."""
    return paint(config, generate_geometry(config, seeds, device), seeds)


_SKULL = ((0.10, 0.35), (0.10, 0.35), (0.05, 0.3), (0.05, 0.3))
_SCALP = ((0.9, 1.7), (0.9, 1.7), (0.5, 1.3), (0.6, 1.4))
"""Intensity of bone, and of fat and skin, on T1, T1c, T2, FLAIR."""


def add_head(
    streams: RandomStreams, frame: SyntheticFrame, image: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Add a dark skull and a bright scalp to (B, 4, I, J, K); also return the head's mask."""
    wavy = 0.03 * noise(streams, frame, streams.uniform(25, 40), low=25)
    near = blur(mask, frame, 9.0) + wavy
    head = torch.maximum(mask, (near > 0.08).float())
    bone = ((near > 0.22) & (mask == 0)).float()
    scalp = head * (1 - mask) * (1 - bone)
    dark = spread(torch.stack([streams.uniform(*r) for r in _SKULL], 1))
    bright = spread(torch.stack([streams.uniform(*r) for r in _SCALP], 1))
    uneven = 1 + 0.25 * noise(streams, frame, streams.uniform(8, 14), low=8)
    image = image * mask + bone * dark + scalp * bright * uneven.clamp_min(0.2)
    return image, head
