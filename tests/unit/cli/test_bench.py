"""What `lesionlens bench` says and writes, with networks of one convolution."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from lesionlens.cli import bench as command
from lesionlens.cli.bench import Part, bench
from lesionlens.training import contenders as field
from lesionlens.training.contenders import Contender


@pytest.fixture
def small(monkeypatch, make_prepared):
    def two(prepared, device):
        for name, width, window in (("ours", 2, None), ("theirs", 8, (4, 4, 4))):
            yield Contender(
                name,
                "one convolution",
                lambda width=width: nn.Conv3d(1, width, 3, padding=1).eval(),
                lambda: torch.zeros(1, 1, 8, 8, 8),
                window,
            )

    monkeypatch.setattr(field, "contenders", two)
    monkeypatch.setattr(command, "_prepared", lambda *_: make_prepared())


def test_networks_stand_side_by_side_and_nothing_is_written(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = bench(only=Part.NETWORKS, device="cpu", json=True, quick=True)
    rows = json.loads(answer.output[0])["networks"]
    assert [row["network"] for row in rows] == ["ours", "theirs"]
    assert rows[0]["ratio"] == 1
    assert rows[1]["passes"] == 27
    assert rows[1]["estimated"]
    assert not any(tmp_path.iterdir())


def test_out_gets_both_files(small, tmp_path):
    bench(only=Part.NETWORKS, device="cpu", repeat=1, out=tmp_path / "out")
    content = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert not content["networks"][1]["estimated"]
    lines = (tmp_path / "out" / "bench.md").read_text().splitlines()
    assert any(line.startswith("| theirs | one convolution |") for line in lines)


def test_without_monai_a_note_names_the_extra(small, monkeypatch):
    monkeypatch.setattr(field, "has_monai", lambda: False)
    answer = bench(only=Part.NETWORKS, device="cpu", quick=True)
    assert "lesionlens[train]" in answer.notes[0]
