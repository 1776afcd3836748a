"""The base of what is kept as a JSON file and declared as a pydantic model."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class FileModel(BaseModel):
    """Frozen; a file may hold no field that is not declared."""

    model_config = ConfigDict(extra="forbid", frozen=True)
