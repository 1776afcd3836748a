"""Groups of options shared by several commands: a frozen class per group, and an annotation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from lesionlens.base.labels import Identity, MapExtent, MrSequence
from lesionlens.base.records.export import ExportOptions
from lesionlens.cli import options

if TYPE_CHECKING:
    from lesionlens.base.records.study import Study
    from lesionlens.base.run_context import RunContext


_FILE_HELP = "NIfTI file, DICOM folder or Series UID within STUDY to take as"


class OptionGroup(Protocol):
    """A frozen dataclass, each field of which is an option."""

    def choice(self) -> Any:
        """Return the value that the command receives for these options."""
        ...


@dataclass(frozen=True, slots=True)
class Group:
    """Annotation of a command's parameter that the options of a group replace."""

    kind: Callable[..., OptionGroup]
    without: Collection[str] = ()
    """Fields of the group that the command does not have."""

    @property
    def options(self) -> list[inspect.Parameter]:
        """The fields as parameters of a command."""
        parameters = inspect.signature(self.kind, eval_str=True).parameters.values()
        return [parameter for parameter in parameters if parameter.name not in self.without]

    def choice_among(self, values: dict[str, Any]) -> Any:
        """Remove the options from a command's values; return what the command receives for them."""
        own_values = {option.name: values.pop(option.name) for option in self.options}
        return self.kind(**own_values).choice()


def _declared(command: Callable[..., Any]) -> Iterator[tuple[inspect.Parameter, Group | None]]:
    """Yield the parameters of a command, each with the group that replaces it."""
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        metadata = getattr(parameter.annotation, "__metadata__", ())
        yield parameter, next((item for item in metadata if isinstance(item, Group)), None)


def set_options(wrapper: Callable[..., None], command: Callable[..., Any], common: Group) -> None:
    """Give a wrapper the options of a command and of a group, from which typer makes its own."""
    parameters = [
        option
        for parameter, group in _declared(command)
        for option in (group.options if group else [parameter])
    ]
    parameters += common.options
    for parameter in parameters:
        for metadata in getattr(parameter.annotation, "__metadata__", ()):
            metadata.readable = False  # `check_readable` reports it, with the next step
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


def arguments_of(command: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a command from the values of its options."""
    arguments = dict(values)
    for parameter, group in _declared(command):
        if group is not None:
            arguments[parameter.name] = group.choice_among(arguments)
    return arguments


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
        from lesionlens.imaging.reading.open import open_study

        return open_study(
            study,
            named=self.named or None,
            study_uid=self.study_uid,
            same_patient=self.same_patient,
            context=context,
        )


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Options for the files of a result."""

    sentence_template: options.SentenceTemplate = None
    hide: Annotated[
        list[Identity] | None,
        typer.Option(help="Omit patient, date or series from the report; repeatable."),
    ] = None
    maps: Annotated[
        MapExtent,
        typer.Option(
            help="DICOM attention maps: cut (cropped to the visible part) or full (for OHIF)."
        ),
    ] = MapExtent.CUT
    evidence: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Also compute what each sequence contributes, to each candidate (Shapley values) "
            "and at every voxel (evidence_*.nii.gz), and list dismissed regions (considered.json).",
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
        UnusableInputError
            The template cannot be used.
        """
        from lesionlens.results.export.sentence import read_template

        return ExportOptions(
            maps=self.maps,
            include_unaccepted=self.include_unaccepted,
            evidence=self.evidence,
            sentence_template=read_template(file) if (file := self.sentence_template) else "",
            hidden=frozenset(self.hide or ()),
        )


Source = Annotated[SourceOptions, Group(SourceOptions)]
SOURCE = SourceOptions()
FILES = ExportOptions()
