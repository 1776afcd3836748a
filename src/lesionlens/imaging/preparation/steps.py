"""The searches of preparation: how the sequences lie, where the brain is, how coils shaded it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.base.geometry import Affine
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import PreparationStep, Series, StepName
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation import (
    array_forms,
    bias_field,
    brain_extraction,
    cache,
    skull_stripping,
)
from lesionlens.imaging.preparation import brain as brains
from lesionlens.imaging.preparation.registration import (
    Registration,
    ResolutionPyramid,
    pyramid,
    register,
)
from lesionlens.imaging.preparation.resampling import resample

SAME_OUTLINE = 0.99
"""Dice of the outlines of two images that were stripped with one mask. Measured: .997 to 1 where
they were; 2 mm of movement make it .97."""
LEAST_BRAIN = 0.03
"""Share of a stripped scan's outline that must look like brain."""
REST_MM, REST_DEG = 0.7, 0.7
"""Movements below these are as large as the registration's own error; interpolation would cost
more than they are worth."""


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How to prepare; each step can be left out."""

    edge_mm: float = 1.0
    """Edge of the working grid's cubes."""
    register: bool = True
    """Co-register the sequences, but for those that were brought together before."""
    strip: bool = True
    """Find the brain where the skull is still there, with a network. Otherwise the brain that was
    found in these voxels before is taken, or the whole head counts: for a review of what is there
    already."""
    stripper: str = skull_stripping.AUTO
    """"own", a program that the user has (a name in `skull_stripping.PROGRAMS`), or "auto": the own
    method, and an installed program where its mask is doubtful."""
    bias: bool = False
    """Take the coils' shading out of each sequence (N4). Off: our network was trained to read
    through it, and it costs more time than the rest of the preparation."""
    sides: bool = True
    """Check whether one sequence is mirrored against the others."""
    threads: int = 2
    """Files read, and sequences registered, at a time."""
    cache: bool = True
    """Use and keep movements and brain masks in the user's cache folder."""


@dataclass(slots=True)
class Loaded:
    """Voxels of one sequence, in its own frame."""

    series: Series
    values: NDArray[np.float32]
    stripped: bool = False
    moved: Affine | None = None


@dataclass(slots=True)
class Notes:
    """Steps, notices and registrations, collected while preparing; what reading noticed before."""

    reading: tuple[str, ...] = ()
    steps: list[PreparationStep] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    registered: dict[MrSequence, Registration] = field(default_factory=dict)


def bring_together(
    loaded: dict[MrSequence, Loaded],
    reference: MrSequence,
    context: RunContext,
    options: PrepareOptions,
    notes: Notes,
) -> None:
    """Register every sequence to the reference that was not brought to it before."""
    fixed = loaded[reference]
    others = [s for s, item in loaded.items() if s is not reference and _apart(fixed, item)]
    if not others:
        if len(loaded) > 1:
            sentence = "The sequences were brought together before: left as they are."
            notes.steps.append(PreparationStep(StepName.REGISTER, None, False, sentence))
        return
    if not options.register:
        notes.steps.append(PreparationStep(StepName.REGISTER, None, False, "Left out on request."))
        return
    lent = _lender(fixed)
    with ThreadPoolExecutor(max(options.threads, 1)) as pool:  # ITK lets the interpreter go
        jobs = [pool.submit(_registered, fixed, loaded[s], lent, options, context) for s in others]
        for number, (sequence, job) in enumerate(zip(others, jobs, strict=True), 1):
            found, moving = job.result(), loaded[sequence]
            if _at_rest(fixed, moving, found):
                found = replace(found, moved=np.eye(4), shift_mm=0.0, angle_deg=0.0)
            else:
                moving.moved = found.moved
            _note_registration(sequence, found, notes)
            context.progress("register", number / len(others))


def _lender(fixed: Loaded) -> Callable[[], ResolutionPyramid]:
    """Return what lends the reference's pyramid, made when first asked for, a copy to each."""
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
    if not (fixed.stripped and moving.stripped and _on_one_grid(fixed, moving)):
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
        volumes = {name: (item.values, item.series.grid.affine) for name, item in pair.items()}
        key = cache.key_of(volumes, "register")

    def compute() -> Registration:
        return register(lent(), pyramid(moving.values, moving.series.grid), context=context)

    return cache.cached(key, compute, array_forms.REGISTRATION)


def _at_rest(fixed: Loaded, moving: Loaded, found: Registration) -> bool:
    """Whether two scans of one grid lie as their headers say, as far as their content shows."""
    near = found.shift_mm < REST_MM and found.angle_deg < REST_DEG
    return near and _on_one_grid(fixed, moving)


def _on_one_grid(one: Loaded, other: Loaded) -> bool:
    return one.series.grid.matches(other.series.grid, 1e-2)


def _note_registration(sequence: MrSequence, found: Registration, notes: Notes) -> None:
    notes.registered[sequence] = found
    notes.steps.append(
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
        notes.notices.append(
            f"The registration of {sequence.words} is doubtful (check the alignment by eye): "
            "the sequences may be of different patients or sessions, or hardly overlap."
        )


def brain_of(
    loaded: dict[MrSequence, Loaded],
    reference: MrSequence,
    options: PrepareOptions,
    notes: Notes,
    context: RunContext,
) -> tuple[NDArray[np.bool_], Grid]:
    """Return a brain mask and the grid on which it lies."""
    first = next((s for s in (reference, *loaded) if loaded[s].stripped), None)
    if first is not None:
        item = loaded[first]
        together = [
            other.values
            for other in loaded.values()
            if other is not item and other.moved is None and _on_one_grid(item, other)
        ]
        mask = brains.of_stripped([item.values, *together], item.series.grid)
        if options.strip:
            _confirm(item, mask, notes)
        notes.steps.append(
            PreparationStep(
                StepName.BRAIN, first, False, "Already without skull: its outline was taken."
            )
        )
        return mask, item.series.grid if item.moved is None else _moved_grid(item)
    if not options.strip:
        kept = None
        if options.cache:
            key = _brain_key(loaded, reference, skull_stripping.OWN)
            kept = cache.recall(
                key, array_forms.brain_form(loaded[reference].series.grid.frame_uid)
            )
        if kept is not None and kept.mask.any():
            _note_brain(kept, reference, notes)
            return kept.mask, kept.grid
        notes.steps.append(PreparationStep(StepName.BRAIN, None, False, "Left out on request."))
        return loaded[reference].values > 0, loaded[reference].series.grid
    found = _brain_in(loaded, reference, options, notes, context)
    _note_brain(found, reference, notes)
    return found.mask, found.grid


def _confirm(item: Loaded, mask: NDArray[np.bool_], notes: Notes) -> None:
    """Check whether what lies alone in the air is a brain; report it, or refuse, where it is none.

    Raises
    ------
    UnusableInputError
        Hardly any of it looks like brain, and it is of one even material.
    """
    share = brain_extraction.share_of_brain(item.values, item.series.grid, mask)
    if share >= LEAST_BRAIN:
        return
    volume = float(mask.sum()) * item.series.grid.voxel_ml
    found = f"an object of {volume:.0f} ml, {share:.0%} of which look like brain"
    if brains.is_even(item.values, mask):
        raise _no_brain(f"{found}, of one even material", notes)
    notes.notices.append(f"Is this a brain? The scan shows {found}. Check it by eye.")


def _brain_in(
    loaded: Mapping[MrSequence, Loaded],
    reference: MrSequence,
    options: PrepareOptions,
    notes: Notes,
    context: RunContext,
) -> brains.BrainMask:
    """Find the brain by the method asked for; under "auto" a program mends a doubtful mask."""
    auto = options.stripper == skull_stripping.AUTO
    method = skull_stripping.OWN if auto else options.stripper
    found = _kept_brain(loaded, reference, method, options, context)
    others = skull_stripping.installed() if auto and found.doubtful else ()
    if not others:
        return found
    try:
        other = _kept_brain(loaded, reference, others[0], options, context)
    except ResourceError as error:
        notes.notices.append(f"The brain mask is doubtful, and {others[0]} did not help: {error}")
        return found
    words = f"{other.method}, because the own mask was doubtful ({found.doubtful})"
    return replace(other, method=words)


def _kept_brain(
    loaded: Mapping[MrSequence, Loaded],
    reference: MrSequence,
    method: str,
    options: PrepareOptions,
    context: RunContext,
) -> brains.BrainMask:
    """Find the brain, or take what was found in these very voxels by this method before."""
    key = _brain_key(loaded, reference, method) if options.cache else None
    form = array_forms.brain_form(loaded[reference].series.grid.frame_uid)
    return cache.cached(key, lambda: _searched(loaded, reference, method, context), form)


def _brain_key(loaded: Mapping[MrSequence, Loaded], reference: MrSequence, method: str) -> str:
    volumes = {s.value: (item.values, _moved_grid(item).affine) for s, item in loaded.items()}
    return cache.key_of(volumes, f"brain {reference} {skull_stripping.identity(method)}")


def _searched(
    loaded: Mapping[MrSequence, Loaded], reference: MrSequence, method: str, context: RunContext
) -> brains.BrainMask:
    """Find the brain: our network looks at every sequence, a program at the reference alone."""
    item = loaded[reference]
    if method != skull_stripping.OWN:
        return skull_stripping.strip(method, item.values, item.series.grid, context=context)
    grid = brain_extraction.reading_grid(item.series.grid)
    images = {
        s: resample(one.values, one.series.grid, grid, moved=one.moved) for s, one in loaded.items()
    }
    return brain_extraction.find_brain(images, grid, context=context)


def _note_brain(found: brains.BrainMask, reference: MrSequence, notes: Notes) -> None:
    if not found.mask.any():
        raise _no_brain(f"{found.method}: {found.doubtful}", notes)
    words = f"{found.method}: {found.volume_ml:.0f} ml."
    notes.steps.append(PreparationStep(StepName.BRAIN, reference, True, words, found.volume_ml))
    if found.doubtful:
        notes.notices.append(f"The brain mask is doubtful: {found.doubtful}. Check it by eye.")


def _no_brain(why: str, notes: Notes) -> UnusableInputError:
    """Refuse, with what was noticed when the study was opened: it may be the cause."""
    return UnusableInputError(
        found=". ".join((f"no brain in the scan ({why})", *(n.rstrip(".") for n in notes.reading))),
        expected="an MR scan of a brain, with or without its skull",
        next_step="Choose the series that shows the head; where this one does, install SynthStrip "
        "or HD-BET and name it with --brain-extraction",
        in_window="Choose the series that shows the head; where this one does, install SynthStrip "
        "or HD-BET and choose it as brain extraction",
    )


def _moved_grid(item: Loaded) -> Grid:
    """Return the grid of a sequence as it lies in the reference's frame."""
    if item.moved is None:
        return item.series.grid
    grid = item.series.grid
    return Grid(grid.shape, np.asarray(np.linalg.inv(item.moved) @ grid.affine), grid.frame_uid)


def take_bias_out(
    channels: NDArray[np.float32],
    brain: NDArray[np.bool_],
    working: Grid,
    context: RunContext,
    options: PrepareOptions,
    notes: Notes,
) -> None:
    """Divide the bias field out of every sequence, in place.

    Parameters
    ----------
    channels, brain : (4, I, J, K) float32, (I, J, K) bool
        On `working`; channels in the order of MrSequence.
    working, context, options, notes
        As in `preparation.prepare.prepare`; `notes` gets a step for each sequence.
    """
    there = [pair for pair in zip(MrSequence, channels, strict=True) if pair[1].any()]
    for number, (sequence, values) in enumerate(there, 1):
        context.check(StepName.BIAS)
        found = _kept_field(values, brain, working, options)
        if found is None:
            words = "Left out: too little of the brain is shown."
            notes.steps.append(PreparationStep(StepName.BIAS, sequence, False, words))
        else:
            values[...] = bias_field.corrected(values, working, found)
            step = PreparationStep(StepName.BIAS, sequence, True, found.words, found.strength)
            notes.steps.append(step)
        context.progress(StepName.BIAS, number / len(there))


def _kept_field(
    values: NDArray[np.float32],
    brain: NDArray[np.bool_],
    working: Grid,
    options: PrepareOptions,
) -> bias_field.BiasField | None:
    """Find the bias field, or take what was found in these very voxels before."""
    key = None
    if options.cache:
        inside = brain.astype(np.float32)
        volumes = {"image": (values, working.affine), "brain": (inside, working.affine)}
        key = cache.key_of(volumes, "bias")
    form = array_forms.bias_form(working.frame_uid)
    return cache.cached(key, lambda: bias_field.estimate(values, brain, working), form)
