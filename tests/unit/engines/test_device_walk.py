"""Everything that computes with torch, walked for accelerators that are not here.

The tensors claim to lie on the device and hold real values, so whatever is left on the wrong device
is refused, and what comes out must be what the CPU gives.
"""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from tests.unit.engines.pretend_device import Pretended, pretended

from lesionlens.base.records.prediction import InputPerturbation
from lesionlens.base.run_context import SILENT
from lesionlens.engines import device as devices
from lesionlens.engines import refinement
from lesionlens.engines.lens import LensEngine
from lesionlens.engines.prompting import Prompter

KINDS = ("mps", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("cuda", "xpu")))
"""Apple's is the strictest; the others differ by name alone."""
pytestmark = pytest.mark.filterwarnings("ignore:at..frobenius_norm")


def answers(engine, study):
    """Ask an engine all that it can be asked."""
    prediction = engine.predict(study, context=SILENT)
    trace, found = prediction.trace, {}
    found.update({f"probability {r}": v for r, v in prediction.probability.items()})
    found.update({f"attention {r}": v for r, v in trace.cross.items()})
    inside = np.argwhere(study.brain)
    found["probe"] = trace.probe_row(tuple(int(v) for v in inside[len(inside) // 2]))
    variants = [InputPerturbation(mirrored=True), InputPerturbation((False, True, False, True))]
    seen = engine.predict_subsets(study, variants, context=SILENT)
    found["perturbed"] = seen.probability
    return found, trace.method


@pytest.fixture(scope="module")
def study(make_prepared):
    return make_prepared()


@pytest.fixture
def named(monkeypatch):
    monkeypatch.setattr(devices, "describe", lambda *_: "a pretended device")


@pytest.mark.parametrize("kind", KINDS)
def test_the_lens_engine_computes_the_same_on_every_device(
    kind, refining_weights, study, monkeypatch, named
):
    monkeypatch.setattr(refinement, "_SUSPECTED", 0.0)  # untrained, it suspects nothing
    expected, _ = answers(LensEngine("cpu", refining_weights), study)
    place = torch.device(kind, 0)
    monkeypatch.setattr(devices, "choose", lambda _: place)
    monkeypatch.setattr(devices, "autocast", lambda _: nullcontext())
    with pretended(place):
        engine = LensEngine(kind, refining_weights)
        assert all(isinstance(p, Pretended) for p in engine.network.parameters())
        found, method = answers(engine, study)
    assert engine.placement.notices == ()
    assert "windows" in method
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5, err_msg=name)


def test_a_first_prompt_moves_to_the_cpu_what_the_device_lacks(
    random_weights, study, monkeypatch, named
):
    """Such as of a saved result, for which nothing was predicted here."""
    place = torch.device("mps", 0)
    monkeypatch.setattr(devices, "choose", lambda _: place)

    def answer(prompts, *_, **__):
        if prompts._device.type != "cpu":
            raise NotImplementedError("The operator 'aten::upsample_trilinear3d' is not there")
        return "an answer"

    monkeypatch.setattr(Prompter, "prompt", answer)
    with pretended(place):
        engine = LensEngine("auto", random_weights)
        assert engine.prompt(study, None, None, context=SILENT) == "an answer"
    assert "an operation" in engine.placement.notices[0]


def test_a_tensor_left_behind_is_found():
    place = torch.device("cuda", 0)
    with pretended(place), pytest.raises(RuntimeError, match="operands on"):
        torch.ones(3, device=place) + torch.ones(3)
    with pretended(place), pytest.raises(TypeError, match="numpy"):
        torch.ones(3, device=place).numpy()
    with pretended(torch.device("mps", 0)), pytest.raises(TypeError, match="float64"):
        torch.ones(3, device="mps:0").double()
