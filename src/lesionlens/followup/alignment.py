"""Lay a prior examination onto this one: rigid, by a sequence that both have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import REFERENCE_ORDER, MrSequence
from lesionlens.base.stages import NEVER, Cancel
from lesionlens.preparation.registration import Registration, pyramid, register
from lesionlens.records.study import PreparedStudy


def common_sequence(now: PreparedStudy, prior: PreparedStudy) -> MrSequence:
    """Return the sequence by which two examinations are aligned: the first reference of both.

    Raises
    ------
    UnusableInputError
        They have none in common.
    """
    for sequence in REFERENCE_ORDER:
        at = list(MrSequence).index(sequence)
        if now.present[at] and prior.present[at]:
            return sequence
    raise UnusableInputError(
        found="a prior study without a sequence of this one",
        expected="at least one that both have",
        next_step="Choose another prior study",
    )


def align(
    now: PreparedStudy, prior: PreparedStudy, *, cancel: Cancel = NEVER
) -> tuple[Registration, MrSequence]:
    """Find the rigid movement from this examination to the prior one, and by which sequence.

    Only brains are compared, with what lies near them: jaw and neck move, a brain does not.
    """
    sequence = common_sequence(now, prior)
    fixed, moving = (_brain(one, sequence) for one in (now, prior))
    return register(
        pyramid(fixed, now.working), pyramid(moving, prior.working), cancel=cancel
    ), sequence


def _brain(prepared: PreparedStudy, sequence: MrSequence) -> NDArray[np.float32]:
    channel = prepared.channels[list(MrSequence).index(sequence)]
    return np.where(prepared.brain, channel, np.float32(0.0))
