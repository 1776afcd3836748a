"""Attributes common to all DICOM objects: equipment, series, candidates, algorithm."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from highdicom import AlgorithmIdentificationSequence
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    CodedConcept,
    DeviceObserverIdentifyingAttributes,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
)
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from lesionlens.base.codes import ARTIFICIAL_INTELLIGENCE, MANUFACTURER, OWN_SCHEME, Code
from lesionlens.base.labels import Region, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate
from lesionlens.results.export.dicom import values
from lesionlens.results.export.dicom.copied_attributes import CHARACTER_SET

WITH_OWN_CODES = frozenset({"seg", "sr"})
SERIES = {
    "seg": (9701, "LesionLens regions"),
    "sr": (9702, "LesionLens measurements"),
    "attention_wt": (9703, "LesionLens attention, whole tumour"),
    "key_objects": (9704, "LesionLens key images"),
    "attention_tc": (9705, "LesionLens attention, tumour core"),
    "attention_et": (9706, "LesionLens attention, enhancing"),
    "rejection": (9709, "LesionLens rejection note"),
}
"""Number and description of each object's series; high numbers, to be listed after the scanner's
series.
"""

_UNREVIEWED = ("no candidate", "not reviewed")


def of_new_instance(kind: str) -> dict[str, Any]:
    """Return the keyword arguments of highdicom objects that do not depend on a result.

    Identifiers are new: every export is a new instance in its own series, as DICOM requires. `kind`
    is a key of `SERIES`.
    """
    number, description = SERIES[kind]
    now = datetime.now(UTC).astimezone()
    return {
        "series_instance_uid": generate_uid(),
        "series_number": number,
        "series_description": description,
        "series_date": now.date(),
        "series_time": now.time(),
        "content_date": now.date(),
        "content_time": now.time(),
        "sop_instance_uid": generate_uid(),
        "instance_number": 1,
        "specific_character_set": CHARACTER_SET,
        "manufacturer": MANUFACTURER,
    }


def of_new_object(analysis: Analysis, kind: str) -> dict[str, Any]:
    """Return the keyword arguments of highdicom objects of a result; as for `of_new_instance`."""
    attributes = of_new_instance(kind)
    description = attributes["series_description"]
    attributes |= {
        "series_description": _series_description(description, review_progress(analysis)),
        "manufacturer_model_name": algorithm_name(analysis),
        "software_versions": analysis.run.versions.get("lesionlens", "unknown")[:64],
        "device_serial_number": serial_number(analysis),
    }
    if kind in WITH_OWN_CODES:
        attributes["coding_schemes"] = [
            CodingSchemeIdentificationItem(
                designator=OWN_SCHEME,
                name="LesionLens",
                responsible_organization="LesionLens, research software",
            )
        ]
    return attributes


def review_progress(analysis: Analysis) -> str:
    """Return the progress of the review in a few words.

    A report with a reader's response or diameters is not called unreviewed: a rejection note would
    name it.
    """
    decided_count, total = analysis.review_counts
    review = analysis.review
    if not total and review.signed:
        return "no candidate, signed"
    if not decided_count and review.response is not None and not analysis.response_outdated:
        return "response signed"
    if not total:
        return _UNREVIEWED[0]
    is_measured = any(review.diameters_of(c.tracking_uid) for c in analysis.findings.candidates)
    is_reviewed = decided_count or is_measured
    return f"{decided_count} of {total} reviewed" if is_reviewed else _UNREVIEWED[1]


def is_unreviewed_description(series_description: str) -> bool:
    """Return whether a series description belongs to an unreviewed LesionLens object.

    Examples
    --------
    >>> is_unreviewed_description("LesionLens regions, not reviewed (research)")
    True
    >>> is_unreviewed_description("LesionLens regions, 1 of 2 reviewed (research)")
    False
    >>> is_unreviewed_description("FLAIR")
    False
    """
    return series_description.strip() in {
        _series_description(description, progress)
        for _, description in SERIES.values()
        for progress in _UNREVIEWED
    }


def is_reviewed_report_description(series_description: str) -> bool:
    """Return whether a series description belongs to a reviewed LesionLens report.

    Examples
    --------
    >>> is_reviewed_report_description("LesionLens measurements, 1 of 2 reviewed (research)")
    True
    >>> is_reviewed_report_description("LesionLens measurements, not reviewed (research)")
    False
    """
    is_report = series_description.strip().startswith(f"{SERIES['sr'][1]}, ")
    return is_report and not is_unreviewed_description(series_description)


def _series_description(description: str, review: str) -> str:
    return f"{description}, {review} (research)"[:64]


def concept(code: Code) -> CodedConcept:
    """Convert a code to highdicom's type."""
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def exported(analysis: Analysis) -> tuple[Candidate, ...]:
    """Return the candidates that are exported to DICOM.

    Of an unreviewed result all; of a reviewed one the accepted and edited ones, and on request
    (`ExportOptions.include_unaccepted`) the others too. NIfTI, JSON and the report contain every
    candidate with its review state.
    """
    candidates, review = analysis.findings.candidates, analysis.review
    if analysis.options.include_unaccepted or not analysis.decided_count:
        return candidates
    return tuple(c for c in candidates if review.state_of(c.tracking_uid).confirmed)


def tracking_id(candidate: Candidate, region: Region | None = None) -> str:
    """Return the human-readable tracking identifier of a candidate, or of one of its regions."""
    return f"Candidate {candidate.id}" + ("" if region is None else f", {region.display_name}")


def serial_number(analysis: Analysis) -> str:
    """Return the first digits of the weights' SHA-256: each trained network is one device."""
    return (analysis.run.engine.weights_sha256 or "no weights")[:16]


def algorithm_name(analysis: Analysis, source: Source = Source.NETWORK) -> str:
    """Return the name of the engine, or of the program that an imported segmentation is from."""
    name = analysis.run.engine.name
    return (name if source is Source.SEGMENTATION else f"LesionLens {name}")[:64]


def algorithm(analysis: Analysis, source: Source) -> AlgorithmIdentificationSequence:
    """Return the algorithm with version and weights, for the Segmentation."""
    engine = analysis.run.engine
    return AlgorithmIdentificationSequence(
        name=algorithm_name(analysis, source),
        family=concept(ARTIFICIAL_INTELLIGENCE),
        version=engine.version or "unknown",
        parameters={"weights_sha256": engine.weights_sha256} if engine.weights_sha256 else None,
    )


def reader_name(name: str) -> str:
    """Return a reader's name as a DICOM PN with one component."""
    return values.BY_VR["PN"](name.replace("^", " ").replace("=", " "))


def reader(analysis: Analysis) -> ObserverContext | None:
    """Return the last deciding reader as an observer; None if unreviewed or unnamed."""
    names = (event.reader for event in reversed(analysis.review.events) if event.reader)
    name = reader_name(next(names, ""))
    if not name:
        return None
    return ObserverContext(
        observer_type=codes.DCM.Person,
        observer_identifying_attributes=PersonObserverIdentifyingAttributes(name=name),
    )


def observer(analysis: Analysis) -> ObserverContext:
    """Return the engine as an observer; the same weights are the same device."""
    engine = analysis.run.engine
    seed = ["lesionlens", engine.name, engine.version, engine.weights_sha256 or ""]
    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=generate_uid(entropy_srcs=seed),
            name=algorithm_name(analysis),
            manufacturer_name=MANUFACTURER,
            model_name=f"{engine.name} {engine.version}"[:64],
            serial_number=serial_number(analysis),
        ),
    )
