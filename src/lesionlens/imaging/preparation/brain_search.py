"""Choose the brain mask: a given one, the outline of a stripped image, or brain extraction."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.study import StepName
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation import brain as brains
from lesionlens.imaging.preparation import brain_extraction
from lesionlens.imaging.preparation.brain_extraction import OutlineContent
from lesionlens.imaging.preparation.draft import Draft, Loaded
from lesionlens.imaging.preparation.resampling import HALF, resample, resample_mask
from lesionlens.imaging.reading.nifti import open_volume

MIN_BRAIN_SHARE = 0.03
"""Minimum share of a stripped scan's outline that must look like brain."""
MAX_ROTATED_BEYOND = 0.06
"""Maximum share of an outline beyond the brain that the network finds after a half turn, if the
outline is a brain's. Measured: at most .02 in nine stripped brains rotated back; .13 and more in
seven heads after any half turn."""


def find_brain(draft: Draft, context: RunContext) -> None:
    """Add a brain mask and its grid to the draft."""
    loaded, reference = draft.loaded, draft.reference
    if draft.options.brain_mask is not None:
        _use_mask_file(draft, Path(draft.options.brain_mask))
        return
    stripped = next((s for s in (reference, *loaded) if loaded[s].stripped), None)
    if stripped is not None:
        _use_outline(draft, stripped, context)
        return
    if draft.options.strip:
        _use_mask(draft, _extract_brain(draft, context))
        return
    draft.add_step(StepName.BRAIN, None, "Skipped on request.", done=False)
    draft.mask = Volume(loaded[reference].values > 0, draft.native)


def _use_mask_file(draft: Draft, path: Path) -> None:
    """Use a mask of the brain on any grid in the millimetres of the reference.

    Raises
    ------
    ReadError, UnusableInputError
        The file is no NIfTI volume, or none of its mask lies in the reference's field of view.
    """
    volume = open_volume(path)
    grid, mask = volume.grid, volume.load() > HALF
    volume_ml = draft.native.volume_ml(resample_mask(mask, grid, draft.native))
    if not volume_ml:
        raise UnusableInputError(
            f"The brain mask {path.name!r} covers nothing of the reference, "
            f"{draft.reference.display_name}.",
            hint="Name a mask that was drawn on this study.",
        )
    message = f"The brain mask {path.name!r} was used: {volume_ml:.0f} ml."
    draft.add_step(StepName.BRAIN, draft.reference, message, figure=volume_ml)
    draft.mask = Volume(mask, grid)


def _use_outline(draft: Draft, sequence: MrSequence, context: RunContext) -> None:
    """Use the outline of an image that seems to be stripped, or the brain in it if it is a head."""
    scan = draft.loaded[sequence]
    images = [scan.values, *_values_on_its_grid(draft, scan)]
    grid = scan.series.grid
    content = None
    if draft.options.strip:
        outline = brains.foreground(scan.values)
        content = draft.executor.submit(
            brain_extraction.outline_content, scan.values, grid, outline
        )
    mask = brains.stripped_brain_mask(images, grid)
    brain = content and _brain_of_head(draft, scan, mask, content.result(), context)
    if brain:
        for item in draft.loaded.values():
            item.stripped = False
        _use_mask(draft, brain)
        return
    message = "Already skull-stripped: the existing outline was used."
    draft.add_step(StepName.BRAIN, sequence, message, done=False)
    draft.mask = Volume(mask, scan.moved_grid())


def _brain_of_head(
    draft: Draft, scan: Loaded, mask: Mask, content: OutlineContent, context: RunContext
) -> brains.BrainMask | None:
    """Return the brain if the object of a stripped image is a head, None if it is the brain.

    If it may be neither, a notice is added, or the image is refused.
    """
    if content.brain >= MIN_BRAIN_SHARE:
        if not content.may_be_head or _is_rotated_brain(scan, context):
            return None
        brain = _extract_brain(draft, context)
        if brain.mask.any() and brain.doubt is None:
            return brain
    if not draft.options.checks:
        return None
    volume = scan.series.grid.volume_ml(mask)
    description = f"an object of {volume:.0f} ml, {content.brain:.0%} of which look like brain"
    if content.brain < MIN_BRAIN_SHARE and brains.is_even(scan.values, mask):
        raise _no_brain_error(f"{description}, of one uniform material", draft)
    draft.notices.append(f"Is this a brain? The scan shows {description}. Check it by eye.")
    return None


def _is_rotated_brain(scan: Loaded, context: RunContext) -> bool:
    """Return whether the object is a brain half a turn away from what the header says.

    The network was trained on upright heads, and finds only a part of such a brain.
    """
    outline = brains.foreground(scan.values)
    for axes in combinations(range(3), 2):
        context.check(StepName.BRAIN)
        rotated = brain_extraction.outline_content(
            np.flip(scan.values, axes), scan.series.grid, np.flip(outline, axes)
        )
        if rotated.brain >= MIN_BRAIN_SHARE and rotated.beyond <= MAX_ROTATED_BEYOND:
            return True
    return False


def _extract_brain(draft: Draft, context: RunContext) -> brains.BrainMask:
    """Extract the brain by the built-in network, from every sequence."""
    grid = brain_extraction.reading_grid(draft.native)
    images = {
        s: resample(scan.values, scan.series.grid, grid, moved=scan.reference_to_sequence)
        for s, scan in draft.loaded.items()
    }
    return brain_extraction.find_brain(images, grid, context=context)


def _values_on_its_grid(draft: Draft, scan: Loaded) -> list[Floats]:
    """Return the other sequences on a scan's grid, cropped or padded, if not registered to it."""
    others = (
        other
        for other in draft.loaded.values()
        if other is not scan and other.reference_to_sequence is None
    )
    pairs = ((other.values_as_in(scan), other) for other in others)
    placed = (other.values_placed_in(scan) if v is None else v for v, other in pairs)
    return [values for values in placed if values is not None]


def _use_mask(draft: Draft, brain: brains.BrainMask) -> None:
    if not brain.mask.any():
        raise _no_brain_error(f"{brain.method}: {brain.doubt}", draft)
    message = f"{brain.method}: {brain.volume_ml:.0f} ml."
    draft.add_step(StepName.BRAIN, draft.reference, message, figure=brain.volume_ml)
    if brain.doubt:
        draft.notices.append(f"The brain mask is doubtful: {brain.doubt}. Check it by eye.")
    draft.mask = Volume(brain.mask, brain.grid)


def _no_brain_error(reason: str, draft: Draft) -> UnusableInputError:
    """Return the error for a scan without a brain, with earlier notices as a possible cause."""
    earlier_notices = (notice.rstrip(".") for notice in draft.study.notices)
    return UnusableInputError(
        found=". ".join((f"no brain in the scan ({reason})", *earlier_notices)),
        expected="an MR scan of a brain, with or without its skull",
        next_step="Choose the series that shows the head; if this one does, name a mask of its "
        "brain with --brain-mask",
        in_window="Choose the series that shows the head",
    )
