"""The proposal of a fine-tuning run: `proposal.json` with the proposed weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field

from lesionlens.analysis.evaluation.paired import PairedFigure
from lesionlens.analysis.evaluation.summary import Interval
from lesionlens.base.errors import ReadError, UnusableInputError, WeightsError
from lesionlens.base.files.bounded_read import read_model
from lesionlens.base.files.file_model import FileModel, schema_field
from lesionlens.base.provenance import sha256_of
from lesionlens.network.versions import TRAINED_ON

RECORD, WEIGHTS, PAGE = "proposal.json", "proposed.safetensors", "comparison.html"


class NamedWeights(FileModel):
    """Weights by version and hash."""

    version: str
    sha256: str


class MetricChange(FileModel):
    """A metric before and after; see `evaluation.paired.PairedFigure`."""

    title: str
    better: Literal[1, -1]
    key: str
    cases: int
    before: float
    after: float
    interval: tuple[float, float] | None

    @property
    def figure(self) -> PairedFigure:
        """The metric as a `PairedFigure`."""
        interval = None if self.interval is None else Interval(*self.interval)
        return PairedFigure(self.key, self.cases, self.before, self.after, interval)


class HeldOutCase(FileModel):
    """One held-out examination.

    Parameters
    ----------
    before, after : mapping of str to float or None
        Metrics, see `evaluation.summary.CaseScore`; empty without a usable result. A case in which
        one is empty is in no `MetricChange`.
    problems : tuple of str
        Why there is no usable result.
    """

    name: str
    healthy: bool
    drawn_by_weights: bool
    before: dict[str, float | None]
    after: dict[str, float | None]
    problems: tuple[str, ...] = ()


class Proposal(FileModel):
    """Content of proposal.json.

    Parameters
    ----------
    counts : mapping of str to int
        Numbers of studies, patients, and candidates by verdict.
    patients, drawn : tuple of MetricChange
        Metrics on held-out patients (whole analysis), and on synthetic brains (one pass).
    cautions : tuple of str
        What a person must consider before accepting.
    trained_on, held_out : tuple of str
        SHA-256 of patients, including those of ancestors; see `network.versions.WeightsVersion`.
    """

    schema_: Literal["lesionlens/proposal/1"] = schema_field("lesionlens/proposal/1")
    made: str
    parent: NamedWeights
    proposed: NamedWeights
    steps: int
    counts: dict[str, int]
    left_out: tuple[tuple[str, str], ...]
    patients: tuple[MetricChange, ...]
    drawn: tuple[MetricChange, ...]
    cases: tuple[HeldOutCase, ...]
    cautions: tuple[str, ...]
    trained_on: tuple[str, ...] = Field(validation_alias=TRAINED_ON)
    held_out: tuple[str, ...]


def digests(patients: Iterable[str]) -> tuple[str, ...]:
    """Return the SHA-256 of each patient's name, sorted."""
    return tuple(sorted({hashlib.sha256(p.encode()).hexdigest() for p in patients}))


def read_proposal(folder: Path) -> Proposal:
    """Read a proposal, and check that the weights are the compared ones.

    Raises
    ------
    UnusableInputError
        The folder contains no proposal.
    WeightsError
        The weights are missing or different.
    """
    try:
        proposal = read_model(folder / RECORD, Proposal)
    except (OSError, ValueError, ReadError) as error:
        raise UnusableInputError(
            found=f"no readable {RECORD} in {folder.name!r}",
            expected="a folder that `lesionlens learn` finished",
            next_step="Start `lesionlens learn` again with the same --out: it resumes",
        ) from error
    file = folder / WEIGHTS
    if not file.is_file() or sha256_of(file) != proposal.proposed.sha256:
        raise WeightsError(
            found=f"{WEIGHTS}, which is missing or not the file that was compared",
            expected=f"SHA-256 {proposal.proposed.sha256[:12]}…",
            next_step="Fine-tune again with another --out",
        )
    return proposal
