"""Save a whole result: all exporters write into one staged folder, which is swapped in atomically.

Handling of an earlier result in the same folder
----------------------------------------------------
The files that its run.json lists are replaced or removed, so that two results never mix. Others'
files stay; if one has a name of the new result, or if a listed file was edited since, nothing is
written. A reader's work is never lost: if `review.json` has events that the new review does not
continue, it is moved to `earlier_reviews/<time>/` together with its findings and labels.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from lesionlens.analysis.findings.edits import applied, without_edits
from lesionlens.base import plugins
from lesionlens.base.errors import PluginError
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.files import ORIGINAL, left_out_warning
from lesionlens.base.records.findings import Findings
from lesionlens.base.run_context import SILENT, RunContext, StageTime, peak_memory_mib
from lesionlens.base.storage import replaced_folder
from lesionlens.results.documents import documents_followed
from lesionlens.results.export.earlier_review import EarlierReview
from lesionlens.results.export.followup import write_followup_json
from lesionlens.results.export.nifti import codes_of, outlines_by_name, write_volume
from lesionlens.results.export.plugged_in import write_third_party
from lesionlens.results.export.result_files import NAMES, write_list
from lesionlens.results.export.run import ExportRecord, all_warnings, export_stage, write_run
from lesionlens.results.export.tables import findings_file
from lesionlens.results.export.written import Written, reason_of
from lesionlens.results.review.earlier import with_earlier_review

logger = logging.getLogger(__name__)

ESSENTIAL = frozenset({"nifti", "report", "review", "tables"})
"""Exporters whose failure makes the whole export fail."""


class Exporter(Protocol):
    """Writes one type of file of a result (entry-point group `lesionlens.exporters`)."""

    name: str

    def missing(self, analysis: Analysis) -> str | None:
        """Return why this exporter cannot run, for the user; None if it can."""

    def write(self, analysis: Analysis, staged: Path) -> tuple[Path, ...] | Written:
        """Write into the staged folder; return the files, or `Written` with more information."""


def exporters() -> tuple[dict[str, Exporter], dict[str, PluginError]]:
    """Return every installed exporter by name, and the errors of third-party ones."""
    return plugins.create_all(plugins.EXPORTERS)


def save(
    analysis: Analysis,
    out: Path,
    *,
    context: RunContext = SILENT,
) -> tuple[Analysis, tuple[str, ...]]:
    """Write all files of a result into a folder: together or not at all.

    Only `ESSENTIAL` exporters are required; if another one fails, `run.json` lists it under
    `left_out`, with a warning.

    Parameters
    ----------
    analysis : Analysis
        The analysis; readers' edited outlines replace the network's, which are kept in
        `review_edits/original`.
    out : Path
        The folder; created if missing. See the module docstring for an earlier result.

    Returns
    -------
    Analysis, tuple of str
        What was written, with the review that was continued, and all warnings, including those of
        the export; also in run.json.

    Raises
    ------
    UnusableInputError
        The folder is not writable, or contains a foreign file with a name of the result.
    ResourceError
        The disk is full.
    ExportError
        An essential file cannot be written.
    CancelledError
        Saving was cancelled. In every case the folder is unchanged.
    """
    out = Path(out)
    with replaced_folder(out, reserved=NAMES) as staging:
        analysis = applied(with_earlier_review(analysis, out))
        notices = write_result(analysis, EarlierReview(out), staging, context)
        write_list(staging)
        return analysis, notices


def write_result(
    analysis: Analysis, earlier: EarlierReview, staging: Path, context: RunContext
) -> tuple[str, ...]:
    """Write all files of a result into a staged folder that will replace another.

    Parameters
    ----------
    analysis : Analysis
        From `findings.edits.applied`.
    earlier : EarlierReview
        The review in the output folder, which is kept.
    """
    documents = tuple(dict.fromkeys((*analysis.run.documents, *documents_followed(earlier.folder))))
    analysis = replace(analysis, run=replace(analysis.run, documents=documents))
    analysis = _with_current_notices(analysis, earlier)
    record = _run_exporters(analysis, staging, context)
    write_original(analysis, staging)
    kept_notices = earlier.keep(staging, analysis.review)
    record = replace(record, notices=(*record.notices, *kept_notices))
    write_run(analysis, staging, record)
    return all_warnings(analysis, record)


def _with_current_notices(analysis: Analysis, earlier: EarlierReview) -> Analysis:
    """Return a copy without notices on reviews that the folder of an earlier result keeps."""

    def current(findings: Findings) -> Findings:
        return replace(findings, notices=earlier.current(findings.notices))

    run = replace(analysis.run, notices=earlier.current(analysis.run.notices))
    return replace(analysis.with_findings(current), run=run)


def _run_exporters(analysis: Analysis, staging: Path, context: RunContext) -> ExportRecord:
    times: list[StageTime] = []
    left_out: dict[str, str] = {}
    notices: list[str] = []
    all_exporters, errors = exporters()
    for name, error in errors.items():
        left_out[name] = error.brief
        notices.append(left_out_warning(name, error.brief))
    builtin_first = sorted(all_exporters.items(), key=lambda item: not plugins.is_builtin(item[1]))
    for index, (name, exporter) in enumerate(builtin_first):
        stage = export_stage(name)
        context.check("saving")
        context.progress("saving", index / len(all_exporters))
        start = time.perf_counter()
        if plugins.is_builtin(exporter):
            outcome = exporter.missing(analysis) or _write_builtin(exporter, analysis, staging)
        else:
            outcome = write_third_party(exporter, name, analysis, staging)
        if isinstance(outcome, str):
            logger.info("%s was left out: %s", stage, outcome)
            left_out[name] = outcome
            continue
        left_out.update(outcome.left_out)
        notices += (
            *outcome.notices,
            *(left_out_warning(*item) for item in outcome.left_out.items()),
        )
        times.append(StageTime(stage, time.perf_counter() - start, peak_memory_mib()))
    context.check("saving")
    context.progress("saving", 1.0)
    return ExportRecord(tuple(times), left_out, tuple(dict.fromkeys(notices)))


def _write_builtin(exporter: Exporter, analysis: Analysis, staging: Path) -> Written:
    """Run an exporter; partial output is deleted on failure."""
    before = set(staging.rglob("*"))
    try:
        output = exporter.write(analysis, staging)
    except Exception as error:
        if exporter.name in ESSENTIAL:
            raise
        logger.debug("%s failed", exporter.name, exc_info=True)
        reason = reason_of(error)
        for path in sorted(set(staging.rglob("*")) - before, reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        return Written((), left_out={exporter.name: reason})
    return output if isinstance(output, Written) else Written(tuple(output))


def write_original(analysis: Analysis, staged: Path) -> None:
    """Write the network's findings.json, segmentation, candidates; the comparison.

    Parameters
    ----------
    analysis : Analysis
        From `findings.edits.applied`; nothing is written if no outline was edited.
    """
    if analysis.original is None:
        return
    original, folder = without_edits(analysis), staged / ORIGINAL
    folder.mkdir(parents=True, exist_ok=True)
    text = findings_file(original).file_text()
    (folder / "findings.json").write_text(text, encoding="utf-8")
    if analysis.followup is not None:
        write_followup_json(analysis.followup, folder)
    for name, volume in outlines_by_name(original).items():
        write_volume(folder / f"{name}.nii.gz", volume, codes=codes_of(analysis))
