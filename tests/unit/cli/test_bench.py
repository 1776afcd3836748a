"""What `lesionlens bench` says and writes, with networks of one convolution."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.benchmark import baselines as field
from lesionlens.benchmark import comparison, profiler
from lesionlens.benchmark.baselines import Baseline
from lesionlens.cli import bench as command
from lesionlens.cli.bench import BenchPart, bench


def _two(prepared, device):
    for name, form, width, window in (
        ("ours", "flash, fp32", 2, None),
        ("MONAI theirs", "fp32", 8, (4, 4, 4)),
    ):
        yield Baseline(
            name,
            form,
            "all",
            lambda width=width: nn.Conv3d(1, width, 3, padding=1).eval(),
            lambda: torch.zeros(1, 1, 8, 8, 8),
            window,
        )


@pytest.fixture
def small(monkeypatch, make_prepared):
    def here(prepared, number, device, patience, cancel):
        return profiler.measure(list(_two(prepared, device))[number], device, patience, cancel)

    monkeypatch.setattr(field, "all_baselines", _two)
    monkeypatch.setattr(profiler, "apart", here)
    monkeypatch.setattr(command, "_prepared", lambda *_: make_prepared())
    monkeypatch.setattr(comparison, "busy_words", lambda _: None)


def test_networks_stand_side_by_side_and_nothing_is_written(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = bench(only=BenchPart.NETWORKS, device="cpu", json=True, quick=True)
    figures = json.loads(answer.output[0])
    rows = figures["networks"]
    assert [row["network"] for row in rows] == ["ours", "MONAI theirs"]
    assert rows[0]["ratio"] == rows[0]["cpu_ratio"] == 1
    assert rows[1]["passes"] == 27
    assert rows[1]["estimated"]
    times = rows[1]["seconds"] / rows[0]["seconds"]
    assert figures["against"][0].startswith(f"MONAI theirs, fp32: {times:.1f} times one pass")
    assert figures["machine"]["torch"] == torch.__version__
    assert not any(tmp_path.iterdir())


def test_out_gets_both_files_and_a_page_its_table(small, tmp_path):
    page = tmp_path / "RESULTS.md"
    page.write_text("# Mine\n\n<!-- bench: begin -->\nold\n<!-- bench: end -->\n\nthe rest\n")
    bench(only=BenchPart.NETWORKS, device="cpu", repeat=1, out=tmp_path / "out", results=page)
    content = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert not content["networks"][1]["estimated"]
    lines = (tmp_path / "out" / "bench.md").read_text().splitlines()
    assert any(line.startswith("| MONAI theirs | fp32 |") for line in lines)
    text = page.read_text()
    assert text.startswith("# Mine")
    assert text.endswith("the rest\n")
    assert "| MONAI theirs | fp32 |" in text
    assert "old" not in text


def test_a_page_that_cannot_be_is_refused_before_anything_runs(small, tmp_path):
    with pytest.raises(UnusableInputError, match="a file in a folder that is there"):
        bench(only=BenchPart.NETWORKS, results=tmp_path / "none" / "page.md")


def test_a_network_that_fails_is_a_note_and_no_row(small, monkeypatch):
    measured = profiler.apart

    def scarce(prepared, number, *rest):
        if number == 1:
            raise ResourceError(found="no memory for it", expected="more", next_step="Buy")
        return measured(prepared, number, *rest)

    monkeypatch.setattr(profiler, "apart", scarce)
    answer = bench(only=BenchPart.NETWORKS, device="cpu", json=True, quick=True)
    assert [r["network"] for r in json.loads(answer.output[0])["networks"]] == ["ours"]
    assert any("MONAI theirs, fp32: no memory for it" in note for note in answer.notes)


def test_a_busy_machine_is_told():
    about = {"load_before": 1.9, "cores": 2}
    assert "load average 1.9 on 2 cores" in comparison.busy_words(about)
    assert comparison.busy_words({"load_before": 0.1, "cores": 2}) is None
    assert comparison.busy_words({"load_before": None, "cores": 2}) is None


def test_without_monai_a_note_names_the_extra(small, monkeypatch):
    monkeypatch.setattr(field, "has_monai", lambda: False)
    answer = bench(only=BenchPart.NETWORKS, device="cpu", quick=True)
    assert "lesionlens[train]" in answer.notes[-1]
