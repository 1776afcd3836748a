"""The contrast between tissues is measured relative to white matter, and bounded as evidence."""

import numpy as np
import pytest

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.preparation.checks import tissue_contrast


def test_figures_are_ratios_to_white_matter():
    shares = np.zeros((3, 12, 12, 12), np.float32)
    for index in range(3):
        shares[index, 4 * index : 4 * index + 4] = 1.0
    image = np.tensordot(np.array([600, 300, 1200], np.float32), shares, 1)
    found = tissue_contrast.measure_tissues(image, shares, np.ones(image.shape, bool))
    assert found.grey == 0.5
    assert found.fluid == (2.0, 2.0)
    assert found.bright == (2.0, 2.0)
    np.testing.assert_allclose(found.features[1], np.log(2.0))
    assert tissue_contrast.measure_tissues(image, shares * 0.4, np.ones(image.shape, bool)) is None


def test_a_class_is_nearest_to_itself():
    for index, mean in enumerate(tissue_contrast.MEANS):
        chances, distance = tissue_contrast.posterior(
            mean, tissue_contrast.MEANS, tissue_contrast.INVERSE
        )
        assert chances.argmax() == index
        assert chances.sum() == pytest.approx(1.0)
        assert distance == 0.0


@pytest.mark.parametrize(
    ("chances", "distance", "odds"),
    [
        ([0.0, 0.0, 1.0, 0.0], 1.0, 1e4),
        ([0.5, 0.5, 0.0, 0.0], 1.0, 1e-4),
        ([0.2, 0.2, 0.4, 0.2], 1.0, 2 / 3),
        ([0.0, 0.0, 1.0, 0.0], 7.0, 1.0),
    ],
)
def test_odds_of_t2_are_bounded_and_even_for_an_unusual_image(monkeypatch, chances, distance, odds):
    found = tissue_contrast.TissueContrast(0.8, (0.3, 0.5), (1.2, 1.6))
    placed = []
    monkeypatch.setattr(
        tissue_contrast, "register_tissues", lambda *a: placed.append(a) or (None, None)
    )
    monkeypatch.setattr(tissue_contrast, "measure_tissues", lambda *_: found)
    monkeypatch.setattr(tissue_contrast, "posterior", lambda *_: (np.array(chances), distance))
    images = {
        MrSequence.T1: np.ones((3, 3, 3), np.float32),
        MrSequence.T2: np.ones((3, 3, 3), np.float32),
    }
    judged = tissue_contrast.t2_log_odds(images, Grid((3, 3, 3), np.eye(4)))
    assert len(placed) == 1
    assert {name: np.exp(value) for name, value in judged.items()} == {
        MrSequence.T1: pytest.approx(odds),
        MrSequence.T2: pytest.approx(odds),
    }


def test_a_field_of_view_of_metres_says_nothing_and_takes_no_time(monkeypatch):
    monkeypatch.setattr(tissue_contrast, "on_ras_grid", None)
    grid = Grid((64, 64, 64), np.diag([50.0, 50.0, 50.0, 1.0]))
    images = dict.fromkeys((MrSequence.T1, MrSequence.T2), np.ones(grid.shape, np.float32))
    assert set(tissue_contrast.t2_log_odds(images, grid).values()) == {0.0}
