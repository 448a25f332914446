"""<moda-face> in a real browser, on a page of another server that the operator allows.

Skipped where Chromium or playwright is not installed. MODA_CHROMIUM names another browser;
MODA_AXE is the file axe.min.js, from the package axe-core.
"""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from live_server import KEY, RunningServer, start_server, wait_until

from moda.speech_synthesis import espeak_is_installed
from paths import PORTRAIT

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = os.environ.get("MODA_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
AXE = Path(os.environ.get("MODA_AXE", "axe.min.js"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]
PATIENCE_MS = 120_000
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>A shop</title>
<link rel="icon" href="data:,"></head>
<body><main><h1>A shop</h1>
<script type="module" src="{server}/page/face.js"></script>
<moda-face key="{key}" poster="portrait.jpg"></moda-face>
</main></body></html>
"""
HEARD = """
    const connect = GainNode.prototype.connect;
    GainNode.prototype.connect = function (target, ...rest) {
        if (target === this.context.destination) {
            window.heard = new AnalyserNode(this.context, {fftSize: 2048});
            connect.call(this, window.heard);
        }
        return connect.call(this, target, ...rest);
    };
"""
LOUDNESS = """() => {
    const samples = new Float32Array(2048);
    window.heard.getFloatTimeDomainData(samples);
    return Math.max(...samples.map(Math.abs));
}"""
PIXELS = """() => {
    const canvas = document.querySelector('moda-face').shadowRoot.querySelector('canvas');
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    return [canvas.width, Array.from(data).filter((_, index) => index % 4 == 1)];
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, RunningServer]]:
    """Somebody's page, and the server that it embeds a face of."""
    folder = tmp_path_factory.mktemp("shop")
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        origin = f"http://127.0.0.1:{site.server_address[1]}"
        place = tmp_path_factory.mktemp("server")
        server = start_server(
            place, str(PORTRAIT), "--sessions", "1", "--size", "128", "--allow-origin", origin
        )
        shutil.copy(PORTRAIT, folder / "portrait.jpg")
        (folder / "index.html").write_text(PAGE.format(server=server.address, key=KEY))
        yield origin, server
        assert server.stop() == 143
        site.shutdown()
        thread.join()
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
def tab(shop: tuple[str, RunningServer]) -> Iterator[Any]:
    """The page, opened by a visitor."""
    problems: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: said.type == "error" and problems.append(said.text))
        page.add_init_script(HEARD)
        page.goto(f"{shop[0]}/index.html")
        yield page
        browser.close()
    assert problems == []


def frame_of(tab: Any) -> int:
    return tab.evaluate(
        "+(document.querySelector('moda-face').shadowRoot.querySelector('canvas').dataset.frame||0)"
    )


def test_two_lines_show_a_face_that_moves_and_speaks(
    tab: Any, shop: tuple[str, RunningServer]
) -> None:
    tab.get_by_role("button", name="Start").click()
    tab.wait_for_function(
        "document.querySelector('moda-face').shadowRoot.querySelector('canvas').dataset.frame"
    )
    assert not tab.get_by_role("button", name="Start").is_visible()
    if espeak_is_installed():
        tab.evaluate("document.querySelector('moda-face').say('Hello, my friends. How are you?')")
        loudest = 0.0
        pictures = []
        for _ in range(600):
            loudest = max(loudest, tab.evaluate(LOUDNESS))
            if loudest > 0.05:
                pictures.append(tab.evaluate(PIXELS))
            if len(pictures) == 5:
                break
            tab.wait_for_timeout(100)
        assert loudest > 0.05, "sound plays"
        assert {width for width, _ in pictures} == {128}
        moved = [
            sum(abs(a - b) > 12 for a, b in zip(earlier, later, strict=True))
            for (_, earlier), (_, later) in pairwise(pictures)
        ]
        assert max(moved) > 30, "the face moves"
    if os.environ.get("MODA_SHOTS"):
        tab.screenshot(path=f"{os.environ['MODA_SHOTS']}/face.png")
    tab.evaluate("document.querySelector('moda-face').interrupt()")
    tab.evaluate("document.querySelector('moda-face').stop()")
    assert tab.get_by_role("button", name="Start").is_visible()
    assert wait_until(lambda: shop[1].request("GET", "/v1/info").json()["free_sessions"] == 1)


def test_a_transparent_face_shows_the_page_behind(
    tab: Any, shop: tuple[str, RunningServer]
) -> None:
    tab.evaluate("document.querySelector('moda-face').setAttribute('transparent', '')")
    tab.evaluate("document.querySelector('moda-face').start()")
    tab.wait_for_function(
        "document.querySelector('moda-face').shadowRoot.querySelector('canvas').dataset.frame"
    )
    alpha = tab.evaluate(PIXELS.replace("index % 4 == 1", "index % 4 == 3"))[1]
    assert (alpha[0], alpha[len(alpha) // 2 + 64]) == (0, 255), "corner and face"
    behind = "document.querySelector('moda-face').shadowRoot.querySelector('canvas').style"
    assert tab.evaluate(f"{behind}.backgroundImage") == "", "no poster shines through"
    tab.evaluate("document.querySelector('moda-face').stop()")
    assert wait_until(lambda: shop[1].request("GET", "/v1/info").json()["free_sessions"] == 1)


def test_it_can_be_started_again_and_says_why_it_cannot(
    tab: Any, shop: tuple[str, RunningServer]
) -> None:
    first = tab.evaluate("document.querySelector('moda-face').start()")
    assert (first["type"], first["width"]) == ("started", 128)
    tab.evaluate("document.querySelector('moda-face').stop()")
    assert wait_until(lambda: shop[1].request("GET", "/v1/info").json()["free_sessions"] == 1)
    why = tab.evaluate(
        """async () => {
            const face = document.querySelector('moda-face');
            face.setAttribute('portrait', 'nobody');
            return face.start().catch((error) => error.message);
        }"""
    )
    assert "no portrait 'nobody'" in why
    assert "nobody" in tab.get_by_role("status").inner_text()
    assert tab.get_by_role("button", name="Start").is_visible()


def test_the_video_client_works_from_another_origin(
    tab: Any, shop: tuple[str, RunningServer]
) -> None:
    made = tab.evaluate(
        """async ([server, key]) => {
            const {VideoClient} = await import(`${server}/page/client.js`);
            const client = new VideoClient(server, {key});
            const portrait = await (await fetch('portrait.jpg')).blob();
            const samples = new DataView(new ArrayBuffer(44 + 16000));
            'RIFF....WAVEfmt ....'.split('').forEach((c, k) => samples.setUint8(k, c.charCodeAt()));
            samples.setUint32(4, 36 + 16000, true);
            samples.setUint32(16, 16, true);
            samples.setUint16(20, 1, true);
            samples.setUint16(22, 1, true);
            samples.setUint32(24, 16000, true);
            samples.setUint32(28, 32000, true);
            samples.setUint16(32, 2, true);
            samples.setUint16(34, 16, true);
            'data'.split('').forEach((c, k) => samples.setUint8(36 + k, c.charCodeAt()));
            samples.setUint32(40, 16000, true);
            const speech = new Blob([samples.buffer]);
            const form = {portrait, speech, size: 64};
            const first = await client.request(form, {idempotencyKey: 'one'});
            const again = await client.request(form, {idempotencyKey: 'one'});
            const listed = await client.list();
            await client.remove(first.id);
            const seen = [];
            const video = await client.make(form, {onProgress: (share) => seen.push(share)});
            const head = new Uint8Array(await video.slice(4, 8).arrayBuffer());
            return [first.id === again.id, listed.length, seen.at(-1),
                    String.fromCharCode(...head), (await client.list()).length];
        }""",
        [shop[1].address, KEY],
    )
    assert made == [True, 1, 1, "ftyp", 0]


@pytest.mark.skipif(not AXE.is_file(), reason="MODA_AXE names no axe.min.js")
def test_axe_finds_nothing(tab: Any) -> None:
    for state in ("idle", "started"):
        if state == "started":
            tab.evaluate("document.querySelector('moda-face').start()")
        tab.add_script_tag(path=str(AXE))
        found = tab.evaluate("axe.run()")
        assert found["violations"] == [], state
        assert found["passes"]
