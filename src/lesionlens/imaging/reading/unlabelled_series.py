"""Identify series without a conclusive name, sidecar or header by their images."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from lesionlens.base.labels import MrSequence, naming_advice
from lesionlens.base.records.study import EvidenceKind, Series
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.reading.sequences import Guess

MAX_IMAGES = 8
"""Maximum number of images analysed per study; each takes about a second."""


def identify_by_image(
    series: Sequence[Series], named: Collection[MrSequence], *, context: RunContext = SILENT
) -> tuple[list[Series], list[str]]:
    """Identify by image contrast the series that nothing else identifies.

    Returns
    -------
    series : list of Series
        In the same order; a sequence identified by name or header is not assigned again.
    notices : list of str
        Which series were identified by image contrast.
    """
    assigned = {*named, *(s.sequence for s in series if s.sequence is not None)}
    result: list[Series] = []
    notices: list[str] = []
    remaining = MAX_IMAGES
    for item in series:
        unidentified = item.sequence is None and item.evidence_kind is EvidenceKind.NOTHING
        if not unidentified or not remaining or len(assigned) == len(MrSequence):
            result.append(item)
            continue
        context.check("opening the study")
        remaining -= 1
        from lesionlens.imaging.reading import sequence_from_image

        guess = sequence_from_image.judge(item)
        if guess.sequence is not None and guess.sequence in assigned:
            guess = Guess(
                None,
                f"{guess.sequence.display_name} based on {guess.evidence}, but there is another",
                0.0,
            )
        if guess.sequence is not None:
            notices.append(
                f"Nothing identifies the sequence of {item.description or item.files[0].name!r}: "
                f"it was read as {guess.sequence.display_name} based on {guess.evidence}. If that "
                f"is wrong, {naming_advice(guess.sequence)}."
            )
        result.append(
            replace(
                item,
                sequence=guess.sequence,
                detected_by=guess.evidence,
                confidence=guess.confidence,
                evidence_kind=EvidenceKind.IMAGE,
            )
        )
    return result, notices
