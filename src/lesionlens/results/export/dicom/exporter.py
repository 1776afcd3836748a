"""DICOM objects of a result: Segmentation, SR, Parametric Map and Key Object Selection.

Rejected candidates are omitted (NIfTI, JSON and the report contain them with their state). Without
a candidate there is no Segmentation, which would be invalid without segments, and the SR says so.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.study import StudyKind
from lesionlens.results.export.written import Written

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
"""Classic MR Image Storage: one slice per instance."""

NOT_DICOM = "the study is not DICOM: there are no source images to refer to"


class DicomExporter:
    """Writes seg.dcm, sr.dcm, attention*.dcm and key_objects.dcm into `dicom`, for DICOM input."""

    name = "dicom"

    def missing(self, analysis: Analysis) -> str | None:
        """Return why no object can be written: there are no source instances to refer to."""
        if analysis.study.kind is not StudyKind.DICOM:
            return NOT_DICOM
        if not analysis.prepared.native.frame_uid:
            return "the reference series names no Frame of Reference"
        series = analysis.study.series[analysis.prepared.reference]
        single = len({file.path for file in series.files}) == 1
        if single and min(series.grid.shape) > 1 and series.files[0].sop_class_uid == MR_IMAGE:
            return "one image holds all slices (a mosaic), and its parts cannot be referenced"
        return None

    def write(self, analysis: Analysis, staged: Path) -> Written:
        """Write the objects; see `objects.write_all`."""
        from lesionlens.results.export.dicom import objects

        # source names and values are copied unchanged, including unusual ones
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "", UserWarning, r"(pydicom|highdicom)\.")
            return objects.write_all(analysis, staged / "dicom")
