"""What is read of the segments of DICOM objects: distance of slices, parts of lesions."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from lesionlens.base.grid import Grid
from lesionlens.results.review.segments import (
    Frame,
    Part,
    SegmentKind,
    _declared_spacing_mm,
    _segment,
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
    assert (found.part, found.kind) == (part, SegmentKind.LESION)


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
