"""Predictions travel whole: every field of a record comes back as it was."""

from dataclasses import fields, replace

import numpy as np
import pytest

pytest.importorskip("fastapi")

from tests.helpers.local_server import QuickEngine

from lesionlens.base.errors import ServerError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.prediction import InputPerturbation, PerturbedPrediction
from lesionlens.base.run_context import SILENT
from lesionlens.engines.remote import messages
from lesionlens.engines.testing.engine_contract import prepared_head

SHAPE = (4, 5, 6)


@pytest.fixture
def perturbed():
    """A prediction in which no field is at its default."""
    rng = np.random.default_rng(3)
    return PerturbedPrediction(
        probability=rng.random((2, *SHAPE), np.float32),
        grid=Grid(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0])),
        inner=rng.random((2, 2, *SHAPE), np.float32),
        thresholds=(0.5, 0.4),
        lesion_scores=rng.random((2, *SHAPE), np.float32),
    )


def assert_same(one, other):
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert a is not None, f"{field.name} is not tried"
        if isinstance(a, Grid):
            assert a.matches(b, 0.0)
        elif isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b, field.name


def test_every_field_of_a_perturbed_prediction_comes_back(perturbed):
    assert_same(perturbed, messages.deserialise_perturbed(*messages.serialise_perturbed(perturbed)))


def test_every_field_of_a_perturbation_comes_back():
    hidden = np.zeros(SHAPE, bool)
    hidden[1:3] = True
    asked = InputPerturbation((True, False, True, False), True, hidden, True, True)
    (back,) = messages.deserialise_perturbations(*messages.serialise_perturbations([asked]))
    assert_same(asked, back)


def test_scores_of_small_lesions_and_unsegmented_regions_come_back_with_a_prediction(perturbed):
    study = prepared_head()
    made = replace(QuickEngine().predict(study, context=SILENT), trace=None)
    made = replace(made, unperturbed=perturbed, unsegmented=(Region.ET,))
    header, arrays = messages.serialise_prediction(made)
    back = messages.deserialise_prediction(header, arrays, "there", lambda _: None, lambda *_: None)
    assert_same(perturbed, back.unperturbed)
    assert back.unsegmented == (Region.ET,)


def test_a_grid_that_no_scan_can_have_is_an_unreadable_manifest():
    manifest = {"grid": {"shape": [4, 4, 4], "affine": np.zeros((4, 4)).tolist()}}
    with pytest.raises(ServerError, match="a manifest of a study that cannot be read"):
        messages.voxels_of(manifest)
    with pytest.raises(ServerError, match="the parts of a study that cannot be read"):
        messages.deserialise_study(manifest, {}, 1 << 30)
