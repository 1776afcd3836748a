"""Groups of options shared by several commands: a frozen class per group, and a decorator."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, get_type_hints

import typer

from lesionlens.base.errors import MissingPluginError
from lesionlens.base.labels import Extra, Identity, MapExtent, MrSequence
from lesionlens.base.records.export import ExportOptions
from lesionlens.cli import options
from lesionlens.cli.console import CommandOutput

if TYPE_CHECKING:
    from lesionlens.base.records.study import Study
    from lesionlens.base.run_context import RunContext


_FILE_HELP = "NIfTI file, DICOM folder or Series UID within STUDY to take as"


class OptionGroup(Protocol):
    """A frozen dataclass, each field of which is an option."""

    def choice(self) -> Any:
        """Return the value that the command receives for these options."""
        ...


def with_option_groups(
    without: Collection[str] = (), **groups: Callable[..., OptionGroup]
) -> Callable[[Callable[..., CommandOutput]], Callable[..., CommandOutput]]:
    """Replace a parameter of a command by the options of a group.

    Parameters
    ----------
    without : collection of str
        Fields of the groups that the command does not have.
    groups
        Class of each group, by parameter name.
    """

    def decorate(command: Callable[..., CommandOutput]) -> Callable[..., CommandOutput]:
        expanded = {name: parameters_of(group, without) for name, group in groups.items()}

        @functools.wraps(command)
        def with_groups(*positional: Any, **arguments: Any) -> CommandOutput:
            for name, group in groups.items():
                own_names = {parameter.name for parameter in expanded[name]} & set(arguments)
                values = {field: arguments.pop(field) for field in own_names}
                arguments[name] = group(**values).choice()
            return command(*positional, **arguments)

        declared = inspect.signature(command, eval_str=True).parameters.values()
        set_parameters(
            with_groups, [new for old in declared for new in expanded.get(old.name, [old])]
        )
        return with_groups

    return decorate


def set_parameters(wrapper: Callable[..., Any], parameters: list[inspect.Parameter]) -> None:
    """Give a wrapper of a command its signature, from which typer makes options."""
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


def parameters_of(group: Any, without: Collection[str] = ()) -> list[inspect.Parameter]:
    """Return the fields of a group, except `without`, as parameters of a command."""
    hints = get_type_hints(group, include_extras=True)
    keyword_kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [
        inspect.Parameter(
            field.name, keyword_kind, default=field.default, annotation=hints[field.name]
        )
        for field in fields(group)
        if field.name not in without
    ]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Options that select the series of a folder."""

    t1: Annotated[str | None, typer.Option(help=f"{_FILE_HELP} T1.", metavar="F")] = None
    t1c: Annotated[
        str | None, typer.Option(help=f"{_FILE_HELP} T1 after contrast.", metavar="F")
    ] = None
    t2: Annotated[str | None, typer.Option(help=f"{_FILE_HELP} T2.", metavar="F")] = None
    flair: Annotated[str | None, typer.Option(help=f"{_FILE_HELP} FLAIR.", metavar="F")] = None
    study_uid: Annotated[
        str | None,
        typer.Option("--study", help="Study to use if the folder holds several.", metavar="UID"),
    ] = None
    same_patient: options.SamePatient = False

    def choice(self) -> SourceOptions:
        """Return the options, which can open a study."""
        return self

    @property
    def named(self) -> dict[MrSequence, str]:
        """The sequences that the user named."""
        sources = ((sequence, getattr(self, sequence.value)) for sequence in MrSequence)
        return {sequence: source for sequence, source in sources if source is not None}

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
    hide: Annotated[
        list[Identity] | None,
        typer.Option(help="Omit patient, date or series from the report; repeatable."),
    ] = None
    surfaces: Annotated[
        bool,
        typer.Option(
            "--surfaces", help="Also write the candidates' surfaces (glTF, STL); needs extra mesh."
        ),
    ] = False
    maps: Annotated[
        MapExtent,
        typer.Option(
            help="DICOM attention maps: cut (cropped to the visible part) or full (for OHIF)."
        ),
    ] = MapExtent.CUT
    also: Annotated[
        list[Extra] | None,
        typer.Option(
            help="Also write contours (RTSTRUCT) or key-slices (pictures) into dicom; repeatable."
        ),
    ] = None
    evidence: Annotated[
        bool,
        typer.Option(
            "--evidence",
            help="Also write the contribution of each sequence at every voxel (evidence_*.nii.gz), "
            "and the regions that were considered and dismissed (considered.json).",
        ),
    ] = False
    include_unaccepted: Annotated[
        bool,
        typer.Option(
            "--rest", help="In DICOM objects, include candidates that no reader accepted."
        ),
    ] = False

    def choice(self) -> ExportOptions:
        """Return the export options.

        Raises
        ------
        MissingPluginError
            Surfaces were requested and trimesh is not installed.
        UnusableInputError
            The language is unknown, or its sentences or the template cannot be used.
        """
        from importlib.util import find_spec

        from lesionlens.results.export.sentence import check_language, read_template

        check_language(self.language)
        if self.surfaces and find_spec("trimesh") is None:
            raise MissingPluginError(
                found="that trimesh, which writes surfaces, is not installed",
                expected="the package trimesh",
                next_step="Install it: pip install 'lesionlens[mesh]'; or omit --surfaces",
            )
        return ExportOptions(
            surfaces=self.surfaces,
            maps=self.maps,
            include_unaccepted=self.include_unaccepted,
            evidence=self.evidence,
            also=frozenset(self.also or ()),
            language=self.language,
            sentence_template=read_template(file) if (file := self.sentence_template) else "",
            hidden=frozenset(self.hide or ()),
        )


SOURCE = SourceOptions()
FILES = ExportOptions()
