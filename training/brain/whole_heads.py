"""Synthetic whole heads of any contrast with their brain outline, and images without a brain.

One image per volume: each class of a label map has a random intensity, or one near that of T1, T1c,
T2 or FLAIR (synthesis as in SynthSeg, Billot et al. 2023, doi 10.1016/j.media.2023.102789).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from training.synth import classes as c
from training.synth.anatomy import rotation, sample_maps
from training.synth.atlas import INDIVIDUALS, load_labels
from training.synth.fields import (
    RandomStreams,
    SyntheticFrame,
    along_axes,
    blur,
    blur_matrix,
    noise,
    slice_matrix,
    spread,
)

_CELL_MM = 2
_FLUIDS = (c.FLUID, c.OUTER_FLUID, c.VENTRICLE)
_GREY = (c.CORTEX, c.THALAMUS, c.STRIATUM, c.CEREBELLAR_CORTEX)
_WHITES = (c.WHITE, c.PALLIDUM, c.STEM, c.DIENCEPHALON, c.CHIASM, c.CEREBELLAR_WHITE, c.CORD)
_GROUPS = (_FLUIDS, _GREY, _WHITES, (c.VESSEL, c.SINUS), (c.SOFT,), (c.BONE,), (c.MARROW,),
           (c.SKIN,), (c.MUCOSA,), (c.EYE,), (c.OTHER,))  # fmt: skip
_FAT = len(_GROUPS)
_TYPICAL = torch.tensor([
    # fluid grey white veins muscle bone marrow skin mucosa eye other fat
    [0.15, 0.50, 0.70, 0.20, 0.45, 0.08, 0.80, 0.75, 0.45, 0.15, 0.50, 1.15],  # T1
    [0.15, 0.50, 0.68, 1.15, 0.55, 0.10, 0.85, 0.80, 1.10, 0.15, 0.70, 1.20],  # T1c
    [1.10, 0.55, 0.38, 0.10, 0.15, 0.05, 0.40, 0.35, 0.90, 1.10, 0.40, 0.55],  # T2
    [0.12, 0.65, 0.50, 0.20, 0.25, 0.06, 0.35, 0.40, 0.90, 0.15, 0.45, 0.55],  # FLAIR
    [0.60, 0.75, 0.60, 0.30, 0.40, 0.10, 0.40, 0.45, 0.70, 0.60, 0.50, 0.60],  # proton density
])  # fmt: skip
"""Typical intensity by sequence and group, varied in every volume."""


@lru_cache(maxsize=len(INDIVIDUALS))
def _cells(head: int) -> tuple[Tensor, Tensor]:
    """Return class fractions in cells of 2 mm, (COUNT, I, J, K) uint8, and atlas mm to cells."""
    labels, affine = load_labels(head)
    fractions = torch.stack([
        (functional.avg_pool3d((labels == k).float()[None], _CELL_MM, ceil_mode=True)[0] * 255)
        .round().to(torch.uint8)
        for k in range(c.COUNT)
    ])  # fmt: skip
    cell_affine = affine.clone()
    cell_affine[:3, 3] += affine[:3, :3] @ torch.full((3,), (_CELL_MM - 1) / 2)
    cell_affine[:3, :3] *= _CELL_MM
    return fractions, torch.linalg.inv(cell_affine)[:3]


def _class_intensities(streams: RandomStreams) -> Tensor:
    """Return random intensities of each class, and of fat last, (B, COUNT + 1)."""
    batch = len(streams)
    random_values = streams.uniform(0, 1, len(_GROUPS) + 1)
    kind = streams.uniform(0, len(_TYPICAL) - 1e-3).long()
    typical = (_TYPICAL[kind] + streams.uniform(-0.15, 0.15, len(_GROUPS) + 1)).clamp_min(0)
    is_typical = streams.chance(0.65)[:, None]
    rows = torch.where(is_typical, typical, random_values)
    saturated = streams.chance(0.2)
    dark = rows[:, _FAT] * streams.uniform(0.05, 0.3)
    rows[:, _FAT] = torch.where(saturated, dark, rows[:, _FAT])
    rows[:, 6] = torch.where(saturated, rows[:, 6] * 0.4, rows[:, 6])
    class_offset = streams.uniform(-0.06, 0.06, c.COUNT + 1)
    table = torch.zeros(batch, c.COUNT + 1)
    for group, members in enumerate(_GROUPS):
        for member in members:
            table[:, member] = rows[:, group]
    table[:, -1] = rows[:, _FAT]
    table = (table + class_offset).clamp_min(0)
    table[:, c.AIR] = 0
    return table


def _atlas_positions(streams: RandomStreams, frame: SyntheticFrame) -> Tensor:
    """Return the randomly deformed atlas position of every voxel, mm, (B, 3, I, J, K)."""
    scale = streams.uniform(0.82, 1.14, 1) * streams.uniform(0.93, 1.07, 3)
    rotation_matrix = rotation(torch.deg2rad(streams.normal(3).clamp(-2.5, 2.5) * 11))
    shear = torch.eye(3) + torch.triu(streams.uniform(-0.08, 0.08, 3, 3), 1)
    linear = rotation_matrix @ shear @ torch.diag_embed(1 / scale)
    linear[:, :, 0] *= torch.where(streams.chance(0.5), -1.0, 1.0)[:, None]
    offset = torch.tensor([18.0, 28.0, 38.0]) * streams.uniform(-1, 1, 3)
    offset[:, 2] -= 22  # the field of view includes the neck, below the brain
    point = torch.einsum("bij,bjxyz->bixyz", linear, frame.grid_mm()) + spread(offset)
    long = noise(streams, frame, streams.uniform(45, 70), low=45, channels=3)
    point = point + long * spread(streams.uniform(1, 6))
    short = noise(streams, frame, streams.uniform(18, 28), low=18, channels=3)
    return point + short * spread(streams.uniform(0.2, 2))


def _cell_properties(shares: Tensor, table: Tensor, rough: Tensor) -> Tensor:
    """Return intensity, soft-tissue fraction, roughness and brain of each cell, (4, I, J, K)."""
    soft, brain = torch.zeros(c.COUNT), torch.zeros(c.COUNT)
    soft[c.SOFT] = 1
    brain[list(c.BRAIN)] = 1
    class_values = torch.stack([table[:-1], soft, rough, brain]) / 255
    return (class_values @ shares.flatten(1).float()).view(4, *shares.shape[1:])


def _with_lesions(
    streams: RandomStreams, frame: SyntheticFrame, image: Tensor, brain: Tensor
) -> Tensor:
    """Add up to three tumours, cavities or patches of oedema of any intensity."""
    for _ in range(3):
        if not streams.chance(0.25).any():
            continue
        centre = spread(streams.uniform(-1, 1, 3) * torch.tensor([60.0, 75.0, 60.0]))
        size = spread(streams.log_uniform(6, 38, 1) * streams.log_uniform(0.75, 1.35, 3))
        distance = ((frame.grid_mm() - centre) / size).norm(dim=1, keepdim=True)
        ragged = 0.2 * noise(streams, frame, streams.uniform(10, 22), low=10)
        inside = torch.sigmoid((1 - distance + ragged) / 0.1) * brain
        hollow = torch.sigmoid((streams.uniform(0.4, 0.9).view(-1, 1, 1, 1, 1) - distance) / 0.08)
        outer, inner = (spread(streams.uniform(0, 1.3)) for _ in range(2))
        value = outer + (inner - outer) * hollow * spread(streams.chance(0.5).float())
        opacity = inside * spread(streams.uniform(0.5, 1))
        image = image + opacity * (value - image)
    return image


def _defaced_or_stripped(
    streams: RandomStreams, frame: SyntheticFrame, image: Tensor, brain: Tensor
) -> Tensor:
    """Remove the face of some images, and skull and scalp of some."""
    if streams.chance(0.12).any():
        _, y, z = torch.split(frame.grid_mm(), 1, 1)
        slope, reach = spread(streams.uniform(0.3, 1.2)), spread(streams.uniform(30, 75))
        image = image * ~((y - slope * z > reach) & (brain < 0.02))
    if streams.chance(0.12).any():
        ragged = 0.1 * noise(streams, frame, streams.uniform(14, 24), low=14)
        widened = blur(brain, frame, 3.0) + ragged
        image = image * (widened > spread(streams.uniform(0.15, 0.55)))
    return image


def _field_of_view(streams: RandomStreams, frame: SyntheticFrame) -> Tensor:
    """Return the random field of view: it may end within the head, or be a thin slab."""
    keep = torch.ones(len(streams), 1, *frame.shape, dtype=torch.bool)
    centre, half = spread(streams.uniform(-45, 45)), spread(streams.uniform(8, 40))
    for axis, coordinate in enumerate(torch.split(frame.grid_mm(), 1, 1)):
        for side in (-1.0, 1.0):
            limit = spread(streams.uniform(-20 if axis else 5, 110))
            keep &= ~((coordinate * side > limit) & spread(streams.chance(0.09)))
        keep &= ~(((coordinate - centre).abs() > half) & spread(streams.chance(0.03)))
    return keep


def _with_acquisition_artefacts(
    streams: RandomStreams, frame: SyntheticFrame, image: Tensor
) -> Tensor:
    """Apply coil field, wrap-around, slice thickness, blur, gamma and noise."""
    field = noise(streams, frame, streams.uniform(60, 180), low=60)
    image = image * torch.exp(field * spread(streams.beta(1, 2) * 0.7))
    axis = streams.uniform(0, 2.9999).long()
    if streams.chance(0.06).any():
        wrapped = torch.roll(image, int(frame.shape[1] * 0.7), 3)
        image = image + wrapped * spread(streams.uniform(0.2, 1))
    thick = streams.log_uniform(2.5, 8) * streams.chance(0.45).float()
    sigma = streams.uniform(0, 1.8)
    matrices = []
    for k, size in enumerate(frame.shape):
        along = (axis == k).float()
        smooth = blur_matrix((sigma + 0.25 * thick * along) / frame.spacing, size)
        slices = slice_matrix(thick * along / frame.spacing, streams.uniform(-1, 1), size)
        matrices.append(slices @ smooth)
    image = along_axes(image, matrices)
    top = image.flatten(1).amax(1).clamp_min(1e-3)
    image = (image / spread(top)).clamp_min(0) ** spread(streams.uniform(-0.4, 0.4).exp())
    level = spread(streams.beta(1, 3) * 0.11)
    grain = torch.hypot(image + streams.normal(1, *frame.shape) * level,
                        streams.normal(1, *frame.shape) * level)  # fmt: skip
    cleaned = (image > 1e-3) | spread(streams.chance(0.6))
    return grain * cleaned


def _other_objects(streams: RandomStreams, frame: SyntheticFrame) -> Tensor:
    """Return images without a head: phantoms, limbs, trunks, empty ones, (B, 1, I, J, K)."""
    grid = frame.grid_mm() - spread(streams.uniform(-25, 25, 3))
    rotation_matrix = rotation(
        streams.uniform(-0.5, 0.5, 3) + torch.pi / 2 * streams.uniform(0, 2, 3).round()
    )
    grid = torch.einsum("bij,bjxyz->bixyz", rotation_matrix, grid)
    size = spread(streams.log_uniform(30, 130, 3))
    is_elongated = streams.chance(0.5)
    size[:, 2:] = torch.where(spread(is_elongated), 400.0, size[:, 2:])
    power = spread(torch.where(streams.chance(0.7), 2.0, 8.0))
    wavy = noise(streams, frame, streams.uniform(25, 60), low=25)
    wavy = wavy * spread(streams.chance(0.5) * 0.12)
    distance = ((grid / size).abs() ** power).sum(1, keepdim=True) ** (1 / power) + wavy
    value = spread(streams.uniform(0.1, 1)).expand_as(distance)
    if streams.chance(0.35).any():  # a bottle of water
        return value * (distance < 1)
    for _ in range(2):  # layers: fat, muscle, bone, marrow; or shells of plastic
        layer = distance < spread(streams.uniform(0.3, 0.97))
        chosen = layer & spread(streams.chance(0.6))
        value = torch.where(chosen, spread(streams.uniform(0, 1.2)), value)
    for _ in range(3):  # organs, inserts
        position = spread(streams.uniform(-0.7, 0.7, 3)) * size.clamp_max(110)
        width = spread(streams.log_uniform(4, 40, 1) * streams.log_uniform(0.6, 1.6, 3))
        insert = ((grid - position) / width).norm(dim=1, keepdim=True) < 1
        new = spread(streams.uniform(0, 1.2))
        value = torch.where(insert & spread(streams.chance(0.5)), new, value)
    organs = noise(streams, frame, streams.uniform(14, 45), low=14, octaves=2)
    is_organ = organs > spread(streams.uniform(-0.5, 1.5))
    organs = torch.where(is_organ, spread(streams.uniform(0, 1)), value)
    value = torch.where(spread(streams.chance(0.4)), organs, value)
    return value * (distance < 1) * spread(streams.chance(0.93).float())


def _crude_head(streams: RandomStreams, frame: SyntheticFrame) -> tuple[Tensor, Tensor]:
    """Return an ellipsoid of two tissues with ventricles, with or without skull, and its brain."""
    grid = frame.grid_mm() - spread(streams.uniform(-15, 15, 3))
    size = spread(torch.tensor([64.0, 80.0, 62.0]) * streams.uniform(0.85, 1.15, 3))
    distance = (grid / size).norm(dim=1, keepdim=True)
    distance = distance + 0.02 * noise(streams, frame, streams.uniform(12, 30), low=12)
    wavy = noise(streams, frame, streams.uniform(9, 30), low=9, octaves=2)
    white, grey, fluid, bone, scalp = (spread(v) for v in streams.uniform(0.1, 1.2, 5).unbind(1))
    grey = torch.where(spread(streams.chance(0.5)), white * spread(streams.uniform(0.6, 1.4)), grey)
    image = torch.where(distance + 0.06 * wavy > spread(streams.uniform(0.7, 0.95)), grey, white)
    ventricle_offset = spread(torch.tensor([[1.0, 0.0, 0.0]])) * spread(streams.uniform(9, 18))
    width = spread(streams.log_uniform(5, 11, 1) * torch.tensor([1.0, 2.2, 1.3]))
    for side in (-1.0, 1.0):
        inside = ((grid - side * ventricle_offset) / width).norm(dim=1, keepdim=True) < 1
        image = torch.where(inside, fluid, image)
    brain = (distance < 1).float()
    shells = (distance < 1.1) * bone * 0.3 + ((distance >= 1.1) & (distance < 1.2)) * scalp
    return image * brain + (1 - brain) * shells * spread(streams.chance(0.5).float()), brain


def _head(streams: RandomStreams, frame: SyntheticFrame, head: int) -> tuple[Tensor, Tensor]:
    """Return one head in any contrast, and its brain."""
    point, table = _atlas_positions(streams, frame), _class_intensities(streams)
    shares, to_cell = _cells(head)
    painted = _cell_properties(shares, table[0], streams.beta(1, 3, c.COUNT)[0] * 0.5)
    parts = sample_maps(painted, to_cell, point[0])[None]
    image, soft, uneven, brain = torch.split(parts, 1, 1)
    fatty = noise(streams, frame, streams.uniform(8, 20), low=8, octaves=2)
    fatty = torch.sigmoid((fatty - spread(streams.uniform(-1.2, 1.0))) / 0.2)
    image = image + soft * fatty * spread(table[:, -1] - table[:, c.SOFT])
    grain = noise(streams, frame, streams.uniform(5, 12), low=5, octaves=2)
    image = (image * (1 + uneven * grain)).clamp_min(0)
    return image, brain


@torch.no_grad()
def generate_head(
    shape: tuple[int, int, int], spacing_mm: float, seed: int, heads: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Generate a whole head, part of one, or something else; the same seed gives the same image.

    Parameters
    ----------
    shape : (3,) int
        Voxels along I, J, K (right, anterior, superior), with edges of `spacing_mm`.
    heads : sequence of int
        The individuals to choose from.

    Returns
    -------
    image : (1, 1, I, J, K) float32 Tensor
        Positive.
    brain : (1, 1, I, J, K) float32 Tensor
        Fraction of brain.
    """
    streams = RandomStreams([seed], torch.device("cpu"), stream=40)
    frame = SyntheticFrame(shape, torch.full((1,), spacing_mm))
    if streams.chance(0.2).any():
        image = _other_objects(streams, frame)
        brain = torch.zeros_like(image)
    else:
        head = heads[int(streams.uniform(0, len(heads) - 1e-3))]
        is_crude = bool(streams.chance(0.06).any())
        image, brain = _crude_head(streams, frame) if is_crude else _head(streams, frame, head)
        image = _with_lesions(streams, frame, image, brain)
        image = _defaced_or_stripped(streams, frame, image, brain)
    seen = _field_of_view(streams, frame)
    return _with_acquisition_artefacts(streams, frame, image) * seen, brain * seen
