"""`lesionlens pacs find|get|send`: studies from an archive, and results back to it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from lesionlens.base.files import absolute
from lesionlens.base.run_context import RunContext
from lesionlens.base.storage import check_target
from lesionlens.base.text import LINE_BREAKS, counted
from lesionlens.cli import checks, options
from lesionlens.cli.console import STOP, CommandOutput, plain, progress_bar
from lesionlens.cli.option_groups import Group
from lesionlens.site.pacs.connect import connect
from lesionlens.site.pacs.peer import DIMSE, LIMIT, StudyQuery, check_address, name_pattern
from lesionlens.site.pacs.server import OWN_PORT, OWN_TITLE, Retrieval, Server

Address = Annotated[
    str,
    typer.Argument(
        help="https://host/dicom-web, dicom://AETITLE@host:port or, over TLS, dicoms://…",
        metavar="ADDRESS",
    ),
]


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """How an archive is accessed; each field is an option."""

    user: Annotated[
        str | None,
        typer.Option(
            help="User name; the password comes from LESIONLENS_PACS_PASSWORD or the keyring."
        ),
    ] = None
    ca: Annotated[
        Path | None,
        typer.Option(help="Certificates to trust instead of the usual ones (PEM).", metavar="FILE"),
    ] = None
    cert: Annotated[
        Path | None, typer.Option(help="Client certificate with its key (PEM).", metavar="FILE")
    ] = None
    aet: Annotated[str, typer.Option(help="Local AE title (DIMSE).", metavar="TITLE")] = OWN_TITLE

    def choice(self) -> AccessOptions:
        """Return the options, which can access an archive."""
        return self

    @property
    def given(self) -> dict[str, object]:
        """The values of the options by name; None for a default."""
        own_title = None if self.aet == OWN_TITLE else self.aet
        return {"--user": self.user, "--ca": self.ca, "--cert": self.cert, "--aet": own_title}

    def server(self, address: str, port: int = OWN_PORT, by: Retrieval = Retrieval.AUTO) -> Server:
        """Return the settings of an archive, with absolute paths.

        Raises
        ------
        UnusableInputError
            The address is invalid, or options of DIMSE would have no effect, as it is DICOMweb.
        """
        checks.check_used(
            "an address of DIMSE (dicom:// or dicoms://)",
            check_address(address) in DIMSE,
            {
                "--aet": self.aet != OWN_TITLE,
                "--by": by is not Retrieval.AUTO,
                "--port": port != OWN_PORT,
            },
        )
        ca, certificate = ("" if p is None else str(absolute(p)) for p in (self.ca, self.cert))
        return Server(address, self.user or "", ca, certificate, self.aet, port, by.value)


ArchiveAccess = Annotated[AccessOptions, Group(AccessOptions)]
ACCESS = AccessOptions()


def find(
    address: Address,
    patient: Annotated[str, typer.Option(help="Patient ID.")] = "",
    name: Annotated[
        str, typer.Option(help="Patient's name, family name first; parts are enough.")
    ] = "",
    date: Annotated[str, typer.Option(help="YYYYMMDD, or a range YYYYMMDD-YYYYMMDD.")] = "",
    accession: Annotated[str, typer.Option(help="Accession number.")] = "",
    modality: Annotated[str, typer.Option(help="Modality of any series; * for all.")] = "MR",
    access: ArchiveAccess = ACCESS,
    json: options.Json = False,
) -> CommandOutput:
    """List the matching studies of an archive.

    Prints date, Study UID, images, Patient ID, name, accession number and description.
    """
    query = StudyQuery(
        patient_id=patient,
        patient_name=name_pattern(name),
        study_date=date,
        accession=accession,
        modality="" if modality == "*" else modality,
    )
    archive = connect(access.server(address))
    studies = archive.find(query, context=RunContext(cancel=STOP))
    truncated = f"{LIMIT} studies are listed, the limit for one search: narrow it if one is missing"
    notes = (truncated,) if len(studies) == LIMIT else ()
    if json:
        return CommandOutput.of_json([asdict(study) for study in studies], notes)
    rows = [
        f"{s.study_date or '-':8}  {s.study_uid}  "
        f"{counted(s.instances, 'image') if s.instances else '? images'}  "
        f"{s.patient_id or '-'}  {s.patient_name or '-'}  {s.accession or '-'}  {s.description}"
        for s in studies
    ]
    lines = (plain(row.translate(LINE_BREAKS)) for row in rows)
    return CommandOutput((*lines, counted(len(studies), "study", "studies")), notes)


def get(
    address: Address,
    study: Annotated[str, typer.Argument(help="Study UID from `find`.", metavar="UID")],
    out: options.Out,
    same_patient: options.SamePatient = False,
    by: Annotated[
        Retrieval,
        typer.Option(help="DIMSE: C-GET, C-MOVE, or auto (C-MOVE if C-GET is not supported)."),
    ] = Retrieval.AUTO,
    port: Annotated[
        int, typer.Option(help="Port for C-MOVE; it must be configured in the archive.")
    ] = OWN_PORT,
    access: ArchiveAccess = ACCESS,
) -> CommandOutput:
    """Fetch one study into a new folder, completely or not at all."""
    server = access.server(address, port, by)
    if by is Retrieval.GET:
        checks.check_without("--by get", {"--port": None if port == OWN_PORT else port})
    check_target(out)
    archive = connect(server)
    with progress_bar() as context:
        download = archive.get(study, out, same_patient=same_patient, context=context)
    return CommandOutput(
        (f"{counted(download.files, 'file')} in {plain(str(out))}",), download.notices
    )


def send(
    address: Address,
    result: Annotated[
        Path, typer.Argument(help="Result folder, or a folder of DICOM files.", metavar="DIR")
    ],
    access: ArchiveAccess = ACCESS,
    same_patient: options.SamePatient = False,
    only: Annotated[
        str,
        typer.Option(
            help="Kinds of objects to send, separated by commas: seg, sr, pm, ko, sc, pr, "
            "rtstruct, doc, other.",
            metavar="KINDS",
        ),
    ] = "",
    supersede: Annotated[
        bool,
        typer.Option(
            "--supersede",
            help="Reject (IHE IOCM) the unreviewed objects sent earlier for this study.",
        ),
    ] = False,
) -> CommandOutput:
    """Send a result's DICOM objects (its folder `dicom`), or any folder of DICOM files."""
    archive = connect(access.server(address))
    from lesionlens.site.pacs import files as dicom_files
    from lesionlens.site.pacs.send_result import SendOptions, send_result

    kinds = dicom_files.kinds_in(only)
    with progress_bar() as context:
        outcome, notices = send_result(
            archive,
            result,
            address,
            options=SendOptions(kinds, same_patient, supersede),
            context=context,
        )
        outcome.check()
    sent_before = f", {outcome.n_present} of them already there" if outcome.n_present else ""
    return CommandOutput((f"{counted(len(outcome.stored), 'file')} stored{sent_before}",), notices)
