"""`lesionlens pacs find|get|send`: studies from an archive, and results back to it."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.base.errors import MissingPluginError, UnusableInputError
from lesionlens.base.staging import check_target
from lesionlens.cli import options
from lesionlens.cli.console import STOP, Answer, plain, progress_bar

if TYPE_CHECKING:
    from lesionlens.pacs.peer import Pacs

Address = Annotated[
    str,
    typer.Argument(help="https://host/dicom-web, or dicom://AETITLE@host:port.", metavar="ADDRESS"),
]
User = Annotated[
    str | None,
    typer.Option(
        "--user",
        help="User name; the password comes from LESIONLENS_PACS_PASSWORD or the keyring.",
    ),
]
Certificates = Annotated[
    Path | None,
    typer.Option("--ca", help="Certificates to trust, as a PEM file.", metavar="FILE"),
]


def _connect(address: str, user: str | None, ca: Path | None) -> Pacs:
    try:
        from lesionlens.pacs.peer import connect

        return connect(address, user=user, ca_bundle=ca)
    except ImportError as error:
        raise MissingPluginError(
            found=f"no package {error.name!r}, which talks to archives",
            expected="the extra lesionlens[pacs]",
            next_step='Install it with: pip install "lesionlens[pacs]"',
        ) from error


def find(
    address: Address,
    patient: Annotated[str, typer.Option("--patient", help="Patient ID.")] = "",
    date: Annotated[
        str, typer.Option("--date", help="YYYYMMDD, or a range YYYYMMDD-YYYYMMDD.")
    ] = "",
    accession: Annotated[str, typer.Option("--accession", help="Accession number.")] = "",
    user: User = None,
    ca: Certificates = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """List the MR studies of an archive that match."""
    del debug
    archive = _connect(address, user, ca)
    from lesionlens.pacs.peer import Query

    found = archive.find(Query(patient_id=patient, study_date=date, accession=accession))
    if json:
        return Answer((jsonlib.dumps([asdict(study) for study in found], indent=1),))
    rows = [
        f"{s.study_date or '-':8}  {s.study_uid}  {s.instances or '?'} images  {s.description}"
        for s in found
    ]
    return Answer((*(plain(row) for row in rows), f"{len(found)} studies"))


def get(
    address: Address,
    study: Annotated[str, typer.Argument(help="Study UID from `find`.", metavar="UID")],
    out: options.Out,
    user: User = None,
    ca: Certificates = None,
    debug: options.Debug = False,
) -> Answer:
    """Fetch one study into a new folder, whole or not at all."""
    del debug
    check_target(out)
    archive = _connect(address, user, ca)
    with progress_bar() as progress:
        count = archive.get(study, out, progress=progress, cancel=STOP)
    return Answer((f"{count} images in {plain(str(out))}",))


def send(
    address: Address,
    result: Annotated[
        Path, typer.Argument(help="Result folder, or a folder of DICOM files.", metavar="DIR")
    ],
    user: User = None,
    ca: Certificates = None,
    debug: options.Debug = False,
) -> Answer:
    """Send a result's DICOM objects (its folder `dicom`), or any folder of DICOM files."""
    del debug
    folder = result / "dicom" if (result / "dicom").is_dir() else result
    from lesionlens.study.dicom_scan import looks_like_dicom, walk

    files = [path for path in walk(folder) if looks_like_dicom(path)] if folder.is_dir() else []
    if not files:
        raise UnusableInputError(
            found=f"no DICOM file in {folder.name!r}",
            expected="a result of a DICOM study (with a folder `dicom`), or DICOM files",
            next_step="Analyse a DICOM study first: NIfTI input gives no DICOM objects",
        )
    archive = _connect(address, user, ca)
    with progress_bar() as progress:
        taken = archive.send(files, progress=progress, cancel=STOP)
    return Answer((f"{taken} files stored",))
