"""What the segments of DICOM objects state: distance of slices, parts of lesions, who outlined."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from lesionlens.base.grid import Grid
from lesionlens.base.labels import DrawingMethod, Region, Source
from lesionlens.base.records.findings import LESION_PARTS
from lesionlens.results.review.report_items import ReportedCandidate
from lesionlens.results.review.segments import (
    Frame,
    Part,
    ReadSegment,
    _declared_spacing_mm,
    _segment,
    drawing_methods,
    sources_of,
    unknown_parts,
)


def stack(stated: float | None, thickness: float | None, depths: tuple[float, ...]):
    """Return a Segmentation of axial frames at depths (mm), and the frames."""
    measures, shared, ds = Dataset(), Dataset(), Dataset()
    measures.SpacingBetweenSlices, measures.SliceThickness = stated, thickness
    shared.PixelMeasuresSequence = [measures]
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = [Dataset() for _ in depths]
    planes = [np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, depth]]) for depth in depths]
    return ds, [Frame(1, np.ones((2, 2), bool), plane) for plane in planes]


@pytest.mark.parametrize(
    ("stated", "thickness", "depths", "spacing"),
    [
        (5.0, 4.0, (0, 10, 20), 5.0),
        (4.0, 4.4, (0, 8, 16), 4.0),  # within a tenth of the thickness
        (1.0, 5.0, (12, 0, 6), 6.0),  # stated is the gap between slices
        (1.0, 5.0, (0, 12), 1.0),  # two slices need not be neighbours
        (None, 5.0, (0, 12), 5.0),
        (None, 5.0, (0, 6, 18), 5.0),  # nor do uneven ones
        (None, 5.0, (0,), 5.0),
        (None, None, (0, 6), None),
    ],
)
def test_the_distance_of_slices_is_the_stated_one_unless_that_is_a_gap(
    stated, thickness, depths, spacing
):
    assert _declared_spacing_mm(*stack(stated, thickness, depths)) == spacing


def segment(uid: str | None = None, **values: object) -> ReadSegment:
    fields = {"label": "", "part": Part.WHOLE, "lesion": True, "organ": False, "resampled": False}
    return ReadSegment(tracking_uid=uid, mask=np.ones((1, 1, 1), bool), **{**fields, **values})


@pytest.mark.parametrize(
    ("parts", "absent", "unknown"),
    [
        ((Part.WHOLE,), (), LESION_PARTS),
        ((Part.OEDEMA,), (), LESION_PARTS),
        ((Part.WHOLE, Part.CORE), (), {Region.ET}),
        ((Part.WHOLE,), (Region.TC,), {Region.ET}),
        ((Part.WHOLE, Part.ENHANCING), (), set()),
        ((Part.WHOLE,), (Region.TC, Region.ET), set()),
    ],
)
def test_parts_without_a_segment_are_unknown_unless_the_report_denies_them(parts, absent, unknown):
    own, other = [segment("1.1", part=part) for part in parts], segment("1.2")
    reported = {"1.1": ReportedCandidate(absent=frozenset(absent))}
    by_lesion = unknown_parts([*own, other], reported, by_lesion=True)
    assert by_lesion["1.1"] == unknown
    assert by_lesion["1.2"] == LESION_PARTS
    of_others = unknown_parts([*own, other], {}, by_lesion=False)
    assert of_others["1.2"] == of_others["1.1"], "segments of other programs apply to all lesions"


def test_the_report_says_who_flagged_a_candidate_before_its_segments_do():
    segments = [segment("1.1", is_networks=True), segment("1.2", is_networks=True), segment("1.3")]
    reported = {"1.2": ReportedCandidate(source=Source.READER)}
    assert sources_of(segments, reported) == {"1.1": Source.NETWORK, "1.2": Source.READER}


def test_how_a_lesion_was_outlined_is_known_where_its_segments_agree():
    manual, automatic = DrawingMethod.MANUAL, DrawingMethod.AUTOMATIC
    segments = [segment(uid, drawing_method=method) for uid, method in (
        ("1.1", manual), ("1.1", manual), ("1.2", manual), ("1.2", automatic), ("1.3", None),
    )]  # fmt: skip
    assert drawing_methods(segments) == {None: None, "1.1": manual, "1.2": None, "1.3": None}
    assert drawing_methods(segments[:3]) == {None: manual, "1.1": manual, "1.2": manual}


def read(label: str = "", category: str = "", method: str = "", identified: bool = False):
    """Return what is read of a segment that fills a grid of 2 × 2 × 3 voxels."""
    item = Dataset()
    item.SegmentLabel, item.SegmentAlgorithmType = label, method
    if category:
        item.SegmentedPropertyCategoryCodeSequence = [Dataset()]
        item.SegmentedPropertyCategoryCodeSequence[0].CodeValue = category
    if identified:
        item.SegmentationAlgorithmIdentificationSequence = [Dataset()]
    frames = stack(5.0, 5.0, (0.0, 5.0, 10.0))[1]
    return _segment(item, frames, 5.0, Grid((2, 2, 3), np.diag([-1.0, -1.0, 5.0, 1.0])))


def test_a_segment_without_codes_is_read_as_drawn():
    found = read("Region 1")
    assert (found.part, found.lesion, found.organ, found.cavity) == (
        Part.WHOLE,
        False,
        False,
        False,
    )
    assert found.mask.all()
    assert not found.resampled


@pytest.mark.parametrize(
    ("label", "part"),
    [
        ("Enhancing tumor", Part.ENHANCING),
        ("Non-enhancing tumour", Part.CORE),
        ("necrosis", Part.CORE),
        ("Peritumoral_edema", Part.OEDEMA),
        ("Tumor", Part.WHOLE),
        ("Surrounding non-enhancing FLAIR hyperintensity", Part.OEDEMA),
        ("SNFH", Part.OEDEMA),
        ("NETC", Part.CORE),
        ("ET", Part.ENHANCING),
        ("Enhancing tumor and edema", Part.OEDEMA),
        ("tumor core without edema", Part.CORE),
        ("Enhancing_tumor_(no_necrosis)", Part.ENHANCING),
        ("Tumor excluding resection cavity", Part.WHOLE),
    ],
)
def test_the_part_of_a_lesion_is_read_from_its_name(label, part):
    found = read(label)
    assert (found.part, found.lesion, found.cavity) == (part, True, False)


def test_the_short_name_of_the_resection_cavity_is_read_unless_it_is_anatomy():
    assert read("RC", "49755003").cavity
    assert read("Resection_cavity").cavity
    assert not read("RC", "123037004").cavity
    assert not read("ARC", "49755003").cavity


def test_anatomy_is_no_lesion_unless_it_is_named_one():
    assert read("Brain", "123037004").organ
    assert read("Brain without tumour", "123037004").organ
    assert not read("Brain metastasis", "123037004").organ
    assert not read("Brain", "49755003").organ
    assert read("Brain", "49755003").lesion


@pytest.mark.parametrize(
    ("method", "identified", "is_networks"),
    [
        ("AUTOMATIC", True, True),
        ("AUTOMATIC", False, False),
        ("SEMIAUTOMATIC", True, False),
        ("", False, False),
    ],
)
def test_a_segment_is_the_network_s_if_an_identified_program_alone_outlined_it(
    method, identified, is_networks
):
    assert read("Tumor", method=method, identified=identified).is_networks is is_networks
