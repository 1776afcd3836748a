"""Register every sequence to the reference that was not brought to it before."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock

import numpy as np

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import PreparationStep, StepName
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation import cache
from lesionlens.imaging.preparation.draft import Draft, Loaded, PrepareOptions
from lesionlens.imaging.preparation.registration import (
    FORM,
    Registration,
    ResolutionPyramid,
    pyramid,
    register,
)

SAME_OUTLINE = 0.99
"""Dice of the outlines of two images that were stripped with one mask. Measured: .997 to 1 where
they were; 2 mm of movement make it .97."""
REST_MM, REST_DEG = 0.7, 0.7
"""Movements below these are as large as the registration's own error; interpolation would cost
more than they are worth."""


def bring_together(draft: Draft, context: RunContext) -> None:
    """Find how each sequence lies, where it was not brought to the reference before."""
    loaded, options = draft.loaded, draft.options
    fixed = loaded[draft.reference]
    others = [s for s, item in loaded.items() if item is not fixed and _apart(fixed, item)]
    if not others or not options.register:
        words = "Left out on request."
        if not others:
            words = "The sequences were brought together before: left as they are."
        if others or len(loaded) > 1:
            draft.steps.append(PreparationStep(StepName.REGISTER, None, False, words))
        return
    lent = _lender(fixed)
    if options.cache:
        fixed.digest()  # once, before several threads ask for it
    with ThreadPoolExecutor(max(options.threads, 1)) as pool:  # ITK lets the interpreter go
        jobs = [pool.submit(_registered, fixed, loaded[s], lent, options, context) for s in others]
        for number, (sequence, job) in enumerate(zip(others, jobs, strict=True), 1):
            found, moving = job.result(), loaded[sequence]
            if _at_rest(fixed, moving, found):
                found = replace(found, moved=np.eye(4), shift_mm=0.0, angle_deg=0.0)
            else:
                moving.moved = found.moved
            _note(draft, sequence, found)
            context.progress("register", number / len(others))


def _lender(fixed: Loaded) -> Callable[[], ResolutionPyramid]:
    """Return what lends the reference's pyramid, made when first requested, a copy to each."""
    lock = Lock()
    made: list[ResolutionPyramid] = []

    def lend() -> ResolutionPyramid:
        with lock:
            if not made:
                made.append(pyramid(fixed.values, fixed.series.grid))
            return made[0].copy()

    return lend


def _apart(fixed: Loaded, moving: Loaded) -> bool:
    """Whether a sequence may lie elsewhere than the reference.

    One grid is no proof: scans of one prescription share it however the patient moved between them.
    One grid and one outline without skull are, for only preparation makes both.
    """
    if not (fixed.stripped and moving.stripped and fixed.on_grid_of(moving)):
        return True
    one, other = (item.values[::2, ::2, ::2] != 0 for item in (fixed, moving))
    shared = 2 * np.count_nonzero(one & other)
    return bool(shared < SAME_OUTLINE * (np.count_nonzero(one) + np.count_nonzero(other)))


def _registered(
    fixed: Loaded,
    moving: Loaded,
    lent: Callable[[], ResolutionPyramid],
    options: PrepareOptions,
    context: RunContext,
) -> Registration:
    """Register, or take what was found for these very voxels before."""
    context.check("registration")
    key = None
    if options.cache:
        pair = {"fixed": fixed, "moving": moving}
        volumes = {name: (item.digest(), item.series.grid.affine) for name, item in pair.items()}
        key = cache.key_of(volumes, "register")

    def compute() -> Registration:
        return register(lent(), pyramid(moving.values, moving.series.grid), context=context)

    return cache.cached(key, compute, FORM)


def _at_rest(fixed: Loaded, moving: Loaded, found: Registration) -> bool:
    """Whether two scans of one grid lie as their headers say, as far as their content shows."""
    near = found.shift_mm < REST_MM and found.angle_deg < REST_DEG
    return near and fixed.on_grid_of(moving)


def _note(draft: Draft, sequence: MrSequence, found: Registration) -> None:
    draft.registered[sequence] = found
    draft.steps.append(
        PreparationStep(
            StepName.REGISTER,
            sequence,
            True,
            f"Moved by {found.shift_mm:.1f} mm and {found.angle_deg:.1f} degrees; mutual "
            f"information {found.information:.2f}, {found.pronounced:.0%} above that of 10 mm off.",
            found.pronounced,
        )
    )
    if found.doubtful:
        draft.notices.append(
            f"The registration of {sequence.words} is doubtful (check the alignment by eye): "
            "the sequences may be of different patients or sessions, or hardly overlap."
        )
