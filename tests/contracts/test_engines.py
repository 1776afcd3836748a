"""Every installed engine, and one of others, keeps the contract and makes a whole result."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from tests.corpus import COARSE

from lesionlens import Lens, MrSequence, Region, open_study
from lesionlens.plugin import SILENT
from lesionlens.testing import check_engine, prepared_head

ENGINES = sorted(point.name for point in entry_points(group="lesionlens.engines"))
SUBSETS = (("flair",), ("t1c",), ("t1", "t2"))


@pytest.fixture(scope="module")
def small_bundle(tmp_path_factory):
    from tests.helpers.monai_bundles import write_bundle

    return write_bundle(tmp_path_factory.mktemp("bundles") / "small", spacing_mm=6.0)


SLOW = {"monai-bundle": pytest.mark.slow}  # half a minute; its own tests are in `make test`


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=SLOW.get(name, ())) for name in [*ENGINES, "by-rule"]],
)
def engine(request, random_weights, third_party_distribution):
    options = {"device": "cpu"}
    if request.param == "lens":
        options["weights"] = random_weights
    elif request.param == "monai-bundle":
        options["bundle"] = request.getfixturevalue("small_bundle")
    (point,) = entry_points(group="lesionlens.engines", name=request.param)
    return point.load()(**options)


def test_it_keeps_the_contract(engine):
    check_engine(engine)


@pytest.mark.parametrize("present", SUBSETS, ids="+".join)
def test_it_answers_any_subset_of_sequences(engine, present):
    prediction = engine.predict(prepared_head(present), context=SILENT)
    assert set(prediction.probability) == set(Region)
    assert prediction.engine.name == engine.info.name


def test_a_whole_analysis_runs_on_it(engine, corpus, tmp_path):
    result = Lens(engine=engine)(open_study(corpus.study("nifti slices")), COARSE)
    assert result.labels.data.shape == open_study(corpus.study("nifti slices"))["t1c"].grid.shape
    for candidate in result.candidates:
        assert 0 <= candidate.score <= 1
    result.save(tmp_path / "out")
    assert (tmp_path / "out" / "report.html").is_file()


def test_an_engine_is_found_by_the_name_of_its_entry_point(third_party, corpus):
    result = Lens("cpu", engine="by-rule")(open_study(corpus.study("nifti slices")), COARSE)
    (candidate,) = result.candidates
    assert candidate.location.side == "left"
    assert candidate.sequence_relevance is None
    relevance = result.explain().candidates[0].sequence_relevance
    assert relevance["flair"] > 0.5
    assert relevance[MrSequence.T1.value] == pytest.approx(0)
