"""MoDA's page as a Space: one CPU, one video at a time, nothing kept."""

import os

from moda.pipeline import TalkingHead
from moda.web.server import serve_page
from moda.web.settings import WebSettings
from moda.web.text import installed_speaker


def settings(port: int = 7860) -> WebSettings:
    """The limits of a free Space, which is reached by its own name, through a proxy."""
    name = os.environ.get("SPACE_HOST")
    return WebSettings(
        host="0.0.0.0",  # noqa: S104 - inside the Space's container
        port=port,
        max_seconds=60,
        max_upload_mib=20,
        max_waiting=20,
        behind_proxy=name is not None,
        allowed_origins=() if name is None else (f"https://{name}",),
    )


def main() -> None:
    """Serve until the Space is stopped."""
    head = TalkingHead.from_pretrained("moda-tiny", device="cpu")
    with serve_page(head, installed_speaker(), settings()) as page:
        page.wait()


if __name__ == "__main__":
    main()
