"""Perturbed predictions (subsets of sequences, mirrored) for relevance and uncertainty.

They give each candidate's Shapley values (contribution of each sequence) and the uncertainty map
(variation of the prediction under perturbation). Quick passes are coarser than the prediction.
Where they do not find again what is flagged (`quick_passes_suffice`), they do not predict what an
analysis of a subset of the sequences would flag: subsets are then predicted at the prediction's own
voxel size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.explain import shapley
from lesionlens.analysis.explain.perturbation_runner import PerturbationRunner
from lesionlens.analysis.findings.component_scores import ComponentVoxels
from lesionlens.analysis.findings.components import ComponentMask
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Floats, bounding_box
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.evidence import SequenceScores
from lesionlens.base.records.prediction import InputPerturbation, PerturbedPrediction, Prediction
from lesionlens.engines.perturbation_order import (
    OUTLINED,
    Subset,
    fine_inputs,
    for_uncertainty,
    leave_one_out_subsets,
    subsets_of,
)

UNCERTAINTY, RELEVANCE = "the uncertainty", "which sequence mattered"
MIN_DETECTED = 0.1
"""Minimum mean probability of a region's flagged voxels in a pass that detects the region."""


def undecided(probability: Floats) -> Floats:
    """Return how close the mean of several predictions is to one half, 0 to 1.

    Contradicting predictions move the mean towards one half, and so does a single prediction near
    one half. A region present in five of six predictions has an uncertainty of one third.

    Parameters
    ----------
    probability : (V, I, J, K) float32
        Whole-tumour probabilities: unperturbed, mirrored, and with single sequences omitted.

    Returns
    -------
    (I, J, K) float32
        1 - |2 mean - 1|: 0 if all agree with certainty, 1 if half are positive and half negative.

    Examples
    --------
    >>> undecided(np.array([1.0, 0.0], np.float32).reshape(2, 1, 1, 1)).item()
    1.0
    """
    mean = probability.mean(axis=0, dtype=np.float32)
    return np.asarray(1.0 - np.abs(2.0 * mean - 1.0), dtype=np.float32)


def quick_passes_suffice(
    runner: PerturbationRunner, prediction: Prediction, component_mask: ComponentMask
) -> bool:
    """Return whether the quick passes find again what is flagged.

    With all sequences they must outline most of it, and the pass whose attention is shown must
    detect each region.

    Parameters
    ----------
    prediction : Prediction
        Prediction of the study, with `unperturbed`.
    component_mask : ComponentMask
        The flagged components, on the native grid.

    Returns
    -------
    bool
        True also if nothing is flagged, if the pass does not predict a region, or if time
        ran out.
    """
    first_pass = prediction.unperturbed
    if first_pass is None or not component_mask.count:
        return True
    flagged = {region: flagged_on(component_mask, region, first_pass.grid) for region in Region}
    whole_tumour = first_pass.probability[0].ravel()[flagged[Region.WT]]
    if (whole_tumour >= prediction.thresholds[Region.WT]).mean() < OUTLINED:
        return False
    pass_alone = runner.predict(RELEVANCE, [InputPerturbation(alone=True)])
    if pass_alone is None:
        return True
    for region, voxels in flagged.items():
        probability = pass_alone.of(region)
        if probability is None or not voxels.size:
            continue
        if probability[0].ravel()[voxels].mean() < MIN_DETECTED:
            return False
    return True


def flagged_on(component_mask: ComponentMask, region: Region, grid: Grid) -> NDArray[np.intp]:
    """Return the (n,) flat indices of a region's flagged voxels on another grid."""
    box = bounding_box(component_mask.labels > 0)
    if box is None:
        return np.empty(0, np.intp)
    voxels = np.argwhere(np.isin(component_mask.labels[box], region.labels))
    voxels += [side.start for side in box]
    return grid.flat_voxels(component_mask.grid.to_mm(voxels))


class PerturbationResults(NamedTuple):
    """Sequence contributions and uncertainty from the perturbed predictions."""

    by_sequence: SequenceScores | None
    """Contribution of each sequence to the overlap (`subset_overlap`) of each component; None
    without components, or if time ran out."""
    uncertainty: Volume | None
    """0 to 1; None if time ran out."""
    leave_one_out: Sequence[Mapping[str, float | None]] | None
    """Overlap of each component without one sequence, in quick passes and at the threshold of the
    study, as in the fit of the scores."""


def predict_subsets(
    runner: PerturbationRunner,
    prediction: Prediction,
    components: Sequence[ComponentVoxels],
    fine_components: ComponentMask | None = None,
) -> PerturbationResults:
    """Predict every subset of the sequences, and mirrored inputs.

    Predictions for the uncertainty come first; other subsets, for the Shapley values, are predicted
    only if there is a component.

    Parameters
    ----------
    prediction : Prediction
        Prediction of the study, with `unperturbed`.
    components : sequence of ComponentVoxels
        Each component on the grid of `unperturbed`.
    fine_components : ComponentMask or None
        The same components, to predict the subsets at the prediction's own voxel size.

    Raises
    ------
    CancelledError
        The user asked to stop.
    """
    first_pass = prediction.unperturbed
    if first_pass is None:
        raise UnusableInputError(
            found="a prediction without `unperturbed`",
            expected="one from an engine with `predict_subsets`",
            next_step="Report this to the engine's authors",
        )
    present = runner.prepared.sequences
    all_sequences = frozenset(present)
    leave_one_out = leave_one_out_subsets(present)
    perturbed = runner.predict(UNCERTAINTY, for_uncertainty(present))
    threshold = prediction.thresholds[Region.WT]
    quick = _SubsetMaps(
        first_pass.grid,
        components,
        {all_sequences: first_pass.probability[0]},
        {all_sequences: threshold},
    )
    uncertainty = None
    if perturbed is not None:
        quick.add([None, *leave_one_out], perturbed, threshold)
        predictions = np.stack([*first_pass.probability[:1], *perturbed.probability])
        uncertainty = Volume(undecided(predictions), first_pass.grid)
    if not components:
        return PerturbationResults(None, uncertainty, None)
    without_each = {s: all_sequences - {s} for s in present}
    required = subsets_of(present) if fine_components is None else without_each.values()
    missing = [subset for subset in required if subset not in quick.by_subset]
    if missing:
        perturbed = runner.predict(RELEVANCE, [*map(InputPerturbation.showing, missing)])
        if perturbed is None:
            return PerturbationResults(None, uncertainty, None)
        quick.add(missing, perturbed, threshold)
    left_out = shapley.values_by_subset(quick.table(threshold), without_each)
    if fine_components is None:
        return PerturbationResults(_sequence_scores(quick, present), uncertainty, left_out)
    fine = _predict_fine(runner, fine_components, threshold)
    if fine is None:
        return PerturbationResults(None, uncertainty, left_out)
    fine_maps, uncertainty = fine
    return PerturbationResults(_sequence_scores(fine_maps, present), uncertainty, left_out)


def _predict_fine(
    runner: PerturbationRunner, component_mask: ComponentMask, threshold: float
) -> tuple[_SubsetMaps, Volume] | None:
    """Return every subset's map, and the uncertainty, at the prediction's own voxel size.

    None if time ran out.
    """
    present = runner.prepared.sequences
    subsets = subsets_of(present)
    predictions = runner.predict(RELEVANCE, fine_inputs(present))
    if predictions is None:
        return None
    grid = predictions.grid
    maps = _SubsetMaps(grid, component_mask.voxels_on(grid), {}, {})
    maps.add([None, *subsets], predictions, threshold)
    compared = [frozenset(present), *leave_one_out_subsets(present)]
    probability = [predictions.probability[0], *(maps.by_subset[subset] for subset in compared)]
    return maps, Volume(undecided(np.stack(probability)), grid)


def _sequence_scores(maps: _SubsetMaps, present: Sequence[MrSequence]) -> SequenceScores:
    """Return each sequence's contribution to the components and to the probability."""
    table = maps.table()
    without_each = {s: frozenset(present) - {s} for s in present}
    return SequenceScores(
        relevance=shapley.of_components(present, table),
        dice_without=shapley.values_by_subset(table, without_each),
        by_voxel=shapley.evidence_maps(present, maps.by_subset, maps.grid),
    )


class _SubsetMaps(NamedTuple):
    """Probability maps by subset of the sequences, and the components on their grid."""

    grid: Grid
    components: Sequence[ComponentVoxels]
    by_subset: dict[Subset, NDArray[np.float32]]
    thresholds: dict[Subset, float]
    """Probability from which an analysis of the subset outlines a voxel."""

    def add(
        self,
        subsets: Sequence[Subset | None],
        predictions: PerturbedPrediction,
        default_threshold: float,
    ) -> None:
        """Add the predictions of subsets, in their order; None skips one."""
        thresholds = predictions.thresholds or [default_threshold] * len(subsets)
        for subset, probability, threshold in zip(
            subsets, predictions.probability, thresholds, strict=True
        ):
            if subset is not None:
                self.by_subset[subset], self.thresholds[subset] = probability, threshold

    def table(self, threshold: float | None = None) -> dict[Subset, NDArray[np.float64]]:
        """Return `subset_overlap` by subset, each at its own threshold unless one is given."""
        nearest = _nearest_component(self.components, self.grid.shape)
        masks = {
            subset: probability >= (self.thresholds[subset] if threshold is None else threshold)
            for subset, probability in self.by_subset.items()
        }
        full_mask = masks[max(masks, key=len)]
        return {
            s: subset_overlap(mask, full_mask, nearest, len(self.components))
            for s, mask in masks.items()
        }


def subset_overlap(
    by_subset: NDArray[np.bool_], by_all: NDArray[np.bool_], nearest: NDArray[np.intp], count: int
) -> NDArray[np.float64]:
    """Return the Dice of each component between a subset's and the full prediction.

    The score is not suitable: it includes the size of the final outline, for which a sequence that
    shows nothing would be credited. Nor is the final outline: it is finer than these passes, which
    would mask the differences between them.

    Parameters
    ----------
    by_subset, by_all : (I, J, K) bool
        Mask predicted from a subset, and from all sequences in the same kind of pass.
    nearest : (I, J, K) int
        Index of the nearest component for each voxel.

    Returns
    -------
    (count,) float64
        Dice of the two among the voxels nearest to each component; 0 if both are empty.

    Examples
    --------
    >>> by_subset, by_all = np.zeros((4, 1, 1), bool), np.zeros((4, 1, 1), bool)
    >>> by_subset[1:3], by_all[:3] = True, True
    >>> subset_overlap(by_subset, by_all, np.zeros((4, 1, 1), np.intp), 1).tolist()
    [0.8]
    """

    def sizes(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.bincount(nearest[mask], minlength=count)[:count].astype(np.float64)

    return np.asarray(
        2 * sizes(by_subset & by_all) / np.maximum(sizes(by_subset) + sizes(by_all), 1.0)
    )


def _nearest_component(
    components: Sequence[ComponentVoxels], shape: tuple[int, ...]
) -> NDArray[np.intp]:
    """Return the index of the nearest component for each voxel."""
    nearest = np.zeros(shape, np.intp)
    if len(components) < 2:
        return nearest
    background = np.ones(shape, bool)
    for number, component in enumerate(components):
        nearest.ravel()[component.voxels] = number
        background.ravel()[component.voxels] = False
    nearest_index = ndimage.distance_transform_edt(
        background, return_distances=False, return_indices=True
    )
    return np.asarray(nearest[tuple(nearest_index)])
