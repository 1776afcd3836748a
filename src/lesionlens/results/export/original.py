"""The network's own outlines, stored with a result in which readers edited some."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lesionlens.analysis.findings.edits import unedited
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import Volume
from lesionlens.results.export.nifti import codes_of, write_volume
from lesionlens.results.export.tables import findings_file

PLACE = Path("review_edits") / "original"
"""Path below the result folder; `review.reopen` reads it."""


def write_original(analysis: Analysis, staged: Path) -> None:
    """Write the network's findings.json, segmentation and candidates.

    Parameters
    ----------
    analysis : Analysis
        From `findings.edits.applied`; nothing is written if no outline was edited.
    """
    if analysis.original is None:
        return
    own, place, codes = unedited(analysis), staged / PLACE, codes_of(analysis)
    place.mkdir(parents=True, exist_ok=True)
    text = findings_file(own).model_dump_json(by_alias=True, indent=1)
    (place / "findings.json").write_text(text + "\n", encoding="utf-8")
    ids = Volume(own.findings.components.astype(np.uint16), own.volumes.labels.grid)
    write_volume(place / "segmentation.nii.gz", own.volumes.all_labels, codes=codes)
    write_volume(place / "candidates.nii.gz", ids, codes=codes)
