"""Identify series without a conclusive name, sidecar or header by their images."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from lesionlens.base.labels import MrSequence, how_to_name
from lesionlens.base.records.study import EvidenceKind, Series
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.reading.sequences import Guess

MAX_IMAGES = 8
"""Maximum number of images analysed per study; each takes about a second."""


def judge_by_image(
    found: Sequence[Series], named: Collection[MrSequence], *, context: RunContext = SILENT
) -> tuple[list[Series], list[str]]:
    """Identify by image contrast the series that nothing else identifies.

    Parameters
    ----------
    found : sequence of Series
        All series of a study that the user did not name.

    Returns
    -------
    series : list of Series
        In the same order; a sequence identified by name or header is not assigned again.
    notices : list of str
        Which series were identified by image contrast.
    """
    known = {*named, *(s.sequence for s in found if s.sequence is not None)}
    out: list[Series] = []
    notices: list[str] = []
    left = MAX_IMAGES
    for series in found:
        silent = series.sequence is None and series.witness is EvidenceKind.NOTHING
        if not silent or not left or len(known) == len(MrSequence):
            out.append(series)
            continue
        context.check("opening the study")
        left -= 1
        from lesionlens.imaging.reading import sequence_from_image  # noqa: PLC0415  slow to import, and seldom asked

        seen = sequence_from_image.judge(series)
        if seen.sequence is not None and seen.sequence in known:
            seen = Guess(
                None, f"{seen.sequence.display_name} by {seen.evidence}; there is another", 0.0
            )
        if seen.sequence is not None:
            notices.append(
                f"Nothing identifies the sequence of {series.description!r}: it was taken for "
                f"{seen.sequence.display_name} by {seen.evidence}. If that is wrong, "
                f"{how_to_name(seen.sequence)}."
            )
        out.append(
            replace(
                series,
                sequence=seen.sequence,
                detected_by=seen.evidence,
                confidence=seen.confidence,
                witness=EvidenceKind.IMAGE,
            )
        )
    return out, notices
