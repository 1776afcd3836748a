"""Lesions other than gliomas: where they lie, how they look, and what is labelled."""

import dataclasses

import pytest
import torch

from lesionlens.network.synth.generator import GeneratorConfig, generate_geometry, paint
from lesionlens.network.synth.other_lesions import LesionFrequencies
from lesionlens.network.synth.tumour import MENINGIOMA, METASTASES

COARSE = GeneratorConfig(shape=(44, 54, 44), spacing_mm=(4.0, 4.0), tumour_free=0.0)
CLEAN = dataclasses.replace(COARSE.damage, bias=0, thick=0, protocol=0, spoiled=0, shift_mm=0)
T1, T1C, T2, FLAIR = range(4)


def with_kinds(**shares):
    return dataclasses.replace(COARSE, kinds=LesionFrequencies(**shares))


@pytest.mark.slow
def test_meningiomas_are_solid_enhance_and_touch_the_surface():
    config = dataclasses.replace(with_kinds(meningioma=1.0), damage=CLEAN)
    geometry = generate_geometry(config, range(12))
    assert (geometry.kind == MENINGIOMA).all()
    batch = paint(config, geometry, range(12))
    touching = bright = seen = 0
    for labels, brain, image in zip(batch.labels, batch.brain, batch.channels, strict=True):
        core = labels[1].bool()
        if core.sum() < 8:
            continue
        seen += 1
        outside = torch.nn.functional.max_pool3d((~brain)[None].float(), 5, 1, 2)[0] > 0
        touching += bool((core & outside).any())
        rest = brain & ~labels[0].bool()
        bright += bool(image[T1C][core].median() > 1.15 * image[T1C][rest].median())
    assert seen >= 8
    assert touching >= 0.8 * seen
    assert bright >= 0.9 * seen


@pytest.mark.slow
def test_metastases_are_small_and_some_are_many():
    plan = generate_geometry(with_kinds(metastases=1.0), range(12))
    assert (plan.kind == METASTASES).all()
    assert plan.instances.flatten(1).amax(1).unique().numel() > 1
    core_ml = plan.labels[:, 1].flatten(1).sum(1) * 0.064
    assert core_ml.median() < 15


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["haematoma", "infarct"])
def test_mimics_are_drawn_but_not_labelled(kind):
    free = dataclasses.replace(COARSE, tumour_free=1.0, damage=CLEAN)
    shown = dataclasses.replace(free, kinds=LesionFrequencies(**{kind: 1.0}))
    geometry = generate_geometry(shown, range(6))
    mask = (geometry.mimics.blood + geometry.mimics.infarct)[:, 0] > 0.5
    assert (mask.flatten(1).sum(1) > 0).sum() >= 4
    without = generate_geometry(free, range(6))
    one, other = paint(shown, geometry, range(6)), paint(free, without, range(6))
    assert not one.labels.any()
    assert torch.equal(geometry.instances, without.instances)
    changed = (one.channels - other.channels).abs() > 0.05 * other.channels.amax((2, 3, 4), True)
    assert changed.any(1)[mask].float().mean() > 0.8


@pytest.mark.slow
def test_an_isointense_core_is_as_bright_as_cortex_on_flair():
    plain, alike = COARSE, with_kinds(isointense=1.0)
    plain, alike = (dataclasses.replace(c, damage=CLEAN) for c in (plain, alike))
    geometry = generate_geometry(plain, range(12))
    solid, cortex = geometry.membership[:, 6] > 0.8, geometry.membership[:, 0] > 0.8

    def contrast(config):
        image = paint(config, geometry, range(12)).channels[:, FLAIR]
        rows = zip(image, solid, cortex, strict=True)
        return torch.tensor(
            [float((i[s].median() / i[c].median() - 1).abs()) for i, s, c in rows if s.sum() > 10]
        )

    shown = contrast(alike)
    assert len(shown) >= 3
    assert shown.median() < 0.5 * contrast(plain).median()
