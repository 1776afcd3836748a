"""Detect missing signal: NaN or infinite voxels, and blank halves, blocks and slabs.

A head has a curved surface. If tissue ends in a large plane of the voxel grid, the image was cut
there and the part beyond is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.errors import ReadError
from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.numerics import connected_parts
from lesionlens.base.records.study import Acquired, QualityCheck, failed_check, passed_check
from lesionlens.imaging.preparation.checks.quality import SIDES
from lesionlens.imaging.preparation.lost_slices import TISSUE_FRACTION

FLAT_MM2 = 2000.0
"""Largest flat face of tissue against blank voxels that counts as natural, minus that of the
neighbouring layers: 3 to 1840 mm2 measured in the sequences of thirteen heads in voxels of 1 to
5 mm; a blank half makes 5600 to 30,000."""
FLAT_MM2_PER_MM = 400.0
"""The same for each millimetre of a voxel's edge, where slices are thicker: 340 at 6 mm."""
BETWEEN_ML = 1.0
"""Volume of non-finite voxels between tissue (on two axes) that leads to a refusal."""


@dataclass(frozen=True, slots=True)
class FlatCut:
    """A plane in which tissue ends within the field of view."""

    area_cm2: float
    missing_side: str
    """Side of the lost part relative to the tissue: "left", "upper", ..."""


def replace_nonfinite(values: Floats, grid: Grid, label: str) -> tuple[Floats, str | None]:
    """Return voxels without NaN and infinity, with a notice if some were replaced.

    Raises
    ------
    ReadError
        There is infinity, or NaN enclosed by, between or cutting through tissue.
    """
    if np.isfinite(values.sum(dtype=np.float64)):
        return values, None
    invalid = ~np.isfinite(values)
    fraction = float(invalid.mean())
    percentage = "less than 0.1%" if fraction < 0.0005 else f"{fraction:.1%}"
    reason = _reason_not_background(values, invalid, grid)
    if reason:
        raise ReadError(
            found=f"voxels that are not finite numbers (NaN or infinite) in {label}: "
            f"{percentage}; {reason}",
            expected="finite voxels",
            next_step="Convert the scan again, or repair these voxels before opening it",
        )
    darkest = np.float32(values[~invalid].min())
    return np.where(invalid, darkest, values), (
        f"{label}: {percentage} of the voxels were NaN and count as background; they were not "
        f"analysed."
    )


def _reason_not_background(values: Floats, invalid: Mask, grid: Grid) -> str | None:
    """Return why non-finite voxels may hide tissue, or None."""
    if float(invalid.mean()) > 0.95 or np.isinf(values).any():
        return "no scanner writes so many, or infinity"
    components, _ = ndimage.label(invalid)
    border_components = {
        int(v) for axis in range(3) for v in np.unique(np.take(components, (0, -1), axis=axis))
    }
    if (invalid & ~np.isin(components, sorted(border_components - {0}))).any():
        return "some are enclosed by the image"
    tissue = _tissue(values, invalid)
    cut = flat_cut(invalid, tissue, grid)
    if cut is not None:
        plane = f"in one plane of {cut.area_cm2:.0f} cm2"
        return f"they cut off the {cut.missing_side} part of the head {plane}"
    faces = [np.take(invalid, index, axis=axis).mean() for axis in range(3) for index in (0, -1)]
    if np.median(faces) < 0.5:  # air has finite values: voxels between tissue are not air
        axes_between = np.sum([_between_tissue(tissue, axis) for axis in range(3)], axis=0)
        between = invalid & (axes_between >= 2)
        millilitres = grid.volume_ml(between)
        if millilitres > BETWEEN_ML:
            return f"{millilitres:.0f} ml of them lie within the head"
    return None


def _tissue(values: Floats, blank: Mask) -> Mask:
    sample = values[::2, ::2, ::2][~blank[::2, ::2, ::2]]
    if not sample.size:
        return np.zeros(values.shape, dtype=bool)
    low, top = np.quantile(sample, (0.0, 0.99))
    with np.errstate(invalid="ignore"):
        return np.asarray(~blank & (values > low + TISSUE_FRACTION * (top - low)))


def _between_tissue(tissue: Mask, axis: int) -> Mask:
    before = np.logical_or.accumulate(tissue, axis=axis)
    after = np.flip(np.logical_or.accumulate(np.flip(tissue, axis), axis=axis), axis)
    return np.asarray(before & after)


def flat_cut(blank: Mask, tissue: Mask, grid: Grid) -> FlatCut | None:
    """Return the largest plane in which tissue meets blank voxels; None if none is suspicious.

    Parameters
    ----------
    blank, tissue : (I, J, K) bool
        On `grid`; all other voxels are air, noise or dark tissue.
    grid : Grid
        As acquired.
    """
    cuts: list[tuple[float, int, int]] = []
    for axis, edge_mm in enumerate(grid.spacing_mm.tolist()):
        steps = tuple(2 if n >= 128 and a != axis else 1 for a, n in enumerate(blank.shape))
        sampling = tuple(slice(None, None, step) for step in steps)
        blank_layers, tissue_layers = (
            np.moveaxis(mask[sampling], axis, 0) for mask in (blank, tissue)
        )
        face_mm2 = grid.voxel_ml * 1000 / edge_mm * float(np.prod(steps))
        limit = max(FLAT_MM2, FLAT_MM2_PER_MM * edge_mm)
        for sign, faces in (
            (-1, blank_layers[:-1] & tissue_layers[1:]),
            (1, tissue_layers[:-1] & blank_layers[1:]),
        ):
            layer, excess = _flattest(faces.sum(axis=(1, 2)))
            if excess * face_mm2 > limit:
                _, sizes = connected_parts(faces[layer], None)
                area = int(sizes.max()) * face_mm2
                if area > limit:
                    cuts.append((area, axis, sign))
    if not cuts:
        return None
    area, axis, sign = max(cuts)
    direction = sign * grid.affine[:3, axis]
    patient_axis = int(np.abs(direction).argmax())
    return FlatCut(area / 100, SIDES[patient_axis][int(direction[patient_axis] > 0)])


def _flattest(counts: NDArray[np.int_]) -> tuple[int, int]:
    """Return the layer with most boundary faces, and the excess over its neighbours.

    Equally thick layers of a dome have equal face areas (Archimedes); at a cut all faces are in one
    layer.
    """
    if not counts.size:
        return 0, 0
    layer = int(counts.argmax())
    neighbours = np.pad(counts, 1)[[layer, layer + 2]]
    return layer, int(counts[layer] - neighbours.max())


def check(acquired: Acquired) -> QualityCheck:
    """Check for sequences with a blank half, block or slices; `acquired` holds all of a study."""
    cuts: dict[MrSequence, FlatCut] = {}
    for sequence, (values, grid) in acquired.items():
        blank = (values == 0) | (values == values.min())
        cut = flat_cut(blank, _tissue(values, blank), grid)
        if cut is not None:
            cuts[sequence] = cut
    if not cuts:
        return passed_check("signal", "No part of a sequence is blank.")
    listed = ", ".join(
        f"{s.display_name} ({cut.missing_side} side, {cut.area_cm2:.0f} cm2)"
        for s, cut in cuts.items()
    )
    if len(cuts) < len(acquired):
        return failed_check(
            "signal",
            f"Part of the head is blank: tissue ends at a flat plane in {listed}. The part beyond "
            "it was analysed, if at all, from the other sequences alone.",
        )
    return failed_check(
        "signal",
        f"Part of the head is blank: tissue ends at a flat plane in {listed}. The part beyond it "
        "was neither imaged nor analysed.",
    )
