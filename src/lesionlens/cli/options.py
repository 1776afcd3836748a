"""Options that several commands share, and the study that they name."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.base.labels import Extra, Identity, MapExtent
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.staging import check_target

if TYPE_CHECKING:
    from lesionlens.base.records.analysis import Analysis, Document
    from lesionlens.base.records.study import Study
    from lesionlens.base.run_context import RunContext
    from lesionlens.imaging.preparation.prepare import PrepareOptions


class Stripping(StrEnum):
    """How the brain is found; the methods of `preparation.skull_stripping`, loaded when used."""

    AUTO = "auto"
    OWN = "own"
    HD_BET = "hd-bet"
    SYNTHSTRIP = "synthstrip"


class ResultLayout(StrEnum):
    """How the files of a result are named and laid out."""

    OWN = "own"
    BIDS = "bids"


_SOURCE = "NIfTI file, DICOM folder or Series UID within STUDY to take as"

StudyPath = Annotated[
    Path,
    typer.Argument(help="Folder of NIfTI or DICOM files, or one NIfTI file.", metavar="STUDY"),
]
Out = Annotated[Path, typer.Option("--out", help="Folder for the result.", metavar="DIR")]
T1 = Annotated[str | None, typer.Option("--t1", help=f"{_SOURCE} T1.", metavar="F")]
T1c = Annotated[
    str | None, typer.Option("--t1c", help=f"{_SOURCE} T1 after contrast.", metavar="F")
]
T2 = Annotated[str | None, typer.Option("--t2", help=f"{_SOURCE} T2.", metavar="F")]
Flair = Annotated[str | None, typer.Option("--flair", help=f"{_SOURCE} FLAIR.", metavar="F")]
StudyUid = Annotated[
    str | None,
    typer.Option("--study", help="Which study, where a folder holds several.", metavar="UID"),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="Weights file in place of those in use; or default or synthetic, those in the "
        "package, the latter trained on no patient; or an accepted version such as v1.",
        metavar="FILE|synthetic",
    ),
]
Device = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, cuda:N, xpu or mps.", metavar="DEVICE")
]
BrainExtraction = Annotated[
    Stripping,
    typer.Option(
        "--brain-extraction",
        help="What takes the skull off; auto is the own method, and an installed program where "
        "its mask is doubtful.",
    ),
]
BiasCorrection = Annotated[
    bool, typer.Option("--bias-correction", help="Take the coils' shading out first (N4); slower.")
]
Layouts = Annotated[
    ResultLayout,
    typer.Option(
        "--layout",
        help="bids: DIR is a BIDS dataset of derivatives, to which the study is added.",
    ),
]
Language = Annotated[
    str,
    typer.Option(
        "--language", help="Of the report: en, de, or a TOML file of your own.", metavar="LANGUAGE"
    ),
]
SentenceTemplate = Annotated[
    Path | None,
    typer.Option(
        "--sentence-template",
        help="A Jinja file of your own for the sentence that is pasted into a report.",
        metavar="FILE",
    ),
]
Hide = Annotated[
    list[Identity] | None,
    typer.Option(
        "--hide",
        help="Leave patient, date or series out of the report; may be given several times.",
    ),
]
Surfaces = Annotated[
    bool,
    typer.Option("--surfaces", help="Write the candidates' surfaces too (glTF, STL): extra mesh."),
]
Maps = Annotated[
    MapExtent,
    typer.Option("--maps", help="DICOM attention maps: cut to what is visible, or full for OHIF."),
]
Also = Annotated[
    list[Extra] | None,
    typer.Option(
        "--also",
        help="Write contours (RTSTRUCT) or key-slices (pictures) into dicom too; may be given "
        "several times.",
    ),
]
Evidence = Annotated[
    bool,
    typer.Option(
        "--evidence",
        help="Write what each sequence adds at every voxel too (evidence_*.nii.gz), and what was "
        "considered and dismissed (considered.json).",
    ),
]
Prior = Annotated[
    Path | None,
    typer.Option(
        "--prior",
        help="Compare with an earlier examination: its result folder, a folder of results (the "
        "latest earlier one of the same patient is taken), or its study.",
        metavar="RESULT_DIR",
    ),
]
Supersedes = Annotated[
    Path | None,
    typer.Option(
        "--supersedes",
        help="Name the newest report of ours on this study as the one that the new report comes "
        "after: a result folder, or the study as fetched with its results. One that was sent from "
        "DIR, or fetched with the study, is named anyway.",
        metavar="DIR",
    ),
]
PriorStudy = Annotated[
    Path | None,
    typer.Option(
        "--prior-study",
        help="Where the study of that result lies, if no longer where it was analysed.",
        metavar="STUDY",
    ),
]
SamePatient = Annotated[
    bool,
    typer.Option(
        "--same-patient",
        help="Confirm that files whose patient ID, issuer, name, birth date or sex differ are of "
        "one patient; the result says so.",
    ),
]
Rest = Annotated[
    bool,
    typer.Option("--rest", help="DICOM objects hold also what a reader did not accept."),
]
Convention = Annotated[
    str | None,
    typer.Option(
        "--convention", help="What the labels mean, as for `evaluate`.", metavar="NAME|FILE"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout, and nothing else there.")]


def preparation(stripping: Stripping, bias: bool) -> PrepareOptions:
    """Return how to prepare a study; a program that is named must be installed.

    Raises
    ------
    MissingPluginError
        That program is not installed.
    """
    from lesionlens.imaging.preparation import skull_stripping
    from lesionlens.imaging.preparation.prepare import PrepareOptions

    if stripping is not Stripping.AUTO:
        skull_stripping.identity(stripping.value)
    return PrepareOptions(stripper=stripping.value, bias=bias)


def check_layout(out: Path, layout: ResultLayout) -> Path:
    """Refuse an output folder that cannot be written, or holds a BIDS dataset of others.

    Returns
    -------
    Path
        Where whole results go: the folder itself, or its place within a BIDS dataset.
    """
    check_target(out)
    if layout is ResultLayout.OWN:
        from lesionlens.results.export.listed import check_folder

        check_folder(out)
        return out
    from lesionlens.imaging.reading.bids import RESULTS
    from lesionlens.results.export.bids import check_dataset

    check_dataset(out)
    return out / RESULTS


def read_sentence(path: Path | None) -> str:
    """Read a site's sentence template; empty where none is named."""
    from lesionlens.results.export.sentence import read_template

    return "" if path is None else read_template(path)


def with_export_options(reopened: Analysis, wanted: ExportOptions) -> Analysis:
    """Return a reopened result with what is asked of its files; evidence that it holds stays."""
    return replace(reopened, options=replace(wanted, evidence=reopened.options.evidence))


def superseded(place: Path | None, study: Study) -> tuple[Document, ...]:
    """Return the report that the new one comes after; empty where none was named.

    Raises
    ------
    UnusableInputError
        There is none of this study in that place.
    """
    from lesionlens.imaging.reading.dicom.documents import newest_document

    return () if place is None else (newest_document(place, study.uid),)


def save(
    analysis: Analysis, out: Path, layout: ResultLayout, context: RunContext
) -> tuple[Path, tuple[str, ...]]:
    """Write a result in a layout; return the folder of the whole result, and all warnings."""
    from lesionlens.results.export import exporter

    if layout is ResultLayout.OWN:
        return out, exporter.save(analysis, out, context=context)
    from lesionlens.imaging.reading.bids import RESULTS
    from lesionlens.results.export.bids import save_bids

    notices = save_bids(analysis, out, context=context)
    return out / RESULTS / analysis.study.name, notices
