"""Base class of pydantic models that are stored as JSON files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

if TYPE_CHECKING:
    from pydantic.main import IncEx


class FileModel(BaseModel):
    """Frozen model that refuses undeclared fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def file_text(self, exclude: IncEx | None = None) -> str:
        """Return the content of the JSON file, without the fields to exclude."""
        return self.model_dump_json(by_alias=True, indent=1, exclude=exclude) + "\n"


def schema_field(name: str) -> Any:
    """Return the field `schema_`: name and version of a file's schema, stored as `schema`."""
    return Field(default=name, validation_alias="schema", serialization_alias="schema")


def first_problem(error: Exception) -> str:
    """Return why a file is refused; of a validation the first problem, after its field's name."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
