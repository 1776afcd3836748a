"""Options shared by several commands."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.base.labels import MapExtent
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.storage import check_target

if TYPE_CHECKING:
    from lesionlens.base.records.analysis import Analysis, Document
    from lesionlens.base.records.study import Study
    from lesionlens.base.run_context import RunContext


class ResultLayout(StrEnum):
    """How the files of a result are named and laid out."""

    OWN = "own"
    BIDS = "bids"


StudyPath = Annotated[
    Path, typer.Argument(help="Folder of NIfTI or DICOM files, or one NIfTI file.", metavar="STUDY")
]
Out = Annotated[Path, typer.Option(help="Folder for the result.", metavar="DIR")]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Weights to use: a file, default, or synthetic (trained on no patient).",
        metavar="FILE|synthetic",
    ),
]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:N, xpu, xpu:N or mps.", metavar="DEVICE")
]
BrainMask = Annotated[
    Path | None,
    typer.Option(
        help="NIfTI mask of the brain, from any tool, in the frame of the reference.", metavar="F"
    ),
]
Layouts = Annotated[
    ResultLayout, typer.Option(help="bids: add the study to DIR, a BIDS derivatives dataset.")
]
SentenceTemplate = Annotated[
    Path | None,
    typer.Option(
        help="Your own Jinja template for the sentence to paste into a report.", metavar="FILE"
    ),
]
Prior = Annotated[
    Path | None,
    typer.Option(
        help="Compare with an earlier examination: its result folder, a folder of results (the "
        "latest earlier one of the same patient is used), or its study.",
        metavar="RESULT_DIR",
    ),
]
Supersedes = Annotated[
    Path | None,
    typer.Option(
        help="Folder (a result, or the study as fetched with its results) whose newest LesionLens "
        "report on this study is named as the predecessor of the new one. A report that was sent "
        "from DIR, or from which the result was reopened, is always named.",
        metavar="DIR",
    ),
]
PriorStudy = Annotated[
    Path | None, typer.Option(help="Study of that result, if it has been moved.", metavar="STUDY")
]
SamePatient = Annotated[
    bool,
    typer.Option(
        "--same-patient",
        help="Confirm that files that differ in patient ID, issuer, name, birth date or sex belong "
        "to one patient; the result records this.",
    ),
]
Convention = Annotated[
    str | None, typer.Option(help="Label convention, as for `evaluate`.", metavar="NAME|FILE")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout and nothing else.")]


def check_layout(out: Path, layout: ResultLayout) -> Path:
    """Refuse an output folder that is not writable, or holds a foreign BIDS dataset.

    Returns
    -------
    Path
        Folder of whole results: the folder itself, or the one within a BIDS dataset.
    """
    check_target(out)
    if layout is ResultLayout.OWN:
        from lesionlens.results.export.result_files import check_folder

        check_folder(out)
        return out
    from lesionlens.imaging.reading.bids import RESULTS
    from lesionlens.results.export.bids import check_dataset

    check_dataset(out)
    return out / RESULTS


def with_export_options(reopened: Analysis, export_options: ExportOptions) -> Analysis:
    """Return a reopened result with export options; evidence that it holds is kept."""
    return replace(reopened, options=replace(export_options, evidence=reopened.options.evidence))


def dicom_options(chosen: ExportOptions) -> str:
    """Return the given options that affect DICOM objects alone, in words; empty if none is."""
    given = {
        "--maps": chosen.maps is not MapExtent.CUT,
        "--rest": chosen.include_unaccepted,
    }
    return " and ".join(name for name, is_given in given.items() if is_given)


def notes_without_dicom(analysis: Analysis) -> tuple[str, ...]:
    """Return a note if options for DICOM objects were given for a study that has none."""
    from lesionlens.base.records.study import StudyKind

    names = dicom_options(analysis.options)
    if not names or analysis.study.kind is StudyKind.DICOM:
        return ()
    return (f"{names} had no effect: the study is not DICOM, so that no DICOM objects are written",)


def superseded(path: Path | None, study: Study) -> tuple[Document, ...]:
    """Return the predecessor of the new report; empty if none was named.

    Raises
    ------
    UnusableInputError
        The folder contains no report on this study.
    """
    from lesionlens.results.documents import newest_document

    return () if path is None else (newest_document(path, study.uid),)


def save(
    analysis: Analysis, out: Path, layout: ResultLayout, context: RunContext
) -> tuple[Path, Analysis, tuple[str, ...]]:
    """Write a result in a layout, and remember where its study is, for a later comparison.

    Returns
    -------
    Path, Analysis, tuple of str
        The folder of the whole result, what was written there (with the review that was continued
        in it), and all warnings.
    """
    from lesionlens.analysis.followup import study_locations

    if layout is ResultLayout.OWN:
        from lesionlens.results.export.exporter import save as save_own

        folder = out
        saved, notes = save_own(analysis, out, context=context)
    else:
        from lesionlens.imaging.reading.bids import RESULTS
        from lesionlens.results.export.bids import save_bids
        from lesionlens.results.review.earlier import check_result_name

        folder = out / RESULTS / analysis.study.name
        check_result_name(analysis.run.inputs, folder)
        saved, notes = save_bids(analysis, out, context=context)
    study_locations.remember(saved.run.inputs, saved.study)
    return folder, saved, notes
