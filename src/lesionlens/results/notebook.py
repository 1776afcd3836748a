"""A result as a data frame and as notebook HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lesionlens.base import notebook
from lesionlens.base.labels import RESEARCH_USE_NOTICE, Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.files import CandidateRow
from lesionlens.results.export.tables import column_types, flat_row
from lesionlens.results.review.saved_result import SavedResult

if TYPE_CHECKING:
    import pandas as pd

_MAX_PICTURES = 8


def to_dataframe(result: Analysis | SavedResult) -> pd.DataFrame:
    """Return one row per candidate, with the columns of findings.csv."""
    rows = (CandidateRow.of(c, result.review) for c in result.findings.candidates)
    return notebook.data_frame([flat_row(row) for row in rows], list(column_types()))


def to_html(result: Analysis | SavedResult) -> str:
    """Return the conclusion and an image of each candidate, outlined on its largest slice."""
    facts = {"conclusion": result.findings.conclusion, "network": result.run.engine.name}
    facts |= {"notice": RESEARCH_USE_NOTICE}
    image, name = _background(result)
    labels, ids = result.volumes.labels, result.findings.components
    pictures = []
    for candidate in result.findings.candidates[:_MAX_PICTURES]:
        pixels, ratio = notebook.axial_picture(image, labels.grid, ids == candidate.id)
        caption = f"{candidate.id}. {candidate.location.text}, {candidate.score_phrase} ({name})"
        pictures.append((caption, pixels, ratio))
    return notebook.table(facts) + notebook.pictures(pictures)


def _background(result: Analysis | SavedResult) -> tuple[Any, str]:
    """Return the background image on the native grid: the reference, if available.

    Without the study it is the probability, of which an imported segmentation has none.
    """
    if isinstance(result, Analysis):
        reference = result.prepared.reference
        return result.study[reference].load(), reference.display_name
    probability = result.volumes.probability.get(Region.WT)
    if probability is None:
        return result.volumes.labels.data, "labels"
    return probability.data, "probability of the whole tumour"
