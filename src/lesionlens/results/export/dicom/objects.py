"""Build and write the DICOM objects of one result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydicom.charset import default_encoding
from pydicom.dataset import Dataset

from lesionlens.base.records.analysis import Analysis
from lesionlens.results.export.dicom import ko, pmap, refs, seg, sr
from lesionlens.results.export.dicom.framed import FramedResult
from lesionlens.results.export.written import Written, reason_of

logger = logging.getLogger(__name__)

Build = Callable[[FramedResult], Dataset | None]
"""Builds one object; None if there is none to write."""


def write_all(analysis: Analysis, folder: Path) -> Written:
    """Write every object of a result.

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
    result = FramedResult(analysis, refs.read_sources(analysis.study.series[analysis.reference]))
    folder.mkdir()
    write = _Writer(result, folder)
    attention: Dataset | None = None
    for region, name in pmap.files_of(analysis).items():
        frames = pmap.frames_of(result, region)
        parametric_map = write(name, partial(pmap.build_pmap, frames))
        attention = attention or parametric_map
    segmentation = write("seg.dcm", seg.build_seg)
    write("sr.dcm", partial(sr.build_sr, segmentation, attention))
    write("key_objects.dcm", ko.build_ko)
    return Written(tuple(write.files), result.sources.notices, write.left_out)


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

    def __init__(self, result: FramedResult, folder: Path) -> None:
        self.result, self.folder = result, folder
        self.files: list[Path] = []
        self.left_out: dict[str, str] = {}

    def __call__(self, name: str, build: Build) -> Dataset | None:
        """Build and write one object; None if there is none to write."""
        path = self.folder / name
        try:
            dataset = build(self.result)
            if dataset is not None:
                _save(dataset, path)
        except Exception as error:
            logger.debug("%s failed", name, exc_info=True)
            path.unlink(missing_ok=True)
            self.left_out[f"{self.folder.name}/{name}"] = reason_of(error)
            return None
        if dataset is not None:
            self.files.append(path)
        return dataset
