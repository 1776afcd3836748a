"""Notice other readers' reports in an archive that a sent report does not replace."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lesionlens.base.errors import LesionLensError
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.reading.dicom.documents import own_header, predecessors_of
from lesionlens.results.export.dicom.identity import is_reviewed_report_description
from lesionlens.site.pacs.intake import Pacs


def other_reports_notices(
    archive: Pacs, sent: Iterable[Path], context: RunContext
) -> tuple[str, ...]:
    """Return a notice if an archive holds reviewed reports that the sent ones do not replace.

    Two readers may continue one study at the same time; whoever opens it then sees the newest
    report. The archive's series descriptions tell whether a report was reviewed.

    Parameters
    ----------
    sent : iterable of Path
        Files that the archive has now.
    """
    headers = [header for header in map(own_header, sent) if header is not None]
    reports = [header for header in headers if header.Modality == "SR"]
    known = {str(report.SOPInstanceUID) for report in reports}.union(*map(predecessors_of, reports))
    try:
        listed = {
            document.sop_instance_uid
            for study in sorted({str(report.StudyInstanceUID) for report in reports})
            for document in archive.objects_of(
                study, is_reviewed_report_description, context=context
            )
        }
    except LesionLensError:
        return ("Whether the archive holds other reports of this study could not be checked.",)
    count = len(listed - known)
    if not count:
        return ()
    return (
        "The archive holds other reviewed LesionLens reports of this study, which this one does "
        f"not replace ({count}). Whoever opens the study sees the newest report: compare them.",
    )
