"""The command as a user meets it: what it prints, its exit codes, and what it leaves behind."""

from __future__ import annotations

import functools
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from media_files import decode_video, level_pictures, tone, write_video, write_wav
from moda import __version__, cli
from moda.cli import doctor
from moda.cli.steps import FIRST_USE
from moda.config import SpeechEmbedderConfig, SpeechFeaturesConfig, preset
from moda.errors import InputError
from moda.motion.model import MotionTransformer
from moda.options import read_options
from moda.pipeline import loading
from moda.structures import EmotionAt
from moda.weights.checkpoints import save_checkpoint
from moda.weights.spaces import load_motion_space
from paths import PORTRAIT

COMMAND = Path(sys.executable).with_name("moda")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A motion model that has learned nothing, in a real checkpoint file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    network = MotionTransformer(preset("moda-tiny").motion).eval()
    save_checkpoint(path, network, load_motion_space())
    return path


@pytest.fixture(scope="module", autouse=True)
def load_once() -> Iterator[None]:
    """Load each model once for all the commands that run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load_head", functools.cache(loading.load_head))
        yield


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Half a second."""
    return write_wav(tmp_path / "speech.wav", tone(0.5, 16_000), 16_000)


def run(*arguments: object) -> int:
    """Run the command in this process; its exit code."""
    with pytest.raises(SystemExit) as exited:
        cli.main([str(argument) for argument in arguments])
    return int(exited.value.code or 0)


class TestGenerate:
    def test_summary_and_video(
        self, model: Path, speech: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "talk.mp4"
        code = run(
            "generate", PORTRAIT, speech, "-o", path, "--model", model, "--size", 128,
            "--steps", 1, "--emotion", "happy:0.5", "--emotion-at", "0.2=sad", "--fps", 30,
        )  # fmt: skip
        printed = capfd.readouterr()
        assert code == 0
        assert re.fullmatch(
            r"15 frames, 0\.50 s of video in [\d.]+ s \(real-time factor [\d.]+\): .*talk\.mp4"
            rf"(; {FIRST_USE})?\n",
            printed.out,
        )
        assert printed.err == "", "no progress bar and no control codes without a terminal"
        video = decode_video(path)
        assert len(video.frames) == 15
        assert video.metadata["synthetic_media"] == "true"

    def test_options_reach_the_video(self, model: Path, speech: Path, tmp_path: Path) -> None:
        path = tmp_path / "talk.mkv"
        code = run(
            "generate", PORTRAIT, speech, "--output", path, "--model", model, "--size", 96,
            "--steps", 1, "--crop", "--no-blink", "--no-synthetic-metadata", "--seed", 7,
            "--guidance-scale", 1, "--head-motion", 0.5, "--expression", 1.5, "--face", 1,
            "--renderer", "mesh", "--device", "cpu",
        )  # fmt: skip
        assert code == 0
        assert b"ynthetic" not in path.read_bytes()

    def test_known_phones_reach_the_video(self, model: Path, speech: Path, tmp_path: Path) -> None:
        phones = tmp_path / "phones.txt"
        phones.write_text("0 0.25 AA\n0.25 0.5 M\n")
        pictures = []
        for name, options in (("told", ["--phones", phones]), ("heard", [])):
            path = tmp_path / f"{name}.mp4"
            code = run(
                "generate", PORTRAIT, speech, "-o", path, "--model", model, "--size", 128,
                "--steps", 1, "--no-blink", *options,
            )  # fmt: skip
            assert code == 0
            pictures.append(np.stack(decode_video(path).frames).astype(float))
        told, heard = pictures
        assert told.shape == heard.shape
        assert np.abs(told - heard).max() > 20.0


def two_faces(folder: Path) -> Path:
    face = Image.open(PORTRAIT)
    both = Image.new("RGB", (2 * face.width, face.height))
    both.paste(face, (0, 0))
    both.paste(face, (face.width, 0))
    both.save(folder / "two.png")
    return folder / "two.png"


def bad_portrait(folder: Path, problem: str) -> Path:
    path = folder / "portrait.jpg"
    if problem == "corrupt":
        path.write_bytes(PORTRAIT.read_bytes()[:9_000])
    elif problem == "text":
        path.write_text("this is a text\n" * 50)
    elif problem == "bomb":
        Image.new("1", (8_000, 8_000)).save(path, format="PNG")
    elif problem == "empty":
        path.write_bytes(b"")
    elif problem == "no face":
        Image.new("RGB", (200, 200), (90, 120, 90)).save(path)
    return path


def bad_speech(folder: Path, problem: str) -> Path:
    path = folder / "speech.wav"
    samples = tone(1.0, 16_000)
    if problem == "no samples":
        write_wav(path, samples[:0], 16_000)
    elif problem == "20 ms":
        write_wav(path, samples[:320], 16_000)
    elif problem == "silent video":
        path = write_video(folder / "video.mp4", level_pictures([10, 20]), [0, 40])
    elif problem == "NaN":
        samples[8_000] = np.nan
        soundfile.write(path, samples, 16_000, subtype="FLOAT")
    elif problem == "text":
        path.write_text("this is a text\n" * 50)
    return path


class TestBadInput:
    """One clear line, exit code 2, no file left behind."""

    def check(
        self, capfd: pytest.CaptureFixture[str], folder: Path, *arguments: object, says: str
    ) -> None:
        before = sorted(folder.iterdir())
        code = run(*arguments)
        printed = capfd.readouterr()
        assert code == 2
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert printed.err.startswith("moda: ")
        assert re.search(says, printed.err), printed.err
        assert sorted(folder.iterdir()) == before

    @pytest.mark.parametrize(
        ("problem", "says"),
        [
            ("missing", "does not exist"),
            ("corrupt", "damaged"),
            ("text", "not a picture"),
            ("bomb", "limit of 60 million"),
            ("empty", "0 bytes"),
            ("no face", "face"),
        ],
    )
    def test_portraits(
        self,
        model: Path,
        speech: Path,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        problem: str,
        says: str,
    ) -> None:
        portrait, output = bad_portrait(tmp_path, problem), tmp_path / "talk.mp4"
        arguments = ("generate", portrait, speech, "-o", output, "--model", model)
        self.check(capfd, tmp_path, *arguments, says=says)

    @pytest.mark.parametrize(
        ("problem", "says"),
        [
            ("missing", "does not exist"),
            ("no samples", "without samples"),
            ("20 ms", "less than the limit of 40 ms"),
            ("silent video", "no sound track"),
            ("NaN", "NaN"),
            ("text", "cannot be read as sound"),
        ],
    )
    def test_speech(
        self,
        model: Path,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        problem: str,
        says: str,
    ) -> None:
        speech, output = bad_speech(tmp_path, problem), tmp_path / "talk.mp4"
        arguments = ("generate", PORTRAIT, speech, "-o", output, "--model", model)
        self.check(capfd, tmp_path, *arguments, says=says)

    def test_face_five_of_two(
        self, model: Path, speech: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        portrait, output = two_faces(tmp_path), tmp_path / "talk.mp4"
        arguments = ("generate", portrait, speech, "-o", output, "--model", model, "--face", 5)
        self.check(capfd, tmp_path, *arguments, says="5")

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("missing/talk.mp4", "does not exist"),
            ("folder.mp4", "is a folder"),
            ("talk.avi", r"\.mp4, \.mov, \.mkv"),
            ("speech.wav/talk.mp4", "does not exist"),
        ],
    )
    def test_outputs(
        self,
        speech: Path,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        name: str,
        says: str,
    ) -> None:
        (tmp_path / "folder.mp4").mkdir()
        arguments = ("generate", PORTRAIT, speech, "-o", tmp_path / name)
        self.check(capfd, tmp_path, *arguments, says=says)

    def test_an_input_as_the_output(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        video = write_video(tmp_path / "in.mp4", level_pictures([10, 20]), [0, 40])
        for command in ("generate", "reenact"):
            self.check(capfd, tmp_path, command, PORTRAIT, video, "-o", video, says="also an input")

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (["--emotion", "joyful"], "unknown emotion 'joyful'.*happy"),
            (["--emotion", "happy:2"], "outside 0..1"),
            (["--emotion", "happy:much"], "not a number"),
            (["--emotion-at", "sad"], "names no time"),
            (["--emotion-at", "-1=sad"], "0 or later"),
            (["--steps", "-3"], "number of steps -3 is outside 1..1000"),
            (["--steps", "ten"], "--steps"),
            (["--guidance-scale", "99"], "guidance scale 99 is outside"),
            (["--fps", "5"], "frames per second 5 is outside 10..60"),
            (["--size", "50000"], "size in pixels 50000 is outside 64..4096"),
            (["--head-motion", "3"], "head motion 3 is outside 0..2"),
            (["--seed", "-1"], "seed -1 is outside"),
            (["--renderer", "opengl"], "unknown renderer 'opengl'; choose one of mesh, neural"),
            (["--renderer", "neural"], "cannot draw the motion of .*choose moda-base"),
            (["--precision", "float16"], "float16 .* options of moda-base"),
            (["--compat", "reference"], "reference are options of moda-base"),
            (["--eyes", "0.4"], "choose --renderer neural"),
            (["--lips", "2"], "opening of the lips 2 is outside 0..0.8"),
            (["--model", "moda-base"], "moda-base is not in .*moda models download moda-base"),
            (["--device", "tpu"], "unknown device 'tpu'"),
            (["--model", "moda-huge"], "no checkpoint 'moda-huge'"),
            (["--no-such-option"], "--no-such-option"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_options(
        self,
        model: Path,
        speech: Path,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        options: list[str],
        says: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("MODA_HOME", str(tmp_path.with_name("no models")))
        arguments = ["generate", PORTRAIT, speech, "-o", tmp_path / "talk.mp4", "--model", model]
        self.check(capfd, tmp_path, *arguments, *options, says=says)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            (None, r"phone times .*phones\.txt cannot be read"),
            ("", "holds no phones"),
            ("0 0.1 p\n0.1 later b\n", "line 2: expected start, end and one symbol"),
            ("0 0.2 p\n0.1 0.3 b\n", "line 2: 0.1 to 0.3 s does not follow on"),
            ("0 0.2 P\n0.2 0.3 QQ\n", "line 2: 'QQ'"),
        ],
        ids=["missing", "empty", "words", "backwards", "unknown"],
    )
    def test_phones(
        self,
        model: Path,
        speech: Path,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        text: str | None,
        says: str,
    ) -> None:
        phones, output = tmp_path / "phones.txt", tmp_path / "talk.mp4"
        if text is not None:
            phones.write_text(text)
        arguments = ("generate", PORTRAIT, speech, "-o", output, "--model", model)
        self.check(capfd, tmp_path, *arguments, "--phones", phones, says=says)

    def test_a_model_that_takes_no_phones(
        self,
        speech: Path,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        motion = preset("moda-tiny").motion
        speech_alone = {"speech": SpeechFeaturesConfig(), "speech_embedder": SpeechEmbedderConfig()}
        network = MotionTransformer(replace(motion, **speech_alone)).eval()
        model, phones = tmp_path / "deaf.safetensors", tmp_path / "phones.txt"
        save_checkpoint(model, network, load_motion_space())
        phones.write_text("0 0.2 P\n")
        self.check(
            capfd, tmp_path, "generate", PORTRAIT, speech, "-o", tmp_path / "talk.mp4",
            "--model", model, "--phones", phones, says="cannot be told the phones.*moda-tiny",
        )  # fmt: skip

    def test_missing_arguments(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.check(capfd, tmp_path, "generate", says="Missing argument 'PORTRAIT'.*--help")
        self.check(capfd, tmp_path, "generat", says="generate")

    def test_full_disk(
        self, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        resource = pytest.importorskip("resource", reason="only POSIX limits file sizes")
        speech = write_wav(tmp_path / "speech.wav", tone(1.0, 16_000), 16_000)
        output = tmp_path / "talk.mp4"
        words = ["generate", PORTRAIT, speech, "-o", output, "--model", model, "--size", 128]
        with pytest.raises(SystemExit):  # compiled loops are kept in files too, once
            cli.main([str(word) for word in [*words, "--steps", 1]])
        output.unlink()
        capfd.readouterr()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, before[1]))
        try:
            self.check(
                capfd, tmp_path, *words, "--steps", 1, says="cannot be written.*free some space"
            )
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    def test_a_bug_shows_its_traceback(
        self, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*arguments: object, **options: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(loading, "load_head", broken)
        with pytest.raises(ZeroDivisionError):
            cli.main(["generate", str(PORTRAIT), str(speech), "-o", str(tmp_path / "talk.mp4")])


class TestReenact:
    def test_summary_and_video(
        self, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        picture = np.asarray(Image.open(PORTRAIT).resize((256, 256)))
        driving = write_video(
            tmp_path / "in.mkv",
            [picture] * 8,
            [40 * index for index in range(8)],
            sound=tone(0.32, 16_000),
        )
        path = tmp_path / "talk.mp4"
        code = run("reenact", PORTRAIT, driving, "-o", path, "--model", model, "--size", 128)
        assert code == 0
        assert capfd.readouterr().out.startswith("8 frames, 0.32 s of video in ")
        assert decode_video(path).sound_seconds == pytest.approx(0.32, abs=1e-3)


class TestStyle:
    def test_schedule(self) -> None:
        given = {"emotion": "happy:0.7", "emotion-at": ["3.2=sad:0.5", "5=none", "7=angry"]}
        assert read_options(given).chosen_emotions == (
            EmotionAt(0.0, "happy", 0.7),
            EmotionAt(3.2, "sad", 0.5),
            EmotionAt(5.0, None, 1.0),
            EmotionAt(7.0, "angry", 1.0),
        )
        assert read_options({}).chosen_emotions == ()

    def test_not_a_number(self) -> None:
        with pytest.raises(InputError, match="outside"):
            read_options({"emotion": "happy:nan"})


class TestHelp:
    @pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]], ids=str)
    def test_commands(self, arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
        assert run(*arguments) == 0
        printed = capfd.readouterr().out
        for command in ("generate", "reenact", "doctor"):
            assert command in printed
        assert "\x1b" not in printed

    @pytest.mark.parametrize("command", ["generate", "reenact"])
    def test_examples(self, command: str, capfd: pytest.CaptureFixture[str]) -> None:
        assert run(command, "--help") == 0
        assert f"Example: moda {command} portrait.jpg" in capfd.readouterr().out

    def test_version(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("--version") == 0
        assert capfd.readouterr().out == f"moda {__version__}\n"


class TestDoctor:
    def test_every_check_runs(self, capfd: pytest.CaptureFixture[str]) -> None:
        code = run("doctor")
        lines = capfd.readouterr().out.splitlines()
        assert [re.split(r" +", line, maxsplit=1)[1].split(":")[0] for line in lines] == list(
            doctor.DOCTOR_CHECKS
        )
        problems = [line for line in lines if not line.startswith("ok ")]
        assert (code == 0) == (not problems)
        assert f"moda {__version__}" in lines[0]

    def test_compiled_kernels_are_kept_in_one_place(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        run("doctor")
        (line,) = (line for line in capfd.readouterr().out.splitlines() if "kernels" in line)
        assert "none" not in line
        assert "," not in line

    def test_a_problem_is_named(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def broken() -> str:
            raise FileNotFoundError("face_mesh.onnx")

        checks = {"broken": broken, "whole": lambda: "fine"}
        monkeypatch.setattr(doctor, "DOCTOR_CHECKS", checks)
        assert run("doctor") == 2
        printed = capfd.readouterr()
        assert printed.out == (
            "PROBLEM  broken: FileNotFoundError: face_mesh.onnx\nok       whole: fine\n"
        )
        assert printed.err.count("\n") == 1


class TestInstalledCommand:
    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
    )
    def test_interruption_leaves_no_half_file(
        self, model: Path, tmp_path: Path, number: signal.Signals, code: int
    ) -> None:
        speech = write_wav(tmp_path / "speech.wav", tone(60.0, 16_000), 16_000)
        folder = tmp_path / "out"
        folder.mkdir()
        # Tests that run in the background of a shell inherit an ignored SIGINT; the child must not.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with subprocess.Popen(
            [
                COMMAND, "generate", PORTRAIT, speech, "-o", folder / "talk.mp4",
                "--model", model, "--size", "128", "--steps", "1",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            deadline = time.monotonic() + 300
            while not list(folder.glob(".moda-*.part")) and time.monotonic() < deadline:
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(number)
            output, errors = process.communicate(timeout=120)
        assert process.returncode == code
        assert output == b""
        assert b"Traceback" not in errors
        assert list(folder.iterdir()) == []

    def test_a_mistake_in_a_real_process(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [COMMAND, "generate", PORTRAIT, tmp_path / "no.wav", "-o", tmp_path / "talk.avi"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""


def test_what_is_known_only_afterwards_ends_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = write_wav(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    assert run("generate", PORTRAIT, silent, "-o", tmp_path / "a.mp4", "--size", 64) == 0
    said = capsys.readouterr().out.strip()
    assert said.endswith("; no speech was found in silent.wav; the lips stay closed")


def test_help_shows_the_tags(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("generate", "--help") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert all(tag in said for tag in ("[happy]", "[sad:0.6]", "[pause:1]"))
