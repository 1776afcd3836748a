"""Result folders and truths for the tests of evaluation."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.json_files import edited_json
from tests.phantoms.analysis import make_analysis, write_study
from tests.phantoms.files import write_nifti

from lesionlens.base import storage
from lesionlens.results.export.nifti import NiftiExporter
from lesionlens.results.export.run import write_run
from lesionlens.results.export.tables import TablesExporter
from lesionlens.testing import Lesion, SyntheticPatient, make_patient

LEFT, RIGHT = Lesion((-28.0, 8.0, 26.0), 16.0), Lesion((30.0, -30.0, 20.0), 12.0)
MOVED, FALSE = Lesion((-24.0, 10.0, 26.0), 16.0), Lesion((26.0, 22.0, 30.0), 9.0)


def head(*lesions: Lesion, seed: int = 0) -> SyntheticPatient:
    """A head at 4 mm."""
    return make_patient(seed, spacing_mm=4.0, lesions=lesions)


def write_case(folder: Path, patient: SyntheticPatient) -> Path:
    """Images and truth, as a reference data set holds them."""
    write_nifti(patient, folder, reference=True)
    return folder


def write_result(folder: Path, answered: SyntheticPatient, scratch: Path) -> Path:
    """The result of an engine whose answer is the truth of another head."""
    study = write_study(answered, scratch / folder.name)
    analysis = make_analysis(answered, study)
    folder.mkdir(parents=True)
    for exporter in (NiftiExporter(), TablesExporter()):
        exporter.write(analysis, folder)
    rows = storage.rows_of(folder)
    write_run(analysis, folder)
    with edited_json(folder / "run.json") as run:
        run["files"] = rows
    return folder


def write_cohort(root: Path) -> tuple[Path, Path]:
    """Four cases: right, half right with a false candidate, healthy with one, without a result."""
    results, cases = root / "results", root / "cases"
    for name, truth, answer in (
        ("a", head(LEFT), head(LEFT)),
        ("b", head(LEFT, RIGHT), head(MOVED, FALSE)),
        ("c", head(), head(FALSE)),
    ):
        write_case(cases / name, truth)
        write_result(results / name, answer, root / "studies")
    write_case(cases / "d", head(RIGHT))
    return results, cases
