"""Quality checks of the input images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import (
    Acquired,
    Images,
    QualityCheck,
    Series,
    failed_check,
    passed_check,
    undecided_check,
)
from lesionlens.imaging.preparation.brain import may_be_whole
from lesionlens.imaging.preparation.lost_slices import TISSUE_FRACTION
from lesionlens.imaging.preparation.registration import Registration

COST_WITHOUT = {
    MrSequence.T1C: "Without T1c, published networks that were trained with missing sequences "
    "reach a Dice of .49 / .68 / .90 for enhancing / core / whole tumour. Enhancement is not "
    "measured.",
    MrSequence.FLAIR: "Oedema and infiltration are harder to outline without FLAIR.",
    MrSequence.T2: "Cysts and oedema are harder to tell apart without T2.",
    MrSequence.T1: "Enhancement is harder to tell from blood or fat without native T1.",
}
THICK_MM = 4.0
"""Measured: slices of 4 mm cost .05 of the Dice of the enhancing part, 3 mm .03 (four cases)."""
FAR_MM = 50.0
"""Larger movements between sequences of one session are implausible."""
SIDES = (("left", "right"), ("back", "front"), ("lower", "upper"))
"""Names of the low and the high end of each axis of a RAS+ grid."""
END_MM = 3.0
FLAT_END = 0.18
"""Maximum share of the brain's largest section. Sections of a dome grow evenly with depth, from
zero: the extrapolated section at the very end is computed from those at `END_MM` and twice that
depth. Measured in seventeen people, six sides each, in voxels of 1 to 5 mm: at most .14; with
the upper tenth cut off .20 and more, with the upper quarter .65."""
BLANK_ML, BLANK_MM = 2.0, 3.0
"""Volume and depth from which tissue counts as blank in one sequence alone. Measured: 0 ml in
seventeen stripped people, at most 1 ml with slices in different directions; 11 ml after a core of
4 ml was taken off with the skull.
"""
SATURATED_SHARE = 0.003
"""Maximum share of the tissue at the highest value."""
MIN_UPTAKE = 3.0
"""Minimum 99.8th percentile of T1c minus T1, in median deviations, with contrast agent."""
MIN_TAIL_RATIO = 1.35
"""Ratio of the two tails from which the larger one decides. Measured: T1's is at most 1.24 of T1c's
in sixteen people; above this ratio in 12 of them with T1 and T1c swapped, the rest are undecided.
"""
MAX_SIGNAL_TO_NOISE = 1000
"""Above this ratio the image must have been smoothed; no scanner reaches it."""
MAX_JUMP_MM = 1.0
"""Maximum jump between slices of a still head. Measured: 0.07 to 0.6 mm in 20 real scans of 1 to
5 mm slices; 2.7 to 3.0 mm after every second slice was shifted by 3 mm."""


def missing(series: Mapping[MrSequence, Series]) -> QualityCheck:
    """Check which sequences are missing; the message states the consequence."""
    absent = [s for s in COST_WITHOUT if s not in series]
    if not absent:
        return passed_check("missing", "All four sequences are present.")
    names = ", ".join(s.display_name for s in absent)
    costs = " ".join(COST_WITHOUT[s] for s in absent)
    return failed_check("missing", f"This study lacks {names}. {costs}")


def spacing(series: Mapping[MrSequence, Series]) -> QualityCheck:
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


def coverage(brain: Mask, valid: Mapping[MrSequence, Mask], volume_ml: float) -> QualityCheck:
    """Check whether every sequence covers the whole brain.

    Parameters
    ----------
    brain : (I, J, K) bool
        On the working grid.
    valid : mapping of MrSequence to (I, J, K) bool
        Voxels with signal in each sequence.
    """
    total = max(int(brain.sum()), 1)
    fractions = {s: float((brain & signal).sum()) / total for s, signal in valid.items()}
    incomplete = [
        f"{s.display_name} {fraction:.0%}" for s, fraction in fractions.items() if fraction < 0.95
    ]
    if incomplete:
        return failed_check(
            "coverage",
            f"Part of the brain lies outside the field of view: {', '.join(incomplete)}.",
        )
    if not may_be_whole(volume_ml):
        return failed_check(
            "coverage",
            f"The brain mask measures {volume_ml:.0f} ml: parts of the brain may be "
            f"missing, or other tissue included.",
        )
    return passed_check("coverage", f"The whole brain is covered ({volume_ml:.0f} ml).")


def blank_within(brain: Mask, valid: Mapping[MrSequence, Mask], edge_mm: float) -> Mask:
    """Return the voxels of a stripped brain that are blank in every sequence; (I, J, K) bool.

    Thin places, such as the outline after resampling, and less than `BLANK_ML` do not count.

    Parameters
    ----------
    brain : (I, J, K) bool
        The filled outline, on the working grid.
    valid : mapping of MrSequence to (I, J, K) bool
        Voxels with signal in each sequence.
    """
    return _deep(brain & ~np.any(list(valid.values()), axis=0), edge_mm)


def _deep(blank: Mask, edge_mm: float) -> Mask:
    """Return the parts of blank voxels deeper than `BLANK_MM`; empty if less than `BLANK_ML`."""
    voxel_ml = edge_mm**3 / 1000
    if blank.sum() * voxel_ml >= BLANK_ML:  # seldom: opening is slow
        opened = ndimage.binary_opening(blank, iterations=max(round(BLANK_MM / edge_mm), 1))
        if opened.sum() * voxel_ml >= BLANK_ML:
            return np.asarray(opened)
    return np.zeros_like(blank)


def cut_out(blank: Mask, edge_mm: float) -> QualityCheck | None:
    """Check whether tissue was cut out of a stripped brain; `blank` as from `blank_within`."""
    if not blank.any():
        return None
    volume_ml = int(blank.sum()) * edge_mm**3 / 1000
    return failed_check(
        "coverage",
        f"Blank within the brain in every sequence: {volume_ml:.0f} ml. Skull stripping may have "
        "removed a tumour, as a mask of tissue classes can.",
    )


def stripped_off(valid: Mapping[MrSequence, Mask], edge_mm: float) -> QualityCheck | None:
    """Check whether stripping took tissue off one sequence that all others show; None if not.

    Parameters
    ----------
    valid : mapping of MrSequence to (I, J, K) bool
        Voxels with signal in each sequence, all of them stripped.
    """
    if len(valid) < 2:
        return None
    listed = []
    for sequence, signal in valid.items():
        others = np.all([valid[s] for s in valid if s is not sequence], axis=0)
        blank_ml = int(_deep(~signal & others, edge_mm).sum()) * edge_mm**3 / 1000
        if blank_ml:
            listed.append(f"{sequence.display_name} {blank_ml:.0f} ml")
    if not listed:
        return None
    return failed_check(
        "coverage",
        f"Blank in one sequence only, although the others show tissue there: {', '.join(listed)}. "
        "Skull stripping may have removed a tumour.",
    )


def cut_off(brain: Mask, edge_mm: float) -> QualityCheck | None:
    """Check whether the brain, on a RAS+ grid, ends in a plane; None if every side is curved."""
    flat = flat_sides(brain, edge_mm)
    if not flat:
        return None
    listed = ", ".join(f"{side} side ({area:.0f} cm2)" for side, area in flat.items())
    return failed_check(
        "coverage",
        f"The brain ends at a flat plane on its {listed}: part of it is cut off or lies outside "
        "the field of view, and was not analysed.",
    )


def flat_sides(brain: Mask, edge_mm: float) -> dict[str, float]:
    """Return the sides at which the brain ends in a plane, with the area of that face in cm2."""
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


def saturation(volumes: Acquired) -> QualityCheck:
    """Check whether the bright end of a sequence is clipped."""
    fractions: dict[MrSequence, float] = {}
    for sequence, (values, _) in volumes.items():
        sample = values[::2, ::2, ::2]
        top = float(values.max())
        tissue = int((sample > TISSUE_FRACTION * float(np.quantile(sample, 0.995))).sum())
        fractions[sequence] = float((sample >= top * (1 - 1e-6)).sum()) / max(tissue, 1)
    bad = [
        f"{s.display_name} {fraction:.1%}"
        for s, fraction in fractions.items()
        if fraction > SATURATED_SHARE
    ]
    if bad:
        return failed_check(
            "saturation",
            f"Bright tissue is saturated at one value (fraction of the tissue: "
            f"{', '.join(bad)}): enhancement and oedema at that value cannot be distinguished.",
        )
    return passed_check("saturation", "No sequence is saturated.")


def contrast_agent(channels: Images, brain: Mask) -> QualityCheck | None:
    """Check whether contrast agent is visible in T1c; None if T1 or T1c is missing.

    The bright tail of T1c against that of T1: after each is scaled by its median and spread
    within the brain, vessels, plexus and enhancing tissue lift the 99.8th percentile of the
    difference.
    """
    if MrSequence.T1C not in channels or MrSequence.T1 not in channels:
        return None
    scaled = []
    for sequence in (MrSequence.T1C, MrSequence.T1):
        values = channels[sequence][brain].astype(np.float64)
        median = float(np.median(values))
        spread = float(np.median(np.abs(values - median))) or 1.0
        scaled.append((values - median) / spread)
    drop, lift = np.quantile(scaled[0] - scaled[1], (0.002, 0.998)).tolist()
    if -drop > MIN_TAIL_RATIO * lift and -drop > MIN_UPTAKE:
        return failed_check(
            "contrast",
            f"T1 has brighter spots than T1c ({-drop:.1f} against {lift:.1f} median deviations): "
            "check which of them was acquired after the contrast agent.",
        )
    if lift < MIN_UPTAKE:
        return failed_check(
            "contrast",
            f"Contrast agent is barely visible in T1c (brightest uptake {lift:.1f} median "
            "deviations).",
        )
    if -drop > MIN_UPTAKE and lift < MIN_TAIL_RATIO * -drop:
        return undecided_check(
            "contrast",
            "T1c and T1 each have spots that are brighter than in the other, by about the same "
            f"amount ({lift:.1f} and {-drop:.1f} median deviations): contrast agent in T1c is not "
            "confirmed.",
        )
    return passed_check(
        "contrast",
        f"Contrast agent is visible in T1c (brightest uptake {lift:.1f} median deviations).",
    )


def noise(channels: Images, brain: Mask) -> QualityCheck:
    """Estimate the signal-to-noise ratio in the brain (Immerkaer's operator in the slice plane).

    Notes
    -----
    Immerkaer, Computer Vision and Image Understanding 1996, 64(2):300-302,
    doi 10.1006/cviu.1996.0060; here with the median for the mean, so that edges count less.
    """
    ratios = {s: signal_to_noise(values, brain) for s, values in channels.items()}
    low = [f"{s.display_name} {ratio:.0f}" for s, ratio in ratios.items() if ratio < 8.0]
    if low:
        return failed_check("noise", f"Low signal to noise: {', '.join(low)}.")
    listed = ", ".join(
        f"{s.display_name} {ratio:.0f}"
        if ratio <= MAX_SIGNAL_TO_NOISE
        else f"{s.display_name} over {MAX_SIGNAL_TO_NOISE}"
        for s, ratio in ratios.items()
    )
    return passed_check("noise", f"Signal to noise: {listed}.")


def motion(volumes: Acquired) -> QualityCheck:
    """Check for jumps between slices, as caused by motion in interleaved 2-D scans."""
    estimates = {s: slice_jumps_mm(values, grid) for s, (values, grid) in volumes.items()}
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


def slice_jumps_mm(values: Floats, grid: Grid) -> float | None:
    """Estimate the displacement of slices relative to their neighbours, mm; None if too few.

    The intensity centroid of slices varies smoothly in a still head. Its second difference is taken
    in the middle half of the slices along the thickest axis; the median is robust to anatomy.
    """
    axis = int(np.argmax(grid.spacing_mm))
    slices = np.moveaxis(values, axis, 0)
    edges = np.delete(grid.spacing_mm, axis)
    count = slices.shape[0]
    centre = np.sqrt(np.maximum(slices[count // 4 : count - count // 4, ::2, ::2], 0.0))
    if centre.shape[0] < 5:
        return None
    total = np.maximum(centre.sum(axis=(1, 2)), 1e-6)
    rows = (centre.sum(axis=2) * np.arange(centre.shape[1])).sum(axis=1) / total * 2 * edges[0]
    columns = (centre.sum(axis=1) * np.arange(centre.shape[2])).sum(axis=1) / total * 2 * edges[1]
    second = np.hypot(np.diff(rows, 2), np.diff(columns, 2)) / 2
    return float(np.median(second))


def signal_to_noise(values: Floats, brain: Mask) -> float:
    """Return median signal over estimated noise in the brain; infinity without noise."""
    centre = values.shape[2] // 2
    planes = slice(max(centre - 20, 0), centre + 20, 4)
    slab, mask = values[:, :, planes].astype(np.float64), brain[:, :, planes]
    if slab.shape[0] < 3 or slab.shape[1] < 3 or not mask.any():
        return float("inf")
    inner = slab[1:-1, 1:-1]
    edges = slab[:-2, 1:-1] + slab[2:, 1:-1] + slab[1:-1, :-2] + slab[1:-1, 2:]
    corners = slab[:-2, :-2] + slab[:-2, 2:] + slab[2:, :-2] + slab[2:, 2:]
    residuals = np.abs(4 * inner - 2 * edges + corners)[mask[1:-1, 1:-1]]
    sigma = float(np.median(residuals)) / 0.6745 / 6.0 if residuals.size else 0.0
    return float(np.median(slab[mask])) / sigma if sigma > 0 else float("inf")


def registration(registrations: Mapping[MrSequence, Registration]) -> QualityCheck:
    """Check how far the sequences were moved, and whether registration is reliable."""
    if not registrations:
        sentence = "The sequences were already registered and were left unchanged."
        return passed_check("registration", sentence)
    listed = ", ".join(
        f"{s.display_name} {r.shift_mm:.1f} mm and {r.angle_deg:.1f} degrees"
        for s, r in registrations.items()
    )
    doubtful = [s.display_name for s, r in registrations.items() if r.doubtful]
    reliable = {s.display_name: r for s, r in registrations.items() if not r.doubtful}
    far = [name for name, r in reliable.items() if r.shift_mm > FAR_MM]
    rotated = [name for name, r in reliable.items() if r.angle_deg > 90]
    if rotated:
        message = (
            f"The headers rotate {', '.join(rotated)} by half a turn relative to the reference: "
            "registration used the image content. One of the headers is wrong: check the sides "
            f"before you rely on them. Moved: {listed}."
        )
    elif far:
        message = (
            f"The headers place {', '.join(far)} far from the reference: registration used the "
            f"image content. Check that all sequences are from one patient. Moved: {listed}."
        )
    elif doubtful:
        names = ", ".join(doubtful)
        message = f"Registration of {names} is doubtful: check it by eye. Moved: {listed}."
    else:
        return passed_check("registration", f"Registered to the reference; moved: {listed}.")
    return failed_check("registration", message)
