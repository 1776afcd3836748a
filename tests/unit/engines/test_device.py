"""Devices: what is asked for is given or refused; what one lacks is done on the CPU, and said."""

import pytest
import torch

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.base.labels import ComputePrecision
from lesionlens.engines import device
from lesionlens.training.optimiser import orthogonalise


@pytest.fixture
def there(monkeypatch):
    """Let torch have some accelerators of one kind, or none."""

    def place(kind=None, count=0):
        found = torch.device(kind) if kind else None
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: found)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)

    return place


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_auto_takes_the_accelerator_that_torch_offers(there, kind):
    there(kind, 2)
    assert device.choose("auto") == torch.device(kind, 0)
    assert device.choose(kind) == torch.device(kind, 0)
    assert device.choose(f"{kind.upper()}:1") == torch.device(kind, 1)
    there()
    assert device.choose("auto") == torch.device("cpu")


def test_an_accelerator_of_a_kind_that_nobody_tried_is_not_taken_unasked(there):
    there("hpu", 1)
    assert device.choose("auto") == torch.device("cpu")


def test_a_gpu_that_is_not_there_is_refused(there):
    there("cuda", 1)
    with pytest.raises(ResourceError, match="1 CUDA device here"):
        device.choose("cuda:1")
    with pytest.raises(ResourceError, match="no XPU devices here"):
        device.choose("xpu")
    there()
    with pytest.raises(ResourceError, match="no CUDA devices here"):
        device.choose("CUDA")
    with pytest.raises(ResourceError, match="no MPS devices here"):
        device.choose("mps")


@pytest.mark.parametrize("requested", ["gpu", "cuda:x", "", "cpu:0", "mps:", "hpu"])
def test_other_words_are_refused_with_those_that_are_known(requested):
    with pytest.raises(UnusableInputError, match="auto, cpu, cuda, cuda:N, xpu, xpu:N or mps"):
        device.choose(requested)


def test_devices_are_described(monkeypatch):
    assert "thread" in device.describe(torch.device("cpu"))
    assert device.describe(torch.device("mps", 0)) == "Apple GPU (mps:0)"
    monkeypatch.setattr(torch.xpu, "get_device_name", lambda *_: "Arc")
    assert device.describe(torch.device("xpu", 1)) == "Arc (xpu:1)"


@pytest.mark.parametrize(
    ("found", "fast"), [({"avx2": True}, False), ({"avx512_bf16": True}, True), ({}, False)]
)
def test_bfloat16_is_left_where_it_would_be_emulated(monkeypatch, found, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    with device.autocast(torch.device("mps")):
        assert not torch.is_autocast_enabled("mps")
    with device.autocast(torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu") == fast
    matrix = torch.randn(24, 40, generator=torch.Generator().manual_seed(1))
    singular = torch.linalg.svdvals(orthogonalise(matrix))
    assert singular.min() > 0.6
    assert singular.max() < 1.3


@pytest.mark.parametrize("found", [{"avx2": True}, {"avx512_bf16": True, "amx_bf16": True}])
def test_a_cpu_predicts_in_float32_whatever_it_can(monkeypatch, found):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    cpu = torch.device("cpu")
    assert device.choose_precision(cpu) is ComputePrecision.FLOAT32
    with device.autocast_for(device.choose_precision(cpu), cpu):
        assert not torch.is_autocast_enabled("cpu")
    assert device.choose_precision(torch.device("cuda", 0)) is ComputePrecision.BFLOAT16


def test_an_operation_that_a_device_lacks_is_done_on_the_cpu_and_that_is_reported():
    moved, tried = [], []

    def act():
        tried.append(placement.device.type)
        if placement.device.type != "cpu":
            raise NotImplementedError("The operator 'aten::upsample_trilinear3d' is not there")
        return 7

    placement = device.DevicePlacement(torch.device("mps", 0), moved.append)
    assert placement.run(act) == 7
    assert (tried, moved) == (["mps", "cpu"], [torch.device("cpu")])
    (notice,) = placement.notices
    assert "Apple GPU" in notice
    assert "upsample_trilinear3d" in notice
    assert placement.run(act) == 7
    assert tried[2:] == ["cpu"]


def test_what_the_cpu_lacks_is_an_error():
    def act():
        raise NotImplementedError("not even here")

    with pytest.raises(NotImplementedError):
        device.DevicePlacement(torch.device("cpu"), print).run(act)
