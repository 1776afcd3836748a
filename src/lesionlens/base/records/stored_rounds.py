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
_NO_LONGER = {"foreground": "no_longer_wanted", "background": "no_longer_unwanted"}
"""Keys of voxels of the round before that do not count any more."""
_LARGEST = 5_000_000
"""Most voxels of all continued rounds, so that no small file fills the memory; later ones are
complete."""

Rounds = tuple[PromptRound, ...]
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
    extra: Extra = {CONTINUES: True}
    new = {}
    for side, key in _NO_LONGER.items():
        old, voxels = getattr(before, side), getattr(now, side)
        if voxels[: len(old)] == old:  # usual, and fast
            new[side] = voxels[len(old) :]
            continue
        kept, there = set(voxels), set(old)
        extra[key] = [list(at) for at in old if at not in kept]
        new[side] = tuple(at for at in voxels if at not in there)
    return replace(now, **new), extra


def _read(stored: Any, handler: Any) -> Any:
    """Return complete rounds; raises ValueError if they are inconsistent."""
    if not isinstance(stored, (list, tuple)) or not any(map(_is_part, stored)):
        return handler(stored)
    keys = {CONTINUES, *_NO_LONGER.values()}
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
    sides: dict[str, tuple[Voxel, ...]] = {}
    for side, key in _NO_LONGER.items():
        old: tuple[Voxel, ...] = getattr(before, side)
        try:
            gone = {tuple(at) for at in extra.get(key, ())}
        except TypeError as error:
            raise ValueError(f"{key} that are no voxels") from error
        kept = tuple(at for at in old if at not in gone) if gone else old
        sides[side] = kept + getattr(part, side)
    return replace(part, **sides)
