"""Comparison of networks on a very small brain."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from research.speed import baselines, compare_networks, profiler
from research.speed.baselines import Baseline, all_baselines
from research.speed.profiler import MeasurementOptions, measure, window_starts
from torch import nn

from lesionlens.base.errors import CancelledError
from lesionlens.base.run_context import RunContext
from lesionlens.cli.bench import benchmark_conditions
from lesionlens.imaging.samples import STUDY
from lesionlens.network.weights_metadata import WeightsNotes

CPU = torch.device("cpu")
ONCE = MeasurementOptions(repeat=1)


def convolution(window=None, shape=(10, 12, 14)):
    def make():
        return nn.Conv3d(4, 2, 3, padding=1).eval()

    return Baseline("one", "", "all", make, lambda: torch.zeros(1, 4, *shape), window)


@settings(deadline=None, max_examples=30)
@given(st.tuples(*[st.integers(1, 30)] * 3), st.tuples(*[st.integers(5, 20)] * 3))
def test_windows_cover_every_voxel_and_stay_inside(shape, window):
    shape = tuple(max(n, w) for n, w in zip(shape, window, strict=True))
    covered = np.zeros(shape, bool)
    for start in window_starts(shape, window):
        box = tuple(slice(a, a + w) for a, w in zip(start, window, strict=True))
        assert covered[box].shape == window
        covered[box] = True
    assert covered.all()


def test_multiply_adds_are_counted_by_hand():
    cost = measure(convolution(), CPU, ONCE)
    assert cost.gmacs == pytest.approx(10 * 12 * 14 * 27 * 4 * 2 / 1e9)
    assert cost.parameters == 27 * 4 * 2 + 2
    assert cost.grid == (10, 12, 14)
    assert cost.seconds > 0
    assert cost.peak_mib is None or cost.peak_mib > 1


def test_an_estimate_runs_one_window_and_is_marked():
    whole = measure(convolution(window=(8, 8, 8)), CPU, ONCE)
    some = measure(convolution(window=(8, 8, 8)), CPU, MeasurementOptions(1, estimate=True))
    assert whole.passes == some.passes == len(window_starts((10, 12, 14), (8, 8, 8))) > 1
    assert some.estimated
    assert not whole.estimated
    assert some.gmacs == whole.gmacs


def test_a_volume_smaller_than_the_window_is_padded():
    assert measure(convolution(window=(16, 16, 16)), CPU, ONCE).passes == 1


def test_a_measurement_can_be_cancelled():
    stop = threading.Event()
    stop.set()
    with pytest.raises(CancelledError):
        measure(convolution(), CPU, ONCE, RunContext(cancel=stop))


@pytest.mark.slow
def test_lens_processes_the_whole_brain_in_one_pass(make_prepared, monkeypatch):
    monkeypatch.setattr(baselines, "has_monai", lambda: False)
    monkeypatch.setattr(baselines, "_MM", 4.0)
    monkeypatch.setattr(baselines.weights, "load_shipped", _small)
    lens = list(all_baselines(make_prepared(), CPU))
    names = {(c.name, c.form) for c in lens}
    assert len(names) == len(lens)
    forms = {f"{form}, {kind}" for form in ("flash", "readable") for kind in ("fp32", "bf16")}
    for preset in ("tiny", "base", "large", "transformer-only"):
        assert {form for name, form in names if name == f"Lens {preset}"} == forms
    assert {form for name, form in names if name == "Lens cnn-only"} == {"fp32", "bf16"}
    found = [measure(c, CPU, ONCE) for c in lens[:4]]
    assert lens[0].name == "Lens, as shipped"
    assert {cost.passes for cost in found} == {1}
    assert {round(cost.gmacs, 6) for cost in found} == {round(found[0].gmacs, 6)}
    assert found[0].gmacs > 0
    assert found[0].cpu_seconds > 0


def test_a_network_that_cannot_be_measured_is_reported(monkeypatch, make_prepared):
    sent = []

    def broken(prepared, device):
        yield Baseline("big", "", "all", _fail, lambda: torch.zeros(1, 4, 8, 8, 8))

    monkeypatch.setattr(profiler, "all_baselines", broken)
    monkeypatch.setattr(profiler.signal, "signal", lambda *_: None)
    sender = SimpleNamespace(send=sent.append)
    threads = torch.get_num_threads()
    profiler._measure_and_send(sender, make_prepared(), 0, "cpu", threads, ONCE)
    assert sent == ["not enough memory: you tried to allocate 9 TB"]


def _fail():
    raise RuntimeError("not enough memory:\nyou tried to allocate 9 TB")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_monai_processes_the_same_brain(make_prepared, monkeypatch):
    monkeypatch.setattr(baselines, "_MM", 3.0)
    monkeypatch.setattr(baselines, "WINDOW", (64, 64, 64))
    monkeypatch.setattr(baselines.weights, "load_shipped", _small)
    *_, segresnet, fast, swin, _ = all_baselines(make_prepared(), CPU)
    assert (segresnet.name, swin.name) == ("MONAI SegResNet", "MONAI Swin UNETR")
    assert (segresnet.form, fast.form) == ("fp32", "bf16")
    one, two = (measure(c, CPU, MeasurementOptions(1, estimate=True)) for c in (segresnet, swin))
    assert (one.passes, one.grid[0] % 8) == (1, 0)
    assert two.passes == len(window_starts(tuple(max(64, n) for n in two.grid), (64, 64, 64)))


def _small(name="default", device="cpu"):
    network = baselines.channels_last(baselines.build("tiny")).eval()
    return network, WeightsNotes(spacing_mm=8.0)


def test_the_table_compares_monai_with_lens():
    one, two = measure(convolution(), CPU, ONCE), measure(convolution((8, 8, 8)), CPU, ONCE)
    lens = replace(one, form="flash, fp32", seconds=2.0)
    monai = replace(two, name="MONAI it", form="fp32", seconds=6.2)
    rows = [compare_networks.row(cost, lens) for cost in (lens, monai)]
    about = benchmark_conditions("cpu", STUDY)
    page = compare_networks.markdown(rows, ["one was left out"], about)
    assert "| MONAI it | fp32 |" in page
    assert "- MONAI it, fp32: 3.1 times one pass of one" in page
    assert "**one was left out.**" in page
