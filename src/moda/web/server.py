"""Serving the page: one process, one model, everything else inside limits."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moda.errors import InputError, MissingExtraError
from moda.pipeline import TalkingHead
from moda.web import words
from moda.web.settings import WebSettings
from moda.web.text import TextSpeaker

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Gradio and what it imports report their use unless told not to."""

OWN_ORIGIN_ONLY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'"
)
"""What browsers enforce: the page loads nothing from, and sends nothing to, another server."""

HEADERS = (
    (b"content-security-policy", OWN_ORIGIN_ONLY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class SafeHeaders:
    """Adds :data:`HEADERS` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


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
    with tempfile.TemporaryDirectory(prefix="moda-web-") as name, _environment(f"{name}/gradio"):
        require_gradio()
        import gradio as gr
        from starlette.middleware import Middleware

        from moda.web.page import WebPage

        # Not in Gradio's folder: it copies only what lies outside.
        jobs = Path(name) / "jobs"
        jobs.mkdir()
        page = WebPage(head, settings, speaker, jobs)
        blocks = page.build()
        fonts = ("system-ui", "sans-serif")
        theme = gr.themes.Soft(primary_hue="indigo", font=fonts, font_mono=("monospace",))
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
                theme=theme,
                css=words.STYLE_SHEET,
                app_kwargs={"middleware": [Middleware(SafeHeaders)]},
            )
        except OSError as error:
            raise InputError(
                f"the page cannot be served at {settings.host}:{settings.port} ({error}); "
                "choose another --port or --host"
            ) from None
        try:
            yield RunningPage(url, share_url, Path(name), blocks)
        finally:
            blocks.close(verbose=False)
            page.close()


@contextmanager
def _environment(folder: str) -> Iterator[None]:
    """Gradio's own settings, for as long as the page is served."""
    settings = {**QUIET, "GRADIO_TEMP_DIR": folder}
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
