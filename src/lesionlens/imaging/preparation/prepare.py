"""Prepare a study: all sequences on one 1 mm RAS+ grid, brain mask, map to the native grid."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Mask, index_map
from lesionlens.base.labels import NAME_IN_WINDOW, REFERENCE_ORDER, MrSequence, naming_advice
from lesionlens.base.records.study import (
    Acquired,
    PreparedStudy,
    QualityCheck,
    Series,
    StepName,
    Study,
)
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.brain_search import find_brain
from lesionlens.imaging.preparation.checks import lost_signal, quality, swapped_names
from lesionlens.imaging.preparation.checks.laterality_check import half_turn, sides
from lesionlens.imaging.preparation.co_registration import register_sequences
from lesionlens.imaging.preparation.draft import Draft, PrepareOptions, Stage
from lesionlens.imaging.preparation.loading import load
from lesionlens.imaging.preparation.resampling import resample_mask
from lesionlens.imaging.preparation.working_grid import resample_all

__all__ = ["PrepareOptions", "prepare", "reference_of"]

DEFAULT_OPTIONS = PrepareOptions()
_STAGES: tuple[tuple[str, Stage], ...] = (
    ("load", load),
    ("register", register_sequences),
    (StepName.BRAIN, find_brain),
    ("resample", resample_all),
)


def prepare(
    study: Study, context: RunContext, options: PrepareOptions = DEFAULT_OPTIONS
) -> PreparedStudy:
    """Load, check and co-register the sequences, extract the brain and resample.

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
    with ThreadPoolExecutor(1) as executor:
        draft = Draft(study, reference_of(study.series), options, executor)
        for name, stage in _STAGES:
            with context.stage(name):
                stage(draft, context)
        checks: tuple[QualityCheck, ...] = ()
        if options.checks:
            with context.stage("check quality"):
                checks = _run_checks(draft, context)
    return PreparedStudy(
        channels=draft.channels,
        present=np.array([sequence in draft.loaded for sequence in MrSequence]),
        brain=draft.brain,
        working=draft.working,
        native=draft.native,
        to_native=index_map(draft.working.affine, draft.native.affine),
        reference=draft.reference,
        steps=tuple(draft.steps),
        quality=checks,
        notices=tuple(draft.notices),
        scans={sequence: item.scan_digest for sequence, item in draft.loaded.items()},
        intensities={sequence: item.intensity_digest for sequence, item in draft.loaded.items()},
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


def _run_checks(draft: Draft, context: RunContext) -> tuple[QualityCheck, ...]:
    images, brain, working = draft.images, draft.brain, draft.working
    series = {sequence: scan.series for sequence, scan in draft.loaded.items()}
    acquired = {s: (scan.values, scan.series.grid) for s, scan in draft.loaded.items()}
    valid = {s: values != 0 for s, values in images.items()}
    may_register = draft.options.register and len(images) > 1
    compare = partial(sides, images, draft.reference, brain, working, context=context)
    with ThreadPoolExecutor(2) as executor:  # both register, which releases the GIL
        agreement = executor.submit(compare) if draft.options.sides else None
        names = executor.submit(swapped_names.check, images, brain)
        checks = [
            quality.missing(series),
            quality.cut_off(brain, min(working.spacing_mm)) or _check_coverage(draft, valid),
            lost_signal.check(acquired),
            _check_saturation(draft, acquired),
            quality.spacing(series),
            quality.motion(acquired),
            quality.noise(images, brain),
            quality.contrast_agent(images, brain),
            quality.registration(draft.registered) if may_register else None,
            half_turn(brain) if draft.options.strip else None,
            agreement.result() if agreement else None,
        ]
        checks.insert(1, names.result())  # awaited last: the others run meanwhile
    return tuple(check for check in checks if check is not None)


def _check_coverage(draft: Draft, valid: Mapping[MrSequence, Mask]) -> QualityCheck:
    """Check the fields of view, and stripped scans for tissue that went with the skull."""
    brain, edge_mm = draft.brain, min(draft.working.spacing_mm)
    volume_ml = draft.mask.grid.volume_ml(draft.mask.data)
    if not all(scan.stripped for scan in draft.loaded.values()):
        return quality.coverage(brain, valid, volume_ml)
    blank = quality.blank_within(brain, valid, edge_mm)
    coverage = quality.coverage(brain & ~blank, valid, volume_ml)
    if not coverage.passed:
        return coverage
    return quality.cut_out(blank, edge_mm) or quality.stripped_off(valid, edge_mm) or coverage


def _check_saturation(draft: Draft, acquired: Acquired) -> QualityCheck:
    """Check for saturation; a finding is confirmed within the brain.

    The scalp does not count: fat beside a coil is often clipped, and synthetic scalp is uniform.
    """
    check = quality.saturation(acquired)
    if check.passed:
        return check
    masked = {}
    for sequence, (values, grid) in acquired.items():
        brain = resample_mask(draft.brain, draft.working, draft.loaded[sequence].moved_grid())
        masked[sequence] = np.where(brain, values, np.float32(0)), grid
    return quality.saturation(masked)
