"""What visitors upload: each one's files in a folder of its own, all of them within limits."""

from __future__ import annotations

import filecmp
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gradio import routes
from gradio.exceptions import InvalidPathError
from gradio.route_utils import MultiPartException, upload_fn
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from moda.doors.clients import Presence

logger = logging.getLogger("uvicorn.error")

FORM_BYTES = 64 * 1024
"""Of a request besides its file."""
FILES_OF_ONE_ADDRESS, FILES_OF_ALL = 6, 24
"""Room for files of the largest size; an address's oldest files make room for its next."""
LEAST_BYTES = 64 * 1024
"""What the smallest file counts as."""
AT_ONCE_OF_ONE_ADDRESS, AT_ONCE = 4, 16


class Uploads:
    """The folders of all visitors.

    Args:
        folder: Inside Gradio's, which hands on nothing from elsewhere.
        max_file_bytes: Of one file.
        examples: Files of the page's own, which everybody may use.
    """

    def __init__(self, folder: Path, max_file_bytes: int, examples: tuple[Path, ...]) -> None:
        self.folder = folder
        self._max_file_bytes = max_file_bytes
        self._examples = examples
        self._arriving = Presence(AT_ONCE_OF_ONE_ADDRESS)

    @property
    def max_body_bytes(self) -> int:
        """Of a request that uploads a file."""
        return self._max_file_bytes + FORM_BYTES

    def may_use(self, address: str, visitor: str, path: str) -> bool:
        """Whether a path that a visitor names is a file of that visitor, or an example."""
        try:
            place = Path(path).resolve()
            if place.is_relative_to(self._folder_of(address, visitor).resolve()):
                return place.is_file()
        except (OSError, ValueError, RuntimeError):
            return False
        return self._is_example(place)

    def is_strangers(self, address: str, visitor: str, path: str) -> bool:
        """Whether a path leads into the folder of another visitor."""
        try:
            place = Path(path).resolve()
        except (OSError, ValueError, RuntimeError):
            return True
        own = self._folder_of(address, visitor).resolve()
        # Some file systems do not tell capital letters from small ones.
        lies_in_all = Path(str(place).casefold()).is_relative_to(
            str(self.folder.resolve()).casefold()
        )
        return lies_in_all and not place.is_relative_to(own)

    def holds(self, path: Path) -> bool:
        """Whether a file was uploaded by anybody, or is an example."""
        place = path.resolve()
        return place.is_relative_to(self.folder.resolve()) or self._is_example(place)

    def _is_example(self, place: Path) -> bool:
        """Gradio makes copies of them."""
        inside = place.is_relative_to(self.folder.parent.resolve())
        return inside and any(
            place.name == example.name and place.is_file() and filecmp.cmp(place, example, False)
            for example in self._examples
        )

    async def take(self, request: Request, address: str, visitor: str) -> list[str]:
        """Keep the files of a request; their names here.

        Raises:
            HTTPException: They are too large or too many, or there is no room for them.
            ClientDisconnect: The visitor went away meanwhile.
        """
        if self._arriving.is_full(address) or self._arriving.total >= AT_ONCE:
            raise HTTPException(429, "too many files arrive at once; wait", {"retry-after": "5"})
        with self._arriving.counted(address), _storing():
            own = self._folder_of(address, visitor)
            self._make_room(own.parent)
            place = own / secrets.token_hex(8)
            place.mkdir(parents=True)
            try:
                return await self._keep(request, place)
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)
                raise

    async def _keep(self, request: Request, place: Path) -> list[str]:
        identifier = request.query_params.get("upload_id")
        progress = routes.file_upload_statuses if identifier else None
        try:
            kept, _, _ = await upload_fn(
                request, place, self._max_file_bytes, identifier, upload_progress=progress
            )
        except MultiPartException as error:
            too_large = "maximum allowed size" in error.message
            raise HTTPException(413 if too_large else 400, error.message) from None
        except (KeyError, TypeError, ValueError, InvalidPathError):
            raise HTTPException(400, "the request is no form with files") from None
        return [str(path) for path in kept]

    def _folder_of(self, address: str, visitor: str) -> Path:
        return self.folder / _hashed(address) / _hashed(visitor or address)

    def _make_room(self, own: Path) -> None:
        """Remove the oldest files of an address until it may have one more."""
        if _size_of(self.folder) + self._max_file_bytes > FILES_OF_ALL * self._max_file_bytes:
            raise HTTPException(507, "there is no room for more files; try again later")
        limit = (FILES_OF_ONE_ADDRESS - 1) * self._max_file_bytes
        places = sorted(own.glob("*/*"), key=lambda place: place.stat().st_mtime)
        while places and sum(map(_size_of, places)) > limit:
            shutil.rmtree(places.pop(0), ignore_errors=True)


@contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except ClientDisconnect:
        raise
    except OSError as error:
        logger.error("an upload cannot be kept: %s", error)
        raise HTTPException(507, "there is no space for files here; try again later") from None


def is_logged_in(app: Any, request: Request) -> bool:
    """Whether a visitor has given the page's login, if it asks for one."""
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return app.auth is None or any(request.cookies.get(name) in app.tokens for name in names)


def _size_of(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += max((Path(parent) / name).stat().st_size, LEAST_BYTES)
    return total


def _hashed(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
