"""Smooth fields and filters."""

import pytest
import torch

from lesionlens.network.synth.fields import (
    RandomStreams,
    SyntheticFrame,
    along_axes,
    blur,
    noise,
    slice_matrix,
)

CPU = torch.device("cpu")


def _frame(shape=(30, 34, 28), spacing=3.0, batch=1):
    return SyntheticFrame(shape, torch.full((batch,), spacing))


@pytest.mark.parametrize("wavelength", [8.0, 25.0, 60.0])
def test_noise_has_unit_variance_at_any_wavelength(wavelength):
    seeds = list(range(12))
    frame = _frame(batch=12)
    field = noise(RandomStreams(seeds, CPU), frame, torch.full((12,), wavelength), low=8, octaves=2)
    assert abs(float(field.mean())) < 0.25
    assert 0.75 < float(field.std()) < 1.25


def test_a_seed_gives_the_same_numbers_whatever_its_neighbours():
    alone = RandomStreams([7], CPU).normal(5)
    among = RandomStreams([3, 7, 9], CPU).normal(5)[1:2]
    assert torch.equal(alone, among)


def test_filters_keep_a_constant_constant():
    ones = torch.ones(1, 2, 30, 34, 28)
    torch.testing.assert_close(blur(ones, _frame(), 5.0), ones)
    matrices = [slice_matrix(torch.tensor([2.5]), torch.tensor([0.4]), n) for n in (30, 34, 28)]
    torch.testing.assert_close(along_axes(ones, matrices), ones)


def test_a_shift_moves_by_whole_voxels():
    matrix = slice_matrix(torch.tensor(1.0), torch.tensor(2.0), 12)
    line = torch.arange(12.0)
    torch.testing.assert_close((matrix @ line)[:9], line[2:11])
