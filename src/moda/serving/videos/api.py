"""Videos over plain HTTP: ask for one, see how far it is, fetch it, delete it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Header, HTTPException, Request, Response, UploadFile
from fastapi.responses import FileResponse, StreamingResponse

from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.errors import InputError, MissingExtraError, ModaError
from moda.media import AudioReader, check_image
from moda.options import VideoOptions
from moda.pipeline import Progress
from moda.pipeline.jobs import notes_on_style, speak_text
from moda.serving.access import Caller
from moda.serving.openapi import BODY, COMMON, Responses, refusals
from moda.serving.settings import ServerSettings
from moda.serving.videos.forms import (
    MAX_TEXT_LENGTH,
    VideoFiles,
    VideoForm,
    make_request,
    read_values,
)
from moda.serving.videos.queue import VideoJobs
from moda.serving.videos.records import Job
from moda.serving.videos.status import VideoList, VideoStatus, status_of
from moda.serving.videos.webhooks import require_allowed
from moda.serving.videos.worker import PORTRAIT_NAME, RESULT_NAME, SPEECH_NAME, without_paths
from moda.speech_synthesis import SpokenText, check_spoken_length, espeak_is_installed

router = APIRouter(prefix="/v1/videos", tags=["videos"], responses=COMMON)

COPY_BYTES = 1 << 20
MAX_REPEAT_KEY_LENGTH = 255
EVENT_SECONDS, SIGN_OF_LIFE_SECONDS = 0.25, 15.0
SPEAKING_SECONDS = 60.0
"""Of work, not of speech."""


EVENT_STREAM: Responses = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
VIDEO: Responses = {
    200: {"content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}}
}
RESULT = VIDEO | refusals(_409="It is not done yet", _410="Its folder was removed")
MISSING = refusals(_404="There is no such video, or it is another key's")
REFUSED = BODY | refusals(
    _409="A request with the same Idempotency-Key is being read",
    _501="Text was given, and this server cannot speak",
)


@router.post("", status_code=202, response_model=VideoStatus, responses=REFUSED)
async def create_video(
    request: Request,
    response: Response,
    form: Annotated[VideoForm, Form(media_type="multipart/form-data")],
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=MAX_REPEAT_KEY_LENGTH,
            description="The same key with the same request is the same video.",
        ),
    ] = None,
) -> VideoStatus:
    """Ask for a video of a portrait that says a speech recording or a text."""
    jobs, caller = _jobs(request), _caller(request)
    with jobs.claimed(caller.owner, idempotency_key):
        job = await _find_or_add(request, form, idempotency_key)
    response.headers["Location"] = f"/v1/videos/{job.identifier}"
    return status_of(job, jobs.place(job))


async def _find_or_add(request: Request, form: VideoFiles, repeat_key: str | None) -> Job:
    """The job that a request has asked for before, or a new one."""
    settings: ServerSettings = request.app.state.settings
    jobs, caller = _jobs(request), _caller(request)
    folder = jobs.new_folder()
    try:
        values = form.values()
        options = read_values(values)
        if form.webhook is not None:
            require_allowed(form.webhook, settings.allowed_webhooks)
        digest = await _keep_files(form, values, folder, settings)
        known = jobs.repeated(caller.owner, repeat_key)
        if known is not None:
            if known.digest != digest:
                raise InputError("this Idempotency-Key came with another request before")
            shutil.rmtree(folder, ignore_errors=True)
            return known
        spoken = await _check_files(options, folder, request)
        made = make_request(folder, values, settings.max_speech_seconds, spoken)
        job = Job(
            secrets.token_urlsafe(16),
            folder,
            values,
            made,
            repeat_key=repeat_key,
            digest=digest,
            webhook=form.webhook,
            hook_state=None if form.webhook is None else "pending",
            notes=list(notes_on_style(options)),
        )
        jobs.add(job, caller)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, ModaError):
            error.args = (without_paths(str(error), folder),)
        raise
    return job


@router.get("", response_model=VideoList)
async def list_videos(request: Request) -> VideoList:
    """All videos that were asked for with this key and are still there."""
    jobs = _jobs(request)
    mine = jobs.of(_caller(request).owner)
    return VideoList(videos=[status_of(job, jobs.place(job)) for job in mine])


@router.get("/{identifier}", response_model=VideoStatus, responses=MISSING)
async def read_video(request: Request, identifier: str) -> VideoStatus:
    """How far a video is."""
    return status_of(_job(request, identifier), _jobs(request).place(_job(request, identifier)))


@router.get(
    "/{identifier}/events",
    response_class=StreamingResponse,
    responses=EVENT_STREAM | MISSING,
)
async def watch_video(request: Request, identifier: str) -> StreamingResponse:
    """How far a video is, as server-sent events of the name status, until it is over."""
    job, jobs = _job(request, identifier), _jobs(request)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(
        _events(job, jobs), media_type="text/event-stream; charset=utf-8", headers=headers
    )


async def _events(job: Job, jobs: VideoJobs) -> AsyncIterator[str]:
    """The status whenever it has changed, and a sign of life where it does not."""
    told, silent = "", 0.0
    while not jobs.is_ending:
        now, is_over = status_of(job, jobs.place(job)).model_dump_json(), job.is_over
        silent += EVENT_SECONDS
        if now != told or silent > SIGN_OF_LIFE_SECONDS:
            yield f"event: status\ndata: {now}\n\n" if now != told else ": still there\n\n"
            told, silent = now, 0.0
        if is_over:
            return
        await asyncio.sleep(EVENT_SECONDS)


@router.head("/{identifier}/result", include_in_schema=False)
@router.get(
    "/{identifier}/result",
    response_class=FileResponse,
    responses=RESULT | MISSING,
)
async def read_result(request: Request, identifier: str) -> FileResponse:
    """The video itself, as MP4."""
    job = _job(request, identifier)
    if job.state != "done":
        raise HTTPException(409, f"the video is {job.state}")
    result = job.folder / RESULT_NAME
    if not result.is_file():
        raise HTTPException(410, "the video is gone: its folder was removed; ask for it again")
    return FileResponse(result, media_type="video/mp4", filename=RESULT_NAME)


@router.delete("/{identifier}", status_code=204, responses=MISSING)
async def delete_video(request: Request, identifier: str) -> None:
    """Stop the work on a video and remove it with all that belongs to it."""
    await _jobs(request).delete(_job(request, identifier))


async def _keep_files(
    form: VideoFiles, values: dict[str, Any], folder: Path, settings: ServerSettings
) -> str:
    """Write the uploads under names of our own; a digest of all that was sent.

    Raises:
        InputError: Speech and text are missing, or both are there.
        HTTPException: A file is too large.
    """
    if (form.speech is None) == (values.get("text") is None):
        raise InputError("send either speech or text")
    digest = hashlib.sha256(json.dumps([values, form.webhook], sort_keys=True).encode())
    await _copy(form.portrait, folder / PORTRAIT_NAME, settings.max_portrait_bytes, digest)
    if form.speech is not None:
        await _copy(form.speech, folder / SPEECH_NAME, settings.max_speech_bytes, digest)
    return digest.hexdigest()


async def _check_files(options: VideoOptions, folder: Path, request: Request) -> SpokenText | None:
    """Look at the headers of the uploads, and speak the text, if there is one.

    Raises:
        InputError, MediaError: Something is too long, or is not what it should be.
        MissingExtraError: There is a text, and this server has no speech synthesis.
    """
    settings: ServerSettings = request.app.state.settings
    speech, spoken = folder / SPEECH_NAME, None
    text, longest = options.text, settings.max_speech_seconds
    await asyncio.to_thread(check_image, folder / PORTRAIT_NAME)
    if text is not None:
        if not 0 < len(text.strip()) <= MAX_TEXT_LENGTH:
            raise InputError(f"text has {len(text)} characters; send 1 to {MAX_TEXT_LENGTH}")
        if not espeak_is_installed():
            raise MissingExtraError("this server has no speech synthesis; send speech")
        check_spoken_length(text, longest)
        speak = partial(speak_text, options, speech, stages=_in_time, max_seconds=longest)
        loop = asyncio.get_running_loop()
        spoken = await loop.run_in_executor(_jobs(request).speaking, speak)
    await asyncio.to_thread(AudioReader, speech, SAMPLE_RATE_HZ, max_seconds=longest)
    return spoken


@contextmanager
def _in_time(stage: str) -> Iterator[Progress]:
    """Ends the speaking of a text that would keep others waiting."""
    begun = time.monotonic()

    def progress(done: int, total: int) -> None:
        if time.monotonic() - begun > SPEAKING_SECONDS:
            raise InputError(
                f"the text takes more than {SPEAKING_SECONDS:.0f} s to speak here; send it in "
                "parts, or as a recording"
            )

    yield progress


async def _copy(upload: UploadFile, path: Path, limit: int, digest: Any) -> None:
    """Write an upload to a file; its bytes, and how many they are, are added to the digest."""
    count = 0
    with path.open("xb") as file:
        while chunk := await upload.read(COPY_BYTES):
            count += len(chunk)
            if count > limit:
                raise HTTPException(413, f"the {path.name} is larger than {limit} bytes")
            digest.update(chunk)
            await asyncio.to_thread(file.write, chunk)
    digest.update(count.to_bytes(8, "little"))


def _job(request: Request, identifier: str) -> Job:
    job = _jobs(request).get(identifier, _caller(request).owner)
    if job is None:
        raise HTTPException(404, "there is no such video")
    return job


def _caller(request: Request) -> Caller:
    return request.state.caller


def _jobs(request: Request) -> VideoJobs:
    return request.app.state.jobs
