"""Label conventions, and the one that the labels' names in a `dataset.json` state."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from lesionlens.base.errors import ConfigError
from lesionlens.base.labels import Label

CONVENTIONS: Mapping[str, Mapping[int, int]] = MappingProxyType({
    "brats": {4: 3},
    "brats124": {4: 3},
    "brats23": {},
    "brats23ped": {},
    "brats24": {4: Label.CAVITY},
    "brats24ped": {1: 3, 2: 1, 3: 1, 4: 2},
    "msd": {1: 2, 2: 1},
    "brats2012": {1: 2, 2: 1},
})  # fmt: skip
"""Name to the deviations from 1 core, 2 oedema, 3 enhancing.

`brats` is 1/2/4 (2017 to 2021) or 1/2/3 (2023), as the file has it; `brats24` has a resection
cavity as 4; `brats24ped` is 1 enhancing, 2 non-enhancing, 3 cystic, 4 oedema; `msd` is
1 oedema, 2 non-enhancing, 3 enhancing; `brats2012` is the synthetic 2012 set, 1 oedema, 2 core.
"""
_INFERRED = ("brats23", "brats", "msd", "brats24", "brats24ped")
_TISSUES = (
    (Label.CAVITY, re.compile(r"cavity|resect|\brc\b")),
    (Label.OEDEMA, re.compile(r"edema|ödem|infiltrat|hyperintens|\bsnfh\b|\bed\b")),
    (Label.CORE, re.compile(r"non.?enhanc|necro|cyst|\b(ncr|nec|netc?|cc)\b")),
    (Label.ENHANCING, re.compile(r"enhanc|\bet\b")),
    (Label.CORE, re.compile(r"\bcore\b")),
)
"""Tissues by words of a label's name; the first that fits counts."""
_WHOLE, _CORE = re.compile(r"\b(whole|wt)\b"), re.compile(r"\b(core|tc)\b")


def convention_of(labels: Any) -> str | None:
    """Return the label convention that the names in a `dataset.json` state.

    Parameters
    ----------
    labels : Any
        Its `labels`: number to name (Medical Segmentation Decathlon), or name to number or numbers
        (nnU-Net, with nested regions).

    Returns
    -------
    str or None
        None for 1 core, 2 oedema, 3 enhancing, and if the names state no tissue.

    Raises
    ------
    ConfigError
        No convention has the tissues that the names state.

    Examples
    --------
    >>> convention_of({"1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"})
    'msd'
    >>> convention_of({"whole tumor": [1, 2, 3], "tumor core": [2, 3]})  # nnU-Net's regions
    'msd'
    >>> convention_of({"necrosis": 1, "edema": 2, "enhancing tumor": 4})
    'brats'
    >>> convention_of({"NETC": 1, "SNFH": 2, "ET": 3, "resection cavity": 4})
    'brats24'
    >>> convention_of({"ET": 1, "NETC": 2, "CC": 3, "ED": 4})
    'brats24ped'
    """
    tissues = _tissues(labels)
    for name in _INFERRED:
        table = CONVENTIONS[name]
        if all(table.get(n, n if n < Label.CAVITY else None) == t for n, t in tissues.items()):
            return None if name == "brats23" else name
    stated = ", ".join(f"{number} {tissues[number].display_name}" for number in sorted(tissues))
    raise ConfigError(
        found=f"a dataset.json whose labels are {stated}",
        expected="the order of a known convention, such as 1 core, 2 oedema, 3 enhancing",
        next_step="Renumber the segmentations and correct their names in dataset.json",
    )


def _tissues(labels: Any) -> dict[int, Label]:
    """Return the tissue of each label whose name states one."""
    named = list(_named_numbers(labels))
    tissues: dict[int, Label] = {}
    for name, numbers in named:
        tissue = next((tissue for tissue, words in _TISSUES if words.search(name)), None)
        if len(numbers) == 1 and tissue is not None:
            tissues[min(numbers)] = tissue
    regions = [(name, numbers) for name, numbers in named if len(numbers) > 1]
    core = next((numbers for name, numbers in regions if _CORE.search(name)), None)
    if core is None:
        return tissues
    whole = next((numbers for name, numbers in regions if _WHOLE.search(name)), {1, 2, 3} | core)
    tissues = dict.fromkeys(whole - core, Label.OEDEMA) | tissues
    if Label.ENHANCING in tissues.values():
        tissues = dict.fromkeys(core, Label.CORE) | tissues
    return tissues


def _named_numbers(labels: Any) -> Iterator[tuple[str, set[int]]]:
    """Yield each name, in lower case with single spaces, and its numbers without 0."""
    for key, value in labels.items() if isinstance(labels, dict) else ():
        name, numbers = (value, key) if str(key).isdecimal() else (key, value)
        texts = [str(n) for n in (numbers if isinstance(numbers, list) else [numbers])]
        found = {int(text) for text in texts if text.isdecimal() and len(text) < 4} - {0}
        if found:
            yield re.sub(r"[\W_]+", " ", str(name).lower()), found
