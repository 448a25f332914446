"""The page as programs meet it: no browser, real HTTP, Gradio's own client."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import httpx
import numpy as np
import pytest

from media_files import decode_video
from moda.encoders.style import encode_style
from moda.errors import InputError, MediaError
from moda.pipeline import TalkingHead
from moda.web.layout import Kind, input_names
from moda.web.making import VideoMaker
from moda.web.settings import WebSettings
from moda.web.text import TextSpeaker
from paths import EXAMPLES, PORTRAIT

gradio_client = pytest.importorskip("gradio_client", reason="the extra web is not installed")

from web_serving import Served, forget, served  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:gradio", "ignore::ResourceWarning"
)


@pytest.fixture(scope="module")
def page(head: TalkingHead, silent_speaker: TextSpeaker) -> Iterator[Served]:
    settings = WebSettings(port=0, max_seconds=4.0, max_upload_mib=1, max_waiting=1)
    with served(head, silent_speaker, settings) as running:
        yield running


@pytest.fixture
def client(page: Served) -> Iterator[gradio_client.Client]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = gradio_client.Client(page.url, verbose=False, analytics_enabled=False)
    yield client
    client.close()
    del client
    forget()


def inputs(portrait: Path | None, speech: Path | None, **changes: object) -> list[object]:
    """Values in the order of the page: small, one step."""
    values = {
        "portrait": None if portrait is None else gradio_client.handle_file(str(portrait)),
        "speech": None if speech is None else gradio_client.handle_file(str(speech)),
        "emotion": "happy", "intensity": 0.5, "seed": 3, "full_frame": True, "size": 128,
        "frames_per_second": 25, "blink": True, "num_steps": 1, "gaze": "usual",
        "lips_only": False, **changes,
    }  # fmt: skip
    names = input_names("mesh")
    assert set(values) <= set(names)
    return [values.get(name) for name in names]


def test_a_video_from_upload_to_download(
    page: Served, client: gradio_client.Client, two_seconds: Path
) -> None:
    job = client.submit(*inputs(PORTRAIT, two_seconds), api_name="/generate")
    result = job.result(timeout=600)
    said = [update[1] for update in job.outputs()]
    assert any("Looking at the portrait" in line for line in said)
    assert "Done: 2.0 s of video" in said[-1]
    values = [value.get("value") if isinstance(value, dict) else value for value in result]
    (file,) = (Path(value) for value in values if str(value).endswith(".mp4"))
    video = decode_video(file)
    assert len(video.frames) == 50
    assert video.metadata["synthetic_media"] == "true"
    assert video.frames[0].shape == (128, 128, 3)
    assert page.videos_in_the_making() == []
    client.predict(*inputs(PORTRAIT, two_seconds), api_name="/generate")
    (runs,) = page.streams.values()
    assert len(runs) == 1, "pieces of the video before are forgotten"


def test_words_lips_and_a_driving_video(
    head: TalkingHead, client: gradio_client.Client, two_seconds: Path, tmp_path: Path
) -> None:
    """The page makes what the same options make; but its video is encoded in pieces."""
    driving = tmp_path / "driving.mp4"
    head.generate(PORTRAIT, two_seconds, size=128, num_steps=1, head_motion=2.0).write(driving)
    changes = {
        "emotion": "none", "style": "a little tired, lively",
        "blink_rate": 50, "gaze": "camera", "lips_only": True,
        "driving": gradio_client.handle_file(str(driving)),
    }  # fmt: skip
    result = client.predict(*inputs(PORTRAIT, two_seconds, **changes), api_name="/generate")
    values = [value.get("value") if isinstance(value, dict) else value for value in result]
    (file,) = (Path(value) for value in values if str(value).endswith(".mp4"))
    delivery = encode_style("a little tired, lively")
    wanted = head.generate(
        PORTRAIT, two_seconds, style=delivery.style, size=128, seed=3, num_steps=1,
        head_motion=delivery.head_motion, expression=delivery.expression, blink_rate=50,
        gaze="camera", lips_only=True, driving=driving,
    )  # fmt: skip
    assert delivery.style.schedule[0].emotion == "sad"
    plain = head.generate(PORTRAIT, two_seconds, size=128, seed=3, num_steps=1)
    made = np.stack(decode_video(file).frames).astype(float)
    distances = []
    for video in (wanted, plain):
        path = tmp_path / "again.mp4"
        video.write(path)
        distances.append(np.abs(made - np.stack(decode_video(path).frames)).mean())
    assert distances[0] < 0.6 * distances[1]
    assert distances[1] > 2.0


@pytest.fixture(scope="module")
def clip(head: TalkingHead, two_seconds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small video of a face that talks."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    head.generate(PORTRAIT, two_seconds, size=192, num_steps=1, full_frame=False).write(path)
    return path


def of_kind(kind: Kind, **files: Path | None) -> list[object]:
    """Values of another kind of video: files, and options as they are."""
    usual = {"full_frame": True, "frames_per_second": 25, "loop": False}
    given = {
        name: None if path is None else gradio_client.handle_file(str(path))
        for name, path in files.items()
    }
    return [(usual | given).get(name) for name in input_names("mesh", kind)]


def test_a_video_is_dubbed(
    page: Served, client: gradio_client.Client, clip: Path, two_seconds: Path
) -> None:
    job = client.submit(*of_kind("dub", footage=clip, speech=two_seconds), api_name="/dub")
    assert "Done: 2.0 s of video" in job.result(timeout=600)[1]
    assert any("Following the face in the video" in update[1] for update in job.outputs())
    assert page.videos_in_the_making() == []


def test_a_portrait_follows_a_video(client: gradio_client.Client, clip: Path) -> None:
    values = of_kind("reenact", portrait=PORTRAIT, footage=clip)
    assert "Done: 2.0 s of video" in client.predict(*values, api_name="/reenact")[1]


@pytest.mark.parametrize(
    ("kind", "missing", "says"),
    [
        ("dub", "footage", "There is no video yet"),
        ("dub", "speech", "There is no speech yet"),
        ("reenact", "portrait", "There is no portrait yet"),
    ],
)
def test_other_kinds_say_what_is_missing(
    client: gradio_client.Client,
    clip: Path,
    two_seconds: Path,
    kind: Kind,
    missing: str,
    says: str,
) -> None:
    files = {"footage": clip, "speech": two_seconds, "portrait": PORTRAIT, missing: None}
    values = of_kind(kind, **files)
    with pytest.raises(Exception, match=says):
        client.predict(*values, api_name=f"/{kind}")


def test_speech_of_single_faces_has_the_limits_too(
    head: TalkingHead, two_seconds: Path, tmp_path: Path
) -> None:
    asked: dict[str, object] = dict.fromkeys(input_names("mesh"))
    asked |= {"portrait": str(PORTRAIT), "speech_1": str(two_seconds), "blink": True}
    asked |= {"full_frame": True, "frames_per_second": 25, "in_turns": False, "size": "64"}
    asked |= {"emotion": "none", "intensity": 0.5}
    for limit, refused in ((1.0, True), (3.0, False)):
        maker = VideoMaker(head, WebSettings(max_seconds=limit), TextSpeaker(None), None)
        with pytest.raises(MediaError, match="limit of 1 s") if refused else nullcontext():
            video = maker.begin("generate", asked, tmp_path, lambda done, total: None)
            assert video.num_frames == 50


@pytest.mark.parametrize("kind", ["dub", "reenact"])
def test_videos_have_the_limits_of_speech(
    head: TalkingHead, clip: Path, two_seconds: Path, tmp_path: Path, kind: Kind
) -> None:
    maker = VideoMaker(head, WebSettings(max_seconds=1.0), TextSpeaker(None), None)
    asked = dict.fromkeys(input_names("mesh", kind)) | {"footage": str(clip)}
    asked |= {"speech" if kind == "dub" else "portrait": str(two_seconds)}
    with pytest.raises(InputError, match=r"length of the video in s 2 is outside 0\.\.1"):
        maker.begin(kind, asked, tmp_path, lambda done, total: None)


@pytest.mark.parametrize(
    ("portrait", "changes", "says"),
    [
        (None, {}, "There is no portrait yet"),
        (PORTRAIT, {"face": 5}, "face 5"),
        (PORTRAIT, {"blink_rate": 90}, "90"),
        (PORTRAIT, {"text": "Hello"}, "a recording and a text; remove one"),
        (EXAMPLES / "README.md", {}, r"README\.md is not a picture"),
    ],
)
def test_errors_are_one_clear_line(
    client: gradio_client.Client,
    two_seconds: Path,
    portrait: Path | None,
    changes: dict[str, object],
    says: str,
) -> None:
    with pytest.raises(Exception, match=says) as caught:
        client.predict(*inputs(portrait, two_seconds, **changes), api_name="/generate")
    assert "/tmp" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_speech_beyond_the_limit(client: gradio_client.Client, five_seconds: Path) -> None:
    with pytest.raises(Exception, match="more than the limit of 4 s"):
        client.predict(*inputs(PORTRAIT, five_seconds), api_name="/generate")


def test_text_without_a_synthesiser_says_why(client: gradio_client.Client) -> None:
    with pytest.raises(Exception, match="install espeak-ng"):
        client.predict(*inputs(PORTRAIT, None, text="Hello"), api_name="/generate")


class TestDoors:
    def test_browsers_may_not_load_from_elsewhere(self, page: Served) -> None:
        answer = httpx.get(page.url)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "http" not in policy

    def test_uploads_beyond_the_limit(self, page: Served) -> None:
        url = f"{page.url}gradio_api/upload"
        answer = httpx.post(url, files={"files": ("big.wav", bytes(2 * 2**20))}, timeout=30)
        assert answer.status_code == 413
        assert not [path for path in page.folder.rglob("big.wav") if path.stat().st_size]

    @pytest.mark.parametrize("path", ["/etc/passwd", "../../../../etc/passwd", __file__])
    def test_files_of_the_computer_are_not_served(self, page: Served, path: str) -> None:
        answer = httpx.get(f"{page.url}gradio_api/file={path}")
        assert answer.status_code in (403, 404)

    def test_a_taken_port_is_one_clear_line(
        self, page: Served, head: TalkingHead, silent_speaker: TextSpeaker
    ) -> None:
        port = httpx.URL(page.url).port or 0
        with (
            pytest.raises(InputError, match=f"cannot be served at 127.0.0.1:{port}"),
            served(head, silent_speaker, WebSettings(port=port)),
        ):
            raise AssertionError("two pages at one port")


def test_login(head: TalkingHead, silent_speaker: TextSpeaker) -> None:
    settings = WebSettings(port=0, login=("ada", "right"))
    with served(head, silent_speaker, settings) as page:
        assert httpx.get(f"{page.url}config").status_code == 401
        wrong = httpx.post(f"{page.url}login", data={"username": "ada", "password": "wrong"})
        assert wrong.status_code == 400
        with httpx.Client() as visitor:
            entered = visitor.post(
                f"{page.url}login", data={"username": "ada", "password": "right"}
            )
            assert entered.status_code == 200
            assert visitor.get(f"{page.url}config").status_code == 200


def test_a_client_that_leaves_stops_the_work(
    head: TalkingHead, silent_speaker: TextSpeaker, five_seconds: Path
) -> None:
    with served(head, silent_speaker, WebSettings(port=0)) as page:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client = gradio_client.Client(page.url, verbose=False, analytics_enabled=False)
        job = client.submit(*inputs(PORTRAIT, five_seconds, size=720), api_name="/generate")
        wait_until(lambda: bool(page.videos_in_the_making()))
        job.cancel()
        wait_until(lambda: not page.videos_in_the_making())
        client.close()


def wait_until(condition: object, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)
