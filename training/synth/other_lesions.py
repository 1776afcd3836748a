"""Lesions beyond gliomas: metastases, meningiomas, haematomas, infarcts and plaques.

Every share is zero by default; volumes of a configuration without them are those of earlier
releases, because these lesions have separate random streams.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lesionlens.training.losses import MAX_LESIONS
from training.synth.anatomy import CORTEX, SULCUS, VENTRICLE, WHITE, Anatomy, Pose
from training.synth.atlas import sites_of, surface_of
from training.synth.fields import RandomStreams, SyntheticFrame, blur, noise, spread
from training.synth.tumour import MENINGIOMA, METASTASES, RING, SOLID, LesionPlan, sample_sites

STREAM = 5_000
"""Random stream of geometries; `STREAM` + 1 + n is that of the n-th painting."""
PLAQUE_STREAM = 6_000
"""The same of plaques."""
MAX_PLAQUES = 12
_PERIVENTRICULAR_MM, _JUXTACORTICAL_MM, _OTHER_WHITE_WEIGHT = 6.0, 3.0, 0.03
"""How far from ventricle and cortex plaques mostly lie, and the weight of other white matter."""
_T1, _T1C, _T2, _FLAIR = range(4)
_CORTEX, _WHITE_CLASS, _SULCUS, _, _, _OEDEMA, _SOLID_CLASS, _NECROSIS, _ENHANCING, _ = range(10)
"""Indices in `contrast.CLASSES`."""
_AGES = torch.tensor([
    # T1 low, high; T2 low, high; FLAIR low, high
    [0.80, 1.05, 0.20, 0.75, 0.50, 1.20],  # acute
    [1.10, 1.60, 0.20, 0.75, 0.50, 1.30],  # early subacute
    [1.15, 1.70, 1.30, 2.20, 1.20, 1.90],  # late subacute
    [0.40, 0.80, 1.00, 2.20, 0.40, 1.40],  # chronic
])  # fmt: skip
"""Intensity of blood by its age (Bradley 1993), where white matter is 1 on T1 and cortex 1 on T2
and FLAIR."""


@dataclass(frozen=True, slots=True)
class LesionFrequencies:
    """How often lesions other than gliomas are generated."""

    metastases: float = 0.0
    """Share of the tumours: one to eight, from 0.03 ml, half of them at the brain's surface."""
    meningioma: float = 0.0
    """Share of the tumours: solid, on the dura."""
    isointense: float = 0.0
    """Share of the other tumours whose core is as bright as cortex on FLAIR."""
    haematoma: float = 0.0
    """Share of all volumes: blood of any age, not labelled."""
    infarct: float = 0.0
    """Share of all volumes: a wedge of cortex and white matter, acute or old, not labelled."""
    plaques: float = 0.0
    """Share of all volumes: two to twelve plaques (`Plaques`), not labelled."""

    @property
    def mimics(self) -> bool:
        """Whether haematomas or infarcts are generated."""
        return self.haematoma + self.infarct > 0


@dataclass(frozen=True, slots=True)
class Mimics:
    """Soft masks of lesions that are not tumours, each (B, 1, I, J, K)."""

    blood: Tensor
    blood_rim: Tensor
    swelling: Tensor
    """Oedema round the blood."""
    infarct: Tensor
    infarct_rim: Tensor


def replan(
    streams: RandomStreams,
    heads: Sequence[int],
    pose: Pose,
    plan: LesionPlan,
    shares: LesionFrequencies,
) -> LesionPlan:
    """Turn some of the planned tumours into metastases or meningiomas."""
    if shares == LesionFrequencies():
        return plan
    roll = streams.uniform(0, 1)
    tumour = plan.count > 0
    spread_out = tumour & (roll < shares.metastases)
    dural = tumour & ~spread_out & (roll < shares.metastases + shares.meningioma)
    surface = sample_sites(streams, [surface_of(head) for head in heads], pose)
    deep = sample_sites(streams, [sites_of(head) for head in heads], pose)
    inward = -surface / surface.norm(dim=-1, keepdim=True).clamp_min(1.0)

    small = streams.log_uniform(1.9, 9, MAX_LESIONS)
    near_surface = surface + inward * (small * streams.uniform(0.2, 2.2, MAX_LESIONS))[..., None]
    at_surface = streams.chance(0.5, MAX_LESIONS)[..., None]
    metastasis_count = streams.uniform(1, MAX_LESIONS + 0.999).floor()
    broad = streams.log_uniform(5, 26, MAX_LESIONS)
    attached = surface + inward * (broad * streams.uniform(-0.1, 0.6, MAX_LESIONS))[..., None]
    meningioma_count = 1 + streams.chance(0.12).float()
    ring = torch.where(streams.chance(0.35), float(RING), float(SOLID))

    def chosen(metastases: Tensor, meningioma: Tensor, other: Tensor) -> Tensor:
        trailing = [1] * (other.ndim - 1)
        unchanged = torch.where(dural.view(-1, *trailing), meningioma, other)
        return torch.where(spread_out.view(-1, *trailing), metastases, unchanged)

    return dataclasses.replace(
        plan,
        count=chosen(metastasis_count, meningioma_count, plan.count),
        centre=chosen(torch.where(at_surface, near_surface, deep), attached, plan.centre),
        radius=chosen(small, broad, plan.radius),
        style=chosen(ring, torch.full_like(ring, SOLID), plan.style),
        kind=chosen(
            torch.full_like(plan.kind, METASTASES),
            torch.full_like(plan.kind, MENINGIOMA),
            plan.kind,
        ),
    )


def recolour(
    streams: RandomStreams, values: Tensor, kind: Tensor, shares: LesionFrequencies
) -> Tensor:
    """Give metastases, meningiomas and isointense cores their intensities, (B, 4, 10)."""
    new = values.clone()
    cortex = values[:, :, _CORTEX]
    dural = kind == MENINGIOMA
    t1 = cortex[:, _T1] * streams.uniform(0.88, 1.1)
    bright = (kind == METASTASES) & streams.chance(0.12)  # melanin or blood
    t1 = torch.where(bright, streams.uniform(1.05, 1.45), t1)
    uptake = torch.where(dural, streams.uniform(0.45, 1.4), streams.uniform(0.2, 1.3))
    solid = torch.stack([
        t1,
        torch.maximum(t1, cortex[:, _T1C]) + uptake,
        torch.where(dural, streams.uniform(0.85, 1.45), streams.uniform(0.8, 1.7)),
        torch.where(dural, streams.uniform(0.85, 1.5), streams.uniform(0.85, 1.7)),
    ], 1)  # fmt: skip
    has_own_intensity = dural | ((kind == METASTASES) & streams.chance(0.8))
    new[:, :, _ENHANCING] = torch.where(has_own_intensity[:, None], solid, new[:, :, _ENHANCING])

    is_isointense = (kind == 0) & streams.chance(shares.isointense)
    t1_level = cortex[:, _T1] * streams.uniform(0.9, 1.06)
    levels = torch.stack([
        t1_level,
        torch.maximum(t1_level, cortex[:, _T1C] * 0.95) + streams.uniform(-0.05, 0.12),
        streams.uniform(0.98, 1.45),
        streams.uniform(0.88, 1.15),
    ], 1)  # fmt: skip
    new[:, :, _SOLID_CLASS] = torch.where(is_isointense[:, None], levels, new[:, :, _SOLID_CLASS])
    is_grey = is_isointense & streams.chance(0.5)
    new[:, :, _NECROSIS] = torch.where(
        is_grey[:, None], levels * streams.uniform(0.95, 1.05, 1), new[:, :, _NECROSIS]
    )
    level = streams.uniform(0.88, 1.2)
    new[:, _FLAIR, _ENHANCING] = torch.where(is_isointense, level, new[:, _FLAIR, _ENHANCING])
    return new


def _blob(
    streams: RandomStreams, frame: SyntheticFrame, grid: Tensor, centre: Tensor, radius: Tensor
) -> Tensor:
    """Return the signed distance, mm, to a ragged ellipsoid, (B, 1, I, J, K)."""
    size = radius[:, None] * streams.log_uniform(0.7, 1.4, 3)
    offset = (grid - spread(centre)) / spread(size)
    ragged = 0.2 * noise(streams, frame, (1.2 * radius).clamp(8, 24), low=8, octaves=2)
    signed: Tensor = (offset.norm(dim=1, keepdim=True) - 1 + ragged) * spread(radius)
    return signed


def _wedge(streams: RandomStreams, frame: SyntheticFrame, grid: Tensor) -> Tensor:
    """Return a cone that widens towards the surface, 0 to 1, (B, 1, I, J, K)."""
    axis = streams.normal(3)
    axis = axis / axis.norm(dim=-1, keepdim=True).clamp_min(1e-3)
    offset = grid - spread(axis * streams.uniform(8, 42, 1))
    along = (offset * spread(axis)).sum(1, keepdim=True)
    distance = offset.norm(dim=1, keepdim=True).clamp_min(1e-3)
    angle = torch.acos((along / distance).clamp(-1, 1))
    half = spread(streams.uniform(0.3, 0.75))
    ragged = 0.1 * noise(streams, frame, streams.uniform(10, 18), low=10, octaves=2)
    cone: Tensor = torch.sigmoid((half - angle + ragged) / 0.06)
    return cone


def scatter_mimics(
    streams: RandomStreams,
    frame: SyntheticFrame,
    sites: Tensor,
    anatomy: Anatomy,
    lesion: Tensor,
    shares: LesionFrequencies,
) -> Mimics:
    """Sample haematomas and infarcts where there is no tumour.

    Blood and a lacune lie at the first two `sites`, (B, N, 3) patient mm from the volume's centre;
    `lesion` is the fraction of tumour tissue, (B, 1, I, J, K).
    """
    grid, tissue = frame.grid_mm(), anatomy.tissue
    fluid = tissue[:, VENTRICLE : VENTRICLE + 1] + 0.8 * tissue[:, SULCUS : SULCUS + 1]
    free = (1 - 2 * lesion).clamp(0, 1) * anatomy.brain
    edge = spread(torch.maximum(streams.log_uniform(0.5, 1.6), 0.3 * frame.spacing))
    radius = streams.log_uniform(2.5, 22)
    signed = _blob(streams, frame, grid, sites[:, 0], radius)
    has_haematoma = spread(streams.chance(shares.haematoma).float())
    blood = torch.sigmoid(-signed / edge) * has_haematoma * free
    rim = torch.sigmoid(-(signed + spread(0.4 + 0.15 * radius).clamp_max(3.0)) / edge)
    extent = spread(streams.uniform(-4, 14).clamp_min(0))
    reach = extent * (0.3 + tissue[:, WHITE : WHITE + 1])
    swelling = torch.sigmoid((reach - signed) / (1.5 * edge)) * (extent > 0.5)
    swelling = swelling * has_haematoma * free * (1 - blood) * (1 - fluid).clamp_min(0)

    wide = _wedge(streams, frame, grid)
    lacune = _blob(streams, frame, grid, sites[:, 1], streams.log_uniform(2.0, 8))
    stroke = torch.where(spread(streams.chance(0.3)), torch.sigmoid(-lacune / edge), wide)
    stroke = stroke * spread(streams.chance(shares.infarct).float()) * free
    stroke = stroke * (1 - fluid).clamp_min(0) * (1 - blood)
    inner = torch.sigmoid((blur(stroke, frame, 3.0) - 0.75) / 0.08) * stroke
    return Mimics(blood, blood * (1 - rim), swelling, stroke, stroke - inner)


def overlay_mimics(
    streams: RandomStreams, mimics: Mimics, anatomy: Anatomy, image: Tensor, values: Tensor
) -> Tensor:
    """Paint haematomas and infarcts onto (B, 4, I, J, K); nothing of them is taken up."""
    device = image.device
    age = streams.uniform(0, 3.999).long()
    bounds = _AGES.to(device)[age]
    low, high = bounds[:, 0::2], bounds[:, 1::2]
    t1, t2, flair = (low + (high - low) * streams.uniform(0, 1, 3)).unbind(1)
    level = torch.stack([t1, t1 + streams.uniform(-0.03, 0.05), t2, flair], 1)
    oedema = values[:, :, _OEDEMA].clone()
    oedema[:, _T1C] = oedema[:, _T1] + streams.uniform(0, 0.04)
    image = image + mimics.swelling * (spread(oedema) - image)
    image = image + mimics.blood * (spread(level) - image)
    stain = torch.stack([
        torch.zeros_like(t1),
        streams.chance(0.3) * streams.uniform(0.1, 0.6),
        -streams.uniform(0.0, 0.7) * level[:, _T2],
        -streams.uniform(0.0, 0.5) * level[:, _FLAIR],
    ], 1)  # fmt: skip
    image = image + mimics.blood_rim * spread(stain)

    is_old = streams.chance(0.4)
    fluid = values[:, :, _SULCUS]
    gain = torch.stack([
        -streams.uniform(0.02, 0.28),
        -streams.uniform(0.02, 0.28),
        streams.uniform(0.15, 0.8),
        streams.uniform(0.15, 0.9),
    ], 1)  # fmt: skip
    fresh = image + mimics.infarct * spread(gain)
    gyri = spread(streams.chance(0.25) * streams.uniform(0.15, 0.7))
    cortex = anatomy.tissue[:, CORTEX : CORTEX + 1]
    fresh[:, _T1C : _T1C + 1] += mimics.infarct * cortex * gyri
    hole = (mimics.infarct - mimics.infarct_rim) * spread(streams.uniform(0.5, 1.0))
    scar = image + mimics.infarct_rim * spread(gain) + hole * (spread(fluid) - image)
    return torch.where(is_old.view(-1, 1, 1, 1, 1), scar, fresh).clamp_min(0)


@dataclass(frozen=True, slots=True)
class Plaques:
    """Ovoid plaques at right angles to the ventricle; soft masks, each (B, 1, I, J, K)."""

    every: Tensor
    holes: Tensor
    """Those that are dark on T1."""
    ring: Tensor
    """Rim of those that enhance, open on one side."""


def scatter_plaques(
    streams: RandomStreams, frame: SyntheticFrame, anatomy: Anatomy, lesion: Tensor, chance: float
) -> Plaques:
    """Sample plaques in a share `chance` of the volumes; `lesion` as for `scatter_mimics`."""
    grid, tissue = frame.grid_mm(), anatomy.tissue
    white = tissue[:, WHITE : WHITE + 1] * (1 - 2 * lesion).clamp(0, 1) * anatomy.brain
    ventricle = blur(tissue[:, VENTRICLE : VENTRICLE + 1], frame, _PERIVENTRICULAR_MM)
    cortex = blur(tissue[:, CORTEX : CORTEX + 1], frame, _JUXTACORTICAL_MM)
    weight = white * (ventricle + 0.1 * cortex + _OTHER_WHITE_WEIGHT).square()
    centre, direction = _sample_sites(streams, grid, weight, ventricle, frame)
    axial_radius = streams.log_uniform(2.5, 9, MAX_PLAQUES)
    radial_radius = axial_radius * streams.uniform(0.35, 0.85, MAX_PLAQUES)
    count = streams.uniform(2, MAX_PLAQUES + 0.999).floor() * streams.chance(chance)
    is_dark, is_active = streams.chance(0.4, MAX_PLAQUES), streams.chance(0.12, MAX_PLAQUES)
    opening = streams.normal(MAX_PLAQUES, 3)
    ragged = 0.15 * noise(streams, frame, streams.uniform(8, 14), low=8, octaves=2)
    edge = torch.maximum(streams.log_uniform(0.5, 1.2), 0.3 * frame.spacing)
    masks = [torch.zeros_like(white) for _ in range(3)]
    for n in range(MAX_PLAQUES):
        offset = grid - spread(centre[:, n])
        axial = (offset * spread(direction[:, n])).sum(1, keepdim=True)
        radial = (offset.square().sum(1, keepdim=True) - axial.square()).clamp_min(0)
        size = (axial / spread(axial_radius[:, n])).square()
        size = size + radial / spread(radial_radius[:, n]).square()
        signed = (size.sqrt() - 1 + ragged) * spread(radial_radius[:, n])
        plaque = torch.sigmoid(-signed / spread(edge)) * spread((count > n).float())
        rim = plaque - torch.sigmoid(-(signed + 1.8) / spread(edge)) * plaque
        side = torch.sigmoid((offset * spread(opening[:, n])).sum(1, keepdim=True))
        dark, active = (spread(chosen[:, n].float()) for chosen in (is_dark, is_active))
        parts = (plaque, plaque * dark, rim * side * active)
        masks = [torch.maximum(mask, part) for mask, part in zip(masks, parts, strict=True)]
    all_plaques, holes, ring = (mask * white.clamp(0, 1) for mask in masks)
    return Plaques(all_plaques, holes, ring)


def _sample_sites(
    streams: RandomStreams, grid: Tensor, weight: Tensor, ventricle: Tensor, frame: SyntheticFrame
) -> tuple[Tensor, Tensor]:
    """Sample centres, mm, and the direction away from the ventricle, (B, MAX_PLAQUES, 3) each."""
    total = weight.flatten(1).double().cumsum(1)
    roll = streams.uniform(0, 1, MAX_PLAQUES).double() * total[:, -1:]
    voxel_index = torch.searchsorted(total, roll).clamp_max(total.shape[1] - 1)
    slopes = torch.stack(torch.gradient(ventricle[:, 0], dim=(1, 2, 3)), 1)

    def chosen(field: Tensor) -> Tensor:
        return field.flatten(2).gather(2, voxel_index[:, None].expand(-1, 3, -1)).transpose(1, 2)

    down = -chosen(slopes / frame.spacing.view(-1, 1, 1, 1, 1))
    return chosen(grid), down / down.norm(dim=-1, keepdim=True).clamp_min(1e-6)


def overlay_plaques(
    streams: RandomStreams, plaques: Plaques, image: Tensor, values: Tensor
) -> Tensor:
    """Add plaques to (B, 4, I, J, K): bright on T2 and FLAIR, the holes among them dark on T1."""
    gain = (
        streams.uniform(0.4, 1.2, 2) * (values[:, 2:, _OEDEMA] - values[:, 2:, _WHITE_CLASS]).abs()
    )
    t1, t1c, t2, flair = torch.split(image, 1, 1)
    t2 = t2 + plaques.every * spread(gain[:, :1])
    flair = flair + plaques.every * spread(gain[:, 1:])
    flair = flair - plaques.holes * spread(streams.uniform(0, 0.35))
    dark = plaques.every * spread(streams.uniform(0, 0.2))
    dark = dark + plaques.holes * spread(streams.uniform(0.1, 0.45))
    t1, t1c = t1 - dark, t1c - dark + plaques.ring * spread(streams.uniform(0.4, 1.3))
    return torch.cat([t1, t1c, t2, flair], 1).clamp_min(0)
