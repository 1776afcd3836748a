"""Groups of options shared by several commands: a frozen class per group, and a decorator."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_type_hints

from lesionlens.base.labels import MapExtent, MrSequence
from lesionlens.base.records.export import ExportOptions
from lesionlens.cli import options
from lesionlens.cli.console import Answer

if TYPE_CHECKING:
    from lesionlens.base.records.study import Study
    from lesionlens.base.run_context import RunContext


class OptionGroup(Protocol):
    """A frozen dataclass, each field of which is an option."""

    def choice(self) -> Any:
        """Return the value that the command receives for these options."""
        ...


def takes(
    without: Collection[str] = (), **groups: Callable[..., OptionGroup]
) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Replace a parameter of a command by the options of a group.

    Parameters
    ----------
    without : collection of str
        Fields of the groups that the command does not have.
    groups
        Class of each group, by parameter name.
    """

    def decorate(command: Callable[..., Answer]) -> Callable[..., Answer]:
        taken = {name: _options(kind, without) for name, kind in groups.items()}

        @functools.wraps(command)
        def wrapped(*given: Any, **arguments: Any) -> Answer:
            for name, kind in groups.items():
                mine = {one.name for one in taken[name]} & set(arguments)
                chosen = {field: arguments.pop(field) for field in mine}
                arguments[name] = kind(**chosen).choice()
            return command(*given, **arguments)

        own = get_type_hints(command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for one in inspect.signature(command).parameters.values():
            parameters += taken.get(one.name) or [one.replace(annotation=own[one.name])]
        wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {one.name: one.annotation for one in parameters}
        return wrapped

    return decorate


def _options(kind: Any, without: Collection[str]) -> list[inspect.Parameter]:
    """Return the fields of a group as parameters of a command."""
    hints = get_type_hints(kind, include_extras=True)
    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [
        inspect.Parameter(one.name, plain, default=one.default, annotation=hints[one.name])
        for one in fields(kind)
        if one.name not in without
    ]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Options that select the series of a folder."""

    t1: options.T1 = None
    t1c: options.T1c = None
    t2: options.T2 = None
    flair: options.Flair = None
    study_uid: options.StudyUid = None
    same_patient: options.SamePatient = False

    def choice(self) -> SourceOptions:
        """Return the options, which can open a study."""
        return self

    @property
    def named(self) -> dict[MrSequence, str]:
        """The sequences that the user named."""
        given = ((sequence, getattr(self, sequence.value)) for sequence in MrSequence)
        return {sequence: source for sequence, source in given if source is not None}

    def open(self, study: Path, context: RunContext) -> Study:
        """Open a study with these options."""
        from lesionlens.imaging.reading.readers import open_study

        return open_study(
            study,
            named=self.named or None,
            study_uid=self.study_uid,
            recall=True,
            same_patient=self.same_patient,
            context=context,
        )


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Options for the files of a result."""

    language: options.Language = "en"
    sentence_template: options.SentenceTemplate = None
    hide: options.Hide = None
    surfaces: options.Surfaces = False
    maps: options.Maps = MapExtent.CUT
    also: options.Also = None
    evidence: options.Evidence = False
    rest: options.Rest = False

    def choice(self) -> ExportOptions:
        """Return the export options.

        Raises
        ------
        MissingPluginError
            Surfaces were requested and trimesh is not installed.
        UnusableInputError
            The language is unknown, or the template cannot be used.
        """
        from importlib.util import find_spec

        from lesionlens.base.errors import MissingPluginError
        from lesionlens.results.export.words import load

        load(self.language)
        if self.surfaces and find_spec("trimesh") is None:
            raise MissingPluginError(
                found="that trimesh, which writes surfaces, is not installed",
                expected="the package trimesh",
                next_step="Install it: pip install 'lesionlens[mesh]'; or omit --surfaces",
            )
        return ExportOptions(
            surfaces=self.surfaces,
            maps=self.maps,
            rest=self.rest,
            evidence=self.evidence,
            also=frozenset(self.also or ()),
            language=self.language,
            sentence_template=options.read_sentence(self.sentence_template),
            hidden=frozenset(self.hide or ()),
        )


SOURCE = SourceOptions()
FILES = ExportOptions()
