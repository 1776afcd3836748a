"""The plugin's settings: defaults in the manifest, values in napari's Preferences."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from lesionlens.base.host_process import TUNE
from lesionlens.base.records.export import ExportOptions
from lesionlens.engines.choice import EngineChoice
from lesionlens.engines.remote.address import ServerAddress, read_key
from lesionlens.imaging.preparation import skull_stripping
from lesionlens.imaging.preparation.prepare import PrepareOptions
from lesionlens.napari.model.choices.choices import Choices, Overlay
from lesionlens.site.worklist.site import unaided_first_required


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the user set under Preferences → LesionLens."""

    reader_name: str | None = None
    """Written into every decision."""
    overlay: Overlay = Overlay.OFF
    """Shown as soon as an analysis is there; off keeps the unaided read."""
    opacity: float = 0.6
    """Of maps, 0 to 1."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N, xpu or mps."""
    server: str = ""
    """Address of the server whose network is asked; empty for this machine's own."""
    server_model: str = ""
    """Which of its models; empty for its first."""
    server_key_file: str = ""
    """Holds the server's key."""
    server_ca: str = ""
    """Certificates to trust instead of the usual."""
    open_panel: bool = True
    """Whether the panel opens with a study."""
    wheel_zooms: bool = False
    """Whether the wheel zooms and Ctrl with it scrolls slices; else the other way round."""
    brain_extraction: str = skull_stripping.AUTO
    """auto, own, or a program of `preparation.skull_stripping`."""
    bias_correction: bool = False
    """Whether the coils' shading is taken out first."""
    tune_process: bool = False
    """Whether the collector, the allocator and pint of the whole napari process may be set."""
    sentence_language: str = "en"
    """Of the report and of sentences to paste."""
    sentence_template: str = ""
    """A site's own file of sentences; empty for those shipped."""
    unaided_first: bool = False
    """Whether the reader signs an unaided read before anything of an analysis is shown: by their
    own wish, or because the site requires it."""

    @property
    def preparation(self) -> PrepareOptions:
        """How a study is prepared."""
        return PrepareOptions(stripper=self.brain_extraction, bias=self.bias_correction)

    @property
    def server_address(self) -> ServerAddress | None:
        """The server whose network is asked; None for this machine's own.

        Raises
        ------
        UnusableInputError
            The address or the file of the key cannot be used.
        """
        if not self.server:
            return None
        key = read_key(Path(self.server_key_file)) if self.server_key_file else None
        return ServerAddress(self.server, key, Path(self.server_ca) if self.server_ca else None)

    @property
    def engine(self) -> EngineChoice:
        """What analyses.

        Raises
        ------
        UnusableInputError
            The address or the file of the key cannot be used.
        """
        server = self.server_address
        if server is None:
            return EngineChoice(self.device)
        return EngineChoice(engine=self.server_model or "lens", server=server)

    def engine_arguments(self) -> list[str]:
        """Return what analyses as options of a command."""
        if not self.server:
            return ["--device", self.device]
        named = {"--server": self.server, "--engine": self.server_model,
                 "--api-key-file": self.server_key_file, "--server-ca": self.server_ca}  # fmt: skip
        return [word for name, value in named.items() if value for word in (name, value)]

    def asked_of_report(self, options: ExportOptions) -> ExportOptions:
        """Return options with the language and the sentences of these settings.

        Raises
        ------
        UnusableInputError
            The template cannot be used.
        """
        from lesionlens.results.export.sentence import read_template  # noqa: PLC0415

        file = self.sentence_template
        template = read_template(Path(file)) if file else ""
        return replace(options, language=self.sentence_language, sentence_template=template)

    def choices(self) -> Choices:
        """Return what is chosen when a study opens."""
        return Choices(opacity=self.opacity)


def read_preferences() -> Preferences:
    """Return the values of now; the defaults where napari knows none of this plugin."""
    from napari.settings import get_plugin_settings  # noqa: PLC0415

    try:
        settings = get_plugin_settings("lesionlens")
    except KeyError:
        return Preferences(unaided_first=unaided_first_required())
    review, engine = settings.review, settings.engine
    return Preferences(
        reader_name=review.reader_name.strip() or None,
        overlay=Overlay(review.overlay),
        opacity=float(review.opacity),
        device=engine.device.strip() or "auto",
        server=engine.server.strip(),
        server_model=engine.server_model.strip(),
        server_key_file=engine.server_key_file.strip(),
        server_ca=engine.server_ca.strip(),
        open_panel=bool(review.open_panel),
        wheel_zooms=str(review.wheel) == "zoom",
        brain_extraction=str(settings.preparation.brain_extraction),
        bias_correction=bool(settings.preparation.bias_correction),
        tune_process=bool(engine.tune_process) or os.environ.get(TUNE) == "1",
        sentence_language=str(review.sentence_language),
        sentence_template=review.sentence_template.strip(),
        unaided_first=bool(review.unaided_first) or unaided_first_required(),
    )


def keep_preparation(brain_extraction: str, bias_correction: bool) -> None:
    """Keep how studies are prepared from now on."""
    from napari.settings import get_plugin_settings  # noqa: PLC0415

    settings = get_plugin_settings("lesionlens").preparation
    settings.brain_extraction = brain_extraction
    settings.bias_correction = bias_correction


def keep_reader(name: str) -> None:
    """Keep who reads from now on."""
    from napari.settings import get_plugin_settings  # noqa: PLC0415

    get_plugin_settings("lesionlens").review.reader_name = name


def keep_server(server: str, model: str = "") -> None:
    """Keep whose network is asked from now on, and which; empty for this machine's own.

    Raises
    ------
    UnusableInputError
        It is no address of a server.
    """
    from napari.settings import get_plugin_settings  # noqa: PLC0415

    if server:
        ServerAddress(server)
    settings = get_plugin_settings("lesionlens").engine
    settings.server, settings.server_model = server, model


FOLDERS = f"*{os.sep}"
"""Napari's pattern of every folder."""


def used_for_folders() -> bool:
    """Whether napari opens folders with LesionLens without asking which reader to use."""
    from napari.settings import get_settings  # noqa: PLC0415

    return bool(get_settings().plugins.extension2reader.get(FOLDERS) == "lesionlens")


def use_for_folders(wanted: bool) -> None:
    """Let napari open folders with LesionLens, or ask each time; kept in napari's own settings.

    A folder that LesionLens declines is offered to the other readers as before.
    """
    from napari.settings import get_settings  # noqa: PLC0415

    plugins = get_settings().plugins
    others = {key: name for key, name in plugins.extension2reader.items() if key != FOLDERS}
    plugins.extension2reader = others | ({FOLDERS: "lesionlens"} if wanted else {})
