"""DICOM objects: same voxels at the same millimetres, from every plane, and valid."""

import itertools
import shutil
import subprocess
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

from lesionlens.analysis.findings.measure import diameters
from lesionlens.base import codes as own
from lesionlens.base import geometry
from lesionlens.base.errors import ExportError, ReadError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import (
    RESEARCH_USE_NOTICE,
    Label,
    MapExtent,
    MrSequence,
    Region,
    ReviewState,
)
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.review import Review, ReviewEvent
from lesionlens.imaging.reading.open import open_study
from lesionlens.results.documents import (
    record_sent,
)
from lesionlens.results.export.dicom import frame_encoding, pmap, refs
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.results.export.exporter import save
from lesionlens.testing import Lesion

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


def test_without_a_candidate_the_report_says_so(make, tmp_path):
    written = _written(make(dicom=True, lesions=()), tmp_path)
    assert set(written) == {"sr"}  # and no map of what nobody flagged
    assert own.NO_CANDIDATE.value in _words_of(written["sr"])[1]
    read = highdicom.sr.srread(tmp_path / "dicom" / "sr.dcm").content
    assert not read.get_volumetric_roi_measurement_groups()


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


def test_nifti_input_gives_no_dicom(make):
    assert "not DICOM" in DicomExporter().missing(make())


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
