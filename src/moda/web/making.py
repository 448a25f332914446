"""What is made of the values of the page's inputs: the three kinds of videos."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from moda.errors import InputError
from moda.media import VideoReader
from moda.options import Speaker, VideoOptions, require_range
from moda.options.video import VISITOR_SIZE_PX
from moda.pipeline import Progress, TalkingHead, TalkingVideo
from moda.pipeline.dubbing import dub
from moda.pipeline.jobs import Stages, VideoJob, begin_video, notes_on_style, spoken
from moda.web.layout import FILES, MAX_TEXT_LENGTH, SPEAKERS, Kind, read_choices
from moda.web.settings import WebSettings
from moda.web.text import TextSpeaker
from moda.web.uploads import Uploads

MISSING = {
    "portrait": "there is no portrait yet; add a picture with a face",
    "footage": "there is no video yet; add one that shows a face",
}


class VideoMaker:
    """Begins videos; nothing of them is made yet.

    Args:
        head: The model.
        settings: Limits.
        speaker: What turns text into speech.
        uploads: As in :class:`moda.web.page.WebPage`.
    """

    def __init__(
        self,
        head: TalkingHead,
        settings: WebSettings,
        speaker: TextSpeaker,
        uploads: Uploads | None,
    ) -> None:
        self._head = head
        self._max_seconds = settings.max_seconds
        self._speaker = speaker
        self._uploads = uploads

    def begin(
        self, kind: Kind, asked: Mapping[str, Any], folder: Path, progress: Progress
    ) -> TalkingVideo:
        """The video that was asked for; ``folder`` takes its files.

        Raises:
            ModaError: Something is missing, outside its limits, or cannot be read.
        """
        self._check_files(asked)
        options = read_choices(asked)
        if kind == "reenact":
            self._check_footage(Path(asked["footage"]))
            video = self._head.reenact(
                asked["portrait"],
                asked["footage"],
                options,
                progress=progress,
                max_seconds=self._max_seconds,
            )
            return replace(video, notes=(*notes_on_style(options), *video.notes))
        options = self._with_speakers(asked, options)
        self._check_speech(asked, options)
        job = VideoJob(
            Path(asked["footage" if kind == "dub" else "portrait"]),
            folder / "talking-head.mp4",
            Path(asked["speech"]) if asked["speech"] else None,
            options,
            max_seconds=self._max_seconds,
        )
        job.check()
        stages = _stages(progress)
        if kind == "generate":
            return begin_video(job, self._head, folder, stages=stages)
        self._check_footage(Path(asked["footage"]))
        return dub(
            self._head,
            asked["footage"],
            spoken(job, self._head, folder, stages=stages),
            seed=options.seed,
            expression=options.amounts.expression,
            face=options.frame().face,
            loop=bool(asked["loop"]),
            progress=progress,
            max_seconds=self._max_seconds,
        )

    def may_use(self, path: Path) -> bool:
        """Whether a file was uploaded, or is an example."""
        return self._uploads is None or self._uploads.holds(path)

    def _check_files(self, asked: Mapping[str, Any]) -> None:
        for name in FILES:
            if name in MISSING and name in asked and not asked[name]:
                raise InputError(MISSING[name])
            given = asked.get(name)
            if given and not self.may_use(Path(given)):
                raise InputError(f"the {name} was not uploaded; add a file")

    def _with_speakers(self, asked: Mapping[str, Any], options: VideoOptions) -> VideoOptions:
        """The options with the faces that have recordings of their own."""
        speakers = tuple(
            Speaker(number, Path(asked[name]))
            for number, name in enumerate(SPEAKERS, start=1)
            if asked.get(name)
        )
        if not speakers:
            return options
        if asked["speech"] or options.text is not None or options.face is not None:
            raise InputError(
                "faces have recordings of their own; remove the speech and the number of one face"
            )
        return replace(options, face=speakers, in_turns=bool(asked["in_turns"]))

    def _check_speech(self, asked: Mapping[str, Any], options: VideoOptions) -> None:
        if options.speakers:
            return
        if options.text is None:
            if not asked["speech"]:
                raise InputError("there is no speech yet; add a recording")
            return
        if len(options.text) > MAX_TEXT_LENGTH:
            raise InputError(
                f"the text has {len(options.text)} characters, more than the limit of "
                f"{MAX_TEXT_LENGTH}; split it in several videos"
            )
        if asked["speech"]:
            raise InputError("there is a recording and a text; remove one of them")
        if self._speaker.why_not is not None:
            raise InputError(self._speaker.why_not)

    def _check_footage(self, path: Path) -> None:
        video = VideoReader(path)
        require_range("length of the video in s", video.duration_seconds, 0.0, self._max_seconds)
        require_range("longer side of the video in pixels", max(video.size), 0, VISITOR_SIZE_PX)


def _stages(progress: Progress) -> Stages:
    def stages(name: str) -> AbstractContextManager[Progress | None]:
        watched = {"Tracking": progress, "Speaking": lambda done, total: progress(0, 0)}
        return nullcontext(watched.get(name))

    return stages
