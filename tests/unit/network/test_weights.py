"""Weights travel with all they need, and a changed byte is noticed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lesionlens.base.errors import WeightsError
from lesionlens.imaging.preparation.intensities import INTENSITIES
from lesionlens.network import weights
from lesionlens.network.lens_net import BASE, TINY, LensNetwork
from lesionlens.network.weights import WeightsNotes


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    network = LensNetwork(TINY)
    notes = WeightsNotes(
        version="3",
        spacing_mm=1.5,
        focus_spacing_mm=1.0,
        temperature=(1.1, 1.2, 1.3),
        operating_points=({"threshold": 0.4, "sensitivity": 0.9, "false_per_scan": 0.2},),
        provenance={"data": "synthetic only"},
    )
    path = tmp_path / "w.safetensors"
    return network, notes, path, weights.save(path, network.config, network.state_dict(), notes)


def test_what_is_saved_is_loaded(saved):
    network, notes, path, digest = saved
    again, info = weights.load(path)
    assert info.sha256 == digest
    assert info.config == network.config
    assert info.temperature == notes.temperature
    assert info.focus_spacing_mm == 1.0
    assert info.operating_points[0]["sensitivity"] == 0.9
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)


def test_what_was_loaded_is_saved_again(saved, tmp_path):
    network, _, path, _ = saved
    _, info = weights.load(path)
    again = tmp_path / "again.safetensors"
    digest = weights.save(again, network.config, network.state_dict(), info)
    assert weights.load(again)[1] == replace(info, sha256=digest)


@pytest.mark.parametrize("content", [None, b"", b"not weights at all", b"\x00" * 64])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"x\.safetensors"):
        weights.load(path)


def test_weights_of_another_network_are_refused(saved, tmp_path):
    _, notes, _, _ = saved
    path = tmp_path / "mixed.safetensors"
    weights.save(path, BASE, LensNetwork(TINY).state_dict(), notes)
    with pytest.raises(WeightsError, match="does not hold weights"):
        weights.load(path)


@pytest.mark.parametrize(
    ("name", "size"),
    [("query_dim", 10**7), ("channels", [10**6] * 4), ("layers", 10**9), ("regions", 10**30),
     ("heads", 0), ("heads", 3)],
)  # fmt: skip
def test_sizes_that_are_not_those_of_the_tensors_cost_no_memory(saved, tmp_path, name, size):
    _, _, path, _ = saved
    with safe_open(path, "pt") as stream:
        metadata = stream.metadata()
    sizes = json.loads(metadata["network"]) | {name: size}
    other = tmp_path / "other.safetensors"
    save_file(load_file(path), other, metadata | {"network": json.dumps(sizes)})
    with pytest.raises(WeightsError):
        weights.load(other)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(saved, tmp_path, value):
    network, notes, _, _ = saved
    state = dict(network.state_dict())
    name = next(n for n, tensor in state.items() if tensor.is_floating_point())
    state[name] = state[name] + value
    weights.save(tmp_path / "odd.safetensors", network.config, state, notes)
    with pytest.raises(WeightsError, match="not finite"):
        weights.load(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("name", weights.SHIPPED)
def test_shipped_weights_load_and_are_what_the_hash_says(name):
    network, info = weights.load(name)
    path = weights.FOLDER / f"{name}.safetensors"
    assert info.sha256 == json.loads(path.with_suffix(".json").read_text("utf-8"))["sha256"]
    assert path.stat().st_size <= 16e6
    assert not network.training


def test_the_synthetic_weights_were_trained_on_no_patient():
    assert weights.load("synthetic")[1].provenance["data"] == "synthetic only"


def test_shipped_weights_name_the_scans_that_they_were_trained_on():
    own = weights.load(weights.FOLDER / "default.safetensors")[1].trained_on
    by_intensities = {digest for digest in own if digest.startswith(INTENSITIES)}
    assert len(by_intensities) == 12 * 4  # twelve patients, four sequences
    assert len(set(own) - by_intensities) == 12 * 4
    assert weights.load()[1].trained_on == own
    assert weights.load("synthetic")[1].trained_on == ()


def test_weights_are_chosen_by_name_or_by_file(tmp_path, monkeypatch):
    assert weights.load(None)[1].sha256 == weights.load()[1].sha256
    monkeypatch.chdir(tmp_path)
    network = LensNetwork(TINY)
    digest = weights.save(Path("synthetic"), network.config, network.state_dict(), WeightsNotes())
    assert weights.load("./synthetic")[1].sha256 == digest
    assert weights.load("synthetic")[1].sha256 != digest


@pytest.mark.parametrize("damage", ["no weights", "no record", "changed byte"])
def test_shipped_weights_are_refused_unless_complete_and_unchanged(tmp_path, monkeypatch, damage):
    shipped = weights.FOLDER / "default.safetensors"
    file, record = (Path(shutil.copy(shipped.with_suffix(e), tmp_path))
                    for e in (".safetensors", ".json"))  # fmt: skip
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    assert weights.load("default")[1].sha256 == weights.load()[1].sha256
    if damage == "changed byte":
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    else:
        (file if damage == "no weights" else record).unlink()
    for load in (weights.load, lambda: weights.load("default")):
        with pytest.raises(
            WeightsError, match=r"(?s)default\.safetensors.*Install LesionLens again"
        ):
            load()
