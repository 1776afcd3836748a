"""Find training cases with their references: public data sets, and results that readers signed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from lesionlens.imaging.reading.nifti import open_volume
from lesionlens.imaging.reading.open import open_study
from lesionlens.results.review.outline_digests import is_signed_on_other_outlines, outlines_of
from lesionlens.results.review.pairing import OtherStudyError, paired
from lesionlens.results.review.reopen import read_result, results_in
from lesionlens.results.review.saved_result import SavedResult
from lesionlens.site.cohort.studies import study_paths_by_name

_MOVE = "or move the case out of the folder."


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
    key: str
    """Changes when its files do."""
    study: Callable[[], Study]
    reference: Callable[[], Reference]
    """Both read their files when called."""
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
        BraTS, Decathlon or nnU-Net layout; or one folder per result, of which those are used whose
        review is signed.
    studies : Path or None
        For results: what `batch` was given, the folder or table of their studies.
    convention : callable
        Returns the label convention of a case, None to infer it from the labels.

    Raises
    ------
    ConfigError, UnusableInputError
        There is nothing to train on, or a case cannot be used; the message names it.
    """
    check_folder(root, "a folder of cases with their references, or of reviewed results")
    results = results_in(root)
    if not results:
        cases = find_cases(root)
        names = [case.name for case in cases]
        check_rows(PATIENTS_NAME, by_case(patients_table(root), names), names)
        return FoundCases(tuple(_dataset_case(case, convention(case)) for case in cases))
    if studies is None:
        raise ConfigError(
            f"Results such as {results[0].name!r} hold no images.",
            hint="Name the folder of their studies with --studies.",
        )
    names = [folder.name for folder in results]
    patients = by_case(patients_table(root), names)
    check_rows(PATIENTS_NAME, patients, names)
    study_paths = by_case(study_paths_by_name(studies), names)
    used: list[RealCase] = []
    left_out: list[tuple[str, str]] = []
    for folder in results:
        with naming_case(folder.name):
            saved = read_result(folder, maps=False)
        if saved.review.signed is None:
            left_out.append((encodable(folder.name), "not signed"))
        elif is_signed_on_other_outlines(saved.review, outlines_of(saved)):
            reason = "signed before it was analysed again, with other outlines"
            left_out.append((encodable(folder.name), reason))
        else:
            path = study_paths.get(folder.name, studies / folder.name)
            used.append(_reviewed_case(saved, folder, path, patients.get(folder.name)))
    if not used:
        raise UnusableInputError(
            f"No result in {root.name!r} can be trained on ({left_out[0][0]}: {left_out[0][1]}).",
            hint="Read the results in napari, sign each, and save it.",
        )
    return FoundCases(tuple(used), tuple(left_out))


@contextmanager
def naming_case(case: str) -> Iterator[None]:
    """Name the case in an error about its files."""
    try:
        yield
    except UnusableInputError as error:
        raise UnusableInputError(f"Case {case!r} cannot be trained on. {error}") from error


def _dataset_case(case: Case, convention: str | None) -> RealCase:
    reference_path = case.reference_path
    if reference_path is None or not case.images:
        missing = "a reference" if reference_path is None else "an image"
        raise UnusableInputError(
            f"Case {case.name!r} of patient {case.patient!r} lacks {missing}.",
            hint=f"Add it (an empty segmentation where there is no lesion), {_MOVE}",
        )
    if case.alternatives:
        others = dict.fromkeys(f.path.name for f in next(iter(case.alternatives.values())))
        raise UnusableInputError(
            f"Case {case.name!r} has several images of one sequence: {', '.join(others)}.",
            hint="Move the others out of the folder.",
        )
    if Region.ET not in regions_of(convention):
        raise ConfigError(
            f"Case {case.name!r} has no enhancing part in the convention {convention}.",
            hint="Omit such cases.",
        )

    def read() -> Reference:
        voxels, header = read_volume(reference_path)
        labels = translate(voxels, convention, f"the reference of case {case.name}")
        if is_undivided(labels, convention):
            raise UnusableInputError(
                f"The reference of case {case.name!r} has the label 1 alone, which may be the core "
                "or a mask of whole lesions.",
                hint="If it is the core, name the convention, such as --convention brats23.",
            )
        return Reference(labels, header.grid)

    files = [reference_path, *(image.path for image in case.images.values())]
    _refuse_sample(case.name, samples.digests_of(files))
    channels = [(sequence.value, image.channel) for sequence, image in case.images.items()]

    def study() -> Study:
        series = {s: _series(s, case.images[s]) for s in MrSequence if s in case.images}
        return Study(case.name, StudyKind.NIFTI, series, files[-1].parent)

    return RealCase(
        encodable(case.name),
        encodable(case.patient),
        _files_digest(files, f"{convention} {channels}"),  # dataset.json may name other sequences
        study,
        read,
        convention in WITH_CAVITY,
    )


def _series(sequence: MrSequence, image: ImageFile) -> Series:
    volume = open_volume(image.path, image.channel)
    return Series(
        sequence=sequence,
        detected_by="the data set's layout",
        confidence=1.0,
        grid=volume.grid,
        files=(SourceFile(image.path, image.path.name),),
        load=volume.load,
        description=image.path.name,
    )


def _refuse_sample(name: str, digests: Iterable[str]) -> None:
    """Refuse the sample patient, who demonstrates unseen data."""
    if not samples.digests().isdisjoint(digests):
        raise UnusableInputError(
            f"Case {name!r} is the sample patient of LesionLens, whom no weights may know.",
            hint="Move it out of the folder.",
        )


def _reviewed_case(saved: SavedResult, folder: Path, path: Path, patient: str | None) -> RealCase:
    """Return a signed result as a case; `path` is its study."""
    name = encodable(folder.name)
    _reviewed_labels(saved, name)  # refused now, not after hours
    _refuse_sample(name, (digest for _, digest in saved.run.inputs))
    if not path.exists():
        raise UnusableInputError(
            f"There is no study {folder.name!r} in {path.parent.name!r}.",
            hint="Name the right folder with --studies, or move the result away.",
        )

    def study() -> Study:
        try:
            return paired(read_result(folder, maps=False), open_study(path))
        except OtherStudyError as error:
            raise UnusableInputError(
                f"Study {folder.name!r} is not the one reviewed: {error.difference}.",
                hint="Name the right folder with --studies, or analyse and review it again.",
            ) from error

    files = [folder / f"{volume}.nii.gz" for volume in ("segmentation", "candidates")]
    files = [file for file in files if file.is_file()]
    # without the issuer, which some headers omit: one patient would be two, on either side
    patient = patient or examination_of_result(folder).patient.id or patient_of(name)
    return RealCase(
        name,
        patient,
        _files_digest(files, f"reviewed {saved.review.events}"),
        study,
        lambda: _reviewed_labels(read_result(folder, maps=False), name),
        _cavity_of(saved) is not None,
    )


def _cavity_of(saved: SavedResult) -> NDArray[np.bool_] | None:
    """Return the cavity outlined by a reader, else by the engine; None if there is neither."""
    outline = saved.review.outlined.get(CAVITY)
    if outline is None:
        return None if saved.volumes.cavity is None else saved.volumes.cavity.data
    return outline.mask(saved.volumes.labels.grid.shape)


def _reviewed_labels(saved: SavedResult, name: str) -> Reference:
    """Return the labels of accepted and edited candidates and of the cavity; 0 elsewhere.

    A voxel belongs to the candidate of which the window shows it as a part.
    """
    _refuse_marks(saved, name)
    review = saved.review
    placed = place_outlines(saved.findings, saved.volumes.labels, review, saved.run.omitted)
    is_kept = np.zeros(max(placed.id_by_uid.values(), default=0) + 1, bool)
    for uid, number in placed.id_by_uid.items():
        state = review.state_of(uid)
        if not state.decided:
            raise UnusableInputError(
                f"Candidate {number} of case {name!r} is {state.value}.",
                hint=f"Finish its review, {_MOVE}",
            )
        is_kept[number] = state is not ReviewState.REJECTED
        if is_kept[number]:
            _refuse_undivided(saved, uid, placed.labels[placed.components == number], name)
    labels = np.where(is_kept[placed.components], placed.labels, 0).astype(np.uint8)
    cavity = _cavity_of(saved)
    if cavity is not None:
        labels[cavity & (labels == 0)] = Label.CAVITY
    return Reference(
        labels if saved.has_t1c else enhancing_as_core(labels), saved.volumes.labels.grid
    )


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
            f"An outline in case {name!r} does not distinguish {' and '.join(unknown)}.",
            hint=f"Outline them in the window, {_MOVE}",
        )


def _refuse_marks(saved: SavedResult, name: str) -> None:
    """Refuse a reader's mark farther than `HIT_MM` from all outlines: it would be background."""
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
                f"A reader's mark at ({at}) mm in case {name!r} has no outline.",
                hint=f"Make it a candidate (reject it if it is no lesion) and sign again, {_MOVE}",
            )


def _files_digest(files: Sequence[Path], salt: str) -> str:
    """Return a digest of names, sizes and times; contents are not read."""
    lines = [f"{p.name}\0{p.stat().st_size}\0{p.stat().st_mtime_ns}" for p in files]
    return hashlib.sha256("\n".join([salt, *lines]).encode("utf-8", "surrogateescape")).hexdigest()
