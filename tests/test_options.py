"""One request through every door gives the same options, and every option is at every door."""

from __future__ import annotations

import asyncio
import csv
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import typer
from rich.markup import render

import comfy_double
from media_files import EXAMPLES, tone, write_wav
from moda import cli
from moda.devices import one_torch_thread
from moda.encoders.style import delivery_of
from moda.errors import InputError
from moda.media import read_image
from moda.options import (
    MAX_SIZE_PX,
    OPTIONS,
    VISITOR_SIZE_PX,
    Command,
    FrameOptions,
    SpeakingOptions,
    VideoOptions,
    for_visitors,
    of_command,
    of_head,
    read_options,
)
from moda.pipeline import TalkingHead, loading
from moda.pipeline.batch import make_row, read_table
from moda.pipeline.jobs import VideoJob, begin_video, job_from_row, speak_text
from moda.serving.app import create_app
from moda.serving.metrics import Metrics
from moda.serving.settings import ServerSettings
from moda.serving.videos import worker
from moda.serving.videos.forms import FORM_OPTIONS, VideoForm
from moda.serving.videos.queue import VideoJobs
from moda.speech_synthesis import SpokenText, espeak_is_installed
from moda.structures import EmotionAt, Style
from moda.systems.embedded import EmbeddedSystem
from moda.web.text import TextSpeaker
from paths import load_file

PORTRAIT = EXAMPLES / "portrait.jpg"
ROOT = EXAMPLES.parent
needs_espeak = pytest.mark.skipif(not espeak_is_installed(), reason="espeak-ng is not installed")

REQUEST: dict[str, str] = {
    "style": "lively, a little tired", "emotion": "happy:0.5", "emotion_at": "0.2=sad:0.5",
    "head_motion": "1.0", "expression": "0.8", "blink": "no", "blink_rate": "30",
    "gaze": "camera", "lips_only": "yes", "seed": "7", "frames_per_second": "30", "size": "64",
    "background": "green", "face": "1", "num_steps": "1", "guidance_scale": "1.5",
}  # fmt: skip
"""All that every door offers, as texts; what is chosen stands against what the words say."""
VALUES: dict[str, Any] = {
    "blink": False, "lips_only": True, "seed": 7, "frames_per_second": 30.0, "size": 64,
    "head_motion": 1.0, "expression": 0.8, "blink_rate": 30.0, "gaze": "camera", "face": 1,
    "num_steps": 1, "guidance_scale": 1.5, "background": "green",
}  # fmt: skip
"""The same as widgets have them, but for emotions and words."""
Heard = list[tuple[FrameOptions, SpeakingOptions]]


@pytest.fixture(scope="module")
def heard() -> Heard:
    """What the system was told, one entry a video."""
    return []


@pytest.fixture(scope="module")
def head(heard: Heard) -> TalkingHead:
    """The built-in model, which notes what it is told."""
    system = TalkingHead.from_pretrained("moda-tiny", device="cpu").system
    assert isinstance(system, EmbeddedSystem)

    class Noting(EmbeddedSystem):
        def prepare(self, image: Any, options: FrameOptions) -> Any:
            heard.append((options, SpeakingOptions()))
            return super().prepare(image, options)

        def speak(self, actor: Any, sound: Any, options: SpeakingOptions) -> Any:
            heard[-1] = (heard[-1][0], options)
            return super().speak(actor, sound, options)

    return TalkingHead(Noting(system.checkpoint, system.models))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("speech") / "a.wav", tone(0.3, 16_000), 16_000)


@pytest.fixture(scope="module")
def comfyui() -> dict[str, Any]:
    """The nodes by their names."""
    pack = ROOT / "integrations" / "comfyui"
    spec = importlib.util.spec_from_file_location(
        "moda_nodes", pack / "__init__.py", submodule_search_locations=[str(pack)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name, found in (*comfy_double.modules().items(), ("moda_nodes", module)):
            patch.setitem(sys.modules, name, found)
        spec.loader.exec_module(module)
    nodes = asyncio.run(asyncio.run(module.comfy_entrypoint()).get_node_list())
    return {node.GET_SCHEMA().node_id: node for node in nodes}


def by_command(head: TalkingHead, speech: Path, folder: Path, given: dict[str, str]) -> None:
    arguments = ["generate", str(PORTRAIT), str(speech), "-o", str(folder / "a.mp4")]
    for name, value in given.items():
        flags = OPTIONS[name].flag.split("/")
        if bool in OPTIONS[name].kinds:
            arguments.append(flags[value == "no"])
        else:
            arguments += [flags[0], value]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load_head", lambda *choice: head)
        with pytest.raises(SystemExit) as exited:
            cli.main(arguments)
    assert exited.value.code == 0


def by_table(head: TalkingHead, speech: Path, folder: Path, given: dict[str, str]) -> None:
    path = folder / "list.csv"
    row = {"portrait": str(PORTRAIT), "speech": str(speech), "output": "a.mp4"}
    row |= {OPTIONS[name].name.replace("_", "-"): value for name, value in given.items()}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    (row_of_table,) = read_table(path, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moda.pipeline.batch._head", lambda choice: head)
        assert make_row(row_of_table).status == "made"


def by_python(head: TalkingHead, speech: Path, folder: Path, given: dict[str, str]) -> None:
    head.generate(PORTRAIT, speech, **given).write(folder / "a.mp4")


def by_page(head: TalkingHead, speech: Path | None, folder: Path, given: dict[str, str]) -> None:
    pytest.importorskip("gradio", reason="the extra web is not installed")
    from moda.web.layout import input_names
    from moda.web.making import VideoMaker
    from moda.web.settings import WebSettings

    asked: dict[str, Any] = dict.fromkeys(input_names("mesh"))
    emotion, _, amount = given.get("emotion", "none:1").partition(":")
    asked |= {"portrait": str(PORTRAIT), "speech": speech and str(speech), "full_frame": True}
    asked |= {"blink": True, "lips_only": False, "frames_per_second": 25.0, "language": "en-us"}
    asked |= {name: VALUES.get(name, value) for name, value in given.items()}
    asked |= {"emotion": emotion, "intensity": float(amount or 1.0)}
    assert set(asked) == set(input_names("mesh"))
    maker = VideoMaker(head, WebSettings(), TextSpeaker(None), None)
    maker.begin("generate", asked, folder, lambda done, total: None).write(folder / "a.mp4")


def job_of_form(
    speech: Path | None, given: dict[str, str]
) -> tuple[httpx.Response, VideoJob | None]:
    """What a real request makes of a form: the answer, and the job that waits."""
    settings = ServerSettings(max_sessions=0)
    app = create_app(settings)

    async def ask() -> tuple[httpx.Response, VideoJob | None]:
        jobs = VideoJobs(settings, Metrics())
        jobs._task.cancel()
        app.state.settings, app.state.jobs = settings, jobs
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            files = {"portrait": PORTRAIT.read_bytes()}
            if speech is not None:
                files["speech"] = speech.read_bytes()
            answer = await client.post("/v1/videos", files=files, data=given)
        waiting = [job.request for job in jobs._queue]
        if not waiting:
            return answer, None
        (job,) = waiting
        kept = {"portrait": PORTRAIT, "speech": speech or job.speech}
        return answer, replace(job, **kept)

    return asyncio.run(ask())


def by_form(head: TalkingHead, speech: Path | None, folder: Path, given: dict[str, str]) -> None:
    answer, job = job_of_form(speech, given)
    assert answer.status_code == 202, answer.text
    assert job is not None
    ours, theirs = Pipe()
    worker._make(head, replace(job, output=folder / "a.mp4"), theirs)
    ours.close()
    theirs.close()


@pytest.fixture(scope="module")
def expected(head: TalkingHead, heard: Heard, speech: Path, tmp_path_factory: Any) -> Any:
    by_command(head, speech, tmp_path_factory.mktemp("command"), REQUEST)
    return heard[-1]


def test_the_command_line_says_what_was_asked(expected: Any) -> None:
    frame, speaking = expected
    schedule = (EmotionAt(0.0, "happy", 0.5), EmotionAt(0.2, "sad", 0.5))
    assert frame.size == 64
    assert frame.face == 1
    assert frame.background is not None
    assert speaking == SpeakingOptions(
        style=Style(schedule), seed=7, num_steps=1, guidance_scale=1.5, blink=False,
        blink_rate=30.0, gaze="camera", lips_only=True, amounts=speaking.amounts,
    )  # fmt: skip
    assert speaking.amounts.head_motion == 1.0, "the words say lively"
    assert speaking.amounts.expression == 0.8


@pytest.mark.parametrize("door", [by_table, by_python, by_page, by_form])
def test_the_same_request_gives_the_same_options(
    head: TalkingHead, heard: Heard, speech: Path, tmp_path: Path, expected: Any,
    door: Callable[..., None],
) -> None:  # fmt: skip
    door(head, speech, tmp_path, REQUEST)
    assert heard[-1] == expected


def test_the_same_request_in_comfyui(
    head: TalkingHead, heard: Heard, comfyui: dict[str, Any], expected: Any
) -> None:
    (first,) = comfyui["MoDAEmotion"].execute("happy", 0.5, 0.0).args
    (style,) = comfyui["MoDAEmotion"].execute("sad", 0.5, 0.2, before=first).args
    sound = {"waveform": torch.from_numpy(tone(0.3, 16_000)).float()[None, None]}
    portrait = torch.from_numpy(read_image(PORTRAIT).copy()).float()[None] / 255
    frames = comfyui["MoDATalkingHead"]
    speech = {**sound, "sample_rate": 16_000}
    _, _, rate = frames.execute(head, portrait, speech, 100, style=style, **VALUES).args
    assert rate == 30.0
    assert heard[-1] == expected


class TestEveryOptionIsThere:
    @pytest.fixture
    def site(self) -> ModuleType:
        return load_file(ROOT / "scripts" / "docs_site.py")

    @pytest.mark.parametrize("command", ["generate", "dub", "reenact", "export"])
    def test_in_the_help(self, command: Command) -> None:
        top: Any = typer.main.get_command(cli.app)
        params = {flag: p for p in top.load(command).params for flag in p.opts}
        for name in of_command(command):
            if name != "face" or command == "generate":
                shown = params[OPTIONS[name].flag.split("/")[0]].help
                assert render(shown).plain == OPTIONS[name].help, "with its brackets"

    def test_in_tables(self) -> None:
        with pytest.raises(InputError) as caught:
            job_from_row({"mood": "x"}, Path())
        known = str(caught.value).split("known are ")[1].split(", ")
        assert known == [
            *("portrait", "output", "speech"),
            *(option.name.replace("_", "-") for option in OPTIONS.values()),
        ]

    def test_in_the_form(self) -> None:
        fields = VideoForm.model_json_schema()["properties"]
        assert {"portrait", "speech", "intensity", "webhook"} == fields.keys() - OPTIONS.keys()
        assert set(FORM_OPTIONS) == fields.keys() & OPTIONS.keys()
        assert set(for_visitors()) - set(FORM_OPTIONS) == {"driving"}, "a file of its own"
        assert fields["size"]["maximum"] == VISITOR_SIZE_PX
        assert fields["blink_rate"]["description"].startswith(OPTIONS["blink_rate"].help)

    def test_on_the_page(self, tmp_path: Path, head: TalkingHead) -> None:
        pytest.importorskip("gradio", reason="the extra web is not installed")
        from moda.web.layout import SPEAKERS, input_names, read_choices
        from moda.web.page import WebPage
        from moda.web.settings import WebSettings

        assert set(input_names("mesh")) | set(input_names("neural")) == {
            *("portrait", "speech", "intensity", "subtitles", "in_turns"),
            *for_visitors(), *SPEAKERS,
        }  # fmt: skip
        blocks = WebPage(head, WebSettings(), TextSpeaker(None), tmp_path).build()
        shown = {block.elem_id: block for block in blocks.blocks.values()}
        for name in for_visitors("mesh"):
            assert name.replace("_", "-") in shown, name
        with pytest.raises(InputError, match=str(VISITOR_SIZE_PX)):
            read_choices({"emotion": "none", "intensity": 0.8, "size": VISITOR_SIZE_PX + 2})
        assert shown["num-steps"].info == OPTIONS["num_steps"].help

    def test_in_comfyui(self, comfyui: dict[str, Any]) -> None:
        named = {part.id: part for part in comfyui["MoDATalkingHead"].GET_SCHEMA().inputs}
        frames = set(of_head()) & set(for_visitors())
        assert frames - named.keys() == {"emotion", "emotion_at", "driving"}
        assert named["size"].max == MAX_SIZE_PX

    def test_in_the_reference(self, site: ModuleType) -> None:
        page = site.command_line().split("## moda generate\n")[1].split("\n## ")[0]
        for option in OPTIONS.values():
            for flag in option.flag.split("/"):
                assert f"`{flag}`" in page
        for name in of_head():
            assert f"| `{name}` |" in site.video_options()
            assert f"            {name}: " in (TalkingHead.generate.__doc__ or "")


class TestWhatWasDifferent:
    @needs_espeak
    @pytest.mark.parametrize("door", [by_page, by_form])
    def test_tags_of_a_text_follow_a_chosen_emotion(
        self, head: TalkingHead, heard: Heard, tmp_path: Path, door: Callable[..., None]
    ) -> None:
        given = {"text": "Hi Bob! [sad:0.5] But why?", "emotion": "happy:0.5", "num_steps": "1"}
        door(head, None, tmp_path, given | {"size": "64", "seed": "7"})
        chosen, tag = heard[-1][1].style.schedule
        assert chosen == EmotionAt(0.0, "happy", 0.5)
        assert (tag.emotion, tag.intensity) == ("sad", 0.5)
        assert tag.seconds > 0.3

    @needs_espeak
    def test_words_decide_the_rate_of_speech(self, head: TalkingHead, tmp_path: Path) -> None:
        def seconds(**given: str) -> float:
            options = read_options({"text": "Nobody knows why.", **given})
            return speak_text(options, tmp_path / "a.wav").seconds

        usual, hurried = seconds(), seconds(style="hurried")
        assert hurried < 0.95 * usual
        assert seconds(style="hurried", rate="1") == usual, "what is chosen counts more"
        _, job = job_of_form(None, {"text": "Nobody knows why.", "style": "hurried"})
        assert job is not None
        assert isinstance(job.speech, SpokenText)
        assert job.speech.seconds == hurried
        asked = VideoJob(PORTRAIT, tmp_path / "a.mp4", options=read_options({
            "text": "Nobody knows why.", "style": "hurried", "size": "64"
        }))  # fmt: skip
        video = begin_video(asked, head, tmp_path)
        assert video.num_frames == pytest.approx(25 * hurried, abs=1)

    def test_an_amount_of_one_can_be_chosen(self) -> None:
        _, job = job_of_form(EXAMPLES / "speech.wav", {"style": "lively", "head_motion": "1.0"})
        assert job is not None
        assert delivery_of(job.options).head_motion == 1.0
        assert delivery_of(replace(job.options, head_motion=None)).head_motion == 1.5

    def test_sampling_takes_one_thread_wherever_it_is_asked_for(self, head: TalkingHead) -> None:
        counts: list[int] = []

        def sound() -> Iterator[np.ndarray]:
            for _ in range(3):
                counts.append(torch.get_num_threads())
                yield tone(0.5, 16_000).astype(np.float32)

        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            actor = head.system.prepare(read_image(PORTRAIT), FrameOptions(size=64))
            for _ in head.system.speak(actor, sound(), SpeakingOptions(seed=1, num_steps=1)):
                assert torch.get_num_threads() == 2
            with one_torch_thread():
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(before)
        assert counts == [1, 1, 1]

    def test_the_largest_size(self, speech: Path) -> None:
        assert read_options({"size": str(MAX_SIZE_PX)}).size == MAX_SIZE_PX
        answer, job = job_of_form(speech, {"size": str(VISITOR_SIZE_PX + 2)})
        assert job is None
        assert answer.status_code == 422
        assert f"outside 64..{VISITOR_SIZE_PX}" in answer.json()["detail"]

    def test_reenacted_videos_can_be_signed(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as exited:
            cli.main(["reenact", str(PORTRAIT), "a.mp4", "--sign-cert", str(tmp_path)])
        assert exited.value.code == 2
        assert "needs both --sign-cert and --sign-key" in capfd.readouterr().err

    def test_footage_can_be_dubbed_by_another_voice(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as exited:
            cli.main(["dub", str(PORTRAIT), "--text", "Hi", "--tts", "parrot"])
        assert exited.value.code == 2
        assert "parrot" in capfd.readouterr().err


class TestKeywords:
    def test_unknown_ones_are_named(self, head: TalkingHead, speech: Path) -> None:
        with pytest.raises(InputError, match=r"unknown option 'sead'; known are .*seed"):
            head.generate(PORTRAIT, speech, sead=7)
        with pytest.raises(InputError, match="unknown option 'text'"):
            head.generate(PORTRAIT, speech, text="Hi")
        with pytest.raises(InputError, match="unknown option 'seed'"):
            head.reenact(PORTRAIT, speech, seed=7)

    def test_they_change_single_options(self, head: TalkingHead, speech: Path) -> None:
        options = VideoOptions(seed=7, frames_per_second=30.0)
        video = head.generate(PORTRAIT, speech, options, size=64, frames_per_second=10)
        assert video.frame_size == (64, 64)
        assert video.frames_per_second == 10
        assert video.num_frames == 3


class TestNumbersOfThePage:
    """An empty number of gradio is sent as 0, which would hold the head still."""

    def test_those_that_may_be_empty_are_texts(self) -> None:
        gradio = pytest.importorskip("gradio")
        from moda.web.layout import component

        names = [
            name
            for name in for_visitors("mesh")
            if {int, float} & set(OPTIONS[name].kinds) and OPTIONS[name].default is None
        ]
        assert {"head_motion", "expression", "seed", "size"} <= set(names)
        assert all(isinstance(component(name), gradio.Textbox) for name in names)

    def test_texts_are_read_as_numbers_and_empty_ones_are_usual(self) -> None:
        pytest.importorskip("gradio")
        from moda.web.layout import NO_EMOTION, read_choices

        given = {"emotion": NO_EMOTION, "intensity": 0.8, "head_motion": "0.5", "seed": " 7 "}
        options = read_choices(given | {"size": "320", "expression": "", "blink_rate": None})
        assert (options.head_motion, options.seed, options.size) == (0.5, 7, 320)
        assert options.expression is None
        assert options.blink_rate is None
        with pytest.raises(InputError, match="is not a number"):
            read_choices(given | {"head_motion": "much"})
