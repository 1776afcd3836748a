"""Quality checks of the input images: one function each, with what it measured in one sentence.

How often each is right: `docs/reference/model_card_figures.md`. Who is who, and which side is left:
`identity_checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Mask
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.numerics import connected_parts
from lesionlens.base.records.study import (
    Images,
    QualityCheck,
    Series,
    failed_check,
    passed_check,
    undecided_check,
)
from lesionlens.imaging.preparation.registration import FAR_MM, Registration

Acquired = Mapping[MrSequence, tuple[NDArray[Any], Grid]]
"""By sequence: voxels as acquired, (I, J, K) with background zero, and their grid."""
COST_WITHOUT = {
    MrSequence.T1C: "Enhancement is not measured without T1c, and outlines of the core are less "
    "certain.",
    MrSequence.FLAIR: "Oedema and infiltration are harder to outline without FLAIR.",
    MrSequence.T2: "Cysts and oedema are harder to tell apart without T2.",
    MrSequence.T1: "Enhancement is harder to tell from blood or fat without native T1.",
}
SIDES = (("left", "right"), ("back", "front"), ("lower", "upper"))
"""Names of the low and the high end of each axis of a RAS+ grid."""
TISSUE_FRACTION = 0.2
"""Of a scan's bright end: darker voxels are no tissue."""
MIN_COVERED = 0.95
END_MM, FLAT_END = 3.0, 0.18
"""Depth of the two sections from which the section at the very end of the brain is extrapolated,
and its maximum share of the largest section. Measured in seventeen people, six sides each, in
voxels of 1 to 5 mm: at most .14; with the upper tenth cut off .20 and more."""
BLANK_ML, BLANK_MM = 2.0, 3.0
"""Volume and depth from which tissue counts as cut out of a stripped brain: 0 ml in seventeen
people, at most 1 ml with slices in different directions; 11 ml after a core of 4 ml went with the
skull."""
FLAT_MM2, FLAT_MM2_PER_MM = 2000.0, 400.0
"""Largest flat face of tissue against blank voxels that counts as natural, beyond that of the
neighbouring layers, and the same for each millimetre of a voxel's edge: 3 to 1840 mm2 in thirteen
heads in voxels of 1 to 5 mm, 340 per mm at 6 mm; a blank half makes 5600 to 30,000."""
SATURATED_SHARE = 0.003
"""Maximum share of the tissue at the highest value."""
THICK_MM = 4.0
"""Measured: slices of 4 mm cost .05 of the Dice of the enhancing part, 3 mm .03 (four cases)."""
MAX_JUMP_MM = 1.0
"""Maximum jump between slices of a still head: 0.07 to 0.6 mm in 20 real scans of 1 to 5 mm slices;
2.7 to 3.0 mm after every second slice was shifted by 3 mm."""
MIN_SIGNAL_TO_NOISE, MAX_SIGNAL_TO_NOISE = 8.0, 1000.0
"""Above the latter the image must have been smoothed; no scanner reaches it."""
MIN_UPTAKE, MIN_TAIL_RATIO = 3.0, 1.35
"""99.8th percentile of T1c minus T1 in median deviations, with contrast agent; ratio of the two
tails from which the larger one decides (T1's is at most 1.24 of T1c's in sixteen people)."""


def missing(present: Iterable[MrSequence]) -> QualityCheck:
    """Check which sequences are missing; the message states the consequence."""
    absent = [s for s in COST_WITHOUT if s not in set(present)]
    if not absent:
        return passed_check("missing", "All four sequences are present.")
    names = ", ".join(s.display_name for s in absent)
    costs = " ".join(COST_WITHOUT[s] for s in absent)
    return failed_check("missing", f"This study lacks {names}. {costs}")


def coverage(images: Images, brain: Mask, edge_mm: float, *, stripped: bool) -> QualityCheck:
    """Check whether every sequence shows the whole brain.

    Parameters
    ----------
    images : mapping of MrSequence to (I, J, K) float32
        On the working grid, zero outside the field of view.
    brain : (I, J, K) bool
        On the working grid, RAS+ cubes of `edge_mm`.
    stripped : bool
        Whether all scans are stripped; then tissue may have gone with the skull.
    """
    flat = flat_sides(brain, edge_mm)
    if flat:
        listed = ", ".join(f"{side} side ({area:.0f} cm2)" for side, area in flat.items())
        return failed_check(
            "coverage",
            f"The brain ends at a flat plane on its {listed}: part of it is cut off or lies "
            "outside the field of view, and was not analysed.",
        )
    shown = {sequence: image != 0 for sequence, image in images.items()}
    if stripped:
        hole_ml = _deep_ml(brain & ~np.any(list(shown.values()), axis=0), edge_mm)
        if hole_ml:
            return failed_check(
                "coverage",
                f"{hole_ml:.0f} ml within the brain are blank in every sequence: skull stripping "
                "may have removed a tumour.",
            )
    shares = {s: float(np.mean(image[brain])) if brain.any() else 1.0 for s, image in shown.items()}
    cut = [f"{s.display_name} {share:.0%}" for s, share in shares.items() if share < MIN_COVERED]
    if cut:
        return failed_check(
            "coverage", f"Part of the brain lies outside the field of view: {', '.join(cut)}."
        )
    volume_ml = float(brain.sum()) * edge_mm**3 / 1000
    if not 700 < volume_ml < 2000:
        return failed_check(
            "coverage",
            f"The brain mask measures {volume_ml:.0f} ml: parts of the brain may be missing, or "
            "other tissue included.",
        )
    return passed_check("coverage", f"The whole brain is covered ({volume_ml:.0f} ml).")


def _deep_ml(blank: Mask, edge_mm: float) -> float:
    """Return the volume of blank voxels where they are deeper than `BLANK_MM`, 0 if it is small."""
    voxel_ml = edge_mm**3 / 1000
    if blank.sum() * voxel_ml < BLANK_ML:
        return 0.0
    opened = ndimage.binary_opening(blank, iterations=max(round(BLANK_MM / edge_mm), 1))
    volume_ml = float(opened.sum() * voxel_ml)
    return volume_ml if volume_ml >= BLANK_ML else 0.0


def flat_sides(brain: Mask, edge_mm: float) -> dict[str, float]:
    """Return the sides at which the brain ends in a plane, with the area of that face in cm2.

    Sections of a dome grow evenly with depth, from zero.
    """
    depth = max(round(END_MM / edge_mm), 1)
    flat: dict[str, float] = {}
    for axis, sides in enumerate(SIDES):
        areas = brain.sum(axis=tuple(other for other in range(3) if other != axis))
        sections = areas[np.flatnonzero(areas)]
        if sections.size <= 2 * depth:
            continue
        for side, inwards in zip(sides, (sections, sections[::-1]), strict=True):
            end_section = 2 * int(inwards[depth - 1]) - int(inwards[2 * depth - 1])
            if end_section > FLAT_END * sections.max():
                flat[side] = end_section * edge_mm**2 / 100
    return flat


@dataclass(frozen=True, slots=True)
class FlatCut:
    """A plane in which tissue ends within the field of view."""

    area_cm2: float
    missing_side: str
    """Side of the lost part relative to the tissue: "left", "upper", ..."""


def blank(acquired: Acquired) -> QualityCheck:
    """Check for sequences with a blank half, block or slices."""
    cuts = {}
    for sequence, (values, grid) in acquired.items():
        is_blank = (values == 0) | (values == values.min())
        if cut := flat_cut(is_blank, tissue_of(values, is_blank), grid):
            cuts[sequence] = cut
    if not cuts:
        return passed_check("signal", "No part of a sequence is blank.")
    listed = ", ".join(
        f"{s.display_name} ({cut.missing_side} side, {cut.area_cm2:.0f} cm2)"
        for s, cut in cuts.items()
    )
    return failed_check(
        "signal",
        f"Part of the head is blank: tissue ends at a flat plane in {listed}. What lies beyond it "
        "was analysed, if at all, from other sequences.",
    )


def tissue_of(values: NDArray[Any], is_blank: Mask) -> Mask:
    """Return the voxels that are not blank and brighter than `TISSUE_FRACTION` of the bright end.

    Parameters
    ----------
    values, is_blank : (I, J, K) arrays
        Blank voxels may be NaN.
    """
    sample = values[::2, ::2, ::2][~is_blank[::2, ::2, ::2]]
    if not sample.size:
        return np.zeros(values.shape, dtype=bool)
    low, top = np.quantile(sample, (0.0, 0.99))
    with np.errstate(invalid="ignore"):
        return np.asarray(~is_blank & (values > low + TISSUE_FRACTION * (top - low)))


def flat_cut(is_blank: Mask, tissue: Mask, grid: Grid) -> FlatCut | None:
    """Return the largest plane in which tissue meets blank voxels; None if none is suspicious.

    A head is curved: equally thick layers of a dome have equal face areas (Archimedes); at a cut
    all faces are in one layer.
    """
    found: list[tuple[float, int, int]] = []
    for axis, edge_mm in enumerate(grid.spacing_mm.tolist()):
        steps = tuple(2 if n >= 128 and a != axis else 1 for a, n in enumerate(is_blank.shape))
        sampling = tuple(slice(None, None, step) for step in steps)
        blanks, tissues = (np.moveaxis(mask[sampling], axis, 0) for mask in (is_blank, tissue))
        face_mm2 = grid.voxel_ml * 1000 / edge_mm * float(np.prod(steps))
        limit = max(FLAT_MM2, FLAT_MM2_PER_MM * edge_mm)
        for sign, faces in (
            (-1, blanks[:-1] & tissues[1:]),
            (1, tissues[:-1] & blanks[1:]),
        ):
            counts = faces.sum(axis=(1, 2))
            if not counts.size:
                continue
            layer = int(counts.argmax())
            neighbours = np.pad(counts, 1)[[layer, layer + 2]]
            if (counts[layer] - neighbours.max()) * face_mm2 > limit:
                area = int(connected_parts(faces[layer], None)[1].max()) * face_mm2
                if area > limit:
                    found.append((area, axis, sign))
    if not found:
        return None
    area, axis, sign = max(found)
    direction = sign * grid.affine[:3, axis]
    patient_axis = int(np.abs(direction).argmax())
    return FlatCut(area / 100, SIDES[patient_axis][int(direction[patient_axis] > 0)])


def saturation(acquired: Acquired, brain_on: Callable[[MrSequence], Mask]) -> QualityCheck:
    """Check whether the bright end of a sequence is clipped within the brain.

    The scalp does not count: fat beside a coil is often clipped.

    Parameters
    ----------
    brain_on : callable
        Returns the brain on the grid of a sequence; called where the whole head is saturated.
    """
    bad = []
    for sequence, (values, _) in acquired.items():
        if _saturated_share(values) > SATURATED_SHARE:
            share = _saturated_share(np.where(brain_on(sequence), values, 0))
            if share > SATURATED_SHARE:
                bad.append(f"{sequence.display_name} {share:.1%}")
    if not bad:
        return passed_check("saturation", "No sequence is saturated.")
    return failed_check(
        "saturation",
        f"Bright tissue is saturated at one value (fraction of the tissue: {', '.join(bad)}): "
        "enhancement and oedema at that value cannot be distinguished.",
    )


def _saturated_share(values: NDArray[Any]) -> float:
    sample, top = values[::2, ::2, ::2], float(values.max())
    tissue = int((sample > TISSUE_FRACTION * float(np.quantile(sample[::2], 0.995))).sum())
    return float((sample >= top * (1 - 1e-6)).sum()) / max(tissue, 1)


def thick_slices(series: Mapping[MrSequence, Series]) -> QualityCheck:
    """Check the slice thickness."""
    edges = {s: float(item.grid.nominal_spacing_mm.max()) for s, item in series.items()}
    thick = [f"{s.display_name} {edge:.1f} mm" for s, edge in edges.items() if edge >= THICK_MM]
    if thick:
        return failed_check(
            "spacing",
            f"Thick slices: {', '.join(thick)}. Lesions thinner than a slice may be missed.",
        )
    longest = max(edges.values())
    return passed_check("spacing", f"Voxel edges of at most {longest:.1f} mm in every sequence.")


def motion(acquired: Acquired) -> QualityCheck:
    """Check for jumps between slices, as caused by motion in interleaved 2-D scans."""
    estimates = {s: _slice_jumps_mm(values, grid) for s, (values, grid) in acquired.items()}
    jumps = {s: jump for s, jump in estimates.items() if jump is not None}
    if not jumps:
        return undecided_check("motion", "Too few slices to detect jumps between them.")
    listed = ", ".join(f"{s.display_name} {jump:.1f} mm" for s, jump in jumps.items())
    bad = [s.display_name for s, jump in jumps.items() if jump > MAX_JUMP_MM]
    if bad:
        return failed_check(
            "motion", f"Slices jump in {', '.join(bad)}: probably motion. Estimate: {listed}."
        )
    return passed_check("motion", f"No jumps between slices (estimate: {listed}).")


def _slice_jumps_mm(values: NDArray[Any], grid: Grid) -> float | None:
    """Estimate the displacement of slices relative to their neighbours, mm; None if too few.

    The intensity centroid of slices varies smoothly in a still head: the median of its second
    difference in the middle half of the slices along the thickest axis.
    """
    axis = int(np.argmax(grid.spacing_mm))
    slices = np.moveaxis(values, axis, 0)
    edges = np.delete(grid.spacing_mm, axis)
    count = slices.shape[0]
    middle = slices[count // 4 : count - count // 4, ::2, ::2].astype(np.float32, copy=False)
    weights = np.sqrt(np.maximum(middle, 0.0))
    if len(weights) < 5:
        return None
    total = np.maximum(weights.sum(axis=(1, 2)), 1e-6)
    rows, columns = (
        (weights.sum(axis=other) * np.arange(n)).sum(axis=1) / total * 2 * edge
        for other, n, edge in zip((2, 1), weights.shape[1:], edges, strict=True)
    )
    return float(np.median(np.hypot(np.diff(rows, 2), np.diff(columns, 2)) / 2))


def noise(images: Images, brain: Mask) -> QualityCheck:
    """Estimate the signal-to-noise ratio in the brain.

    Notes
    -----
    Immerkaer, Computer Vision and Image Understanding 1996, 64(2):300-302,
    doi 10.1006/cviu.1996.0060; here with the median for the mean, so that edges count less.
    """
    ratios = {s: signal_to_noise(values, brain) for s, values in images.items()}
    low = [f"{s.display_name} {r:.0f}" for s, r in ratios.items() if r < MIN_SIGNAL_TO_NOISE]
    if low:
        return failed_check("noise", f"Low signal to noise: {', '.join(low)}.")
    listed = ", ".join(
        f"{s.display_name} {'over ' if r > MAX_SIGNAL_TO_NOISE else ''}"
        f"{min(r, MAX_SIGNAL_TO_NOISE):.0f}"
        for s, r in ratios.items()
    )
    return passed_check("noise", f"Signal to noise: {listed}.")


def signal_to_noise(values: NDArray[np.float32], brain: Mask) -> float:
    """Return median signal over estimated noise in the brain; infinity without noise.

    Parameters
    ----------
    values, brain : (I, J, K)
        On the working grid.
    """
    centre = values.shape[2] // 2
    planes = slice(max(centre - 20, 0), centre + 20, 4)
    slab, mask = values[:, :, planes].astype(np.float64), brain[:, :, planes]
    if min(slab.shape[:2]) < 3 or not mask.any():
        return float("inf")
    edges = slab[:-2, 1:-1] + slab[2:, 1:-1] + slab[1:-1, :-2] + slab[1:-1, 2:]
    corners = slab[:-2, :-2] + slab[:-2, 2:] + slab[2:, :-2] + slab[2:, 2:]
    residuals = np.abs(4 * slab[1:-1, 1:-1] - 2 * edges + corners)[mask[1:-1, 1:-1]]
    sigma = float(np.median(residuals)) / 0.6745 / 6.0 if residuals.size else 0.0
    return float(np.median(slab[mask])) / sigma if sigma > 0 else float("inf")


def contrast_agent(images: Images, brain: Mask) -> QualityCheck | None:
    """Check whether contrast agent is visible in T1c; None if T1 or T1c is missing.

    After each is scaled by its median and spread within the brain, vessels, plexus and enhancing
    tissue lift the bright tail of their difference.
    """
    if MrSequence.T1C not in images or MrSequence.T1 not in images:
        return None
    scaled = []
    for sequence in (MrSequence.T1C, MrSequence.T1):
        values = images[sequence][brain][::2].astype(np.float64)
        median = float(np.median(values))
        scaled.append((values - median) / (float(np.median(np.abs(values - median))) or 1.0))
    drop, lift = np.quantile(scaled[0] - scaled[1], (0.002, 0.998)).tolist()
    if -drop > MIN_TAIL_RATIO * lift and -drop > MIN_UPTAKE:
        return failed_check(
            "contrast",
            f"T1 has brighter spots than T1c ({-drop:.1f} against {lift:.1f} median deviations): "
            "check which of them was acquired after the contrast agent.",
        )
    figure = f"brightest uptake {lift:.1f} median deviations"
    if lift < MIN_UPTAKE:
        return failed_check("contrast", f"Contrast agent is barely visible in T1c ({figure}).")
    if -drop > MIN_UPTAKE and lift < MIN_TAIL_RATIO * -drop:
        return undecided_check(
            "contrast",
            "T1c and T1 each have spots that are brighter than in the other, by about the same "
            f"amount ({lift:.1f} and {-drop:.1f} median deviations): contrast agent in T1c is not "
            "confirmed.",
        )
    return passed_check("contrast", f"Contrast agent is visible in T1c ({figure}).")


def registration(registrations: Mapping[MrSequence, Registration]) -> QualityCheck:
    """Check how far the sequences were moved, and whether registration is reliable."""
    moved = {s.display_name: r for s, r in registrations.items() if r.shift_mm or r.doubtful}
    if not moved:
        sentence = "The sequences were already registered and were left unchanged."
        return passed_check("registration", sentence)
    listed = ", ".join(
        f"{name} {r.shift_mm:.1f} mm and {r.angle_deg:.1f} degrees" for name, r in moved.items()
    )
    doubtful = ", ".join(name for name, r in moved.items() if r.doubtful)
    reliable = {name: r for name, r in moved.items() if not r.doubtful}
    turned = ", ".join(name for name, r in reliable.items() if r.angle_deg > 90)
    far = ", ".join(name for name, r in reliable.items() if r.shift_mm > FAR_MM)
    if turned:
        message = (
            f"The header of {turned} is rotated by half a turn relative to the reference's: "
            "registration used the image content. Check the sides before you rely on them."
        )
    elif far:
        message = (
            f"The header places {far} far from the reference: registration used the image "
            "content. Check that all sequences are from one patient."
        )
    elif doubtful:
        message = f"The registration of {doubtful} is doubtful: check it by eye."
    else:
        return passed_check("registration", f"Registered to the reference; moved: {listed}.")
    return failed_check("registration", f"{message} Moved: {listed}.")
