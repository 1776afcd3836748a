"""Content of a result folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.analysis import RunInfo, Volumes
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.files import AttentionMethod, SequenceRow
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.followup import Comparison, with_edits
from lesionlens.base.records.review import Review


@dataclass(frozen=True, slots=True, eq=False)
class SavedResult:
    """Content of a result folder, without the study's images; names are those of `Analysis`."""

    findings: Findings
    """Candidates as found by the network, and the voxels of each."""
    volumes: Volumes
    """Volumes on the native grid of `reference`."""
    review: Review
    run: RunInfo
    """How it was made, and the input files."""
    reference: MrSequence
    """Sequence whose grid the volumes have."""
    attention: AttentionMethod | None
    """Method and checks of the attention maps."""
    followup: Comparison | None = None
    options: ExportOptions = field(default_factory=ExportOptions)
    """Whether it was saved with evidence by sequence, or only with dismissed regions."""
    has_t1c: bool = True
    """Whether enhancement can be assessed; otherwise it is relabelled as core."""
    sequences: Mapping[MrSequence, SequenceRow] = field(default_factory=dict)
    """The analysed sequences, and the name of each one's series."""

    @property
    def compared(self) -> Comparison | None:
        """The comparison with a prior examination, with the current outlines and decisions."""
        return with_edits(
            self.followup, self.findings.candidates, self.review, self.volumes.cavity_ml
        )
