"""Find the brain: a mask of any tool, the outline of a stripped image, or a small network.

The network was trained on synthetic heads of random contrast (`network.unet`); it segments each
sequence at 2.5 mm, and the logits are averaged. A stripped image does not need it: `is_bare` tells
a brain from a head on a blank background by its brightness from outside to inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Floats, Mask, bounding_box, ras_grid
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.numerics import connected_parts
from lesionlens.base.records.study import PreparationStep, StepName
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.intensities import Scan, Voxels, foreground, is_even
from lesionlens.imaging.preparation.resampling import (
    HALF,
    block_means,
    cut_grid,
    resample_coarsely,
    resample_mask,
    values_on,
)
from lesionlens.imaging.reading.nifti import open_volume

WHOLE_ML = (700.0, 2000.0)
"""Volumes between which a mask may be a whole brain."""
PARTIAL_FROM_MM, PARTIAL_SHARE = 3.0, 0.35
"""Voxel edge from which voxels below this share of the brain's median are removed: they are mostly
not brain. For 5 mm slices of a real case the mask is 1,505 ml without this rule, 1,370 ml with it
and 1,337 ml in the reference."""
RIM_SHARE, EDGE_SHARE = 0.12, 0.5
"""Share of the brain's median, on the brightest sequence, below which the outermost layer of voxels
is due to interpolation (.17 and more in scans as acquired, at most .05 after resampling), and at
which the edge of a smoothed brain then lies."""
PART_SHARE = 0.1
"""Share of a stripped brain's largest part from which another part belongs to the brain."""
SHELL_MM, SHELLS = 3.0, 8
MIN_SHELL, MAX_SHELL, MIN_DIP = 0.55, 1.5, 0.85
"""Median brightness of the shells of a bare brain relative to its inside, and relative to brighter
shells on both sides. Measured: .63 to 1.44 and .88 and more in 72 stripped scans; ten heads are out
of these ranges: scalp is brighter, the skull darker, FLAIR's scalp darker."""
SPACING_MM = 2.5
"""Voxel edge on which the network was trained."""
FINER = 2
"""The outline is computed on voxels of this fraction of the network's voxel edge."""
SURE_LOGIT = 2.0
"""Logit at which a voxel is certainly brain (probability .88)."""
MIN_ML, MIN_SURE_OF_OBJECT, MIN_SURE_FRACTION = 15.0, 0.03, 0.7
"""Certain brain of a scan at least, also as a share of its bright voxels; and of the mask: .83 and
more in real heads, .02 to .4 in bottles of water."""
BEYOND_MM, MAX_BEYOND = 8.0, 0.12
"""Share of an outline at this distance from all that looks like brain, above which it is a head's:
at most .03 in 67 stripped images, .15 and more in thirteen of fourteen heads on blank ground."""


@dataclass(frozen=True, slots=True, eq=False)
class Brain:
    """A brain mask and how it was found."""

    mask: Mask
    """(I, J, K) bool."""
    grid: Grid
    step: PreparationStep
    notices: tuple[str, ...] = ()
    stripped: bool = False
    """Whether it is the outline of a stripped image."""

    @property
    def volume_ml(self) -> float:
        """Volume of the mask."""
        return self.grid.volume_ml(self.mask)


def find_brain(
    scans: Mapping[MrSequence, Scan],
    reference: MrSequence,
    context: RunContext,
    *,
    mask_file: Path | None = None,
    extract: bool = True,
) -> Brain:
    """Return the brain in registered scans, in the frame of the reference.

    Parameters
    ----------
    mask_file : Path or None
        NIfTI mask of any tool, on any grid in the millimetres of the reference.
    extract : bool
        Whether to use the network; else outlines are believed, and a head counts as brain.

    Raises
    ------
    UnusableInputError, ReadError
        No brain is found, or the mask cannot be used.
    """
    native = scans[reference].series.grid
    if mask_file is not None:
        return _of_file(mask_file, native, reference)
    outlined = next((s for s in (reference, *scans) if scans[s].stripped), None)
    if outlined is None:
        if extract:
            return _extracted(scans, reference, context)
        step = PreparationStep(StepName.BRAIN, None, False, "Skipped on request.")
        return Brain(scans[reference].values > 0, native, step)
    scan = scans[outlined]
    others = [other for other in scans.values() if other is not scan and other.moved is scan.moved]
    beside = (values_on(other.values, other.series.grid, scan.series.grid) for other in others)
    mask = stripped_brain_mask([scan.values, *(v for v in beside if v is not None)], scan.grid)
    message = "Already skull-stripped: the existing outline was used."
    step = PreparationStep(StepName.BRAIN, outlined, False, message)
    brain = Brain(mask, scan.grid, step, stripped=True)
    if not extract or is_bare(scan.values, scan.grid):
        return brain
    return _head_or(brain, scans, reference, context)


def _of_file(path: Path, native: Grid, reference: MrSequence) -> Brain:
    volume = open_volume(path)
    grid, mask = volume.grid, volume.load() > HALF
    volume_ml = native.volume_ml(resample_mask(mask, grid, native))
    if not volume_ml:
        raise UnusableInputError(
            f"The brain mask {path.name!r} covers nothing of the reference, "
            f"{reference.display_name}.",
            hint="Name a mask that was drawn on this study.",
        )
    message = f"The brain mask {path.name!r} was used: {volume_ml:.0f} ml."
    step = PreparationStep(StepName.BRAIN, reference, True, message, volume_ml)
    return Brain(mask, grid, step)


def is_bare(values: Voxels, grid: Grid) -> bool:
    """Return whether the object of a stripped image is a brain, not a head on blank ground.

    Parameters
    ----------
    values : (I, J, K)
        Background zero.

    Notes
    -----
    From outside to inside, a brain has about one brightness; a head has scalp, skull and fluid.
    """
    i, j, k = np.clip(np.rint(SHELL_MM / grid.nominal_spacing_mm).astype(int), 1, grid.shape)
    small, coarse = block_means(values, grid, (int(i), int(j), int(k)))
    outline = np.pad(fill_holes(foreground(small)), 1, mode="edge")
    depth_mm = ndimage.distance_transform_edt(outline, sampling=coarse.spacing_mm)[1:-1, 1:-1, 1:-1]
    inside = small[depth_mm > (SHELLS - 1) * SHELL_MM]
    low, high = WHOLE_ML
    if not (low < coarse.volume_ml(depth_mm > 0) < high and inside.size):
        return False
    if is_even(small, depth_mm > 0):
        return False
    shell = np.ceil(depth_mm / SHELL_MM).astype(int)  # 1 is the outermost, of partial voxels
    medians = np.array([np.median(small[shell == n]) if (shell == n).any() else np.nan
                        for n in range(1, SHELLS)]) / np.median(inside)  # fmt: skip
    medians = medians[~np.isnan(medians)]
    dips = [
        medians[n] / min(medians[:n].max(), max(*medians[n + 1 :], 1.0))
        for n in range(1, len(medians) - 1)
    ]
    return bool(
        medians[1:].max() <= MAX_SHELL and medians[2:].min() >= MIN_SHELL and min(dips) >= MIN_DIP
    )


def _head_or(
    outline: Brain, scans: Mapping[MrSequence, Scan], reference: MrSequence, context: RunContext
) -> Brain:
    """Return the network's brain where the outline is a head's, else the outline.

    Raises
    ------
    UnusableInputError
        It is the outline of one material.
    """
    native = scans[reference].series.grid
    logit, grid = brain_logit(scans, native, context)
    visible = resample_coarsely(outline.mask.astype(np.float32), outline.grid, grid) > HALF
    count = max(int(visible.sum()), 1)
    sure = float((visible & (logit > SURE_LOGIT)).sum()) / count
    description = f"an object of {outline.volume_ml:.0f} ml, {sure:.0%} of which look like brain"
    if sure < MIN_SURE_OF_OBJECT:
        scan = next(scan for scan in scans.values() if scan.stripped)
        if is_even(scan.values, foreground(scan.values)):
            raise _no_brain(f"{description}, of one uniform material")
        notice = f"Is this a brain? The scan shows {description}. Check it by eye."
        return Brain(outline.mask, outline.grid, outline.step, (notice,), stripped=True)
    distance_mm = ndimage.distance_transform_edt(~largest(logit > 0), sampling=grid.spacing_mm)
    if float((visible & (distance_mm > BEYOND_MM)).sum()) / count <= MAX_BEYOND:
        return outline
    brain = _masked(logit, grid, reference)
    return outline if brain.notices or not brain.mask.any() else brain


def _extracted(
    scans: Mapping[MrSequence, Scan], reference: MrSequence, context: RunContext
) -> Brain:
    """Return the brain of heads by the network."""
    logit, grid = brain_logit(scans, scans[reference].series.grid, context)
    image = resample_coarsely(scans[reference].values, scans[reference].series.grid, grid)
    component = largest(logit > 0)
    sure_ml, component_ml = grid.volume_ml(logit > SURE_LOGIT), grid.volume_ml(component)
    if sure_ml < MIN_SURE_FRACTION * component_ml and is_even(image, component):
        raise _no_brain(f"an object of one uniform material, {component_ml:.0f} ml")
    object_ml = grid.volume_ml(image > 0.1 * float(np.quantile(image[::2, ::2, ::2], 0.99)))
    if sure_ml < max(MIN_ML, MIN_SURE_OF_OBJECT * object_ml):
        raise _no_brain(f"{sure_ml:.0f} of {object_ml:.0f} ml look like brain")
    return _masked(logit, grid, reference)


def _no_brain(reason: str) -> UnusableInputError:
    return UnusableInputError(
        f"There is no brain in the scan: {reason}.",
        hint="Choose the series that shows the head; if this one does, name a mask of its brain "
        "with --brain-mask.",
    )


def brain_logit(
    scans: Mapping[MrSequence, Scan], native: Grid, context: RunContext
) -> tuple[Floats, Grid]:
    """Return the mean logit of brain over the sequences, each within its field of view.

    Returns
    -------
    (I, J, K) float32, Grid
        Above zero where brain is more likely than not; 2.5 mm RAS+ over the native field of view.
    """
    from lesionlens.network.unet import brain_logits  # torch, only for a skull

    affine, shape = ras_grid(native.affine, native.shape, SPACING_MM)
    grid = Grid(shape, affine, native.frame_uid)
    images = [
        resample_coarsely(scan.values, scan.series.grid, grid, moved=scan.moved)
        for scan in scans.values()
    ]
    total, weights = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    with closing(brain_logits(images)) as logits:  # cancelled: no further pass is started
        for image in images:
            context.check("finding the brain")
            weight = (image != 0).astype(np.float32) + np.float32(1e-3)
            total += weight * next(logits)
            weights += weight
    return total / weights, grid


def _masked(logit: Floats, grid: Grid, reference: MrSequence) -> Brain:
    """Threshold a logit map at zero on a finer grid: one component without holes."""
    component = largest(logit > 0)
    box = bounding_box(component, margin=2) or (slice(0, 1),) * 3
    mask = fill_holes(largest(_upsampled(logit[box]) > 0))
    i, j, k = mask.shape
    fine = cut_grid(grid, box).scaled(1 / FINER, (i, j, k))
    volume_ml = fine.volume_ml(mask)
    step = PreparationStep(
        StepName.BRAIN, reference, True, f"built-in network: {volume_ml:.0f} ml.", volume_ml
    )
    size = float(component.sum())
    elsewhere = (float((logit > 0).sum()) - size) / max(size, 1.0)
    unsure = float((np.abs(logit[component]) < 1.0).mean()) if size else 1.0
    doubt = None
    if not may_be_whole(volume_ml):
        doubt = f"it measures {volume_ml:.0f} ml"
    elif elsewhere > 0.1:
        doubt = f"the network also finds brain elsewhere ({elsewhere:.0%} as much)"
    elif unsure > 0.2:
        doubt = f"the network is uncertain about {unsure:.0%} of it"
    notices = (f"The brain mask is doubtful: {doubt}. Check it by eye.",) if doubt else ()
    return Brain(mask, fine, step, notices)


def _upsampled(values: Floats) -> Floats:
    """Interpolate linearly at the centres of FINER^3 sub-voxels, edge values held."""
    for axis in range(3):
        slabs = np.moveaxis(values, axis, 0)
        before = np.concatenate([slabs[:1], slabs[:-1]])
        after = np.concatenate([slabs[1:], slabs[-1:]])
        pair = [0.75 * slabs + 0.25 * before, 0.75 * slabs + 0.25 * after]
        parts = np.stack(pair, 1, dtype=np.float32).reshape(-1, *slabs.shape[1:])
        values = np.moveaxis(parts, 0, axis)
    return values


def may_be_whole(volume_ml: float) -> bool:
    """Return whether a brain mask has a volume that a whole brain may have."""
    low, high = WHOLE_ML
    return low < volume_ml < high


def stripped_brain_mask(images: Sequence[Voxels], grid: Grid) -> Mask:
    """Return the filled object of stripped images, (I, J, K), without its interpolated rim.

    The outermost voxels of thick slices, and of images resampled or smoothed after stripping, are
    partial-volume voxels that are dark on every sequence. Only voxels that are bright enough to be
    mostly brain are kept.

    Parameters
    ----------
    images : sequence of (I, J, K)
        On `grid`, background zero; the object is that of the first.
    """
    mask = fill_holes(large_parts(foreground(images[0])))
    if max(grid.nominal_spacing_mm) >= PARTIAL_FROM_MM:
        bright = images[0] >= PARTIAL_SHARE * float(np.median(images[0][mask]))
        return fill_holes(large_parts(mask & bright))
    box = bounding_box(mask)
    if box is None:
        return mask
    result = np.zeros_like(mask)
    result[box] = _without_rim([image[box] for image in images], mask[box])
    return result


def _without_rim(images: Sequence[Voxels], mask: Mask) -> Mask:
    """Return the mask without partial-volume voxels at its rim, if there are any."""
    edge = mask & ~ndimage.binary_erosion(mask)
    if float(np.median(_brightest(images, mask, edge))) > RIM_SHARE:
        return mask
    core = mask
    for _ in range(2):  # the rim itself lowers the first median
        bright = np.zeros_like(mask)
        bright[mask] = _brightest(images, core, mask) >= EDGE_SHARE
        core = fill_holes(large_parts(bright))
    return core


def _brightest(images: Sequence[Voxels], mask: Mask, voxels: Mask) -> Floats:
    """Return the relative intensity of voxels on the brightest sequence."""
    scales = [np.float32(max(float(np.median(image[mask])), 1e-12)) for image in images]
    scaled = [image[voxels] / scale for image, scale in zip(images, scales, strict=True)]
    return np.asarray(np.max(scaled, axis=0), dtype=np.float32)


def largest(mask: Mask) -> Mask:
    """Return the largest connected component (6-neighbourhood)."""
    return large_parts(mask, 1.0)


def large_parts(mask: Mask, min_fraction: float = PART_SHARE) -> Mask:
    """Return the connected components of at least a share of the largest (6-neighbourhood)."""
    box = bounding_box(mask)  # half of a head's image is air
    if box is None:
        return mask
    parts, sizes = connected_parts(mask[box], None)
    if len(sizes) <= 2:
        return mask
    result = np.zeros_like(mask)
    result[box] = (sizes >= min_fraction * sizes.max())[parts]
    return result


def fill_holes(mask: Mask) -> Mask:
    """Fill enclosed holes of a mask; `ndimage.binary_fill_holes` takes three times as long."""
    box = bounding_box(mask)  # voxels outside the box are never enclosed
    if box is None:
        return mask
    components, count = ndimage.label(np.pad(~mask[box], 1, constant_values=True))
    if count <= 1:
        return mask
    filled = np.zeros_like(mask)
    filled[box] = (components != components[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return filled
