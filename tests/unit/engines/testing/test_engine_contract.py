"""The kit for engines' authors finds what it is there to find."""

import re
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import Region
from lesionlens.base.records.prediction import Capability, EngineInfo, Prediction
from lesionlens.base.run_context import RunContext
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

    def attribute(self, prepared, target, method):
        raise UnusableInputError(found=method, expected="none", next_step="Ask for none")


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


class Mumbling(Honest):
    def attribute(self, prepared, target, method):
        return None


class Nothing(Honest):
    def predict(self, prepared, *, context):
        super().predict(prepared, context=context)


class Failing(Honest):
    def predict(self, prepared, *, context):
        raise KeyError("a tensor")


class Prompted(Honest):
    info = replace(Honest.info, capabilities=frozenset({Capability.SEGMENT, Capability.PROMPT}))

    def answer_prompts(self, prepared, question, probability, *, context):
        return np.zeros(prepared.working.shape)


def test_an_honest_engine_keeps_it():
    assert engine_contract.failures(Honest()) == {}


@pytest.mark.parametrize(
    ("engine", "broken"),
    [
        (Boastful, {"honesty"}),
        (Deaf, {"cancelling"}),
        (Careless, {"outputs", "positions", "repeatable"}),
        (Dreaming, {"positions"}),
        (Hoarding, {"memory"}),
        (Mumbling, {"refusal"}),
        (Nothing, {"identity", "outputs"}),
        (Failing, {"identity", "repeatable", "memory"}),
        (Prompted, {"prompting"}),
    ],
)
def test_what_an_engine_lacks_is_named(engine, broken):
    found = engine_contract.failures(engine())
    Hoarding.kept.clear()
    assert broken <= set(found)
    assert all(words.startswith("requires ") for words in found.values())


@pytest.mark.parametrize(
    ("engine", "check", "words"),
    [
        (Nothing, "outputs", r"records\.prediction\.Prediction; found .*NoneType"),
        (Failing, "progress", r"found .* failed in progress \(KeyError\): 'a tensor'"),
        (Prompted, "prompting", r"records\.prompts\.PromptResponse; found .*ndarray"),
    ],
)
def test_what_an_analysis_would_refuse_is_said_in_its_words(engine, check, words):
    assert re.search(words, engine_contract.failures(engine())[check])


class HalfPerturbable(Honest):
    info = replace(Honest.info, capabilities=frozenset({Capability.SEGMENT, Capability.PERTURB}))

    def predict_perturbed(self, prepared, perturbations, *, context):
        raise NotImplementedError


def test_an_engine_without_the_grid_of_its_perturbed_inputs_learns_what_is_missing():
    trial = engine_contract.Trial(HalfPerturbable())
    with pytest.raises(engine_contract.ContractBrokenError, match="perturbation_grid"):
        engine_contract.honesty(trial)
