"""Base class of pydantic models that are stored as JSON files."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class FileModel(BaseModel):
    """Frozen model that refuses undeclared fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)
