"""Engines by name, and of other packages: what no prediction may be is refused in their name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.helpers.third_party_package import install_package

from lesionlens.base.errors import CancelledError, PluginError, UnusableInputError, WeightsError
from lesionlens.engines.engine import EngineChoice, predict, predict_subsets, probe, prompt
from lesionlens.plugin import (
    SILENT,
    ClassProbabilities,
    EngineInfo,
    InputPerturbation,
    PerturbedPrediction,
    Prediction,
    PromptRequest,
    PromptResponse,
    Region,
    Trace,
)
from lesionlens.testing import prepared_head

INFO = EngineInfo("mine", "0.1", "12ab34cd" * 8)
HEAD = prepared_head()
WHOLE = HEAD.brain * np.float32(0.9)
GRID = HEAD.working
TWO = np.zeros((2, *GRID.shape), np.float32)
GOOD = Prediction({Region.WT: WHOLE, Region.TC: WHOLE / 2, Region.ET: WHOLE / 3}, INFO)


def each(change):
    return {region: change(values) for region, values in GOOD.probability.items()}


def engine_that_returns(answer, *, builtin=False):
    def give(*_, **__):
        if isinstance(answer, BaseException):
            raise answer
        return answer

    kind = type("Mine", (), {"__module__": "lesionlens.engines.own" if builtin else "crooked"})
    engine = kind()
    engine.info, engine.predict, engine.predict_subsets, engine.prompt = INFO, give, give, give
    return engine


def predicted(answer, study=HEAD, **options):
    return predict(engine_that_returns(answer, **options), study, context=SILENT)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_a_good_prediction_is_taken_as_float32(kind):
    taken = predicted(replace(GOOD, probability=each(lambda v: v.astype(kind))))
    for region, values in GOOD.probability.items():
        assert taken.probability[region].dtype == np.float32
        np.testing.assert_allclose(taken.probability[region], values, atol=1e-3)
    assert not taken.notices


def test_what_lies_outside_the_brain_is_left_out_with_its_volume():
    everywhere = np.full(GRID.shape, 0.6, np.float32)
    outside_ml = GRID.volume_ml(~HEAD.brain)
    for answer in (
        replace(GOOD, probability=each(lambda v: np.maximum(v, everywhere))),
        replace(GOOD, cavity=everywhere),
    ):
        taken = predicted(answer)
        assert not any(values[~HEAD.brain].any() for values in taken.probability.values())
        expected = None if answer.cavity is None else answer.cavity * HEAD.brain
        np.testing.assert_array_equal(taken.cavity, expected)
        (notice,) = taken.notices
        assert notice.startswith(f"{outside_ml:.1f} ml")


def test_without_t1c_nothing_is_enhancing():
    study = prepared_head(["flair", "t1"])
    cross = dict.fromkeys(Region, WHOLE)
    for builtin in (False, True):
        taken = predicted(replace(GOOD, trace=Trace(cross, "", ())), study, builtin=builtin)
        assert Region.ET not in taken.probability
        assert Region.ET not in taken.trace.cross


def with_nan(values):
    values = values.copy()
    values[5, 5, 5] = np.nan
    return values


CROOKED = {
    "another grid": each(lambda v: v[:-2]),
    "integers": each(lambda v: np.rint(v).astype(np.uint8)),
    "bools": each(lambda v: v > 0.5),
    "percent": each(lambda v: v * 100),
    "below 0": each(lambda v: v - 0.4),
    "NaN": each(with_nan),
    "masked": each(lambda v: np.ma.masked_array(v, v > 0.5)),
    "lists": each(np.ndarray.tolist),
    "not nested": {**GOOD.probability, Region.TC: WHOLE * 1.1},
    "a region missing": {Region.WT: WHOLE},
    "an unknown region": {**GOOD.probability, "xx": WHOLE},
    "nothing": None,
}


@pytest.mark.parametrize("what", CROOKED)
def test_what_is_no_probability_of_this_head_is_refused(what):
    with pytest.raises(PluginError, match=r"engine 'mine' of the module crooked") as caught:
        predicted(replace(GOOD, probability=CROOKED[what]))
    assert caught.value.exit_status == 1


@pytest.mark.parametrize("what", ["percent", "NaN", "not nested", "another grid"])
def test_built_in_weights_that_give_no_probabilities_are_refused(what):
    """Weights of any origin may: NaN everywhere would read as no candidate region."""
    with pytest.raises(WeightsError, match="mine"):
        predicted(replace(GOOD, probability=CROOKED[what]), builtin=True)


SMALL = np.zeros((2, 2, 2), np.float32)
NAN = float("nan")
CROOKED_PARTS = {
    "uncertainty of another grid": {"uncertainty": SMALL},
    "uncertainty of 7": {"uncertainty": WHOLE + 7},
    "a cavity of another grid": {"cavity": SMALL},
    "two classes": {"class_probabilities": ClassProbabilities(np.stack([WHOLE] * 2), GRID)},
    "classes of NaN": {
        "class_probabilities": ClassProbabilities(np.stack([TWO[0] + NAN] * 3), GRID)
    },
    "unperturbed without a first axis": {"unperturbed": PerturbedPrediction(WHOLE, GRID)},
    "unperturbed as an array": {"unperturbed": WHOLE},
    "a threshold missing": {"thresholds": {Region.WT: 0.5}},
    "thresholds of NaN": {"thresholds": dict.fromkeys(Region, NAN)},
    "thresholds of 0": {"thresholds": dict.fromkeys(Region, 0)},
    "scoring of NaN": {"scoring": replace(GOOD.scoring, floor=NAN)},
    "core without enhancing not segmented": {"unsegmented": (Region.TC,)},
    "a region that it does not segment": {"unsegmented": (Region.ET,)},
    "attention of another grid": {"trace": Trace(dict.fromkeys(Region, SMALL), "", ())},
    "attention of NaN": {"trace": Trace({Region.WT: WHOLE * NAN}, "", ())},
    "negative attention": {"trace": Trace({Region.WT: -WHOLE}, "", ())},
    "infinite attention": {"trace": Trace({Region.WT: WHOLE + np.float32(np.inf)}, "", ())},
    "a trace of another kind": {"trace": object()},
    "another engine": {"engine": EngineInfo("lens", "0.5.0", None)},
}


@pytest.mark.parametrize("what", CROOKED_PARTS)
def test_parts_that_would_become_wrong_findings_are_refused(what):
    with pytest.raises(PluginError, match="crooked"):
        predicted(replace(GOOD, **CROOKED_PARTS[what]))


@pytest.mark.parametrize("answer", [None, {}, ValueError("shapes"), SystemExit(2)])
def test_an_engine_that_fails_is_named(answer):
    with pytest.raises(PluginError, match="engine 'mine'"):
        predicted(answer)


@pytest.mark.parametrize(
    "error", [CancelledError(), UnusableInputError("No FLAIR."), MemoryError()]
)
def test_what_an_engine_may_raise_passes_through(error):
    with pytest.raises(type(error)) as caught:
        predicted(error)
    assert caught.value is error


CROOKED_SUBSETS = [
    None,
    TWO,
    PerturbedPrediction(TWO[:1], GRID),
    PerturbedPrediction(TWO, None),
    PerturbedPrediction(TWO + NAN, GRID),
    PerturbedPrediction(TWO + 9, GRID),
]


@pytest.mark.parametrize("answer", CROOKED_SUBSETS)
def test_what_would_become_wrong_evidence_is_refused(answer):
    inputs = [InputPerturbation(), InputPerturbation.showing(["flair"])]
    good = PerturbedPrediction(TWO, GRID)
    assert predict_subsets(engine_that_returns(good), HEAD, inputs, context=SILENT) is good
    with pytest.raises(PluginError, match="crooked"):
        predict_subsets(engine_that_returns(answer), HEAD, inputs, context=SILENT)


BOX = (slice(0, 2), slice(3, 5), slice(1, 4))
CUBE = np.zeros((2, 2, 3), np.float32)
KEPT = CUBE > 0
CROOKED_RESPONSES = {
    "nothing": None,
    "a box beyond the grid": PromptResponse((*BOX[:2], slice(1, 9999)), CUBE, CUBE, KEPT),
    "no box": PromptResponse(None, CUBE, CUBE, KEPT),
    "an open box": PromptResponse((slice(None),) * 3, CUBE, CUBE, KEPT),
    "an empty box": PromptResponse((*BOX[:2], slice(4, 4)), CUBE[..., :0], CUBE[..., :0], KEPT),
    "a box with steps": PromptResponse((*BOX[:2], slice(1, 4, 2)), CUBE, CUBE, KEPT),
    "another shape": PromptResponse(BOX, CUBE[:1], CUBE, KEPT),
    "NaN": PromptResponse(BOX, CUBE + NAN, CUBE, KEPT),
    "negative attention": PromptResponse(BOX, CUBE, CUBE - 1, KEPT),
    "settled as floats": PromptResponse(BOX, CUBE, CUBE, CUBE),
}


def asked(answer, foreground=((0, 3, 3),), background=()):
    points = (np.array(some, np.int64).reshape(-1, 3) for some in (foreground, background))
    request = PromptRequest(*points)
    return prompt(engine_that_returns(answer), HEAD, request, None, context=SILENT)


@pytest.mark.parametrize("what", CROOKED_RESPONSES)
def test_what_would_become_a_wrong_outline_is_refused(what):
    with pytest.raises(PluginError, match="crooked"):
        asked(CROOKED_RESPONSES[what])


@pytest.mark.parametrize("own", ["", "network 7"])
def test_a_response_names_what_made_it(own):
    made_by = asked(PromptResponse(BOX, CUBE, CUBE, KEPT, own)).made_by
    assert made_by == (own or "mine 0.1, weights 12ab34cd")


def test_prompts_beyond_the_grid_are_no_indices_of_its_opposite_face():
    seen, end = [], GRID.shape[0]
    engine = engine_that_returns(None)
    engine.prompt = lambda _, request, *__, **___: (
        seen.append(request) or PromptResponse(BOX, CUBE, CUBE, KEPT)
    )

    def ask(foreground, background):
        points = (np.array(some, np.int64).reshape(-1, 3) for some in (foreground, background))
        prompt(engine, HEAD, PromptRequest(*points), None, context=SILENT)

    ask([(0, 3, 3)], [(-1, 3, 3), (2, 3, 3), (end, 3, 3)])
    assert seen[0].background.tolist() == [[2, 3, 3]]
    for beyond in (([(-1, 3, 3)], []), ([(end, 3, 3)], []), ([], [(-1, 3, 3)])):
        with pytest.raises(UnusableInputError):
            ask(*beyond)


def test_enhancing_tumour_is_not_outlined_without_t1c():
    request = PromptRequest(np.ones((1, 3), int), np.zeros((0, 3), int), region=Region.ET)
    for builtin in (False, True):
        engine = engine_that_returns(PromptResponse(BOX, CUBE, CUBE, KEPT), builtin=builtin)
        with pytest.raises(UnusableInputError, match="T1c"):
            prompt(engine, prepared_head(["flair"]), request, None, context=SILENT)


@pytest.mark.parametrize("row", [None, lambda _: WHOLE[:-1], lambda _: WHOLE + NAN], ids="abc")
def test_attention_of_a_voxel_is_checked_too(row):
    with pytest.raises(PluginError):
        probe(Trace({}, "", (), row or SimpleNamespace), HEAD, (20, 20, 20))


CHOICES = {
    "an unknown engine": {"engine": "no-such-engine"},
    "the engine of bundles without one": {"engine": "monai-bundle"},
    "weights beside a bundle": {"bundle": Path("b"), "weights": "w"},
    "an engine beside a bundle": {"bundle": Path("b"), "engine": "other"},
    "an unknown device": {"device": "gpu"},
}


@pytest.mark.parametrize("what", CHOICES)
def test_a_choice_that_cannot_be_loaded_is_unusable_input(what):
    with pytest.raises(UnusableInputError):
        EngineChoice(**CHOICES[what]).load()


def test_an_engine_that_cannot_be_made_is_named(monkeypatch, tmp_path):
    code = "class Engine:\n    def __init__(self):\n        ..."
    install_package(monkeypatch, tmp_path, code, engines="mine = Engine")
    with pytest.raises(PluginError, match=r"'mine' of crooked 0\.7"):
        EngineChoice(engine="mine").load()
