"""What clients are told of a video."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from pydantic import BaseModel, Field

from moda.serving.videos.records import HookState, Job, JobState


class VideoStatus(BaseModel):
    """How far a video is."""

    id: str
    state: JobState
    progress: float = Field(description="0 to 1")
    place: int = Field(description="Videos that come before it")
    seconds: float | None = Field(description="Length of the video, when it is done")
    error: str | None
    created: float = Field(description="Seconds since 1970")
    result: str | None = Field(description="Where the video is, when it is done")
    notes: list[str] = Field(description="What was not understood, and what was found in the files")
    webhook: HookState | None = Field(description="What became of the webhook, if there is one")


class VideoList(BaseModel):
    """All videos of a key."""

    videos: list[VideoStatus] = Field(description="The newest first")


def status_of(job: Job, place: int) -> VideoStatus:
    """The status of a video before which ``place`` others come."""
    return VideoStatus(
        id=job.identifier,
        state=job.state,
        progress=round(job.progress, 4),
        place=place,
        seconds=job.seconds,
        error=job.error,
        created=job.created,
        result=f"/v1/videos/{job.identifier}/result" if job.state == "done" else None,
        notes=job.notes,
        webhook=job.hook_state,
    )


def webhook_message(job: Job) -> bytes:
    """What a webhook is sent, in the form of Standard Webhooks."""
    message = {
        "type": f"video.{job.state}",
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": status_of(job, 0).model_dump(),
    }
    return json.dumps(message).encode()
