"""Analyses of synthetic heads as by a perfect engine.

For tests of exports, reviews and the viewer, which need a whole `Analysis` in a second and
without a network. Nothing here is a measurement of a person or of an engine.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import generate_uid
from scipy import ndimage
from tests.phantoms.acquire import AS_IS, Acquisition, acquire
from tests.phantoms.files import write_dicom, write_nifti
from tests.phantoms.headers import NOBODY

from lesionlens.base import geometry
from lesionlens.base.grid import Grid
from lesionlens.base.labels import (
    REFERENCE_ORDER,
    Label,
    MrSequence,
    Region,
    ReviewState,
)
from lesionlens.base.records.analysis import Analysis, RunInfo, Volumes
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.attention import AttentionMaps, MapChecks
from lesionlens.base.records.findings import (
    Candidate,
    Findings,
    Location,
    MapAgreement,
    conclusion_of,
)
from lesionlens.base.records.prediction import EngineInfo
from lesionlens.base.records.study import (
    PreparedStudy,
    QualityCheck,
    Series,
    SourceFile,
    Study,
    StudyKind,
)
from lesionlens.base.run_context import StageTime
from lesionlens.imaging.reading.input_files import inputs_of
from lesionlens.results.review.log import ReviewLog
from lesionlens.testing import Lesion, SyntheticPatient, make_patient

ENGINE = EngineInfo("phantom", "1", None)


def write_study(
    patient: SyntheticPatient,
    folder: Path,
    *,
    kind: StudyKind = StudyKind.NIFTI,
    sequences: tuple[MrSequence, ...] = tuple(MrSequence),
    how: Acquisition = AS_IS,
) -> Study:
    """Write a head as files and return the Study that the reader would return.

    Parameters
    ----------
    patient : SyntheticPatient
        The synthetic head.
    folder : Path
        Created if missing.
    kind : StudyKind
        NIfTI files, or one classic DICOM series per sequence.
    sequences : tuple of MrSequence
        The sequences to write.
    how : Acquisition
        Of all sequences; DICOM requires i along a row, j down the rows, such as "LPS" or "PIR".
    """
    dicom = kind is StudyKind.DICOM
    if dicom:
        files = write_dicom(patient, folder, sequences=sequences, how=how)
    else:
        paths = write_nifti(patient, folder, sequences=sequences, how=how)
        files = {sequence: (path,) for sequence, path in paths.items()}
    return Study(
        name=folder.name,
        kind=kind,
        series={s: _series(patient, s, how, files[s], folder, dicom) for s in sequences},
        root=folder,
        uid=NOBODY.uid("study") if dicom else None,
    )


def _series(
    patient: SyntheticPatient,
    sequence: MrSequence,
    how: Acquisition,
    files: tuple[Path, ...],
    folder: Path,
    dicom: bool,
) -> Series:
    image = acquire(patient.sequences[sequence], how)
    frame = NOBODY.uid("frame") if dicom else None
    sources = tuple(
        SourceFile(
            path,
            path.relative_to(folder).as_posix(),
            NOBODY.uid("instance", sequence, k) if dicom else None,
            "1.2.840.10008.5.1.4.1.1.4" if dicom else None,
        )
        for k, path in enumerate(files)
    )
    return Series(
        sequence=sequence,
        detected_by="SeriesDescription" if dicom else "file name",
        confidence=0.9,
        grid=Grid(image.grid.shape, image.grid.affine, frame),
        files=sources,
        load=lambda: np.asarray(image.data, np.float32),
        description=sequence.display_name,
        uid=NOBODY.uid("series", sequence) if dicom else None,
    )


def moved(study: Study, folder: Path) -> Study:
    """Return a copy of a study with a copy of its files, which a test may change."""
    assert study.root is not None
    shutil.copytree(study.root, folder, dirs_exist_ok=True)
    series = {
        sequence: replace(
            item,
            files=tuple(
                replace(f, path=folder / f.path.relative_to(study.root)) for f in item.files
            ),
        )
        for sequence, item in study.series.items()
    }
    return replace(study, root=folder, series=series)


def make_analysis(patient: SyntheticPatient, study: Study) -> Analysis:
    """Return the analysis of a study of this head by a perfect engine.

    Parameters
    ----------
    patient : SyntheticPatient
        Its labels become those of the analysis, and its grid the working grid.
    study : Study
        From `write_study`, or from a reader; the results are on the grid of its reference.

    Returns
    -------
    Analysis
        One candidate per lesion; the score decreases with the id.
    """
    reference = next(s for s in REFERENCE_ORDER if s in study.series)
    native, working = study.series[reference].grid, patient.labels.grid
    to_native = geometry.index_map(working.affine, native.affine)
    from_native = np.asarray(np.linalg.inv(to_native), np.float64)
    labels = np.asarray(_resampled(patient.labels.data, from_native, native, order=0), np.uint8)
    components, count = ndimage.label(labels > 0)
    components = components.astype(np.int32)
    true_labels = patient.labels.data
    regions = {r: np.isin(true_labels, r.labels).astype(np.float32) for r in Region}
    maps = {r: _normalised(ndimage.gaussian_filter(v, 2.0)) for r, v in regions.items()}
    probability = {
        r: Volume(_resampled(0.98 * v, from_native, native), native) for r, v in regions.items()
    }
    attention = {r: Volume(_resampled(v, from_native, native), native) for r, v in maps.items()}
    volumes = Volumes(Volume(labels, native), probability, attention)
    quality = _quality(study)
    candidates = tuple(
        _candidate(number, volumes, components, study) for number in range(1, count + 1)
    )
    prepared = PreparedStudy(
        channels=np.stack(
            [patient.sequences[s].data * np.float32(s in study.series) for s in MrSequence]
        ),
        present=np.array([s in study.series for s in MrSequence]),
        brain=patient.brain.data,
        working=working,
        native=native,
        to_native=to_native,
        reference=reference,
        quality=quality,
    )
    return Analysis(
        study=study,
        prepared=prepared,
        maps=AttentionMaps(
            maps=maps,
            raw_range=dict.fromkeys(Region, (0.0, 1.0)),
            method="attention of a phantom: its smoothed labels",
            layers=("none",),
            checks={
                Region.WT: MapChecks(True, 0.7, 0.1, reliable=True, verdict="passed its checks")
            },
        ),
        volumes=volumes,
        findings=Findings(
            candidates, components, quality, conclusion_of(candidates), _notices(study)
        ),
        run=_run(study),
    )


def _resampled(
    data: NDArray[np.generic], step: geometry.Affine, grid: Grid, order: int = 1
) -> NDArray[np.generic]:
    matrix, offset = step[:3, :3], step[:3, 3]
    out = ndimage.affine_transform(data, matrix, offset, output_shape=grid.shape, order=order)
    return np.asarray(out)


def _normalised(data: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(data / max(float(data.max()), 1e-6), np.float32)


def _quality(study: Study) -> tuple[QualityCheck, ...]:
    checks = [
        QualityCheck("coverage", passed=True, message="The whole brain is in the field of view.")
    ]
    checks += [
        QualityCheck("missing", passed=False, message=f"{s.display_name} is missing.")
        for s in MrSequence
        if s not in study.series
    ]
    return tuple(checks)


def _notices(study: Study) -> tuple[str, ...]:
    if MrSequence.T1C in study.series:
        return ()
    return ("Without T1c the enhancing volume is not measured.",)


def _candidate(
    number: int, volumes: Volumes, components: NDArray[np.int32], study: Study
) -> Candidate:
    grid, labels = volumes.labels.grid, volumes.labels.data
    inside = components == number
    voxels = np.argwhere(inside)
    corners = grid.to_mm(voxels[:, None] + np.array(list(np.ndindex(2, 2, 2))) - 0.5)
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    centroid = grid.to_mm(voxels.mean(axis=0))
    counts = {r: float((inside & np.isin(labels, r.labels)).sum()) * grid.voxel_ml for r in Region}
    contrast = MrSequence.T1C in study.series
    long, short = sorted((high - low)[:2], reverse=True)
    score = round(0.97 - 0.05 * (number - 1), 2)
    share = 0.9 * score / len(study.series)
    relevance, left_out = (
        {s.value: (value if s in study.series else None) for s in MrSequence}
        for value in (share, score - share)
    )
    return Candidate(
        id=number,
        tracking_uid=str(generate_uid(entropy_srcs=["phantom", str(number), str(voxels[0])])),
        score=score,
        centroid_mm=_point(centroid),
        bounding_box_mm=(_point(low), _point(high)),
        peak_mm=_point(grid.to_mm(voxels[len(voxels) // 2])),
        volume_ml={**counts, Region.ET: counts[Region.ET] if contrast else None},
        longest_axial_diameter_mm=float(long),
        perpendicular_diameter_mm=float(short),
        rano_measurable=bool(short >= 10 and (labels[inside] == Label.ENHANCING).any())
        if contrast
        else None,
        location=Location("left" if centroid[0] < 0 else "right", None),
        uncertainty=0.05,
        attention=MapAgreement(True, 0.7),
        dice_without=left_out,
        sequence_relevance={**relevance, "none": 0.1 * score},
    )


def _point(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _run(study: Study) -> RunInfo:
    inputs = inputs_of(study)
    return RunInfo(
        engine=ENGINE,
        device="cpu",
        stages=(StageTime("phantom", 0.01, 100.0),),
        versions={"lesionlens": "phantom"},
        inputs=inputs.files,
        series=inputs.series,
        started="2026-01-05T10:15:00Z",
    )


def make_reviewed(folder: Path, sequences: tuple[MrSequence, ...], axes: str) -> Analysis:
    """Return the analysis of a head with two lesions, the second rejected by a reader."""
    patient = make_patient(spacing_mm=4.0, lesions=(Lesion(), Lesion((30.0, -40.0, 12.0), 12.0)))
    study = write_study(patient, folder, sequences=sequences, how=Acquisition(axes))
    analysis, log = make_analysis(patient, study), ReviewLog()
    log.decide(analysis.findings.candidates[1].tracking_uid, ReviewState.REJECTED, reason="vessel")
    return replace(analysis, review=log.review)
