"""MONAI Label's REST API, for its viewer plugins (3D Slicer and others)."""

from __future__ import annotations

import asyncio
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Body, Depends, File, Form, Request, Response, UploadFile
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask
from urllib3.filepost import encode_multipart_formdata

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files.bounded_read import parse_json
from lesionlens.site.serving.admission import Admission, admitted, no_key
from lesionlens.site.serving.error_responses import NotFoundError
from lesionlens.site.serving.monailabel.adapter import Adapter
from lesionlens.site.serving.monailabel.datastore import FINAL
from lesionlens.site.serving.monailabel.images import as_volume, image_name
from lesionlens.site.serving.monailabel.inference import InferenceRequest, RequestedOutput
from lesionlens.site.serving.monailabel.uploads import own_prefix

_NIFTI = "application/octet-stream"
Owner = Annotated[str, Depends(admitted)]


def _adapter(request: Request) -> Adapter:
    adapter: Adapter = request.app.state.monailabel
    return adapter


All = Annotated[Adapter, Depends(_adapter)]


def make_router() -> APIRouter:
    """Return all routes."""
    router = APIRouter()
    for add in (_add_auth, _add_info, _add_infer, _add_sessions, _add_datastore, _add_labels):
        add(router)
    return router


def _add_auth(router: APIRouter) -> None:
    @router.get("/auth/")
    def enabled(request: Request) -> dict[str, Any]:
        admission: Admission = request.app.state.admission
        return {"enabled": bool(admission.keys), "client_id": "lesionlens", "realm": ""}

    @router.post("/auth/token")
    def token(request: Request, password: Annotated[str, Form()] = "") -> dict[str, str]:
        admission: Admission = request.app.state.admission
        if not admission.opens(password):
            raise no_key()
        return {"access_token": password, "token_type": "bearer"}

    @router.get("/auth/token/valid", dependencies=[Depends(admitted)])
    def valid() -> dict[str, Any]:
        return {}


def _add_info(router: APIRouter) -> None:
    @router.get("/info/", dependencies=[Depends(admitted)])
    def info(adapter: All) -> dict[str, Any]:
        return adapter.info()

    @router.post("/activelearning/{strategy}", dependencies=[Depends(admitted)])
    async def next_sample(
        adapter: All,
        request: Request,
        strategy: str,
        params: Annotated[dict[str, Any] | None, Body()] = None,
    ) -> dict[str, Any]:
        client = str((params or {}).get("client_id") or "")
        return await asyncio.get_running_loop().run_in_executor(
            request.app.state.heavy, adapter.next_sample, strategy, client
        )

    @router.get("/train/", dependencies=[Depends(admitted)])
    def training() -> None:
        raise _no_training()

    @router.post("/train/", dependencies=[Depends(admitted)])
    @router.post("/train/{model}", dependencies=[Depends(admitted)])
    def train(model: str = "") -> None:
        del model
        raise _no_training()

    @router.delete("/train/", dependencies=[Depends(admitted)])
    def stop() -> dict[str, Any]:
        return {}


@dataclass(frozen=True, slots=True)
class InferenceQuery:
    """Query parameters of an inference."""

    image: str = ""
    session_id: str = ""
    output: RequestedOutput = RequestedOutput.ALL


def _add_infer(router: APIRouter) -> None:
    @router.post("/infer/{model}")
    async def run(
        adapter: All,
        owner: Owner,
        request: Request,
        model: str,
        asked: Annotated[InferenceQuery, Depends()],
        params: Annotated[str, Form()] = "{}",
        file: Annotated[UploadFile | None, File()] = None,
        label: Annotated[UploadFile | None, File()] = None,
    ) -> Response:
        engine = adapter.engine(model)
        request_params, sent, session_id = _json(params), None, asked.session_id
        if file is not None and not session_id:
            sent, _ = await run_in_threadpool(adapter.uploads.add, owner, [_named(file)], 0)
            session_id = sent
        try:
            image = adapter.image(owner, asked.image, session_id)
            async with contextmanager_in_threadpool(image) as place:
                start = None if label is None else await label.read()
                wanted = InferenceRequest(engine, place, request_params, asked.output)
                inference = adapter.inference(model, wanted, start)
                found = await adapter.infer(request, owner, inference)
        finally:
            if sent is not None:
                await run_in_threadpool(adapter.uploads.remove, owner, sent)
        return _response(found.params, found.file_name, found.content, asked.output)


def _response(
    params: dict[str, Any], name: str, content: bytes, output: RequestedOutput
) -> Response:
    about = json.dumps(params).encode()
    if output is RequestedOutput.JSON:
        return Response(about, media_type="application/json")
    if output is not RequestedOutput.ALL:
        kind = "application/dicom" if output is RequestedOutput.DICOM_SEG else _NIFTI
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(content, media_type=kind, headers=headers)
    body, kind = encode_multipart_formdata(
        [
            ("params", (None, about, "application/json")),  # type: ignore[list-item]
            ("image", (name, content, _NIFTI)),
        ]
    )
    return Response(body, media_type=kind)


def _add_sessions(router: APIRouter) -> None:
    @router.put("/session/")
    def create(
        adapter: All,
        owner: Owner,
        files: Annotated[list[UploadFile], File()],
        expiry: int = 0,
    ) -> dict[str, Any]:
        name, upload = adapter.uploads.add(owner, [_named(one) for one in files], expiry)
        return {"session_id": name, "session_info": upload.info(name)}

    @router.get("/session/{session_id}")
    def find(adapter: All, owner: Owner, session_id: str) -> dict[str, Any]:
        return adapter.uploads.find(owner, session_id).info(session_id)

    @router.delete("/session/{session_id}")
    def remove(adapter: All, owner: Owner, session_id: str) -> dict[str, Any]:
        return adapter.uploads.remove(owner, session_id).info(session_id)


def _add_datastore(router: APIRouter) -> None:
    @router.get("/datastore/", dependencies=[Depends(admitted)])
    def listing(adapter: All, output: str = "stats") -> Any:
        store = adapter.datastore
        if output == "train":
            images = [name for name in store.images() if FINAL in store.labels(name)]
            return [{"image": name, "label": name} for name in images]
        return store.listing() if output == "all" else store.status()

    @router.put("/datastore/", dependencies=[Depends(admitted)])
    @router.put("/datastore/image", dependencies=[Depends(admitted)])
    def add(
        adapter: All,
        file: Annotated[UploadFile, File()],
        image: str = "",
        params: Annotated[str, Form()] = "{}",
    ) -> dict[str, Any]:
        name, content = _named(file)
        kept = adapter.datastore.add_image(image or image_name(name), name, content)
        notes = _json(params)
        if notes:
            adapter.datastore.note(kept, notes)
        return {"image": kept}

    @router.api_route("/datastore/image", methods=["GET", "HEAD"], dependencies=[Depends(admitted)])
    async def image(adapter: All, image: str, request: Request) -> Response:
        aside = tempfile.TemporaryDirectory(prefix=own_prefix())
        try:
            place = await asyncio.get_running_loop().run_in_executor(
                request.app.state.heavy,
                lambda: as_volume(adapter.datastore.image(image), Path(aside.name)),
            )
        except BaseException:
            aside.cleanup()
            raise
        done = BackgroundTask(aside.cleanup)
        return FileResponse(place, media_type=_NIFTI, filename=place.name, background=done)

    @router.get("/datastore/image/info", dependencies=[Depends(admitted)])
    def image_notes(adapter: All, image: str) -> dict[str, Any]:
        adapter.datastore.image(image)
        return adapter.datastore.notes(image)

    @router.put("/datastore/image/info", dependencies=[Depends(admitted)])
    def note_image(adapter: All, image: str, info: Annotated[str, Form()] = "{}") -> dict[str, Any]:
        adapter.datastore.image(image)
        adapter.datastore.note(image, _json(info))
        return adapter.datastore.notes(image)


def _add_labels(router: APIRouter) -> None:
    @router.put("/datastore/label", dependencies=[Depends(admitted)])
    def save(
        adapter: All,
        image: str,
        label: Annotated[UploadFile, File()],
        tag: str = FINAL,
        params: Annotated[str, Form()] = "{}",
    ) -> dict[str, Any]:
        name, content = _named(label)
        kept = adapter.datastore.save_label(image, tag or FINAL, name, content, _json(params))
        return {"image": image, "label": kept}

    @router.api_route("/datastore/label", methods=["GET", "HEAD"], dependencies=[Depends(admitted)])
    def take(adapter: All, label: str = "", tag: str = FINAL, image: str = "") -> Response:
        place = adapter.datastore.label(label or image, tag)
        return FileResponse(place, media_type=_NIFTI, filename=place.name)

    @router.delete("/datastore/label", dependencies=[Depends(admitted)])
    def remove(adapter: All, id: str, tag: str = FINAL) -> dict[str, Any]:  # noqa: A002
        adapter.datastore.label(id, tag).unlink()
        return {}

    @router.get("/datastore/label/info", dependencies=[Depends(admitted)])
    def notes(adapter: All, label: str, tag: str = FINAL) -> dict[str, Any]:
        adapter.datastore.label(label, tag)
        return adapter.datastore.notes(label, tag)


def _named(file: UploadFile) -> tuple[str, BinaryIO]:
    return file.filename or "image.nii.gz", file.file


def _json(text: str) -> dict[str, Any]:
    try:
        found = parse_json(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict | None) or found is None:
        raise UnusableInputError(
            found="params that are not a JSON object",
            expected='a JSON object such as {"sequence": "flair"}',
            next_step="Omit or correct them",
        )
    return found


def _no_training() -> NotFoundError:
    return NotFoundError(
        found="a server that does not train",
        expected="weights that were trained and compared before use",
        next_step="Train with: lesionlens train; then start the server with --weights FILE",
    )
