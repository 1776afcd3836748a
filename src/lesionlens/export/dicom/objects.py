"""Build, write and read back the DICOM objects of one result."""

from __future__ import annotations

from pathlib import Path

from lesionlens.export.dicom import ko, pmap, refs, seg, sr
from lesionlens.records.analysis import Analysis


def write_all(analysis: Analysis, folder: Path) -> tuple[Path, ...]:
    """Write every object of a result; each is read back and compared before it counts as written.

    Parameters
    ----------
    analysis : Analysis
        Of a DICOM study.
    folder : Path
        Made here.

    Returns
    -------
    tuple of Path
        seg.dcm (where a candidate stands), sr.dcm, attention*.dcm, key_objects.dcm.

    Raises
    ------
    ReadError
        A source file has gone or changed.
    ExportError
        An object differs, read back, from what was meant.
    """
    folder.mkdir()
    sources = refs.read_sources(analysis.study.series[analysis.prepared.reference])
    segments = seg.segments_of(analysis)
    written = []
    segmentation = None
    if segments:
        segmentation = seg.build_seg(analysis, sources, segments)
        written.append(folder / "seg.dcm")
        segmentation.save_as(written[-1])
        seg.check_seg(written[-1], analysis, sources, segments)
    written.append(folder / "sr.dcm")
    sr.build_sr(analysis, sources, segments, segmentation).save_as(written[-1])
    sr.check_sr(written[-1], analysis)
    for region, name in pmap.files_of(analysis).items():
        written.append(folder / name)
        pmap.build_pmap(analysis, sources, region).save_as(written[-1])
        pmap.check_pmap(written[-1], analysis, sources, region)
    selection = ko.build_ko(analysis, sources)
    if selection is not None:
        written.append(folder / "key_objects.dcm")
        selection.save_as(written[-1])
        ko.check_ko(written[-1], selection)
    return tuple(written)
