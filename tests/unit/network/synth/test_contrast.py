"""Brightness of what is drawn: the ties between tissues that real tumours show."""

import torch

from lesionlens.network.synth.contrast import CLASSES, sample_contrast
from lesionlens.network.synth.fields import RandomStreams

T1C, T2 = 1, 2


def share_of_wet_cores(outlined):
    """Share of 400 drawn tumours whose core is darker than its oedema on T1c, brighter on T2."""
    streams = RandomStreams(range(400), torch.device("cpu"))
    levels = sample_contrast(streams, torch.full((400,), outlined))
    core, oedema = levels[..., CLASSES.index("solid")], levels[..., CLASSES.index("oedema")]
    wet = (core[:, T1C] < oedema[:, T1C]) & (core[:, T2] > oedema[:, T2])
    return float(wet.float().mean())


def test_a_core_that_no_uptake_outlines_is_mostly_wetter_than_its_oedema():
    assert share_of_wet_cores(outlined=False) > 0.75


def test_where_uptake_outlines_the_core_its_water_tells_little():
    assert share_of_wet_cores(outlined=True) < 0.6


def test_one_seed_draws_one_contrast():
    first, second = (
        sample_contrast(RandomStreams([7], torch.device("cpu")), torch.tensor([True])) for _ in "ab"
    )
    torch.testing.assert_close(first, second)
