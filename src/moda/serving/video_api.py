"""Videos over plain HTTP: ask for one, see how far it is, fetch it, delete it."""

from __future__ import annotations

import asyncio
import math
import shutil
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request, Response, UploadFile
from fastapi.responses import FileResponse
from pydantic import BaseModel

from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.encoders.style import encode_style
from moda.errors import InputError, MediaError, MissingExtraError, ModaError
from moda.media import AudioReader, check_image
from moda.serving.jobs import (
    PORTRAIT_NAME,
    RESULT_NAME,
    SPEECH_NAME,
    Job,
    JobState,
    TooManyJobsError,
    VideoJobs,
)
from moda.serving.settings import ServerSettings
from moda.serving.speech_from_text import write_spoken_text
from moda.serving.video_worker import VideoRequest
from moda.speech_synthesis import DEFAULT_LANGUAGE, SpokenText
from moda.structures import EMOTIONS
from moda.system import MAX_BLINK_RATE, Gaze, require_range

router = APIRouter(prefix="/v1/videos", tags=["videos"])

COPY_BYTES = 1 << 20
MAX_TEXT_LENGTH = 10_000
RETRY_SECONDS = 30


class VideoStatus(BaseModel):
    """How far a video is."""

    id: str
    state: JobState
    progress: float
    """0..1"""
    place: int
    """Videos that come before it"""
    seconds: float | None
    """Length of the video, when it is done"""
    error: str | None
    created: float
    """Seconds since 1970"""
    result: str | None
    """Where the video is, when it is done"""
    notes: list[str]
    """What was not understood, and left out"""


class VideoOptions(BaseModel, extra="forbid"):
    """How the video is made; see ``moda generate --help``."""

    emotion: str | None = None
    intensity: float = 1.0
    seed: int | None = None
    size: int | None = None
    full_frame: bool = True
    head_motion: float = 1.0
    expression: float = 1.0
    blink: bool = True
    blink_rate: float | None = None
    gaze: Gaze | None = None
    lips_only: bool = False
    style: str = ""
    """In words, such as ``warm, a little tired``; other options count more"""

    def check(self) -> None:
        """Raise :class:`InputError` for values outside the limits."""
        if self.emotion is not None and self.emotion not in EMOTIONS:
            raise InputError(f"emotion is none of {', '.join(EMOTIONS)}")
        for name in ("intensity", "head_motion", "expression"):
            value = getattr(self, name)
            require_range(name, value if math.isfinite(value) else -1.0, 0, 2)
        require_range("intensity", self.intensity, 0, 1)
        if self.seed is not None:
            require_range("seed", self.seed, 0, 2**63 - 1)
        if self.size is not None:
            require_range("size", self.size, 64, 2160)
        if self.blink_rate is not None:
            require_range("blink rate", self.blink_rate, 0, MAX_BLINK_RATE)
        encode_style(self.style)


class VideoForm(VideoOptions):
    """What a client sends: a portrait, and speech or text."""

    portrait: UploadFile
    speech: UploadFile | None = None
    text: str | None = None
    """Emotions in tags: ``[happy] Hello!``"""
    language: str = DEFAULT_LANGUAGE
    """Of the text"""


Refused = dict[int | str, dict[str, str]]
REFUSED: Refused = {
    401: {"description": "An API key is needed"},
    413: {"description": "A file is too large"},
    422: {"description": "A file or an option cannot be used"},
    429: {"description": "Too many requests"},
    501: {"description": "Text was given, and this server cannot speak"},
    503: {"description": "Too many videos wait; Retry-After says when to come again"},
}


@router.post("", status_code=202, response_model=VideoStatus, responses=REFUSED)
async def create_video(
    request: Request,
    response: Response,
    form: Annotated[VideoForm, Form(media_type="multipart/form-data")],
) -> VideoStatus:
    """Ask for a video of a portrait that says a speech recording."""
    jobs, settings = _jobs(request), _settings(request)
    _require_room(jobs)
    folder = jobs.new_folder()
    try:
        form.check()
        said = await _keep_files(form, folder, settings)
        options = form.model_dump(include=set(VideoOptions.model_fields))
        made = VideoRequest(
            folder / PORTRAIT_NAME,
            folder / SPEECH_NAME,
            folder / RESULT_NAME,
            said=said,
            **options,
        )
        job = jobs.add(folder, made)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, TooManyJobsError):
            raise HTTPException(503, str(error), {"Retry-After": str(RETRY_SECONDS)}) from None
        if isinstance(error, MissingExtraError):
            raise HTTPException(501, str(error)) from None
        if isinstance(error, ModaError):
            raise HTTPException(422, _without_path(str(error), folder)) from None
        raise
    response.headers["Location"] = f"/v1/videos/{job.identifier}"
    return _status(job, jobs)


@router.get("/{identifier}", response_model=VideoStatus)
async def read_video(request: Request, identifier: str) -> VideoStatus:
    """How far a video is."""
    return _status(_job(request, identifier), _jobs(request))


@router.get(
    "/{identifier}/result",
    response_class=FileResponse,
    responses={200: {"content": {"video/mp4": {}}}, 409: {"description": "It is not done yet"}},
)
async def read_result(request: Request, identifier: str) -> FileResponse:
    """The video itself, as MP4."""
    job = _job(request, identifier)
    if job.state != "done":
        raise HTTPException(409, f"the video is {job.state}")
    return FileResponse(job.request.output, media_type="video/mp4", filename=RESULT_NAME)


@router.delete("/{identifier}", status_code=204)
async def delete_video(request: Request, identifier: str) -> None:
    """Stop the work on a video and remove it with all that belongs to it."""
    await _jobs(request).delete(_job(request, identifier))


async def _keep_files(form: VideoForm, folder: Path, settings: ServerSettings) -> SpokenText | None:
    """Write the uploads under names of our own and look at their headers; speak the text.

    Raises:
        InputError, MediaError: something is missing, too long, or is not what it should be.
        HTTPException: a file is too large.
    """
    portrait, speech = folder / PORTRAIT_NAME, folder / SPEECH_NAME
    if (form.speech is None) == (form.text is None):
        raise InputError("send either speech or text")
    await _copy(form.portrait, portrait, settings.max_portrait_bytes)
    await asyncio.to_thread(check_image, portrait)
    said, text = None, form.text or ""
    if form.speech is not None:
        await _copy(form.speech, speech, settings.max_speech_bytes)
    else:
        if not 0 < len(text.strip()) <= MAX_TEXT_LENGTH:
            raise InputError(f"text has {len(text)} characters; send 1 to {MAX_TEXT_LENGTH}")
        said = await asyncio.to_thread(write_spoken_text, text, speech, form.language)
    reader = await asyncio.to_thread(AudioReader, speech, SAMPLE_RATE_HZ)
    if reader.duration_seconds > settings.max_speech_seconds:
        raise MediaError(
            f"the speech lasts {reader.duration_seconds:.0f} s, more than the limit of "
            f"{settings.max_speech_seconds:.0f} s; send it in parts"
        )
    return said


async def _copy(upload: UploadFile, path: Path, limit: int) -> None:
    count = 0
    with path.open("xb") as file:
        while chunk := await upload.read(COPY_BYTES):
            count += len(chunk)
            if count > limit:
                raise HTTPException(413, f"the {path.name} is larger than {limit} bytes")
            await asyncio.to_thread(file.write, chunk)


def _require_room(jobs: VideoJobs) -> None:
    try:
        jobs.require_room()
    except TooManyJobsError as error:
        raise HTTPException(503, str(error), {"Retry-After": str(RETRY_SECONDS)}) from None


def _status(job: Job, jobs: VideoJobs) -> VideoStatus:
    return VideoStatus(
        id=job.identifier,
        state=job.state,
        progress=round(job.progress, 4),
        place=jobs.place(job),
        seconds=job.seconds,
        error=job.error,
        created=job.created,
        result=f"/v1/videos/{job.identifier}/result" if job.state == "done" else None,
        notes=[
            f"not understood in the style: {words}"
            for words in encode_style(job.request.style).not_understood
        ],
    )


def _without_path(message: str, folder: Path) -> str:
    for name in (PORTRAIT_NAME, SPEECH_NAME):
        message = message.replace(str(folder / name), f"the {name}")
    return message


def _job(request: Request, identifier: str) -> Job:
    job = _jobs(request).get(identifier)
    if job is None:
        raise HTTPException(404, "there is no such video")
    return job


def _jobs(request: Request) -> VideoJobs:
    jobs: VideoJobs = request.app.state.jobs
    return jobs


def _settings(request: Request) -> ServerSettings:
    settings: ServerSettings = request.app.state.settings
    return settings
