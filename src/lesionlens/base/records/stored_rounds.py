"""Compact storage of prompt rounds: a round that continues the previous one holds new voxels only.

A `PromptRound` holds all voxels so far. Complete rounds would make a file grow with the square of
their number: 210 scribbles of 30 voxels exceeded the size up to which files are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from lesionlens.base.records.prompts import PromptRound, Voxel

CONTINUES = "continues"
NO_LONGER_WANTED, NO_LONGER_UNWANTED = "no_longer_wanted", "no_longer_unwanted"
"""Keys of voxels of the previous round that no longer count."""
_MAX_VOXELS = 5_000_000
"""Maximum voxels of all continued rounds, so that no small file fills the memory; later rounds are
stored complete."""

Rounds = tuple[PromptRound, ...]
Voxels = tuple[Voxel, ...]
Extra = dict[str, Any]


class StoredRounds:
    """Annotation of a field whose rounds are stored compactly; complete rounds can be read too."""

    __slots__ = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Shorten the rounds for files, and complete them when read."""
        from pydantic_core import core_schema

        rounds = handler(source)
        return core_schema.no_info_wrap_validator_function(
            _deserialized,
            rounds,
            serialization=core_schema.wrap_serializer_function_ser_schema(
                _serialized, schema=rounds
            ),
        )


def _serialized(rounds: Rounds, handler: Any) -> Any:
    """Return the rounds as `handler` stores them, each without the voxels of the previous one."""
    parts, extras, total = [*rounds[:1]], [Extra()] * len(rounds[:1]), 0
    for before, now in pairwise(rounds):
        total += len(now.foreground) + len(now.background)
        part, extra = _difference(before, now)
        if total > _MAX_VOXELS or _completed(before, part, extra) != now:
            part, extra = now, {}
        parts.append(part)
        extras.append(extra)
    stored = handler(tuple(parts))
    return [{**stored_round, **extra} for stored_round, extra in zip(stored, extras, strict=True)]


def _difference(before: PromptRound, now: PromptRound) -> tuple[PromptRound, Extra]:
    foreground, removed_foreground = _voxel_changes(before.foreground, now.foreground)
    background, removed_background = _voxel_changes(before.background, now.background)
    extra: Extra = {CONTINUES: True}
    extra |= {NO_LONGER_WANTED: removed_foreground} if removed_foreground else {}
    extra |= {NO_LONGER_UNWANTED: removed_background} if removed_background else {}
    return replace(now, foreground=foreground, background=background), extra


def _voxel_changes(old: Voxels, now: Voxels) -> tuple[Voxels, list[list[int]]]:
    """Return the voxels that are new, and the old ones that no longer count."""
    if now[: len(old)] == old:  # usual, and fast
        return now[len(old) :], []
    current, previous = set(now), set(old)
    return tuple(voxel for voxel in now if voxel not in previous), [
        [*voxel] for voxel in old if voxel not in current
    ]


def _deserialized(stored: Any, handler: Any) -> Any:
    """Return complete rounds; raises ValueError if they are inconsistent."""
    if not isinstance(stored, (list, tuple)) or not any(map(_is_part, stored)):
        return handler(stored)
    keys = {CONTINUES, NO_LONGER_WANTED, NO_LONGER_UNWANTED}
    plain = [
        {k: v for k, v in stored_round.items() if k not in keys}
        if _is_part(stored_round)
        else stored_round
        for stored_round in stored
    ]
    rounds: list[PromptRound] = []
    total = 0
    for one, part in zip(stored, handler(plain), strict=True):
        if not _is_part(one):
            rounds.append(part)
            continue
        if not rounds:
            raise ValueError("a round of prompts that continues a missing one")
        rounds.append(_completed(rounds[-1], part, one))
        total += len(rounds[-1].foreground) + len(rounds[-1].background)
        if total > _MAX_VOXELS:
            raise ValueError("too many prompts")
    return tuple(rounds)


def _is_part(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get(CONTINUES) is True


def _completed(before: PromptRound, part: PromptRound, extra: Mapping[str, Any]) -> PromptRound:
    return replace(
        part,
        foreground=_without(before.foreground, extra.get(NO_LONGER_WANTED)) + part.foreground,
        background=_without(before.background, extra.get(NO_LONGER_UNWANTED)) + part.background,
    )


def _without(voxels: Voxels, removed: Any) -> Voxels:
    if removed is None:
        return voxels
    try:
        excluded = {tuple(voxel) for voxel in removed}
    except TypeError as error:
        raise ValueError("excluded voxels that are not voxels") from error
    return tuple(voxel for voxel in voxels if voxel not in excluded)
