"""A step of the optimiser changes the weights, or nothing at all."""

import math

import pytest
import torch
from torch import nn

from lesionlens.training.config import OptimiserConfig
from lesionlens.training.optimiser import Optimiser


@pytest.mark.parametrize("matrix", [True, False])
def test_a_gradient_that_is_not_finite_changes_nothing(matrix):
    torch.manual_seed(0)
    network = nn.Linear(4, 3)
    optimiser = Optimiser(network, OptimiserConfig(matrix=matrix))
    optimiser.step(network(torch.ones(1, 4)).square().sum(), 1.0, 0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    average = {name: value.clone() for name, value in optimiser.average.items()}
    finite = (network.weight - network.weight.detach()).sqrt().sum()  # its slope at 0 is not
    assert not math.isfinite(optimiser.step(finite, 1.0, 1))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(optimiser.average[name], average[name])
    optimiser.step(network(torch.ones(1, 4)).square().sum(), 1.0, 2)
    assert not torch.equal(network.weight, before["weight"])
    assert torch.isfinite(network.weight).all()
