"""Devices: what is asked for is given or refused, never replaced."""

import pytest
import torch

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.inference import device


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.choose("auto") == torch.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.choose("auto") == torch.device("cpu")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device.choose("cuda") == torch.device("cuda:0")
    with pytest.raises(ResourceError, match="1 CUDA device here"):
        device.choose("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ResourceError, match="no CUDA devices here"):
        device.choose("CUDA")


@pytest.mark.parametrize("wish", ["gpu", "cuda:x", "", "cpu:0"])
def test_other_words_are_refused_with_those_that_are_known(wish):
    with pytest.raises(UnusableInputError, match="auto, cpu, cuda or cuda:N"):
        device.choose(wish)


def test_the_cpu_is_described_with_its_threads():
    assert "thread" in device.describe(torch.device("cpu"))
