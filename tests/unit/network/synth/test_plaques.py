"""Plaques: where they lie, how they look, and that other seeds' volumes stay as they were."""

import dataclasses

import pytest
import torch

from lesionlens.network.synth.fields import blur
from lesionlens.network.synth.generator import GeneratorConfig, draw, generate_geometry, paint
from lesionlens.network.synth.other_lesions import LesionFrequencies

COARSE = GeneratorConfig(shape=(48, 58, 48), spacing_mm=(3.5, 3.5), tumour_free=1.0)
CLEAN = dataclasses.replace(COARSE.damage, bias=0, thick=0, protocol=0, spoiled=0, shift_mm=0)
SHOWN = dataclasses.replace(COARSE, damage=CLEAN, kinds=LesionFrequencies(plaques=1.0))
T1, T1C, T2, FLAIR = range(4)
SEEDS = range(6)


@pytest.fixture(scope="module")
def geometry():
    return generate_geometry(SHOWN, SEEDS)


@pytest.mark.slow
def test_plaques_lie_in_white_matter_mostly_near_ventricle_or_cortex(geometry):
    tissue, plaques = geometry.anatomy.tissue, geometry.plaques.every[:, 0] > 0.5
    assert (plaques.flatten(1).sum(1) > 0).sum() >= 5
    assert tissue[:, 1][plaques].mean() > 0.6
    near = blur(tissue[:, 3:4], geometry.frame, 6.0)[:, 0]
    white = tissue[:, 1] > 0.8
    assert near[plaques].mean() > 1.3 * near[white].mean()


def test_they_are_bright_on_flair_unlabelled_and_the_holes_dark_on_t1(geometry):
    shown, plain = (
        paint(SHOWN, geometry, SEEDS),
        draw(dataclasses.replace(SHOWN, kinds=LesionFrequencies()), SEEDS),
    )
    assert torch.equal(shown.labels, plain.labels)
    change = (shown.channels - plain.channels) / plain.channels.amax((2, 3, 4), keepdim=True)
    inside = geometry.plaques.every[:, 0] > 0.8
    holes = geometry.plaques.holes[:, 0] > 0.8
    assert change[:, FLAIR][inside].median() > 0.02
    assert change[:, T2][inside].median() > 0.02
    assert change[:, T1][holes].median() < -0.02
