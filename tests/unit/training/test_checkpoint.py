"""A checkpoint is whole or not there."""

import os

import pytest
import torch

from lesionlens.base.errors import ResourceError, WeightsError
from lesionlens.training import checkpoint
from lesionlens.training.checkpoint import Checkpoint


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(checkpoint, "PART_BYTES", 7000)


def _state(step):
    tensors = {f"t{i}": torch.full((50, 10), float(step + i)) for i in range(5)}
    return Checkpoint(tensors, {"step": step})


@pytest.mark.usefixtures("small_parts")
def test_parts_stay_small_and_come_back(tmp_path):
    place = checkpoint.save(tmp_path, _state(1))
    parts = list(place.glob("part-*"))
    assert len(parts) == 3
    assert all(p.stat().st_size <= 7000 for p in parts)
    found = checkpoint.load(tmp_path)
    assert found.meta["step"] == 1
    assert float(found.tensors["t3"][0, 0]) == 4.0


def test_only_the_latest_stays(tmp_path):
    checkpoint.save(tmp_path, _state(1))
    checkpoint.save(tmp_path, _state(2))
    assert [p.name for p in tmp_path.glob("step-*")] == ["step-00000002"]


def test_nothing_there_is_none(tmp_path):
    assert checkpoint.load(tmp_path) is None


def test_a_full_disk_leaves_the_last_one(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, _state(1))

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(ResourceError, match="Free some space"):
        checkpoint.save(tmp_path, _state(2))
    assert checkpoint.load(tmp_path).meta["step"] == 1


def test_a_kill_while_writing_leaves_the_last_one(tmp_path):
    checkpoint.save(tmp_path, _state(1))
    half = tmp_path / "step-00000002.part"
    half.mkdir()
    (half / "part-000.safetensors").write_bytes(b"half")
    assert checkpoint.load(tmp_path).meta["step"] == 1
    checkpoint.save(tmp_path, _state(3))
    assert checkpoint.load(tmp_path).meta["step"] == 3
    assert not half.exists(), "a resumed run rarely stops at that step again"


class Killed(BaseException):
    """What no handler sees."""


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("place", ["save_file", "rename", "replace", "rmtree"])
def test_a_kill_at_any_moment_leaves_a_whole_one(tmp_path, monkeypatch, place, step):
    checkpoint.save(tmp_path, _state(1))

    def killed(*_args, **_kwargs):
        raise Killed

    owner = {"save_file": checkpoint, "rename": checkpoint.Path, "replace": os}
    with monkeypatch.context() as patch:
        patch.setattr(owner.get(place, checkpoint.shutil), place, killed)
        with pytest.raises(Killed):
            checkpoint.save(tmp_path, _state(step))
    assert checkpoint.load(tmp_path).meta["step"] in {1, step}
    checkpoint.save(tmp_path, _state(step))
    checkpoint.save(tmp_path, _state(step))
    assert checkpoint.load(tmp_path).meta["step"] == step
    assert len(list(tmp_path.glob("step-*"))) == 1


def test_damage_is_reported(tmp_path):
    place = checkpoint.save(tmp_path, _state(1))
    (place / "part-000.safetensors").write_bytes(b"x")
    with pytest.raises(WeightsError, match="damaged checkpoint"):
        checkpoint.load(tmp_path)


@pytest.mark.usefixtures("small_parts")
def test_a_part_that_is_gone_is_damage_and_no_fresh_optimiser(tmp_path):
    place = checkpoint.save(tmp_path, _state(1))
    (place / "part-002.safetensors").unlink()
    with pytest.raises(WeightsError, match="2 of 3 parts"):
        checkpoint.load(tmp_path)
