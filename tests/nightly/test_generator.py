"""Synthetic patients: repeatable, nested, and like a stripped scan."""

import dataclasses

import pytest
import torch
from training.synth.generator import GeneratorConfig, draw, generate_geometry, paint

pytestmark = pytest.mark.slow
COARSE = GeneratorConfig(shape=(44, 54, 44), spacing_mm=(4.0, 4.0), tumour_free=0.0)


@pytest.fixture(scope="module")
def drawn():
    return draw(COARSE, [11, 12, 13])


def test_same_seed_same_patient(drawn):
    again = draw(COARSE, [11, 12, 13])
    assert torch.equal(again.channels, drawn.channels)
    assert torch.equal(again.labels, drawn.labels)


def test_a_patient_does_not_depend_on_the_others_in_the_batch(drawn):
    alone = draw(COARSE, [12])
    torch.testing.assert_close(alone.channels[0], drawn.channels[1], rtol=1e-3, atol=0.5)
    assert (alone.labels[0] != drawn.labels[1]).float().mean() < 1e-4


def test_labels_are_nested_and_inside_the_brain(drawn):
    wt, tc, et = drawn.labels.bool().unbind(1)
    assert wt.flatten(1).any(1).all()
    assert not (tc & ~wt).any()
    assert not (et & ~tc).any()
    assert not (wt & ~drawn.brain).any()


def test_channels_are_positive_inside_and_zero_outside(drawn):
    outside = ~drawn.brain[:, None].expand_as(drawn.channels)
    assert float(drawn.channels.min()) >= 0
    assert not drawn.channels[outside].any()
    assert float(drawn.channels.amax((2, 3, 4)).min()) > 10
    assert torch.isfinite(drawn.zscored).all()


def test_tumour_free_means_no_label():
    free = dataclasses.replace(COARSE, tumour_free=1.0)
    assert not draw(free, [1, 2]).labels.any()


def test_another_painting_keeps_the_geometry():
    geometry = generate_geometry(COARSE, [5])
    one, two = (paint(COARSE, geometry, [5], round_) for round_ in (0, 1))
    assert torch.equal(one.labels, two.labels)
    assert not torch.allclose(one.zscored, two.zscored)


def test_a_head_surrounds_the_brain():
    head = dataclasses.replace(COARSE, shape=(56, 64, 56), head=True)
    scan = draw(head, [3])
    assert (scan.channels[0, 0] > 0).sum() > 1.15 * scan.brain.sum()
    assert not scan.zscored[:, :, ~scan.brain[0]].any()
