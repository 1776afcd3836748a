"""The kit for engines' authors finds what it is there to find."""

import re
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from lesionlens.base.labels import Region
from lesionlens.base.records.prediction import (
    Capability,
    EngineInfo,
    InputPerturbation,
    PerturbedPrediction,
    Prediction,
    Trace,
)
from lesionlens.base.records.prompts import PromptResponse
from lesionlens.base.run_context import RunContext
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.engines.testing import engine_contract


class Honest:
    """Flags what is bright on FLAIR."""

    info = EngineInfo("honest", "1", None, frozenset({Capability.SEGMENT}))

    def predict(self, prepared, *, context):
        for step in range(2):
            context.check("looking")
            context.progress("looking", step / 2)
        inside = prepared.channels[3] * prepared.brain
        share = (inside / max(float(inside.max()), 1.0)).astype(np.float32)
        return Prediction(dict.fromkeys(Region, share), self.info)


class Boastful(Honest):
    info = replace(Honest.info, capabilities=frozenset({Capability.SEGMENT, Capability.ATTEND}))


class Deaf(Honest):
    def predict(self, prepared, *, context):
        return super().predict(prepared, context=RunContext(progress=context.progress))


class Careless(Honest):
    def predict(self, prepared, *, context):
        found = super().predict(prepared, context=context)
        prepared.channels.flags.writeable = True
        prepared.channels[3] += 1
        return replace(found, probability={r: p + 0.1 for r, p in found.probability.items()})


class Dreaming(Honest):
    def predict(self, prepared, *, context):
        found = super().predict(prepared, context=context)
        shift = float(prepared.working.affine[0, 3]) > -80
        return replace(
            found, probability={r: p * (1 - shift) for r, p in found.probability.items()}
        )


class Hoarding(Honest):
    kept: ClassVar = []

    def predict(self, prepared, *, context):
        self.kept.append(np.ones(40 * 2**18))
        return super().predict(prepared, context=context)


class Nothing(Honest):
    def predict(self, prepared, *, context):
        super().predict(prepared, context=context)


class Failing(Honest):
    def predict(self, prepared, *, context):
        raise KeyError("a tensor")


class Prompted(Honest):
    info = replace(Honest.info, capabilities=frozenset({Capability.SEGMENT, Capability.PROMPT}))

    def answer_prompts(self, prepared, request, probability, *, context):
        return np.zeros(prepared.working.shape)


def test_an_honest_engine_keeps_it():
    assert engine_contract.failures(Honest()) == {}


@pytest.fixture
def failures(monkeypatch):
    """`failures(engine, "memory")`: what these checks alone find, in less time than all."""

    def run(engine, *names):
        checks = tuple(getattr(engine_contract, name) for name in names)
        assert set(checks) <= set(engine_contract.CHECKS)
        monkeypatch.setattr(engine_contract, "CHECKS", checks)
        return engine_contract.failures(engine)

    return run


@pytest.mark.parametrize(
    ("engine", "broken"),
    [
        (Boastful, {"honesty": ""}),
        (Deaf, {"cancelling": ""}),
        (Careless, dict.fromkeys(("outputs", "positions", "repeatable"), "")),
        (Dreaming, {"positions": ""}),
        (Hoarding, {"memory": ""}),
        (
            Nothing,
            {"identity": "", "outputs": r"records\.prediction\.Prediction; found .*NoneType"},
        ),
        (
            Failing,
            {
                **dict.fromkeys(("identity", "repeatable", "memory"), ""),
                "progress": r"found .* failed when it predicted \(KeyError\): 'a tensor'",
            },
        ),
        (Prompted, {"prompting": r"records\.prompts\.PromptResponse; found .*ndarray"}),
    ],
)
def test_what_an_engine_lacks_is_named(engine, broken, failures):
    """What an analysis would refuse is said in its words."""
    found = failures(engine(), *broken)
    Hoarding.kept.clear()
    assert set(found) == set(broken)
    assert all(words.startswith("requires ") for words in found.values())
    assert all(re.search(words, found[name]) for name, words in broken.items())


class HalfPerturbable(Honest):
    info = replace(Honest.info, capabilities=frozenset({Capability.SEGMENT, Capability.PERTURB}))

    def predict_perturbed(self, prepared, perturbations, *, context):
        raise NotImplementedError


@pytest.mark.slow
def test_the_shipped_network_changes_on_the_side_where_the_images_change():
    """Certain of a lesion as it is, which its voxels in another order did not change."""
    engine_contract.positions(engine_contract.Trial(LensEngine("cpu")))


def test_an_engine_without_the_grid_of_its_perturbed_inputs_learns_what_is_missing():
    trial = engine_contract.Trial(HalfPerturbable())
    with pytest.raises(engine_contract.ContractBrokenError, match="perturbation_grid"):
        engine_contract.honesty(trial)


class Incomplete(Honest):
    """Divides by what a missing sequence lacks."""

    def predict(self, prepared, *, context):
        found = super().predict(prepared, context=context)
        share = np.float32(1 if prepared.present.all() else np.nan)
        return replace(found, probability={r: p * share for r, p in found.probability.items()})


class Mirrored(Honest):
    def predict(self, prepared, *, context):
        found = super().predict(prepared, context=context)
        share = found.probability[Region.WT][::-1] * prepared.brain
        return replace(found, probability=dict.fromkeys(Region, share))


class Remembering(Honest):
    """Keeps its predictions by the shape of the images."""

    def __init__(self):
        self.kept = {}

    def predict(self, prepared, *, context):
        found = super().predict(prepared, context=context)
        return self.kept.setdefault(prepared.channels.shape, found)


class Forgetful(Honest):
    network = True

    def forget(self):
        self.network = False

    def predict(self, prepared, *, context):
        if not self.network:
            raise AttributeError("network")
        return super().predict(prepared, context=context)


class Renamed(Honest):
    def predict(self, prepared, *, context):
        found = super().predict(prepared, context=context)
        return replace(found, engine=replace(self.info, weights_sha256="ab" * 32))


class Hasty(Honest):
    def first_pass(self, prepared, *, context):
        return None


class Mute(Honest):
    """Declares a probe that fails when it is asked."""

    info = replace(
        Honest.info,
        capabilities=frozenset({Capability.SEGMENT, Capability.ATTEND, Capability.PROBE}),
    )
    probe = staticmethod(lambda voxel: np.zeros(1))

    def predict(self, prepared, *, context):
        found = super().predict(prepared, context=context)
        even = (prepared.brain / prepared.brain.sum()).astype(np.float32)
        trace = Trace(dict.fromkeys(Region, even), "even", (), self.probe)
        return replace(found, trace=trace)


class Perturbed(Honest):
    """Predicts perturbed inputs as it should; its heirs overlook one of the perturbations."""

    info = replace(Honest.info, capabilities=frozenset({Capability.SEGMENT, Capability.PERTURB}))

    def perturbation_grid(self, prepared):
        return prepared.working

    def predict(self, prepared, *, context):
        found = super().predict(prepared, context=context)
        first = self.predict_perturbed(prepared, [InputPerturbation()], context=context)
        return replace(found, unperturbed=first)

    def predict_perturbed(self, prepared, perturbations, *, context):
        each = [self.share(prepared, perturbation) for perturbation in perturbations]
        return PerturbedPrediction(np.stack(each), prepared.working)

    def share(self, prepared, perturbation):
        flair = prepared.channels[3] * prepared.brain * perturbation.keep[3]
        top = max(float(flair.max()), 1.0)
        if perturbation.hidden is not None:
            flair = np.where(perturbation.hidden & prepared.brain, flair.mean(), flair)
        return (flair / top).astype(np.float32)


class NeverMirroredBack(Perturbed):
    def share(self, prepared, perturbation):
        share = super().share(prepared, perturbation)
        return share[::-1] if perturbation.mirrored else share


class AllSequences(Perturbed):
    def share(self, prepared, perturbation):
        return super().share(prepared, replace(perturbation, keep=(True,) * 4))


class NothingHidden(Perturbed):
    def share(self, prepared, perturbation):
        return super().share(prepared, replace(perturbation, hidden=None))


class Constant(Honest):
    value = 0.5

    def predict(self, prepared, *, context):
        super().predict(prepared, context=context)
        share = np.where(prepared.brain, self.value, 0).astype(np.float32)
        return Prediction(dict.fromkeys(Region, share), self.info)


class Empty(Constant):
    value = 0.0


class Obliging(Honest):
    """Follows contradictory prompts, the later ones last."""

    info = Prompted.info

    def answer_prompts(self, prepared, request, probability, *, context):
        mask = np.zeros(prepared.working.shape, bool)
        if request.outline is not None:
            mask |= request.outline
        mask[tuple(request.foreground.T)] = True
        mask[tuple(request.background.T)] = False
        values = mask.astype(np.float32)
        everywhere = tuple(slice(0, n) for n in mask.shape)
        even = np.full(mask.shape, 1 / mask.size, np.float32)
        return PromptResponse(everywhere, values, even, np.zeros(mask.shape, bool))


@pytest.mark.parametrize(
    ("engine", "check", "words"),
    [
        (Obliging, "prompting", "both foreground and background"),
        (Constant, "repeatable", "not 0.5 everywhere in the brain"),
        (Empty, "repeatable", "not 0 everywhere in the brain"),
        (Incomplete, "subsets", "none of them NaN"),
        (Mirrored, "positions", "not mirrored along axis 0"),
        (Remembering, "repeatable", "of its own for another study"),
        (Forgetful, "repeatable", "AttributeError"),
        (Renamed, "identity", "names its engine, version and weights"),
        (Hasty, "preliminary", "FirstPass"),
        (Mute, "honesty", "as an array of"),
        (NeverMirroredBack, "perturbing", "mirrored back"),
        (AllSequences, "perturbing", "without any sequence"),
        (NothingHidden, "perturbing", "all voxels occluded"),
    ],
)
def test_what_only_a_later_study_or_request_would_show_is_found(engine, check, words, failures):
    assert words in failures(engine(), check)[check]


def test_an_engine_of_perturbed_inputs_keeps_it():
    assert engine_contract.failures(Perturbed()) == {}
