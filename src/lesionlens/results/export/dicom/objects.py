"""Build, write and verify the DICOM objects of one result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydicom.charset import default_encoding
from pydicom.dataset import Dataset

from lesionlens.base.errors import ExportError
from lesionlens.base.labels import Extra
from lesionlens.base.records.analysis import Analysis
from lesionlens.results.export.dicom import contours, key_slices, ko, pmap, refs, seg, sr
from lesionlens.results.export.written import Written, reason_of

logger = logging.getLogger(__name__)


def write_all(analysis: Analysis, folder: Path) -> Written:
    """Write every object of a result; each is read back and compared.

    An object that cannot be written is omitted, and the others are written.

    Parameters
    ----------
    folder : Path
        Output folder, created here.

    Returns
    -------
    Written
        seg.dcm (if there is an outline), sr.dcm, attention*.dcm, key_objects.dcm; and notices
        about source attributes that could not be copied.

    Raises
    ------
    ReadError
        A source file is missing or changed.
    ExportError
        The source images do not match the slices of the result.
    """
    sources = refs.read_sources(analysis.study.series[analysis.prepared.reference])
    folder.mkdir()
    writer = _Writer(folder)
    segments = seg.segments_of(analysis, sources)
    all_segments = (*segments, *seg.cavity_of(analysis, sources, segments))
    attention: Dataset | None = None
    for region, name in pmap.files_of(analysis).items():
        frames = pmap.frames_of(analysis, sources, region)
        parametric_map = writer.write(
            name,
            partial(pmap.build_pmap, analysis, sources, frames),
            partial(_check_map, sources, frames),
        )
        attention = attention or parametric_map
    segmentation = writer.write(
        "seg.dcm",
        lambda: seg.build_seg(analysis, sources, all_segments) if all_segments else None,
        lambda path, _: seg.check_seg(path, sources, all_segments),
    )

    def build_report() -> Dataset:
        if all_segments and segmentation is None:
            raise ExportError(
                found="that seg.dcm, which it points at, is missing",
                expected="a Segmentation",
                next_step="See why seg.dcm was left out",
            )
        return sr.build_sr(analysis, sources, all_segments, segmentation, attention)

    writer.write("sr.dcm", build_report, lambda path, _: sr.check_sr(path, analysis, all_segments))
    writer.write("key_objects.dcm", lambda: ko.build_ko(analysis, sources), ko.check_ko)
    extras = analysis.options.also
    if Extra.CONTOURS in extras:
        writer.write(
            "contours.dcm",
            lambda: contours.build_contours(analysis, sources, segments),
            lambda path, _: contours.check_contours(path, sources, segments),
        )
    if Extra.KEY_SLICES in extras:
        writer.write(
            "key_slices.dcm",
            lambda: key_slices.build_key_slices(analysis, sources, segments),
            key_slices.check_key_slices,
        )
    return Written(tuple(writer.files), sources.notices, writer.left_out)


def _check_map(sources: refs.SourceFrames, frames: pmap.MapFrames, path: Path, _: Dataset) -> None:
    pmap.check_pmap(path, sources, frames)


def _save(dataset: Dataset, path: Path) -> None:
    """Write an object.

    pydicom resolves ambiguous VRs repeatedly at every depth of created items; here it is done once.
    """
    _mark_encoded(dataset)
    dataset.save_as(path, enforce_file_format=True)


def _mark_encoded(dataset: Dataset) -> None:
    for element in dataset.elements():
        for item in (element.value or ()) if element.VR == "SQ" else ():
            if item.original_encoding == (None, None):
                item.set_original_encoding(
                    is_implicit_vr=False, is_little_endian=True, character_encoding=default_encoding
                )
            _mark_encoded(item)


class _Writer:
    """Writes objects one after the other and records failures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []
        self.left_out: dict[str, str] = {}

    def write(
        self, name: str, build: Callable[[], Dataset | None], check: Callable[[Path, Dataset], None]
    ) -> Dataset | None:
        """Build, write and verify one object; None if there is none to write."""
        path = self.folder / name
        try:
            dataset = build()
            if dataset is None:
                return None
            _save(dataset, path)
            check(path, dataset)
        except Exception as error:
            logger.debug("%s failed", name, exc_info=True)
            path.unlink(missing_ok=True)
            self.left_out[f"{self.folder.name}/{name}"] = reason_of(error)
            return None
        self.files.append(path)
        return dataset
