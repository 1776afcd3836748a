"""Context of the MONAI Label routes: models, images, requests."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import Request

from lesionlens.base.errors import FullError, UnusableInputError
from lesionlens.base.files.scratch import ScratchFolder
from lesionlens.base.labels import Label, MrSequence
from lesionlens.engines.engine import Engine
from lesionlens.site.serving.error_responses import NotFoundError
from lesionlens.site.serving.monailabel.datastore import Datastore
from lesionlens.site.serving.monailabel.images import (
    AUTO,
    LIKELY,
    as_volume,
    checksum_of,
    volume_name,
)
from lesionlens.site.serving.monailabel.inference import (
    LABELS,
    Inference,
    InferenceRequest,
    Inferred,
)
from lesionlens.site.serving.monailabel.interactive import (
    LESION,
    SUFFIX,
    PromptedStudies,
    PromptInference,
)
from lesionlens.site.serving.monailabel.uploads import Upload, Uploads
from lesionlens.site.serving.sessions import Sessions

logger = logging.getLogger(__name__)
STRATEGIES = {
    "first": "The first study without a final label",
    "random": "Any study without a final label",
}
_POLL_S = 0.05
_MAX_KEYS = 4
"""Number of clients that may each fill their queue."""


_CONFIG = {"sequence": [AUTO, *MrSequence]}
_PROMPT_MODEL: dict[str, Any] = {
    "type": "deepgrow",
    "labels": [LESION],
    "dimension": 3,
    "description": "Segments an object from foreground and background points; under the label "
    f"“{Label.ENHANCING.name.lower()}” its enhancing part. Research use only",
    "config": _CONFIG,
}


class Adapter:
    """Objects shared by the routes."""

    def __init__(self, sessions: Sessions, folder: Path | None) -> None:
        self.sessions, self.datastore = sessions, Datastore(folder)
        self.uploads = Uploads(sessions.limits.memory_bytes, self._release)
        self.prompted_studies = PromptedStudies(sessions.limits.memory_bytes // 4)
        self._n_waiting: Counter[str] = Counter()
        sessions.chores += (self.uploads.expire, self._release_missing)

    @contextmanager
    def image(self, owner: str, image: str, session_id: str) -> Iterator[Path]:
        """Yield the path of the image in a request, which is kept meanwhile.

        Raises
        ------
        UnusableInputError
            No image was named, or there is none of that name.
        """
        if session_id:
            with self.uploads.in_use(owner, session_id) as upload:
                yield upload.image
            return
        if not image:
            raise UnusableInputError(
                found="neither an image nor a file nor a session",
                expected="one of them",
                next_step="Name one",
            )
        yield self.datastore.image(image)

    def _release(self, upload: Upload) -> None:
        """Release what is cached of a removed upload."""
        self._release_missing()
        self.sessions.release(str(upload.image))

    def _release_missing(self) -> None:
        """Release what is cached of removed images, such as ones of the datastore."""
        for image in self.prompted_studies.drop_missing():
            self.sessions.release(str(image))

    def info(self) -> dict[str, Any]:
        """Return the response to MONAI Label's `/info/`."""
        models = {name: _analysis_model(engine) for name, engine in self.sessions.models.items()}
        models |= {f"{name}{SUFFIX}": _PROMPT_MODEL for name in self.sessions.models}
        return {
            "name": "LesionLens",
            "description": "Flags candidate tumour regions in brain MRI, for review",
            "version": version("lesionlens"),
            "labels": [*LABELS, LESION],
            "models": models,
            "trainers": {},
            "strategies": {
                name: {"description": description} for name, description in STRATEGIES.items()
            },
            "scoring": {},
            "train_stats": {},
            "datastore": self.datastore.status(),
            "config": {},
        }

    def next_sample(self, strategy: str, client: str) -> dict[str, Any]:
        """Return a study without a final label, empty if there is none; note who requested it.

        Entries that cannot be read as a study, such as a folder of documents, are passed over.

        Raises
        ------
        NotFoundError
            There is no such strategy.
        UnusableInputError
            None of the entries can be read.
        """
        if strategy not in STRATEGIES:
            raise NotFoundError(
                found=f"no strategy {strategy!r:.60}",
                expected=", ".join(STRATEGIES),
                next_step="Choose one of these",
            )
        unlabelled = self.datastore.unlabelled()
        if not unlabelled:
            return {}
        if strategy != "first":
            random.shuffle(unlabelled)
        name, checksum = self._first_readable(unlabelled)
        request_note = {strategy: {"ts": int(time.time()), "client_id": client}}
        try:
            self.datastore.note(name, {"strategy": request_note})
        except OSError as error:  # like MONAI Label: the folder may be read-only
            logger.warning("who requested a sample could not be noted: %s", error.strerror)
        path = self.datastore.image(name)
        sample = {"id": name, "name": volume_name(path), "checksum": checksum}
        return self.datastore.notes(name) | sample

    def _first_readable(self, names: list[str]) -> tuple[str, str]:
        """Return the first image that can be read, and its checksum."""
        errors = []
        for name in names:
            try:
                with ScratchFolder() as scratch_folder:
                    volume = as_volume(self.datastore.image(name), scratch_folder)
                    return name, checksum_of(volume)
            except UnusableInputError as error:
                errors.append(error)
        raise errors[0]

    def engine(self, model: str) -> Engine:
        """Return the engine of a model, which has one name for analysis and one for prompts.

        Raises
        ------
        NotFoundError
            There is no such model.
        """
        models = self.sessions.models
        engine = models.get(model) or models.get(model.removesuffix(SUFFIX))
        if engine is None:
            offered = ", ".join(name + suffix for suffix in ("", SUFFIX) for name in models)
            raise NotFoundError(
                found=f"no model {model!r:.60}", expected=offered, next_step="Choose one of these"
            )
        return engine

    def inference(self, model: str, request: InferenceRequest, start: bytes | None) -> Inference:
        """Return the job for a request; `start` is the outline to correct."""
        if model in self.sessions.models:
            inference, name = Inference(request), model
        else:
            inference = PromptInference(request, self.prompted_studies, start)
            name = model.removesuffix(SUFFIX)
        inference.on_start = partial(self.sessions.use, name, str(request.image))
        return inference

    async def infer(self, request: Request, owner: str, inference: Inference) -> Inferred:
        """Run an inference in turn and return its result; cancelled if the client disconnects.

        Raises
        ------
        FullError
            The queue is full, or the server is stopped meanwhile.
        LesionLensError
            As for `Inference.result`.
        """
        max_jobs, queue, job = self.sessions.limits.jobs, self.sessions.queue, inference.job
        if self._n_waiting[owner] >= max_jobs or self._n_waiting.total() >= _MAX_KEYS * max_jobs:
            raise FullError(
                found=f"{self._n_waiting.total()} waiting analyses",
                expected=f"at most {max_jobs} per key",
                next_step="Send it again when some are finished",
            )
        self._n_waiting[owner] += 1
        try:
            queue.add(owner, job)
            while not job.done:
                await asyncio.sleep(_POLL_S)  # blocks no thread
                if await request.is_disconnected():
                    queue.drop(job)
        except asyncio.CancelledError:  # uvicorn cancels unfinished requests when it stops
            raise FullError(
                found="a server that is being stopped",
                expected="one that runs until the analysis is finished",
                next_step="Send it again when the server is back",
            ) from None
        finally:
            queue.drop(job)
            self._n_waiting[owner] -= 1
        return inference.result


def _analysis_model(engine: Engine) -> dict[str, Any]:
    info = engine.info
    return {
        "type": "segmentation",
        "labels": LABELS,
        "dimension": 3,
        "description": f"{info.name} {info.version}: candidate tumour regions in brain MRI. "
        "Research use only. An unidentified volume is assigned its most likely sequence by its "
        f"image, if at least {LIKELY:.0%} likely; the response's notices report that",
        "config": _CONFIG,
    }
