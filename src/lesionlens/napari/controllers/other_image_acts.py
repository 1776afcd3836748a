"""Other series and the subtraction image beside the study; for viewing only."""

from __future__ import annotations

from collections.abc import Callable

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import PreparedStudy, Series
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.display_images import (
    OtherImage,
    OtherKind,
    align_other_series,
    kind_of,
    subtraction,
)
from lesionlens.napari.controllers.comparing import resampling_note
from lesionlens.napari.controllers.mark_acts import MarkActs
from lesionlens.napari.model.choices.views import ComparisonImages, Layout
from lesionlens.napari.qt.jobs import Jobs

_SUBTRACTION = "subtraction"
_ANALYSE_FIRST = "Analyse the study first, which registers its sequences."
_NO_OTHER_SERIES = "The study has no other series."


class OtherImageActs(MarkActs):
    """Acts that show another image beside the shown sequence, in place of a prior."""

    jobs: Jobs

    def show_subtraction(self) -> None:
        """Show T1c - T1 beside the shown sequence, or hide it."""
        self._toggle(
            _SUBTRACTION, lambda prepared, _: subtraction(prepared), (MrSequence.T1, MrSequence.T1C)
        )

    def show_other(self, number: int) -> None:
        """Show one of the study's other series beside the shown sequence, or hide it."""
        series = self.other_series()[number]
        self._toggle(
            f"{number} {series.uid or series.description}",
            lambda prepared, context: align_other_series(prepared, series, context=context),
        )

    def next_other(self) -> None:
        """Show the next other series; none after the last."""
        all_series, shown_name = self.other_series(), self._shown_image()
        if not all_series:
            self.session.decline(_NO_OTHER_SERIES)
            return
        number = int(shown_name.partition(" ")[0]) + 1 if shown_name[:1].isdecimal() else 0
        if number < len(all_series):
            self.show_other(number)
        else:
            self._close_image()

    def other_series(self) -> tuple[Series, ...]:
        """Return the study's other series, those of known type first."""
        study = self.session.state.study
        candidates = () if study is None else study.set_aside
        volumes = [series for series in candidates if min(series.grid.shape) > 1]
        return tuple(sorted(volumes, key=lambda series: kind_of(series) is OtherKind.OTHER))

    def _shown_image(self) -> str:
        compared = self.views.compared
        return "" if compared is None else compared.other_image

    def _toggle(
        self,
        name: str,
        compute: Callable[[PreparedStudy, RunContext], OtherImage],
        computed_from: tuple[MrSequence, ...] = (),
    ) -> None:
        if self._shown_image() == name:
            if self.views.layout is not self.shown_layout():  # 3-D hides it
                self.session.choose_views(layout=Layout.PRIOR)
            else:
                self._close_image()
            return
        analysis = self.session.state.analysis or self.read_controller.withheld
        if analysis is None:
            self.session.decline(_ANALYSE_FIRST)
            return
        study, prepared = self.session.state.study, analysis.prepared

        def task(context: RunContext) -> OtherImage:
            context.progress("reading the series", 0.1)
            return compute(prepared, context)

        def on_result(image: OtherImage) -> str | None:
            if study is None or self.session.state.study is not study:
                return "The image was discarded: its study is no longer open."
            views = self.views
            compared, layout = views.compared, views.layout
            if compared is not None and compared.other_image:
                layout, compared = compared.layout, compared.previous
            note = resampling_note(analysis, *computed_from)
            pictures = ComparisonImages(
                image.name,
                dict.fromkeys(study.series, image.volume),
                other_image=name,
                registration=image.alignment,
                resampled=dict.fromkeys(study.series if note else (), note),
                window=image.window,
                previous=compared,
                layout=layout,
            )
            self.session.choose_views(compared=pictures, layout=Layout.PRIOR, swapped=False)
            return f"{image.name}, {image.alignment}." if image.alignment else None

        self.jobs.start("Showing another series", task, on_result)

    def _close_image(self) -> None:
        """Restore the previous layout and comparison."""
        views = self.views
        compared = views.compared
        if compared is not None:
            layout = compared.layout if views.layout is Layout.PRIOR else views.layout
            self.session.choose_views(compared=compared.previous, layout=layout, swapped=False)
