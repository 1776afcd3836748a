"""DICOM objects: same voxels at the same millimetres, from every plane, and valid."""

import itertools
import json
import shutil
import subprocess
import warnings
from contextlib import nullcontext
from dataclasses import replace

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tests.helpers.dicom_files import edited_dicom
from tests.helpers.file_search import files_below

from lesionlens.analysis.findings.edits import applied
from lesionlens.analysis.findings.measure import diameters
from lesionlens.base import codes as own
from lesionlens.base import geometry
from lesionlens.base.errors import ExportError, ReadError, UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import (
    RESEARCH_USE_NOTICE,
    DrawingMethod,
    Label,
    MapExtent,
    MrSequence,
    PromptKind,
    Region,
    ReviewState,
    Source,
)
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.followup import (
    Alignment,
    Change,
    Comparison,
    LesionMeasurement,
    TimePoint,
)
from lesionlens.base.records.prompts import PromptRound
from lesionlens.base.records.review import Outline, Review, ReviewEvent
from lesionlens.engines.testing.simple import Lesion
from lesionlens.imaging.reading.dicom.documents import (
    documents_followed,
    newest_document,
    record_sent,
)
from lesionlens.imaging.reading.readers import open_study
from lesionlens.results.export.dicom import frame_encoding, pmap, refs
from lesionlens.results.export.dicom.axis import axes_of
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.results.export.dicom.groups import _change_text, _time_point_context
from lesionlens.results.export.exporter import save
from lesionlens.results.review.reopen import read_result
from lesionlens.results.review.report_items import iter_items

PLANES = ("LPS", "PIR", "LIP", "RAI", "AIL")


def _written(analysis, folder):
    DicomExporter().write(analysis, folder)
    return _read(folder / "dicom")


def _read(folder):
    return {p.stem: pydicom.dcmread(p) for p in folder.iterdir()}


@pytest.fixture(params=PLANES)
def tilted(request, exported):
    """An analysis of each plane, on a tilted grid of edges that differ, and its objects' folder."""
    how = {"orientation": request.param, "spacing_mm": (3.0, 4.0, 6.0), "tilt_deg": 11}
    return exported(dicom=True, **how)


def _marked_mm(ds, keep):
    """Return the RAS mm of every pixel of a segmentation's chosen segments, read by pydicom."""
    shared = ds.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    row_mm, column_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    found = []
    frames = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)
    for frame, groups in zip(frames, ds.PerFrameFunctionalGroupsSequence, strict=True):
        if groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber not in keep:
            continue
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        rows, columns = np.nonzero(frame)
        lps = position + np.outer(columns * column_mm, orientation[:3])
        found.append(lps + np.outer(rows * row_mm, orientation[3:]))
    return geometry.points_lps_from_ras(np.concatenate(found))


def _sorted(points):
    rounded = np.round(points, 2) + 0.0
    return rounded[np.lexsort(rounded.T)]


def test_segments_lie_where_the_labels_lie(tilted):
    analysis, folder = tilted
    ds = _read(folder)["seg"]
    volumes, components = analysis.volumes, analysis.findings.components
    for candidate in analysis.findings.candidates:
        for region in Region:
            numbers = [
                s.SegmentNumber
                for s in ds.SegmentSequence
                if s.TrackingUID == candidate.tracking_uid
                and s.SegmentLabel == f"{candidate.id} {region.display_name}"
            ]
            where = (components == candidate.id) & np.isin(volumes.labels.data, region.labels)
            if not where.any():
                assert numbers == []
                continue
            wanted = volumes.labels.grid.to_mm(np.argwhere(where))
            np.testing.assert_allclose(_sorted(_marked_mm(ds, numbers)), _sorted(wanted), atol=0.03)


@pytest.mark.parametrize(
    "spacing", [(4.0, 4.0, 4.0), (3.7, 5.0, 5.0), (4.6, 3.9, 6.0), (5.0, 4.6, 5.0)]
)
def test_frames_begin_with_a_byte_and_fill_an_even_number(make, tmp_path, spacing):
    """OHIF's library reads no other; what does not fit is written with a byte a pixel."""
    ds = _written(make(dicom=True, spacing_mm=spacing, orientation="LPS"), tmp_path)["seg"]
    pixels = ds.Rows * ds.Columns
    bits = 1 if pixels % 8 == 0 else 8
    assert ds.BitsAllocated == bits
    assert ds.SegmentationType == ("BINARY" if bits == 1 else "FRACTIONAL")
    needed = pixels * ds.NumberOfFrames * bits // 8
    assert len(ds.PixelData) == needed + needed % 2
    assert bits == 8 or needed % 2 == 0
    assert set(np.unique(ds.pixel_array)) == {0, 1}


@given(rows=st.integers(2, 9), columns=st.integers(2, 9), held=st.integers(1, 20))
def test_an_empty_frame_makes_whole_bytes_even(rows, columns, held):
    filled = np.zeros((40, 2), bool)
    filled[:held, 0] = True
    added = frame_encoding.padding_frames(filled, rows * columns)
    octets, rest = divmod(rows * columns, 8)
    assert len(added) == (0 if rest else held * octets % 2)
    assert not filled[added[:, 0], added[:, 1]].any()


def test_segments_go_from_the_top_down_so_that_ohif_loses_no_slice(exported):
    ds = _read(exported(dicom=True)[1])["seg"]
    words = [s.SegmentLabel.split(" ", 1)[1] for s in ds.SegmentSequence]
    assert words == sorted(words, key=[r.display_name for r in Region].index)
    lowest = {}
    for groups in ds.PerFrameFunctionalGroupsSequence:
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        depth = groups.PlanePositionSequence[0].ImagePositionPatient[2]
        lowest[number] = min(lowest.get(number, depth), depth)
    for region in Region:
        of_region = [n for n, name in enumerate(words, 1) if name == region.display_name]
        depths = [lowest[n] for n in of_region]
        assert depths == sorted(depths, reverse=True)


def test_left_stays_left(make, tmp_path):
    analysis = make(dicom=True, orientation="PIR", tilt_deg=7, lesions=(Lesion(),))
    points = _marked_mm(_written(analysis, tmp_path)["seg"], {1, 2, 3})
    assert (points[:, 0] < 0).all()
    (candidate,) = analysis.findings.candidates
    assert candidate.location.side == "left"


def test_highdicom_reads_the_same_voxels(tilted):
    analysis, folder = tilted
    read = highdicom.seg.segread(folder / "seg.dcm")
    whole = [s.SegmentNumber for s in read.SegmentSequence if "whole" in s.SegmentLabel]
    volume = read.get_volume(segment_numbers=whole, combine_segments=True, relabel=True)
    affine = geometry.ras_from_lps(volume.affine)
    voxels = np.argwhere(volume.array > 0)
    wanted = analysis.volumes.labels.grid.to_mm(np.argwhere(analysis.volumes.labels.data > 0))
    np.testing.assert_allclose(_sorted(geometry.apply(affine, voxels)), _sorted(wanted), atol=0.03)


MAPS = {Region.WT: "attention", Region.TC: "attention_tc", Region.ET: "attention_et"}


def _map_frames(ds):
    return np.frombuffer(ds.FloatPixelData, "<f4").reshape(-1, ds.Rows, ds.Columns)


def _put_back(ds, grid):
    """Return a Parametric Map as a volume on a grid, from its DICOM attributes alone."""
    shared = ds.SharedFunctionalGroupsSequence[0]
    orient = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    row_mm, column_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    row, column = np.mgrid[: ds.Rows, : ds.Columns]
    out = np.zeros(grid.shape, np.float32)
    for frame, groups in zip(_map_frames(ds), ds.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        lps = position + column[..., None] * column_mm * orient[:3]
        lps = lps + row[..., None] * row_mm * orient[3:]
        voxel = grid.to_voxel(geometry.points_lps_from_ras(lps.reshape(-1, 3)))
        assert np.abs(voxel - np.rint(voxel)).max() < 0.05
        out[tuple(np.rint(voxel).astype(int).T)] = frame.ravel()
    return out


def test_attention_put_back_is_the_map_wherever_it_can_be_seen(tilted):
    analysis, folder = tilted
    written = _read(folder)
    for region, name in MAPS.items():
        mapping = written[name].SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
        assert mapping.LUTLabel == f"attention_{region.value}"
        volume = analysis.volumes.attention[region]
        found = _put_back(written[name], volume.grid)
        kept = found > 0
        np.testing.assert_array_equal(found[kept], volume.data[kept])
        assert volume.data[~kept].max(initial=0.0) < pmap.INVISIBLE
        assert written[name].Rows * written[name].Columns < volume.data[..., 0].size


def test_frames_of_a_map_rise_evenly_as_3d_slicer_takes_them(tilted):
    ds = _read(tilted[1])["attention"]
    shared = ds.SharedFunctionalGroupsSequence[0]
    orient = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    normal = np.cross(orient[:3], orient[3:])
    places = [
        np.array(g.PlanePositionSequence[0].ImagePositionPatient, float) @ normal
        for g in ds.PerFrameFunctionalGroupsSequence
    ]
    steps = np.diff(places)
    assert (steps > 0).all()
    np.testing.assert_allclose(steps, steps[0], atol=0.01)
    numbers = [
        g.FrameContentSequence[0].DimensionIndexValues for g in ds.PerFrameFunctionalGroupsSequence
    ]
    assert numbers == list(range(1, len(numbers) + 1))


def test_each_frame_of_a_map_points_at_its_own_source(tilted):
    analysis, folder = tilted
    ds = _read(folder)["attention"]
    orient = ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    normal = np.cross(*np.array(orient.ImageOrientationPatient, float).reshape(2, 3))
    files = analysis.study.series[MrSequence.T1C].files
    sources = {f.sop_instance_uid: pydicom.dcmread(f.path) for f in files}
    for groups in ds.PerFrameFunctionalGroupsSequence:
        (item,) = groups.DerivationImageSequence[0].SourceImageSequence
        source = np.array(sources[item.ReferencedSOPInstanceUID].ImagePositionPatient, float)
        place = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        assert abs((source - place) @ normal) < 0.01


def test_a_map_without_anything_to_see_is_one_frame(make, tmp_path):
    analysis = make(dicom=True)
    dark = {
        region: replace(volume, data=np.full_like(volume.data, 1e-4))
        for region, volume in analysis.volumes.attention.items()
    }
    other = replace(analysis, volumes=replace(analysis.volumes, attention=dark))
    assert _written(other, tmp_path)["attention"].NumberOfFrames == 1


def test_the_three_share_study_frame_and_tracking(exported):
    analysis, folder = exported(dicom=True)
    written = _read(folder)
    first = pydicom.dcmread(analysis.study.series[MrSequence.T1C].files[0].path)
    uids = {c.tracking_uid for c in analysis.findings.candidates}
    assert set(written) == {"seg", "sr", "key_objects", *MAPS.values()}
    for ds in written.values():
        assert ds.StudyInstanceUID == first.StudyInstanceUID
        assert ds.PatientID == first.PatientID
        assert ds.SeriesInstanceUID != first.SeriesInstanceUID
    for name in ("seg", *MAPS.values()):
        assert written[name].FrameOfReferenceUID == first.FrameOfReferenceUID
    assert {s.TrackingUID for s in written["seg"].SegmentSequence} == uids
    report = highdicom.sr.srread(folder / "sr.dcm")
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert {g.tracking_uid for g in groups} == uids
    assert written["sr"].VerificationFlag == "UNVERIFIED"


def _groups(sr):
    """Return the measurement groups of a report, each as its content items."""
    measured = next(
        i for i in sr.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010"
    )
    return [list(group.ContentSequence) for group in measured.ContentSequence]


def _named(group, code):
    """Return the items of a group that have a concept name."""
    return [i for i in group if i.ConceptNameCodeSequence[0].CodeValue == code.value]


def test_a_group_points_at_one_segment_that_is_its_region(exported):
    _, folder = exported(dicom=True)
    written = _read(folder)
    segments = {int(s.SegmentNumber): s for s in written["seg"].SegmentSequence}
    groups = _groups(written["sr"])
    used = []
    for group in groups:
        (pointer,) = [i for i in group if i.ConceptNameCodeSequence[0].CodeValue == "121191"]
        number = pointer.ReferencedSOPSequence[0].ReferencedSegmentNumber
        assert isinstance(number, int)
        used.append(number)
        (tracking,) = [i for i in group if i.ConceptNameCodeSequence[0].CodeValue == "112040"]
        identifier = next(i for i in group if i.ConceptNameCodeSequence[0].CodeValue == "112039")
        assert segments[number].TrackingUID == tracking.UID
        words = segments[number].SegmentLabel.split(" ", 1)[1]
        assert identifier.TextValue.endswith(f", {words}")
    assert sorted(used) == sorted(segments)
    report = highdicom.sr.srread(folder / "sr.dcm")
    for group in report.content.get_volumetric_roi_measurement_groups():
        assert group.referenced_segment.referenced_segment_numbers[0] in segments


def _slicers_table(groups):
    """Return (identifier, {column: value}) of each row as 3D Slicer's QuantitativeReporting reads.

    Columns are the measures of the first group; a row's values follow each other in its cells.
    """
    rows = [[i for i in group if i.ValueType == "NUM"] for group in groups]
    columns = [
        f"{i.ConceptNameCodeSequence[0].CodeMeaning} "
        f"[{i.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue}]"
        for i in rows[0]
    ]
    for group, row in zip(groups, rows, strict=True):
        name = next(i for i in group if i.ConceptNameCodeSequence[0].CodeValue == "112039")
        values = [float(i.MeasuredValueSequence[0].NumericValue) for i in row]
        assert len(values) <= len(columns), "a value without a column"
        yield name.TextValue, dict(zip(columns, values, strict=False))


def test_no_score_of_the_report_reads_as_certain(make, tmp_path):
    """0.99997 was sent as 100%."""
    analysis = make(dicom=True)
    first, *others = analysis.findings.candidates
    certain = replace(first, score=0.99997)
    analysis = replace(analysis, findings=replace(analysis.findings, candidates=(certain, *others)))
    texts = [
        str(item.TextValue)
        for item in iter_items(_written(analysis, tmp_path)["sr"])
        if "TextValue" in item
    ]
    assert "99.99%" in texts
    assert not any("100%" in text for text in texts)


@pytest.mark.parametrize("unknown", [(), (1,), (1, 2)])
def test_each_cell_of_slicers_table_stands_below_its_own_measure(make, tmp_path, unknown):
    """Whichever candidate's diameters are not known; and no score is among the measures."""
    analysis = make(dicom=True)
    candidates = tuple(
        replace(c, longest_axial_diameter_mm=None, perpendicular_diameter_mm=None)
        if c.id in unknown
        else c
        for c in analysis.findings.candidates
    )
    analysis = replace(analysis, findings=replace(analysis.findings, candidates=candidates))
    sr = _written(analysis, tmp_path)["sr"]
    table = dict(_slicers_table(_groups(sr)))
    assert len(table) == 6
    for candidate in candidates:
        for region in Region:
            wanted = {"Volume [cm3]": candidate.volume_ml[region]}
            if region is Region.ET and candidate.id not in unknown:
                wanted["Long axis [mm]"] = candidate.longest_axial_diameter_mm
                wanted["Short axis [mm]"] = candidate.perpendicular_diameter_mm
            row = table[f"Candidate {candidate.id}, {region.display_name}"]
            assert row == pytest.approx(wanted, rel=1e-3)


KINDS = {
    "a box without an outline": {
        "volume_ml": dict.fromkeys(Region),
        "longest_axial_diameter_mm": None,
        "perpendicular_diameter_mm": None,
    },
    "no diameters": {"longest_axial_diameter_mm": None, "perpendicular_diameter_mm": None},
    "one diameter": {"perpendicular_diameter_mm": None},
    "added by a reader": {"score": None, "source": Source.READER, "drawn": DrawingMethod.MANUAL},
    "grown by a reader": {
        "score": None,
        "source": Source.READER,
        "drawn": DrawingMethod.SEMIAUTOMATIC,
    },
    "without enhancement": {},
    "of the network": {},
}
"""What a candidate may be, and what differs then."""
PLACES = (
    (-30, 10, 25), (30, -40, 12), (28, 22, 38), (-28, -45, 30),
    (30, 10, 0), (-30, 30, 0), (0, 45, 30),
)  # fmt: skip
MEASURES = ["Volume [cm3]", "Long axis [mm]", "Short axis [mm]", "Enhancing tumour volume [cm3]"]


def _of_every_kind(make):
    """Return a reviewed analysis, compared with a prior, whose candidates are each of one kind."""
    analysis = make(dicom=True, lesions=tuple(Lesion(p, 11.0) for p in PLACES))
    labels, components = analysis.volumes.labels.data.copy(), analysis.findings.components
    named = dict(zip(KINDS, analysis.findings.candidates, strict=True))
    for kind, label in (("a box without an outline", None), ("without enhancement", Label.CORE)):
        held = (components == named[kind].id) & (labels > 0)
        labels[held] = 0 if label is None else label
        if label is not None:
            volumes = {**named[kind].volume_ml, Region.ET: 0.0}
            named[kind] = replace(named[kind], volume_ml=volumes)
    candidates = tuple(replace(named[kind], **differs) for kind, differs in KINDS.items())
    states = (ReviewState.ACCEPTED, ReviewState.EDITED)
    events = tuple(
        ReviewEvent(c.tracking_uid, states[c.id % 2], "A", "2026-01-05T10:00:00Z")
        for c in candidates
    )
    now = tuple(LesionMeasurement.of(c) for c in candidates)
    followup = Comparison(
        (TimePoint("2026-01-05", "1.2.3", now), TimePoint("2026-03-05", None, now)),
        tuple(Change(one, one) for one in now),
        Alignment(tuple(map(tuple, np.eye(4).tolist())), 1.0, 2.0, False, "T1c"),
    )
    volumes = replace(analysis.volumes, labels=replace(analysis.volumes.labels, data=labels))
    findings = replace(analysis.findings, candidates=candidates)
    return replace(
        analysis, volumes=volumes, findings=findings, review=Review(events), followup=followup
    )


def test_a_candidate_of_any_kind_has_the_same_measures_in_the_same_order(make, tmp_path):
    analysis = _of_every_kind(make)
    groups = _groups(_written(analysis, tmp_path)["sr"])
    table = dict(_slicers_table(groups))
    counts = [len(row) for row in table.values()]
    assert counts[0] == 4
    for row in table.values():
        assert list(row) == MEASURES[: len(row)]
    assert sorted(counts) == [0] + [1] * 12 + [2] + [3] * 3 + [4]
    for kind, candidate in zip(KINDS, analysis.findings.candidates, strict=True):
        rows = {n: r for n, r in table.items() if n.startswith(f"Candidate {candidate.id}")}
        fullest = max(rows.values(), key=len)
        sizes = (candidate.longest_axial_diameter_mm, candidate.perpendicular_diameter_mm)
        wanted = [v for v in sizes if v is not None]
        assert list(fullest.values())[1:3] == pytest.approx(wanted, rel=1e-3), kind
        regions = {"a box without an outline": 1, "without enhancement": 2}.get(kind, 3)
        assert len(rows) == regions, kind
        for name, row in rows.items():
            region = next((r for r in Region if name.endswith(r.display_name)), Region.WT)
            volume = candidate.volume_ml[region]
            assert row.get("Volume [cm3]") == (volume and pytest.approx(volume, rel=1e-3)), name
    report = highdicom.sr.srread(tmp_path / "dicom" / "sr.dcm").content
    read = [
        *report.get_volumetric_roi_measurement_groups(),
        *report.get_image_measurement_groups(),
    ]
    assert sorted(len(g.get_measurements()) for g in read) == sorted(counts)


def test_the_long_axis_lies_on_a_source_image_and_has_its_length(make, tmp_path):
    """OHIF opens a report by it, jumps there and draws it."""
    analysis = make(dicom=True, spacing_mm=(3.0, 3.0, 4.0), tilt_deg=6)
    files = analysis.study.series[MrSequence.T1C].files
    sources = {f.sop_instance_uid: pydicom.dcmread(f.path) for f in files}
    found = []
    for group in _groups(_written(analysis, tmp_path)["sr"]):
        for item in _named(group, own.LONG_AXIS):
            (line,) = item.ContentSequence
            assert (line.ValueType, line.RelationshipType) == ("SCOORD", "INFERRED FROM")
            (image,) = line.ContentSequence
            reference = image.ReferencedSOPSequence[0]
            source = sources[reference.ReferencedSOPInstanceUID]
            ends = np.array(line.GraphicData, float).reshape(2, 2)
            row_mm, column_mm = map(float, source.PixelSpacing)
            drawn = np.linalg.norm((ends[1] - ends[0]) * (column_mm, row_mm))
            found.append(drawn)
    labels, components = analysis.volumes.labels, analysis.findings.components
    assert found == [
        pytest.approx(
            diameters(
                (components == c.id) & (labels.data == Label.ENHANCING), labels.grid
            ).longest_mm,
            rel=0.02,
        )
        for c in analysis.findings.candidates
    ]


def test_where_pixels_are_not_square_the_long_axis_is_in_the_patient(make, tmp_path):
    """OHIF swaps both spacings of such an image, and would draw it beside the lesion."""
    analysis = make(dicom=True, spacing_mm=(2.0, 3.0, 4.0), tilt_deg=6)
    labels, components = analysis.volumes.labels, analysis.findings.components
    source = pydicom.dcmread(analysis.study.series[MrSequence.T1C].files[0].path)
    lines = [
        line
        for group in _groups(_written(analysis, tmp_path)["sr"])
        for item in _named(group, own.LONG_AXIS)
        for line in item.ContentSequence
    ]
    assert len(lines) == len(analysis.findings.candidates) > 0
    for line, candidate in zip(lines, analysis.findings.candidates, strict=True):
        assert (line.ValueType, line.GraphicType) == ("SCOORD3D", "POLYLINE")
        assert line.ReferencedFrameOfReferenceUID == source.FrameOfReferenceUID
        enhancing = (components == candidate.id) & (labels.data == Label.ENHANCING)
        ends_mm = geometry.points_lps_from_ras(diameters(enhancing, labels.grid).ends_mm)
        drawn_mm = np.array(line.GraphicData, float).reshape(2, 3)
        np.testing.assert_allclose(drawn_mm[:, :2], ends_mm[:, :2], atol=0.5)
        np.testing.assert_allclose(drawn_mm, ends_mm, atol=4.0)  # on the nearest tilted slice


def test_the_long_axis_lies_in_the_lesion(make, tmp_path):
    analysis = make(dicom=True, lesions=(Lesion(),))
    sources = refs.read_sources(analysis.study.series[MrSequence.T1C])
    (candidate,) = analysis.findings.candidates
    found = axes_of(analysis, sources, candidate)[own.LONG_AXIS.value]
    middle = found.points.mean(axis=0) - 0.5
    lps = sources.planes[found.frame] @ (*middle, 1.0)
    voxel = np.rint(analysis.volumes.labels.grid.to_voxel(geometry.points_lps_from_ras(lps)))
    near = analysis.findings.components[tuple(slice(int(v) - 2, int(v) + 3) for v in voxel)]
    assert (near == candidate.id).any()


def test_on_images_that_are_not_axial_a_point_is_drawn_not_a_line_too_short(exported):
    sr = _read(exported(dicom=True, orientation="PIR")[1])["sr"]
    (axis,) = _named(_groups(sr)[0], own.LONG_AXIS)
    assert axis.ContentSequence[0].GraphicType == "POINT"


def test_each_group_points_at_the_attention_map_and_the_report_at_nothing_unknown(exported):
    analysis, folder = exported(dicom=True)
    written = _read(folder)
    for items in _groups(written["sr"]):
        (item,) = _named(items, own.VISUAL_EXPLANATION)
        (reference,) = item.ReferencedSOPSequence
        assert reference.ReferencedSOPInstanceUID == written["attention"].SOPInstanceUID
        assert reference.ReferencedSOPClassUID == written["attention"].SOPClassUID
    known = {f.sop_instance_uid for f in analysis.study.series[MrSequence.T1C].files}
    known |= {written[name].SOPInstanceUID for name in ("seg", "sr", "attention")}
    named = {e.value for e in written["sr"].iterall() if e.keyword == "ReferencedSOPInstanceUID"}
    assert named <= known


def _words_of(sr):
    """Return every text and code of a report's container of what holds for the whole."""
    (container,) = _named(sr.ContentSequence, own.QUALITATIVE)
    texts = [i.TextValue for i in container.ContentSequence if i.ValueType == "TEXT"]
    codes = [
        i.ConceptCodeSequence[0].CodeValue
        for i in container.ContentSequence
        if i.ValueType == "CODE"
    ]
    return texts, codes


def _states(analysis, *states):
    events = tuple(
        ReviewEvent(c.tracking_uid, state, "A. Reader", "2026-01-05T10:00:00.123Z", "as seen")
        for c, state in zip(analysis.findings.candidates, states, strict=False)
    )
    return replace(analysis, review=Review(events))


@pytest.mark.parametrize(
    ("states", "sent", "review"),
    [
        ((), 2, own.REVIEW_NONE),
        ((ReviewState.DEFERRED, ReviewState.UNREVIEWED), 2, own.REVIEW_NONE),
        ((ReviewState.ACCEPTED, ReviewState.EDITED), 2, own.REVIEW_DONE),
        ((ReviewState.ACCEPTED, ReviewState.REJECTED), 1, own.REVIEW_DONE),
        ((ReviewState.ACCEPTED,), 1, own.REVIEW_BEGUN),
        ((ReviewState.ACCEPTED, ReviewState.DEFERRED), 1, own.REVIEW_BEGUN),
        ((ReviewState.REJECTED, ReviewState.REJECTED), 0, own.REVIEW_DONE),
    ],
)
def test_what_a_review_sends_and_what_the_report_says_of_it(make, tmp_path, states, sent, review):
    analysis = _states(make(dicom=True), *states)
    written = _written(analysis, tmp_path)
    count = len({s.TrackingUID for s in written["seg"].SegmentSequence}) if "seg" in written else 0
    assert count == sent
    texts, codes = _words_of(written["sr"])
    assert review.value in codes
    assert any(RESEARCH_USE_NOTICE in text for text in texts)
    assert any("Nobody has reviewed" in text for text in texts) == (review is own.REVIEW_NONE)
    assert ("not reviewed" in written["sr"].SeriesDescription) == (review is own.REVIEW_NONE)


def test_a_deferral_alone_is_stated_in_a_report_that_nobody_reviewed(make, tmp_path):
    """The same report named a reader who had deferred the decision."""
    analysis = make(dicom=True)
    stated = "Nobody has reviewed this result; decisions deferred by a reader: 1."
    for states, count in (((ReviewState.DEFERRED,), 1), ((), 0)):
        folder = tmp_path / str(count)
        folder.mkdir()
        texts, _ = _words_of(_written(_states(analysis, *states), folder)["sr"])
        assert sum(stated in text for text in texts) == count


def test_on_request_a_reviewed_result_sends_the_rest_too(make, tmp_path):
    analysis = _states(make(dicom=True), ReviewState.ACCEPTED, ReviewState.REJECTED)
    written = _written(replace(analysis, options=ExportOptions(include_unaccepted=True)), tmp_path)
    assert len({s.TrackingUID for s in written["seg"].SegmentSequence}) == 2


def _sent(out):
    """Note in a result folder that its objects were sent."""
    files = sorted((out / "dicom").iterdir())
    record_sent(out, files, "dicom://A@127.0.0.1:104", "2026-01-05T10:00:00Z")
    return pydicom.dcmread(out / "dicom" / "sr.dcm")


def _predecessors(out):
    report = pydicom.dcmread(out / "dicom" / "sr.dcm")
    return [
        item.ReferencedSOPInstanceUID
        for study in report.get("PredecessorDocumentsSequence", [])
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def test_a_second_export_is_later_and_names_the_report_that_was_sent(make, tmp_path):
    analysis = make(dicom=True, lesions=(Lesion(),))
    save(analysis, tmp_path / "out")
    assert _predecessors(tmp_path / "out") == []
    first = _sent(tmp_path / "out")
    save(_states(analysis, ReviewState.ACCEPTED), tmp_path / "out")
    for path in (tmp_path / "out" / "dicom").iterdir():
        ds = pydicom.dcmread(path)
        assert (ds.SeriesDate, ds.SeriesTime) == (ds.ContentDate, ds.ContentTime)
        assert "1 of 1 reviewed" in ds.SeriesDescription
    second = pydicom.dcmread(tmp_path / "out" / "dicom" / "sr.dcm")
    (study,) = second.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert (second.SeriesDate, second.SeriesTime) > (first.SeriesDate, first.SeriesTime)


def test_the_last_report_that_was_sent_is_named_not_one_that_was_only_written(make, tmp_path):
    analysis = make(dicom=True, lesions=(Lesion(),))
    save(analysis, tmp_path / "out")
    first = _sent(tmp_path / "out")
    for started in ("later", "later still"):  # the second of these replaces what was never sent
        save(replace(analysis, run=replace(analysis.run, started=started)), tmp_path / "out")
        assert _predecessors(tmp_path / "out") == [first.SOPInstanceUID]
    third = _sent(tmp_path / "out")
    save(analysis, tmp_path / "out")
    assert set(_predecessors(tmp_path / "out")) == {first.SOPInstanceUID, third.SOPInstanceUID}


def test_a_report_opened_from_an_archive_stays_the_predecessor_when_the_result_is_reopened(
    make, tmp_path
):
    """A result of it was saved, reopened the next day and sent: the report was replaced by none."""
    analysis = make(dicom=True, lesions=(Lesion(),))
    save(analysis, tmp_path / "theirs")
    theirs = newest_document(tmp_path / "theirs", analysis.study.uid)
    opened = replace(analysis, run=replace(analysis.run, documents=(theirs,)))
    save(opened, tmp_path / "out")
    run = read_result(tmp_path / "out").run
    assert run.documents == (theirs,)
    save(replace(analysis, run=run), tmp_path / "elsewhere")
    assert _predecessors(tmp_path / "elsewhere") == [theirs.sop_instance_uid]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
def test_an_invalid_uid_of_a_predecessor_is_not_written_again(make, tmp_path):
    analysis = make(dicom=True, lesions=(Lesion(),))
    save(analysis, tmp_path / "theirs")
    theirs = newest_document(tmp_path / "theirs", analysis.study.uid)
    save(replace(analysis, run=replace(analysis.run, documents=(theirs,))), tmp_path / "out")
    with edited_dicom(tmp_path / "out" / "dicom" / "sr.dcm") as report:
        (series,) = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
        series.SeriesInstanceUID = "Doe^Jane"
    assert documents_followed(tmp_path / "out") == ()


def test_the_newest_report_of_the_study_is_superseded(make, tmp_path):
    analysis = make(dicom=True, lesions=())
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        DicomExporter().write(analysis, tmp_path / name)
    found = newest_document(tmp_path, analysis.study.uid)
    newest = pydicom.dcmread(tmp_path / "second" / "dicom" / "sr.dcm")
    assert found.sop_instance_uid == newest.SOPInstanceUID
    for study_uid in ("1.2.3", None):
        with pytest.raises(UnusableInputError, match="no report"):
            newest_document(tmp_path, study_uid)


def test_another_studys_report_is_no_predecessor(make, tmp_path):
    analysis = make(dicom=True, lesions=(Lesion(),))
    save(analysis, tmp_path / "out")
    with edited_dicom(tmp_path / "out" / "dicom" / "sr.dcm") as ds:
        ds.StudyInstanceUID = "1.2.3"
    _sent(tmp_path / "out")
    (tmp_path / "out" / "dicom" / "sr.dcm").unlink()  # it was changed: saving would refuse it
    save(analysis, tmp_path / "out")
    again = pydicom.dcmread(tmp_path / "out" / "dicom" / "sr.dcm")
    assert "PredecessorDocumentsSequence" not in again


def test_the_report_says_who_decided_when_and_why(make, tmp_path):
    analysis = _states(make(dicom=True, lesions=(Lesion(),)), ReviewState.ACCEPTED)
    group = _groups(_written(analysis, tmp_path)["sr"])[0]
    assert [str(i.PersonName) for i in _named(group, own.REVIEW_READER)] == ["A. Reader"]
    assert [str(i.DateTime) for i in _named(group, own.REVIEW_TIME)] == ["20260105100000.123"]
    assert [i.TextValue for i in _named(group, own.REVIEW_REASON)] == ["as seen"]


def test_a_rejected_candidate_is_left_out_and_an_edited_one_is_semiautomatic(make, tmp_path):
    analysis = make(dicom=True)
    first, second = analysis.findings.candidates
    events = (
        ReviewEvent(first.tracking_uid, ReviewState.REJECTED, "A", "2026-01-05T10:00:00Z"),
        ReviewEvent(second.tracking_uid, ReviewState.EDITED, "A", "2026-01-05T10:01:00Z"),
    )
    written = _written(replace(analysis, review=Review(events)), tmp_path)
    segments = written["seg"].SegmentSequence
    assert {s.TrackingUID for s in segments} == {second.tracking_uid}
    assert {s.SegmentAlgorithmType for s in segments} == {"SEMIAUTOMATIC"}


def test_a_redrawn_outline_is_exported_as_it_was_drawn(make, tmp_path):
    analysis = make(dicom=True)
    first = analysis.findings.candidates[0]
    drawn = np.zeros_like(analysis.volumes.labels.data)
    where = np.argwhere(analysis.findings.components == first.id)[:40]
    drawn[tuple(where.T)] = Label.ENHANCING
    outline = Outline(first.tracking_uid, (0, 0, 0), drawn)
    event = ReviewEvent(
        first.tracking_uid, ReviewState.ACCEPTED, "A", "2026-01-05T10:00:00Z", None,
        outline=outline.sha256, prompts=(
            PromptRound(PromptKind.POINT, ((1, 2, 3),), (), Region.ET, 3, 2.0),
            PromptRound(PromptKind.SCRIBBLE, ((1, 2, 3),), ((4, 5, 6),), Region.ET, 3, 7.5),
        ),
    )  # fmt: skip
    reported = Review((event,), {outline.sha256: outline})
    written = _written(applied(replace(analysis, review=reported)), tmp_path)
    words = "2 prompts (1 point, 1 scribble), 7.5 s, for the enhancing tumour"
    told = [
        [item.TextValue for item in _named(group, own.PROMPTED)] for group in _groups(written["sr"])
    ]
    assert [words] in told
    assert sum(map(len, told)) == 1
    mine = {
        s.SegmentNumber: s.SegmentAlgorithmType
        for s in written["seg"].SegmentSequence
        if s.TrackingUID == first.tracking_uid
    }
    assert list(mine.values()) == ["SEMIAUTOMATIC"] * 3  # enhancing: in the core, in the whole
    places = analysis.volumes.labels.grid.to_mm(where)
    found = _marked_mm(written["seg"], {max(mine)})
    np.testing.assert_allclose(found[np.lexsort(found.T)], places[np.lexsort(places.T)], atol=1e-2)


def test_without_a_candidate_the_report_says_so(make, tmp_path):
    written = _written(make(dicom=True, lesions=()), tmp_path)
    assert set(written) == {"sr"}  # and no map of what nobody flagged
    assert own.NO_CANDIDATE.value in _words_of(written["sr"])[1]
    assert not [i for i in written["sr"].iterall() if i.keyword == "MeasuredValueSequence"]
    assert highdicom.sr.srread(tmp_path / "dicom" / "sr.dcm")


@pytest.mark.parametrize("order", ["reversed", "shuffled"])
def test_images_in_any_order_give_the_same_regions(make, tmp_path, order):
    analysis = make(dicom=True)
    series = analysis.study.series[MrSequence.T1C]
    files = series.files[::-1] if order == "reversed" else (*series.files[1::2], *series.files[::2])
    study = replace(analysis.study, series={MrSequence.T1C: replace(series, files=files)})
    ds = _written(replace(analysis, study=study), tmp_path)["seg"]
    whole = [s.SegmentNumber for s in ds.SegmentSequence if "whole" in s.SegmentLabel]
    labels = analysis.volumes.labels
    expected = labels.grid.to_mm(np.argwhere(labels.data > 0))
    np.testing.assert_allclose(_sorted(_marked_mm(ds, whole)), _sorted(expected), atol=0.02)


def test_a_candidate_without_voxels_costs_no_object(make, tmp_path):
    analysis = make(dicom=True)
    components = np.where(analysis.findings.components == 2, 0, analysis.findings.components)
    findings = replace(analysis.findings, components=components)
    done = DicomExporter().write(replace(analysis, findings=findings), tmp_path)
    assert done.left_out == {}
    uids = {s.TrackingUID for s in _read(tmp_path / "dicom")["seg"].SegmentSequence}
    assert uids == {analysis.findings.candidates[0].tracking_uid}


def test_a_series_without_a_frame_of_reference_has_no_objects(make):
    analysis = make(dicom=True)
    native = replace(analysis.prepared.native, frame_uid=None)
    without = replace(analysis, prepared=replace(analysis.prepared, native=native))
    assert "no Frame of Reference" in DicomExporter().missing(without)


def test_without_t1c_there_is_no_map_of_enhancement(make, tmp_path):
    analysis = make(dicom=True)
    present = analysis.prepared.present.copy()
    present[list(MrSequence).index(MrSequence.T1C)] = False
    other = replace(analysis, prepared=replace(analysis.prepared, present=present))
    assert set(_written(other, tmp_path)) >= {"attention", "attention_tc"}
    assert not (tmp_path / "dicom" / "attention_et.dcm").exists()


def test_maps_of_every_frame_have_the_sources_size_and_every_value(make, tmp_path):
    analysis = make(dicom=True, orientation="PIR", tilt_deg=11)
    full = replace(analysis, options=ExportOptions(maps=MapExtent.FULL))
    files = analysis.study.series[MrSequence.T1C].files
    source = pydicom.dcmread(files[0].path)
    for region, name in MAPS.items():
        ds = pydicom.dcmread(next(p for p in _files(full, tmp_path, region) if p.stem == name))
        assert (ds.Rows, ds.Columns, ds.NumberOfFrames) == (source.Rows, source.Columns, len(files))
        volume = analysis.volumes.attention[region]
        np.testing.assert_array_equal(_put_back(ds, volume.grid), volume.data)


def _files(analysis, folder, region):
    place = folder / region.value
    place.mkdir()
    return DicomExporter().write(analysis, place).files


def test_a_single_segment_names_itself_at_each_frame(make, tmp_path):
    analysis = make(dicom=True, lesions=(Lesion(),))
    labels = np.where(analysis.volumes.labels.data > 0, Label.OEDEMA, 0).astype(np.uint8)
    volumes = replace(analysis.volumes, labels=replace(analysis.volumes.labels, data=labels))
    ds = _written(replace(analysis, volumes=volumes), tmp_path)["seg"]
    assert len(ds.SegmentSequence) == 1
    assert "SegmentIdentificationSequence" not in ds.SharedFunctionalGroupsSequence[0]
    read = highdicom.seg.segread(tmp_path / "dicom" / "seg.dcm")
    pointed = highdicom.sr.ReferencedSegment.from_segmentation(read, segment_number=1)
    assert pointed


def test_nifti_input_gives_no_dicom(make):
    assert "not DICOM" in DicomExporter().missing(make())


def test_a_mosaic_gives_no_dicom_and_the_record_says_why(make, tmp_path):
    analysis = make(dicom=True)
    series = analysis.study.series[MrSequence.T1C]
    mosaic = replace(series, files=series.files[:1])
    study = replace(analysis.study, series={**analysis.study.series, MrSequence.T1C: mosaic})
    other = replace(analysis, study=study)
    assert "mosaic" in DicomExporter().missing(other)
    save(other, tmp_path / "out")
    assert not (tmp_path / "out" / "dicom").exists()
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert "mosaic" in run["left_out"]["dicom"]


def test_values_that_no_valid_object_can_hold_are_not_passed_on(make, tmp_path):
    """Some anonymisers write *** over dates and ages, and leave empty sequences behind."""
    analysis = make(dicom=True)
    for file in analysis.study.series[MrSequence.T1C].files:
        with warnings.catch_warnings(action="ignore"), edited_dicom(file.path) as ds:
            ds.add_new(0x00100030, "LO", "***")
            ds.add_new(0x00101010, "LO", "***")
            ds.ProcedureCodeSequence = []
            del ds.AccessionNumber
            ds.PatientName = "ONLY FAMILY"
    written = _written(analysis, tmp_path)
    for ds in written.values():
        assert ds.PatientBirthDate == ds.AccessionNumber == ""
        assert "PatientAge" not in ds
        assert "ProcedureCodeSequence" not in ds
        assert ds.PatientName == "ONLY FAMILY"


def test_objects_of_lossy_images_state_the_loss(make, tmp_path):
    """It stays stated in whatever is derived from them (PS3.3 C.7.6.1.1.5)."""
    analysis = make(dicom=True)
    for file in analysis.study.series[MrSequence.T1C].files:
        with edited_dicom(file.path) as ds:
            ds.LossyImageCompression, ds.LossyImageCompressionRatio = "01", 12.5
            ds.LossyImageCompressionMethod = "ISO_10918_1"
    written = _written(analysis, tmp_path)
    for name in ("seg", "attention"):
        assert written[name].LossyImageCompression == "01"
        assert written[name].LossyImageCompressionRatio == 12.5


def test_a_study_that_has_gone_is_reported(make, tmp_path):
    analysis = make(dicom=True)
    analysis.study.series[MrSequence.T1C].files[3].path.unlink()
    with pytest.raises(ReadError, match="no longer"):
        DicomExporter().write(analysis, tmp_path)


def test_files_without_a_preamble_are_pointed_at_too(make, tmp_path):
    analysis = make(dicom=True)
    for file in analysis.study.series[MrSequence.T1C].files:
        ds = pydicom.dcmread(file.path)
        del ds.file_meta
        ds.preamble = None
        ds.save_as(file.path, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert file.path.read_bytes()[128:132] != b"DICM"
    assert _written(analysis, tmp_path)["seg"]


def test_a_file_that_is_no_dicom_any_more_is_refused(make, tmp_path):
    analysis = make(dicom=True)
    analysis.study.series[MrSequence.T1C].files[3].path.write_text("not an image " * 50)
    with pytest.raises(ReadError, match=r"no longer|a different image"):
        DicomExporter().write(analysis, tmp_path)


def test_another_image_under_the_same_name_is_refused(make, tmp_path):
    analysis = make(dicom=True)
    files = analysis.study.series[MrSequence.T1C].files
    shutil.copy(files[4].path, files[3].path)
    with pytest.raises(ReadError, match="a different image"):
        DicomExporter().write(analysis, tmp_path)


def test_a_patient_who_was_renamed_since_the_study_was_opened_is_not_exported(make, tmp_path):
    """The window showed one patient, and the report and the objects named another."""
    analysis = make(dicom=True)
    analysis = replace(analysis, study=open_study(analysis.study.root))
    for path in {file.path for s in analysis.study.series.values() for file in s.files}:
        with edited_dicom(path) as header:
            header.PatientName, header.PatientID = "Other^Person", "OTHER-9"
    _, warnings = save(analysis, tmp_path / "out")
    assert "OTHER-9" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not (tmp_path / "out" / "dicom").exists()
    assert any("a different patient" in text and "patient ID and name" in text for text in warnings)


def test_a_result_beside_its_source_is_refused(make):
    """Also by whole voxels: every pixel is then a voxel, but that of its neighbour."""
    series = make(dicom=True).study.series[MrSequence.T1C]
    for shift in ((0.25, 0.25, 0.25), *itertools.product((-1, 0, 1), repeat=3)):
        moved = series.grid.affine.copy()
        moved[:3, 3] = series.grid.to_mm(shift)
        other = replace(series, grid=Grid(series.grid.shape, moved, series.grid.frame_uid))
        with pytest.raises(ExportError, match="an image") if any(shift) else nullcontext():
            refs.read_sources(other)


def test_a_slice_without_a_source_or_with_two_is_refused(make, tmp_path):
    series = make(dicom=True).study.series[MrSequence.T1C]
    second = replace(series.files[0], path=shutil.copy(series.files[0].path, tmp_path))
    for files in (series.files[:-1], (*series.files, second)):
        with pytest.raises(ExportError, match="source images for"):
            refs.read_sources(replace(series, files=files))


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
@pytest.mark.parametrize("lesions", [(), (Lesion(),)])
def test_dciodvfy_finds_no_error(make, tmp_path, lesions):
    _written(make(dicom=True, lesions=lesions, tilt_deg=9), tmp_path)
    for path in files_below(tmp_path / "dicom", "*.dcm"):
        reported = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        errors = [
            line
            for line in (reported.stdout + reported.stderr).splitlines()
            if line.startswith("Error") and "Laterality" not in line
        ]
        assert errors == [], path.name


def _rotation(angles):
    return Rotation.from_euler("xyz", angles).as_matrix()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacing=st.tuples(*[st.floats(0.4, 7.0)] * 3),
    rows=st.integers(2, 6),
    columns=st.integers(2, 6),
    slices=st.integers(1, 5),
    order=st.permutations([0, 1, 2]),
    flips=st.tuples(*[st.booleans()] * 3),
    shear=st.floats(-0.3, 0.3),
)
def test_every_pixel_is_its_voxel_however_the_grid_is_turned(
    angles, spacing, rows, columns, slices, order, flips, shear
):
    """Frames of any plane, on a grid whose axes are permuted and flipped against them."""
    turn = _rotation(angles)
    frame = np.eye(4)
    frame[:3, :3] = turn * spacing
    frame[:3, 2] += shear * frame[:3, 0]  # slices that are shifted against each other
    frame[:3, 3] = (-30.0, 20.0, 10.0)
    shape = np.array([columns, rows, slices])
    change = np.eye(4)
    change[:3, :3] = np.eye(3)[:, order]
    for axis, flipped in enumerate(flips):
        if flipped:
            change[:3, axis] *= -1
            change[order[axis], 3] = shape[order[axis]] - 1
    grid = Grid(tuple(shape[list(order)]), geometry.ras_from_lps(frame @ change))
    volume = np.arange(shape.prod()).reshape(grid.shape)
    cosines = (*turn[:, 0], *turn[:, 1])
    for k in range(slices):
        position = geometry.apply(frame, (0, 0, k))
        plane = geometry.plane_matrix(position, cosines, (spacing[1], spacing[0]))
        place = refs._placement_of(plane, rows, columns, grid)
        cut = place.upright(volume)[place.index]
        assert cut.shape == (rows, columns)
        for row in range(rows):
            for column in range(columns):
                lps = plane @ (column, row, 1)
                voxel = grid.to_voxel(geometry.points_lps_from_ras(lps))
                assert cut[row, column] == volume[tuple(np.rint(voxel).astype(int))]


def test_a_detectors_box_is_reported_without_an_outline(make, tmp_path):
    """No mask is invented: no Segmentation, and a group that points at a source image."""
    analysis = make(dicom=True)
    empty = np.zeros_like(analysis.volumes.labels.data)
    volumes = replace(analysis.volumes, labels=replace(analysis.volumes.labels, data=empty))
    written = _written(replace(analysis, volumes=volumes), tmp_path)
    assert set(written) == {"sr", "key_objects", *MAPS.values()}
    report = highdicom.sr.srread(tmp_path / "dicom" / "sr.dcm")
    groups = report.content.get_image_measurement_groups()
    assert {g.tracking_uid for g in groups} == {
        c.tracking_uid for c in analysis.findings.candidates
    }


def test_key_objects_name_the_slice_on_which_a_candidate_is_largest(exported):
    analysis, folder = exported(dicom=True, orientation="PIR")
    series = analysis.study.series[MrSequence.T1C]
    wanted = set()
    for candidate in analysis.findings.candidates:
        areas = (analysis.findings.components == candidate.id).sum(axis=(0, 1))
        wanted |= {series.files[k].sop_instance_uid for k in np.flatnonzero(areas == areas.max())}
    ds = _read(folder)["key_objects"]
    named = {
        i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for i in ds.ContentSequence
        if i.ValueType == "IMAGE"
    }
    assert named <= wanted
    assert len(named) == len(analysis.findings.candidates)


def test_a_report_says_which_examination_it_is_and_what_changed(make, tmp_path):
    analysis = make(dicom=True)
    first, second = (LesionMeasurement.of(c) for c in analysis.findings.candidates)
    before = replace(first, volume_ml={r: v and v / 2 for r, v in first.volume_ml.items()})
    found = Comparison(
        (
            TimePoint("2026-01-05", "1.2.3", (before,)),
            TimePoint("2026-03-05", None, (first, second)),
        ),
        (Change(before, first), Change(None, second)),
        Alignment(tuple(map(tuple, np.eye(4).tolist())), 1.0, 2.0, False, "T1c"),
    )
    report = _written(replace(analysis, followup=found), tmp_path)["sr"]
    items = list(report.iterall())
    reported = [str(e.value) for e in items if e.keyword == "TextValue"]
    assert reported.count("2026-03-05") == len(_groups(report)) > 0
    assert any("since 2026-01-05: volume +100.0%" in words for words in reported)
    assert any("not flagged on 2026-01-05" in words for words in reported)
    same_day = (replace(found.points[0], date="2026-03-05"), found.points[1])
    twice = replace(analysis, followup=replace(found, points=same_day))
    assert str(_time_point_context(twice)[0].TextValue) == "2026-03-05 (examination 2)"
    one = analysis.findings.candidates[0]
    assert "; since 2026-03-05 (examination 1): volume" in _change_text(twice, one)
    kept, new = found.changes
    tangled = replace(
        found,
        changes=(kept, replace(new, beside=(before.id,))),
        alignment=replace(found.alignment, doubtful=True),
    )
    later = replace(analysis, followup=tangled)
    one, other = (_change_text(later, c) for c in analysis.findings.candidates)
    whole = [m.volume_ml[Region.WT] for m in (before, first, second)]
    together = (
        f"volume including merged and split regions {100 * (sum(whole[1:]) / whole[0] - 1):+.1f}%"
    )
    assert one.startswith("; since 2026-01-05 (doubtful comparison): volume +100.0%")
    assert together in one
    assert other == "; split from a region of 2026-01-05 (doubtful comparison)"
