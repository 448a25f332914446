"""Serving the page: one process, one model, everything else inside limits."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moda.doors.names import Names
from moda.errors import InputError, MissingExtraError
from moda.files import ScratchFolder
from moda.pipeline import TalkingHead
from moda.web.settings import WebSettings
from moda.web.text import TextSpeaker

QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Gradio and what it imports report their use unless told not to."""


@dataclass(frozen=True)
class RunningPage:
    """A page that is being served."""

    url: str
    share_url: str | None
    """The public address, if there is one."""
    folder: Path
    """Where all files of visitors and videos are."""
    blocks: Any

    def wait(self) -> None:
        """Serve until interrupted."""
        self.blocks.block_thread()


def require_gradio() -> None:
    """Raise :class:`MissingExtraError` if Gradio is not installed."""
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "the web page needs the package gradio; in MoDA's folder run: pip install '.[web]'"
        ) from error


@contextmanager
def serve_page(
    head: TalkingHead, speaker: TextSpeaker, settings: WebSettings
) -> Iterator[RunningPage]:
    """Serve the page as long as the context lasts.

    All files of visitors and videos are in one temporary folder, which is removed at the end.

    Raises:
        MissingExtraError: Gradio is not installed.
        InputError: The port is taken, or the public address cannot be made.
    """
    scratch = ScratchFolder("web")
    with scratch as folder, _environment(folder / "gradio"):
        require_gradio()

        from moda.doors.connections import guard
        from moda.web import look
        from moda.web.gate import Gate
        from moda.web.layout import EXAMPLE_SPEECH, EXAMPLES
        from moda.web.page import WebPage
        from moda.web.uploads import Uploads

        names = Names(
            settings.host,
            settings.allowed_origins,
            has_login=settings.login is not None,
            is_shared=settings.share,
        )
        examples = (EXAMPLE_SPEECH, *(portrait for portrait, _ in EXAMPLES.values()))
        uploads = Uploads(folder / "gradio" / "visitors", settings.max_upload_mib * 2**20, examples)
        # Gradio's public address is a proxy too.
        behind_proxy = settings.behind_proxy or settings.share

        @asynccontextmanager
        async def behind_gate(app: Any) -> AsyncIterator[None]:
            """Before the first connection: in front of all that Gradio has put in front."""
            app.middleware_stack = Gate(
                app.middleware_stack, names, uploads, scratch, behind_proxy=behind_proxy
            )
            yield

        # Jobs are not in Gradio's folder: it copies only what lies outside.
        jobs = folder / "jobs"
        jobs.mkdir()
        page = WebPage(head, settings, speaker, jobs, uploads)
        blocks = page.build()
        try:
            _, url, share_url = blocks.launch(
                server_name=settings.host,
                server_port=settings.port or None,
                auth=settings.login,
                share=settings.share,
                inbrowser=settings.open_browser,
                max_file_size=settings.max_upload_mib * 2**20,
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                mcp_server=False,
                pwa=False,
                ssr_mode=False,
                quiet=True,
                prevent_thread_lock=True,
                allowed_paths=[str(look.PREVIEWS)],
                theme=look.theme(),
                head=look.HEAD,
                css=look.style_sheet(tuple(EXAMPLES)),
                app_kwargs={"lifespan": behind_gate},
            )
        except OSError as error:
            raise InputError(
                f"the page cannot be served at {settings.host}:{settings.port} ({error}); "
                "choose another --port or --host"
            ) from None
        guard(blocks.server.config, behind_proxy=behind_proxy)
        try:
            yield RunningPage(url, share_url, folder, blocks)
        finally:
            blocks.close(verbose=False)
            page.close()


@contextmanager
def _environment(folder: Path) -> Iterator[None]:
    """Gradio's own settings, for as long as the page is served."""
    settings = {**QUIET, "GRADIO_TEMP_DIR": str(folder), "FORWARDED_ALLOW_IPS": ""}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
