"""Videos over plain HTTP: ask for one, see how far it is, fetch it, delete it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request, Response, UploadFile
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field, create_model

from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.encoders.style import delivery_of
from moda.errors import InputError, MissingExtraError, ModaError
from moda.media import AudioReader, check_image
from moda.options import (
    OPTIONS,
    DescribedOption,
    VideoOptions,
    for_visitors,
    read_visitor_options,
)
from moda.pipeline import Progress
from moda.pipeline.jobs import VideoJob, speak_text
from moda.serving.settings import ServerSettings
from moda.serving.videos.queue import Job, JobState, VideoJobs
from moda.serving.videos.worker import PORTRAIT_NAME, RESULT_NAME, SPEECH_NAME, without_paths
from moda.speech_synthesis import SpokenText, check_spoken_length, espeak_is_installed

router = APIRouter(prefix="/v1/videos", tags=["videos"])

COPY_BYTES = 1 << 20
MAX_TEXT_LENGTH = 10_000
SPEAKING_SECONDS = 60.0
"""Of work, not of speech."""


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
    """What was not understood, and what was found in the files; complete when it is done"""


class VideoFiles(BaseModel, extra="forbid"):
    """What a client sends besides options: a portrait, and speech or text."""

    portrait: UploadFile
    speech: UploadFile | None = None
    intensity: float | None = Field(
        None, description="How much of the emotion, 0 to 1; all of it where nothing is said."
    )

    def options(self) -> VideoOptions:
        """The options. Raises :class:`InputError` for values outside the limits."""
        values = self.model_dump(include=set(FORM_OPTIONS), exclude_none=True)
        options = read_visitor_options(values)
        if options.emotion is not None and self.intensity is not None:
            emotion = options.emotion._replace(intensity=self.intensity)
            options = replace(options, emotion=emotion)
        delivery_of(options)
        return options


FORM_OPTIONS = tuple(name for name in for_visitors() if Path not in OPTIONS[name].kinds)
"""All that visitors may set, but for further files."""


def _form_field(known: DescribedOption) -> tuple[Any, Any]:
    """Type and description for pydantic; the limits are told here, and checked by the options."""
    limits = {"minimum": known.option.low, "maximum": known.visitors_high}
    extra: dict[str, Any] = {name: limit for name, limit in limits.items() if limit is not None}
    kind: Any = next((kind for kind in known.kinds if kind in (bool, int, float)), str)
    if kind is str and known.choices:
        kind = known.kinds[0]
    default: Any = None if known.default == () else known.default
    usual = f" Default: {known.option.usual}." if known.option.usual else ""
    return (
        kind if default is not None else kind | None,
        Field(default, description=known.help + usual, json_schema_extra=extra),
    )


_FIELDS: dict[str, Any] = {name: _form_field(OPTIONS[name]) for name in FORM_OPTIONS}
VideoForm: Any = create_model("VideoForm", __base__=VideoFiles, **_FIELDS)
Refused = dict[int | str, dict[str, str]]
REFUSED: Refused = {
    401: {"description": "An API key is needed"},
    413: {"description": "A file is too large"},
    422: {"description": "A file or an option cannot be used"},
    429: {"description": "Too many requests"},
    501: {"description": "Text was given, and this server cannot speak"},
    503: {"description": "Too many videos wait; Retry-After says when to come again"},
    507: {"description": "The server has no space for files, or no folder"},
}


@router.post("", status_code=202, response_model=VideoStatus, responses=REFUSED)
async def create_video(
    request: Request,
    response: Response,
    form: Annotated[VideoForm, Form(media_type="multipart/form-data")],
) -> VideoStatus:
    """Ask for a video of a portrait that says a speech recording."""
    jobs = _jobs(request)
    folder = jobs.new_folder()
    try:
        options = form.options()
        speech = await _keep_files(form, options, folder, request)
        if isinstance(speech, SpokenText):
            options = replace(options, text=None)
        longest = request.app.state.settings.max_speech_seconds
        made = VideoJob(
            folder / PORTRAIT_NAME, folder / RESULT_NAME, speech, options, max_seconds=longest
        )
        job = jobs.add(folder, made)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, ModaError):
            error.args = (without_paths(str(error), folder),)
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
    responses={
        200: {"content": {"video/mp4": {}}},
        409: {"description": "It is not done yet"},
        410: {"description": "Its folder was removed"},
    },
)
async def read_result(request: Request, identifier: str) -> FileResponse:
    """The video itself, as MP4."""
    job = _job(request, identifier)
    if job.state != "done":
        raise HTTPException(409, f"the video is {job.state}")
    if not job.request.output.is_file():
        raise HTTPException(410, "the video is gone: its folder was removed; ask for it again")
    return FileResponse(job.request.output, media_type="video/mp4", filename=RESULT_NAME)


@router.delete("/{identifier}", status_code=204)
async def delete_video(request: Request, identifier: str) -> None:
    """Stop the work on a video and remove it with all that belongs to it."""
    await _jobs(request).delete(_job(request, identifier))


async def _keep_files(
    form: VideoFiles, options: VideoOptions, folder: Path, request: Request
) -> Path | SpokenText:
    """Write the uploads under names of our own and look at their headers; speak the text.

    Raises:
        InputError, MediaError: something is missing, too long, or is not what it should be.
        MissingExtraError: there is a text, and this server has no speech synthesis.
        HTTPException: a file is too large.
    """
    settings: ServerSettings = request.app.state.settings
    portrait, speech = folder / PORTRAIT_NAME, folder / SPEECH_NAME
    text, longest = options.text, settings.max_speech_seconds
    if (form.speech is None) == (text is None):
        raise InputError("send either speech or text")
    await _copy(form.portrait, portrait, settings.max_portrait_bytes)
    await asyncio.to_thread(check_image, portrait)
    said: Path | SpokenText = speech
    if form.speech is not None:
        await _copy(form.speech, speech, settings.max_speech_bytes)
    elif text is not None:
        if not 0 < len(text.strip()) <= MAX_TEXT_LENGTH:
            raise InputError(f"text has {len(text)} characters; send 1 to {MAX_TEXT_LENGTH}")
        if not espeak_is_installed():
            raise MissingExtraError("this server has no speech synthesis; send speech")
        check_spoken_length(text, longest)
        speak = partial(speak_text, options, speech, stages=_in_time, max_seconds=longest)
        loop = asyncio.get_running_loop()
        said = await loop.run_in_executor(_jobs(request).speaking, speak)
    await asyncio.to_thread(AudioReader, speech, SAMPLE_RATE_HZ, max_seconds=longest)
    return said


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


async def _copy(upload: UploadFile, path: Path, limit: int) -> None:
    count = 0
    with path.open("xb") as file:
        while chunk := await upload.read(COPY_BYTES):
            count += len(chunk)
            if count > limit:
                raise HTTPException(413, f"the {path.name} is larger than {limit} bytes")
            await asyncio.to_thread(file.write, chunk)


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
        notes=job.notes,
    )


def _job(request: Request, identifier: str) -> Job:
    job = _jobs(request).get(identifier)
    if job is None:
        raise HTTPException(404, "there is no such video")
    return job


def _jobs(request: Request) -> VideoJobs:
    return request.app.state.jobs
