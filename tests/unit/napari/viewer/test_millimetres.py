"""The world of a viewer with a study is in millimetres, whatever units other layers have."""

import numpy as np
import pytest
from napari.components import ViewerModel

from lesionlens.napari.loading import KEY
from lesionlens.napari.viewer.millimetres import Millimetres

PLACE = (22.0, -9.0, 25.0)
OF_STUDY = {"scale": (5,) * 3, "translate": (-50,) * 3, "units": ("mm",) * 3}
MICROSCOPY = {"scale": (7000,) * 3, "translate": (-70000,) * 3, "units": ("um",) * 3}
OVER_TIME = {"scale": (1, 7000, 7000, 7000), "units": ("s", "um", "um", "um")}
PLAIN = {"scale": (7,) * 3}


@pytest.fixture
def viewer():
    made = ViewerModel()
    made.add_image(np.zeros((20, 20, 20)), metadata={KEY: {}}, name="study", **OF_STUDY)
    made.dims.set_point((0, 1, 2), PLACE)
    units = Millimetres(made)
    units.connect()
    yield made
    units.release()


def add(viewer, name, places):
    viewer.add_image(np.zeros((20,) * len(places["scale"])), name=name, **places)


def in_mm(viewer):
    """Whether the study lies at its millimetres, and the slices where they were."""
    (low, high) = viewer.layers.extent.world[:, -3:]
    steps = [reach.step for reach in viewer.dims.range[-3:]]
    return (
        tuple(viewer.dims.point[-3:]) == PLACE
        and low.min() <= -50
        and high.max() < 200
        and max(steps) <= 5
    )


@pytest.mark.parametrize("other", [MICROSCOPY, OVER_TIME, PLAIN])
def test_another_layer_leaves_the_study_and_its_slices_where_they_are(viewer, other):
    """Beside an image in micrometres the candidate at 22 mm was looked for at 22 micrometres."""
    add(viewer, "other", other)
    assert in_mm(viewer)
    units = viewer.layers.units
    assert units is None or {str(one) for one in units} <= {"millimeter", "second"}
    viewer.layers.remove("other")
    assert in_mm(viewer)
    assert [str(one) for one in viewer.layers.units] == ["millimeter"] * 3


def test_layers_in_pixels_come_and_go_beside_one_in_micrometres(viewer):
    add(viewer, "cells", MICROSCOPY)
    add(viewer, "plain", PLAIN)
    assert viewer.layers.units is None
    assert tuple(viewer.dims.point) == PLACE
    viewer.layers.remove("plain")
    assert in_mm(viewer)


def test_units_that_a_layer_is_given_later_change_nothing(viewer):
    add(viewer, "other", PLAIN)
    viewer.layers["other"].units = ("um",) * 3
    assert [str(one) for one in viewer.layers.units] == ["millimeter"] * 3


def test_without_a_study_the_units_are_napari_s(viewer):
    viewer.layers.remove("study")
    add(viewer, "cells", MICROSCOPY)
    assert [str(one) for one in viewer.layers.units] == ["micrometer"] * 3
