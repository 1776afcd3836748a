"""Synthetic tumours: one to eight lesions per brain, each a union of ragged ellipsoids.

The whole batch uses one signed distance to the nearest lesion; solid, ring, patchy, cystic and
non-enhancing tumours differ only in thresholds, so that no branching is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lesionlens.training.losses import MAX_LESIONS
from training.synth.anatomy import CORTEX, SULCUS, VENTRICLE, WHITE, Anatomy, Pose, rotation
from training.synth.atlas import Sites, sites_of
from training.synth.fields import RandomStreams, SyntheticFrame, blur, noise, spread

RING, SOLID, PATCHY, NON_ENHANCING = range(4)
"""Values of `LesionPlan.style`."""
METASTASES, MENINGIOMA = 1, 2
"""Values of `LesionPlan.kind`; 0 is a glioma, or metastases that look like one."""
_LOBES = 3
_NEVER = 50.0  # a noise threshold that is never exceeded
_SOLID_MM = 5.0
"""Radius below which an enhancing lesion is solid, like small metastases."""


@dataclass(frozen=True, slots=True)
class LesionPlan:
    """Positions and sizes of the lesions in a batch."""

    count: Tensor
    """(B,) number of lesions; 0 in a brain without tumour."""
    centre: Tensor
    """(B, MAX_LESIONS, 3) patient mm relative to the volume's centre."""
    radius: Tensor
    """(B, MAX_LESIONS) mm."""
    style: Tensor
    """(B,) 0 ring, 1 solid, 2 patchy, 3 non-enhancing."""
    kind: Tensor
    """(B,) int64: 0, `METASTASES` or `MENINGIOMA`."""


@dataclass(frozen=True, slots=True)
class Tumour:
    """Tissue fractions of lesions, each (B, 1, I, J, K)."""

    oedema: Tensor
    solid: Tensor
    """Tumour without contrast uptake."""
    necrosis: Tensor
    enhancing: Tensor


def _radii(streams: RandomStreams) -> tuple[Tensor, Tensor, Tensor]:
    """Sample counts (B,) and radii (B, MAX_LESIONS), mm: solitary, satellites, or metastases.

    The third value is (B,) bool: brains with metastases.
    """
    roll = streams.uniform(0, 1)
    large = streams.log_uniform(6.5, 42, 1).clamp_max(36)
    satellites = streams.log_uniform(3.5, 16, MAX_LESIONS)
    metastases = streams.log_uniform(2.2, 13, MAX_LESIONS)
    few_count = streams.uniform(1, 3.999).floor()
    many_count = streams.uniform(1, MAX_LESIONS + 0.999).floor()
    solitary, metastatic = roll < 0.6, roll >= 0.75
    radius = torch.where(metastatic[:, None], metastases, satellites)
    radius[:, :1] = torch.where(metastatic[:, None], radius[:, :1], large)
    count = torch.where(metastatic, many_count, few_count + 1)
    return torch.where(solitary, 1.0, count), radius, metastatic


def sample_sites(streams: RandomStreams, sites_by_volume: Sequence[Sites], pose: Pose) -> Tensor:
    """Sample MAX_LESIONS of the given positions for each volume, (B, MAX_LESIONS, 3) patient mm."""
    rolls = streams.uniform(0, 1, MAX_LESIONS).cpu().double()  # Apple's GPU has no float64
    positions = []
    for sites, values in zip(sites_by_volume, rolls, strict=True):
        pick = torch.searchsorted(sites.cumulative_probability, values).clamp_max(
            len(sites.cumulative_probability) - 1
        )
        positions.append(sites.position_mm[pick])
    return pose.to_patient(torch.stack(positions).to(streams.device))


def plan_lesions(
    streams: RandomStreams, heads: Sequence[int], pose: Pose, tumour_free: float
) -> LesionPlan:
    """Sample number, positions, sizes and types of the lesions of each volume."""
    centre = sample_sites(streams, [sites_of(head) for head in heads], pose)
    count, radius, metastatic = _radii(streams)
    direction = streams.normal(MAX_LESIONS, 3)
    direction = direction / direction.norm(dim=-1, keepdim=True).clamp_min(1e-3)
    reach = (radius[:, :1] + radius + streams.uniform(-2, 8, MAX_LESIONS))[..., None]
    is_satellite = streams.chance(0.6, MAX_LESIONS) & (count <= 4)[:, None]
    is_satellite[:, 0] = False
    centre = torch.where(is_satellite[..., None], centre[:, :1] + direction * reach, centre)
    roll = streams.uniform(0, 1)
    style = (roll > 0.46).float() + (roll > 0.57).float() + (roll > 0.75).float()
    style = torch.where(metastatic & (style == 3), torch.ones_like(style), style)  # they enhance
    count = torch.where(streams.chance(tumour_free), torch.zeros_like(count), count)
    return LesionPlan(count, centre, radius, style, torch.zeros_like(count, dtype=torch.int64))


@dataclass(frozen=True, slots=True)
class Distance:
    """Distance of each voxel to the nearest lesion."""

    signed_mm: Tensor
    """(B, 1, I, J, K), negative inside."""
    nearest: Tensor
    """(B, 1, I, J, K) int64, index of that lesion."""

    def of(self, values: Tensor) -> Tensor:
        """Return the nearest lesion's value of (B, MAX_LESIONS) at each voxel, (B, 1, I, J, K)."""
        flat = self.nearest.flatten(1)
        return values.gather(1, flat).view(self.nearest.shape)


def measure(
    streams: RandomStreams, frame: SyntheticFrame, lesions: LesionPlan, grid_mm: Tensor
) -> Distance:
    """Return the signed distance to the ragged border of the nearest lesion."""
    batch = len(streams)
    lobe_radius = lesions.radius[..., None] * streams.uniform(0.45, 0.85, MAX_LESIONS, _LOBES)
    lobe_radius[..., 0] = lesions.radius
    lobe_offset = streams.normal(MAX_LESIONS, _LOBES, 3)
    lobe_offset = lobe_offset / lobe_offset.norm(dim=-1, keepdim=True).clamp_min(1e-3)
    reach = lesions.radius[..., None] * streams.uniform(0.3, 0.95, MAX_LESIONS, _LOBES)
    lobe_offset = lobe_offset * reach[..., None]
    lobe_offset[..., 0, :] = 0
    lobes = streams.uniform(1, _LOBES + 0.999, MAX_LESIONS).floor()
    lobes = torch.where(lesions.radius > 5, lobes, torch.ones_like(lobes))
    turn = rotation(streams.uniform(-torch.pi, torch.pi, MAX_LESIONS, _LOBES, 3))
    shape = torch.diag_embed(1 / streams.log_uniform(0.68, 1.4, MAX_LESIONS, _LOBES, 3)) @ turn
    signed_mm = torch.full((batch, 1, *frame.shape), 500.0, device=streams.device)
    nearest = torch.zeros_like(signed_mm, dtype=torch.int64)
    for lesion in range(MAX_LESIONS):
        for lobe in range(_LOBES):
            rows = ((lesions.count > lesion) & (lobes[:, lesion] > lobe)).nonzero()[:, 0]
            if not len(rows):
                continue
            centre = lesions.centre[rows, lesion] + lobe_offset[rows, lesion, lobe]
            local = grid_mm[rows] - spread(centre)
            local = torch.einsum("bij,bjxyz->bixyz", shape[rows, lesion, lobe], local)
            distance = local.norm(dim=1, keepdim=True) - spread(lobe_radius[rows, lesion, lobe])
            closer = distance < signed_mm[rows]
            signed_mm[rows] = torch.where(closer, distance, signed_mm[rows])
            nearest[rows] = torch.where(closer, lesion, nearest[rows])
    smooth_distance = Distance(signed_mm, nearest)
    wave = (1.1 * lesions.radius.amax(1)).clamp(8, 30)
    ragged = noise(streams, frame, wave, low=8, octaves=3)
    amount = lesions.radius * streams.uniform(0.06, 0.26, MAX_LESIONS)
    return Distance(signed_mm - smooth_distance.of(amount) * ragged, nearest)


def push(streams: RandomStreams, lesions: LesionPlan, pose: Pose, grid_mm: Tensor) -> Tensor:
    """Return the mass effect: displacement of atlas positions, mm, (B, 3, I, J, K)."""
    displacement = torch.zeros_like(grid_mm)
    strength = streams.uniform(-0.2, 0.75, MAX_LESIONS).clamp_min(0)
    for lesion in range(MAX_LESIONS):
        rows = (lesions.count > lesion).nonzero()[:, 0]
        if not len(rows):
            break
        offset = grid_mm[rows] - spread(lesions.centre[rows, lesion])
        radius = spread(lesions.radius[rows, lesion])
        falloff = torch.exp(-offset.square().sum(1, keepdim=True) / (1.15 * radius + 6) ** 2)
        falloff = falloff * spread(strength[rows, lesion])
        displacement[rows] += torch.einsum("bij,bjxyz->bixyz", pose.linear[rows], offset) * falloff
    return displacement


@dataclass(frozen=True, slots=True)
class _StyleThresholds:
    """Thresholds that produce ring, solid, patchy, cystic or plain tumours."""

    wall_mm: Tensor
    gap: Tensor
    nodule: Tensor
    mixed: Tensor
    cyst: Tensor


def _style_thresholds(streams: RandomStreams, lesions: LesionPlan) -> _StyleThresholds:
    """Sample the thresholds; styles as in `LesionPlan.style`."""
    style = lesions.style
    ring, solid, patchy = style == 0, style == 1, style == 2
    log_range = (0.42 * lesions.radius / 0.8).clamp_min(1.6).log()
    thick = (streams.uniform(0, 1, MAX_LESIONS) * log_range).exp() * 0.8
    wall = torch.where(ring[:, None], thick, torch.zeros_like(thick))
    full = solid[:, None] | (ring[:, None] & (lesions.radius < _SOLID_MM))
    wall = torch.where(full, torch.full_like(thick, _NEVER), wall)
    never = torch.full_like(style, _NEVER)
    gap = torch.where(ring, streams.uniform(0.9, 2.6), never)
    nodule = torch.where(ring, streams.uniform(0.6, 2.4), never)
    nodule = torch.where(patchy, streams.uniform(-0.6, 2.0), nodule)
    mixed = streams.uniform(-1.5, 1.5)
    mixed = torch.where(streams.chance(0.55), torch.where(ring, -never, never), mixed)
    cyst = torch.where((style == 3) & streams.chance(0.3), streams.uniform(0.1, 0.6), never)
    return _StyleThresholds(wall, gap, nodule, mixed, cyst)


def compose(
    streams: RandomStreams,
    frame: SyntheticFrame,
    lesions: LesionPlan,
    distance: Distance,
    anatomy: Anatomy,
) -> Tumour:
    """Fill the lesions with oedema, solid tumour, necrosis and enhancing tissue."""
    thresholds, tissue = _style_thresholds(streams, lesions), anatomy.tissue
    signed = distance.signed_mm
    edge = spread(torch.maximum(streams.log_uniform(0.4, 1.8), 0.3 * frame.spacing))
    core = torch.sigmoid(-signed / edge) * (1 - 0.8 * tissue[:, VENTRICLE : VENTRICLE + 1])
    core = core * spread((lesions.count > 0).float())
    size = lesions.radius.amax(1)
    fine = noise(streams, frame, (0.7 * size).clamp(4.5, 22), low=4.5, octaves=3)
    patches = noise(streams, frame, (0.9 * size).clamp(6, 26), low=6, channels=2, octaves=2)
    wall = distance.of(thresholds.wall_mm) * (1 + 0.55 * fine).clamp_min(0.15)
    hole = torch.sigmoid(-(signed + wall) / edge)
    gap = torch.sigmoid((patches[:, :1] - spread(thresholds.gap)) / 0.15)
    nodule = torch.sigmoid((fine - spread(thresholds.nodule)) / 0.15)
    enhancing = core * ((1 - hole) * (1 - gap) + hole * nodule)
    inner = (core - enhancing).clamp_min(0)
    necrosis_fraction = torch.sigmoid((patches[:, 1:] - spread(thresholds.mixed)) / 0.35)
    depth = distance.of(lesions.radius) * spread(thresholds.cyst)
    dead = torch.maximum(necrosis_fraction, torch.sigmoid(-(signed + depth) / (2 * edge)))
    oedema = _oedema(streams, frame, lesions, distance, anatomy)
    return Tumour(oedema * (1 - core), inner * (1 - dead), inner * dead, enhancing)


def _oedema(
    streams: RandomStreams,
    frame: SyntheticFrame,
    lesions: LesionPlan,
    distance: Distance,
    anatomy: Anatomy,
) -> Tensor:
    """Return oedema or infiltration that follows the white matter, 0-1, (B, 1, I, J, K)."""
    tissue, radius = anatomy.tissue, lesions.radius
    wide = streams.uniform(-5, 28, 1) * (0.5 + radius / 22).clamp_max(1)
    wide = wide * streams.uniform(0.6, 1.2, MAX_LESIONS)
    narrow = streams.uniform(-4, 26, 1).expand_as(wide)
    extent = torch.where((lesions.style == 3)[:, None], narrow, wide).clamp_min(-4)
    white = blur(tissue[:, WHITE : WHITE + 1], frame, 4.0)
    wobble = noise(streams, frame, streams.uniform(18, 30), low=18, octaves=2)
    reach = distance.of(extent) * (0.15 + 1.15 * white) * (1 + 0.5 * wobble).clamp_min(0.05)
    width = spread(torch.maximum(streams.log_uniform(0.6, 4.5), 0.3 * frame.spacing))
    oedema = torch.sigmoid((reach - distance.signed_mm) / width) * (distance.of(extent) > 0.5)
    oedema = oedema * (1 - tissue[:, VENTRICLE : VENTRICLE + 1])
    oedema = oedema * (1 - 0.9 * tissue[:, SULCUS : SULCUS + 1])
    oedema = oedema * (1 - spread(streams.uniform(0.1, 0.8)) * tissue[:, CORTEX : CORTEX + 1])
    return oedema * spread((lesions.count > 0).float())
