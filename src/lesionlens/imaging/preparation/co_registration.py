"""Register every sequence to the reference, unless they are registered already."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock

import numpy as np

from lesionlens.base.labels import MrSequence
from lesionlens.base.numerics import dice
from lesionlens.base.records.study import StepName
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.draft import Draft, Loaded
from lesionlens.imaging.preparation.registration import (
    Registration,
    ResolutionPyramid,
    pyramid,
    register,
)

SAME_OUTLINE = 0.99
"""Dice of the outlines of two images that were stripped with one mask. Measured: .997 to 1 for such
images; .97 after 2 mm of movement.
"""
MIN_SHIFT_MM, MIN_ANGLE_DEG = 0.7, 0.7
"""Smaller movements are within the registration's error; interpolation would do more harm."""


def register_sequences(draft: Draft, context: RunContext) -> None:
    """Register each sequence that is not aligned with the reference yet."""
    loaded, options = draft.loaded, draft.options
    fixed = loaded[draft.reference]
    misaligned = [
        s for s, item in loaded.items() if item is not fixed and _may_be_misaligned(fixed, item)
    ]
    if not misaligned or not options.register:
        message = "Skipped on request."
        if not misaligned:
            message = "The sequences were already registered: left unchanged."
        if misaligned or len(loaded) > 1:
            draft.add_step(StepName.REGISTER, None, message, done=False)
        return
    copy_pyramid = _pyramid_copier(fixed)
    with ThreadPoolExecutor(max(options.threads, 1)) as pool:  # ITK releases the GIL

        def register_one(moving: Loaded) -> Registration:
            context.check("registration")
            moving_pyramid = pyramid(moving.values, moving.series.grid)
            return register(copy_pyramid(), moving_pyramid, context=context)

        jobs = [pool.submit(register_one, loaded[s]) for s in misaligned]
        for number, (sequence, job) in enumerate(zip(misaligned, jobs, strict=True), 1):
            moving = loaded[sequence]
            registration = replace(job.result(), one_stripped=fixed.stripped != moving.stripped)
            if _is_aligned_by_header(fixed, moving, registration):
                registration = replace(
                    registration, reference_to_sequence=np.eye(4), shift_mm=0.0, angle_deg=0.0
                )
            else:
                moving.reference_to_sequence = registration.reference_to_sequence
            _record(draft, sequence, registration)
            context.progress("register", number / len(misaligned))


def _pyramid_copier(fixed: Loaded) -> Callable[[], ResolutionPyramid]:
    """Return a function that returns copies of the reference's pyramid, built on first use."""
    lock = Lock()
    built: list[ResolutionPyramid] = []

    def copy_pyramid() -> ResolutionPyramid:
        with lock:
            if not built:
                built.append(pyramid(fixed.values, fixed.series.grid))
            return built[0].copy()

    return copy_pyramid


def _may_be_misaligned(fixed: Loaded, moving: Loaded) -> bool:
    """Return whether a sequence may be misaligned with the reference.

    Equal grids alone do not prove alignment: the patient may have moved between scans of one
    prescription. Together with equal outlines of skull-stripped images they do, because both
    result from preprocessing. Grids are equal if their voxels are, in whatever order they are
    stored; blank voxels that one of them lacks do not count.
    """
    if not (fixed.stripped and moving.stripped):
        return True
    values = moving.values_as_in(fixed)
    if values is None:
        values = moving.values_placed_in(fixed)
    if values is None:
        return True
    fixed_mask, moving_mask = (array[::2, ::2, ::2] != 0 for array in (fixed.values, values))
    return dice(fixed_mask, moving_mask) < SAME_OUTLINE


def _is_aligned_by_header(fixed: Loaded, moving: Loaded, registration: Registration) -> bool:
    """Return whether two scans on one grid are aligned by their headers, judged by content."""
    is_small = registration.shift_mm < MIN_SHIFT_MM and registration.angle_deg < MIN_ANGLE_DEG
    return is_small and moving.values_as_in(fixed) is not None


def _record(draft: Draft, sequence: MrSequence, registration: Registration) -> None:
    draft.registered[sequence] = registration
    draft.add_step(
        StepName.REGISTER,
        sequence,
        f"Moved by {registration.shift_mm:.1f} mm and {registration.angle_deg:.1f} "
        f"degrees; mutual information {registration.information:.2f}, "
        f"{registration.peak_height:.0%} above that at an offset of 10 mm.",
        figure=registration.peak_height,
    )
    if registration.doubtful:
        draft.notices.append(
            f"The registration of {sequence.display_name} is doubtful (check it by eye): the "
            "sequences may be from different patients or sessions, or barely overlap."
        )
