from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from media_files import click, decode_video, level_pictures, tone, write_video, write_wav
from moda.config import SpeechEmbedderConfig, SpeechFeaturesConfig, preset
from moda.devices import choose_device
from moda.encoders.face import FaceModels
from moda.errors import FaceError, InputError, MediaError
from moda.media.phone_times import read_phone_times
from moda.motion.model import MotionTransformer
from moda.motion.rules.retiming import TimedMotion, retime_motion
from moda.motion.speaking import HeardSpeech
from moda.phones import Phone, PhoneSegment
from moda.pipeline import TalkingHead
from moda.pipeline.read_ahead import read_ahead
from moda.structures import Motion, MotionSpace, Speech, Style
from moda.structures.landmarks import lip_gaps
from moda.systems.embedded import EmbeddedSystem
from moda.weights.checkpoints import Checkpoint
from moda.weights.spaces import load_motion_space
from paths import EXAMPLES, PORTRAIT

QUICK = {"size": 128, "num_steps": 1}


def untrained_head(*, takes_phones: bool = True) -> TalkingHead:
    """The real classes, with a motion model that has learned nothing."""
    torch.manual_seed(0)
    config = preset("moda-tiny")
    if not takes_phones:
        spectra, embedder = SpeechFeaturesConfig(), SpeechEmbedderConfig()
        motion = replace(config.motion, speech=spectra, speech_embedder=embedder)
        config = replace(config, motion=motion)
    model = MotionTransformer(config.motion).eval()
    checkpoint = Checkpoint(model, load_motion_space(), config, {})
    return TalkingHead(EmbeddedSystem(checkpoint, FaceModels("cpu")))


@pytest.fixture(scope="module")
def head() -> TalkingHead:
    return untrained_head()


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 1.3 s of the example."""
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav", frames=int(1.3 * 24_000))
    return write_wav(tmp_path_factory.mktemp("speech") / "speech.wav", samples, rate_hz)


def ramp(space: MotionSpace, num_frames: int) -> Motion:
    """Every parameter grows by one per frame."""
    rows = np.arange(num_frames, dtype=np.float32)
    return Motion(np.repeat(rows[:, None], space.size, axis=1), space)


def in_stretches(motion: Motion, length: int) -> Iterator[Motion]:
    for start in range(0, len(motion), length):
        yield Motion(motion.values[start : start + length], motion.space)


class TestRetiming:
    @pytest.mark.parametrize("length", [1, 3, 7, 100])
    @pytest.mark.parametrize("rate", [10, 24, 25, Fraction(30_000, 1001), 50, 60])
    def test_a_ramp_stays_a_ramp(self, rate: Fraction, length: int) -> None:
        motion, seconds = ramp(load_motion_space(), 31), Fraction(1234, 1000)
        timed = TimedMotion(in_stretches(motion, length), lambda: seconds)
        values = np.concatenate([part.values for part in retime_motion(timed, Fraction(rate))])
        assert len(values) == -(-seconds * rate // 1)
        expected = np.minimum(np.arange(len(values)) * 25 / float(rate), 30)
        inside = (expected >= 1) & (expected <= 29)  # a cubic needs a row on each side
        np.testing.assert_allclose(values[inside, -1], expected[inside], atol=1e-5)
        np.testing.assert_allclose(values[:, 0], expected, atol=1e-5)

    def test_the_rate_of_motion_changes_nothing(self) -> None:
        space = load_motion_space()
        values = np.random.default_rng(0).normal(size=(90, space.size)).astype(np.float32)
        timed = TimedMotion(in_stretches(Motion(values, space), 64), lambda: Fraction(90, 25))
        parts = [part.values for part in retime_motion(timed, Fraction(25))]
        np.testing.assert_array_equal(np.concatenate(parts), values)

    @pytest.mark.parametrize("length", [1, 64])
    def test_stretches_do_not_show(self, length: int) -> None:
        space = load_motion_space()
        values = np.random.default_rng(0).normal(size=(80, space.size)).astype(np.float32)

        def retimed(length: int) -> np.ndarray:
            motion = in_stretches(Motion(values, space), length)
            timed = TimedMotion(motion, lambda: Fraction(80, 25))
            return np.concatenate([part.values for part in retime_motion(timed, Fraction(60))])

        np.testing.assert_array_equal(retimed(length), retimed(80))

    def test_no_overshoot_where_lips_close(self) -> None:
        space = load_motion_space()
        values = np.zeros((20, space.size), np.float32)
        values[10:] = 1.0
        timed = TimedMotion(iter([Motion(values, space)]), lambda: Fraction(20, 25))
        retimed = np.concatenate([part.values for part in retime_motion(timed, Fraction(60))])
        expression = retimed[:, space.slice("expression")]
        assert expression.min() == 0.0
        assert expression.max() == 1.0


class TestReadAhead:
    def test_items_and_order(self) -> None:
        assert list(read_ahead(iter(range(50)))) == list(range(50))

    def test_errors_arrive_in_place(self) -> None:
        def failing() -> Iterator[int]:
            yield 1
            raise MediaError("damaged")

        items = read_ahead(failing())
        assert next(items) == 1
        with pytest.raises(MediaError, match="damaged"):
            next(items)

    def test_closing_ends_the_thread(self) -> None:
        def endless() -> Iterator[int]:
            while True:
                yield 1

        items = read_ahead(endless())
        next(items)
        items.close()  # type: ignore[attr-defined]
        assert not [thread for thread in threading.enumerate() if thread.name == "moda-sampler"]


def test_heard_speech_is_recalled_in_pieces() -> None:
    speech = [
        Speech(np.full((count, 2), count, np.float32), np.full(count, count, np.float32))
        for count in (5, 3, 4)
    ]
    heard = HeardSpeech(speech)
    assert list(heard) == speech
    recalled = [heard.recall(count) for count in (4, 6, 2)]
    assert [part.activity.tolist() for part in recalled] == [[5] * 4, [5, 3, 3, 3, 4, 4], [4] * 2]
    assert [part.features.shape for part in recalled] == [(4, 2), (6, 2), (2, 2)]


class TestGenerate:
    @pytest.mark.parametrize(("rate", "rate_hz", "channels"), [(25, 44_100, 2), (30, 16_000, 1)])
    def test_picture_and_sound_agree(
        self, head: TalkingHead, tmp_path: Path, rate: float, rate_hz: int, channels: int
    ) -> None:
        wave = click(1.234, rate_hz, at=1.0, channels=channels)
        sound = write_wav(tmp_path / "speech.wav", wave, rate_hz)
        video = head.generate(PORTRAIT, sound, frames_per_second=rate, **QUICK)
        counts: list[tuple[int, int]] = []
        summary = video.write(tmp_path / "talk.mp4", progress=lambda *count: counts.append(count))
        expected = int(np.ceil(1.234 * rate))
        assert summary.num_frames == video.num_frames == expected
        assert counts == [(number + 1, expected) for number in range(expected)]
        written = decode_video(summary.path)
        assert len(written.frames) == expected
        assert written.frames[0].shape == (*video.frame_size[::-1], 3)
        np.testing.assert_allclose(np.diff(written.frame_times), 1 / rate, atol=1e-4)
        assert written.loudest_at == pytest.approx(1.0, abs=0.001)
        assert written.sound_seconds == pytest.approx(expected / rate, abs=1e-3)
        assert summary.seconds == pytest.approx(expected / rate)
        assert summary.real_time_factor == pytest.approx(summary.wall_seconds / summary.seconds)
        assert written.metadata["synthetic_media"] == "true"
        assert "generated by MoDA" in written.metadata["comment"]

    def test_metadata_can_be_turned_off(
        self, head: TalkingHead, speech: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "talk.mp4"
        head.generate(PORTRAIT, speech, **QUICK).write(path, synthetic_metadata=False)
        assert "synthetic" not in str(decode_video(path).metadata).lower()

    def test_frames_are_lazy_and_the_same_again(self, head: TalkingHead, speech: Path) -> None:
        video = head.generate(PORTRAIT, speech, seed=3, **QUICK)
        first = next(video.frames())
        frames = list(video.frames())
        assert len(frames) == video.num_frames
        np.testing.assert_array_equal(frames[0], first)
        again = head.generate(PORTRAIT, speech, seed=3, **QUICK)
        np.testing.assert_array_equal(frames, list(again.frames()))
        other = head.generate(PORTRAIT, speech, seed=4, **QUICK)
        motions = [next(source.motion()).part("pose") for source in (video, other)]
        assert np.abs(motions[0] - motions[1]).max() > 0.01

    def test_amounts_of_zero_hold_still(self, head: TalkingHead, speech: Path) -> None:
        video = head.generate(
            PORTRAIT, speech, head_motion=0.0, expression=0.0, blink=False, **QUICK
        )
        for motion in video.motion():
            np.testing.assert_array_equal(
                motion.part("pose"), [[1, 0, 0, 0, 0, 0, 0]] * len(motion)
            )
            for part in ("mouth", "brows", "cheeks", "blink"):
                assert not motion.part(part).any()

    def test_a_picture_instead_of_a_file(self, head: TalkingHead, speech: Path) -> None:
        from PIL import Image

        picture = np.asarray(Image.open(PORTRAIT))
        video = head.generate(picture, speech, style=Style(), size=129, num_steps=1)
        assert video.frame_size == (128, 128)

    @pytest.mark.parametrize(
        "options",
        [
            {"num_steps": 0},
            {"num_steps": -3},
            {"num_steps": 1001},
            {"guidance_scale": 0.5},
            {"guidance_scale": 11.0},
            {"guidance_scale": float("nan")},
            {"frames_per_second": 9.0},
            {"frames_per_second": 61.0},
            {"frames_per_second": float("inf")},
            {"size": 63},
            {"size": 4097},
            {"head_motion": -0.1},
            {"head_motion": 2.1},
            {"expression": 2.1},
            {"seed": -1},
            {"seed": 2**63},
            {"face": 0},
            {"eyes": 0.4},
            {"lips": -0.1},
        ],
        ids=str,
    )
    def test_options_outside_their_limits(
        self, head: TalkingHead, speech: Path, options: dict[str, float]
    ) -> None:
        with pytest.raises(InputError, match=r"choose|counted") as caught:
            head.generate(PORTRAIT, speech, **options)
        assert "\n" not in str(caught.value)

    def test_no_face_and_not_that_many(
        self, head: TalkingHead, speech: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(FaceError):
            head.generate(np.full((200, 200, 3), 128, np.uint8), speech)
        with pytest.raises(FaceError):
            head.generate(PORTRAIT, speech, face=5)

    def test_inputs_are_not_overwritten(
        self, head: TalkingHead, speech: Path, tmp_path: Path
    ) -> None:
        path = write_video(
            tmp_path / "in.mkv", level_pictures([10, 20]), [0, 40], sound=tone(0.2, 16_000)
        )
        before = path.read_bytes()
        with pytest.raises(InputError, match="also an input"):
            head.generate(PORTRAIT, path, **QUICK).write(path)
        assert path.read_bytes() == before

    def test_damage_found_late_leaves_no_file(self, head: TalkingHead, tmp_path: Path) -> None:
        samples = tone(9.0, 16_000)
        samples[-100] = np.nan
        soundfile.write(tmp_path / "speech.wav", samples, 16_000, subtype="FLOAT")
        video = head.generate(PORTRAIT, tmp_path / "speech.wav", **QUICK)
        with pytest.raises(MediaError, match="NaN"):
            video.write(tmp_path / "talk.mp4")
        assert [path.name for path in tmp_path.iterdir()] == ["speech.wav"]


PHONES = "0.0 0.4 AA1\n0.4 0.72 P\n0.72 1.3 OW1\n"


class TestKnownPhones:
    """The head hears what it likes, for it has learned nothing; told phones are sure."""

    def motion(self, head: TalkingHead, speech: Path, phones: object) -> Motion:
        video = head.generate(PORTRAIT, speech, phones=phones, **QUICK)  # type: ignore[arg-type]
        parts = list(video.motion())
        return Motion(np.concatenate([part.values for part in parts]), parts[0].space)

    def test_they_change_the_mouth(self, head: TalkingHead, speech: Path, tmp_path: Path) -> None:
        path = tmp_path / "phones.txt"
        path.write_text(PHONES)
        told, heard = (self.motion(head, speech, phones) for phones in (path, None))
        difference = np.abs(told.part("mouth") - heard.part("mouth")).max(1)
        assert difference.max() > 1e-2
        basis = head.space.basis
        assert basis is not None
        gaps = told.part("mouth") @ lip_gaps(basis[:16].astype(np.float64))
        assert gaps[10:18].max() < 1e-3, "lips are closed at the p"
        np.testing.assert_array_equal(told.part("blink"), heard.part("blink"))

    def test_a_file_is_what_is_in_it(self, head: TalkingHead, speech: Path, tmp_path: Path) -> None:
        path = tmp_path / "phones.txt"
        path.write_text(PHONES)
        of_file = self.motion(head, speech, str(path))
        of_list = self.motion(head, speech, list(read_phone_times(path)))
        np.testing.assert_array_equal(of_file.values, of_list.values)
        silence = self.motion(head, speech, [PhoneSegment("sil", 0.0, 2.0, (Phone.SILENCE,))])
        assert np.abs(silence.values - of_list.values).max() > 1e-2

    def test_no_phones_are_nothing_known(self, head: TalkingHead, speech: Path) -> None:
        none, empty = (self.motion(head, speech, phones) for phones in (None, ()))
        np.testing.assert_array_equal(none.values, empty.values)

    def test_errors_come_before_any_work(self, head: TalkingHead, tmp_path: Path) -> None:
        path = tmp_path / "phones.txt"
        path.write_text("0 0.1 p\n0.05 soon b\n")
        nowhere = tmp_path / "nowhere.wav"
        with pytest.raises(InputError, match=r"phones\.txt, line 2: .*'0.05 soon b'"):
            head.generate(tmp_path / "nowhere.jpg", nowhere, phones=path)
        with pytest.raises(InputError, match=r"missing\.txt cannot be read"):
            head.generate(tmp_path / "nowhere.jpg", nowhere, phones=tmp_path / "missing.txt")

    def test_a_system_that_takes_none(self, head: TalkingHead, tmp_path: Path) -> None:
        plain = untrained_head(takes_phones=False)
        assert head.system.takes_phones
        assert not plain.system.takes_phones
        path = tmp_path / "phones.txt"
        path.write_text(PHONES)
        with pytest.raises(InputError, match=r"cannot be told the phones.*moda-tiny") as caught:
            plain.generate(tmp_path / "nowhere.jpg", tmp_path / "nowhere.wav", phones=path)
        assert "\n" not in str(caught.value)


class TestReenact:
    def test_a_driving_video_moves_a_portrait(
        self, head: TalkingHead, speech: Path, tmp_path: Path
    ) -> None:
        driving = tmp_path / "driving.mp4"
        head.generate(PORTRAIT, speech, size=256, num_steps=1).write(driving)
        looked_at: list[tuple[int, int]] = []
        video = head.reenact(
            PORTRAIT, driving, size=128, progress=lambda *count: looked_at.append(count)
        )
        assert looked_at[-1] == (33, 33)
        summary = video.write(tmp_path / "talk.mp4")
        written = decode_video(summary.path)
        assert len(written.frames) == summary.num_frames == video.num_frames == 33
        assert written.sound_seconds == pytest.approx(33 / 25, abs=1e-3)
        still = head.reenact(PORTRAIT, driving, size=128, head_motion=0.0)
        assert not np.ptp(next(still.motion()).part("yaw"))

    def test_a_silent_video_gives_a_silent_video(self, head: TalkingHead, tmp_path: Path) -> None:
        from PIL import Image

        picture = np.asarray(Image.open(PORTRAIT).resize((256, 256)))
        driving = write_video(tmp_path / "in.mkv", [picture] * 8, [33 * n for n in range(8)])
        video = head.reenact(PORTRAIT, driving, size=128, frames_per_second=30)
        written = decode_video(video.write(tmp_path / "talk.mp4").path)
        assert not written.samples.size
        assert len(written.frames) == pytest.approx(8, abs=1)

    def test_a_video_without_a_face(self, head: TalkingHead, tmp_path: Path) -> None:
        driving = write_video(tmp_path / "in.mkv", level_pictures([10, 20, 30]), [0, 40, 80])
        with pytest.raises(FaceError):
            head.reenact(PORTRAIT, driving)


class TestDevice:
    def test_names(self) -> None:
        assert choose_device("cpu") == "cpu"
        assert choose_device("auto") in ("cpu", "cuda", "mps")
        with pytest.raises(InputError, match="unknown device"):
            choose_device("tpu")

    @pytest.mark.parametrize("name", ["cuda", "mps"])
    def test_absent_devices(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        with pytest.raises(InputError, match="not available"):
            choose_device(name)
        assert choose_device("auto") == "cpu"
