"""One regression for two examinations: its fit, and the balance of its classes."""

import numpy as np
import pytest
from scipy import optimize

from lesionlens.analysis.followup import lesion_probability
from lesionlens.analysis.followup.lesion_probability import fit_probability
from lesionlens.analysis.followup.matched_intensity import VoxelRoles

SHAPE = (24, 20, 20)
BRAIN = np.ones(SHAPE, bool)
X = np.indices(SHAPE)[0]


def roles(band, inside, outside):
    return VoxelRoles(BRAIN, BRAIN, band, BRAIN, inside, outside)


def test_the_coefficients_minimise_the_weighted_logistic_loss_with_a_ridge():
    """The ridge spares the intercept."""
    rng = np.random.default_rng(4)
    rows = np.column_stack([np.ones(300), rng.normal(size=(300, 3))])
    is_lesion = (rows @ [0.5, 1.0, -2.0, 0.0] + rng.normal(size=300) > 0).astype(float)
    weight = rng.uniform(0.2, 2, 300)

    def loss(coefficients):
        margins = (rows @ coefficients) * np.where(is_lesion > 0, 1, -1)
        return (weight * np.logaddexp(0, -margins)).sum() + (coefficients[1:] ** 2).sum() / 2

    expected = optimize.minimize(loss, np.zeros(4), tol=1e-10).x
    found = lesion_probability._logistic(rows, is_lesion, weight)
    assert found == pytest.approx(expected, abs=1e-4)


def test_images_that_show_nothing_leave_every_voxel_undecided():
    """Whatever the numbers of voxels of either kind."""
    even = np.full((1, *SHAPE), 3.0, np.float32)
    found = fit_probability((even, even), roles(BRAIN, X < 2, X >= 6))
    assert np.allclose(found.before, 0.5, atol=1e-3)
    assert np.allclose(found.now, 0.5, atol=1e-3)
    assert (found.inside, found.outside) == pytest.approx((0.5, 0.5), abs=1e-3)


@pytest.mark.parametrize("grows", [True, False])
def test_a_lesion_between_the_intensities_of_two_tissues_is_found_in_each_examination(grows):
    small, large = np.select([X < 6, X < 14], [0, 2], 1.0), np.select([X < 6, X < 10], [0, 2], 1.0)
    images = [image[None].astype(np.float32) for image in (small, large)]
    sides = images if grows else images[::-1]
    found = fit_probability(sides, roles((X >= 11) & (X < 13), X >= 16, X < 9))
    smaller, larger = (found.before, found.now) if grows else (found.now, found.before)
    assert found.before.shape == found.now.shape == (2 * 20 * 20,)
    assert smaller.max() < 0.1
    assert larger.min() > 0.9
    assert found.outside < 0.1
    assert found.inside > 0.9


def test_the_units_of_an_image_do_not_matter():
    rng = np.random.default_rng(2)
    images = [rng.normal(size=(2, *SHAPE)).astype(np.float32) + (X < 8) for _ in range(2)]
    units = np.array([20.0, 0.05], np.float32)[:, None, None, None]
    plain, scaled = (
        fit_probability([image * unit + unit for image in images], roles(X == 10, X < 8, X >= 12))
        for unit in (np.ones_like(units), units)
    )
    assert np.ptp(plain.now) > 0.01
    assert np.allclose(scaled.now, plain.now, rtol=1e-3)
    assert scaled.inside == pytest.approx(plain.inside, rel=1e-3)
