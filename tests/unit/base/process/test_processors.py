"""How many processors are counted: those that this process may use."""

from __future__ import annotations

import os
import re

import pytest
from tests.conftest import REPOSITORY
from tests.helpers.file_search import files_below

from lesionlens.base.process import processors
from lesionlens.base.process.processors import usable_processors


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 64 processors without limits; returns the folder of its cgroups."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(processors, "_CGROUPS", tmp_path)
    monkeypatch.setattr(processors, "_PROCESS_CGROUP", tmp_path / "own")
    return tmp_path


def test_without_limits_all_count(machine):
    assert usable_processors() == 64


def test_affinity_counts(machine, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 8}, raising=False)
    assert usable_processors() == 3


@pytest.mark.parametrize(("granted", "counted"), [("4", 4), ("0", 1), ("many", 64), ("", 64)])
def test_what_slurm_grants_counts(machine, monkeypatch, granted, counted):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", granted)
    assert usable_processors() == counted


@pytest.mark.parametrize(
    ("quota", "counted"),
    [("250000 100000", 2), ("50000 100000", 1), ("max 100000", 64), ("1", 64), ("1 0", 64)],
)
def test_the_quota_of_the_group_or_of_one_above_counts(machine, quota, counted):
    (machine / "own").write_text("0::/service/worker\n")
    (machine / "service" / "worker").mkdir(parents=True)
    (machine / "service" / "worker" / "cpu.max").write_text("max 100000")
    (machine / "service" / "cpu.max").write_text(quota)
    assert usable_processors() == counted


@pytest.mark.parametrize(("quota", "counted"), [("300000", 3), ("-1", 64)])
def test_the_first_version_of_cgroups_counts_too(machine, quota, counted):
    (machine / "own").write_text("3:memory:/\n2:cpu,cpuacct:/inside\n")
    place = machine / "cpu,cpuacct" / "inside"
    place.mkdir(parents=True)
    (place / "cpu.cfs_quota_us").write_text(quota)
    (place / "cpu.cfs_period_us").write_text("100000")
    assert usable_processors() == counted


def test_nobody_else_counts_processors():
    package = REPOSITORY / "src" / "lesionlens"
    counting = re.compile(r"\b(?:cpu_count|sched_getaffinity)\(")
    found = [p.name for p in files_below(package, "*.py") if counting.search(p.read_text("utf-8"))]
    assert found == ["processors.py"]
