"""Results as a BIDS derivative dataset (BIDS 1.11, "Imaging derivatives"; `--layout bids`).

One dataset contains many studies. Each has its volumes under BIDS names in `sub-X[/ses-Y]/anat`,
and its whole result, with which a review can continue, in `lesionlens/NAME`, excluded by
`.bidsignore`. Identical volumes are hard-linked if the file system allows it.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from lesionlens.analysis.findings.edits import applied
from lesionlens.base.codes import LABEL_TYPES
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files import check_outside, read_object
from lesionlens.base.labels import RESEARCH_USE_NOTICE, DrawingMethod, Label, Region, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.prompts import prompts_text
from lesionlens.base.records.study import Series
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.storage import (
    check_free,
    locked,
    replaced_folder,
    write_atomically,
    write_listed,
)
from lesionlens.imaging.reading import bids
from lesionlens.results.export import result_files
from lesionlens.results.export.caveats import NOT_ACCEPTED
from lesionlens.results.export.cells import csv_text
from lesionlens.results.export.earlier_review import EarlierReview
from lesionlens.results.export.exporter import write_result
from lesionlens.results.export.nifti import codes_of, write_volume
from lesionlens.results.review.earlier import with_earlier_review

VERSION = "1.11.0"
_NAME = "LesionLens"
_TABLE, _SIDECAR, _IGNORE = "descriptions.tsv", "descriptions.json", ".bidsignore"
_DATASET_FILES = (_TABLE, _SIDECAR, _IGNORE)
_LIST_SUFFIX = ".files.json"
_VIEW = ".bids"
"""Folder of a new result in which the files with BIDS names are made."""
_EXTENSIONS = (".nii.gz", ".json", ".tsv")
_SUFFIXES = (
    "label-L_mask",
    "dseg",
    "desc-candidates_dseg",
    "desc-uncertainty_map",
    *(f"label-{region.name}_probseg" for region in Region),
    *(f"label-{region.name}_desc-attention_map" for region in Region),
)
_IGNORED = f"/{bids.RESULTS}\n*_map.nii.gz\n*_map.json\n"
_DESCRIPTIONS = (
    ("desc-candidates", "the candidate that each voxel belongs to, by its index"),
    ("desc-attention", "what the network weighted for a region, 0 to 1; not a probability"),
    ("desc-uncertainty", "uncertainty of the engine, 0 (decided) to 1 (undecided)"),
)
_MASK = (
    "Every voxel of a candidate region that no reader rejected or deferred, without other "
    "findings, which are probably not tumour."
)
_README = f"""\
Candidate tumour regions that LesionLens flagged in brain MRI. {RESEARCH_USE_NOTICE}

label-L_mask      every voxel of candidates that no reader rejected or deferred, without
                  other findings, which are probably not tumour
dseg              1 non-enhancing core, 2 oedema or infiltration, 3 enhancing (only with T1c),
                  4 resection cavity, which is no part of the tumour
desc-candidates   which candidate a voxel belongs to
probseg           probability of the whole tumour (WT), the core (TC) and the enhancing part (ET)
desc-attention    the network's attention for them; BIDS has no suffix for it: .bidsignore

{bids.RESULTS}/ holds the whole result of each study, with its report and review.
"""
_LABEL_COLUMNS = ("index", "name", "abbreviation", "color", "code")
_ABBREVIATIONS = {Label.CORE: "NCR", Label.OEDEMA: "ED", Label.ENHANCING: "ET", Label.CAVITY: "RC"}
"""Abbreviations as in BraTS 2023 and 2024."""


@dataclass(frozen=True, slots=True)
class _Source:
    """The source dataset or folder of a study: its name in `DatasetLinks`, and its path."""

    link: str
    root: Path
    location: str
    """The path relative to the derivatives, or an absolute URI."""

    def uri(self, series: Series) -> str:
        """Return the BIDS URI of a series: its file, or the folder of its files.

        A file that the user named from outside the dataset has the URI of its path.
        """
        path = series.files[0].path.absolute()
        is_file = len({file.path for file in series.files}) == 1
        location = path if is_file else path.parent
        with suppress(ValueError):
            return f"bids:{self.link}:{location.relative_to(self.root).as_posix()}"
        return location.as_uri()


@dataclass(frozen=True, slots=True)
class _BidsVolume:
    """One volume: its LesionLens name, BIDS entities and suffix, and sidecar fields."""

    name: str
    suffix: str
    sidecar: Mapping[str, Any]


def save_bids(
    analysis: Analysis, dataset: Path, name: str | None = None, *, context: RunContext = SILENT
) -> tuple[Analysis, tuple[str, ...]]:
    """Add a study to a derivatives dataset, all of its files or none; returns as `exporter.save`.

    Parameters
    ----------
    dataset : Path
        Root of the derivatives; created if missing.
    name : str or None
        Name of the study, `sub-01_ses-2` or any other; by default the study's own.

    Raises
    ------
    UnusableInputError
        The folder is not writable, or contains another program's dataset, or a subject whose name
        differs by case alone, or the study itself where its derivatives would go.
    ResourceError, ExportError
        As for `exporter.save`.
    """
    check_dataset(dataset)
    name = name or analysis.study.name
    result, label = dataset / bids.RESULTS / name, bids.bids_name(name)
    _check_case(dataset, label.partition("_")[0])
    check_outside(analysis.study.root, dataset / _stem(label))
    list_name = f"{bids.RESULTS}/{name}{_LIST_SUFFIX}"
    check_free(
        dataset, (f"{_stem(label)}_{s}{e}" for s in _SUFFIXES for e in _EXTENSIONS), list_name
    )
    with replaced_folder(result, reserved=result_files.NAMES) as new:
        analysis = applied(with_earlier_review(analysis, result))
        warnings = write_result(analysis, EarlierReview(result), new, context)
        result_files.write_list(new)
        stem = new / _VIEW / _stem(label)
        stem.parent.mkdir(parents=True)
        _write_mask(analysis, stem)
        _write_tables(analysis, stem)
        with locked(dataset):  # another process could choose the same link name for its source
            source = _source_of(analysis, dataset)
            _write_dataset_files(dataset, source)
        for volume in _volumes(analysis):
            _write_volume_files(volume, new, stem, _sidecar(analysis, source, volume))
        files = {p.relative_to(new / _VIEW).as_posix(): p for p in stem.parent.iterdir()}
        write_listed(dataset, files, list_name)  # first: a result makes the study complete
        shutil.rmtree(new / _VIEW)
    return analysis, warnings


def check_dataset(dataset: Path) -> None:
    """Refuse a folder that contains another program's BIDS dataset.

    Raises
    ------
    UnusableInputError
        Its description is not of a LesionLens dataset, or it has none but files with these names.
    """
    description_path = dataset / bids.DESCRIPTION
    if not description_path.is_file():
        check_free(dataset, (bids.DESCRIPTION, *_DATASET_FILES), bids.DESCRIPTION)
    elif not any(map(_is_own, _generators(dataset))):
        raise UnusableInputError(
            found=f"a BIDS dataset of another program in {dataset.name!r}",
            expected="a folder that is new, empty or a dataset of LesionLens",
            next_step="Choose another folder with --out, such as derivatives/lesionlens",
            in_window="Choose another folder",
        )


def _check_case(dataset: Path, subject: str) -> None:
    """Refuse a subject that differs from another by case alone; Windows and macOS merge them."""
    for folder in dataset.glob("sub-*"):
        if folder.name != subject and folder.name.casefold() == subject.casefold():
            raise UnusableInputError(
                found=f"the subject {folder.name!r} there, which differs from {subject!r} by case "
                "alone",
                expected="subjects that stay apart on every disk",
                next_step="Rename the folder of the study, or choose another folder with --out",
                in_window="Rename the folder of the study, or choose another folder",
            )


def _stem(label: str) -> str:
    return f"{label.replace('_', '/')}/anat/{label}_space-orig"


def _volumes(analysis: Analysis) -> Iterator[_BidsVolume]:
    origin, manual = _origin(analysis)
    sidecar: dict[str, Any] = {
        "Description": f"Parts of every candidate region, {origin}.",
        **manual,
        "code": {"Description": "Coded concept: scheme and value, as in DICOM"},
    }
    yield _BidsVolume("segmentation", "dseg", sidecar)
    sidecar = {
        "Description": "The candidate that each voxel belongs to.",
        **manual,
        "tracking_uid": {"Description": "Identifier of the candidate, as in the DICOM objects"},
        "score": {"Description": "Score by which candidates are ordered, 0 to 1"},
        "review_state": {"Description": "The decision of a reader"},
        "source": {"Description": "network, reader (added) or segmentation (opened)"},
        "prompts": {"Description": "Prompts of a reader that the outline follows"},
    }
    yield _BidsVolume("candidates", "desc-candidates_dseg", sidecar)
    for region in analysis.volumes.probability:
        sidecar = {"Description": f"Probability of {region.display_name}, 0 to 1.", "Manual": False}
        yield _BidsVolume(f"probability_{region.value}", f"label-{region.name}_probseg", sidecar)
    for region in analysis.volumes.attention:
        suffix = f"label-{region.name}_desc-attention_map"
        yield _BidsVolume(f"attention_{region.value}", suffix, _attention(analysis, region))
    if analysis.volumes.uncertainty is not None:
        sidecar = {"Description": "Uncertainty of the engine, 0 (decided) to 1 (undecided)."}
        yield _BidsVolume("uncertainty", "desc-uncertainty_map", sidecar)


def _origin(analysis: Analysis) -> tuple[str, dict[str, bool]]:
    """Return who outlined the candidates, and BIDS' `Manual`; empty if a mask does not say."""
    candidates, review = analysis.findings.candidates, analysis.review
    is_redrawn = bool(review.outlined) or any(
        c.source is Source.READER or review.is_redrawn(c.tracking_uid) for c in candidates
    )
    if is_redrawn:
        return "redrawn in part by readers", {"Manual": True}
    if analysis.outline_source is Source.NETWORK:
        return "outlined by the engine", {"Manual": False}
    methods = {candidate.drawn for candidate in candidates}
    manual = {} if None in methods else {"Manual": not methods <= {DrawingMethod.AUTOMATIC}}
    return "as in the segmentation that was opened", manual


def _attention(analysis: Analysis, region: Region) -> dict[str, Any]:
    sidecar: dict[str, Any] = {
        "Description": f"The network's attention for {region.display_name}, 0 to 1. It shows "
        f"what the network weighted, not why a region resembles tumour; it is not a probability.",
    }
    maps = analysis.maps
    if maps is not None:
        sidecar |= {"Method": maps.method, "Layers": list(maps.layers)}
        if region in maps.raw_range:
            sidecar["RawRange"] = [float(v) for v in maps.raw_range[region]]
        if (checks := maps.checks.get(region)) is not None:
            sidecar["Checked"] = checks.verdict
    return sidecar


def _sidecar(analysis: Analysis, source: _Source, volume: _BidsVolume) -> dict[str, Any]:
    series = analysis.study.series
    return {
        **volume.sidecar,
        "SpatialReference": source.uri(series[analysis.prepared.reference]),
        "Sources": [source.uri(item) for item in series.values()],
        "ResearchUse": RESEARCH_USE_NOTICE,
    }


def _write_volume_files(
    volume: _BidsVolume, result_folder: Path, stem: Path, sidecar: Mapping[str, Any]
) -> None:
    source = result_folder / f"{volume.name}.nii.gz"
    target = Path(f"{stem}_{volume.suffix}.nii.gz")
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
    _write_json(Path(f"{stem}_{volume.suffix}.json"), sidecar)
    if volume.name == "segmentation":
        mask_fields = {"Description": _MASK, "Type": "Lesion"}
        shared_fields = {k: v for k, v in sidecar.items() if k not in ("Description", "code")}
        _write_json(Path(f"{stem}_label-L_mask.json"), {**mask_fields, **shared_fields})


def _write_mask(analysis: Analysis, stem: Path) -> None:
    labels = analysis.volumes.labels
    candidates = analysis.findings.candidates
    state_of = analysis.review.state_of
    excluded_ids = [c.id for c in candidates if state_of(c.tracking_uid) in NOT_ACCEPTED]
    in_mask = (labels.data > 0) & ~np.isin(analysis.findings.components, excluded_ids)
    mask = Volume(in_mask.astype(np.uint8), labels.grid)
    write_volume(Path(f"{stem}_label-L_mask.nii.gz"), mask, codes=codes_of(analysis))


def _write_tables(analysis: Analysis, stem: Path) -> None:
    labels = _label_table(analysis.labels)
    Path(f"{stem}_dseg.tsv").write_text(labels, encoding="utf-8")
    state = analysis.review.state_of
    rows = []
    for c in analysis.findings.candidates:
        score, uid = None if c.score is None else f"{c.score:.4f}", c.tracking_uid
        prompt_text = prompts_text(analysis.review.prompts_of(uid))
        review_fields = (score, state(uid).value, c.source.value, prompt_text)
        rows.append((c.id, c.location.text, uid, *review_fields))
    names = ("index", "name", "tracking_uid", "score", "review_state", "source", "prompts")
    text = _tsv(names, rows)
    Path(f"{stem}_desc-candidates_dseg.tsv").write_text(text, encoding="utf-8")


def _source_of(analysis: Analysis, dataset: Path) -> _Source:
    """Return the source of a study, with a link name that is unique in this dataset."""
    study_root = analysis.study.root.absolute()
    root = bids.root_of(study_root) or study_root.parent
    try:
        location = Path(os.path.relpath(root, dataset.absolute())).as_posix()
    except ValueError:  # another drive
        location = root.as_uri()
    links, base_name = _links(dataset), re.sub(r"[^A-Za-z0-9]", "", root.name) or "source"
    names = (base_name, *(f"{base_name}{number}" for number in range(2, len(links) + 3)))
    return _Source(next(n for n in names if links.get(n, location) == location), root, location)


def _links(dataset: Path) -> dict[str, str]:
    links = read_object(dataset / bids.DESCRIPTION).get("DatasetLinks", {})
    return links if isinstance(links, dict) else {}


def _generators(dataset: Path) -> list[Any]:
    generators = read_object(dataset / bids.DESCRIPTION).get("GeneratedBy")
    return generators if isinstance(generators, list) else []


def _write_dataset_files(dataset: Path, source: _Source) -> None:
    """Write the dataset's own files, each atomically: several processes may write.

    What a user added to them, such as authors and a licence, is kept.
    """
    others = [generator for generator in _generators(dataset) if not _is_own(generator)]
    description = {
        "Name": "Candidate tumour regions by LesionLens",
        **read_object(dataset / bids.DESCRIPTION),
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": _NAME, "Version": metadata.version("lesionlens")}, *others],
        "DatasetLinks": {**_links(dataset), source.link: source.location},
    }
    write_atomically(dataset / bids.DESCRIPTION, json.dumps(description, indent=1) + "\n")
    sidecar = {"Description": "What desc-… in the names of files means."}
    for name, text in (
        (_TABLE, _tsv(("desc_id", "description"), _DESCRIPTIONS)),
        (_SIDECAR, json.dumps(sidecar, ensure_ascii=False) + "\n"),
        (_IGNORE, _IGNORED),
        ("README", _README),
    ):
        if not (dataset / name).exists():
            write_atomically(dataset / name, text)


def _is_own(generator: Any) -> bool:
    """Return whether an item of `GeneratedBy` is of LesionLens."""
    return isinstance(generator, dict) and generator.get("Name") == _NAME


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _tsv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in BIDS format: tab-separated, `n/a` for unknown values."""
    cells = ([_cell(value) for value in row] for row in rows)
    return csv_text(columns, cells, delimiter="\t", quoting=csv.QUOTE_NONE)


def _cell(value: object) -> str:
    text = "" if value is None else " ".join(str(value).replace('"', "'").split())
    return text or "n/a"


def _label_table(labels: Iterable[Label]) -> str:
    """Return a BIDS lookup table for a `_dseg`."""
    codes = {label: LABEL_TYPES[label] for label in labels}
    rows = [
        (int(n), n.display_name, _ABBREVIATIONS[n], n.colour, f"{code.scheme}:{code.value}")
        for n, code in codes.items()
    ]
    return _tsv(_LABEL_COLUMNS, rows)
