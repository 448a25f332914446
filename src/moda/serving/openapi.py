"""The description of the server for programs, true to what is sent and answered."""

from __future__ import annotations

import re
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field

from moda.doors.answers import HEALTH_PATHS

Responses = dict[int | str, dict[str, Any]]


class Refusal(BaseModel):
    """Why a request was refused."""

    detail: str = Field(description="What is wrong, the limit, and what helps")


class Health(BaseModel):
    """The server answers."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Whether the server can do its work."""

    status: Literal["ready", "not ready"]
    workers: int = Field(description="Live sessions that are there, busy or not")
    problems: list[str] | None = Field(
        default=None, description="Why it cannot; absent where it can"
    )


def refusals(**descriptions: str) -> Responses:
    """Answers of one operation by status, as ``refusals(_404="There is no such video")``."""
    return {
        int(status.lstrip("_")): {"description": text, "model": Refusal}
        for status, text in descriptions.items()
    }


NAMES = refusals(
    _403="A page of another server, which --allow-origin does not name",
    _421="The server is not known by this name",
)
"""Of every operation."""
COMMON = NAMES | refusals(
    _400="The request is malformed",
    _401="An API key is needed",
    _429="Too many requests, or a quota; Retry-After says when to come again",
    _503="No room; Retry-After says when to come again",
)
"""Of every operation but health checks."""
BODY = refusals(
    _413="The body is too large",
    _422="Something was not understood, or is outside the limits",
    _507="The server has no space for files, or no folder",
)
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def describe(app: FastAPI, *, has_keys: bool) -> None:
    """Make the application describe its keys."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            if has_keys:
                schema["components"]["securitySchemes"] = SCHEMES
                for path, operations in schema["paths"].items():
                    for operation in operations.values():
                        is_open = path in HEALTH_PATHS
                        operation["security"] = [] if is_open else [{name: []} for name in SCHEMES]
            for name in ("HTTPValidationError", "ValidationError"):  # ours are refusals
                schema["components"]["schemas"].pop(name, None)
            for operations in schema["paths"].values():
                for operation in operations.values():
                    if "HTTPValidationError" in str(operation["responses"].get("422")):
                        del operation["responses"]["422"]  # a text of an address is never wrong
            for part in schema["components"]["schemas"].values():
                if part.get("additionalProperties") is False:  # a form
                    _without_null(part)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def allowed_methods(app: FastAPI, path: str) -> str:
    """All that may be done at an address; a router's own 405 names the first route's alone.

    An address that is named as it is, as /v1/live/offer, is none of /v1/live/{identifier}.
    """
    paths = app.openapi()["paths"]
    patterns = {known: re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(known)) for known in paths}
    fitting = (known for known, pattern in patterns.items() if re.fullmatch(pattern, path))
    operations = paths.get(path) or {name: 0 for known in fitting for name in paths[known]}
    return ", ".join(sorted(method.upper() for method in operations))


def _without_null(form: dict[str, Any]) -> None:
    """A form has no null: what is not said is left out."""
    for field in form["properties"].values():
        kinds = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
        if len(kinds) == 1:
            del field["anyOf"]
            field.update(kinds[0])
