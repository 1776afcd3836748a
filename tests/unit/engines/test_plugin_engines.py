"""Engines of other packages: what no prediction may be is refused, before it is measured."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tests.helpers.third_party_package import install_package

from lesionlens.analysis.explain import probe
from lesionlens.analysis.explain.perturbation_runner import PerturbationRunner
from lesionlens.base.errors import CancelledError, PluginError, UnusableInputError, WeightsError
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.prediction import (
    Capability,
    ClassProbabilities,
    EngineInfo,
    InputPerturbation,
    PerturbedPrediction,
    Prediction,
    Scoring,
    SlightEnhancement,
    Trace,
    ViewAgreement,
)
from lesionlens.base.records.prompts import PromptRequest, PromptResponse
from lesionlens.base.run_context import SILENT
from lesionlens.engines.plugin_engines import answer_prompts, make_engine, predict
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

    return predict(SimpleNamespace(predict=answer, info=INFO), HEAD, context=SILENT)


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
    assert all(words.startswith(f"{ml:.1f} ml that the engine outlined") for words in found.notices)


def test_a_cavity_outside_the_brain_is_left_out_and_told_too():
    everywhere = np.full(HEAD.working.shape, 0.5, np.float32)
    found = answered(Prediction(shares(), INFO, cavity=everywhere))
    np.testing.assert_array_equal(found.cavity, everywhere * HEAD.brain)
    (words,) = found.notices
    ml = (~HEAD.brain).sum() * HEAD.working.voxel_ml
    assert words.startswith(f"{ml:.1f} ml that the engine outlined")


def with_nan(values):
    values[5, 5, 5] = np.nan
    return values


CROOKED = {
    "an array of .*float32: the shape": each(lambda v: v[:-2]),
    "an array of .*int": each(lambda v: np.rint(v).astype(np.uint8)),
    r"bool\b.*float32\.(?!.*shape)": each(lambda v: v > 0.5),
    "from 0 to 90": each(lambda v: v * 100),
    "from -0.4": each(lambda v: v - 0.4),
    "none of them NaN": each(with_nan),
    "a masked array": each(lambda v: np.ma.masked_array(v, v > 0.5)),
    "tc above the region round it": {**shares(), Region.TC: shares()[Region.WT] * 1.1},
    "the regions wt": {Region.WT: shares()[Region.WT]},
}


@pytest.mark.parametrize("words", CROOKED)
def test_what_is_no_probability_of_this_head_is_refused_in_words(words):
    with pytest.raises(PluginError, match=words):
        answered(Prediction(CROOKED[words], INFO))


@pytest.mark.parametrize("words", CROOKED)
def test_no_network_of_ours_gives_what_is_no_probability(words):
    """Weights of any origin may: what is NaN everywhere would read as no candidate region."""
    found = Prediction(CROOKED[words], INFO)
    own = type("Own", (), {"__module__": "lesionlens.engines.own"})()
    own.predict = lambda *_, **__: found
    with pytest.raises(WeightsError, match=words) as refused:
        predict(own, HEAD, context=SILENT)
    assert refused.value.found.endswith("from the network of mine 0.1")


@pytest.mark.parametrize(
    "other", [EngineInfo("lens", "0.4.1", "c5" * 32, INFO.capabilities), replace(INFO, name="")]
)
def test_a_prediction_by_the_name_of_another_engine_is_refused(other):
    """One that changes what the built-in network found is not the built-in network."""
    with pytest.raises(PluginError, match=r"by the name of 'lens'.*'mine'|names no engine"):
        answered(Prediction(shares(), other))


def test_what_python_takes_for_the_declared_type_is_converted():
    """Regions by their values, lists and numpy's numbers go on as every file writes them."""
    by_value = {region.value: values for region, values in shares().items()}
    info = replace(INFO, operating_points=[(np.float32(0.5), 1, 0)], threads=np.int64(2))
    found = answered(Prediction(by_value, info, notices=["bright"]))
    assert all(type(region) is Region for region in found.probability)
    assert found.notices == ("bright",)
    assert found.engine.operating_points[0].threshold == 0.5
    assert type(found.engine.threads) is int


@pytest.mark.parametrize("found", [None, {}, ValueError("shapes"), SystemExit(2)])
def test_an_engine_that_fails_is_named_and_not_this_program(found):
    with pytest.raises(PluginError, match="engine 'SimpleNamespace'"):
        answered(found)


@pytest.mark.parametrize("name", ["channels", "brain"])
def test_an_engine_that_changes_its_input_is_named(name):
    """As torch does: `torch.from_numpy(prepared.channels).sub_(mean)` writes into the array."""
    head = replace(HEAD, channels=HEAD.channels.copy(), brain=HEAD.brain.copy())

    def answer(prepared, *, context):
        array = getattr(prepared, name)
        array.setflags(write=True)
        array[..., :1] = 1
        return Prediction(shares(), INFO)

    with pytest.raises(PluginError, match="changed the images"):
        predict(SimpleNamespace(predict=answer), head, context=SILENT)


def test_who_wants_to_stop_is_not_blamed():
    with pytest.raises(CancelledError):
        answered(CancelledError())


def test_attention_of_another_grid_is_refused():
    trace = Trace(dict.fromkeys(Region, np.zeros((2, 2, 2), np.float32)), "", ())
    with pytest.raises(PluginError, match="attention of wt"):
        answered(replace(Prediction(shares(), INFO), trace=trace))


ALONE, GRID = shares()[Region.WT], HEAD.working
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
    "probability of the unperturbed input as an array": {
        "unperturbed": PerturbedPrediction(shares()[Region.WT], HEAD.working)
    },
    "lesion_scores of the unperturbed input from nan": {
        "unperturbed": PerturbedPrediction(ALONE[None], GRID, lesion_scores=ALONE[None] + np.nan)
    },
    "the thresholds .*nan.* of the unperturbed input": {
        "unperturbed": PerturbedPrediction(ALONE[None], GRID, thresholds=(float("nan"),))
    },
    "the thresholds": {"thresholds": {Region.WT: 0.5}},
    "the thresholds .*nan": {"thresholds": dict.fromkeys(Region, float("nan"))},
    "the thresholds .*: 0": {"thresholds": dict.fromkeys(Region, 0)},
    "the scoring .*floor=nan": {"scoring": Scoring(floor=float("nan"))},
    "the scoring .*agreement=ViewAgreement": {
        "scoring": Scoring(agreement=ViewAgreement(0.0, 1.0, float("inf"), 1.0))
    },
    "the scoring .*intercept=nan": {
        "scoring": Scoring(float("nan"), agreement=ViewAgreement(0.0, 1.0, 1.0, 1.0))
    },
    r"Prediction\.scoring\.agreement as int": {"scoring": Scoring(agreement=5)},
    r"Prediction\.scoring as int": {"scoring": 5},
    "the regions tc as not segmented": {"unsegmented": (Region.TC,)},
    "the regions wt as not segmented": {"unsegmented": (Region.WT,)},
    "probability of et, which it says it does not segment": {"unsegmented": (Region.ET,)},
    "the slight_enhancement .*nan": {"slight_enhancement": SlightEnhancement(float("nan"))},
    r"Prediction\.notices\.0 as int": {"notices": (5,)},
    r"Prediction\.notices as str": {"notices": "bright"},
    r"Prediction\.probability as NoneType": {"probability": None},
    r"Prediction\.probability\.wt as list": {"probability": each(np.ndarray.tolist)},
    r"Prediction\.probability\.xx.* 'wt', 'tc' or 'et'": {"probability": {"xx": ALONE}},
    r"Prediction\.unperturbed as ndarray": {"unperturbed": ALONE},
    r"Prediction\.question_time as NoneType": {"question_time": None},
    r"Prediction\.trace as object": {"trace": object()},
    r"Prediction\.trace\.cross as NoneType": {"trace": Trace(None, "", ())},
    r"Prediction\.trace\.cross\.xx.* 'wt', 'tc' or 'et'": {"trace": Trace({"xx": ALONE}, "", ())},
    r"Prediction\.trace\.method as NoneType": {"trace": Trace({}, None, ())},
    r"Prediction\.trace\.layers\.0 as int": {"trace": Trace({}, "", (1,))},
    "attention nan mm apart": {"trace": Trace({}, "", (), spacing_mm=float("nan"))},
    r"Prediction\.class_probabilities as ndarray": {"class_probabilities": ALONE},
    r"Prediction\.class_probabilities\.grid as NoneType": {
        "class_probabilities": ClassProbabilities(ALONE, None)
    },
    r"Prediction\.engine\.device as NoneType": {"engine": replace(INFO, device=None)},
    r"Prediction\.engine\.calibrated as NoneType": {"engine": replace(INFO, calibrated=None)},
    r"Prediction\.engine\.trained_on as NoneType": {"engine": replace(INFO, trained_on=None)},
    r"Prediction\.engine\.precision as str": {"engine": replace(INFO, precision="double")},
    r"Prediction\.engine\.weights_sha256 as int": {"engine": replace(INFO, weights_sha256=5)},
    "an invalid score threshold": {"engine": replace(INFO, floor=float("nan"))},
    "an invalid score threshold.*finite": {
        "engine": replace(INFO, operating_points=((float("nan"), 0.5, 1.0),))
    },
    "attention of wt with": {
        "trace": Trace(dict.fromkeys(Region, HEAD.brain * np.float32(np.nan)), "", ())
    },
    "names no engine": {"engine": replace(INFO, version=None)},
    "names no engine.*a set of capabilities": {"engine": replace(INFO, capabilities=None)},
    "names no engine.*of capabilities": {"engine": replace(INFO, capabilities=frozenset({"fly"}))},
}


@pytest.mark.parametrize("words", CROOKED_PARTS)
def test_parts_that_would_become_wrong_findings_or_a_defect_of_ours_are_refused(words):
    with pytest.raises(PluginError, match=words):
        answered(replace(Prediction(shares(), INFO), **CROOKED_PARTS[words]))


ROUND = np.zeros((2, *GRID.shape), np.float32)
CROOKED_PERTURBED = {
    "NoneType for perturbed inputs": None,
    "ndarray for perturbed inputs": ROUND,
    "probability of perturbed inputs as an array": PerturbedPrediction(ROUND[:1], GRID),
    r"PerturbedPrediction\.probability as NoneType": PerturbedPrediction(None, GRID),
    r"PerturbedPrediction\.grid as NoneType": PerturbedPrediction(ROUND, None),
    "probability of perturbed inputs from nan": PerturbedPrediction(ROUND + np.nan, GRID),
    "probability of perturbed inputs from 9": PerturbedPrediction(ROUND + 9, GRID),
    "inner of perturbed inputs as an array": PerturbedPrediction(ROUND, GRID, ROUND),
    "the thresholds .*nan": PerturbedPrediction(ROUND, GRID, thresholds=(0.5, float("nan"))),
    "the thresholds .*Expected 2, each": PerturbedPrediction(ROUND, GRID, thresholds=(0.5,)),
    "lesion_scores of .* from -1": PerturbedPrediction(ROUND, GRID, lesion_scores=ROUND - 1),
}


@pytest.mark.parametrize("words", CROOKED_PERTURBED)
def test_what_would_become_wrong_evidence_is_refused(words):
    engine = SimpleNamespace(predict_perturbed=lambda *_, **__: CROOKED_PERTURBED[words])
    perturbed = [InputPerturbation.showing([]), InputPerturbation.showing([MrSequence.FLAIR])]
    with pytest.raises(PluginError, match=words):
        PerturbationRunner(engine, HEAD).predict("the test", perturbed)


BOX = (slice(0, 2), slice(3, 5), slice(1, 4))
CUBE = np.zeros((2, 2, 3), np.float32)
SETTLED = CUBE > 0
CROOKED_RESPONSES = {
    "NoneType for prompts": None,
    "failed when it answered prompts": ValueError("shapes"),
    "the box": PromptResponse((slice(0, 2), slice(3, 5), slice(1, 9999)), CUBE, CUBE, SETTLED),
    "the box .*None": PromptResponse((slice(None),) * 3, CUBE, CUBE, SETTLED),
    r"PromptResponse\.box as NoneType": PromptResponse(None, CUBE, CUBE, SETTLED),
    r"PromptResponse\.box\.2 as tuple": PromptResponse((*BOX[:2], (2, 4)), CUBE, CUBE, SETTLED),
    "the box .*1, 4, 2": PromptResponse((*BOX[:2], slice(1, 4, 2)), CUBE, CUBE, SETTLED),
    r"PromptResponse\.made_by as int": PromptResponse(BOX, CUBE, CUBE, SETTLED, 7),
    "probability of a prompt as": PromptResponse(BOX, CUBE[:1], CUBE, SETTLED),
    "probability of a prompt from nan": PromptResponse(BOX, CUBE + np.nan, CUBE, SETTLED),
    "attention of a prompt with": PromptResponse(BOX, CUBE, CUBE - 1, SETTLED),
    "settled": PromptResponse(BOX, CUBE, CUBE, CUBE),
}


@pytest.mark.parametrize("words", CROOKED_RESPONSES)
def test_what_would_become_a_wrong_outline_is_refused(words):
    def answer(*_, **__):
        if isinstance(CROOKED_RESPONSES[words], Exception):
            raise CROOKED_RESPONSES[words]
        return CROOKED_RESPONSES[words]

    engine = SimpleNamespace(answer_prompts=answer)
    request = PromptRequest(np.zeros((1, 3), int), np.zeros((0, 3), int), None)
    with pytest.raises(PluginError, match=words):
        answer_prompts(engine, HEAD, request, None, context=SILENT)


def test_prompts_beyond_the_grid_are_no_indices_of_its_opposite_face():
    """The frame of a box at the border reached a third-party engine as voxel -1."""
    seen = []

    def answer(_, question, *__, **___):
        seen.append(question)
        return PromptResponse(BOX, CUBE, CUBE, SETTLED)

    def ask(foreground, background):
        points = (np.array(some, np.int64).reshape(-1, 3) for some in (foreground, background))
        answer_prompts(engine, HEAD, PromptRequest(*points), None, context=SILENT)

    engine, end = SimpleNamespace(answer_prompts=answer), HEAD.working.shape[0]
    ask([(0, 3, 3)], [(-1, 3, 3), (2, 3, 3), (end, 3, 3)])
    assert seen[0].background.tolist() == [[2, 3, 3]]
    for beyond in (([(-1, 3, 3)], []), ([(end, 3, 3)], []), ([], [(-1, 3, 3)])):
        with pytest.raises(UnusableInputError, match="outside the brain"):
            ask(*beyond)
    assert len(seen) == 1


@pytest.mark.filterwarnings("ignore:.*not writable")
@pytest.mark.parametrize("asks", ["prompts", "perturbed inputs"])
def test_images_that_are_changed_after_the_prediction_are_noticed(asks):
    """The next answer, also of another engine, was about them."""
    torch = pytest.importorskip("torch")
    study = replace(HEAD, channels=HEAD.channels.copy())

    def answer(*_, **__):
        torch.from_numpy(study.channels).mul_(2)
        return PromptResponse(BOX, CUBE, CUBE, SETTLED)

    engine = SimpleNamespace(answer_prompts=answer, predict_perturbed=answer)
    request = PromptRequest(np.zeros((1, 3), int), np.zeros((0, 3), int), None)
    with pytest.raises(PluginError, match="changed the images"):
        if asks == "prompts":
            answer_prompts(engine, study, request, None, context=SILENT)
        else:
            PerturbationRunner(engine, study).predict("the test", [InputPerturbation.showing([])])


@pytest.mark.parametrize("own", ["", "network 7"])
def test_a_response_names_what_made_it(own):
    """Prompts are stored with it: other weights may answer otherwise."""
    found = PromptResponse(BOX, CUBE, CUBE, SETTLED, own)
    info = replace(INFO, weights_sha256="12ab34cd" * 8)
    engine = SimpleNamespace(answer_prompts=lambda *_, **__: found, info=info)
    request = PromptRequest(np.zeros((1, 3), int), np.zeros((0, 3), int), None)
    made_by = answer_prompts(engine, HEAD, request, None, context=SILENT).made_by
    assert made_by == (own or f"{INFO.name} {INFO.version}, weights 12ab34cd")


@pytest.mark.parametrize(
    ("words", "row"),
    [
        ("failed when it was asked", None),
        ("attention as an array", lambda *_: ROUND[0, :-1]),
        ("attention with negative or infinite values or NaN", lambda *_: ROUND[0] + np.nan),
    ],
)
def test_attention_that_an_engine_shows_on_request_is_validated_too(words, row):
    trace = Trace({}, "", (), row or SimpleNamespace)
    inside = tuple(int(v) for v in np.argwhere(HEAD.brain)[0])
    voxel = np.rint(HEAD.native.to_voxel(HEAD.working.to_mm(np.array(inside))))
    with pytest.raises(PluginError, match=words):
        probe.voxel_attention(trace, HEAD, tuple(int(v) for v in voxel))


def test_an_engine_that_cannot_be_made_is_named(monkeypatch, tmp_path):
    code = "class Engine:\n    def __init__(self):\n        ..."
    install_package(monkeypatch, tmp_path, code, engines="mine = Engine")
    with pytest.raises(
        PluginError, match=r"'mine' of crooked 0\.7 failed when it was made.*device"
    ):
        make_engine("mine", device="cpu")
