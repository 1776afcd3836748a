"""Prepared synthetic heads on which an engine's contract is checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from lesionlens.base.labels import REFERENCE_ORDER, MrSequence
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines.testing.simple import SyntheticPatient, make_patient


def prepared_head(
    sequences: Iterable[str] = tuple(MrSequence), patient: SyntheticPatient | None = None
) -> PreparedStudy:
    """Return a prepared synthetic head with one lesion: voxels of 4 mm, axes of different lengths.

    Parameters
    ----------
    sequences : iterable of str
        Available sequences.
    patient : SyntheticPatient or None
        Head to use instead.
    """
    head = patient or make_patient(spacing_mm=4.0)
    present = np.array([sequence in set(sequences) for sequence in MrSequence])
    channels = np.stack([head.sequences[sequence].data for sequence in MrSequence])
    channels = (channels * present[:, None, None, None]).astype(np.float32)
    reference = next(s for s in REFERENCE_ORDER if present[list(MrSequence).index(s)])
    grid = head.labels.grid
    return PreparedStudy(
        channels=channels,
        present=present,
        brain=head.brain.data,
        working=grid,
        native=grid,
        to_native=np.eye(4),
        reference=reference,
    )


def healthy_head() -> PreparedStudy:
    """Return `prepared_head` with median brain tissue in place of its lesion."""
    study, lesion = prepared_head(), make_patient(spacing_mm=4.0).labels.data > 0
    channels = np.array(study.channels)
    channels[:, lesion] = np.median(channels[:, study.brain & ~lesion], axis=1, keepdims=True)
    return replace(study, channels=channels)
