"""What the panel says of a candidate."""

from dataclasses import replace

from lesionlens.base.labels import LesionClass
from lesionlens.napari.model.wording.candidates import facts_of


def test_that_attention_lies_inside_is_no_tick_for_the_candidate(analysis):
    first = analysis.findings.candidates[0]
    fit = replace(first.attention, peak_inside=True)
    shares = {LesionClass.TUMOUR: 0.9, LesionClass.WHITE_MATTER: 0.1}
    facts = facts_of(replace(first, attention=fit, resemblance=shares))
    assert all(fact.good is not True for fact in facts)
    assert not any("looks like" in fact.words for fact in facts)
