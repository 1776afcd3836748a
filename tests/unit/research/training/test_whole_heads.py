"""Synthetic whole heads: reproducible, of any contrast, with their brain."""

import pytest
import torch
from research.training.whole_heads import generate_heads

SHAPE, SPACING = (48, 56, 56), 4.5


@pytest.fixture(scope="module")
def heads():
    """Two dozen heads, whose generation takes most of the time of these tests."""
    return generate_heads(SHAPE, SPACING, range(24), [1, 2])


def test_a_seed_gives_the_same_image_alone_or_among_others():
    together = generate_heads(SHAPE, SPACING, [3, 4], [1, 2])
    alone = generate_heads(SHAPE, SPACING, [4], [1, 2])
    assert torch.equal(together.image[1:], alone.image)
    assert torch.equal(together.brain[1:], alone.brain)
    assert not torch.equal(together.image[0], together.image[1])


@pytest.mark.slow
def test_brains_have_plausible_volumes_and_some_images_have_none(heads):
    litres = heads.brain.flatten(1).sum(1) * SPACING**3 / 1e6
    assert 2 <= int((litres == 0).sum()) <= 20
    assert float(litres.max()) < 2.6
    assert int((litres > 0.7).sum()) > 6
    assert torch.isfinite(heads.image).all()
    assert float(heads.image.min()) >= 0


def test_the_brain_has_signal(heads):
    for image, brain in zip(heads.image, heads.brain, strict=True):
        inside = image[brain > 0.9]
        if inside.numel() > 200:
            assert float((inside > 0).float().mean()) > 0.5


def test_contrasts_differ(heads):
    level = [
        float(image[brain > 0.9].median()) / float(image.quantile(0.99))
        for image, brain in zip(heads.image, heads.brain, strict=True)
        if (brain > 0.9).sum() > 200
    ]
    assert min(level) < 0.4
    assert max(level) > 0.7
