"""Save a whole result: every exporter writes into one staged folder, which appears together.

What happens to an earlier result in the same folder
----------------------------------------------------
Our own files there are replaced, and those that the new result lacks (a `dicom` folder, an
attention map) go away, so that two results never mix. Files of others stay. A reader's work is
never lost: where `review.json` holds acts that the new review does not continue, it is moved to
`earlier_reviews/<time>/` together with the findings and labels that it spoke of.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from lesionlens.base import plugins
from lesionlens.base.labels import Region
from lesionlens.base.peak_memory import peak_memory_mib
from lesionlens.base.stages import Progress, StageTime, no_progress
from lesionlens.base.staging import staged
from lesionlens.export.original import write_original
from lesionlens.export.run import write_run
from lesionlens.findings.edits import applied
from lesionlens.records.analysis import Analysis
from lesionlens.records.review import Review

logger = logging.getLogger(__name__)

REVIEW_FILE = "review.json"
EARLIER = "earlier_reviews"
SPOKEN_OF = (
    REVIEW_FILE,
    "findings.json",
    "segmentation.nii.gz",
    "candidates.nii.gz",
    "review_edits",
)
"""What is kept together when a review is set aside."""
OURS = (
    "segmentation.nii.gz",
    *(
        f"{kind}_{region.value}.nii.gz"
        for kind in ("probability", "attention")
        for region in Region
    ),
    "uncertainty.nii.gz",
    "findings.json",
    "findings.csv",
    "report.html",
    "report.pdf",
    "run.json",
    "dicom/seg.dcm",
    "dicom/sr.dcm",
    "dicom/attention.dcm",
    *(f"dicom/attention_{region.value}.dcm" for region in Region),
    "dicom/key_objects.dcm",
    "key_slices",
    REVIEW_FILE,
    "review_edits",
)
"""Names that belong to a result; an old one that the new result lacks is removed."""


class Exporter(Protocol):
    """One kind of file of a result (entry-point group `lesionlens.exporters`)."""

    name: str

    def missing(self, analysis: Analysis) -> str | None:
        """Say why this exporter cannot run, in words for the user; None when it can."""

    def write(self, analysis: Analysis, staged: Path) -> tuple[Path, ...]:
        """Write into the staged folder and return the files.

        Raises
        ------
        ExportError
            What was written differs, read back, from what was meant.
        """


def exporters() -> tuple[Exporter, ...]:
    """Return every installed exporter, by name."""
    return tuple(made() for made in plugins.load_all(plugins.EXPORTERS))


def save(analysis: Analysis, out: Path, *, progress: Progress = no_progress) -> None:
    """Write every file of a result into a folder: together or not at all.

    Parameters
    ----------
    analysis : Analysis
        What to write; outlines that readers redrew take the place of the network's, which is kept
        in `review_edits/original`.
    out : Path
        The folder; made where it is not there. See the module's text for an earlier result.
    progress : Progress
        Told of each exporter.

    Raises
    ------
    UnusableInputError
        The folder cannot be written.
    ResourceError
        The disk is full.
    ExportError
        A file differs, read back, from what was meant. In every case the folder is as it was.
    """
    out, analysis = Path(out), applied(analysis)
    with staged(out, ours=OURS) as aside:
        times, left_out = _write_all(analysis, aside, progress)
        write_original(analysis, aside)
        _keep_review(out, aside, analysis.review)
        write_run(analysis, aside, times, left_out)


def _write_all(
    analysis: Analysis, aside: Path, progress: Progress
) -> tuple[tuple[StageTime, ...], dict[str, str]]:
    times, left_out = [], {}
    every = exporters()
    for index, exporter in enumerate(every):
        stage = f"export: {exporter.name}"
        progress("saving", index / len(every))
        reason = exporter.missing(analysis)
        if reason is not None:
            logger.info("%s was left out: %s", stage, reason)
            left_out[exporter.name] = reason
            continue
        start = time.perf_counter()
        exporter.write(analysis, aside)
        times.append(StageTime(stage, time.perf_counter() - start, peak_memory_mib()))
    progress("saving", 1.0)
    return tuple(times), left_out


def _keep_review(out: Path, aside: Path, review: Review) -> None:
    """Stage a copy of the earlier review where it would else be lost."""
    found = out / REVIEW_FILE
    if not found.is_file() or _continues(found, review):
        return
    stamp = datetime.fromtimestamp(found.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    place = aside / EARLIER / stamp
    number = 1
    while (out / EARLIER / place.name).exists():
        number += 1
        place = aside / EARLIER / f"{stamp}-{number}"
    place.mkdir(parents=True)
    for name in SPOKEN_OF:
        source = out / name
        if source.is_dir():
            shutil.copytree(source, place / name)
        elif source.is_file():
            shutil.copy2(source, place / name)


def _continues(found: Path, review: Review) -> bool:
    """Whether the new review begins with all that the earlier one says."""
    try:
        stored: Any = json.loads(found.read_text(encoding="utf-8"))
        said = [(e["tracking_uid"], e["state"], e["time"]) for e in stored["events"]]
    except (ValueError, KeyError, TypeError):
        return False  # unreadable: keep it
    ours = [(e.tracking_uid, e.state.value, e.time) for e in review.events]
    return ours[: len(said)] == said
