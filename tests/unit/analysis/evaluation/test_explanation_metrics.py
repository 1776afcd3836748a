"""Figures of a result's own explanations."""

from types import SimpleNamespace

import pytest

from lesionlens.analysis.evaluation.explanation_metrics import explanation_measures
from lesionlens.analysis.evaluation.scored_result import run_of
from lesionlens.base.labels import Region
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.files import AttentionMethod, RunFile
from lesionlens.base.run_context import StageTime

KEYS = ("t1c", "flair", "t2", "t1", "none")
FINDINGS = SimpleNamespace(
    candidates=[
        SimpleNamespace(
            attention=SimpleNamespace(peak_inside=inside),
            sequence_relevance=shares and dict(zip(KEYS, shares, strict=True)),
            dice_without=left and dict(zip(KEYS[:4], left, strict=True)),
        )
        for inside, shares, left in (
            (True, (0.5, 0.1, 0.1, 0.1, 0.1), (0.3, 0.8, 0.8, 0.8)),
            (False, (0.5, 0.1, 0.1, 0.1, 0.1), (0.8, 0.3, 0.8, 0.8)),
            (True, (0.2, 0.2, 0.2, 0.21, 0.1), (0.9, 0.9, 0.9, 0.9)),
            (True, (None, 0.6, None, None, 0.1), (None, 0.1, None, None)),
            (None, None, None),
        )
    ]
)


@pytest.fixture
def saved(tmp_path):
    """Return a function that writes run.json with these checks and seconds."""

    def write(trust, seconds):
        made = RunFile(
            started="2026-01-01T00:00:00+00:00",
            engine="lens",
            engine_version="1",
            weights_sha256=None,
            calibrated=True,
            device="cpu",
            versions={},
            stages=tuple(StageTime(n, s, 1) for n, s in seconds),
            seconds=1.0,
            peak_memory_mib=1.0,
            preparation=(),
            attention=AttentionMethod(
                method="a test", layers=(), raw_range={}, trust={Region.WT: trust}
            ),
            warnings=(),
            inputs=(),
        )
        (tmp_path / "run.json").write_text(made.model_dump_json(by_alias=True))
        return explanation_measures(run_of(tmp_path), FINDINGS)

    return write


def test_checks_and_cost_are_read_from_the_run(saved):
    trust = MapChecks(True, 0.9, 0.1, kept=0.95, deletion=0.2, reliable=True)
    found = saved(trust, (("network", 2.0), ("explanations", 1.5)))
    assert (found["kept"], found["deletion"]) == (0.95, 0.2)
    assert found["reliable"] == 1
    assert found["explaining"] == pytest.approx(0.75)
    assert found["candidate_peak"] == pytest.approx(0.75)
    assert found["top_sequence"] == pytest.approx(2 / 3)
    assert found["top_named"] == pytest.approx(0.5)


def test_what_was_not_measured_is_none_and_not_nought(saved, tmp_path):
    found = saved(MapChecks(None, None, None), (("network", 2.0), ("explanations", 1.0)))
    assert found["deletion"] is found["kept"] is found["reliable"] is None
    (tmp_path / "run.json").write_text("{}")
    assert run_of(tmp_path) is None
