"""The container files, as far as they can be checked without building them."""

from __future__ import annotations

import re
import shlex

import pytest
import typer
import yaml

from paths import ROOT


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """(INSTRUCTION, arguments) in order, with continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = [line.strip().split(None, 1) for line in joined.splitlines()]
    assert all(len(pair) == 2 for pair in pairs)
    return [(name, rest) for name, rest in pairs]


def all_of(instructions: list[tuple[str, str]], name: str) -> list[str]:
    return [rest for one, rest in instructions if one == name]


class TestDockerfile:
    def test_only_known_instructions(self, instructions: list[tuple[str, str]]) -> None:
        known = {
            "FROM", "RUN", "COPY", "ENV", "WORKDIR", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT",
            "CMD",
        }  # fmt: skip
        assert {name for name, _ in instructions} <= known

    def test_base_is_pinned_and_a_supported_python(
        self, instructions: list[tuple[str, str]]
    ) -> None:
        bases = {rest.split(" AS ")[0] for rest in all_of(instructions, "FROM")}
        (base,) = bases
        version = re.fullmatch(r"python:3\.(\d+)\.\d+-slim-\w+", base)
        assert version is not None
        assert 11 <= int(version[1]) <= 14

    def test_what_is_copied_exists_and_is_sent_to_the_builder(
        self, instructions: list[tuple[str, str]]
    ) -> None:
        sent = [
            line[1:]
            for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
            if line.startswith("!")
        ]
        for rest in all_of(instructions, "COPY"):
            if rest.startswith("--from="):
                continue
            for source in shlex.split(rest)[:-1]:
                assert (ROOT / source).exists(), source
                assert source in sent, f"{source} is left out by .dockerignore"
        copied = {s for rest in all_of(instructions, "COPY") for s in shlex.split(rest)[:-1]}
        assert set(sent) <= copied, "nothing is sent that is not copied"

    def test_what_hatchling_needs_is_there(self, instructions: list[tuple[str, str]]) -> None:
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        copied = {s for rest in all_of(instructions, "COPY") for s in shlex.split(rest)[:-1]}
        assert {"README.md", "LICENSE", "NOTICE", "src", "pyproject.toml"} <= copied
        for extra in re.findall(r"\.\[(\w+)\]", " ".join(all_of(instructions, "RUN"))):
            assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra

    def test_it_runs_without_rights_and_without_secrets(
        self, instructions: list[tuple[str, str]]
    ) -> None:
        users = all_of(instructions, "USER")
        assert users
        assert users[-1] not in ("root", "0")
        last_user = max(i for i, (name, _) in enumerate(instructions) if name == "USER")
        assert all(name != "COPY" for name, _ in instructions[last_user:])
        text = "\n".join(rest for _, rest in instructions).lower()
        assert not re.search(r"password|secret|token|api_?key", text)

    def test_it_starts_a_command_that_exists(self, instructions: list[tuple[str, str]]) -> None:
        from moda.cli import app

        assert all_of(instructions, "ENTRYPOINT") == ['["moda"]']
        name, *options = yaml.safe_load(all_of(instructions, "CMD")[-1])
        group = typer.main.get_command(app)
        command = group.load(name)  # type: ignore[attr-defined]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {option for option in options if option.startswith("--")} <= known

    def test_health_is_asked_at_the_port_that_is_served(
        self, instructions: list[tuple[str, str]]
    ) -> None:
        port = all_of(instructions, "EXPOSE")[-1]
        assert f"127.0.0.1:{port}/" in all_of(instructions, "HEALTHCHECK")[-1]
        assert port in yaml.safe_load(all_of(instructions, "CMD")[-1])
        question = re.search(r"CMD (\[.*\])$", all_of(instructions, "HEALTHCHECK")[-1])
        assert question is not None
        program = yaml.safe_load(question[1])
        compile(program[-1], "healthcheck", "exec")


@pytest.fixture(scope="module")
def service() -> dict[str, object]:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    assert list(compose["services"]) == ["web"]
    return compose["services"]["web"]


class TestCompose:
    def test_only_this_computer_reaches_it(
        self, service: dict[str, object], instructions: list[tuple[str, str]]
    ) -> None:
        (port,) = service["ports"]  # type: ignore[misc]
        address, _, inside = str(port).rpartition(":")
        assert address.startswith("127.0.0.1:")
        assert inside == all_of(instructions, "EXPOSE")[-1]

    def test_limits(self, service: dict[str, object]) -> None:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert {"mem_limit", "pids_limit", "tmpfs"} <= set(service)

    def test_login_comes_from_outside(self, service: dict[str, object]) -> None:
        from moda.web.settings import LOGIN_VARIABLE

        assert service["environment"] == {LOGIN_VARIABLE: None}
