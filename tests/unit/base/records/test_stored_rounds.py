"""Prompts are stored without what the round before holds, and come back complete."""

import json
from itertools import accumulate
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from lesionlens.base.files import JSON_BYTES
from lesionlens.base.labels import PromptKind, Region, ReviewState
from lesionlens.base.records.files import ReviewFile
from lesionlens.base.records.prompts import PromptRound
from lesionlens.base.records.review import ReviewEvent
from lesionlens.base.records.stored_rounds import StoredRounds

STORED = TypeAdapter(Annotated[tuple[PromptRound, ...], StoredRounds()])
COMPLETE = TypeAdapter(tuple[PromptRound, ...])
VOXELS = st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=4, unique=True).map(tuple)


def round_of(foreground, background=(), seconds=1.0):
    return PromptRound(
        PromptKind.SCRIBBLE, foreground, background, Region.WT, 2, seconds, "networks"
    )


def scribbles(count, voxels=30):
    """`count` rounds, each with the voxels of all before and some of its own."""
    lines = (tuple((n % 250, i, n // 250) for i in range(voxels)) for n in range(count))
    return tuple(round_of(line) for line in accumulate(lines))


@given(st.lists(st.builds(round_of, VOXELS, VOXELS), max_size=6).map(tuple))
def test_any_rounds_come_back_as_they_were(rounds):
    for by_alias in (True, False):
        assert STORED.validate_json(STORED.dump_json(rounds, by_alias=by_alias)) == rounds
    assert STORED.validate_python(rounds) == rounds


def test_a_long_day_of_prompts_can_be_opened_again():
    """Its review.json was written with more than 32 MiB, and refused when the result was opened."""
    event = ReviewEvent("2.25.1", ReviewState.EDITED, "A. Reader", "", prompts=scribbles(280))
    content = ReviewFile(study_uid="1", inputs_sha256=None, candidates=(), events=(event,))
    text = content.model_dump_json(by_alias=True, indent=1)
    complete = COMPLETE.dump_json(event.prompts, by_alias=True, indent=1)
    assert len(complete) > JSON_BYTES
    assert len(text) < JSON_BYTES / 50
    assert ReviewFile.model_validate_json(text).events == (event,)


@pytest.mark.parametrize(
    "changed",
    [
        {"no_longer_wanted": 5},
        {"no_longer_wanted": [5]},
        {"wanted": "all"},
        {"more": 1},
    ],
)
def test_damaged_rounds_are_refused(changed):
    stored = json.loads(STORED.dump_json(scribbles(2), by_alias=True))
    with pytest.raises(ValidationError):
        STORED.validate_python([stored[0], {**stored[1], **changed}])
    with pytest.raises(ValidationError, match="continues a missing one"):
        STORED.validate_python(stored[1:])
