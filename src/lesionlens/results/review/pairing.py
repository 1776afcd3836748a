"""Find in a study the series that a saved result was made of.

They are identified by the digests in run.json, not by names, recognised sequences or the user's
choice of series, which may have changed since the analysis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from lesionlens.base.errors import ReadError
from lesionlens.base.labels import MrSequence
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.study import Series, Study
from lesionlens.base.text import joined_with_and
from lesionlens.imaging.reading.input_files import digest_of_series
from lesionlens.imaging.reading.open import is_about_choice
from lesionlens.results.review.saved_result import SavedResult

Fits = Callable[[Series], bool]


class OtherStudyError(ReadError):
    """The study is not the one of the result; `difference` states in which respect."""

    def __init__(self, difference: str) -> None:
        self.difference = difference
        super().__init__(
            found=f"a different study from the one the result was made of: {difference}",
            expected="the study that was analysed",
            next_step="Open that study, or analyse this one. If a file lies outside the study's "
            "folder, name it, as with --flair FILE",
            in_window="Open that study, or analyse this one",
        )


def paired(saved: SavedResult, study: Study) -> Study:
    """Return a study with exactly the series that a result was made of.

    Parameters
    ----------
    study : Study
        The opened study. Files are hashed: those of its series, and, if these are not the
        analysed ones, the first file of each series that was set aside.

    Returns
    -------
    Study
        The same object if its series are those that were analysed; else with these series and
        notices about the difference.

    Raises
    ------
    OtherStudyError
        A recorded series is missing or has other files; the message names it.
    """
    digest = cache(sha256_of)
    matched: dict[MrSequence, Series] = {}
    missing: list[MrSequence] = []
    analysed = dict.fromkeys((*saved.sequences, saved.reference))
    tests = {sequence: _input_test(saved, sequence, digest) for sequence in analysed}
    used: set[int] = set()
    open_sequences = {s for s, series in study.series.items() if s in analysed and tests[s](series)}
    for sequence in sorted(analysed, key=lambda s: s not in open_sequences):
        matches = (
            s for s in _by_likelihood(study, sequence) if id(s) not in used and tests[sequence](s)
        )
        series = next(matches, None)
        if series is None:
            missing.append(sequence)
            continue
        used.add(id(series))
        matched[sequence] = series
    if missing:
        raise OtherStudyError(_differences(study, missing))
    reference = matched[saved.reference]
    if not reference.grid.matches(saved.volumes.labels.grid, tolerance_mm=1e-2):
        name = saved.reference.display_name
        raise OtherStudyError(f"its {name} has different voxels from the result")
    if {k: id(s) for k, s in matched.items()} == {k: id(s) for k, s in study.series.items()}:
        return study
    return _with_series(study, {s: matched[s] for s in MrSequence if s in matched}, saved)


def _by_likelihood(study: Study, sequence: MrSequence) -> Iterable[Series]:
    """Yield all series, the most likely ones for a sequence first."""
    if sequence in study.series:
        yield study.series[sequence]
    others = [series for key, series in study.series.items() if key is not sequence]
    yield from sorted((*study.set_aside, *others), key=lambda s: s.sequence is not sequence)


def _input_test(saved: SavedResult, sequence: MrSequence, digest: Callable[[Path], str]) -> Fits:
    """Return a test of whether a series has the files that were analysed as a sequence."""
    digests, joint = saved.run.digests, saved.run.series.get(sequence)

    def fits(series: Series) -> bool:
        is_known = not series.files or digest(series.files[0].path) in digests
        return is_known and digest_of_series(series, digest) == joint

    return fits


def _differences(study: Study, missing: Iterable[MrSequence]) -> str:
    names = [s.display_name for s in missing if s in study.series]
    absent = [s.display_name for s in missing if s not in study.series]
    parts = [f"it has no {' and no '.join(absent)}"] if absent else []
    if len(names) == 1:
        parts.append(f"{names[0]} differs, in image or header, from the one that was analysed")
    elif names:
        parts.append(
            f"{joined_with_and(names)} differ, in image or header, from those that were analysed"
        )
    return "; ".join(parts)


def _with_series(study: Study, matched: Mapping[MrSequence, Series], saved: SavedResult) -> Study:
    """Return a study with other series, and notices about it."""
    used_ids = {id(s) for s in matched.values()}
    changed = [s for s in matched if study.series.get(s) is not matched[s]]
    added = [k for k, s in study.series.items() if k not in matched and id(s) not in used_ids]
    changed_sequences = {*changed, *added}
    remaining = [n for n in study.notices if not is_about_choice(n, changed_sequences)]
    notices = [
        f"{sequence.display_name} was not part of this analysis and is left out: analyse the "
        "study again to include it"
        for sequence in added
    ]
    if changed:
        names = ", ".join(sequence.display_name for sequence in changed)
        notices.append(
            f"The series used are those that were analysed, not those chosen since: {names}"
        )
    series = dict(matched)
    for sequence in changed:
        row = saved.sequences.get(sequence)
        evidence = matched[sequence].detected_by if row is None else row.detected_by
        series[sequence] = replace(matched[sequence], sequence=sequence, detected_by=evidence)
    return replace(
        study,
        series=series,
        set_aside=tuple(s for s in study.all_series if id(s) not in used_ids),
        notices=(*notices, *remaining),
    )
