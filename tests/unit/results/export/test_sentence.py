"""The sentence to paste: what it states, what it never states, and whose template may say it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence, Region, ReviewState
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.followup import (
    Alignment,
    Change,
    Comparison,
    LesionMeasurement,
    TimePoint,
)
from lesionlens.base.records.review import Review, ReviewEvent
from lesionlens.results.export.sentence import Sentences, read_template

MakeAnalysis = Callable[..., Analysis]
LEVEL = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


def _compared(analysis: Analysis) -> Analysis:
    first, second = (LesionMeasurement.of(c) for c in analysis.findings.candidates)
    ml = {region: volume and volume / 2 for region, volume in first.volume_ml.items()}
    before = replace(first, volume_ml=ml)
    found = Comparison(
        (TimePoint("2025-03-01", None, (before,)), TimePoint("2025-06-01", None, (first, second))),
        (Change(before, first), Change(None, second)),
        Alignment(LEVEL, 0.0, 0.0, False, "t1c"),
    )
    return replace(analysis, followup=found)


def test_a_sentence_states_place_sizes_change_and_slice(make: MakeAnalysis) -> None:
    analysis = _compared(make())
    one, other = analysis.findings.candidates
    english = Sentences(analysis)
    assert one.location.text in english.of(one)
    assert f"{one.volume_ml[Region.WT]:.1f} ml" in english.of(one)
    assert f"enhancing {one.longest_axial_diameter_mm:.0f} ×" in english.of(one)
    assert "volume +100% since 2025-03-01" in english.of(one)
    assert f"of {analysis.volumes.labels.grid.shape[2]} from the feet." in english.of(one)
    assert "not flagged on 2025-03-01" in english.of(other)


def test_what_merged_or_split_has_no_change_of_its_own_and_is_neither_new_nor_gone(
    make: MakeAnalysis,
) -> None:
    analysis = _compared(make())
    assert analysis.followup is not None
    (kept, new), prior = analysis.followup.changes, analysis.followup.points[0].lesions[0]
    split = replace(new, beside=(prior.id,))
    merged, gone = (replace(prior, tracking_uid=f"9.{n}", id=n) for n in (7, 8))
    rejected = replace(gone, tracking_uid="9.9", id=9, state=ReviewState.REJECTED)
    assert kept.now is not None
    into = Change(merged, None, (kept.now.id,))
    changes = (kept, split, into, Change(gone, None), Change(rejected, None))
    tangled = replace(analysis, followup=replace(analysis.followup, changes=changes))
    english = Sentences(tangled)
    for one in tangled.findings.candidates:
        assert "merged with another region or split since 2025-03-01" in english.of(one)
        assert "not flagged" not in english.of(one)
        assert "+100%" not in english.of(one)
    assert "no longer: 1." in english.of_study()


def test_a_doubtful_comparison_is_named_in_the_sentence(make: MakeAnalysis) -> None:
    analysis = _compared(make())
    assert analysis.followup is not None
    one = analysis.findings.candidates[0]
    assert "doubtful" not in Sentences(analysis).of(one)
    laid = replace(analysis.followup.alignment, doubtful=True, mirrored=True)
    doubtful = replace(analysis, followup=replace(analysis.followup, alignment=laid))
    assert "; this comparison is doubtful; " in Sentences(doubtful).of(one)


def test_the_study_leaves_out_what_a_reader_rejected(make: MakeAnalysis) -> None:
    analysis = make()
    one, other = analysis.findings.candidates
    event = ReviewEvent(one.tracking_uid, ReviewState.REJECTED, "A. Reader", "")
    told = Sentences(replace(analysis, review=Review((event,)))).of_study()
    assert told.startswith("1 candidate region. Candidate")
    assert f"Candidate region {one.id} " not in told
    assert f"Candidate region {other.id} (unreviewed)" in told


def test_the_study_counts_no_candidate_if_a_reader_rejected_all(make: MakeAnalysis) -> None:
    analysis = make()
    events = tuple(
        ReviewEvent(one.tracking_uid, ReviewState.REJECTED, "A. Reader", "")
        for one in analysis.findings.candidates
    )
    rejected = replace(analysis, review=Review(events))
    told = Sentences(rejected).of_study()
    assert told == (
        "No candidate region. Rejected by a reader: 2; this does not exclude disease."
    ), "the network flagged two: to say that nothing passed its threshold would be wrong"


def test_unknown_and_zero_differ(make: MakeAnalysis) -> None:
    without = make(sequences=(MrSequence.FLAIR,))
    text = Sentences(without).of(without.findings.candidates[0])
    assert "enhancing part unknown without T1c" in text
    assert "0 ml" not in text
    with_contrast = make()
    (one, *_) = with_contrast.findings.candidates
    zero = replace(one, volume_ml={**one.volume_ml, Region.ET: 0.0})
    assert "enhancing part 0 ml" in Sentences(with_contrast).of(zero)


def test_a_site_edits_either_block(make: MakeAnalysis, tmp_path: Path) -> None:
    file = tmp_path / "site.j2"
    file.write_text("{% block candidate %}{{ place }} {{ whole_ml | ml }}{% endblock %}")
    analysis = make()
    (one, *_) = analysis.findings.candidates
    written = Sentences(analysis, template=read_template(file))
    assert written.of(one) == f"{one.location.text} {one.volume_ml[Region.WT]:.1f} ml"
    assert written.of_study().startswith("2 candidate regions")
    file.write_text("{% block study %}{{ candidates | length }} found{% endblock %}")
    assert Sentences(analysis, template=read_template(file)).of_study() == "2 found"
    file.write_text(
        "{{ 'rechts im Temporallappen' | capitalize }}"
    )  # German nouns stay as they are
    assert Sentences(analysis, template=read_template(file)).of(one) == "Rechts im Temporallappen"


@pytest.mark.parametrize(
    "text",
    ["{{ longst }}", "{% block candidat %}x{% endblock %}", "{{ place ", "{{ range(3) }}"],
)
def test_a_template_with_an_unknown_name_is_refused_when_it_is_read(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "site.j2"
    file.write_text(text)
    with pytest.raises(UnusableInputError):
        read_template(file)


@pytest.mark.parametrize(
    "text",
    [
        "{{ place.__class__.__mro__ }}",
        "{% include '/etc/passwd' %}",
        "{{ whole_ml + 'x' }}",
    ],
)
def test_a_template_reaches_nothing_but_its_fields(make: MakeAnalysis, text: str) -> None:
    analysis = make()
    with pytest.raises(UnusableInputError):
        Sentences(analysis, text).of(analysis.findings.candidates[0])


def test_a_template_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match=r"none\.j2"):
        read_template(tmp_path / "none.j2")
