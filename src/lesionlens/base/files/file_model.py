"""Base class of pydantic models that are stored as JSON files."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class FileModel(BaseModel):
    """Frozen model that refuses undeclared fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def schema_field(name: str) -> Any:
    """Return the field `schema_`: name and version of a file's schema, stored as `schema`."""
    return Field(default=name, validation_alias="schema", serialization_alias="schema")


def first_problem(error: ValidationError) -> str:
    """Return the first problem that a validation found, after the name of its field."""
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
