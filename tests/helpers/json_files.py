"""Changes of JSON files that a result was saved with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def edited_json(file: Path) -> Iterator[Any]:
    """Read a JSON file for the block, and write it back with the changes that the block made."""
    content = json.loads(file.read_text(encoding="utf-8"))
    yield content
    file.write_text(json.dumps(content), encoding="utf-8")
