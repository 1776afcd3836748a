"""The contribution map of one sequence, computed on request; it may take a moment."""

from __future__ import annotations

import numpy as np

from lesionlens.analysis.findings.components import ComponentMask
from lesionlens.analysis.findings.edits import without_edits
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import frozen
from lesionlens.napari.model.overlays.maps import MapView, onto

EVIDENCE_TOP = 0.5
"""Probability difference with full colour, in every study."""
_TICKS = ((-0.5, "-0.5 against"), (0.0, "0"), (0.5, "+0.5 for"))
_MAX_LISTED = 4


def evidence_view(analysis: Analysis, sequence: MrSequence) -> MapView:
    """Return the contribution map of one sequence.

    Raises
    ------
    UnusableInputError
        The result has no such map.
    """
    evidence = analysis.volumes.evidence
    if evidence is None or sequence not in evidence.shares:
        raise UnusableInputError(
            f"The result lacks the contribution of {sequence.display_name} at each voxel.",
            hint="Analyse the study again.",
        )
    prepared = analysis.prepared
    data = onto(evidence.shares[sequence], evidence.grid, prepared.working)
    network_findings = without_edits(analysis).findings
    components = ComponentMask.of(network_findings, prepared.native)
    means = [
        f"{candidate.id}: {evidence.within(component.voxels)[sequence]:+z.2f}"
        for candidate, component in zip(
            network_findings.candidates, components.voxels_on(evidence.grid), strict=True
        )
    ]
    listed = ", ".join(means[:_MAX_LISTED])
    mean = f"Mean of {sequence.display_name} within the network's candidates"
    summary = f"{mean} · {listed}. " if listed else ""
    return MapView(
        frozen(np.asarray(data, np.float32)),
        EVIDENCE_TOP,
        _TICKS,
        "change of the probability by this sequence, up (blue) or down (orange): exact Shapley "
        "values of the first pass; with the other maps and the output without images they sum to "
        "its probability",
        low=-EVIDENCE_TOP,
        role="evidence",
        statistics=f"{summary}Exact Shapley values of the first pass, "
        f"{float(evidence.grid.spacing_mm[0]):.2g} mm.",
    )
