"""Engines of other packages: what no prediction may be is refused, before it is measured."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tests.third_party import install

from lesionlens.base.errors import CancelledError, PluginError
from lesionlens.base.labels import Region
from lesionlens.base.records.prediction import (
    Capability,
    ClassProbabilities,
    EngineInfo,
    PerturbedPrediction,
    Prediction,
    Trace,
)
from lesionlens.base.run_context import SILENT
from lesionlens.engines.plugged_in import make_engine, predict
from lesionlens.engines.testing.engine_contract import prepared_head

INFO = EngineInfo("mine", "0.1", None, frozenset({Capability.SEGMENT}))
HEAD = prepared_head()


def shares():
    """Return what every engine may give."""
    inside = HEAD.brain.astype(np.float32)
    return {Region.WT: inside * 0.9, Region.TC: inside * 0.6, Region.ET: inside * 0.3}


def answered(found):
    def answer(*_, **__):
        if isinstance(found, BaseException):
            raise found
        return found

    return predict(SimpleNamespace(predict=answer), HEAD, context=SILENT)


def each(change):
    return {region: change(values) for region, values in shares().items()}


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_a_prediction_as_it_should_be_is_taken_as_float32(kind):
    taken = answered(Prediction(each(lambda v: v.astype(kind)), INFO))
    for region, values in shares().items():
        assert taken.probability[region].dtype == np.float32
        np.testing.assert_allclose(taken.probability[region], values, atol=1e-3)


@pytest.mark.parametrize(("floor", "told"), [(0.05, 0), (0.6, 1)])
def test_what_lies_outside_the_brain_is_left_out_and_told_where_it_would_be_drawn(floor, told):
    found = answered(Prediction(each(lambda v: np.maximum(v, np.float32(floor))), INFO))
    assert all(not values[~HEAD.brain].any() for values in found.probability.values())
    assert found.probability[Region.WT][HEAD.brain].min() == np.float32(0.9)
    assert len(found.notices) == told
    ml = (~HEAD.brain).sum() * HEAD.working.voxel_ml
    assert all(words.startswith(f"{ml:.1f} ml that the engine drew") for words in found.notices)


def with_nan(values):
    values[5, 5, 5] = np.nan
    return values


CROOKED = {
    "an array of .*float32: the shape": each(lambda v: v[:-2]),
    "an array of .*int": each(lambda v: np.rint(v).astype(np.uint8)),
    "no array": each(lambda v: v.tolist()),
    "from 0 to 90": each(lambda v: v * 100),
    "from -0.4": each(lambda v: v - 0.4),
    "none of them NaN": each(with_nan),
    "tc above the region round it": {**shares(), Region.TC: shares()[Region.WT] * 1.1},
    "the regions wt": {Region.WT: shares()[Region.WT]},
}


@pytest.mark.parametrize("words", CROOKED)
def test_what_is_no_probability_of_this_head_is_refused_in_words(words):
    with pytest.raises(PluginError, match=words):
        answered(Prediction(CROOKED[words], INFO))


@pytest.mark.parametrize("found", [None, {}, ValueError("shapes"), SystemExit(2)])
def test_an_engine_that_fails_is_named_and_not_this_program(found):
    with pytest.raises(PluginError, match="engine 'SimpleNamespace'"):
        answered(found)


def test_who_wants_to_stop_is_not_blamed():
    with pytest.raises(CancelledError):
        answered(CancelledError())


def test_attention_of_another_grid_is_refused():
    trace = Trace(dict.fromkeys(Region, np.zeros((2, 2, 2), np.float32)), "", ())
    with pytest.raises(PluginError, match="attention of wt"):
        answered(replace(Prediction(shares(), INFO), trace=trace))


CROOKED_PARTS = {
    "uncertainty as an array of": {"uncertainty": np.zeros((2, 2, 2), np.float32)},
    "uncertainty from 7": {"uncertainty": np.full(HEAD.working.shape, 7, np.float32)},
    "class_probabilities as an array": {
        "class_probabilities": ClassProbabilities(np.zeros((2, 4, 4, 4), np.float32), HEAD.working)
    },
    "class_probabilities from nan": {
        "class_probabilities": ClassProbabilities(
            np.full((3, *HEAD.working.shape), np.nan, np.float32), HEAD.working
        )
    },
    "unperturbed as an array": {
        "unperturbed": PerturbedPrediction(shares()[Region.WT], HEAD.working)
    },
    "the thresholds": {"thresholds": {Region.WT: 0.5}},
    "the thresholds .*nan": {"thresholds": dict.fromkeys(Region, float("nan"))},
    "the thresholds .*: 0": {"thresholds": dict.fromkeys(Region, 0)},
    r"the notices \(5,\)": {"notices": (5,)},
    "the notices 'bright'": {"notices": "bright"},
    "attention of wt with": {
        "trace": Trace(dict.fromkeys(Region, HEAD.brain * np.float32(np.nan)), "", ())
    },
    "names no engine": {"engine": replace(INFO, version=None)},
}


@pytest.mark.parametrize("words", CROOKED_PARTS)
def test_parts_that_would_become_wrong_findings_or_a_defect_of_ours_are_refused(words):
    with pytest.raises(PluginError, match=words):
        answered(replace(Prediction(shares(), INFO), **CROOKED_PARTS[words]))


def test_an_engine_that_cannot_be_made_is_named(monkeypatch, tmp_path):
    code = "class Engine:\n    def __init__(self):\n        ..."
    install(monkeypatch, tmp_path, code, engines="mine = Engine")
    with pytest.raises(
        PluginError, match=r"'mine' of crooked 0\.7 failed when it was made.*device"
    ):
        make_engine("mine", device="cpu")
