"""The page: what is on it, and what its buttons do."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import gradio as gr

from moda.errors import ModaError
from moda.media import outputs_of
from moda.media.segments import Segment
from moda.pipeline import TalkingHead
from moda.structures import Picture
from moda.systems.embedded import EmbeddedSystem
from moda.web import words
from moda.web.comparison import before_and_after
from moda.web.components import refuse_odd_values
from moda.web.faces import numbered_faces
from moda.web.job import Job
from moda.web.layout import (
    FILES,
    KINDS,
    MAX_SPEAKERS,
    Controls,
    Kind,
    input_names,
    lay_out,
)
from moda.web.making import VideoMaker
from moda.web.settings import WebSettings
from moda.web.text import TextSpeaker
from moda.web.uploads import Uploads

LOOK_SECONDS = 0.25
"""How often the page is told how far the video is."""
LOOK_AT_FACES_SECONDS = 3.0
"""So long others are waited for; without a look, there is no choice of faces."""
SEED_LIMIT = 2**31
SHOW_RESULT = """() => {
    document.querySelector("#result").scrollIntoView({behavior: "smooth", block: "nearest"});
    return [];
}"""
"""Below the button on a phone, beside it otherwise."""


class WebPage:
    """The page for one model, and the videos that are being made for its visitors.

    Args:
        head: The model; used for one video at a time.
        settings: Limits.
        speaker: What turns text into speech.
        folder: For files of videos in the making; they are removed when they are handed over.
        uploads: What visitors have sent; None where nobody visits and files come from the caller.
    """

    def __init__(
        self,
        head: TalkingHead,
        settings: WebSettings,
        speaker: TextSpeaker,
        folder: Path,
        uploads: Uploads | None = None,
    ) -> None:
        self._head = head
        self._settings = settings
        self._speaker = speaker
        self._folder = folder
        self._maker = VideoMaker(head, settings, speaker, uploads)
        self._looking = threading.Lock()
        """Held by the one who looks for faces."""
        self._jobs: dict[str, Job] = {}
        self._streams: dict[str, Any] = {}
        """Gradio's pieces of videos, by visitor; it keeps them until the visitor leaves."""

    def build(self) -> gr.Blocks:
        """Lay the page out and connect it."""
        # Uploads and results are removed an hour after they were made, looked at every 10 minutes.
        with gr.Blocks(
            title=words.TITLE, analytics_enabled=False, delete_cache=(600, 3600)
        ) as blocks:
            gr.Markdown(words.introduction(self._settings), elem_id="heading")
            controls = lay_out(self._speaker, self._head.space.name)
            gr.Markdown(words.RESPONSIBLE_USE, elem_classes="moda-small")
            runs = [self._connect(kind, controls) for kind in KINDS]
            controls.stop.click(
                self.stop,
                None,
                controls.outputs,
                queue=False,
                api_visibility="private",
                cancels=runs,
                show_progress="hidden",
            )
            controls.portrait.change(
                self.faces,
                controls.portrait,
                controls.faces,
                queue=False,
                api_visibility="private",
                show_progress="hidden",
            )
            controls.new_seed.click(
                lambda: random.randrange(SEED_LIMIT),  # noqa: S311
                None,
                controls.seed,
                queue=False,
                api_visibility="private",
                show_progress="hidden",
            )
            blocks.unload(self.leave)
        self._streams = blocks.pending_streams
        refuse_odd_values(blocks)
        return blocks.queue(max_size=self._settings.max_waiting)

    def _connect(self, kind: Kind, controls: Controls) -> Any:
        """Let the button of a kind of video make one; the event that does."""
        asked = controls.buttons[kind].click(
            lambda: shown(None, words.status(words.WAITING), busy=True, clear=True),
            None,
            controls.outputs,
            queue=False,
            api_visibility="private",
            js=SHOW_RESULT,
            show_progress="hidden",
        )
        run = asked.then(
            self.making(kind),
            controls.inputs[kind],
            controls.outputs,
            api_name=kind,
            concurrency_limit=1,
            concurrency_id="video",
            show_progress="hidden",
        )
        run.failure(  # also where the queue is full, when nothing else has run
            lambda: (gr.update(interactive=False), *[gr.update(interactive=True)] * len(KINDS)),
            None,
            [controls.stop, *controls.buttons.values()],
            queue=False,
            api_visibility="private",
            show_progress="hidden",
        )
        return run

    def faces(self, portrait: str | None) -> tuple[Any, ...]:
        """Offer a choice where a portrait shows several faces."""
        system, numbered, count = self._head.system, None, 0
        if not isinstance(system, EmbeddedSystem):
            return (gr.skip(),) * 3
        is_known = portrait is not None and self._maker.may_use(Path(portrait))
        if is_known and self._looking.acquire(timeout=LOOK_AT_FACES_SECONDS):
            try:
                numbered, count = numbered_faces(Path(str(portrait)), system.models)
            finally:
                self._looking.release()
        own = (gr.update(value=None, visible=number < count) for number in range(MAX_SPEAKERS))
        return gr.update(visible=numbered is not None), numbered, "", *own

    def stop(self, request: gr.Request) -> tuple[Any, ...]:
        """End the visitor's video at the next frame; the values of the outputs."""
        self.leave(request)
        return shown(None, words.status(None, stopped=True), busy=False, clear=True)

    def leave(self, request: gr.Request) -> None:
        """What happens when a visitor closes the page."""
        job = self._jobs.get(request.session_hash or "")
        if job is not None:
            job.stop()

    def close(self) -> None:
        """End all work and remove its files."""
        for job in list(self._jobs.values()):
            job.close()

    def making(self, kind: Kind) -> Callable[..., AsyncIterator[tuple[Any, ...]]]:
        """What makes videos of a kind of the values of its inputs."""
        names = input_names(self._head.space.name, kind)

        async def make(request: gr.Request, *values: Any) -> AsyncIterator[tuple[Any, ...]]:
            async for update in self._make(kind, request, dict(zip(names, values, strict=True))):
                yield update

        return make

    async def _make(
        self, kind: Kind, request: gr.Request, asked: dict[str, Any]
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Make a video, and say how far it is; yields the values of the outputs."""
        files = [Path(asked[name]) for name in FILES if asked.get(name)]
        try:
            job = Job(
                lambda folder, progress: self._maker.begin(kind, asked, folder, progress),
                parent=self._folder,
                max_seconds=self._settings.max_seconds,
                subtitles=bool(asked.get("subtitles")),
            )
        except OSError as error:
            yield shown(None, words.status(None, error=words.NO_PLACE), busy=False)
            raise gr.Error(words.NO_PLACE, visible=False, print_exception=False) from error
        session = request.session_hash or ""
        self._jobs[session] = job
        self._streams.pop(session, None)
        try:
            job.start()
            yield shown(None, words.status(words.BEGINNING), busy=True)
            view = await asyncio.to_thread(job.look, 0.0)
            while True:
                notes = tuple(words.for_readers(note, *files, job.path) for note in view.notes)
                status = words.status(view, notes=notes)
                for segment in view.segments:
                    yield shown(segment, status, busy=True)
                if view.is_over:
                    break
                yield shown(None, status, busy=True)
                view = await asyncio.to_thread(job.look, LOOK_SECONDS)
            if view.error is not None:
                raise view.error
            compared = None
            if view.summary is not None and asked.get("full_frame"):
                compared = await asyncio.to_thread(
                    before_and_after, Path(asked["portrait"]), view.summary
                )
            file = None if view.summary is None else view.summary.path
            yield shown(None, status, busy=False, file=file, compared=compared)
        except ModaError as error:
            message = words.for_readers(str(error), *files, job.path)
            yield shown(None, words.status(None, error=message), busy=False)
            raise gr.Error(message, visible=False, print_exception=False) from error
        except Exception:
            yield shown(None, words.status(None, error=words.BUG), busy=False)
            raise
        finally:
            if self._jobs.get(session) is job:
                del self._jobs[session]
            await asyncio.shield(asyncio.to_thread(job.close))


def shown(
    segment: Segment | None,
    status: str,
    *,
    busy: bool,
    clear: bool = False,
    file: Path | None = None,
    compared: tuple[Picture, Picture] | None = None,
) -> tuple[Any, ...]:
    """Values of the outputs, in the order of :func:`moda.web.layout.lay_out`.

    Args:
        segment: Next piece for the player; None leaves it as it is.
        status: HTML of the status line.
        busy: Whether a video is being made.
        clear: Whether the player forgets what it has.
        file: The finished file, for downloading; with the subtitles beside it, if there are any.
        compared: Photograph and frame of the same size.
    """
    nothing_new = gr.update(value=None) if clear else gr.skip()
    beside = None if file is None else outputs_of(file, subtitles=True)[1]
    beside = beside if beside is not None and beside.exists() else None
    return (
        nothing_new if segment is None else segment,
        status,
        gr.update(interactive=busy),
        gr.update(value=None if file is None else str(file), interactive=file is not None),
        gr.update(value=None if beside is None else str(beside), visible=beside is not None),
        gr.update(value=compared, visible=compared is not None),
        *[gr.update(interactive=not busy)] * len(KINDS),
    )
