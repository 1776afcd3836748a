"""Find the current DICOM objects of a result among the files of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from lesionlens.base.codes import MANUFACTURER
from lesionlens.base.errors import ReadError
from lesionlens.base.records.study import Study
from lesionlens.base.text import counted
from lesionlens.imaging.reading.dicom.files import (
    DAMAGED,
    MAX_BYTES,
    looks_like_dicom,
    read_dicom,
    walk,
)
from lesionlens.results.documents import predecessors_of
from lesionlens.results.review import report_items

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
REPORTS = tuple(f"1.2.840.10008.5.1.4.1.1.88.{n}" for n in (22, 33, 34, 35))
MAP = "1.2.840.10008.5.1.4.1.1.30"
_UNDEFINED_LENGTH = 0xFFFFFFFF
_READ_CLASSES = frozenset({*SEGMENTATIONS, *REPORTS, MAP})


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects of a study: newest Segmentation, its report, attention maps."""

    seg: Dataset | None
    report: Dataset
    """Empty if there is none."""
    maps: tuple[Dataset, ...] = ()
    other_count: int = 0
    """Number of further Segmentations of the study, none of which is superseded."""
    other_reviewed_count: int = 0
    """Number of further reviewed LesionLens reports, none of which another report replaces."""

    @property
    def own_segments(self) -> bool:
        """Whether the Segmentation is of LesionLens."""
        return self.seg is not None and self.seg.get("Manufacturer") == MANUFACTURER

    @property
    def own_report(self) -> bool:
        """Whether the report is of LesionLens."""
        return report_items.is_builtin(self.report)


def find_objects(path: Path, study: Study) -> Objects:
    """Find the newest objects of a study in a folder (recursively) or file.

    Times are in the local zone of each machine: a predecessor that a report names is older in any
    case.

    Raises
    ------
    ReadError
        There is neither a Segmentation nor a LesionLens report, the newest report's Segmentation is
        missing, or a reader accepted no candidate by it; or it is a file of another kind.
    """
    if path.is_file() and not looks_like_dicom(path):
        raise _unsupported_error(
            f"a file of a kind that is not read ({path.suffix or 'no suffix'})"
        )
    by_class = _objects_by_class(path, study)
    reports, outdated_uids = _without_replaced(
        [ds for kind in REPORTS for ds in by_class.get(kind, [])]
    )
    segs = [ds for kind in SEGMENTATIONS for ds in by_class.get(kind, [])]
    own_report = _newest([ds for ds in reports if report_items.is_builtin(ds)])
    if own_report is not None:
        segs = _without_superseded(segs, own_report, outdated_uids)
    seg = _newest(segs)
    if seg is not None:
        report = _report_of(seg, reports)
    elif own_report is not None:
        report = own_report
        _check_report_alone(report, _other_reviewed_count(reports, report))
    else:
        raise ReadError(
            found=f"no Segmentation of this study in {path.name}",
            expected="a result folder, or its DICOM objects (SEG and, if there is one, SR)",
            next_step="Fetch the study with its results again, or analyse it",
        )
    other_count = len({str(ds.SOPInstanceUID) for ds in segs}) - 1 if segs else 0
    maps = _current_maps(by_class.get(MAP, []), report)
    return Objects(seg, report, maps, other_count, _other_reviewed_count(reports, report))


def _report_of(seg: Dataset, reports: Sequence[Dataset]) -> Dataset:
    """Return the newest report that references a Segmentation, of LesionLens if possible, or none.

    A report by another program may list every object of the study; it has no decisions.
    """
    referencing = [ds for ds in reports if str(seg.SOPInstanceUID) in referenced(ds)]
    builtin = [ds for ds in referencing if report_items.is_builtin(ds)]
    return _newest(builtin or referencing) or Dataset()


def _other_reviewed_count(reports: Sequence[Dataset], report: Dataset) -> int:
    """Return how many reviewed LesionLens reports there are besides the one that is used."""
    if not report_items.is_builtin(report):
        return 0
    reviewed_uids = {str(ds.SOPInstanceUID) for ds in reports if report_items.is_reviewed(ds)}
    return len(reviewed_uids - {str(report.SOPInstanceUID)})


def _objects_by_class(path: Path, study: Study) -> dict[str, list[Dataset]]:
    """Read the objects of this study by SOP Class UID; of contours only the header."""
    by_class: dict[str, list[Dataset]] = {}
    for file in [path] if path.is_file() else walk(path):
        if looks_like_dicom(file):
            kind, header = _header(file)
            if kind in _READ_CLASSES and _is_of_study(header, study, file):
                by_class.setdefault(kind, []).append(_read_whole(file))
    return by_class


def _without_superseded(
    segs: Sequence[Dataset], report: Dataset, outdated_uids: set[str]
) -> list[Dataset]:
    """Return the Segmentations without those that the newest LesionLens report supersedes.

    `outdated_uids` are the objects that earlier reports reference.
    """
    superseded_uids = {
        str(seg.SOPInstanceUID)
        for seg in segs
        if str(seg.SOPInstanceUID) in outdated_uids or _is_superseded(seg, report)
    }
    removed_uids = superseded_uids - referenced(report)
    return [seg for seg in segs if str(seg.SOPInstanceUID) not in removed_uids]


def _current_maps(maps: Sequence[Dataset], report: Dataset) -> tuple[Dataset, ...]:
    """Return one attention map a label: that which the report references, else the newest."""
    reported_uids = referenced(report)
    attention_maps = [ds for ds in maps if map_label(ds).startswith("attention_")]
    by_label = {map_label(ds): ds for ds in sorted(attention_maps, key=_timestamp)}
    by_label |= {
        map_label(ds): ds for ds in attention_maps if str(ds.SOPInstanceUID) in reported_uids
    }
    return tuple(by_label.values())


def _check_report_alone(report: Dataset, other_reviewed_count: int) -> None:
    """Refuse a report on candidates without their outlines."""
    if report_items.is_without_accepted(report):
        others = next_step = ""
        if other_reviewed_count:
            reports = counted(other_reviewed_count, "other reviewed report")
            others = f". There {'is' if other_reviewed_count == 1 else 'are'} {reports}"
            next_step = ", or another report with its Segmentation in a folder of their own"
        raise ReadError(
            found=f"a report of {_date(report)}, the newest: a reader accepted no candidate"
            f"{others}",
            expected="objects with candidates: those that were not accepted were not sent",
            next_step=f"Open the result folder itself{next_step}, or analyse the study again",
        )
    if count := len(report_items.candidates_in(report)):
        regions = counted(count, "candidate region")
        raise ReadError(
            found=f"a report of {_date(report)} on {regions}, without its Segmentation",
            expected="both: the outlines are in the Segmentation",
            next_step="Open the folder with all objects, or fetch the study with its results again",
        )


def _unsupported_error(found: str) -> ReadError:
    return ReadError(
        found=found,
        expected="a result folder, a mask (NIfTI, .nrrd, .mha, .mgz) or a DICOM Segmentation",
        next_step="Export it as one of these from the program that made it, as 3D Slicer does",
    )


def _header(path: Path) -> tuple[str, Dataset]:
    """Return a file's SOP Class UID and header; empty if it is damaged."""
    try:
        header = read_dicom(path, stop_before_pixels=True)
        return str(header.get("SOPClassUID", "")), header
    except (OSError, *DAMAGED):
        return "", Dataset()


def _read_whole(path: Path) -> Dataset:
    """Read an object of this study with its pixels."""
    if path.stat().st_size > MAX_BYTES:
        raise ReadError(
            found=f"more than {MAX_BYTES // 2**20} MiB in {path.name!r}",
            expected="a Segmentation, a report or a map of the usual size",
            next_step="Take it out of the folder, or analyse the study",
        )
    try:
        dataset = read_dicom(path)
    except (OSError, *DAMAGED) as error:
        raise _damaged_error(path) from error
    if _is_truncated(dataset):
        raise _damaged_error(path)
    return dataset


def _is_truncated(dataset: Dataset) -> bool:
    """Return whether a file ends early, which pydicom reads as shorter content, or as none.

    A last byte alone may be missing: some programs do not pad the pixels.
    """
    ends_within_value = any(
        len(element.value or b"") + 1 < element.length < _UNDEFINED_LENGTH
        for element in dataset.elements()
        if isinstance(element, RawDataElement)
    )
    is_own_report = dataset.SOPClassUID in REPORTS and dataset.get("Manufacturer") == MANUFACTURER
    return ends_within_value or (is_own_report and "ContentSequence" not in dataset)


def _damaged_error(path: Path) -> ReadError:
    return ReadError(
        found=f"{path.name!r}, which cannot be read completely",
        expected="a DICOM object as it was sent",
        next_step="Fetch the study with its results again, or analyse it",
    )


def _is_of_study(header: Dataset, study: Study, path: Path) -> bool:
    """Return whether an object belongs to this study, by its UID or its references."""
    images = {f.sop_instance_uid for series in study.series.values() for f in series.files}
    try:
        referenced_uids = referenced(header)  # decodes every element
    except (OSError, *DAMAGED) as error:
        raise _damaged_error(path) from error
    if "SOPInstanceUID" not in header:
        raise _damaged_error(path)
    return header.get("StudyInstanceUID") == study.uid or bool(images & referenced_uids)


def referenced(ds: Dataset) -> set[str]:
    """Return the SOP Instance UIDs that an object references, at any depth."""
    return {str(e.value) for e in ds.iterall() if e.keyword == "ReferencedSOPInstanceUID"}


def _timestamp(ds: Dataset) -> tuple[str, ...]:
    names = ("SeriesDate", "SeriesTime", "ContentDate", "ContentTime")
    stamps = tuple(str(ds.get(name) or "") for name in names)
    return stamps if stamps[0] else (*stamps[2:], *stamps[2:])


def _without_replaced(reports: Sequence[Dataset]) -> tuple[list[Dataset], set[str]]:
    """Return the reports that no other one replaces, and what the replaced ones reference."""
    predecessors = set[str]().union(*map(predecessors_of, reports))
    replaced = [ds for ds in reports if str(ds.SOPInstanceUID) in predecessors]
    current = [ds for ds in reports if str(ds.SOPInstanceUID) not in predecessors]
    return current, set[str]().union(*map(referenced, replaced))


def _is_superseded(seg: Dataset, report: Dataset) -> bool:
    """Return whether a LesionLens Segmentation is older than a LesionLens report."""
    return seg.get("Manufacturer") == MANUFACTURER and _timestamp(seg) < _timestamp(report)


def _date(report: Dataset) -> str:
    return report_items.iso(_timestamp(report)[0] + _timestamp(report)[1])[:16] or "an unknown day"


def _newest(datasets: Sequence[Dataset]) -> Dataset | None:
    return max(datasets, key=_timestamp) if datasets else None


def map_label(ds: Dataset) -> str:
    """Return a map's label; empty if it has none."""
    shared = ds.get("SharedFunctionalGroupsSequence") or [Dataset()]
    mapping = shared[0].get("RealWorldValueMappingSequence") or [Dataset()]
    return str(mapping[0].get("LUTLabel", ""))
