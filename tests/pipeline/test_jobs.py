"""Options and rows of tables become videos; a text becomes one whose emotions follow its tags."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from media_files import decode_video, tone, write_wav
from moda.errors import InputError
from moda.options import Speaker, VideoOptions
from moda.options.texts import parse_background, parse_emotion_times, parse_faces, parse_size
from moda.pipeline import TalkingHead
from moda.pipeline.jobs import job_from_row, make_video
from moda.speech_synthesis import espeak_is_installed
from moda.structures import Background
from paths import EXAMPLES, PORTRAIT, SPEECH, load_file

SAID = (
    "Please remember: a moment ago, I was only a picture. "
    "Now my lips move, but both the motion and the voice were made by a computer."
)
needs_espeak = pytest.mark.skipif(not espeak_is_installed(), reason="espeak-ng is not installed")


@pytest.fixture(scope="module")
def head() -> TalkingHead:
    return TalkingHead.from_pretrained("moda-tiny", device="cpu")


class TestRows:
    def test_types(self, tmp_path: Path) -> None:
        job = job_from_row(
            {
                "portrait": "a.jpg", "text": "Hi", "output": "out/b.mp4", "head-motion": "0.5",
                "blink": "no", "seed": "7", "emotion-at": "0=happy; 2=sad:0.5", "face": "2",
                "size": "own", "voice": "",
            },
            tmp_path,
        )  # fmt: skip
        assert job.portrait == tmp_path / "a.jpg"
        assert job.output == tmp_path / "out/b.mp4"
        assert job.options == VideoOptions(
            text="Hi", head_motion=0.5, blink=False, seed=7, size="own", face=2,
            emotion_at=parse_emotion_times(["0=happy", "2=sad:0.5"]),
        )  # fmt: skip

    def test_faces_are_files_of_the_folder(self, tmp_path: Path) -> None:
        row = {"portrait": "a.jpg", "output": "b.mp4", "face": "1=a.wav;2=b.wav"}
        job = job_from_row(row, tmp_path)
        assert job.options.face == (
            Speaker(1, tmp_path / "a.wav"),
            Speaker(2, tmp_path / "b.wav"),
        )
        assert set(job.inputs) == {tmp_path / name for name in ("a.jpg", "a.wav", "b.wav")}

    @pytest.mark.parametrize(
        ("row", "says"),
        [
            ({"portrait": "a", "output": "b"}, "given is nothing"),
            ({"portrait": "a", "speech": "c"}, "the output is missing"),
            ({"speech": "c"}, "the portrait and the output is missing"),
            (
                {"portrait": "a", "output": "b", "speech": "c", "text": "d"},
                "a recording and a text",
            ),
            ({"portrait": "a", "output": "b", "speech": "c", "mood": "x"}, "unknown column 'mood'"),
            ({"portrait": "a", "output": "b", "speech": "c", "seed": "x"}, "seed 'x' is not a num"),
            ({"portrait": "a", "output": "b", "speech": "c", "blink": "x"}, "not yes or no"),
            ({"portrait": "a", "output": "b", "text": "c", "transcript": "x"}, "of a recording"),
            ({"portrait": "a", "output": "b", "text": "c", "sign_key": "x"}, "needs both"),
            ({"portrait": "a", "output": "b", "face": "1=a.wav;2"}, "a recording each"),
        ],
    )
    def test_what_is_wrong(self, row: dict[str, str], says: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=says):
            job_from_row(row, tmp_path)

    def test_values(self) -> None:
        assert parse_background("#00fF80") == Background((0, 255, 128))
        assert parse_background(" None ") == Background(None)
        assert parse_background("white") == Background((255, 255, 255))
        for wrong in ("#12345", "#12345g", "plaid", ""):
            with pytest.raises(InputError, match="is no colour"):
                parse_background(wrong)
        assert parse_size("own") == "own"
        assert parse_size("720") == 720
        with pytest.raises(InputError, match="neither"):
            parse_size("big")
        assert parse_faces(["2"]) == 2
        assert parse_faces(["2=a=b.wav"]) == (Speaker(2, Path("a=b.wav")),)
        for wrong in ("0", "x", "1=", "-1=a.wav"):
            with pytest.raises(InputError, match="from the left"):
                parse_faces([wrong])


@needs_espeak
class TestText:
    def test_tags_become_a_timeline(self, head: TalkingHead, tmp_path: Path) -> None:
        """Mouth corners of the motion, in three languages: up while happy, down while sad."""
        from moda.speech_synthesis import Espeak, synthesise

        space = head.space
        assert space.basis is not None
        corners = space.basis[:, [61, 291], 1].mean(1)
        for language, text in (
            ("en-us", "[happy] What a lovely day it is. [sad] But I have to leave you now."),
            ("de", "[happy] Was für ein schöner Tag. [sad] Aber ich muss dich jetzt verlassen."),
            ("fr-fr", "[happy] Quelle belle journée. [sad] Mais je dois te quitter maintenant."),
        ):
            spoken = synthesise(text, tmp_path / "a.wav", synthesiser=Espeak(), language=language)
            video = head.generate(PORTRAIT, spoken, size=64, num_steps=1)
            plain = head.generate(PORTRAIT, spoken.path, phones=spoken.phones, size=64, num_steps=1)
            values, without = (
                np.concatenate([part.values for part in source.motion()])[:, : len(corners)]
                for source in (video, plain)
            )
            height = -(values - without) @ corners
            change = round(spoken.style.schedule[1].seconds * 25)
            assert height[20 : change - 2].mean() > 0.01, language
            assert height[change + 16 :].mean() < -0.005, language
            middle = np.argmin(np.abs(height[change - 5 : change + 20]))
            assert 0 <= middle - 5 <= 16, "within 0.6 s of the tag"

    @pytest.mark.slow
    @pytest.mark.parametrize("language", ["en-us", "de", "fr-fr"])
    def test_tags_show_in_the_finished_video(self, head: TalkingHead, language: str) -> None:
        """Frames tracked again: a smile, then corners down, turned within the change's 0.6 s."""
        tags = load_file(EXAMPLES.parent / "benchmarks" / "tags.py")
        happy, sad, angry = tags.measured(head, PORTRAIT, language, 256)
        assert [row["tag"] for row in (happy, sad, angry)] == ["happy", "sad", "angry"]
        assert happy["corner_height"] > 3.0
        assert sad["corner_height"] < -2.0
        assert angry["inner_brow_height"] < sad["inner_brow_height"] - 0.5
        assert 0.0 < sad["turned_after_seconds"] <= 0.6

    def test_a_whole_video_with_subtitles(self, head: TalkingHead, tmp_path: Path) -> None:
        row = {
            "portrait": PORTRAIT, "output": tmp_path / "talk.mp4", "subtitles": True,
            "text": "Hi there 😀, 2 of 10! Привет. 你好。", "style": "warm, purple", "size": "96",
            "steps": 1,
        }  # fmt: skip
        job = job_from_row(row, tmp_path)
        said: list[str] = []
        stages: list[str] = []

        @contextmanager
        def stage(name: str):
            stages.append(name)
            yield None

        summary = make_video(job, head, stages=stage, tell=said.append)
        assert said == ["not understood in the style: 'purple'"]
        assert stages == ["Speaking", "Rendering"]
        video = decode_video(summary.path)
        assert len(video.frames) == summary.num_frames
        assert video.sound_seconds == pytest.approx(summary.seconds, abs=0.05)
        text = (tmp_path / "talk.srt").read_text("utf-8")
        assert "Hi there, 2 of 10!" in text
        assert "你好。" in text
        with av.open(str(summary.path)) as container:
            assert len(container.streams.subtitles) == 1

    def test_a_transcript_brings_times_and_tags(self, head: TalkingHead, tmp_path: Path) -> None:
        tagged = SAID.replace("Now", "[happy] Now")
        path = tmp_path / "said.txt"
        path.write_text(tagged, "utf-8")
        spoken = head.align(SPEECH, tagged)
        by_word = {word.text.strip(): word for word in spoken.words}
        assert by_word["Now"].start_seconds == pytest.approx(4.4, abs=0.15), "after the pause"
        assert by_word["picture."].end_seconds == pytest.approx(3.2, abs=0.25)
        (entry,) = spoken.style.schedule
        assert 3.0 < entry.seconds <= by_word["Now"].start_seconds
        with pytest.raises(InputError, match="does not fit the recording"):
            head.align(SPEECH, "My mother baked plum pie for Bob, Pam and me, every single week.")


def test_subtitles_need_words(head: TalkingHead, tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "a.wav", tone(0.3, 16_000), 16_000)
    row = {"portrait": PORTRAIT, "output": tmp_path / "talk.mp4", "speech": sound}
    job = job_from_row({**row, "subtitles": "yes", "size": "64", "steps": 1}, tmp_path)
    with pytest.raises(InputError, match="subtitles need the words"):
        make_video(job, head, tell=print)
    assert not (tmp_path / "talk.mp4").exists()
