"""Real training cases with references: public datasets, and results reviewed in LesionLens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.evaluation.cases import (
    PATIENTS_NAME,
    Case,
    ImageFile,
    by_case,
    check_rows,
    find_cases,
    patient_of,
    patients_table,
    read_volume,
)
from lesionlens.analysis.evaluation.label_conventions import (
    WITH_CAVITY,
    is_undivided,
    regions_of,
    translate,
)
from lesionlens.analysis.evaluation.metrics import HIT_MM
from lesionlens.analysis.findings.placed_outlines import place_outlines
from lesionlens.analysis.followup.patient import examination_of_result
from lesionlens.base.arguments import check_folder
from lesionlens.base.errors import ConfigError, UnusableInputError
from lesionlens.base.geometry import apply
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label, MrSequence, Region, ReviewState
from lesionlens.base.records.arrays import enhancing_as_core
from lesionlens.base.records.findings import LESION_PARTS
from lesionlens.base.records.review import CAVITY, NO_CANDIDATE
from lesionlens.base.records.study import Series, SourceFile, Study, StudyKind
from lesionlens.base.text import encodable
from lesionlens.imaging import samples
from lesionlens.imaging.reading.open import open_study
from lesionlens.results.review.earlier import is_outline_unconfirmed
from lesionlens.results.review.outline_digests import is_signed_on_other_outlines, outlines_of
from lesionlens.results.review.pairing import OtherStudyError, paired
from lesionlens.results.review.reopen import read_result, results_in
from lesionlens.results.review.saved_result import SavedResult
from lesionlens.site.cohort.studies import study_paths_by_name


class Reference(NamedTuple):
    """The reference of a case."""

    labels: NDArray[np.uint8]
    """(I, J, K) uint8: the contract's labels."""
    grid: Grid


@dataclass(frozen=True, slots=True, eq=False)
class RealCase:
    """One examination to train on."""

    name: str
    patient: str
    """As in `evaluation.cases.Case`, but both can be encoded."""
    key: str
    """Key that changes when its files do."""
    study: Callable[[], Study]
    """Opens the study; voxels are read by `Series.load`."""
    reference: Callable[[], Reference]
    """Reads its reference."""
    cavity: bool = False
    """Whether the labels include a resection cavity."""


@dataclass(frozen=True, slots=True)
class FoundCases:
    """The cases in a folder."""

    cases: tuple[RealCase, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    """Name of each result that is not trained on, and why."""


def find_real_cases(
    root: Path, *, studies: Path | None = None, convention: Callable[[Case], str | None]
) -> FoundCases:
    """Find the training cases in a folder.

    Parameters
    ----------
    root : Path
        BraTS, Decathlon or nnU-Net layout; or one result folder per study, of which those are used
        whose review is signed.
    studies : Path or None
        For reviewed results: what `batch` was given, the folder or table of their studies.
    convention : callable
        Returns the label convention of a case, None to infer it from the labels.

    Raises
    ------
    ConfigError
        There is no case, no signed result, or the studies of results were not given.
    UnusableInputError
        A case has no reference, has undecided candidates, or is the sample patient; the message
        names it.
    """
    check_folder(root, "a folder of cases with their references, or of reviewed results")
    results = results_in(root)
    if results:
        return _signed_cases(root, results, studies)
    cases = find_cases(root)
    _read_patients(root, [case.name for case in cases])
    return FoundCases(tuple(_dataset_case(case, convention(case)) for case in cases))


def _signed_cases(root: Path, results: Sequence[Path], studies: Path | None) -> FoundCases:
    """Return the results whose review is signed."""
    if studies is None:
        raise ConfigError(
            found=f"results, such as {results[0].name!r}, which hold no images",
            expected="the folder of the studies that they were made of",
            next_step="Name it with --studies",
        )
    names = [folder.name for folder in results]
    patients = _read_patients(root, names)
    study_paths = by_case(study_paths_by_name(studies), names)
    cases: list[RealCase] = []
    left_out: list[tuple[str, str]] = []
    for folder in results:
        with naming_case(folder.name):
            reason = _unsigned_reason(read_result(folder, maps=False))
        if reason:
            left_out.append((encodable(folder.name), reason))
            continue
        study = study_paths.get(folder.name, studies / folder.name)
        cases.append(reviewed_case(folder, study, patients.get(folder.name)))
    if not cases:
        name, reason = left_out[0]
        raise UnusableInputError(
            found=f"no signed review in {root.name!r} ({name}: {reason})",
            expected="results that a reader has signed",
            next_step="Read them in napari, sign each, and save the result",
        )
    return FoundCases(tuple(cases), tuple(left_out))


def _unsigned_reason(saved: SavedResult) -> str:
    """Return why a review is no reference; empty if its outlines are signed."""
    if saved.review.signed is None:
        return "not signed"
    if is_signed_on_other_outlines(saved.review, outlines_of(saved)):
        return "signed before it was analysed again, with other outlines"
    return ""


def _read_patients(root: Path, cases: Sequence[str]) -> Mapping[str, str]:
    patients = by_case(patients_table(root), cases)
    check_rows(PATIENTS_NAME, patients, cases)
    return patients


def _dataset_case(case: Case, convention: str | None) -> RealCase:
    if case.reference_path is None or not case.images:
        raise UnusableInputError(
            found=f"case {case.name!r} of patient {case.patient!r} without "
            + ("a reference" if case.reference_path is None else "an image"),
            expected="a segmentation next to the images of every case; an empty one where there "
            "is nothing",
            next_step="Add it, or move the case out of the folder",
        )
    if case.alternatives:
        raise UnusableInputError(
            found=f"several images of one sequence in case {case.name!r}: "
            + ", ".join(dict.fromkeys(f.path.name for f in next(iter(case.alternatives.values())))),
            expected="one image of each sequence",
            next_step="Move the others out of the folder",
        )
    if Region.ET not in regions_of(convention):
        raise ConfigError(
            found=f"case {case.name!r} in the convention {convention}, without an enhancing part",
            expected="a reference of all three regions",
            next_step="Omit such cases",
        )
    reference_path = case.reference_path

    def read() -> Reference:
        voxels, header = read_volume(reference_path)
        labels = translate(voxels, convention, f"the reference of case {case.name}")
        if is_undivided(labels, convention):
            raise UnusableInputError(
                found="a reference with the label 1 alone, which is either the core or a mask of "
                "whole lesions",
                expected="core, oedema and enhancing part apart",
                next_step="If 1 is the core, name the convention, such as --convention brats23; "
                "masks of whole lesions cannot be trained on",
            )
        return Reference(labels, header.grid)

    files = [reference_path, *(image.path for image in case.images.values())]
    _refuse_sample(case.name, samples.digests_of(files))
    channels = [(sequence.value, image.channel) for sequence, image in case.images.items()]
    return RealCase(
        encodable(case.name),
        encodable(case.patient),
        _files_digest(files, f"{convention} {channels}"),  # dataset.json may name other sequences
        lambda: _study_of(case),
        read,
        convention in WITH_CAVITY,
    )


def _refuse_sample(name: str, digests: Iterable[str]) -> None:
    """Refuse the sample patient, who is reserved for demonstrating unseen data."""
    if samples.digests().isdisjoint(digests):
        return
    raise UnusableInputError(
        found=f"the sample patient of LesionLens as case {name!r}",
        expected="cases of your own: no weights are trained on the sample",
        next_step="Move it out of the folder",
    )


def _study_of(case: Case) -> Study:
    series = {s: _series(s, case.images[s]) for s in MrSequence if s in case.images}
    root = next(iter(case.images.values())).path.parent
    return Study(case.name, StudyKind.NIFTI, series, root)


def _series(sequence: MrSequence, image: ImageFile) -> Series:
    grid = read_volume(image)[1].grid
    return Series(
        sequence=sequence,
        detected_by="the data set's layout",
        confidence=1.0,
        grid=grid,
        files=(SourceFile(image.path, image.path.name),),
        load=lambda: np.ascontiguousarray(read_volume(image)[0], dtype=np.float32),
        description=image.path.name,
    )


def reviewed_case(
    folder: Path,
    path: Path,
    patient: str | None = None,
) -> RealCase:
    """Return a reviewed result as a case, which reads its files on request.

    Parameters
    ----------
    patient : str or None
        The patient; None to take it from the DICOM objects, else the name.

    Raises
    ------
    UnusableInputError
        A candidate is undecided, a reader's mark is not a candidate, there is no such study, or it
        is the sample patient.
    """
    with naming_case(folder.name):
        saved = read_result(folder, maps=False)
    _reviewed_labels(saved, folder.name)  # fail early
    _refuse_sample(folder.name, (digest for _, digest in saved.run.inputs))
    key = _files_digest(_files_of(folder), f"reviewed {saved.review.events}")
    cavity = _cavity_of(saved) is not None
    del saved  # hundreds of volumes would not fit into memory

    def study() -> Study:
        try:
            return paired(read_result(folder, maps=False), open_study(path))
        except OtherStudyError as error:
            raise UnusableInputError(
                found=f"that the study {folder.name!r} is not the one reviewed: {error.difference}",
                expected="the files that were analysed",
                next_step="Name the right folder with --studies, or analyse and review it again",
            ) from error

    if not path.exists():
        raise UnusableInputError(
            found=f"no study {folder.name!r} in {path.parent.name!r}",
            expected="the study of every reviewed result, under the same name",
            next_step="Name the right folder with --studies, or move the result away",
        )
    # without the issuer, which some headers omit: one patient would be two, on either side
    header_patient = examination_of_result(folder).patient.id
    name = encodable(folder.name)
    patient = patient or header_patient or patient_of(name)

    def read() -> Reference:
        return _reviewed_labels(read_result(folder, maps=False), name)

    return RealCase(name, patient, key, study, read, cavity)


@contextmanager
def naming_case(case: str) -> Iterator[None]:
    """Name the case in an error about its files."""
    try:
        yield
    except UnusableInputError as error:
        raise UnusableInputError(
            found=f"case {case!r}, which cannot be trained on: {error.found}",
            expected=error.expected,
            next_step=error.next_step,
        ) from error


def _files_of(folder: Path) -> list[Path]:
    files = [folder / name for name in ("segmentation.nii.gz", "candidates.nii.gz")]
    return [file for file in files if file.is_file()]


def _cavity_of(saved: SavedResult) -> NDArray[np.bool_] | None:
    """Return the cavity outlined by a reader, else by the engine; None if there is neither."""
    outline = saved.review.outlined.get(CAVITY)
    if outline is None:
        return None if saved.volumes.cavity is None else saved.volumes.cavity.data
    return outline.mask(saved.volumes.labels.grid.shape)


def _reviewed_labels(saved: SavedResult, name: str) -> Reference:
    """Return the labels of accepted and edited candidates, and of the cavity beside them.

    A voxel belongs to the candidate of which the window shows it as a part. Everything else is
    background.
    """
    refuse_marks(saved, name)
    review, outlines = saved.review, outlines_of(saved)
    placed = place_outlines(saved.findings, saved.volumes.labels, review, saved.run.omitted)
    is_kept = np.zeros(max(placed.id_by_uid.values(), default=0) + 1, bool)
    for uid, number in placed.id_by_uid.items():
        state = review.state_of(uid)
        if not state.decided:
            raise UnusableInputError(
                found=f"candidate {number} of case {name!r}, which is {state.value}",
                expected="every candidate accepted, edited or rejected",
                next_step="Finish its review, or move the result out of the folder",
            )
        is_kept[number] = state is not ReviewState.REJECTED
        if is_kept[number]:
            _refuse_undivided(saved, uid, placed.labels[placed.components == number], name)
        is_own = number in placed.outline_by_id
        if is_kept[number] and not is_own and is_outline_unconfirmed(saved, uid, outlines):
            raise UnusableInputError(
                found=f"candidate {number} of case {name!r}, whose outline has changed "
                "since it was accepted",
                expected="outlines that a reader has seen",
                next_step="Accept it again, or sign the result again",
            )
    merged_labels = np.where(is_kept[placed.components], placed.labels, 0).astype(np.uint8)
    cavity = _cavity_of(saved)
    if cavity is not None:
        merged_labels[cavity & (merged_labels == 0)] = Label.CAVITY
    known_labels = merged_labels if saved.has_t1c else enhancing_as_core(merged_labels)
    return Reference(known_labels, saved.volumes.labels.grid)


def _refuse_undivided(saved: SavedResult, uid: str, labels: NDArray[np.uint8], name: str) -> None:
    """Refuse an outline without core or enhancing part: they would be trained as other tissue."""
    origin = saved.findings.candidate_of(saved.review.split_from(uid))
    if origin is None:
        return
    visible = LESION_PARTS if saved.has_t1c else LESION_PARTS - {Region.ET}
    unknown = [
        region.display_name
        for region in Region
        if region in visible
        and origin.volume_ml.get(region) is None
        and not np.isin(labels, region.labels).any()
    ]
    if unknown:
        raise UnusableInputError(
            found=f"an outline in case {name!r} that does not distinguish {' and '.join(unknown)}",
            expected="core, oedema and enhancing part apart",
            next_step="Outline them in the window, or move the result out of the folder",
        )


def refuse_marks(saved: SavedResult, name: str) -> None:
    """Refuse a review with a reader's mark outside all candidates: it would become background.

    Raises
    ------
    UnusableInputError
        A mark is farther than `HIT_MM` from every outline, of rejected candidates too.
    """
    readers = {event.reader for event in saved.review.events}
    signed = (read.marks for read in saved.review.unaided if read.reader in readers)
    marks = {mark.uid: mark for mark in chain.from_iterable(signed)}
    if not marks:
        return
    outlined, grid = saved.findings.components > 0, saved.volumes.labels.grid
    for uid in {event.tracking_uid for event in saved.review.events} - NO_CANDIDATE:
        outline = saved.review.outline_of(uid)
        if outline is not None:
            outlined |= outline.mask(grid.shape)
    positions_mm = apply(grid.affine, np.argwhere(outlined))
    for mark in marks.values():
        if not (np.linalg.norm(positions_mm - mark.at_mm, axis=1) <= HIT_MM).any():
            at = ", ".join(f"{x:.0f}" for x in mark.at_mm)
            raise UnusableInputError(
                found=f"a mark of its reader at ({at}) mm in case {name!r}, where no candidate is",
                expected="an outline of every lesion that a reader marked: all else is trained as "
                "background",
                next_step="Make the mark a candidate (reject it if it is not a lesion) and sign "
                "again; or move the result out of the folder",
            )


def _files_digest(files: list[Path], salt: str) -> str:
    """Return a digest of names, sizes and times; contents are not read."""
    lines = [f"{p.name}\0{p.stat().st_size}\0{p.stat().st_mtime_ns}" for p in files]
    return hashlib.sha256("\n".join([salt, *lines]).encode("utf-8", "surrogateescape")).hexdigest()


def split(
    patients: Mapping[str, int], *, fraction: float, seed: int, earlier: Mapping[str, bool]
) -> dict[str, bool]:
    """Return for each patient whether it is held out for validation.

    Parameters
    ----------
    patients : mapping of str to int
        Patient to number of cases.
    fraction : float
        Fraction of the patients to hold out; at least one, unless it is 0, which holds out none.
    earlier : mapping of str to bool
        An earlier split, which is kept, so that no training patient is used for validation.

    Raises
    ------
    ConfigError
        There are fewer than two patients.

    Examples
    --------
    >>> sum(split({str(n): 1 for n in range(10)}, fraction=0.2, seed=0, earlier={}).values())
    2
    """
    if len(patients) < 2 and fraction > 0:
        raise ConfigError(
            found=f"{len(patients)} patient",
            expected="two or more: at least one is held out for validation",
            next_step="Add cases, or name the patients in patients.tsv",
        )
    is_held_out = {p: earlier[p] for p in patients if p in earlier}
    minimum = 1 if fraction > 0 else 0
    missing = max(minimum, round(fraction * len(patients))) - sum(is_held_out.values())
    order = sorted(
        (p for p in patients if p not in earlier),
        key=lambda p: hashlib.sha256(f"{seed}:{p}".encode()).digest(),
    )
    is_held_out |= {p: rank < missing for rank, p in enumerate(order)}
    if all(is_held_out.values()) or (fraction > 0 and not any(is_held_out.values())):
        side = "validation" if all(is_held_out.values()) else "training"
        raise ConfigError(
            found=f"every patient on the side of {side}",
            expected="both sides, as split.json of the earlier run has it",
            next_step="Choose another output folder, or restore the earlier cases",
        )
    return is_held_out
