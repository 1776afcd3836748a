"""Series of which no name, sidecar or header tells the sequence: their images are asked, last."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from lesionlens.base.labels import MrSequence, how_to_name
from lesionlens.base.stages import NEVER, Cancel, check
from lesionlens.reading.sequences import Guess
from lesionlens.records.study import Series, Witness

MOST_IMAGES = 8
"""Images of a study that are looked at; each takes about a second."""


def judge_by_image(
    found: Sequence[Series], named: Collection[MrSequence], *, cancel: Cancel = NEVER
) -> tuple[list[Series], list[str]]:
    """Judge by their images the series of which nothing else tells what they are.

    Parameters
    ----------
    found : sequence of Series
        All of a study that the user did not name.
    named : collection of MrSequence
        What the user named.
    cancel : Cancel
        Asked between series.

    Returns
    -------
    series : list of Series
        In the same order; a sequence that is told by a name or header is never given again.
    notices : list of str
        What was recognised by its image alone.
    """
    told = {*named, *(s.sequence for s in found if s.sequence is not None)}
    out: list[Series] = []
    notices: list[str] = []
    left = MOST_IMAGES
    for series in found:
        silent = series.sequence is None and series.witness is Witness.NOTHING
        if not silent or not left or len(told) == len(MrSequence):
            out.append(series)
            continue
        check(cancel, "opening the study")
        left -= 1
        from lesionlens.reading import sequence_from_image  # noqa: PLC0415  slow to import, and seldom asked

        seen = sequence_from_image.judge(series)
        if seen.sequence is not None and seen.sequence in told:
            seen = Guess(None, f"{seen.sequence.words} by {seen.evidence}; there is another", 0.0)
        if seen.sequence is not None:
            notices.append(
                f"Nothing tells which sequence {series.description!r} is: it was taken for "
                f"{seen.sequence.words} by {seen.evidence}. If that is wrong, "
                f"{how_to_name(seen.sequence)}."
            )
        out.append(
            replace(
                series,
                sequence=seen.sequence,
                detected_by=seen.evidence,
                confidence=seen.confidence,
                witness=Witness.IMAGE,
            )
        )
    return out, notices
