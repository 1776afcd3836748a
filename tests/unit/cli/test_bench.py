"""What `lesionlens bench` prints and writes, with an engine that answers at once."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from lesionlens.base.run_context import StageTime
from lesionlens.cli.bench import bench
from lesionlens.engines.engine_choice import EngineChoice
from lesionlens.imaging.samples import STUDY
from lesionlens.results import lens


class Instant:
    """An analysis of two stages that takes no time."""

    def __init__(self, device, *, precision):
        stages = (StageTime("load", 0.5, 100.0), StageTime("network", 1.5, 200.0))
        engine = SimpleNamespace(weights_sha256="0" * 64)
        self.run = SimpleNamespace(stages=stages, engine=engine)

    def __call__(self, study, *, context):
        return SimpleNamespace(analysis=SimpleNamespace(run=self.run))


@pytest.fixture(autouse=True)
def _instant(monkeypatch):
    monkeypatch.setattr(lens, "Lens", Instant)


def test_stages_are_printed_as_json_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figures = json.loads(bench(STUDY, 1, EngineChoice("cpu"), json=True).output[0])
    assert figures["stages"] == {"load": 0.5, "network": 1.5}
    assert figures["peak_memory_mib"] == 200
    assert figures["study"] == "sample"
    assert figures["machine"]["torch"] == torch.__version__
    assert not any(tmp_path.iterdir())
