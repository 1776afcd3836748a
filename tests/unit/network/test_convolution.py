"""Convolutions by oneDNN: the numbers of torch's own, only where a CPU predicts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lesionlens.network.convolution import Conv3d

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch was built without oneDNN"
)


@pytest.fixture
def asked(monkeypatch):
    """Count what is computed by oneDNN."""
    calls = []
    known = torch.mkldnn_convolution

    def counted(*given):
        calls.append(given)
        return known(*given)

    monkeypatch.setattr(torch, "mkldnn_convolution", counted)
    return calls


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (1, 2)])
@pytest.mark.parametrize("size", [(6, 5, 4), (40, 32, 24)])
def test_numbers_are_those_of_torch(kernel, stride, size, asked):
    torch.manual_seed(0)
    ours = Conv3d(16, 32, kernel, stride, kernel // 2)
    theirs = nn.Conv3d(16, 32, kernel, stride, kernel // 2)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 16, *size).to(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        assert torch.allclose(ours(x), theirs(x), atol=2e-5)
    assert len(asked) == 1


def test_training_and_other_precisions_stay_with_torch(asked):
    layer, x = Conv3d(8, 8, 3, padding=1), torch.randn(1, 8, 4, 4, 4)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    with torch.inference_mode():
        layer.double()(x.double())
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert layer.float()(x).dtype == torch.bfloat16
    assert not asked


def test_counted_without_computing(asked):
    layer = Conv3d(8, 8, 3, padding=1).to("meta")
    with torch.inference_mode():
        assert layer(torch.empty(1, 8, 4, 4, 4, device="meta")).shape == (1, 8, 4, 4, 4)
    assert not asked


def test_traced_for_export_as_a_plain_convolution(asked):
    with torch.inference_mode():
        program = torch.export.export(Conv3d(8, 8, 3, padding=1), (torch.randn(1, 8, 4, 4, 4),))
    assert not asked
    assert any("conv3d" in str(node.target) for node in program.graph.nodes)
