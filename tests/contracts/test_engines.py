"""Every installed engine, and one of others, keeps the contract and makes a whole result."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import entry_points

import numpy as np
import pytest
from tests.corpus import COARSE
from tests.outside.by_rule import ByRule

from lesionlens import Lens, MrSequence, Region, open_study
from lesionlens.plugin import SILENT, PromptResponse
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


def altered(change):
    """Return a class of engines that keep the contract but for one change of what they return."""

    class Altered(ByRule):
        def predict(self, prepared, *, context):
            return change(self, super().predict(prepared, context=context), prepared)

    return Altered


def above_the_whole(_, found, __):
    return replace(
        found, probability=found.probability | {Region.ET: found.probability["wt"] + 0.02}
    )


def mirrored(_, found, prepared):
    flipped = {r: np.flip(p, 0) * prepared.brain for r, p in found.probability.items()}
    return replace(found, probability=flipped)


def remembered(engine, found, _):
    engine.first = getattr(engine, "first", found)
    return engine.first


def overwritten(_, found, prepared):
    prepared.channels.base.setflags(write=True)
    prepared.channels.base[...] *= 2
    return found


class Deaf(ByRule):
    def predict(self, prepared, *, context):
        return super().predict(prepared, context=SILENT)


class Wilful(ByRule):
    def prompt(self, prepared, request, probability, *, context):
        nothing = np.zeros(prepared.working.shape, np.float32)
        box = tuple(slice(0, n) for n in nothing.shape)
        return PromptResponse(box, nothing, nothing, nothing > 0)


BROKEN = {
    "above that of the region": altered(above_the_whole),
    "not mirrored on axis 0": altered(mirrored),
    "depends on the images": altered(remembered),
    "left as they were": altered(overwritten),
    "as predicted from all": altered(lambda _, found, __: replace(found, unperturbed=None)),
    "progress": Deaf,
    "inside the outline": Wilful,
}


@pytest.mark.parametrize("requirement", BROKEN)
def test_an_engine_that_breaks_the_contract_is_told_where(requirement):
    with pytest.raises(AssertionError, match=requirement):
        check_engine(BROKEN[requirement]())
