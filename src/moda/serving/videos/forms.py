"""What a client asks for in a video: the form, and the work that it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import UploadFile
from pydantic import BaseModel, Field, create_model

from moda.encoders.style import delivery_of
from moda.options import (
    OPTIONS,
    DescribedOption,
    VideoOptions,
    for_visitors,
    read_visitor_options,
)
from moda.pipeline.jobs import VideoJob
from moda.serving.videos.webhooks import MAX_ADDRESS_LENGTH
from moda.serving.videos.worker import PORTRAIT_NAME, RESULT_NAME, SPEECH_NAME
from moda.speech_synthesis import SpokenText

MAX_TEXT_LENGTH = 10_000
FORM_OPTIONS = tuple(name for name in for_visitors() if Path not in OPTIONS[name].kinds)
"""All that visitors may set, but for further files."""


class VideoFiles(BaseModel, extra="forbid"):
    """What a client sends besides options: a portrait, and speech or text."""

    portrait: UploadFile
    speech: UploadFile | None = None
    intensity: float | None = Field(
        None, description="How much of the emotion, 0 to 1; all of it where nothing is said."
    )
    webhook: str | None = Field(
        None,
        max_length=MAX_ADDRESS_LENGTH,
        description="Is sent the status when the video is done or has failed; the server allows "
        "which.",
    )

    def values(self) -> dict[str, Any]:
        """What :func:`read_values` understands."""
        return self.model_dump(include={*FORM_OPTIONS, "intensity"}, exclude_none=True)


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


def read_values(values: Mapping[str, Any]) -> VideoOptions:
    """The options of a form. Raises :class:`InputError` for values outside the limits."""
    options = read_visitor_options({k: v for k, v in values.items() if k != "intensity"})
    intensity = values.get("intensity")
    if options.emotion is not None and intensity is not None:
        options = replace(options, emotion=options.emotion._replace(intensity=intensity))
    delivery_of(options)
    return options


def make_request(
    folder: Path,
    values: Mapping[str, Any],
    max_seconds: float,
    spoken: SpokenText | None = None,
) -> VideoJob:
    """The work that a form asks for, whose files are in a folder.

    Args:
        folder: Of the job.
        values: Of the form.
        max_seconds: Longest speech.
        spoken: The text, if it has been spoken already.

    Raises:
        InputError: As :func:`read_values`.
    """
    options = read_values(values)
    speech: Path | SpokenText | None = spoken
    if spoken is not None:
        options = replace(options, text=None)
    elif options.text is None:
        speech = folder / SPEECH_NAME
    portrait, result = folder / PORTRAIT_NAME, folder / RESULT_NAME
    return VideoJob(portrait, result, speech, options, max_seconds=max_seconds)
