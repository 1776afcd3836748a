"""Other series and the subtraction image beside the study; for viewing only."""

from __future__ import annotations

from collections.abc import Callable

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import PreparedStudy, Series
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.other_images import (
    OtherImage,
    OtherKind,
    align_other_series,
    kind_of,
    subtraction,
)
from lesionlens.napari.controllers.comparing import resampling_note
from lesionlens.napari.controllers.mark_acts import MarkActs
from lesionlens.napari.model.choices.views import ComparedPictures, Layout
from lesionlens.napari.qt.jobs import Jobs

_SUBTRACTION = "subtraction"
_NOT_YET = "Analyse the study first, which registers its sequences."
_NONE = "The study has no other series."


class OtherImageActs(MarkActs):
    """Acts that show another image beside the shown sequence, in place of a prior."""

    jobs: Jobs

    def show_subtraction(self) -> None:
        """Show T1c - T1 beside the shown sequence, or hide it."""
        self._toggle(
            _SUBTRACTION,
            lambda prepared, _: subtraction(prepared),
            (MrSequence.T1, MrSequence.T1C),
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
        known, shown = self.other_series(), self._shown()
        if not known:
            self.session.decline(_NONE)
            return
        number = int(shown.partition(" ")[0]) + 1 if shown[:1].isdecimal() else 0
        if number < len(known):
            self.show_other(number)
        else:
            self._put_away()

    def other_series(self) -> tuple[Series, ...]:
        """Return the study's other series, those of known type first."""
        study = self.session.state.study
        found = () if study is None else study.set_aside
        volumes = [one for one in found if min(one.grid.shape) > 1]
        return tuple(sorted(volumes, key=lambda one: kind_of(one) is OtherKind.OTHER))

    def _shown(self) -> str:
        compared = self.session.state.choices.views.compared
        return "" if compared is None else compared.other_image

    def _toggle(
        self,
        name: str,
        make: Callable[[PreparedStudy, RunContext], OtherImage],
        computed_from: tuple[MrSequence, ...] = (),
    ) -> None:
        if self._shown() == name:
            self._put_away()
            return
        analysis = self.session.state.analysis or self.read_controller.withheld
        if analysis is None:
            self.session.decline(_NOT_YET)
            return
        study, prepared = self.session.state.study, analysis.prepared

        def task(context: RunContext) -> OtherImage:
            context.progress("reading the series", 0.1)
            return make(prepared, context)

        def done(found: OtherImage) -> str | None:
            if study is None or self.session.state.study is not study:
                return "Another study is open now."
            views = self.session.state.choices.views
            before, layout = views.compared, views.layout
            if before is not None and before.other_image:
                layout, before = before.layout, before.instead_of
            slices = resampling_note(analysis, *computed_from)
            pictures = ComparedPictures(
                found.name,
                found.plain,
                dict.fromkeys(study.series, found.volume),
                other_image=name,
                how=found.how,
                resampled=dict.fromkeys(study.series if slices else (), slices),
                instead_of=before,
                layout=layout,
            )
            self.session.choose_views(compared=pictures, layout=Layout.PRIOR, swapped=False)
            return f"{found.name}, {found.how}." if found.how else None

        self.jobs.start("Showing another series", task, done)

    def _put_away(self) -> None:
        """Restore the previous layout and comparison."""
        views = self.session.state.choices.views
        compared = views.compared
        if compared is not None:
            layout = compared.layout if views.layout is Layout.PRIOR else views.layout
            self.session.choose_views(compared=compared.instead_of, layout=layout, swapped=False)
