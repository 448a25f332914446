"""The OpenAPI description against what is really answered."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from in_process import Ask, serve
from live_server import KEY, start_server

from moda.options import OPTIONS
from moda.serving.videos.forms import FORM_OPTIONS

SCHEMATHESIS = os.environ.get("MODA_SCHEMATHESIS") or shutil.which("schemathesis")


def description(**settings: Any) -> dict[str, Any]:
    async def ask(app: Any, request: Ask) -> dict[str, Any]:
        return (await request("GET", "/openapi.json")).json()

    return serve(ask, **settings)


def test_keys_are_told_where_they_are_needed() -> None:
    told = description(api_keys=(KEY,))
    assert set(told["components"]["securitySchemes"]) == {"bearer", "header"}
    assert told["paths"]["/healthz"]["get"]["security"] == []
    assert told["paths"]["/v1/videos"]["post"]["security"] == [{"bearer": []}, {"header": []}]
    assert "securitySchemes" not in description()["components"]


def test_every_operation_tells_its_refusals_in_one_form() -> None:
    told = description(api_keys=(KEY,))
    refusal = {"$ref": "#/components/schemas/Refusal"}
    for path, operations in told["paths"].items():
        for method, operation in operations.items():
            answers = operation["responses"]
            assert {"403", "421"} <= set(answers), path
            assert ({"401", "429", "503"} <= set(answers)) or path in ("/healthz", "/readyz")
            for status, answer in answers.items():
                if status >= "400" and (path, status) != ("/readyz", "503"):
                    assert answer["content"]["application/json"]["schema"] == refusal
            if "requestBody" in operation:
                assert {"413", "422", "507"} <= set(answers), (method, path)


def test_fields_have_limits_and_no_null() -> None:
    told = description()
    (form,) = [
        schema
        for schema in told["components"]["schemas"].values()
        if "idempotency" not in schema and "lips_only" in schema.get("properties", {})
    ]
    for name in FORM_OPTIONS:
        field, option = form["properties"][name], OPTIONS[name].option
        assert field["description"]
        assert "null" not in str(field.get("anyOf", ""))
        assert field.get("minimum") == option.low
    assert form["properties"]["seed"]["type"] == "integer"
    assert form["additionalProperties"] is False


def test_other_methods_are_refused_with_all_that_there_are() -> None:
    async def ask(app: Any, request: Ask) -> list[str]:
        paths = ("/v1/videos", "/v1/videos/x", "/v1/live/offer", "/v1/live/portraits")
        answers = [await request("PUT", path) for path in paths]
        assert [answer.status_code for answer in answers] == [405] * 4
        return [answer.headers["allow"] for answer in answers]

    assert serve(ask) == ["GET, POST", "DELETE, GET", "POST", "POST"]


@pytest.mark.slow
@pytest.mark.skipif(SCHEMATHESIS is None, reason="schemathesis is not installed")
def test_schemathesis_finds_no_difference(tmp_path: Path) -> None:
    """In an environment of its own: pipx install schemathesis."""
    assert SCHEMATHESIS is not None
    server = start_server(tmp_path, "--requests-per-minute", "1000000")
    try:
        done = subprocess.run(
            [
                *(SCHEMATHESIS, "--config-file", Path(__file__).parent / "schemathesis.toml"),
                *("run", f"{server.address}/openapi.json", "-H", f"Authorization: Bearer {KEY}"),
                *("--phases", "examples,coverage,fuzzing", "--max-examples", "20", "--seed", "1"),
                *("--request-timeout", "60"),
            ],
            capture_output=True,
            check=False,
            text=True,
            cwd=tmp_path,
        )
    finally:
        assert server.stop() == 143
    assert done.returncode == 0, done.stdout[-8000:]
    assert "Traceback" not in server.log.read_text()
