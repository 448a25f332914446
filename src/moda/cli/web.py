"""``moda web``: the web page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from moda.cli import options, steps
from moda.pipeline import TalkingHead
from moda.web.server import require_gradio, serve_page
from moda.web.settings import LOGIN_VARIABLE, WebSettings, parse_login, read_login
from moda.web.text import installed_speaker

app = typer.Typer()


@app.command(epilog="Example: moda web --open")
@options.takes_fields(WebSettings)
def web(
    login_file: Annotated[
        Path | None,
        typer.Option(help="File with user:password, which the page then asks for."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="https://HOST",
            help="Another name of this page, or a page that may use it; may be given again.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="moda-tiny, moda-base, or a .safetensors file.")
    ] = "moda-tiny",
    device: options.Device = "auto",
    *,
    given: options.Given,
) -> None:
    """Serve a web page that makes talking videos.

    Only this computer can reach it unless --host or --share says otherwise. The login may also be
    in the environment variable MODA_WEB_LOGIN.
    """
    login = None
    if login_file is not None:
        login = read_login(login_file)
    elif LOGIN_VARIABLE in os.environ:
        login = parse_login(os.environ[LOGIN_VARIABLE], f"variable {LOGIN_VARIABLE}")
    settings = WebSettings(login=login, allowed_origins=tuple(allow_origin or ()), **given)
    require_gradio()
    head = TalkingHead.from_pretrained(model, device=device)
    steps.compile_early(head)
    with serve_page(head, installed_speaker(), settings) as page:
        typer.echo(f"The page is at {page.url}; Ctrl+C ends it")
        if page.share_url:
            typer.echo(f"Everybody can reach it at {page.share_url}")
        if settings.is_public and login is None:
            typer.echo(
                "Others can reach the page and it asks for no login; see --login-file", err=True
            )
        page.wait()
