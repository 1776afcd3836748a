"""The contract of engines: one suite over all installed engines and a third-party one."""

import sys
from pathlib import Path

import pytest

from lesionlens.base import plugins
from lesionlens.base.labels import Region, RelevanceMeasure
from lesionlens.base.run_context import SILENT
from lesionlens.engines.testing import engine_contract
from lesionlens.imaging.reading.readers import open_study
from lesionlens.results.lens import Lens

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("coarse")
OUTSIDE = Path(__file__).parent / "outside"
"""Holds a distribution that is not ours: its metadata, entry point and one module."""


@pytest.fixture(scope="module")
def outside():
    """Install it for this module's tests."""
    sys.path.insert(0, str(OUTSIDE))
    yield
    sys.path.remove(str(OUTSIDE))
    sys.modules.pop("bright_flair", None)


@pytest.fixture(scope="module")
def small_bundle(tmp_path_factory):
    pytest.importorskip("torch")
    from tests.helpers.monai_bundles import write_bundle

    return write_bundle(tmp_path_factory.mktemp("bundles") / "small", spacing_mm=6.0)


ENGINES = (*plugins.names(plugins.ENGINES), "bright-flair")


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, random_weights, outside):
    return _made(request, plugins.load(plugins.ENGINES, request.param), random_weights)


def _made(request, made, random_weights):
    if request.param == "lens":
        return made("cpu", random_weights)
    if request.param == "monai-bundle":
        folder = request.getfixturevalue("small_bundle")
        return made("cpu", bundle=folder, patience_s=float("inf"))
    return made("cpu")


@pytest.fixture(scope="module")
def trial(engine):
    """One engine, asked once for what most checks look at."""
    return engine_contract.Trial(engine)


CHECKS = [check for check in engine_contract.CHECKS if check is not engine_contract.subsets]
"""Others may refuse sequences that are too few; ours answer them, see below."""


@pytest.mark.parametrize("check", CHECKS, ids=engine_contract.name_of)
def test_it_keeps_the_contract(check, trial):
    check(trial)


@pytest.mark.parametrize("present", engine_contract.SUBSETS, ids="+".join)
def test_ours_answer_any_subset_of_sequences(engine, present):
    study = engine_contract.prepared_head(present)
    found = engine.predict(study, context=SILENT)
    assert found.engine.name == engine.info.name
    assert set(found.probability) | {Region.ET} == set(Region)
    assert Region.ET in found.probability or "t1c" not in present


def test_the_whole_analysis_runs_on_it(engine, make_study):
    result = Lens(engine=engine)(open_study(make_study(spacing_mm=(4, 4, 5))))
    assert result.labels.data.shape == result.analysis.prepared.native.shape
    for candidate in result.candidates:
        assert 0 <= candidate.score <= 1
        relevance = candidate.sequence_relevance
        if relevance is not None:
            total = sum(v for v in relevance.values() if v is not None)
            assert -1e-5 <= total <= 1 + 1e-5  # figures are rounded as in findings.json
            assert candidate.relevance_of is RelevanceMeasure.OVERLAP


def test_an_engine_from_outside_is_found_by_its_entry_point(outside, make_study):
    assert "bright-flair" in plugins.names(plugins.ENGINES)
    result = Lens("cpu", engine="bright-flair")(open_study(make_study()))
    assert result.analysis.run.engine.name == "bright-flair"
    first = max(result.candidates, key=lambda c: c.volume_ml[Region.WT])
    assert first.location.side == "left"
    assert first.sequence_relevance["flair"] > 0.5
    assert first.sequence_relevance["t1"] == pytest.approx(0)
