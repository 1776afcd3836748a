"""The studies of a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lesionlens.base.arguments import check_folder
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files import exists, is_dir, is_file, resolved
from lesionlens.base.records.prediction import EngineInfo
from lesionlens.base.text import abbreviated_list, encodable, is_writable
from lesionlens.imaging.reading import bids
from lesionlens.imaging.reading.nifti import is_volume
from lesionlens.imaging.reading.sequences import is_label_name
from lesionlens.site.cohort.study_table import read_table, refuse_equal_names
from lesionlens.site.database.records import Status, StudyEntry, StudyOutcome
from lesionlens.site.database.study_files import analysed_files, run_of


@dataclass(frozen=True, slots=True)
class StudyJob:
    """One study to analyse."""

    name: str
    """Name of its folder, and of its result's."""
    study: Path
    out: Path
    """Input and output folder."""
    dataset: Path | None = None
    """BIDS derivatives dataset of the result."""
    patient: str = ""
    date: str = ""
    """Patient and date that a table of studies names."""
    files: str = ""
    """Fingerprint of the study's files as they are now (`database.study_files.fingerprint`)."""
    is_new: bool = False
    """Whether the output folder's list had no study of this name in this folder, or its result was
    replaced. An existing result must then be of the same files."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several shards of a list of studies, for machines that share only files."""

    number: int = 1
    """Number, from 1."""
    count: int = 1

    @classmethod
    def of(cls, text: str) -> Shard:
        """Parse a shard such as "2/4".

        Raises
        ------
        UnusableInputError
            The text is not a shard.

        Examples
        --------
        >>> Shard.of("2/4")
        Shard(number=2, count=4)
        """
        number, slash, count = text.partition("/")
        if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
            return cls(int(number), int(count))
        raise UnusableInputError(
            found=f"the shard {text!r}",
            expected="number and count, such as 1/4 to 4/4",
            next_step="In a SLURM array: --shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT",
        )

    def part(self, jobs: Sequence[StudyJob]) -> tuple[StudyJob, ...]:
        """Return every `count`-th job, which distributes similar neighbours."""
        return tuple(jobs[self.number - 1 :: self.count])


WHOLE = Shard()


def find_jobs(studies: Path, out: Path) -> tuple[StudyJob, ...]:
    """Return a job for each folder directly below `studies`, by name, or each row of a table.

    Hidden folders, and folders of segmentations (references) or recipes only, are skipped. A BIDS
    dataset has one job per session, or per subject without sessions; `derivatives` is ignored.

    Raises
    ------
    UnusableInputError
        The folder does not exist, has no sub-folder, or two whose names differ only in case.
    """
    if studies.is_file():
        rows = read_table(studies)
        return tuple(
            StudyJob(row.name, Path(row.place), out / row.name, patient=row.patient, date=row.date)
            for row in rows
        )
    check_folder(studies, "a folder with one sub-folder per study, or a CSV table")
    is_dataset = bids.is_dataset(studies)
    jobs = _bids_jobs(studies, out) if is_dataset else _folder_jobs(studies, out)
    refuse_equal_names((job.name for job in jobs), "Rename one of the two folders")
    return jobs


def _folder_jobs(studies: Path, out: Path) -> tuple[StudyJob, ...]:
    folders = (
        entry for entry in studies.iterdir() if is_dir(entry) and not entry.name.startswith(".")
    )
    paths = sorted(entry for entry in folders if not _has_no_scans(entry))
    if not paths:
        raise UnusableInputError(
            found=f"no sub-folder in {studies.name!r}",
            expected="one sub-folder per study",
            next_step="For a single study use `lesionlens analyze`",
        )
    named_paths = ((bids.short_name(encodable(path.name)), path) for path in paths)
    return tuple(StudyJob(name, path, out / name) for name, path in named_paths)


def study_paths_by_name(studies: Path) -> dict[str, Path]:
    """Return the path of each study of a folder or table, by the name of its result.

    Empty for a folder without studies: the caller reports those that are missing.

    Raises
    ------
    UnusableInputError
        A table cannot be read.
    """
    try:
        return {job.name: job.study for job in find_jobs(studies, studies)}
    except UnusableInputError:
        if studies.is_file():
            raise
        return {}


def listed(job: StudyJob) -> StudyEntry | None:
    """Return a study as a list entry; None if its path cannot be encoded."""
    path = str(resolved(job.study))
    subject, _ = bids.entities(f"{job.name}_")
    entry = StudyEntry(
        job.name, path, job.patient or (f"sub-{subject}" if subject else ""), job.date
    )
    return entry if is_writable(path) else None


def _bids_jobs(dataset: Path, out: Path) -> tuple[StudyJob, ...]:
    jobs = tuple(StudyJob(name, path, out / name) for name, path in bids.sessions(dataset))
    if not jobs:
        raise UnusableInputError(
            found=f"a BIDS dataset without a subject: {dataset.name!r}",
            expected="folders named sub-…, with or without ses-… in them",
            next_step="Choose the dataset's root folder",
        )
    return jobs


def _has_no_scans(folder: Path) -> bool:
    files = [path for path in folder.rglob("*") if is_file(path)]
    return bool(files) and all(
        path.suffix == ".toml" or (is_volume(path) and is_label_name(path.name)) for path in files
    )


def left_out(studies: Path, out: Path) -> tuple[str, ...]:
    """Return notes on the files of a folder that belong to no study.

    Links that lead nowhere are always reported. In a BIDS dataset, which has descriptions beside
    the subjects, other files are reported only if they are scans next to the sessions of a subject.
    Files beside the studies are not reported if `out`, the folder of the results or of the list, is
    the same folder, as they may be its own.
    """
    if studies.is_file():
        return ()
    missing = (path.name for path in sorted(studies.iterdir()) if not exists(path))
    links = [encodable(name) for name in missing if not name.startswith(".")]
    notes = []
    if links:
        names = abbreviated_list(links, 5)
        notes.append(f"Links that lead nowhere were skipped: {names}. Is a disk not mounted?")
    if bids.is_dataset(studies):
        if scans := bids.scans_beside_sessions(studies):
            prefix = f"Scans next to the sessions of {abbreviated_list(scans, 5)} belong to no"
            notes.append(f"{prefix} session and were skipped: move them into one")
    elif studies.resolve() != out.resolve() and (n_loose := _loose_files(studies)):
        prefix = "Files next to the study folders belong to no study and were skipped"
        notes.append(f"{prefix}: {n_loose}")
    return tuple(notes)


def _loose_files(folder: Path) -> int:
    paths = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sum(map(is_file, paths))


def mixed_result_notes(out: Path, outcomes: Sequence[StudyOutcome]) -> tuple[str, ...]:
    """Return notes if the results of a cohort were made by several releases, networks, precisions.

    That is so after an update, or on machines with and without a GPU.

    `out` and `outcomes` as for `duplicate_scan_notes`.
    """
    names = (outcome.name for outcome in outcomes if outcome.status is Status.ANALYSED)
    runs = [run for name in names if (run := run_of(out / name))]
    counters = {
        "releases of LesionLens": Counter(
            release for run in runs if (release := run.versions.get("lesionlens"))
        ),
        "networks": Counter(_network(run.engine) for run in runs),
        "precisions": Counter(run.engine.precision.value for run in runs if run.engine.precision),
    }
    return tuple(
        f"The table has results of several {attribute}: {_counts(counter)}. Without --resume all "
        "studies are analysed again"
        for attribute, counter in counters.items()
        if len(counter) > 1
    )


def _network(engine: EngineInfo) -> str:
    weights = f", SHA-256 {engine.weights_sha256[:12]}…" if engine.weights_sha256 else ""
    return f"{engine.name} {engine.version}{weights}"


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({number})" for name, number in sorted(numbers.items()))


def duplicate_scan_notes(out: Path, outcomes: Sequence[StudyOutcome]) -> tuple[str, ...]:
    """Return a note that names the studies with a file of an earlier one.

    Parameters
    ----------
    out : Path
        Folder of the cohort. Results are compared by the files that they were made of.
    """
    owners: dict[str, str] = {}
    pairs = []
    for outcome in outcomes:
        if outcome.status is not Status.ANALYSED:
            continue
        files = analysed_files(out / outcome.name)
        owner = next((owners[digest] for digest in sorted(files) if digest in owners), None)
        if owner is not None:
            pairs.append(f"{outcome.name} and {owner}")
        owners |= dict.fromkeys(files - owners.keys(), outcome.name)
    pairs_text = abbreviated_list(pairs, 5, "; ")
    return (
        (f"The same scan is in two studies, and both are counted: {pairs_text}",) if pairs else ()
    )
