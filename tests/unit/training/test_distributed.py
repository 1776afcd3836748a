"""Processes that train one network stay one network."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import pytest
import torch
from tests.helpers.ports import free_port

from lesionlens.base.errors import ConfigError
from lesionlens.training.config import parse_config
from lesionlens.training.distributed import ProcessGroup, process_group
from lesionlens.training.loop import TrainOptions, train

from .runs import average_of

RECIPE = """
network = "tiny"
validation_volumes = 1
[data]
workers = 0
[optimiser]
warmup = 2
[[stages]]
steps = {steps}
shape = [32, 40, 32]
spacing_mm = [5.0, 6.0]
batch = 1
"""


TRAIN = "from lesionlens.cli.main import run; run()"


def _together(code, arguments, size=2, timeout=900):
    """Run code in several processes, as torchrun would; their outputs and statuses."""
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(size),
        "OMP_NUM_THREADS": "1",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        return [(p.communicate(timeout=timeout), p.returncode) for p in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_one_process_is_a_team_of_its_own(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group("cpu") as processes:
        assert (processes.rank, processes.size, processes.is_leader) == (0, 1, True)
        assert processes.any(True)
        assert not processes.any(False)
        network = torch.nn.Linear(2, 2)
        assert processes.distribute(network) is network
        processes.check_step(7)
        with processes.leader_first():
            pass


def test_several_processes_want_a_device_each(monkeypatch):
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="the one device cuda:1"), process_group("cuda:1"):
        pass


def test_another_process_than_the_first_writes_nothing(tmp_path):
    recipe = parse_config({
        "network": "tiny", "validation_volumes": 0, "data": {"workers": 0},
        "stages": [{"steps": 1, "shape": [32, 40, 32], "spacing_mm": [5.0, 6.0], "batch": 1}],
    })  # fmt: skip
    lonely = ProcessGroup(torch.device("cpu"))
    second = dataclasses.replace(lonely, rank=1)
    one = train(recipe, tmp_path / "a", TrainOptions(processes=lonely))
    other = train(recipe, tmp_path / "b", TrainOptions(processes=second))
    assert other.finished
    assert one.loss != other.loss  # it drew volumes of its own
    assert average_of(tmp_path / "a")
    assert not (tmp_path / "b").exists()


@pytest.mark.slow
def test_two_processes_train_one_network_stop_together_and_go_on(tmp_path):
    recipe, out = tmp_path / "recipe.toml", tmp_path / "run"
    recipe.write_text(RECIPE.format(steps=3))
    first = _together(TRAIN, ["train", recipe, "--out", out])
    assert [status for _, status in first] == [0, 0], first
    assert "3 of 3 steps" in first[0][0][0]
    assert first[1][0][0] == ""
    assert json.loads((out / "checkpoint" / "latest.json").read_text())["folder"].endswith("3")
    half = average_of(out)

    recipe.write_text(RECIPE.format(steps=100_000))
    stopped = _together(TRAIN, ["train", recipe, "--out", out, "--minutes", "0.05"])
    assert [status for _, status in stopped] == [0, 0], stopped
    meta = next((out / "checkpoint").glob("step-*/meta.json"))
    step = json.loads(meta.read_text())["step"]
    assert 3 < step < 100_000
    moved = [not torch.equal(half[name], value) for name, value in average_of(out).items()]
    assert any(moved)


MEET = """
import json, pathlib, sys
import torch
from lesionlens.base.errors import ResourceError
from lesionlens.training.distributed import process_group

made = pathlib.Path(sys.argv[1])
with process_group("cpu") as processes:
    torch.manual_seed(processes.rank)
    network = torch.nn.Linear(3, 2)
    shared = processes.distribute(network)
    begun = network.weight.detach().clone()
    shared(torch.full((1, 3), float(processes.rank + 1))).sum().backward()
    with processes.leader_first():
        found = made.exists()
        made.write_text("")
    words = ""
    try:
        processes.check_step(5 + processes.rank)
    except ResourceError as error:
        words = str(error)
    said = (processes.any(processes.rank == 1), processes.any(False))
    print(json.dumps([begun.tolist(), network.weight.grad.tolist(), said, found, words]))
"""


@pytest.mark.slow
def test_two_processes_begin_alike_average_gradients_and_agree(tmp_path):
    answers = _together(MEET, [tmp_path / "made"])
    assert [status for _, status in answers] == [0, 0], answers
    first, second = (json.loads(out) for (out, _), _ in answers)
    assert first[0] == second[0]
    # the gradients of the two alone are 1 and 2
    assert first[1] == second[1] == [[1.5] * 3] * 2
    assert first[2] == second[2] == [True, False]
    assert (first[3], second[3]) == (False, True)
    for words in (first[4], second[4]):
        assert "step 5 and at step 6" in words
