"""The scripts of training/ take a few steps, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lesionlens.network import weights
from lesionlens.network.lens_net import TINY, LensNetwork
from lesionlens.network.weights import WeightsNotes

TOP = Path(__file__).resolve().parents[2]


def run(script, *words, status=0):
    """Run a script from the top of the repository; return what it printed on stderr."""
    command = [sys.executable, "-m", f"training.{script}", *map(str, words)]
    done = subprocess.run(
        command, cwd=TOP, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == status, done.stderr
    return done.stderr


@pytest.fixture
def tiny(tmp_path):
    """Weights of the smallest network."""
    torch.manual_seed(0)
    network, path = LensNetwork(TINY), tmp_path / "tiny.safetensors"
    weights.save(path, network.config, network.state_dict(), WeightsNotes())
    return path


def write_volume(folder, *, real=True, **arrays):
    """Write a volume of the pool, with a bright ball in a brain."""
    folder.mkdir(parents=True)
    index = np.indices((32, 32, 32)) - 15.5
    distance = np.sqrt((index**2).sum(0))
    tumour = distance < 7
    noise = np.random.default_rng(0).normal(0, 0.2, (4, 32, 32, 32))
    arrays["image"] = (noise + 2 * tumour).astype(np.float16)
    arrays["code"] = np.where(tumour, 2, distance < 15).astype(np.uint8)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    record = {"real": real, "present": [1, 1, 1, 1], "subsets": [[1, 1, 1, 1]]}
    (folder / "about.json").write_text(json.dumps(record))
    return tumour.astype(np.uint8)


def test_only_cases_that_may_be_trained_on_are_packed(tmp_path):
    """The sample's patient and the development cases are in no weights."""
    for name in ("BraTS2021_01660", "MSD_BRATS_001"):
        (tmp_path / "cases" / name).mkdir(parents=True)
    words = ("--data", tmp_path / "cases", "--out", tmp_path / "pack")
    assert "may be trained on" in run("lens.gpu_training", "pack", *words, status=1)
    assert not list((tmp_path / "pack").glob("*.kept"))


@pytest.mark.slow
def test_network_is_trained_and_resumes(tiny, tmp_path):
    words = ("run", "--init", tiny, "--batch", "1", "--device", "cpu", "--tiny")
    for steps in (1, 2):
        run("lens.gpu_training", *words, "--steps", steps, "--out", tmp_path / "run")
        network, info = weights.load(tmp_path / "run" / "weights.safetensors")
        assert info.provenance["steps"] == steps
    before, after = weights.load(tiny)[0].state_dict(), network.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_prompt_network_is_trained(tmp_path):
    from training.prompts import pool

    from lesionlens.network.prompt_net import load

    folder = tmp_path / "pool" / "one"
    tumour = write_volume(tmp_path / "drawn", guess=np.zeros((1, 3, 16, 16, 16), np.uint8))
    arrays = {p.stem: np.load(p) for p in (tmp_path / "drawn").glob("*.npy")}
    record = json.loads((tmp_path / "drawn" / "about.json").read_text())
    pool.write_volume(folder, arrays | {"parts": tumour}, record)
    words = ("--steps", "2", "--batch", "1", "--size", "16", "--minutes", "1")
    run("prompts.train", tmp_path / "pool", "--out", tmp_path / "run", *words)
    assert load(tmp_path / "run" / "prompt.safetensors")[1].steps == 2


@pytest.mark.slow
def test_brain_network_is_trained(tmp_path):
    from training.run import read_state

    run("brain.train_brain", tmp_path / "run", "--minutes", "1e-6")
    assert read_state(tmp_path / "run")[1]["step"] == 1


def test_score_of_candidates_is_the_frequency_of_true_ones():
    from training.lens.examine import ScoredCandidate
    from training.lens.release import fit_score

    rng = np.random.default_rng(1)
    logits, sizes = rng.normal(0.5, 2, 20_000), rng.normal(0, 1.5, 20_000)
    correct = rng.random(20_000) < 1 / (1 + np.exp(0.3 - 1.2 * logits - 0.5 * sizes))
    found = [
        ScoredCandidate(x, ml, bool(yes), (1,) if yes else ())
        for x, ml, yes in zip(logits, sizes, correct, strict=True)
    ]
    np.testing.assert_allclose(fit_score(found), [-0.3, 1.2, 0.5], atol=0.1)
