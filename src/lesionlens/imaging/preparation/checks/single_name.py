"""Check whether the only image of a study contradicts its sequence name."""

from __future__ import annotations

from lesionlens.base.geometry import Floats
from lesionlens.base.records.study import EvidenceKind, QualityCheck, Series, failed_check
from lesionlens.imaging.preparation.checks.tissue_contrast import (
    CONTRADICTED,
    measure_contrast,
    probabilities,
)


def check(series: Series, values: Floats) -> QualityCheck | None:
    """Check the name of the only image of a study; None if its contrast does not contradict it.

    T2 is distinguished reliably from the others; T1, T1c and FLAIR seldom from each other
    (`research/RESULTS.md`). Several images are checked together by `swapped_names.check`.

    Parameters
    ----------
    values : (I, J, K) float32
        Its voxels in standard units, on the grid of the series.
    """
    if series.evidence_kind is EvidenceKind.IMAGE:
        return None
    contrast = measure_contrast(values, series.grid)
    if contrast is None or series.sequence is None:
        return None
    probability_of = probabilities(contrast)
    if probability_of is None or probability_of[series.sequence] >= CONTRADICTED:
        return None
    likeliest = max(probability_of, key=probability_of.__getitem__).display_name
    name = series.sequence.display_name
    return failed_check(
        "names",
        f"The image called {name} looks like another sequence, most likely {likeliest}. Check "
        "which it is before you trust any result.",
    )
