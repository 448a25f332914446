"""What strangers may not do with the page: read files, use other names, fill the disk, wait."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from moda.pipeline import TalkingHead
from moda.web.layout import input_names
from moda.web.settings import WebSettings
from moda.web.text import TextSpeaker
from paths import EXAMPLES, PORTRAIT

pytest.importorskip("gradio", reason="the extra web is not installed")

from moda.web import uploads as uploads_of_web
from web_serving import Served, served

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:gradio", "ignore::ResourceWarning"
)
MEBI = 2**20
FILES = ("portrait", "speech", "driving")


@pytest.fixture(scope="module")
def page(head: TalkingHead, silent_speaker: TextSpeaker) -> Iterator[Served]:
    settings = WebSettings(
        port=0, max_seconds=4.0, max_upload_mib=1, allowed_origins=("https://talk.example.org",)
    )
    with served(head, silent_speaker, settings) as running:
        yield running


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private picture of this machine."""
    path = tmp_path_factory.mktemp("private") / "holiday.jpg"
    shutil.copy(PORTRAIT, path)
    return path


@contextmanager
def visitor(page: Served) -> Iterator[httpx.Client]:
    """Somebody with a browser, which keeps cookies."""
    with httpx.Client(base_url=page.url, timeout=60) as client:
        client.get("/")
        yield client


def upload(client: httpx.Client, content: bytes, name: str = "a.jpg") -> httpx.Response:
    return client.post("gradio_api/upload", files={"files": (name, content)})


def ask(client: httpx.Client, name: str, value: Any) -> tuple[int, str]:
    """Ask for a video with a value in one place; what is answered, to the end."""
    usual = {"emotion": "none", "intensity": 0.5, "full_frame": True, "frames_per_second": 25}
    data = [value if known == name else usual.get(known) for known in input_names("mesh")]
    functions = client.get("config").json()["dependencies"]
    index = next(entry["id"] for entry in functions if entry["api_name"] == "generate")
    body = {"data": data, "fn_index": index, "session_hash": os.urandom(6).hex()}
    joined = client.post("gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        return joined.status_code, joined.text
    said = ""
    address = f"gradio_api/queue/data?session_hash={body['session_hash']}"
    with client.stream("GET", address) as events:
        for line in events.iter_lines():
            said += line + "\n"
            if "process_completed" in line or "close_stream" in line:
                break
    return 200, said


def shapes(path: str) -> list[Any]:
    """The ways in which a client may name a file."""
    meta = {"_type": "gradio.FileData"}
    return [
        {"path": path},
        {"path": path, "meta": meta},
        {"path": path, "meta": None, "is_stream": True},
        {"path": path, "meta": meta, "is_stream": True, "url": "x"},
        [{"path": path, "meta": meta}],
        {"value": {"path": path, "meta": meta}, "__type__": "update"},
        {"image": {"path": path}, "path": None},
    ]


@pytest.mark.parametrize("name", FILES)
def test_no_file_of_the_machine_is_read(page: Served, secret: Path, name: str) -> None:
    with visitor(page) as client:
        mine = Path(upload(client, b"mine", "mine.jpg").json()[0])
        for path in (
            str(secret),
            f"file://{secret}",
            f"{mine.parent}/../../../../../../../../../../../..{secret}",
            os.path.relpath(secret),
            "/etc/shadow",
            "~/.ssh/id_rsa",
            str(secret.parent),
            str(mine.parent),
            f"{secret}\0.jpg",
            "",
        ):
            for value in shapes(path):
                status, said = ask(client, name, value)
                assert status == 403, (path, value, said)
                assert "only files that you have uploaded" in said
                assert str(secret) not in said


def test_other_kinds_of_videos_have_the_same_doors(page: Served, secret: Path) -> None:
    with visitor(page) as client:
        for kind in ("dub", "reenact"):
            for value in shapes(str(secret)):
                data = [value] + [None] * (len(input_names("mesh", kind)) - 1)
                answer = client.post(f"gradio_api/run/{kind}", json={"data": data})
                assert answer.status_code == 403, (kind, value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/x.jpg", "https://example.org/x.jpg"])
def test_no_address_is_fetched(page: Served, address: str) -> None:
    with visitor(page) as client:
        for value in shapes(address):
            assert ask(client, "portrait", value)[0] == 403
        for kind in ("file=", "file/", "proxy="):
            assert client.get(f"gradio_api/{kind}{address}").status_code in (403, 404)


def test_every_door_of_gradio_is_the_same(page: Served, secret: Path) -> None:
    data = [{"path": str(secret)}] + [None] * (len(input_names("mesh")) - 1)
    with visitor(page) as client:
        for path in ("run/generate", "api/generate", "call/generate", "run/generate/"):
            assert client.post(f"gradio_api/{path}", json={"data": data}).status_code == 403, path
        named = {"portrait": {"path": str(secret)}}
        assert client.post("gradio_api/call/v2/generate", json=named).status_code == 403
        for path in ("component_server", "process_recording", "vibe-edit", "vibe-code/"):
            assert client.post(f"gradio_api/{path}", json={}).status_code == 404, path
        assert client.get("monitoring").status_code == 404


def test_the_page_itself_takes_uploads_only(page: Served, secret: Path) -> None:
    """Behind the door there is another one."""
    uploads = uploads_of_web.Uploads(page.folder / "gradio" / "visitors", MEBI, ())
    assert not uploads.holds(secret)
    uploads.folder.mkdir(parents=True, exist_ok=True)
    link = uploads.folder / "link.jpg"
    link.symlink_to(secret)
    assert not uploads.holds(link)
    link.unlink()


def test_what_one_visitor_uploads_no_other_one_has(page: Served) -> None:
    content = PORTRAIT.read_bytes()
    with visitor(page) as one, visitor(page) as other, httpx.Client(base_url=page.url) as nobody:
        path = upload(one, content).json()[0]
        assert one.get(f"gradio_api/file={path}").content == content
        for client in (other, nobody):
            assert client.get(f"gradio_api/file={path}").status_code == 403
            assert ask(client, "portrait", {"path": path})[0] == 403
        assert ask(one, "portrait", {"path": path})[0] == 200


def test_examples_are_for_all_and_nothing_pretends_to_be_one(page: Served) -> None:
    with visitor(page) as one, visitor(page) as other:
        path = upload(one, (EXAMPLES / "portrait.jpg").read_bytes()[:-1], "portrait.jpg").json()[0]
        assert ask(other, "portrait", {"path": path})[0] == 403
        components = other.get("config").json()["components"]
        (dataset,) = (entry for entry in components if entry["type"] == "dataset")
        copy = dataset["props"]["samples"][0][0]
        if isinstance(copy, dict):
            copy = copy["path"]
        assert other.get(f"gradio_api/file={copy}").status_code == 200
        status, said = ask(other, "portrait", shapes(copy)[1])
        assert status == 200
        assert "There is no speech yet" in said


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.168.0.9", "[::"])
@pytest.mark.parametrize("path", ["", "config", "gradio_api/info", "gradio_api/upload", "healthz"])
def test_other_names_of_the_page_are_refused(page: Served, host: str, path: str) -> None:
    assert httpx.get(page.url + path, headers={"host": host}).status_code in (400, 421)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://["]
)
@pytest.mark.parametrize("path", ["gradio_api/upload", "gradio_api/queue/join", "login"])
def test_pages_of_others_are_refused(page: Served, origin: str, path: str) -> None:
    answer = httpx.post(page.url + path, headers={"origin": origin}, files={"files": ("a", b"b")})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    assert not list(page.folder.rglob("a"))


def test_a_proxys_name_and_origin_are_known_where_they_are_said(page: Served) -> None:
    told = {"host": "talk.example.org", "origin": "https://talk.example.org"}
    assert httpx.get(page.url + "config", headers=told).status_code == 200
    assert httpx.get(page.url, headers={"origin": page.url.rstrip("/")}).status_code == 200


def test_nobody_tells_the_page_what_it_is_called(page: Served) -> None:
    told = {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https"}
    assert "evil.example" not in httpx.get(page.url + "config", headers=told).text


def test_uploads_have_a_limit_in_total(page: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(MEBI)
    with visitor(page) as client:
        for number in range(20):
            last = upload(client, content, f"big{number}.wav")
            assert last.status_code == 200
        kept = list(page.folder.rglob("big*.wav"))
        assert len(kept) <= uploads_of_web.FILES_OF_ONE_ADDRESS
        assert last.json()[0] in map(str, kept), "the oldest made room"
        monkeypatch.setattr(uploads_of_web, "FILES_OF_ALL", 3)
        assert upload(client, content).status_code == 507


@pytest.mark.parametrize("tiny", [False, True])
def test_one_request_brings_no_more_than_one_file_may_have(page: Served, tiny: bool) -> None:
    before = len(list(page.folder.rglob("*")))
    parts = [("files", (f"part{k}", b"x" if tiny else bytes(MEBI // 2))) for k in range(5)]
    answer = httpx.post(page.url + "gradio_api/upload", files=parts * (400 if tiny else 1))
    assert answer.status_code in (400, 413)
    assert len(list(page.folder.rglob("part*"))) == 0
    assert len(list(page.folder.rglob("*"))) <= before + 2, "nothing half is left"

    def endless() -> Iterator[bytes]:
        yield b'--b\r\ncontent-disposition: form-data; name="files"; filename="p"\r\n\r\n'
        for _ in range(64):
            yield bytes(2**16)

    kind = {"content-type": "multipart/form-data; boundary=b"}
    answer = httpx.post(page.url + "gradio_api/upload", content=endless(), headers=kind)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "body",
    [b"", b"--b--", b"no form", b'--b\r\ncontent-disposition: form-data; name="files"\r\n\r\nx'],
)
def test_what_is_no_upload_is_no_bug(page: Served, body: bytes) -> None:
    kind = {"content-type": "multipart/form-data; boundary=b"}
    answer = httpx.post(page.url + "gradio_api/upload", content=body, headers=kind)
    assert answer.status_code in (200, 400)
    answer = httpx.post(page.url + "gradio_api/upload", content=body)
    assert answer.status_code == 400


def test_an_upload_that_breaks_off_leaves_nothing(page: Served) -> None:
    port = httpx.URL(page.url).port or 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            b"POST /gradio_api/upload HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 90000\r\n"
            b"content-type: multipart/form-data; boundary=b\r\n\r\n"
            b'--b\r\ncontent-disposition: form-data; name="files"; filename="lost"\r\n\r\nx'
        )
    files = [path for path in page.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if path.name.startswith("tmp") and path.stat().st_size]


@pytest.mark.parametrize("body", [b"[" * 100_000, b"no json", b'{"data":', b"\xff\xfe\0"])
def test_bodies_that_are_no_json(page: Served, body: bytes) -> None:
    answer = httpx.post(page.url + "gradio_api/queue/join", content=body)
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize("number", [99, -1, 2**70])
def test_functions_that_are_not_there_are_no_bug(
    page: Served, capfd: pytest.CaptureFixture[str], number: int
) -> None:
    body = {"data": [], "fn_index": number, "session_hash": "x"}
    answer = httpx.post(page.url + "gradio_api/queue/join", json=body)
    assert answer.status_code == 400
    assert answer.json() == {"detail": "the page does not understand this request"}
    named = httpx.post(page.url + "gradio_api/call/generate", json={"data": 5, "type": 3})
    assert named.status_code in (400, 422)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("intensity", "much"),
        ("intensity", None),
        ("intensity", [1]),
        ("emotion", "furious"),
        ("emotion", {"a": 1}),
        ("portrait", "x.jpg"),
        ("speech", 5),
        ("driving", [[]]),
    ],
)
def test_values_that_no_page_sends_are_no_bug(
    page: Served, capfd: pytest.CaptureFixture[str], name: str, value: Any
) -> None:
    with visitor(page) as client:
        status, said = ask(client, name, value)
    assert status == 200
    assert "a value cannot be used" in said or "not in the list of choices" in said
    assert "Traceback" not in capfd.readouterr().err


def test_a_huge_question_is_refused(page: Served) -> None:
    body = json.dumps({"data": ["x" * 300_000]})
    assert httpx.post(page.url + "gradio_api/queue/join", content=body).status_code == 413


def test_the_page_says_whether_it_is_well(page: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert httpx.get(page.url + "healthz").json() == {"status": "ok"}
    assert httpx.get(page.url + "readyz").json() == {"status": "ready"}
    usage = shutil._ntuple_diskusage(2**40, 2**40, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert httpx.get(page.url + "readyz").status_code == 503


def test_a_full_disk_is_one_clear_line(page: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device", "/secret/place")

    monkeypatch.setattr(uploads_of_web, "upload_fn", full)
    answer = upload(httpx.Client(base_url=page.url), b"x")
    assert answer.status_code == 507
    assert "/secret" not in answer.text


def test_attempts_to_log_in_are_counted(head: TalkingHead, silent_speaker: TextSpeaker) -> None:
    settings = WebSettings(port=0, login=("ada", "right"))
    wrong = {"username": "ada", "password": "wrong"}
    with served(head, silent_speaker, settings) as page:
        told = [httpx.post(page.url + "login", data=wrong).status_code for _ in range(14)]
        assert told[:10] == [400] * 10
        assert set(told[10:]) == {429}
        assert upload(httpx.Client(base_url=page.url), b"x").status_code == 401
        forged = {"cookie": "access-token-unsecure-x=y"}
        assert httpx.post(page.url + "gradio_api/upload", headers=forged).status_code == 401
