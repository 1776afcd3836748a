"""Prepare a study: all sequences on one 1 mm RAS+ grid, brain mask, map to the native grid.

`prepare` reads from top to bottom: units, registration, brain, resampling, bias field, checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Floats, bounding_box, corners, index_map, ras_grid
from lesionlens.base.grid import Grid
from lesionlens.base.labels import NAME_IN_WINDOW, REFERENCE_ORDER, MrSequence, naming_advice
from lesionlens.base.numerics import dice
from lesionlens.base.records.study import (
    PreparationStep,
    PreparedStudy,
    QualityCheck,
    Series,
    StepName,
    Study,
)
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation import checks, identity_checks
from lesionlens.imaging.preparation.bias_field import strong_fields
from lesionlens.imaging.preparation.brain import Brain, find_brain
from lesionlens.imaging.preparation.intensities import Scan, load_scan
from lesionlens.imaging.preparation.registration import (
    Registration,
    header_alignment,
    pyramid,
    register,
)
from lesionlens.imaging.preparation.resampling import (
    antialias,
    cut_grid,
    resample,
    resample_mask,
    values_on,
)
from lesionlens.imaging.preparation.thick_slices import divide_slices, slice_axis

MARGIN_VOX = 6
SAME_OUTLINE = 0.99
"""Dice of the outlines of two images that were stripped with one mask: .997 to 1; .97 after 2 mm of
movement."""
MIN_SHIFT_MM, MIN_ANGLE_DEG = 0.7, 0.7
"""Smaller movements on one grid are within the registration's error; interpolation would do more
harm."""


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """Options of preparation; each step can be skipped."""

    edge_mm: float = 1.0
    """Voxel edge of the working grid."""
    register: bool = True
    """Co-register the sequences, unless they are registered already."""
    strip: bool = True
    """Extract the brain with a network if the skull is present. Otherwise the whole head counts as
    brain: sides and lobes are unknown, and the checks of the images are unreliable."""
    brain_mask: str | Path | None = None
    """A NIfTI file of the brain as any tool outlined it, in the millimetres of the reference; used
    in place of the built-in method."""
    checks: bool = True
    """Check the quality of the images."""
    sides: bool = True
    """Check whether a sequence is mirrored relative to the others."""

    def __post_init__(self) -> None:
        """Refuse voxels of no size."""
        if not 0.1 <= self.edge_mm <= 100.0:
            raise UnusableInputError(
                f"The working grid cannot have voxels of {self.edge_mm:g} mm.",
                hint="Omit `edge_mm` for 1 mm, on which the networks were trained.",
            )


DEFAULT_OPTIONS = PrepareOptions()
Scans = Mapping[MrSequence, Scan]
Registrations = Mapping[MrSequence, Registration]


def prepare(
    study: Study, context: RunContext, options: PrepareOptions = DEFAULT_OPTIONS
) -> PreparedStudy:
    """Load, check and co-register the sequences, find the brain and resample.

    Sequences that are registered already are not registered again, and stripped images are not
    stripped again: such input is only reoriented.

    Parameters
    ----------
    study : Study
        At least one sequence.

    Returns
    -------
    PreparedStudy
        On an axis-aligned RAS+ grid cropped to the brain, with the exact map to the native grid.

    Raises
    ------
    UnusableInputError
        A sequence cannot be an MR scan of a head; the message states which and why.
    CancelledError
        The user asked to stop.
    """
    reference = reference_of(study.series)
    native = study.series[reference].grid
    with context.stage("load"):
        scans: Scans = {}
        for number, (sequence, series) in enumerate(study.series.items(), 1):
            scans = {**scans, sequence: load_scan(sequence, series)}
            context.check("load")
            context.progress("load", number / len(study.series))
    with context.stage("register"):
        scans, moved, steps = registered(scans, reference, options, context)
    with context.stage(StepName.BRAIN):
        file = None if options.brain_mask is None else Path(options.brain_mask)
        brain = find_brain(scans, reference, context, mask_file=file, extract=options.strip)
    with context.stage("resample"):
        working = _working_grid(brain, native, options.edge_mm)
        mask = brain.mask if brain.grid.matches(working) else resample_mask(
            brain.mask, brain.grid, working
        )  # fmt: skip
        channels = np.zeros((len(MrSequence), *working.shape), dtype=np.float32)
        images = {s: c for s, c in zip(MrSequence, channels, strict=True) if s in scans}
        for sequence, image in images.items():
            image[...] = on_working_grid(scans[sequence], working)
            context.check("resample")
        bias_steps, bias_notices = [], []
        for sequence, field in strong_fields(images, mask).items():
            images[sequence][...] = field.removed_from(images[sequence])
            described = f"ias field of {field.ratio:.1f} to 1 within the brain"
            removed = f"{field.fraction:.0%} of it was removed"
            message = f"B{described}; {removed}."
            bias_steps.append(PreparationStep(StepName.BIAS, sequence, True, message, field.ratio))
            bias_notices.append(
                f"{sequence.display_name} has a b{described}, as from a surface coil. {removed}; "
                "check candidates on the bright side by eye."
            )
    quality: tuple[QualityCheck, ...] = ()
    if options.checks:
        with context.stage("check quality"):
            if len(images) > 1:
                identity_checks.refuse_one_image_twice(images, mask)
            acquired = {s: (scan.values, scan.series.grid) for s, scan in scans.items()}
            stripped = all(scan.stripped for scan in scans.values())
            found = (
                checks.missing(scans),
                identity_checks.names(images, mask),
                checks.coverage(images, mask, options.edge_mm, stripped=stripped),
                checks.blank(acquired),
                checks.saturation(acquired, lambda s: resample_mask(mask, working, scans[s].grid)),
                checks.thick_slices(study.series),
                checks.motion(acquired),
                checks.noise(images, mask),
                checks.contrast_agent(images, mask),
                checks.registration(moved) if options.register and len(scans) > 1 else None,
                identity_checks.half_turn(mask) if options.strip else None,
                identity_checks.sides(images, reference, mask, working, context=context)
                if options.sides
                else None,
            )
            quality = tuple(check for check in found if check is not None)
    return PreparedStudy(
        channels=channels,
        present=np.array([sequence in scans for sequence in MrSequence]),
        brain=mask,
        working=working,
        native=native,
        to_native=index_map(working.affine, native.affine),
        reference=reference,
        steps=(*steps, brain.step, *bias_steps),
        quality=quality,
        notices=(
            *(notice for scan in scans.values() for notice in scan.notices),
            *_doubts(moved),
            *brain.notices,
            *bias_notices,
        ),
        scans={sequence: scan.digest for sequence, scan in scans.items()},
        intensities={sequence: scan.intensity_digest for sequence, scan in scans.items()},
    )


def reference_of(series: Mapping[MrSequence, Series]) -> MrSequence:
    """Return the reference sequence: the first available of T1c, FLAIR, T2, T1.

    Raises
    ------
    UnusableInputError
        No sequence is available.
    """
    for sequence in REFERENCE_ORDER:
        if sequence in series:
            return sequence
    raise UnusableInputError(
        found="a study without any sequence",
        expected="at least one of T1, T1c, T2 and FLAIR",
        next_step=f"If you know a sequence, {naming_advice()}",
        in_window=f"If you know a sequence, {NAME_IN_WINDOW}",
    )


def registered(
    scans: Scans, reference: MrSequence, options: PrepareOptions, context: RunContext
) -> tuple[Scans, Registrations, list[PreparationStep]]:
    """Return the scans with their movement to the reference, how it was found, and the steps.

    Equal grids and outlines of stripped images prove that they were brought together before. Scans
    on one grid that lie within half of a registration's error are left as they are, too.
    """
    fixed = scans[reference]
    apart = [s for s, scan in scans.items() if s is not reference and not _one_outline(fixed, scan)]
    if not apart or not options.register:
        message = "Skipped on request."
        if not apart:
            message = "The sequences were already registered: left unchanged."
        is_told = bool(apart) or len(scans) > 1
        step = PreparationStep(StepName.REGISTER, None, False, message)
        return scans, {}, [step] if is_told else []
    found, steps, moved = {}, [], dict(scans)
    fixed_pyramid = None
    for number, sequence in enumerate(apart, 1):
        scan = scans[sequence]
        one_grid = values_on(scan.values, scan.series.grid, fixed.series.grid) is not None
        result = None
        if one_grid:
            result = header_alignment(
                fixed.values, scan.values, fixed.series.grid, scan.series.grid
            )
        if result is None:
            fixed_pyramid = fixed_pyramid or pyramid(fixed.values, fixed.series.grid)
            moving = pyramid(scan.values, scan.series.grid)
            result = register(fixed_pyramid, moving, context=context)
            is_small = result.shift_mm < MIN_SHIFT_MM and result.angle_deg < MIN_ANGLE_DEG
            if is_small and one_grid:
                result = replace(
                    result, reference_to_sequence=np.eye(4), shift_mm=0.0, angle_deg=0.0
                )
        found[sequence] = result = replace(result, one_stripped=fixed.stripped != scan.stripped)
        is_moved = bool(result.shift_mm or result.angle_deg)
        if is_moved:
            moved[sequence] = replace(scan, moved=result.reference_to_sequence)
        how = (
            f"Moved by {result.shift_mm:.1f} mm and {result.angle_deg:.1f} degrees"
            if is_moved
            else "Aligned by its header"
        )
        message = (
            f"{how}; mutual information {result.information:.2f}, {result.peak_height:.0%} above "
            "that at an offset of 10 mm."
        )
        steps.append(
            PreparationStep(StepName.REGISTER, sequence, is_moved, message, result.peak_height)
        )
        context.check("registration")
        context.progress("register", number / len(apart))
    return moved, found, steps


def _one_outline(fixed: Scan, moving: Scan) -> bool:
    """Return whether two scans were stripped with one mask on one grid, in any storage order."""
    if not (fixed.stripped and moving.stripped):
        return False
    values = values_on(moving.values, moving.series.grid, fixed.series.grid)
    if values is None:
        return False
    outlines = (array[::2, ::2, ::2] != 0 for array in (fixed.values, values))
    return dice(*outlines) >= SAME_OUTLINE


def _doubts(registrations: Registrations) -> list[str]:
    return [
        f"The registration of {sequence.display_name} is doubtful (check it by eye): the sequences "
        "may be from different patients or sessions, or barely overlap."
        for sequence, found in registrations.items()
        if found.doubtful
    ]


def _working_grid(brain: Brain, native: Grid, edge_mm: float) -> Grid:
    """Return an isotropic RAS+ grid around the brain, on the lattice of the field of view.

    Its margin may reach beyond the field of view, so that blank voxels around an image do not
    change where the grid begins.
    """
    affine, shape = ras_grid(native.affine, native.shape, edge_mm)
    lattice = Grid(shape, affine, native.frame_uid)
    box = bounding_box(brain.mask) or tuple(slice(0, length) for length in brain.mask.shape)
    ends = corners([side.start - 0.5 for side in box], [side.stop - 0.5 for side in box])
    voxels = lattice.to_voxel(brain.grid.to_mm(ends))
    first = np.floor(voxels.min(axis=0)).astype(int) - MARGIN_VOX
    last = np.ceil(voxels.max(axis=0)).astype(int) + MARGIN_VOX
    i, j, k = (slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
    return cut_grid(lattice, (i, j, k))


def on_working_grid(scan: Scan, working: Grid) -> Floats:
    """Resample a scan; thick slices are divided first, voxels that coincide copied."""
    values, grid, edge_mm = scan.values, scan.series.grid, float(working.spacing_mm.min())
    if slice_axis(grid) is None:
        return resample(values, grid, working, moved=scan.moved)
    thin, thin_grid = divide_slices(antialias(values, grid, working), grid, edge_mm)
    return resample(thin, thin_grid, working, moved=scan.moved, smooth=False)
