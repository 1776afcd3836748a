"""Prompts in files: a round that continues the one before holds only what is new.

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
"""Keys of voxels of the round before that do not count any more."""
_LARGEST = 5_000_000
"""Most voxels of all continued rounds, so that no small file fills the memory; later ones are
complete."""

Rounds = tuple[PromptRound, ...]
Voxels = tuple[Voxel, ...]
Extra = dict[str, Any]


class StoredRounds:
    """Marks a field of rounds that is stored so; complete rounds can be read too."""

    __slots__ = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Shorten the rounds for files, and complete them when read."""
        from pydantic_core import core_schema  # noqa: PLC0415  (training does without)

        rounds = handler(source)
        return core_schema.no_info_wrap_validator_function(
            _read,
            rounds,
            serialization=core_schema.wrap_serializer_function_ser_schema(_written, schema=rounds),
        )


def _written(rounds: Rounds, handler: Any) -> Any:
    """Return the rounds as `handler` stores them, each without what the one before holds."""
    parts, extras, total = [*rounds[:1]], [Extra()] * len(rounds[:1]), 0
    for before, now in pairwise(rounds):
        total += len(now.foreground) + len(now.background)
        part, extra = _difference(before, now)
        if total > _LARGEST or _completed(before, part, extra) != now:
            part, extra = now, {}
        parts.append(part)
        extras.append(extra)
    stored = handler(tuple(parts))
    return [{**one, **extra} for one, extra in zip(stored, extras, strict=True)]


def _difference(before: PromptRound, now: PromptRound) -> tuple[PromptRound, Extra]:
    foreground, gone = _new(before.foreground, now.foreground)
    background, gone_too = _new(before.background, now.background)
    extra: Extra = {CONTINUES: True}
    extra |= {NO_LONGER_WANTED: gone} if gone else {}
    extra |= {NO_LONGER_UNWANTED: gone_too} if gone_too else {}
    return replace(now, foreground=foreground, background=background), extra


def _new(old: Voxels, now: Voxels) -> tuple[Voxels, list[list[int]]]:
    """Return the voxels that are new, and the old ones that do not count any more."""
    if now[: len(old)] == old:  # usual, and fast
        return now[len(old) :], []
    kept, there = set(now), set(old)
    return tuple(at for at in now if at not in there), [[*at] for at in old if at not in kept]


def _read(stored: Any, handler: Any) -> Any:
    """Return complete rounds; raises ValueError if they are inconsistent."""
    if not isinstance(stored, (list, tuple)) or not any(map(_is_part, stored)):
        return handler(stored)
    keys = {CONTINUES, NO_LONGER_WANTED, NO_LONGER_UNWANTED}
    plain = [
        {k: v for k, v in one.items() if k not in keys} if _is_part(one) else one for one in stored
    ]
    rounds: list[PromptRound] = []
    total = 0
    for one, part in zip(stored, handler(plain), strict=True):
        if not _is_part(one):
            rounds.append(part)
            continue
        if not rounds:
            raise ValueError("a round of prompts that continues none")
        rounds.append(_completed(rounds[-1], part, one))
        total += len(rounds[-1].foreground) + len(rounds[-1].background)
        if total > _LARGEST:
            raise ValueError("too many prompts")
    return tuple(rounds)


def _is_part(one: Any) -> bool:
    return isinstance(one, Mapping) and one.get(CONTINUES) is True


def _completed(before: PromptRound, part: PromptRound, extra: Mapping[str, Any]) -> PromptRound:
    return replace(
        part,
        foreground=_kept(before.foreground, extra.get(NO_LONGER_WANTED)) + part.foreground,
        background=_kept(before.background, extra.get(NO_LONGER_UNWANTED)) + part.background,
    )


def _kept(old: Voxels, gone: Any) -> Voxels:
    if gone is None:
        return old
    try:
        left_out = {tuple(at) for at in gone}
    except TypeError as error:
        raise ValueError("voxels that do not count any more, which are no voxels") from error
    return tuple(at for at in old if at not in left_out)
