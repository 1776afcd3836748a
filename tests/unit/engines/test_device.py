"""Devices: what is asked for is given or refused; with `auto` the CPU does what a GPU cannot."""

from __future__ import annotations

import pytest
import torch

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.engines import device


@pytest.fixture
def there(monkeypatch):
    """Let torch have some accelerators of one kind, or none."""

    def place(kind=None, count=0):
        found = torch.device(kind) if kind else None
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: found)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)

    monkeypatch.setattr(torch, "get_device_module", lambda _: torch.cuda)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H200")
    return place


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_auto_takes_the_accelerator_that_torch_offers(there, kind):
    there(kind, 2)
    assert device.choose("auto") == device.choose(kind) == torch.device(kind, 0)
    assert device.choose(f"{kind.upper()}:1") == torch.device(kind, 1)
    with pytest.raises(ResourceError, match=f"{kind}:2"):
        device.choose(f"{kind}:2")


@pytest.mark.parametrize(("kind", "count"), [(None, 0), ("hpu", 1)])
def test_auto_is_the_cpu_where_there_is_no_known_accelerator(there, kind, count):
    there(kind, count)
    assert device.choose("auto") == torch.device("cpu")
    for name in ("cuda", "xpu", "mps"):
        with pytest.raises(ResourceError, match=name):
            device.choose(name)


@pytest.mark.parametrize("requested", ["gpu", "cuda:x", "", "cpu:0", "mps:", "hpu"])
def test_another_name_is_unusable_input(requested):
    with pytest.raises(UnusableInputError):
        device.choose(requested)


@pytest.mark.parametrize(("name", "bfloat16"), [("cpu", False), ("mps", False), ("cuda", True)])
def test_bfloat16_is_used_on_cuda_alone(name, bfloat16):
    place = torch.device(name)
    assert (device.precision_of(place) == "bfloat16") == bfloat16
    if name != "cuda" or torch.cuda.is_available():
        with device.autocast(place):
            assert torch.is_autocast_enabled(name) == bfloat16


LACKING = [
    torch.OutOfMemoryError("CUDA out of memory."),
    NotImplementedError("The operator 'aten::upsample_trilinear3d' is not there"),
    ResourceError("Too little memory."),
]


def work_that(error, placement):
    def work():
        if placement.device.type != "cpu":
            raise error
        return 7

    return work


@pytest.mark.parametrize("error", LACKING, ids=lambda e: type(e).__name__)
def test_auto_falls_back_to_the_cpu_with_a_notice(there, error):
    there("cuda", 1)
    moved = []
    placement = device.Placement("auto", moved.append)
    assert placement.run(work_that(error, placement)) == 7
    assert moved == [placement.device] == [torch.device("cpu")]
    assert "H200" in placement.notices[0]


@pytest.mark.parametrize("error", LACKING, ids=lambda e: type(e).__name__)
def test_a_named_device_that_lacks_something_ends_with_status_1(there, error):
    there("cuda", 1)
    placement = device.Placement("cuda", print)
    with pytest.raises(ResourceError, match="H200") as caught:
        placement.run(work_that(error, placement))
    assert caught.value.exit_status == 1
    assert placement.device.type == "cuda"


def test_other_errors_are_no_lack_of_the_device(there):
    there("cuda", 1)
    placement = device.Placement("auto", print)
    with pytest.raises(RuntimeError, match="shapes"):
        placement.run(work_that(RuntimeError("shapes"), placement))


@pytest.mark.gpu
def test_a_gpu_without_memory_is_left_for_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    placement = device.Placement("auto", lambda _: None)
    free, _ = torch.cuda.mem_get_info()

    def work():
        return torch.empty(
            2 * free if placement.device.type == "cuda" else 1, device=placement.device
        )

    assert placement.run(work).device.type == "cpu"
