"""Choose the brain mask: outline of a stripped image, cached mask, or brain extraction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.base.records.study import PreparationStep, StepName
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation import brain as brains
from lesionlens.imaging.preparation import brain_extraction, cache, skull_stripping
from lesionlens.imaging.preparation.draft import Draft, Loaded
from lesionlens.imaging.preparation.resampling import resample

MIN_BRAIN_SHARE = 0.03
"""Minimum share of a stripped scan's outline that must look like brain."""


def find_brain(draft: Draft, context: RunContext) -> None:
    """Add a brain mask and its grid to the draft."""
    loaded, reference = draft.loaded, draft.reference
    stripped = next((s for s in (reference, *loaded) if loaded[s].stripped), None)
    if stripped is not None:
        item = loaded[stripped]
        others = (one for one in loaded.values() if one is not item and one.moved is None)
        together = (one.values_as_in(item) for one in others)
        images = [item.values, *(values for values in together if values is not None)]
        draft.mask = brains.mask_of_stripped(images, item.series.grid)
        if draft.options.strip and draft.options.checks:
            draft.doubt = draft.aside.submit(_doubt_of, draft, item, draft.mask)
        words = "Already without skull: its outline was taken."
        draft.steps.append(PreparationStep(StepName.BRAIN, stripped, False, words))
        draft.mask_grid = item.moved_grid()
        return
    if draft.options.strip:
        _take(draft, _brain_in(draft, context))
        return
    kept = None
    if draft.options.cache:
        key = _brain_key(draft, skull_stripping.OWN)
        kept = cache.recall(key, brains.form(draft.native.frame_uid))
    if kept is not None and kept.mask.any():
        _take(draft, kept)
        return
    draft.steps.append(PreparationStep(StepName.BRAIN, None, False, "Left out on request."))
    draft.mask, draft.mask_grid = loaded[reference].values > 0, draft.native


def _doubt_of(draft: Draft, item: Loaded, mask: NDArray[np.bool_]) -> str | None:
    """Return a notice if the object of a stripped image may be no brain, or refuse it."""
    share = brain_extraction.share_of_brain(item.values, item.series.grid, mask)
    if share >= MIN_BRAIN_SHARE:
        return None
    volume = item.series.grid.volume_ml(mask)
    found = f"an object of {volume:.0f} ml, {share:.0%} of which look like brain"
    if brains.is_even(item.values, mask):
        raise _no_brain(f"{found}, of one even material", draft)
    return f"Is this a brain? The scan shows {found}. Check it by eye."


def _brain_in(draft: Draft, context: RunContext) -> brains.BrainMask:
    """Extract the brain by the chosen method; "auto" uses a program if the mask is doubtful."""
    auto = draft.options.stripper == skull_stripping.AUTO
    method = skull_stripping.OWN if auto else draft.options.stripper
    found = _kept_brain(draft, method, context)
    others = skull_stripping.installed() if auto and found.doubtful else ()
    if not others:
        return found
    try:
        other = _kept_brain(draft, others[0], context)
    except ResourceError as error:
        draft.notices.append(f"The brain mask is doubtful, and {others[0]} did not help: {error}")
        return found
    words = f"{other.method}, because the own mask was doubtful ({found.doubtful})"
    return replace(other, method=words)


def _kept_brain(draft: Draft, method: str, context: RunContext) -> brains.BrainMask:
    """Extract the brain, or load the cached mask of the same voxels and method."""
    key = _brain_key(draft, method) if draft.options.cache else None
    form = brains.form(draft.native.frame_uid)
    return cache.cached(key, lambda: _extract_brain(draft, method, context), form)


def _brain_key(draft: Draft, method: str) -> str:
    volumes = {s.value: (i.digest(), i.moved_grid().affine) for s, i in draft.loaded.items()}
    return cache.key_of(volumes, f"brain {draft.reference} {skull_stripping.identity(method)}")


def _extract_brain(draft: Draft, method: str, context: RunContext) -> brains.BrainMask:
    """Extract the brain: the built-in network uses every sequence, a program the reference only."""
    if method != skull_stripping.OWN:
        values = draft.loaded[draft.reference].values
        return skull_stripping.strip(method, values, draft.native, context=context)
    grid = brain_extraction.reading_grid(draft.native)
    images = {
        s: resample(one.values, one.series.grid, grid, moved=one.moved)
        for s, one in draft.loaded.items()
    }
    return brain_extraction.find_brain(images, grid, context=context)


def _take(draft: Draft, found: brains.BrainMask) -> None:
    if not found.mask.any():
        raise _no_brain(f"{found.method}: {found.doubtful}", draft)
    words = f"{found.method}: {found.volume_ml:.0f} ml."
    chosen = draft.options.strip and draft.options.stripper in skull_stripping.PROGRAMS
    draft.steps.append(
        PreparationStep(
            StepName.BRAIN, draft.reference, True, words, found.volume_ml, on_request=chosen
        )
    )
    if found.doubtful:
        draft.notices.append(f"The brain mask is doubtful: {found.doubtful}. Check it by eye.")
    draft.mask, draft.mask_grid = found.mask, found.grid


def _no_brain(why: str, draft: Draft) -> UnusableInputError:
    """Return the error for a scan without a brain, with earlier notices as a possible cause."""
    noticed = (notice.rstrip(".") for notice in draft.study.notices)
    return UnusableInputError(
        found=". ".join((f"no brain in the scan ({why})", *noticed)),
        expected="an MR scan of a brain, with or without its skull",
        next_step="Choose the series that shows the head; where this one does, install SynthStrip "
        "or HD-BET and name it with --brain-extraction",
        in_window="Choose the series that shows the head; where this one does, install SynthStrip "
        "or HD-BET and choose it as brain extraction",
    )
