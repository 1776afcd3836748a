"""What the panel says of a candidate."""

from dataclasses import replace

from lesionlens.base.labels import LesionClass, Region, Source
from lesionlens.napari.model.wording.candidates import bars_of, details, facts_of, no_bars_text
from lesionlens.results.export import wording


def test_that_attention_lies_inside_is_no_tick_for_the_candidate(analysis):
    first = analysis.findings.candidates[0]
    fit = replace(first.attention, peak_inside=True)
    shares = {LesionClass.TUMOUR: 0.9, LesionClass.WHITE_MATTER: 0.1}
    facts = facts_of(replace(first, attention=fit, class_probabilities=shares))
    assert all(fact.good is not True for fact in facts)
    assert facts[-1].text == "tumour-like 90%"


def test_only_a_candidate_that_a_reader_added_is_said_to_be_added(analysis):
    first = analysis.findings.candidates[0]
    assert "added by a reader" not in details(first, has_t1c=True)
    added = replace(first, source=Source.READER)
    assert "added by a reader" in details(added, has_t1c=True)


def test_a_core_without_t1c_is_called_uncertain(analysis):
    first = analysis.findings.candidates[0]
    known = {Region.WT: 60.0, Region.TC: 24.0, Region.ET: 0.0}
    assert "uncertain" not in details(replace(first, volume_ml=known), has_t1c=True)
    unknown = replace(first, volume_ml={**known, Region.ET: None}, sequence_relevance=None)
    text = details(unknown, has_t1c=False)
    assert "24.0 ml, uncertain without T1c" in text
    assert text.count("uncertain") == 1
    # with T1c: of an engine that does not outline the enhancing part
    assert "uncertain" not in details(unknown, has_t1c=True)


def test_bars_that_are_all_equal_are_not_drawn(analysis):
    first = analysis.findings.candidates[0]
    apart = {"t1": 0.1, "t1c": 0.4, "t2": 0.1, "flair": 0.2, "none": 0.1}
    level = {"t1": 0.21, "t1c": 0.22, "t2": 0.2, "flair": 0.2, "none": 0.1}
    assert len(bars_of(replace(first, sequence_relevance=apart))) == 4
    assert no_bars_text(replace(first, sequence_relevance=apart)) == ""
    assert bars_of(replace(first, sequence_relevance=level)) == ()
    assert "No sequence stands out" in no_bars_text(replace(first, sequence_relevance=level))
    only = {"t1": None, "t1c": None, "t2": None, "flair": 0.7, "none": 0.1}
    assert bars_of(replace(first, sequence_relevance=only)) == ()
    assert "Only one sequence" in no_bars_text(replace(first, sequence_relevance=only))
    assert no_bars_text(replace(first, sequence_relevance=None)) == ""


def test_sizes_and_volumes_have_the_digits_of_the_report(analysis):
    """One of 9.7 mm stood as '10 × 10 mm; not measurable', and 0.03 ml as '<0.1 ml'."""
    small = replace(
        analysis.findings.candidates[0],
        longest_axial_diameter_mm=9.74,
        perpendicular_diameter_mm=9.66,
        rano_measurable=False,
        volume_ml={Region.WT: 61.23, Region.TC: 0.03, Region.ET: 0.0},
    )
    text = details(small, has_t1c=True)
    assert "9.7 × 9.7 mm" in text
    shown = [line.split(": ")[1] for line in text.splitlines() if ": " in line]
    assert shown == [wording.volume(volume) for volume in small.volume_ml.values()]
    assert shown == ["61.2 ml", "0.03 ml", "0 ml"]
