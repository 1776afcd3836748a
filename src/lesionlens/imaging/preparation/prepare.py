"""Bring the sequences of a study onto one 1 mm RAS+ grid, with a brain mask and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import bounding_box, index_map, ras_grid
from lesionlens.base.grid import Grid
from lesionlens.base.labels import NAME_IN_WINDOW, REFERENCE_ORDER, MrSequence, how_to_name
from lesionlens.base.records.study import (
    PreparationStep,
    PreparedStudy,
    QualityCheck,
    Series,
    StepName,
    Study,
)
from lesionlens.base.run_context import RunContext
from lesionlens.base.scan_limits import check_grid, check_voxels
from lesionlens.imaging.preparation import brain as brains
from lesionlens.imaging.preparation import exchanged_names, lost_signal, quality
from lesionlens.imaging.preparation.intensity_units import standard_units
from lesionlens.imaging.preparation.laterality_check import sides
from lesionlens.imaging.preparation.resampling import crop_grid, resample, resample_mask
from lesionlens.imaging.preparation.shading import evened, share_taken_out
from lesionlens.imaging.preparation.steps import (
    Loaded,
    Notes,
    PrepareOptions,
    brain_of,
    bring_together,
    take_bias_out,
)
from lesionlens.imaging.preparation.thick_slices import divided

__all__ = ["PrepareOptions", "prepare", "reference_of"]

MARGIN_VOX = 6
DEFAULT_OPTIONS = PrepareOptions()


def prepare(
    study: Study, context: RunContext, options: PrepareOptions = DEFAULT_OPTIONS
) -> PreparedStudy:
    """Load, check, co-register, find the brain and resample.

    Sequences that already share a grid are not registered, and a stripped brain is not stripped
    again: such input only changes its axes.

    Parameters
    ----------
    study : Study
        At least one sequence.
    context : RunContext
        Times the stages, passes on progress and cancellation.
    options : PrepareOptions
        Which steps.

    Returns
    -------
    PreparedStudy
        On an axis-aligned RAS+ grid cropped to the brain, with the exact map to the native grid.

    Raises
    ------
    UnusableInputError
        A sequence that cannot be a head's MR scan; the message says which and why.
    CancelledError
        The user asked to stop.
    """
    notes = Notes(study.notices)
    reference = reference_of(study.series)
    with context.stage("load"):
        loaded = _load_all(study.series, context, options, notes)
    native = loaded[reference].series.grid
    with context.stage("register"):
        bring_together(loaded, reference, context, options, notes)
    with context.stage(StepName.BRAIN):
        mask, where = brain_of(loaded, reference, options, notes, context)
    with context.stage("resample"):
        working = _working_grid(mask, where, native, options.edge_mm)
        channels, present, brain = _resample_all(loaded, mask, where, working, context)
        _even_out(channels, brain, notes)
    if options.bias:
        with context.stage(StepName.BIAS):
            take_bias_out(channels, brain, working, context, options, notes)
    with context.stage("check quality"):
        there = {s: channels[i] for i, s in enumerate(MrSequence) if present[i]}
        with ThreadPoolExecutor(1) as aside:  # a registration, which leaves Python to the rest
            compare = partial(sides, there, reference, brain, working, context=context)
            agreement = aside.submit(compare) if options.sides else None
            checks = _quality(loaded, there, brain, working, notes, agreement)
    return PreparedStudy(
        channels=channels,
        present=present,
        brain=brain,
        working=working,
        native=native,
        to_native=index_map(working.affine, native.affine),
        reference=reference,
        steps=tuple(notes.steps),
        quality=checks,
        notices=tuple(notes.notices),
    )


def reference_of(series: Mapping[MrSequence, Series]) -> MrSequence:
    """Return the sequence on whose grid results lie: the first there of T1c, FLAIR, T2, T1.

    Raises
    ------
    UnusableInputError
        There is none.
    """
    for sequence in REFERENCE_ORDER:
        if sequence in series:
            return sequence
    raise UnusableInputError(
        found="a study without any sequence",
        expected="at least one of T1, T1c, T2 and FLAIR",
        next_step=f"Where you know a sequence, {how_to_name()}",
        in_window=f"Where you know a sequence, {NAME_IN_WINDOW}",
    )


def _load_all(
    series: Mapping[MrSequence, Series], context: RunContext, options: PrepareOptions, notes: Notes
) -> dict[MrSequence, Loaded]:
    for sequence, item in series.items():
        check_grid(item.grid, _where(sequence, item))
    with ThreadPoolExecutor(max(options.threads, 1)) as pool:
        jobs = {s: pool.submit(_load_one, s, item) for s, item in series.items()}
        loaded: dict[MrSequence, Loaded] = {}
        for number, (sequence, job) in enumerate(jobs.items(), 1):
            loaded[sequence], found = job.result()
            notes.notices.extend(found)
            context.check("load")
            context.progress("load", number / len(jobs))
    return loaded


def _where(sequence: MrSequence, series: Series) -> str:
    return f"{sequence.words} ({series.description!r})"


def _load_one(sequence: MrSequence, series: Series) -> tuple[Loaded, list[str]]:
    where = _where(sequence, series)
    values, notice = lost_signal.finite(series.load(), series.grid, where)
    check_voxels(values, where)
    values = standard_units(values)
    notices = [notice] if notice else []
    capped, share = _capped(values)
    if share:
        notices.append(f"{where}: {share} voxels far brighter than all others were capped.")
    stripped = brains.is_stripped(capped, series.grid)
    return Loaded(series, capped, stripped), notices


def _capped(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """Cap single voxels ten times brighter than the 99.9th percentile; count them."""
    top = 10.0 * float(np.quantile(values[::2, ::2, ::2], 0.999))
    if top <= 0 or float(values.max()) <= top:
        return values, 0
    return np.minimum(values, np.float32(top)), int((values > top).sum())


def _working_grid(mask: NDArray[np.bool_], where: Grid, native: Grid, edge_mm: float) -> Grid:
    """Lay RAS+ cubes over the native field of view and cut them down to the brain."""
    affine, shape = ras_grid(native.affine, native.shape, edge_mm)
    whole = Grid(shape, affine, native.frame_uid)
    box = bounding_box(mask) or tuple(slice(0, length) for length in mask.shape)
    corners = np.array(
        [[s.start - 0.5 if low else s.stop - 0.5 for s, low in zip(box, lows, strict=True)]
         for lows in np.ndindex(2, 2, 2)]
    )  # fmt: skip
    found = whole.to_voxel(where.to_mm(corners))
    low = np.maximum(np.floor(found.min(axis=0)).astype(int) - MARGIN_VOX, 0)
    high = np.minimum(np.ceil(found.max(axis=0)).astype(int) + 1 + MARGIN_VOX, shape)
    if (high - low < 8).any():
        return whole
    return crop_grid(
        whole, (int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2]))
    )


def _resample_all(
    loaded: dict[MrSequence, Loaded],
    mask: NDArray[np.bool_],
    where: Grid,
    working: Grid,
    context: RunContext,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Bring mask and sequences onto the working grid; outside of the brain stays as scanned."""
    same = where.matches(working)
    brain = mask if same else resample_mask(mask, where, working)
    channels = np.zeros((len(MrSequence), *working.shape), dtype=np.float32)
    present = np.zeros(len(MrSequence), dtype=bool)
    for index, sequence in enumerate(MrSequence):
        if sequence in loaded:
            item = loaded[sequence]
            values, grid = divided(item.values, item.series.grid, min(working.spacing_mm))
            channels[index] = resample(values, grid, working, moved=item.moved)
            present[index] = True
            context.check("resample")
    return channels, present, brain


def _even_out(channels: NDArray[np.float32], brain: NDArray[np.bool_], notes: Notes) -> None:
    """Take strong shading out of every sequence that has it, in place."""
    for sequence, values in zip(MrSequence, channels, strict=True):
        even, strength = evened(values, brain)
        if even is values:
            continue
        values[...] = even
        part = share_taken_out(strength)
        words = f"Strong shading of {strength:.1f} to 1 within the brain, {part:.0%} taken out."
        notes.steps.append(PreparationStep(StepName.BIAS, sequence, True, words, strength))
        notes.notices.append(
            f"{sequence.words} is shaded {strength:.1f} to 1 within the brain, as by a surface "
            f"coil. {part:.0%} of that was taken out; check candidates on the bright side by eye."
        )


def _quality(
    loaded: Mapping[MrSequence, Loaded],
    by_sequence: Mapping[MrSequence, NDArray[np.float32]],
    brain: NDArray[np.bool_],
    working: Grid,
    notes: Notes,
    agreement: Future[QualityCheck | None] | None,
) -> tuple[QualityCheck, ...]:
    series = {sequence: item.series for sequence, item in loaded.items()}
    acquired = {sequence: (item.values, item.series.grid) for sequence, item in loaded.items()}
    valid = {s: values != 0 for s, values in by_sequence.items()}
    volume = float(brain.sum()) * working.voxel_ml
    found = [
        quality.missing(series),
        exchanged_names.check(by_sequence, brain),
        quality.cut_off(brain, min(working.spacing_mm)) or quality.coverage(brain, valid, volume),
        lost_signal.check(acquired),
        quality.saturation(acquired),
        quality.spacing(series),
        quality.motion(acquired),
        quality.noise(by_sequence, brain),
        quality.contrast_agent(by_sequence, brain),
        quality.registration(notes.registered),
        agreement.result() if agreement else None,
    ]
    return tuple(item for item in found if item is not None)
