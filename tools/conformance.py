"""Write the DICOM conformance statement from the code: objects read, sent, received and written.

    python -m tools.conformance    # writes its pages; a test compares

The attributes are those of objects written for a synthetic head.
"""

import argparse
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)
from tests.phantoms.acquire import AXIAL_SLICES
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base import codes
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import StudyKind
from lesionlens.imaging.reading.dicom.files import MR_IMAGES
from lesionlens.results.export.dicom import copied_attributes, identity
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.results.review.sent_objects import MAP, REPORTS, SEGMENTATIONS
from lesionlens.site.pacs import association
from lesionlens.site.pacs.retrieve import SYNTAXES
from lesionlens.site.pacs.server import Server
from lesionlens.testing import make_patient

PAGES = Path(__file__).parents[1] / "docs" / "reference"
WRITTEN = {
    "seg": "Segmentation",
    "sr": "Comprehensive 3D SR",
    "attention": "Parametric Map",
    "key_objects": "Key Object Selection",
}
NAMES = {"1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage"}
"""Names of UIDs that pydicom's dictionary lacks."""
REVIEWED = (
    codes.Code("121006", "DCM", "Person"),
    codes.Code("121008", "DCM", "Person Observer Name"),
    codes.Code("C2348792", "UMLS", "Time Point"),
)
"""Terms that highdicom adds to the report of a reviewed examination with a prior."""
HEAD = """# DICOM Conformance Statement

LesionLens is research software. The order is that of DICOM PS3.2; sections that do not apply are
omitted. Made from the code by `python -m tools.conformance`; a test compares the two.

## 1 Overview
LesionLens reads MR images of the head from files or an archive, and writes Segmentation,
Comprehensive 3D SR, Parametric Map and Key Object Selection, which it sends at a user's request.
Nothing is sent or fetched automatically. Sections 4 and 5, the content of each object, are pages of
their own: [attributes](conformance_attributes.md) and [coded terms](conformance_terms.md).
"""
SECOND_HEAD = """# DICOM conformance: attributes

Section 4 of the [conformance statement](conformance.md), made from the same code.
"""
THIRD_HEAD = """# DICOM conformance: coded terms

Section 5 of the [conformance statement](conformance.md), made from the same code.
"""


def rows(heading: Sequence[str], found: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in found])


def names_and_uids(uids: Iterable[str]) -> list[tuple[str, str]]:
    """Return (name, UID) of UIDs, by UID."""
    return [(NAMES.get(uid, UID(uid).name), f"`{uid}`") for uid in sorted(uids)]


def objects() -> dict[str, Dataset]:
    """Return the objects written for a synthetic head, by file name."""
    with tempfile.TemporaryDirectory() as folder:
        patient, root = make_patient(spacing_mm=8.0), Path(folder)
        study = write_study(
            patient,
            root / "in",
            kind=StudyKind.DICOM,
            sequences=(MrSequence.T1C,),
            how=AXIAL_SLICES,
        )
        analysis = make_analysis(patient, study)
        done = DicomExporter().write(analysis, root)
        return {p.stem: pydicom.dcmread(p) for p in done.files if p.stem in WRITTEN}


def overview(written_objects: Mapping[str, Dataset]) -> str:
    """Return section 1.1: objects that are read and written."""
    written = [
        (WRITTEN[name], f"`{written_objects[name].SOPClassUID}`", "yes", "SCU", "yes (STOW-RS)")
        for name in WRITTEN
    ]
    read = [
        (name, uid, "read", "SCU (C-GET), SCP (C-MOVE)", "yes (WADO-RS)")
        for name, uid in names_and_uids(MR_IMAGES)
    ]
    reopened = [
        (name, uid, "reopened", "as above", "as above")
        for name, uid in names_and_uids((*SEGMENTATIONS, *REPORTS, MAP))
    ]
    heading = ("SOP class", "UID", "created", "C-STORE", "DICOMweb")
    return "### 1.1 Content and transfer\n" + rows(heading, [*written, *read, *reopened])


def services() -> str:
    """Return section 2: DIMSE and DICOMweb services."""
    used = [
        (Verification, "SCU, SCP while C-MOVE runs"),
        (StudyRootQueryRetrieveInformationModelFind, "SCU"),
        (StudyRootQueryRetrieveInformationModelGet, "SCU"),
        (StudyRootQueryRetrieveInformationModelMove, "SCU"),
    ]
    web = [
        ("QIDO-RS", "user agent"),
        ("WADO-RS, whole study", "user agent"),
        ("STOW-RS", "user agent"),
    ]
    return (
        "## 2 Services\n"
        + rows(("DIMSE service", "UID", "role"), [(u.name, f"`{u}`", r) for u, r in used])
        + "\n\n"
        + rows(("DICOMweb service", "role"), web)
        + "\n\nMedia: no role; files are read from folders, a DICOMDIR is not followed."
    )


def network() -> str:
    """Return section 3: network parameters and transfer syntaxes."""
    defaults = Server()
    figures = [
        ("local AE title", f"{defaults.title}, or `--aet`"),
        ("port for C-MOVE", f"{defaults.port}, or `--port`; open while a study is received"),
        ("largest PDU", f"{association.MAX_PDU_BYTES} bytes"),
        ("presentation contexts", f"at most {association.MAX_CONTEXTS}"),
        ("time to connect", f"{association.CONNECT_SECONDS} s"),
        ("time to answer", f"{association.ANSWER_SECONDS} s"),
        ("associations", "one at a time, released by LesionLens; no asynchronous operations"),
        ("security", "TLS for DIMSE and DICOMweb, client certificates, basic authentication"),
        ("character set of queries", "ISO_IR 192"),
    ]  # fmt: skip
    return (
        "## 3 Network and configuration\n"
        + rows(("what", "value"), figures)
        + "\n\n### 3.1 Transfer syntaxes that are fetched and read\n"
        + rows(("name", "UID"), names_and_uids(SYNTAXES))
        + "\n\nObjects are written and sent in Explicit or Implicit VR Little Endian, uncompressed."
    )


def attributes(written_objects: Mapping[str, Dataset]) -> str:
    """Return section 4: attributes of each written object."""
    listed = sorted(
        {e.keyword for ds in written_objects.values() for e in ds if e.keyword}, key=tag_for_keyword
    )
    source = set(copied_attributes.COPIED)
    found = [
        (
            keyword,
            dictionary_VR(tag_for_keyword(keyword)),
            *("x" if keyword in written_objects[name] else "" for name in WRITTEN),
            "source"
            if keyword in source and keyword not in LESIONLENS_ATTRIBUTES
            else "LesionLens",
        )
        for keyword in listed
    ]
    heading = ("attribute", "VR", "SEG", "SR", "map", "key", "RT", "SC", "from")
    return (
        "## 4 Attributes written\nOf the data set's first level, of a classic MR source.\n\n"
        + rows(heading, found)
    )


LESIONLENS_ATTRIBUTES = {
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "DeviceSerialNumber",
}


def copied() -> str:
    """Return section 4.1: attributes copied from the source."""
    groups = (
        ("study and frame of reference", copied_attributes.UIDS),
        ("patient and study, present or empty", copied_attributes.TYPE_2),
        ("patient, where known", copied_attributes.PATIENT),
        ("study, where known", copied_attributes.STUDY),
        ("trial, all or none", copied_attributes.TRIAL),
        ("scanner (Contributing Equipment)", copied_attributes.EQUIPMENT),
    )
    return (
        "### 4.1 What is copied from the source's header\nNothing else is copied. A value that "
        "DICOM does not allow is corrected if its meaning is unambiguous, else omitted or empty; "
        f"a notice names the attribute. Text becomes {copied_attributes.CHARACTER_SET}.\n\n"
        + rows(
            ("what", "attributes"),
            [(description, ", ".join(names)) for description, names in groups],
        )
    )


def series() -> str:
    """Return section 4.2: number and description of the written series."""
    found = [
        (number, description if kind == "rejection" else f"{description}, STATE (research)")
        for kind, (number, description) in identity.SERIES.items()
    ]
    return (
        "### 4.2 Series\nEach object has its own series, with date and time of the export; "
        "STATE is the progress of the review.\n\n" + rows(("number", "description"), sorted(found))
    )


def written_terms(item: Dataset) -> Iterator[codes.Code]:
    """Yield the codes of an object, at any depth."""
    if "CodeValue" in item and "CodingSchemeDesignator" in item:
        yield codes.Code(item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning)
    for element in item:
        for inner in element.value if element.VR == "SQ" else ():
            yield from written_terms(inner)


def terms(written_objects: Mapping[str, Dataset]) -> str:
    """Return section 5: coded terms."""
    constants = [v for v in vars(codes).values() if isinstance(v, codes.Code | dict)]
    single = (list(v.values()) if isinstance(v, dict) else [v] for v in constants)
    all_codes = {v for group in single for v in group if isinstance(v, codes.Code)}
    known = {(code.value, code.scheme) for code in all_codes}
    found = {code for ds in written_objects.values() for code in written_terms(ds)} | {*REVIEWED}
    all_codes |= {code for code in found if (code.value, code.scheme) not in known}
    public = sorted(c for c in all_codes if c.scheme != codes.OWN_SCHEME)
    private = sorted(c for c in all_codes if c.scheme == codes.OWN_SCHEME)
    heading = ("code", "scheme", "meaning")
    return (
        "## 5 Coded terms\nBy PS3.16: TID 1500, 1411 (one segment a group), 1419, 1501, 1204, "
        "2010.\n\n"
        + rows(heading, public)
        + f"\n\n### 5.1 Our own (scheme `{codes.OWN_SCHEME}`)\n"
        + rows(("code", "meaning"), [(code.value, code.meaning) for code in private])
        + "\n\nNo private attribute, SOP class or transfer syntax is used."
    )


def pages() -> dict[str, str]:
    """Return the pages of the statement, by file name."""
    written_objects = objects()
    parts = {
        "conformance.md": (HEAD, overview(written_objects), services(), network()),
        "conformance_attributes.md": (
            SECOND_HEAD,
            attributes(written_objects),
            copied(),
            series(),
        ),
        "conformance_terms.md": (THIRD_HEAD, terms(written_objects)),
    }
    return {
        name: "\n\n".join(part.strip() for part in group) + "\n" for name, group in parts.items()
    }


if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    for name, text in pages().items():
        (PAGES / name).write_text(text, encoding="utf-8")
