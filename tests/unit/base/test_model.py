"""Fields that have another key in files, where a key that was written once stays."""

from typing import Annotated

import pytest
from pydantic import TypeAdapter

from lesionlens.base.labels import MrSequence, PromptKind
from lesionlens.base.model import Keys
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.prompts import PromptRound
from lesionlens.base.records.review import UnaidedRead


@pytest.mark.parametrize(
    ("record", "keys"),
    [
        (MapChecks(True, 0.9, 0.1, verdict="passed"), {"words": "passed"}),
        (
            PromptRound(PromptKind.POINT, ((1, 2, 3),), (), None, 2, 4.5),
            {"wanted": [[1, 2, 3]], "unwanted": [], "made_by": ""},
        ),
        (UnaidedRead("A", "b", "c", 1.0, "Nothing marked."), {"words": "Nothing marked."}),
    ],
    ids=["checks", "prompts", "read"],
)
def test_a_record_is_stored_under_its_keys_and_read_back(record, keys):
    adapter = TypeAdapter(type(record))
    stored = adapter.dump_python(record, mode="json", by_alias=True)
    assert keys.items() <= stored.items()
    assert adapter.validate_python(stored) == record


def test_keys_of_text_are_put_in_order_and_stay_text():
    adapter = TypeAdapter(Annotated[dict[str, float], Keys((MrSequence.T1C, "none"))])
    found = adapter.validate_python({"none": 0.0, "t1c": 1.0})
    assert repr(found) == "{'t1c': 1.0, 'none': 0.0}"
