"""Build, write and verify the DICOM objects of one result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydicom.charset import default_encoding
from pydicom.dataset import Dataset

from lesionlens.base.labels import Extra
from lesionlens.base.records.analysis import Analysis
from lesionlens.results.export.dicom import contours, key_slices, ko, pmap, refs, seg, sr
from lesionlens.results.export.dicom.framed import FramedResult
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
    sources = refs.read_sources(analysis.study.series[analysis.reference])
    result = FramedResult(analysis, sources)
    folder.mkdir()
    write = _Writer(folder)
    attention: Dataset | None = None
    for region, name in pmap.files_of(analysis).items():
        frames = pmap.frames_of(result, region)
        build, check = (partial(f, result, frames) for f in (pmap.build_pmap, pmap.check_pmap))
        parametric_map = write(name, build, check)
        attention = attention or parametric_map
    segmentation = write("seg.dcm", partial(seg.build_seg, result), partial(seg.check_seg, result))
    build_report = partial(sr.build_sr, result, segmentation, attention)
    write("sr.dcm", build_report, partial(sr.check_sr, result))
    write("key_objects.dcm", partial(ko.build_ko, result), ko.check_ko)
    if Extra.CONTOURS in analysis.options.also:
        check_contours = partial(contours.check_contours, result)
        write("contours.dcm", partial(contours.build_contours, result), check_contours)
    if Extra.KEY_SLICES in analysis.options.also:
        build_slices = partial(key_slices.build_key_slices, result)
        write("key_slices.dcm", build_slices, key_slices.check_key_slices)
    return Written(tuple(write.files), sources.notices, write.left_out)


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

    def __call__(
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
