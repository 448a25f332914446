"""The page in a real browser: headless Chromium does what a visitor does.

Skipped where Chromium or playwright is not installed. MODA_CHROMIUM names another browser.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from moda.pipeline import TalkingHead
from moda.web.settings import WebSettings
from moda.web.text import TextSpeaker
from paths import EXAMPLES

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("gradio", reason="the extra web is not installed")

from web_serving import Served, served  # noqa: E402

CHROMIUM = os.environ.get("MODA_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio", "ignore::ResourceWarning"),
]
PATIENCE_MS = 120_000
PLAYER = "document.querySelector('#result video')"


@pytest.fixture(scope="module")
def page(head: TalkingHead, silent_speaker: TextSpeaker) -> Iterator[Served]:
    with served(head, silent_speaker, WebSettings(port=0)) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any, page: Served) -> Iterator[Any]:
    """The page, opened by a visitor without a network; what it asks of others is an error."""
    elsewhere: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE_MS)

    def only_here(route: Any) -> None:
        if route.request.url.startswith(page.url):
            route.continue_()
        else:
            elsewhere.append(route.request.url)
            route.abort()

    tab.route("http*://**", only_here)
    tab.goto(page.url)
    tab.wait_for_selector("#generate")
    yield tab
    context.close()
    assert elsewhere == []


def upload(tab: Any, portrait: Path, speech: Path) -> None:
    tab.set_input_files("#portrait input[type=file]", portrait)
    tab.wait_for_selector("#portrait img")
    tab.set_input_files("#speech input[type=file]", speech)
    tab.wait_for_selector("#speech [aria-label='Play'], #speech .waveform-container")


def wait_for_status(tab: Any, words: str) -> None:
    tab.wait_for_function(
        "words => document.querySelector('#status').innerText.includes(words)", arg=words
    )


def test_upload_generate_watch_play_download(
    visit: Any, page: Served, five_seconds: Path, tmp_path: Path
) -> None:
    upload(visit, EXAMPLES / "portrait.jpg", five_seconds)
    visit.click("#generate")
    wait_for_status(visit, "of 125 frames")
    shares = []
    while "Done" not in visit.inner_text("#status"):
        bar = visit.locator("#status [role=progressbar]")
        if bar.count():
            shares.append(int(bar.get_attribute("aria-valuenow") or 0))
        visit.wait_for_timeout(100)
    assert shares == sorted(shares)
    assert len(set(shares)) >= 2, "progress is seen"
    visit.wait_for_function("!document.querySelector('#generate').disabled")
    assert visit.is_disabled("#stop")

    visit.wait_for_function(f"{PLAYER} && {PLAYER}.readyState >= 2")
    assert visit.evaluate(f"{PLAYER}.duration") == pytest.approx(5.0, abs=0.1)
    assert visit.evaluate(f"{PLAYER}.error") is None
    visit.evaluate(f"{PLAYER}.pause()")
    pictures = [frame_at(visit, seconds) for seconds in (0.5, 1.0, 2.0)]
    for earlier, later in pairwise(pictures):
        moved = sum(abs(a - b) > 12 for a, b in zip(earlier, later, strict=True))
        assert moved > 100, "the face moves"
    assert max(pictures[0]) > 200, "and is no black picture"

    with visit.expect_download() as download:
        visit.click("#download")
    file = tmp_path / "download.mp4"
    download.value.save_as(file)
    with av.open(str(file)) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}
        assert sum(1 for _ in container.decode(video=0)) == 125
    assert visit.locator("#compared img").count() >= 2, "before and after"
    assert page.videos_in_the_making() == []


def frame_at(tab: Any, seconds: float) -> list[int]:
    """What the player shows at a time: green of every second pixel in the middle of the picture."""
    return tab.evaluate(
        """async seconds => {
            const video = document.querySelector('#result video');
            await new Promise(done => {
                video.addEventListener('seeked', done, {once: true});
                video.currentTime = seconds;
            });
            const canvas = document.createElement('canvas');
            canvas.width = canvas.height = 256;
            const context = canvas.getContext('2d');
            context.drawImage(video, 0, 0, 256, 256);
            const pixels = context.getImageData(64, 0, 128, 128).data;
            return Array.from(pixels).filter((_, index) => index % 8 == 1);
        }""",
        seconds,
    )


def test_it_plays_while_it_is_made_and_stops_when_asked(visit: Any, page: Served) -> None:
    visit.get_by_role("button", name="Painting").click()
    visit.wait_for_selector("#portrait img")
    visit.get_by_role("button", name="More:").click()
    visit.fill("#size input", "2000")
    visit.click("#generate")
    visit.wait_for_function(f"{PLAYER} && {PLAYER}.currentTime > 0.2")
    assert "frames" in visit.inner_text("#status")
    assert page.videos_in_the_making()
    visit.click("#stop")
    wait_for_status(visit, "Stopped")
    visit.wait_for_function("!document.querySelector('#generate').disabled")
    for _ in range(100):
        if not page.videos_in_the_making():
            break
        visit.wait_for_timeout(100)
    assert page.videos_in_the_making() == []
    assert visit.is_disabled("#download")


def test_words_and_a_driving_video_are_taken(
    visit: Any, head: TalkingHead, two_seconds: Path, tmp_path: Path
) -> None:
    driving = tmp_path / "driving.mp4"
    head.generate(EXAMPLES / "portrait.jpg", two_seconds, size=128, num_steps=1).write(driving)
    upload(visit, EXAMPLES / "portrait.jpg", two_seconds)
    visit.get_by_role("button", name="More:").click()
    visit.fill("#size input", "128")
    visit.fill("#style input", "warm, purple, nods")
    visit.fill("#blink-rate input", "30")
    visit.get_by_label("Lips only").check()
    visit.set_input_files("#driving input[type=file]", driving)
    visit.wait_for_selector("#driving >> text=driving")
    visit.click("#generate")
    visit.wait_for_selector("text=Not understood in the style: 'purple'")
    wait_for_status(visit, "Done: 2.0 s of video")


def test_errors_are_said_where_they_are_seen(visit: Any, tmp_path: Path) -> None:
    visit.click("#generate")
    wait_for_status(visit, "There is no portrait yet; add a picture with a face")
    assert visit.locator("#status [role=alert]").count() == 1
    damaged = tmp_path / "me.jpg"
    damaged.write_bytes((EXAMPLES / "portrait.jpg").read_bytes()[:9_000])
    upload(visit, damaged, EXAMPLES / "speech.wav")
    visit.click("#generate")
    wait_for_status(visit, "me.jpg is damaged")
    assert "/tmp" not in visit.inner_text("#status")
    assert not visit.is_disabled("#generate")


def test_text_is_disabled_with_the_reason(visit: Any) -> None:
    visit.get_by_role("tab", name="Text").click()
    box = visit.locator("#text textarea")
    assert box.is_disabled()
    assert "install espeak-ng" in visit.inner_text("#text")


def test_all_for_the_first_video_is_seen_at_once(visit: Any) -> None:
    visit.set_viewport_size({"width": 1280, "height": 800})
    for name in ("#portrait", "#speech", "#examples", "#generate", "#video", "#status", "#stop"):
        box = visit.locator(name).bounding_box()
        assert box["y"] + box["height"] <= 800, name


def test_several_faces_have_numbers(visit: Any, tmp_path: Path) -> None:
    portrait = cv2.imread(str(EXAMPLES / "portraits" / "hopper.jpg"))
    for name, copies in (("two.png", 2), ("one.png", 1)):
        cv2.imwrite(str(tmp_path / name), np.concatenate([portrait] * copies, axis=1))
    assert not visit.locator("#face").is_visible()
    visit.set_input_files("#portrait input[type=file]", tmp_path / "two.png")
    visit.wait_for_selector("#face input")
    visit.locator("#face input").fill("3")
    visit.set_input_files("#speech input[type=file]", EXAMPLES / "speech.wav")
    visit.wait_for_selector("#speech [aria-label='Play'], #speech .waveform-container")
    visit.click("#generate")
    wait_for_status(visit, "there is no face 3")


def test_each_face_has_a_recording_of_its_own(
    visit: Any, two_seconds: Path, tmp_path: Path
) -> None:
    portrait = cv2.imread(str(EXAMPLES / "portraits" / "hopper.jpg"))
    cv2.imwrite(str(tmp_path / "two.png"), np.concatenate([portrait, portrait], axis=1))
    visit.set_input_files("#portrait input[type=file]", tmp_path / "two.png")
    visit.wait_for_selector("#speech-2", state="visible")
    assert not visit.locator("#speech-3").is_visible()
    for name in ("#speech-1", "#speech-2"):
        visit.set_input_files(f"{name} input[type=file]", two_seconds)
        visit.wait_for_selector(f"{name} >> text={two_seconds.stem}")
    visit.get_by_label("One after the other").check()
    visit.get_by_role("button", name="More:").click()
    visit.fill("#size input", "128")
    visit.click("#generate")
    wait_for_status(visit, "Done: 4.4 s of video")
    visit.set_input_files("#speech input[type=file]", two_seconds)
    visit.wait_for_selector("#speech [aria-label='Play'], #speech .waveform-container")
    visit.click("#generate")
    wait_for_status(visit, "Faces have recordings of their own")


def test_nothing_is_wider_than_a_phone(browser: Any, page: Served) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True
    )
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE_MS)
    tab.goto(page.url)
    tab.wait_for_selector("#generate")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ("#portrait", "#speech", "#examples", "#generate", "#stop"):
        box = tab.locator(name).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert name == "#stop" or box["y"] + box["height"] <= 844, "without scrolling"
    context.close()
