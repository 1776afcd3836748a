"""Synthetic metastases in copies of real brains.

Shape, edge, ring, oedema and intensities are those of `network.synth`; only the surrounding tissue
is real. Unlike in a synthetic head there are no thick slices, no shift between the sequences and
no mass effect.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from lesionlens.analysis.findings import structures
from lesionlens.analysis.findings.anatomy import find_head
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.network.synth import generator, other_lesions, tumour
from lesionlens.network.synth.anatomy import CORTEX, SULCUS, VENTRICLE, WHITE, Anatomy
from lesionlens.network.synth.contrast import CLASSES, sample_contrast
from lesionlens.network.synth.fields import RandomStreams, SyntheticFrame

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
T1, T1C, T2, FLAIR = range(4)
SITES = ("cortex", "surface", "cerebellum", "deep white matter")
_RADII_MM = (1.7, 7.0)
"""Radii, log-uniform: the lower part of the generator's range, for more small lesions."""
_LESIONS = 8
_EDGE_VOX = 56
_FROM_TUMOUR_MM, _MIN_DISTANCE_MM = 15.0, 22.0
_CPU = torch.device("cpu")
_LESION_CLASSES = slice(CLASSES.index("oedema"), CLASSES.index("enhancing") + 1)


@dataclass(frozen=True, slots=True, eq=False)
class Brain:
    """A skull-stripped brain on its grid of 1 mm, with RAS axes."""

    images: Floats
    """(4, I, J, K): T1, T1c, T2, FLAIR."""
    tumour: Mask
    """(I, J, K): the tumour of the reference."""
    grid: Grid

    @property
    def mask(self) -> Mask:
        """The brain, (I, J, K)."""
        return np.asarray(ndimage.binary_fill_holes((self.images != 0).any(0)))

    def padded(self, voxels: int) -> Brain:
        """Return the brain padded with zeros on every side."""
        sides = [(voxels, voxels)] * 3
        affine = self.grid.affine.copy()
        affine[:3, 3] -= affine[:3, :3] @ np.full(3, voxels)
        images = np.pad(self.images, [(0, 0), *sides])
        return Brain(images, np.pad(self.tumour, sides), Grid(images.shape[1:], affine))


def read_brain(folder: Path) -> Brain:
    """Read the four sequences and the reference segmentation of a case."""
    files = [
        nib.as_closest_canonical(nib.load(folder / f"{name}.nii.gz"))
        for name in (*(s.value for s in MrSequence), "seg")
    ]
    *images, labels = (np.asarray(f.dataobj, np.float32) for f in files)
    return Brain(np.stack(images), labels > 0, Grid(labels.shape, files[0].affine))


def write_study(folder: Path, images: Floats, grid: Grid) -> None:
    """Write the four sequences with names that `open_study` recognises."""
    for sequence, image in zip(MrSequence, images, strict=True):
        nib.save(nib.Nifti1Image(image, grid.affine), folder / f"{sequence.value}.nii.gz")


class BrainWithMetastases(NamedTuple):
    """A brain with synthetic lesions."""

    images: Floats
    whole: Mask
    """(I, J, K): the added lesions with their oedema."""
    cores: NDArray[np.uint8]
    """(I, J, K): number of the added lesion, 0 elsewhere."""
    sites: list[str]
    """Of the lesions, in the order of their numbers."""


def add_metastases(brain: Brain, seed: int) -> BrainWithMetastases:
    """Add up to eight metastases to a copy of a brain, away from its tumour."""
    added = _add_metastases(brain.padded(_EDGE_VOX // 2), seed)
    box = (slice(_EDGE_VOX // 2, -_EDGE_VOX // 2),) * 3
    return BrainWithMetastases(
        added.images[(slice(None), *box)], added.whole[box], added.cores[box], added.sites
    )


def _add_metastases(brain: Brain, seed: int) -> BrainWithMetastases:
    rng = np.random.default_rng(seed)
    mask = brain.mask
    healthy = mask & ~brain.tumour
    tissue, levels = _tissue(brain, healthy)
    images, cores, sites = brain.images.copy(), np.zeros(mask.shape, np.uint8), []
    whole = np.zeros(mask.shape, bool)
    for site, centre in _lesion_positions(brain, mask, tissue, rng):
        box = tuple(slice(c - _EDGE_VOX // 2, c + _EDGE_VOX // 2) for c in centre)
        radius_mm = np.exp(rng.uniform(*np.log(_RADII_MM)))
        inside = healthy[box] & (cores[box] == 0)
        patch = _simulate_lesion(tissue[(slice(None), *box)], inside, levels, float(radius_mm), rng)
        part = images[(slice(None), *box)]
        rough = part - ndimage.gaussian_filter(part, (0, 1, 1, 1))
        part += patch.opacity * (rough - part) + patch.image
        sites.append(site)
        cores[box][patch.core] = len(sites)
        whole[box] |= patch.whole
    return BrainWithMetastases(images * mask, whole, cores, sites)


def _tissue(brain: Brain, healthy: Mask) -> tuple[Floats, Floats]:
    """Return tissue fractions (5, I, J, K), and intensities of cortex and white matter (4, 2)."""
    t1, t2 = brain.images[T1], brain.images[T2]
    features = np.stack([(v[healthy] - v[healthy].mean()) / v[healthy].std() for v in (t1, t2)], 1)
    order = np.argsort(features[:, 0])
    centres = np.stack([features[order[int(f * len(order))]] for f in (0.08, 0.45, 0.85)])
    nearest = np.zeros(0, int)
    for _ in range(25):
        nearest = ((features[:, None] - centres) ** 2).sum(-1).argmin(1)
        centres = np.stack([features[nearest == n].mean(0) for n in range(3)])
    fluid, grey, white = np.argsort(centres[:, 0])
    kind = np.full(healthy.shape, -1)
    kind[healthy] = nearest
    levels = np.stack(
        [[np.median(image[kind == n]) for n in (grey, white)] for image in brain.images]
    )
    central = ndimage.distance_transform_edt(brain.mask) > 18
    tissue = np.zeros((5, *healthy.shape), np.float32)
    tissue[WHITE], tissue[CORTEX] = kind == white, kind == grey
    tissue[VENTRICLE], tissue[SULCUS] = (kind == fluid) & central, (kind == fluid) & ~central
    return ndimage.gaussian_filter(tissue, (0, 0.6, 0.6, 0.6)), levels.astype(np.float32)


def _lesion_positions(
    brain: Brain, mask: Mask, tissue: Floats, rng: np.random.Generator
) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield site and central voxel of each lesion, if there is room for it."""
    depth = ndimage.distance_transform_edt(mask)
    free = mask & (depth > 0) & (tissue[VENTRICLE] + tissue[SULCUS] < 0.5)
    if brain.tumour.any():
        free &= ndimage.distance_transform_edt(~brain.tumour) > _FROM_TUMOUR_MM
    voxels = np.argwhere(free)
    voxels = voxels[rng.permutation(len(voxels))]
    voxel_index = tuple(voxels.T)
    head = find_head(mask, brain.grid)
    cerebellum = structures.STRUCTURES.index("cerebellum")
    is_cerebellar = (
        structures.shares_at(head.to_mni(brain.grid.to_mm(voxels)))[:, cerebellum] >= 0.8
        if head
        else np.zeros(len(voxels), bool)
    )
    is_suitable = dict(
        zip(
            SITES,
            (
                ~is_cerebellar
                & (depth[voxel_index] > 3)
                & (depth[voxel_index] <= 8)
                & (tissue[CORTEX][voxel_index] > 0.5),
                ~is_cerebellar & (depth[voxel_index] <= 2.5),
                is_cerebellar & (depth[voxel_index] > 3),
                ~is_cerebellar & (depth[voxel_index] > 12) & (tissue[WHITE][voxel_index] > 0.7),
            ),
            strict=True,
        )
    )
    used_voxels: list[NDArray[np.intp]] = []
    for number in range(_LESIONS):
        site = SITES[number % len(SITES)]
        room = voxels[is_suitable[site]]
        for other in used_voxels:
            room = room[((room - other) ** 2).sum(1) > _MIN_DISTANCE_MM**2]
        if len(room):
            used_voxels.append(room[0])
            yield site, room[0]


class _Patch(NamedTuple):
    opacity: Floats
    """(4, n, n, n): fraction of each image that the lesion replaces."""
    image: Floats
    """(4, n, n, n): intensities of that part."""
    core: Mask
    whole: Mask


def _simulate_lesion(
    tissue: Floats, inside: Mask, levels: Floats, radius_mm: float, rng: np.random.Generator
) -> _Patch:
    """Simulate one lesion in the centre of a box."""
    seeds = [int(rng.integers(2**31))]
    streams, contrast_streams = RandomStreams(seeds, _CPU), RandomStreams(seeds, _CPU, stream=1)
    frame = SyntheticFrame(inside.shape, torch.ones(1))
    style = tumour.RING if rng.random() < 0.35 else tumour.SOLID
    many = tumour.MAX_LESIONS
    plan = tumour.LesionPlan(
        torch.ones(1),
        torch.full((1, many, 3), 0.5),
        torch.full((1, many), radius_mm),
        torch.full((1,), float(style)),
        torch.full((1,), tumour.METASTASES),
    )
    brain = torch.from_numpy(inside.astype(np.float32))[None, None]
    own = torch.from_numpy(tissue)[None]
    nothing = torch.zeros_like(brain)
    anatomy = Anatomy(own, nothing, brain, brain, nothing, nothing)
    distance = tumour.measure(streams, frame, plan, frame.grid_mm())
    lesion = tumour.compose(streams, frame, plan, distance, anatomy)
    fractions = torch.cat([lesion.oedema, lesion.solid, lesion.necrosis, lesion.enhancing], 1)
    fractions = fractions * brain
    membership = torch.cat([own * (1 - fractions.sum(1, keepdim=True)), fractions, nothing], 1)
    config = generator.GeneratorConfig()
    whole, core, _ = generator._labels(config, frame, membership, brain)[0].bool()
    values = _intensities(contrast_streams, levels, plan.kind)
    blurred = np.stack([
        ndimage.gaussian_filter(fractions[0].numpy(), (0, *(sigma,) * 3))
        for sigma in rng.uniform(0, 0.9, 4)
    ])  # fmt: skip
    opacity = blurred.sum(1) * inside
    image = np.einsum("sc,scijk->sijk", values, blurred) * inside
    return _Patch(opacity, image.astype(np.float32), core.numpy(), whole.numpy())


def _intensities(streams: RandomStreams, levels: Floats, kind: Tensor) -> Floats:
    """Return intensities (4, 4) of oedema, solid, necrosis and enhancement on each image."""
    unit = np.array([levels[T1, 1], levels[T1C, 1], levels[T2, 0], levels[FLAIR, 0]])
    values = sample_contrast(streams, torch.ones(1, dtype=torch.bool))
    values[0, :, CLASSES.index("cortex")] = torch.from_numpy(levels[:, 0] / unit)
    values = other_lesions.recolour(
        streams, values, kind, other_lesions.LesionFrequencies(metastases=1.0)
    )
    return np.asarray(values[0, :, _LESION_CLASSES].numpy() * unit[:, None])
