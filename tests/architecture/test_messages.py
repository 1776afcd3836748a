"""Every message that a report can hold has a text in every language of the package."""

from __future__ import annotations

import ast
import re

import pytest
from tests.architecture.message_sources import check_names, messages
from tests.architecture.sources import MODULES, SOURCE, name_of, nodes_of

from lesionlens.results.export.report_texts import LANGUAGES, load

OTHERS = [language for language in LANGUAGES if language != "en"]
FEWEST = 150
"""Messages in the source when this was written: fewer would mean that the search is broken."""

TRANSLATED = ("messages", "reasons", "response_steps", "checks", "map_faults", "lobes", "sides")
"""Tables whose keys are the texts of the source."""


def skeleton(template: str) -> str:
    """Return a template without the names of its places, and without what joins it to another."""
    return re.sub(r"{\w*}", "{}", template).strip(" ,;")


def catalogue(language: str) -> dict[str, str]:
    return dict(load(language).message._table)


def test_the_search_finds_messages_of_every_kind():
    found = messages()
    assert len(found) >= FEWEST
    for known in (
        "Thick slices: {}. Lesions thinner than a slice may be missed.",  # a check
        "{} side ({} cm2)",  # a part of one
        "Oedema and infiltration are harder to outline without FLAIR.",  # from a table
        "Registered to the reference; moved: {}.",
        "Moved by {} mm and {} degrees; mutual information {}, {} above that at an offset of 10 "
        "mm.",
        'Series "{}" was set aside: {}.',  # in a pair
        "no usable PixelSpacing (two lengths above zero): its geometry is unknown",  # by a counter
        "The weights were trained on this study ({}): results here are better than on a new one.",
        # from a function of another module
        "part of the file name",  # evidence
        "{} region(s) were added by the search for small enhancing lesions at higher resolution; "
        "the attention maps are from another network and may not show them",
        "Is this a brain? The scan shows {}. Check it by eye.",  # by way of a thread
        "find the brain",  # the name of a stage
    ):
        assert known in found


@pytest.mark.parametrize("language", OTHERS)
def test_every_message_has_a_text(language):
    there = {skeleton(template) for template in catalogue(language)}
    lacking = {text: place for text, place in messages().items() if skeleton(text) not in there}
    assert not lacking


@pytest.mark.parametrize("language", OTHERS)
def test_no_text_is_of_a_message_that_no_longer_exists(language):
    constants = (n for path in MODULES for n in nodes_of(path) if isinstance(n, ast.Constant))
    source = "\n".join(str(node.value) for node in constants)
    whole = {skeleton(text) for text in messages()}
    keys = {key for name in TRANSLATED for key in load(language)._table[name]}
    assert len(keys) > FEWEST
    parts = {key: re.split(r"{\w*}| and |(?<=enter) ", key) for key in keys}
    absent = {k for k, ps in parts.items() if any(p.strip(" ,;.()") not in source for p in ps)}
    assert not {key for key in absent if skeleton(key) not in whole}


@pytest.mark.parametrize("language", OTHERS)
def test_every_reason_that_the_window_offers_has_a_text(language):
    (offered,) = [
        ast.literal_eval(node.value)
        for node in nodes_of(SOURCE / "napari/widgets/reason_box.py")
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "REASONS"
    ]
    assert len(offered) > 4
    assert [one for one in offered if one and load(language).reason(one) == one] == []


@pytest.mark.parametrize("language", OTHERS)
def test_every_check_has_a_name(language):
    names = check_names()
    assert len(names) > 8
    assert not [name for name in sorted(names) if load(language).check(name) == name]


@pytest.mark.parametrize("language", OTHERS)
def test_a_text_uses_places_of_its_template_only(language):
    for template, own in catalogue(language).items():
        places = re.findall(r"{\w*}", template)
        assert len(set(places)) == len(places), template
        assert "{}" not in places, template
        assert set(re.findall(r"{\w*}", own)) <= set(places), template
        assert own, template


def test_no_change_in_percent_reads_minus_zero():
    """A sign is written with `z`: -0.3 is rounded to "+0%", not to "-0%"."""
    signed, wrong = 0, []
    for path in MODULES:
        for text in (n for n in nodes_of(path) if isinstance(n, ast.JoinedStr)):
            for value, after in zip(text.values, [*text.values[1:], None], strict=True):
                if not isinstance(value, ast.FormattedValue) or value.format_spec is None:
                    continue
                spec = ast.unparse(value.format_spec)[2:-1]
                follows = after.value if isinstance(after, ast.Constant) else ""
                if spec.startswith("+") and (spec.endswith("%") or follows.startswith("%")):
                    signed += 1
                    wrong += [f"{name_of(path)}: {spec}"] if not spec.startswith("+z") else []
    assert signed >= 3
    assert not wrong
