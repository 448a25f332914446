"""Portraits that clients bring for their own live sessions."""

from __future__ import annotations

import asyncio
import errno
import secrets
import shutil
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, HTTPException, Request, Response, UploadFile
from pydantic import BaseModel, Field

from moda.doors.clients import Presence
from moda.errors import ModaError
from moda.files import ScratchFolder
from moda.media import check_image
from moda.serving.access import BusyError
from moda.serving.openapi import BODY, COMMON, Responses, refusals
from moda.serving.settings import ServerSettings

PATH = "/v1/live/portraits"
MAX_OF_OWNER = 16
MAX_PORTRAITS = 256
"""Of all owners."""
MAX_ARRIVING, RETRY_SECONDS = 8, 5
"""At once; half of them of one client."""
PICTURE: Responses = {200: {"content": {"image/webp": {}}}}
router = APIRouter(prefix=PATH, tags=["live"], responses=COMMON)


class PortraitUploads:
    """Pictures by owner and name; they go after their time, when newer ones of their owner need the
    room, and when the server ends."""

    def __init__(self, settings: ServerSettings) -> None:
        self._kept_seconds = settings.kept_seconds
        self._space = 2 * settings.max_portrait_bytes
        self._scratch = ScratchFolder("portraits")
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()
        """When they came."""
        self._arriving = Presence(MAX_ARRIVING // 2)
        """Requests whose portrait is still on its way."""

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self._scratch.path

    def close(self) -> None:
        """Remove all."""
        self._scratch.close()

    @contextmanager
    def arriving(self, client: str) -> Iterator[None]:
        """Keep a place for a portrait while it arrives.

        Raises:
            BusyError: There is none, or the client's other portraits have half of them.
            OSError: There is no folder or not enough space for all that arrive.
        """
        if self._arriving.total >= MAX_ARRIVING or self._arriving.is_full(client):
            raise BusyError("other portraits are still arriving; wait for them", RETRY_SECONDS)
        needed = (self._arriving.total + 1) * self._space
        if shutil.disk_usage(self._scratch.restore()).free < needed:
            raise OSError(errno.ENOSPC, "less space is free than a portrait may need")
        with self._arriving.counted(client):
            yield

    def new_path(self) -> Path:
        """Where a portrait that arrives is written."""
        return self._scratch.restore() / f"upload-{secrets.token_urlsafe(16)}"

    def add(self, owner: str, path: Path) -> str:
        """Keep a portrait; the name by which its owner starts sessions."""
        self._known[owner, path.name] = time.monotonic()
        self._forget_old()
        mine = [name for name in self._known if name[0] == owner]
        for surplus in [*mine[:-MAX_OF_OWNER], *list(self._known)[:-MAX_PORTRAITS]]:
            self.remove(*surplus)
        return path.name

    def find(self, owner: str, name: str | None) -> Path | None:
        """The file of an owner's portrait."""
        self._forget_old()
        known = name is not None and (owner, name) in self._known
        return self._scratch.path / str(name) if known else None

    def remove(self, owner: str, name: str) -> bool:
        """Remove a portrait; whether there was one."""
        is_known = self._known.pop((owner, name), None) is not None
        if is_known:
            with suppress(OSError):
                (self._scratch.path / name).unlink(missing_ok=True)
        return is_known

    def _forget_old(self) -> None:
        oldest = time.monotonic() - self._kept_seconds
        for name in [name for name, since in self._known.items() if since < oldest]:
            self.remove(*name)


class UploadedPortrait(BaseModel):
    """A portrait that was taken."""

    portrait: str = Field(description="The name for the start of a live session")
    seconds: float = Field(description="How long it is kept")


@router.post("", status_code=201, responses=BODY)
async def upload_portrait(
    request: Request, portrait: Annotated[UploadFile, File(description="A picture with a face")]
) -> UploadedPortrait:
    """Bring a portrait for live sessions of one's own. Its face is looked for when one begins."""
    settings: ServerSettings = request.app.state.settings
    uploads = uploads_of(request.app)
    content = await portrait.read(settings.max_portrait_bytes + 1)
    if len(content) > settings.max_portrait_bytes:
        raise HTTPException(413, f"the portrait is larger than {settings.max_portrait_bytes} bytes")
    path = uploads.new_path()
    try:
        await asyncio.to_thread(path.write_bytes, content)
        await asyncio.to_thread(check_image, path)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, ModaError):
            error.args = (str(error).replace(str(path), "the portrait"),)
        raise
    name = uploads.add(request.state.caller.owner, path)
    return UploadedPortrait(portrait=name, seconds=settings.kept_seconds)


@router.delete(
    "/{name}", status_code=204, responses=refusals(_404="There is no such portrait of this key")
)
async def delete_portrait(request: Request, name: str) -> None:
    """Remove a portrait that was brought."""
    if not uploads_of(request.app).remove(request.state.caller.owner, name):
        raise HTTPException(404, "there is no such portrait")


@router.get(
    "/{name}/preview",
    response_class=Response,
    responses=PICTURE | refusals(_404="This server has no such portrait"),
)
async def read_preview(request: Request, name: str) -> Response:
    """A portrait of the server, waiting alive: an animated WebP."""
    preview = request.app.state.pool.previews.get(name)
    if preview is None:
        raise HTTPException(404, "there is no such portrait")
    return Response(preview, media_type="image/webp")


def uploads_of(app: Any) -> PortraitUploads:
    """Those of a server."""
    return app.state.pool.uploads
