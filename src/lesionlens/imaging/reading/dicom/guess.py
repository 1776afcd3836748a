"""Which sequence a volume of a DICOM series is, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lesionlens.base.labels import MrSequence
from lesionlens.imaging.reading import sequences
from lesionlens.imaging.reading.dicom.scan import DicomSlice
from lesionlens.imaging.reading.dicom.series import Stack, acquisition
from lesionlens.imaging.reading.dicom.shared_positions import component
from lesionlens.imaging.reading.sequences import Guess

_MIN_SLICES, _MIN_DYNAMIC = 5, 3
"""Minimum slices of a volume, and minimum volumes of a dynamic series."""
_DERIVED_MAPS = frozenset(
    {
        "PROJECTION IMAGE", "MIP", "MNIP", "MAX IP", "MIN IP", "MAXIMUM", "MINIMUM", "ADC", "FA",
        "TRACEW", "SUB", "SUBTRACT", "SUBTRACTION", "MEAN", "DIFFUSION", "PERFUSION", "ASL",
        "VELOCITY", "QUANTITY", "T1MAP", "T2MAP", "F", "FAT", "OP", "OPP PHASE", "OUT PHASE",
        "SCREEN SAVE",
    }
)  # fmt: skip
"""Values of ImageType, with spaces for underscores, beside any "… MAP"; F and FAT are fat alone, OP
is the opposed phase.
"""


def guess_of(stack: Stack, *, is_spine: bool) -> Guess:
    """Identify the sequence of a volume: exclude other kinds first, then use words and timing."""
    first = stack.first
    kinds = {k.replace("_", " ") for k in (*first.texts("ImageType"), *first.texts("FrameType"))}
    count = len(stack.slices)
    exclusions = (
        (
            kinds & {"LOCALIZER", "SCOUT"},
            f"a localiser of {count} slice(s), according to its ImageType",
        ),
        (count < _MIN_SLICES, f"only {count} slice(s): not a volume"),
        (is_spine, "the spine, according to its BodyPartExamined"),
        (component(first) != "M", "phase, real or imaginary part, not magnitude"),
        (
            kinds & _DERIVED_MAPS or any(kind.endswith(" MAP") for kind in kinds),
            "a derived map or projection, according to its ImageType",
        ),
    )
    reason = next((explanation for applies, explanation in exclusions if applies), None)
    if reason:
        return Guess(None, reason, 0.95)
    guess = sequences.from_acquisition(acquisition(first))
    if "DERIVED" in kinds and guess.sequence is not None:
        evidence = f"{guess.evidence}; a derived image, according to its ImageType"
        return replace(guess, confidence=guess.confidence * 0.6, evidence=evidence)
    return guess


def ranked(guess: Guess, number: int, repetition: int, count: int) -> Guess:
    """Return a guess with less confidence if another volume of the series is preferred.

    Later echoes, phases and remainders are second choice. Three or more volumes of T1c are a
    dynamic series: its first is from before the agent arrives, so that the last is preferred.

    Parameters
    ----------
    number : int
        Index of the volume in its series.
    repetition, count : int
        Its index among the repetitions, and their number.
    """
    if guess.sequence is None:
        return guess
    if guess.sequence is not MrSequence.T1C or count < _MIN_DYNAMIC:
        lower = 0.2 if number > 0 else 0.0
        return replace(guess, confidence=max(guess.confidence - lower, 0.05))
    lower = 0.3 if repetition == count - 1 else 0.5
    return replace(
        guess,
        confidence=max(guess.confidence - lower, 0.05),
        evidence=f"{guess.evidence}; volume {repetition + 1} of {count} in its series",
    )


def spine_among(groups: Mapping[str, list[DicomSlice]]) -> set[str]:
    """Return the UIDs of the series of the spine; empty if all are.

    An examination of brain and spine may be registered as one of the spine.
    """
    spine = {
        uid for uid, items in groups.items() if "SPINE" in items[0].text("BodyPartExamined").upper()
    }
    return spine if len(spine) < len(groups) else set()
