"""An engine as a third party would write it, in a distribution of its own: bright FLAIR."""

import numpy as np

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import Region
from lesionlens.base.records.prediction import (
    Capability,
    EngineInfo,
    PerturbedPrediction,
    Prediction,
)


class BrightFlair:
    """Calls bright FLAIR suspicious, and says so of any subset of the sequences."""

    def __init__(self, device="auto"):
        kinds = {Capability.SEGMENT, Capability.PERTURB}
        self.info = EngineInfo("bright-flair", "0.1", None, frozenset(kinds), device)

    def _shares(self, prepared, keep=(True,) * 4, hidden=None):
        if not (prepared.present[3] and keep[3]):
            return np.zeros(prepared.working.shape, np.float32)
        flair = prepared.channels[3]
        inside = flair[prepared.brain]
        if hidden is not None:
            flair = np.where(hidden, inside.mean(), flair)
        bright = (flair - np.median(inside)) / (inside.std() + 1e-6)
        return (1 / (1 + np.exp(4 - 2 * bright)) * prepared.brain).astype(np.float32)

    def predict(self, prepared, *, context):
        context.check("looking at FLAIR")
        context.progress("looking at FLAIR", 1.0)
        shares = self._shares(prepared)
        seen = PerturbedPrediction(shares[None], prepared.working)
        return Prediction(dict.fromkeys(Region, shares), self.info, unperturbed=seen)

    def attribute(self, prepared, target, method):
        raise UnusableInputError(
            found=f"the method {method!r}", expected="none", next_step="Use another engine"
        )

    def perturbation_grid(self, prepared):
        return prepared.working

    def predict_perturbed(self, prepared, variants, *, context):
        return PerturbedPrediction(
            np.stack([self._shares(prepared, v.keep, v.hidden) for v in variants]),
            prepared.working,
        )
