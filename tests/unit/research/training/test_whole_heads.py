"""Whole heads and other things: repeatable, of any contrast, with the truth of their brain."""

import pytest
import torch
from research.training.whole_heads import generate_heads

SHAPE, SPACING = (48, 56, 56), 4.5


@pytest.fixture(scope="module")
def drawn():
    """Two dozen heads: drawing takes most of the time of these tests."""
    return generate_heads(SHAPE, SPACING, range(24), [1, 2])


def test_the_same_seed_draws_the_same_image_alone_or_among_others():
    both = generate_heads(SHAPE, SPACING, [3, 4], [1, 2])
    alone = generate_heads(SHAPE, SPACING, [4], [1, 2])
    assert torch.equal(both.image[1:], alone.image)
    assert torch.equal(both.brain[1:], alone.brain)
    assert not torch.equal(both.image[0], both.image[1])


@pytest.mark.slow
def test_brains_have_the_size_of_brains_or_are_cut_and_some_images_show_none(drawn):
    litres = drawn.brain.flatten(1).sum(1) * SPACING**3 / 1e6
    assert 2 <= int((litres == 0).sum()) <= 20
    assert float(litres.max()) < 2.6
    assert int((litres > 0.7).sum()) > 6
    assert torch.isfinite(drawn.image).all()
    assert float(drawn.image.min()) >= 0


def test_a_brain_is_seen_wherever_it_lies(drawn):
    for image, brain in zip(drawn.image, drawn.brain, strict=True):
        inside = image[brain > 0.9]
        if inside.numel() > 200:
            assert float((inside > 0).float().mean()) > 0.5


def test_contrasts_differ(drawn):
    level = [
        float(image[brain > 0.9].median()) / float(image.quantile(0.99))
        for image, brain in zip(drawn.image, drawn.brain, strict=True)
        if (brain > 0.9).sum() > 200
    ]
    assert min(level) < 0.4
    assert max(level) > 0.7
