"""MONAI Label's REST API, for its viewer plugins (3D Slicer and others)."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Body, Depends, File, Form, Request, Response, UploadFile
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override
from urllib3.filepost import encode_multipart_formdata

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files.bounded_read import parse_json
from lesionlens.base.files.scratch import ScratchFolder
from lesionlens.base.text import encodable, is_writable
from lesionlens.site.serving.admission import Admission, admitted, no_key
from lesionlens.site.serving.error_responses import NotFoundError
from lesionlens.site.serving.monailabel.adapter import Adapter
from lesionlens.site.serving.monailabel.datastore import FINAL
from lesionlens.site.serving.monailabel.images import as_volume, image_name
from lesionlens.site.serving.monailabel.inference import InferenceRequest, Inferred, RequestedOutput

_NIFTI = "application/octet-stream"
_MAX_DEPTH = 32
"""Levels of JSON in a client's params, which are stored and returned with every listing."""
_INFERENCE_FIELDS = ("params", "file", "label")
Owner = Annotated[str, Depends(admitted)]


def _adapter(request: Request) -> Adapter:
    adapter: Adapter = request.app.state.monailabel
    return adapter


SharedAdapter = Annotated[Adapter, Depends(_adapter)]


router = APIRouter()


class _TemporaryFile(FileResponse):
    """A file, which may be in a scratch folder that is removed afterwards.

    A background task would not be run after a request for a range that the file does not have.
    """

    def __init__(self, scratch_folder: ScratchFolder, path: Path) -> None:
        super().__init__(path, media_type=_NIFTI, filename=path.name)
        self._scratch_folder = scratch_folder

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._scratch_folder.remove()


@router.get("/auth/")
def _enabled(request: Request) -> dict[str, Any]:
    admission: Admission = request.app.state.admission
    return {"enabled": bool(admission.keys), "client_id": "lesionlens", "realm": ""}


@router.post("/auth/token")
def _token(request: Request, password: Annotated[str, Form()] = "") -> dict[str, str]:
    admission: Admission = request.app.state.admission
    if not admission.opens(password):
        raise no_key()
    return {"access_token": password, "token_type": "bearer"}


@router.get("/auth/token/valid")
@router.delete("/train/")
def _nothing() -> dict[str, Any]:
    return {}


@router.get("/info/")
def _info(adapter: SharedAdapter) -> dict[str, Any]:
    return adapter.info()


@router.post("/activelearning/{strategy}")
async def _next_sample(
    adapter: SharedAdapter,
    request: Request,
    strategy: str,
    params: Annotated[dict[str, Any] | None, Body()] = None,
) -> dict[str, Any]:
    client = encodable(str((params or {}).get("client_id") or ""))
    return await asyncio.get_running_loop().run_in_executor(
        request.app.state.heavy, adapter.next_sample, strategy, client
    )


@router.api_route("/train/", methods=["GET", "POST"])
@router.post("/train/{model}")
def _train(model: str = "") -> None:
    del model
    raise NotFoundError(
        found="a server that does not train",
        expected="weights that were trained and compared before use",
        next_step="Train with: lesionlens train; then start the server with --weights FILE",
    )


@dataclass(frozen=True, slots=True)
class InferenceQuery:
    """Query parameters of an inference."""

    image: str = ""
    session_id: str = ""
    output: RequestedOutput = RequestedOutput.ALL


async def _only_form_fields(request: Request) -> None:
    """Refuse a body whose content would be ignored, such as JSON."""
    form, headers = await request.form(), request.headers
    unknown = [name for name in form if name not in _INFERENCE_FIELDS]
    if unknown:
        found = f"the form field {unknown[0]!r:.60}"
    elif not form and (headers.get("content-length", "0") != "0" or "transfer-encoding" in headers):
        found = f"a body of type {headers.get('content-type', '')!r:.60}, without a field"
    else:
        return
    raise UnusableInputError(
        found=found,
        expected=f"a form with fields of {', '.join(_INFERENCE_FIELDS)}",
        next_step="Send parameters as JSON in the form field params",
    )


@router.post("/infer/{model}", dependencies=[Depends(_only_form_fields)])
async def _run(
    adapter: SharedAdapter,
    owner: Owner,
    request: Request,
    model: str,
    query: Annotated[InferenceQuery, Depends()],
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
) -> Response:
    engine = adapter.engine(model)
    request_params, upload_name, session_id = _parse_params(params), None, query.session_id
    if file is not None and not session_id:
        upload_name, _ = await run_in_threadpool(
            adapter.uploads.add, owner, [_name_and_content(file)], 0
        )
        session_id = upload_name
    try:
        image = adapter.image(owner, query.image, session_id)
        async with contextmanager_in_threadpool(image) as path:
            start = None if label is None else await label.read()
            inference_request = InferenceRequest(engine, path, request_params, query.output)
            inference = adapter.inference(model, inference_request, start)
            inferred = await adapter.infer(request, owner, inference)
    finally:
        if upload_name is not None:
            await run_in_threadpool(adapter.uploads.remove, owner, upload_name)
    return _response(inferred, query.output)


def _response(inferred: Inferred, output: RequestedOutput) -> Response:
    params_json = json.dumps(inferred.params).encode()
    if output is RequestedOutput.JSON:
        return Response(params_json, media_type="application/json")
    if output is not RequestedOutput.ALL:
        media_type = "application/dicom" if output is RequestedOutput.DICOM_SEG else _NIFTI
        headers = {"Content-Disposition": f'attachment; filename="{inferred.file_name}"'}
        return Response(inferred.content, media_type=media_type, headers=headers)
    body, media_type = encode_multipart_formdata(
        [
            ("params", (None, params_json, "application/json")),  # type: ignore[list-item]
            ("image", (inferred.file_name, inferred.content, _NIFTI)),
        ]
    )
    return Response(body, media_type=media_type)


@router.put("/session/")
def _create(
    adapter: SharedAdapter,
    owner: Owner,
    files: Annotated[list[UploadFile], File()],
    expiry: int = 0,
) -> dict[str, Any]:
    name, upload = adapter.uploads.add(owner, [_name_and_content(file) for file in files], expiry)
    return {"session_id": name, "session_info": upload.info(name)}


@router.get("/session/{session_id}")
def _find(adapter: SharedAdapter, owner: Owner, session_id: str) -> dict[str, Any]:
    return adapter.uploads.find(owner, session_id).info(session_id)


@router.delete("/session/{session_id}")
def _remove_session(adapter: SharedAdapter, owner: Owner, session_id: str) -> dict[str, Any]:
    return adapter.uploads.remove(owner, session_id).info(session_id)


@router.get("/datastore/")
def _listing(adapter: SharedAdapter, output: str = "stats") -> Any:
    store = adapter.datastore
    return store.listing() if output == "all" else store.status()


@router.put("/datastore/")
def _add(
    adapter: SharedAdapter,
    file: Annotated[UploadFile, File()],
    image: str = "",
    params: Annotated[str, Form()] = "{}",
) -> dict[str, Any]:
    name, content = _name_and_content(file)
    notes = _parse_params(params)
    stored_name = adapter.datastore.add_image(image or image_name(name), name, content)
    if notes:
        adapter.datastore.note(stored_name, notes)
    return {"image": stored_name}


@router.api_route("/datastore/image", methods=["GET", "HEAD"])
async def _image(adapter: SharedAdapter, image: str, request: Request) -> Response:
    scratch_folder = ScratchFolder()
    try:
        path = await asyncio.get_running_loop().run_in_executor(
            request.app.state.heavy,
            lambda: as_volume(adapter.datastore.image(image), scratch_folder.path),
        )
    except BaseException:
        scratch_folder.remove()
        raise
    return _TemporaryFile(scratch_folder, path)


@router.put("/datastore/label")
def _save(
    adapter: SharedAdapter,
    image: str,
    label: Annotated[UploadFile, File()],
    tag: str = FINAL,
    params: Annotated[str, Form()] = "{}",
) -> dict[str, Any]:
    name, content = _name_and_content(label)
    stored_name = adapter.datastore.save_label(
        image, tag or FINAL, name, content, _parse_params(params)
    )
    return {"image": image, "label": stored_name}


@router.api_route("/datastore/label", methods=["GET", "HEAD"])
def _get_label(
    adapter: SharedAdapter, label: str = "", tag: str = FINAL, image: str = ""
) -> Response:
    path = adapter.datastore.label(label or image, tag)
    return FileResponse(path, media_type=_NIFTI, filename=path.name)


@router.delete("/datastore/label")
def _remove_label(adapter: SharedAdapter, id: str, tag: str = FINAL) -> dict[str, Any]:
    adapter.datastore.label(id, tag).unlink()
    return {}


def _name_and_content(file: UploadFile) -> tuple[str, BinaryIO]:
    return file.filename or "image.nii.gz", file.file


def _parse_params(text: str) -> dict[str, Any]:
    try:
        value = parse_json(text or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict) or not _can_be_returned(value):
        raise UnusableInputError(
            found="params that are not a JSON object",
            expected='a JSON object such as {"sequence": "flair"}',
            next_step="Omit or correct them",
        )
    return value


def _can_be_returned(value: Any, depth: int = 0) -> bool:
    """Return whether a response can repeat a value: encodable text, not nested too deeply."""
    if isinstance(value, dict | list):
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        return depth < _MAX_DEPTH and all(_can_be_returned(part, depth + 1) for part in parts)
    return not isinstance(value, str) or is_writable(value)
