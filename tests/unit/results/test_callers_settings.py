"""An analysis does not depend on what the caller set in torch, and changes none of it."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from tests.phantoms.files import write_nifti

from lesionlens import Lens, open_study
from lesionlens.network import prompt_net
from lesionlens.network.unet import load_unet
from lesionlens.network.weights import shipped_file

pytestmark = pytest.mark.usefixtures("coarse")


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(name):
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


SETTINGS = {
    "default device": lambda: default_device("meta"),
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
}


@pytest.fixture(scope="module")
def study_and_result(tmp_path_factory, coarse, patient, refining_weights):
    folder = tmp_path_factory.mktemp("settings")
    write_nifti(patient, folder)
    return folder, _values(folder, refining_weights)


def _values(folder, weights):
    result = Lens("cpu", weights=weights)(open_study(folder))
    volumes = result.analysis.volumes
    point = tuple(n // 2 for n in result.labels.data.shape)
    prompted = result.prompt(points=[(point, True)], region="wt")
    probed = result.probe(point)
    maps = [v.data for by_region in (volumes.probability, volumes.attention)
            for v in by_region.values()]  # fmt: skip
    return [volumes.labels.data, *maps, prompted.data, probed.data]


@pytest.mark.parametrize("setting", SETTINGS)
def test_results_are_the_same_whatever_the_caller_set(setting, study_and_result, refining_weights):
    folder, expected = study_and_result
    with SETTINGS[setting]():
        values = _values(folder, refining_weights)
    for value, reference in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, reference, atol=1e-3)


@pytest.mark.parametrize("setting", ["float64", "bfloat16"])
def test_shipped_networks_are_float32_and_take_no_random_numbers(setting):
    state, path = torch.get_rng_state(), shipped_file("small_lesions")
    with SETTINGS[setting]():
        for network in (load_unet(path, 5), prompt_net.load()[0]):
            assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert torch.equal(torch.get_rng_state(), state)
