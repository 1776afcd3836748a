"""An engine and an exporter as a third party would write them, in a distribution of their own.

The engine outlines what is bright on FLAIR and T1c: the lesions of the synthetic heads.
"""

import numpy as np
from scipy import ndimage

from lesionlens.plugin import (
    EngineInfo,
    MrSequence,
    PerturbedPrediction,
    Prediction,
    Region,
    Trace,
)


class ByRule:
    """Outlines bright voxels, from any subset of the sequences."""

    def __init__(self, device="auto"):
        self.info = EngineInfo("by-rule", "0.1", None, device)

    @staticmethod
    def _regions(prepared, keep=(True,) * 4):
        """Probabilities of the nested regions: an outline's is the higher, the brighter it is."""
        shape = prepared.working.shape
        bright = dict.fromkeys(MrSequence, np.zeros(shape, np.float32))
        for index, sequence in enumerate(MrSequence):
            if prepared.present[index] and keep[index]:
                values = np.array(prepared.channels[index], np.float32)
                typical = np.median(values[prepared.brain])
                ratio = values / max(float(typical), 1e-6) - 1.4
                bright[sequence] = np.where(prepared.brain, ratio, -1)
        enhancing = bright[MrSequence.T1C] > 0
        if not prepared.has_t1c:  # what nobody can know: LesionLens must not believe it
            enhancing = ndimage.binary_erosion(bright[MrSequence.FLAIR] > 0)
        core = ndimage.binary_fill_holes(enhancing)
        whole = core | (bright[MrSequence.FLAIR] > 0)
        whole = ndimage.binary_fill_holes(ndimage.binary_opening(whole))
        masks = (whole, core & whole, enhancing & whole)
        height = (0.95, 0.9, 0.85)
        return {
            region: (prepared.brain * np.where(mask, high, 0.02)).astype(np.float32)
            for region, mask, high in zip(Region, masks, height, strict=True)
        }

    def predict(self, prepared, *, context):
        context.check("looking at the voxels")
        context.progress("looking at the voxels", 1.0)
        regions = self._regions(prepared)
        weights = {}
        for region, probability in regions.items():
            smooth = ndimage.gaussian_filter(probability, 1.0) * prepared.brain
            weights[region] = (smooth / max(float(smooth.sum()), 1e-6)).astype(np.float32)
        return Prediction(
            regions,
            self.info,
            uncertainty=(0.1 * prepared.brain).astype(np.float32),
            trace=Trace(weights, "smoothed probability", ("none",)),
            unperturbed=PerturbedPrediction(regions[Region.WT][None], prepared.working),
        )

    def predict_subsets(self, prepared, variants, *, context):
        whole = [self._regions(prepared, v.keep)[Region.WT] for v in variants]
        return PerturbedPrediction(np.stack(whole), prepared.working)


class Counting:
    """Writes how many candidates there are."""

    name = "counting"

    def missing(self, analysis):
        return None

    def write(self, analysis, staged):
        path = staged / "count.txt"
        path.write_text(str(len(analysis.findings.candidates)))
        return (path,)
