"""How records are written to JSON files and validated when they are read.

Pydantic uses frozen dataclasses as models. The markers, put on a field's type with `Annotated`,
add rounding, bounds and fixed keys; pydantic itself is imported only when a model is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isfinite
from typing import Any, Final

STRICT: Final[dict[str, Any]] = {"extra": "forbid", "revalidate_instances": "always"}
"""The `__pydantic_config__` of a record whose files may contain no unknown field."""


def stored_as(**keys: str) -> dict[str, Any]:
    """Return a configuration that gives fields other keys in files."""
    return {"alias_generator": lambda name: keys.get(name, name), "populate_by_name": True}


class Decimals:
    """A number with a fixed number of decimals, within finite bounds."""

    __slots__ = ("_count", "_least", "_most")

    def __init__(self, count: int, least: float = -inf, most: float = inf) -> None:
        self._count, self._least, self._most = count, least, most

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Round the value; refuse one out of bounds."""
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        """Add the bounds to the JSON schema."""
        bounds = {"minimum": self._least, "maximum": self._most}
        return {**handler(core), **{key: v for key, v in bounds.items() if isfinite(v)}}

    def _checked(self, value: float) -> float:
        rounded = round(value, self._count) + 0.0 if isfinite(value) else value  # no -0.0
        if not (isfinite(rounded) and self._least <= rounded <= self._most):
            raise ValueError(f"{value} is not within {self._least:g} and {self._most:g}")
        return rounded


class Keys:
    """A mapping with exactly these keys, in this order."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = tuple(keys)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Refuse other keys and put the keys in order."""
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self._ordered, handler(source))

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        """Describe an object with these properties in the JSON schema."""
        value, names = handler(core)["additionalProperties"], [str(key) for key in self._keys]
        return {
            "type": "object",
            "properties": dict.fromkeys(names, value),
            "required": names,
            "additionalProperties": False,
        }

    def _ordered(self, found: dict[str, Any]) -> dict[str, Any]:
        if set(found) != set(self._keys):
            raise ValueError(f"the keys must be {', '.join(self._keys)}")
        own = {key: key for key in found}  # a plain text stays one, where a key is an equal member
        return {own[key]: found[key] for key in self._keys}


def first_problem(error: Exception) -> str:
    """Return why a file is refused; of a validation the first problem, after its field's name."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
