"""`lesionlens analyze`: one study in, one complete result folder out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import RESEARCH_USE_NOTICE, MrSequence, Region
from lesionlens.base.staging import check_target
from lesionlens.cli.console import DEBUG, DEVICE, JSON, STOP, Answer, plain, progress_bar

if TYPE_CHECKING:
    from rich.table import Table

    from lesionlens.records.findings import Candidate, Findings

_SOURCE = "NIfTI file, DICOM folder or Series UID within STUDY to take as"


def analyze(
    study: Annotated[
        Path,
        typer.Argument(help="Folder of NIfTI or DICOM files, or one NIfTI file.", metavar="STUDY"),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the result.", metavar="DIR")],
    t1: Annotated[str | None, typer.Option("--t1", help=f"{_SOURCE} T1.", metavar="F")] = None,
    t1c: Annotated[
        str | None, typer.Option("--t1c", help=f"{_SOURCE} T1 after contrast.", metavar="F")
    ] = None,
    t2: Annotated[str | None, typer.Option("--t2", help=f"{_SOURCE} T2.", metavar="F")] = None,
    flair: Annotated[
        str | None, typer.Option("--flair", help=f"{_SOURCE} FLAIR.", metavar="F")
    ] = None,
    study_uid: Annotated[
        str | None,
        typer.Option("--study", help="Which study, where a folder holds several.", metavar="UID"),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", help="MONAI bundle to use instead of our network.", metavar="DIR"),
    ] = None,
    device: Annotated[str, DEVICE] = "auto",
    json: Annotated[bool, JSON] = False,
    debug: Annotated[bool, DEBUG] = False,
) -> Answer:
    """Find candidate tumour regions in one brain MRI and write the result folder.

    Any of the four sequences T1, T1c, T2 and FLAIR will do; which is which is read from names and
    headers unless you say so. The result appears whole or not at all.
    """
    del debug
    _check_place(study, out)
    given = {
        MrSequence.T1: t1,
        MrSequence.T1C: t1c,
        MrSequence.T2: t2,
        MrSequence.FLAIR: flair,
    }
    named = {sequence: source for sequence, source in given.items() if source is not None}
    with progress_bar() as progress:
        progress("opening the study", 0.0)
        from lesionlens.study.readers import open_study

        opened = open_study(
            study, named=named or None, study_uid=study_uid, progress=progress, cancel=STOP
        )
        progress("loading the network", 0.0)
        from lesionlens.export.run import warnings_of
        from lesionlens.lens import Lens

        lens = Lens(device, bundle=bundle) if bundle else Lens(device)
        result = lens(opened, progress=progress, cancel=STOP)
        progress("writing the result", 0.0)
        result.save(out)
    notes = warnings_of(result.analysis)
    if json:
        return Answer(((out / "findings.json").read_text(encoding="utf-8").rstrip("\n"),), notes)
    return Answer(_summary(result.analysis.findings, out), notes)


def _check_place(study: Path, out: Path) -> None:
    """Refuse an output folder that cannot be, or that would write into the study."""
    check_target(out)
    inside = study.is_dir() and study.resolve() in (out.resolve(), *out.resolve().parents)
    if inside:
        raise UnusableInputError(
            found="an output folder within the study",
            expected="a folder outside it: a study is never written to",
            next_step="Choose another folder with --out",
        )


def _summary(findings: Findings, out: Path) -> tuple[str | Table, ...]:
    """Return what a person reads: candidates, where the files are, the notice."""
    parts: list[str | Table] = [findings.conclusion[0].upper() + findings.conclusion[1:]]
    if findings.candidates:
        parts.append(_table(findings.candidates))
    parts.append(f"Result: {plain(str(out))}  (report.html opens in any browser)")
    parts.append(RESEARCH_USE_NOTICE)
    return tuple(parts)


def _table(candidates: tuple[Candidate, ...]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "where", "size (mm)", "volume (ml)", "enhancing (ml)", "score"):
        table.add_column(heading, justify="left" if heading == "where" else "right")
    for candidate in candidates:
        table.add_row(
            str(candidate.id),
            candidate.location.words,
            _size(candidate),
            *(_number(candidate.volume_ml.get(region)) for region in (Region.WT, Region.ET)),
            f"{candidate.score:.2f}",
        )
    return table


def _size(candidate: Candidate) -> str:
    long, short = candidate.longest_axial_diameter_mm, candidate.perpendicular_diameter_mm
    if long is None:
        return "unknown"
    return f"{long:.0f}" if short is None else f"{long:.0f} × {short:.0f}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}"
