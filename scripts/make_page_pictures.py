"""Make the pictures of the pages for the documentation, in headless Chromium.

    python scripts/make_page_pictures.py                 docs/images/web-*.jpg and live-*.jpg, and
                                                         the time to the first video
    python scripts/make_page_pictures.py --all FOLDER    every tab and panel, by day and by night
    python scripts/make_page_pictures.py --all FOLDER --axe axe.min.js    and what axe-core finds

Needs the extras web and serve, playwright and Chromium (MODA_CHROMIUM names another browser).
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
PORTRAIT = str(ROOT / "examples" / "portraits" / "mona_lisa.jpg")
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
SCHEMES = {"day": "light", "night": "dark"}
PATIENCE_MS = 240_000
PLAYS = "document.querySelector('#result video')?.currentTime > 0"
FIRST_VIDEO = ROOT / "benchmarks" / "results" / "page.json"


def start(tab: Any) -> None:
    """The page as it is opened."""


def text(tab: Any) -> None:
    tab.get_by_role("tab", name="Text").first.click()


def more(tab: Any) -> None:
    tab.get_by_role("button", name="More:").click()
    tab.wait_for_timeout(500)


def dub(tab: Any) -> None:
    tab.get_by_role("tab", name="Dub a video").click()


def dub_more(tab: Any) -> None:
    dub(tab)
    tab.locator("#dub-more button").first.click()
    tab.wait_for_timeout(500)


def follow(tab: Any) -> None:
    tab.get_by_role("tab", name="Follow a video").click()


def follow_more(tab: Any) -> None:
    follow(tab)
    tab.locator("#reenact-more button").first.click()
    tab.wait_for_timeout(500)


def hover(tab: Any) -> None:
    tab.get_by_role("button", name="Photograph").hover()
    tab.wait_for_timeout(900)


def failed(tab: Any) -> None:
    tab.click("#generate")
    tab.wait_for_selector("#status [role=alert]")
    tab.wait_for_timeout(500)


def playing(tab: Any) -> None:
    make_first_video(tab)
    tab.wait_for_timeout(1000)


STATES: dict[str, Callable[[Any], None]] = {
    "start": start, "hover": hover, "text": text, "more": more, "dub": dub, "dub-more": dub_more,
    "follow": follow, "follow-more": follow_more, "failed": failed, "playing": playing,
}  # fmt: skip
"""What a visitor of the page does before the picture is taken."""


def alive(tab: Any) -> None:
    tab.wait_for_selector("#preview:not([hidden])")


def live_more(tab: Any) -> None:
    alive(tab)
    tab.click("summary")


def live_failed(tab: Any) -> None:
    tab.select_option("#source", "file")
    tab.click("#start")
    tab.wait_for_selector("#problem:not([hidden])")


def speaking(tab: Any) -> None:
    alive(tab)
    tab.select_option("#source", "file")
    tab.set_input_files("#file", ROOT / "examples" / "speech.wav")
    tab.click("#start")
    tab.wait_for_selector("#state[data-state=speaking]")
    tab.wait_for_timeout(2000)


def addresses(tab: Any) -> None:
    tab.goto(tab.url + "api")
    tab.wait_for_selector("#list section")


LIVE_STATES: dict[str, Callable[[Any], None]] = {
    "live": alive, "live-more": live_more, "live-failed": live_failed, "live-speaking": speaking,
    "live-api": addresses,
}  # fmt: skip
"""What a visitor of the live page does."""
EVERY = [*STATES, *LIVE_STATES]


def main() -> int:
    """Take the pictures; exit code 1 where axe has found something."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", type=Path, metavar="FOLDER")
    parser.add_argument("--states", nargs="+", choices=EVERY, default=EVERY)
    parser.add_argument("--axe", type=Path, help="axe.min.js of the npm package axe-core")
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(),
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
        )
        if arguments.all:
            axe = arguments.axe.read_text(encoding="utf-8") if arguments.axe else None
            found = look_at_all(browser, arguments.all, arguments.states, axe)
            print(json.dumps(found, indent=1))
            return int(bool(found))
        rows = []
        for size, (width, height) in SIZES.items():
            with served("web") as url, visit(browser, url, size, "day") as tab:
                seconds = make_first_video(tab)
                rows.append({"window": f"{width} x {height}", "clicks": 2, "seconds": seconds})
                tab.wait_for_timeout(1000)
                keep(tab, IMAGES / f"web-{size}.jpg")
            with served("serve", PORTRAIT) as url, visit(browser, url, size, "day") as tab:
                alive(tab)  # at once, because it soon blinks
                keep(tab, IMAGES / f"live-{size}.jpg")
        keep_first_video(rows, browser.version)
    return 0


def make_first_video(tab: Any) -> float:
    """An example, then the button: seconds from the opening of the page to a playing video."""
    tab.get_by_role("button", name="Painting").click()
    tab.wait_for_selector("#portrait img")
    tab.click("#generate")
    tab.wait_for_function(PLAYS)
    return round(tab.evaluate("performance.now()") / 1000, 1)


def keep_first_video(rows: list[dict[str, Any]], browser: str) -> None:
    """Store what was measured of first videos, and with what."""
    measured = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "versions": {"Gradio": version("gradio"), "Chromium": browser},
        "load_average": round(os.getloadavg()[0], 1),
        "rows": rows,
    }
    FIRST_VIDEO.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=1))


def look_at_all(
    browser: Any, folder: Path, states: list[str], axe: str | None
) -> dict[str, list[str]]:
    """A picture of everything; what axe finds, by picture."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for server, acts in ((("web",), STATES), (("serve", PORTRAIT), LIVE_STATES)):
        chosen = [state for state in states if state in acts]
        if not chosen:
            continue
        with served(*server) as url:
            for size, scheme, state in itertools.product(SIZES, SCHEMES, chosen):
                name = f"{state}-{size}-{scheme}"
                with visit(browser, url, size, scheme) as tab:
                    acts[state](tab)
                    tab.screenshot(path=folder / f"{name}.png", full_page=True)
                    faults = findings(tab, axe) if axe else []
                if faults:
                    found[name] = faults
                print(name, faults, flush=True)
    return found


def findings(tab: Any, axe: str) -> list[str]:
    """Rules that axe-core finds broken, and where."""
    tab.evaluate(axe)
    result = tab.evaluate("axe.run()")
    return [
        f"{fault['id']}: {' '.join(map(str, node['target']))}"
        for fault in result["violations"]
        for node in fault["nodes"]
    ]


def keep(tab: Any, path: Path) -> None:
    """Save what is seen as a JPEG."""
    Image.open(io.BytesIO(tab.screenshot())).convert("RGB").save(path, quality=85, optimize=True)


@contextmanager
def visit(browser: Any, url: str, size: str, scheme: str) -> Iterator[Any]:
    """A page that a new visitor has opened."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=SCHEMES[scheme]
    )
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE_MS)
    tab.goto(url)
    tab.wait_for_selector("#generate, #start, main")
    tab.wait_for_selector(".loading", state="detached")
    tab.wait_for_timeout(1000)
    yield tab
    context.close()


@contextmanager
def served(command: str, *arguments: str) -> Iterator[str]:
    """``moda web`` or ``moda serve`` on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    server = subprocess.Popen(
        [sys.executable, "-m", "moda", command, *arguments, "--port", str(port)]
    )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}healthz", timeout=5)
                break
            except OSError:
                time.sleep(0.5)
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()


def chromium() -> str | None:
    """The browser; None is playwright's own."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("MODA_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


if __name__ == "__main__":
    sys.exit(main())
