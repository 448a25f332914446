from __future__ import annotations

import errno
import hashlib
import os
import threading
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.stream import Disposition
from av.video.frame import VideoFrame

from media_files import click, decode_video, level_pictures, tone, write_video, write_wav
from moda.errors import InputError, MediaError, OutputError
from moda.media import AudioReader, VideoReader, VideoWriter, check_output_path

SIZE = (96, 64)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def levels(pictures: list[np.ndarray]) -> list[int]:
    """Grey level of each picture to the nearest ten."""
    return [round(float(picture.mean()) / 10) * 10 for picture in pictures]


def moving_pictures(count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    return [
        np.stack([(columns + 3 * n) % 256, (rows * 2 + n) % 256, 0 * rows + 90], 2).astype(np.uint8)
        for n in range(count)
    ]


def write_all(path: Path, pictures: list[np.ndarray], rate: float = 25.0, **options) -> Path:
    height, width = pictures[0].shape[:2]
    with VideoWriter(path, (width, height), rate, **options) as video:
        for picture in pictures:
            video.write(picture)
    return path


def write_tracks(path: Path, are_default: list[bool], begin_ms: int) -> None:
    """Ten pictures from 20 to 200, and tracks of 1 s that click at 0.1 s, 0.2 s and so on."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=25, options={"crf": "5"})
        pictures.width, pictures.height, pictures.pix_fmt = *SIZE, "yuv420p"
        pictures.codec_context.max_b_frames = 0
        tracks = [container.add_stream("pcm_s16le", rate=16_000) for _ in are_default]
        for track, is_default in zip(tracks, are_default, strict=True):
            track.layout = "mono"
            track.disposition = Disposition.default if is_default else Disposition(0)
        for index, picture in enumerate(level_pictures(range(20, 220, 20), SIZE)):
            frame = VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = begin_ms + 40 * index, Fraction(1, 1000)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        for index, track in enumerate(tracks):
            samples = click(1.0, 16_000, at=0.1 + 0.1 * index).T
            sound = AudioFrame.from_ndarray((samples * 32767).astype(np.int16), "s16", "mono")
            sound.sample_rate, sound.pts = 16_000, 16 * begin_ms if index else 0
            container.mux(track.encode(sound))
            container.mux(track.encode(None))


class TestReader:
    def test_the_same_rate_gives_every_picture_once(self, tmp_path: Path) -> None:
        shades = [10, 40, 70, 100, 130, 160, 190, 220]
        times = [0, 41, 79, 121, 160, 199, 241, 280]  # a jittering clock
        reader = VideoReader(write_video(tmp_path / "in.mkv", level_pictures(shades), times))
        assert levels(list(reader)) == shades
        assert reader.size == SIZE
        assert levels(list(reader)) == shades

    @pytest.mark.parametrize("rate", [25.0, 29.97])
    @pytest.mark.parametrize("name", ["constant.mp4", "variable.mkv", "late.mp4", "program.mpg"])
    def test_reading_from_the_middle(self, tmp_path: Path, name: str, rate: float) -> None:
        """As when all is read, also with far key frames, and where nothing can be sought."""
        times = [40 * n + (13 * n % 7 if name.startswith("variable") else 0) for n in range(100)]
        path = write_video(
            tmp_path / name,
            moving_pictures(100),
            times,
            sound=tone(4.0, 16_000) if name.startswith("late") else None,
            codec="mpeg2video" if name.endswith("mpg") else "libx264",
            options={"g": "40"},
            rate=25 if name.endswith("mpg") else 1000,
        )
        reader = VideoReader(path, rate)
        whole = list(reader)
        for first in (0, 1, 30, 57, len(whole) - 1, len(whole), len(whole) + 5):
            part = list(reader.pictures_from(first))
            assert len(part) == max(0, len(whole) - first)
            for picture, expected in zip(part, whole[first:], strict=True):
                np.testing.assert_array_equal(picture, expected)

    def test_variable_rate_holds_pictures(self, tmp_path: Path) -> None:
        path = write_video(
            tmp_path / "in.mkv", level_pictures([10, 60, 110, 160]), [0, 40, 400, 440]
        )
        assert levels(list(VideoReader(path))) == [10, *[60] * 9, 110, 160]

    @pytest.mark.parametrize(("native", "count"), [(50, 20), (30, 12), (24, 10), (10, 4)])
    def test_other_rates_keep_the_duration(self, tmp_path: Path, native: int, count: int) -> None:
        times = [round(n * 1000 / native) for n in range(count)]
        shades = list(range(10, 10 + 10 * count, 10))
        path = write_video(tmp_path / "in.mkv", level_pictures(shades), times)
        reader = VideoReader(path)
        pictures = levels(list(reader))
        assert len(pictures) == pytest.approx(25 * count / native, abs=1)
        assert reader.duration_seconds == pytest.approx(count / native, abs=0.1)
        for index, level in enumerate(pictures):
            shown = (level - 10) / 10 / native
            assert abs(shown - index / 25) <= 0.5 / min(native, 25) + 0.021

    @pytest.mark.parametrize("delay_ms", [0, 20, 120, 400])
    def test_late_sound_keeps_its_place_and_all_pictures(
        self, tmp_path: Path, delay_ms: int
    ) -> None:
        shades = list(range(10, 210, 10))
        path = write_video(
            tmp_path / "in.mkv",
            level_pictures(shades),
            [n * 40 for n in range(20)],
            sound=click(0.4, 16_000, at=0.3)[:, 0],
            sound_start_ms=delay_ms,
        )
        reader = VideoReader(path)
        assert levels(list(reader)) == shades
        assert reader.duration_seconds == pytest.approx(0.8, abs=0.05)
        sound = AudioReader(path, 16_000)
        samples = np.concatenate(list(sound))
        assert np.abs(samples).argmax() == pytest.approx(16 * (300 + delay_ms), abs=16)
        assert sound.duration_seconds == pytest.approx(len(samples) / 16_000, abs=0.41)
        copy = write_all(tmp_path / "copy.mp4", list(reader), sound=path)
        assert decode_video(copy).loudest_at == pytest.approx(0.3 + delay_ms / 1000, abs=0.002)

    @pytest.mark.parametrize("begin_ms", [0, 200])
    @pytest.mark.parametrize(
        ("flags", "heard"), [("01", 1), ("10", 0), ("00", 0), ("11", 0), ("001", 2)]
    )
    def test_the_default_sound_track_is_heard(
        self, tmp_path: Path, flags: str, heard: int, begin_ms: int
    ) -> None:
        """The first track begins at 0, pictures and the others at ``begin_ms``."""
        path = tmp_path / "in.mkv"
        write_tracks(path, [flag == "1" for flag in flags], begin_ms)
        lead = begin_ms if heard == 0 else 0
        sound = AudioReader(path, 16_000)
        samples = np.concatenate(list(sound))
        clicked = 0.1 + 0.1 * heard
        assert np.abs(samples).argmax() == pytest.approx(16_000 * clicked, abs=16)
        assert len(samples) == 16_000
        reader = VideoReader(path)
        assert levels(list(reader)) == [*[20] * (lead // 40), *range(20, 220, 20)]
        copy = write_all(tmp_path / "copy.mp4", list(reader), sound=path)
        assert decode_video(copy).loudest_at == pytest.approx(clicked, abs=0.002)

    def test_sound_that_ends_where_pictures_begin(self, tmp_path: Path) -> None:
        path = write_video(
            tmp_path / "in.mkv", level_pictures([50, 100]), [400, 440], sound=tone(0.4, 16_000)
        )
        assert levels(list(VideoReader(path))) == [*[50] * 11, 100]

    def test_pictures_before_the_first_one_hold_it(self, tmp_path: Path) -> None:
        path = write_video(
            tmp_path / "in.mkv", level_pictures([50, 100]), [120, 160], sound=tone(0.2, 16_000)
        )
        assert levels(list(VideoReader(path))) == [50, 50, 50, 50, 100]

    def test_pictures_with_their_own_times(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "in.mkv", level_pictures([10, 60, 110]), [0, 33, 300])
        times, pictures = zip(*VideoReader(path).timed_pictures(), strict=True)
        assert times == pytest.approx([0.0, 0.033, 0.3])
        assert levels(list(pictures)) == [10, 60, 110]

    @pytest.mark.parametrize("mirrored", [False, True])
    @pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
    def test_any_display_matrix_is_applied(
        self, tmp_path: Path, quarter_turns: int, mirrored: bool
    ) -> None:
        stored = np.zeros((64, 96, 3), np.uint8)
        stored[:32, :48], stored[32:, :48], stored[:32, 48:] = 200, 130, 60
        one, zero = 1 << 16, 0
        right, down = ((one, zero), (zero, one), (-one, zero), (zero, -one))[quarter_turns], None
        down = (-right[1], right[0])  # where the stored picture's axes point on the screen
        shown = np.rot90(stored, -quarter_turns)
        if mirrored:
            right, down = (-right[0], right[1]), (-down[0], down[1])
            shown = shown[:, ::-1]
        matrix = (*right, 0, *down, 0, 0, 0, 1 << 30)
        path = write_video(tmp_path / "in.mp4", [stored] * 3, [0, 40, 80], display_matrix=matrix)
        reader = VideoReader(path)
        first = next(iter(reader))
        assert reader.size == first.shape[1::-1]
        assert np.abs(first - shown.astype(float)).mean() < 4

    @pytest.mark.parametrize("cover_first", [True, False])
    def test_covers_are_no_pictures(self, tmp_path: Path, cover_first: bool) -> None:
        shades = [10, 60, 110, 160]
        film = write_video(tmp_path / "film.mp4", level_pictures(shades), [0, 40, 80, 120])
        with (
            av.open(str(film)) as source,
            av.open(str(tmp_path / "both.mp4"), "w") as target,
        ):
            video = source.streams.video[0]

            def cover() -> av.VideoStream:
                stream = target.add_stream("png", rate=1)
                stream.width, stream.height, stream.pix_fmt = 64, 64, "rgb24"
                stream.disposition = Disposition.attached_pic
                return stream

            covers = [cover()] if cover_first else []
            copied = target.add_stream_from_template(video)
            covers = covers or [cover()]
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 250, np.uint8), "rgb24")
            frame.pts = 0
            for packet in (*covers[0].encode(frame), *covers[0].encode(None)):
                target.mux(packet)
            for packet in source.demux(video):
                if packet.dts is not None:
                    packet.stream = copied
                    target.mux(packet)
        assert levels(list(VideoReader(tmp_path / "both.mp4"))) == shades

    def test_rotation_is_applied(self, tmp_path: Path) -> None:
        picture = np.zeros((64, 96, 3), np.uint8)
        picture[:, :48] = 200  # the left half is bright
        clockwise = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
        path = write_video(
            tmp_path / "in.mp4", [picture] * 3, [0, 40, 80], display_matrix=clockwise
        )
        reader = VideoReader(path)
        assert reader.size == (64, 96)
        first = next(iter(reader))
        assert first.shape == (96, 64, 3)
        assert first[:40].mean() > 180, "left turned clockwise is top"
        assert first[56:].mean() < 20

    @pytest.mark.parametrize(
        "problem",
        ["does not exist", "cannot be read as video", "no video track", "below the limit"],
    )
    def test_bad_videos_get_one_clear_line(self, tmp_path: Path, problem: str) -> None:
        path = tmp_path / "in.mp4"
        if problem == "cannot be read as video":
            path.write_bytes(np.random.default_rng(0).bytes(10_000))
        elif problem == "no video track":
            path = write_wav(tmp_path / "in.wav", tone(1, 16_000), 16_000)
        elif problem == "below the limit":
            write_video(path, level_pictures([10, 20], (48, 48)), [0, 40])
        with pytest.raises(MediaError, match=problem) as caught:
            VideoReader(path)
        assert "\n" not in str(caught.value)
        assert ";" in str(caught.value)


class TestWriter:
    @pytest.mark.parametrize("rate", [24.0, 25.0, 29.97, 30.0])
    @pytest.mark.parametrize(("rate_hz", "channels"), [(44_100, 2), (48_000, 1), (16_000, 1)])
    def test_picture_and_sound_agree(
        self, tmp_path: Path, rate: float, rate_hz: int, channels: int
    ) -> None:
        speech = write_wav(
            tmp_path / "speech.wav", click(1.234, rate_hz, at=1.0, channels=channels), rate_hz
        )
        count = int(np.ceil(1.234 * rate))
        video = decode_video(
            write_all(tmp_path / "talk.mp4", moving_pictures(count), rate, sound=speech)
        )
        assert len(video.frames) == count
        np.testing.assert_allclose(np.diff(video.frame_times), 1 / rate, atol=1e-4)
        assert float(video.frame_rate) == pytest.approx(rate, abs=1e-3)
        assert video.frame_times[0] == 0.0
        assert video.loudest_at == pytest.approx(1.0, abs=0.001)
        assert video.video_seconds == pytest.approx(count / rate, abs=1e-3)
        assert video.sound_seconds == pytest.approx(count / rate, abs=1e-3)
        assert video.samples.shape[1] / video.sample_rate == pytest.approx(count / rate, abs=0.04)
        assert video.sample_rate == (rate_hz if rate_hz != 16_000 else 48_000)
        assert len(video.samples) == channels

    def test_stereo_stays_apart(self, tmp_path: Path) -> None:
        stereo = np.stack([tone(1, 48_000, 300), tone(1, 48_000, 700)], axis=1)
        speech = write_wav(tmp_path / "speech.wav", stereo, 48_000)
        video = decode_video(write_all(tmp_path / "talk.mp4", moving_pictures(25), sound=speech))
        spectra = np.abs(np.fft.rfft(video.samples[:, :48_000]))
        np.testing.assert_allclose(spectra.argmax(axis=1), [300, 700])
        np.testing.assert_allclose(video.samples[:, 4_800:43_200].max(axis=1), 0.3, atol=0.03)

    def test_sound_is_cut_and_filled_to_the_pictures(self, tmp_path: Path) -> None:
        speech = write_wav(tmp_path / "speech.wav", tone(1.0, 48_000), 48_000)
        for count in (5, 50):
            video = decode_video(
                write_all(tmp_path / "talk.mp4", moving_pictures(count), sound=speech)
            )
            assert video.sound_seconds == pytest.approx(count / 25, abs=1e-3)
        assert np.abs(video.samples[0, 50_000:]).max() < 1e-3

    def test_without_sound(self, tmp_path: Path) -> None:
        video = decode_video(write_all(tmp_path / "talk.mp4", moving_pictures(7)))
        assert len(video.frames) == 7
        assert video.samples.size == 0

    def test_colours_survive(self, tmp_path: Path) -> None:
        picture = np.zeros((64, 96, 3), np.uint8)
        colours = [(200, 30, 60), (10, 220, 40), (20, 20, 250), (224, 172, 140)]
        for index, colour in enumerate(colours):
            picture[:, 24 * index : 24 * index + 24] = colour
        path = write_all(tmp_path / "talk.mp4", [picture] * 3)
        first = next(iter(VideoReader(path)))
        for index, colour in enumerate(colours):
            np.testing.assert_allclose(first[32, 24 * index + 12], colour, atol=6)

    @pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
    def test_metadata_is_machine_readable(self, tmp_path: Path, suffix: str) -> None:
        tags = {"title": "A title", "comment": "Synthetic media", "synthetic_media": "true"}
        path = write_all(tmp_path / f"talk{suffix}", moving_pictures(3), metadata=tags)
        with av.open(str(path)) as container:
            found = {key.lower(): value for key, value in container.metadata.items()}
        assert tags.items() <= found.items()
        assert not any("creation" in key for key in found)

    @pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
    def test_the_same_frames_give_the_same_bytes(self, tmp_path: Path, suffix: str) -> None:
        speech = write_wav(tmp_path / "speech.wav", tone(2.0, 44_100), 44_100)
        digests = {
            hashlib.sha256(
                write_all(
                    tmp_path / f"{name}{suffix}", moving_pictures(50), sound=speech
                ).read_bytes()
            ).hexdigest()
            for name in ("one", "two", "three")
        }
        assert len(digests) == 1

    def test_plays_before_it_is_loaded_whole(self, tmp_path: Path) -> None:
        content = write_all(tmp_path / "talk.mp4", moving_pictures(5)).read_bytes()
        assert content.index(b"moov") < content.index(b"mdat")

    def test_replaces_an_existing_file_and_leaves_nothing_else(self, tmp_path: Path) -> None:
        path = tmp_path / "talk.mp4"
        path.write_text("an older file")
        write_all(path, moving_pictures(5))
        assert len(decode_video(path).frames) == 5
        assert names_in(tmp_path) == ["talk.mp4"]
        assert not [thread for thread in threading.enumerate() if thread.name == "moda-encoder"]

    def test_follows_a_link_to_the_target(self, tmp_path: Path) -> None:
        (tmp_path / "real.mp4").write_text("an older file")
        (tmp_path / "link.mp4").symlink_to("real.mp4")
        write_all(tmp_path / "link.mp4", moving_pictures(5))
        assert (tmp_path / "link.mp4").is_symlink()
        assert len(decode_video(tmp_path / "real.mp4").frames) == 5

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MediaError])
    @pytest.mark.parametrize("at", [0, 1, 40])
    def test_an_error_leaves_the_old_file(
        self, tmp_path: Path, error: type[BaseException], at: int
    ) -> None:
        path = tmp_path / "talk.mp4"
        path.write_text("an older file")

        def interrupted() -> NoReturn:
            with VideoWriter(path, SIZE) as video:
                for picture in moving_pictures(at):
                    video.write(picture)
                raise error("stop")

        with pytest.raises(error, match="stop"):
            interrupted()
        assert path.read_text() == "an older file"
        assert names_in(tmp_path) == ["talk.mp4"]

    def test_bad_sound_is_reported_and_nothing_left(self, tmp_path: Path) -> None:
        speech = write_video(tmp_path / "silent.mp4", level_pictures([10, 20]), [0, 40])
        with pytest.raises(MediaError, match="no sound track"):
            write_all(tmp_path / "talk.mp4", moving_pictures(50), sound=speech)
        assert names_in(tmp_path) == ["silent.mp4"]

    def test_no_frames_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="no frames"), VideoWriter(tmp_path / "o.mp4", SIZE):
            pass
        assert names_in(tmp_path) == []

    def test_wrong_frames_are_a_bug(self, tmp_path: Path) -> None:
        with (
            pytest.raises(ValueError, match="not \\(64, 96, 3\\)"),
            VideoWriter(tmp_path / "o.mp4", SIZE) as video,
        ):
            video.write(np.zeros((10, 10, 3), np.uint8))


class TestFullDisk:
    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.9999])
    def test_any_point_of_failure_is_one_error(self, tmp_path: Path, share: float) -> None:
        resource = pytest.importorskip("resource", reason="only POSIX limits file sizes")
        pictures = [
            np.random.default_rng(n).integers(0, 255, (64, 96, 3), np.uint8) for n in range(30)
        ]
        path = write_all(tmp_path / "talk.mp4", pictures)
        limit = int(path.stat().st_size * share)
        path.unlink()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(OutputError, match=r"cannot be written \(File too large\)"):
                write_all(path, pictures)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert names_in(tmp_path) == []

    def test_no_space_at_the_last_moment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(descriptor: int) -> NoReturn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"No space left on device.*free some space"):
            write_all(tmp_path / "talk.mp4", moving_pictures(5))
        assert names_in(tmp_path) == []


class TestOutputPath:
    def test_good_ones(self, tmp_path: Path) -> None:
        for name in ("talk.mp4", "TALK.MP4", "ä ö — :.mov", "talk.mkv"):
            assert check_output_path(tmp_path / name) == tmp_path / name

    @pytest.mark.parametrize("name", ["talk.avi", "talk", "talk.mp4.txt"])
    def test_unknown_formats(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(InputError, match=r"\.mp4, \.mov, \.mkv"):
            check_output_path(tmp_path / name)

    def test_bad_targets(self, tmp_path: Path) -> None:
        (tmp_path / "folder.mp4").mkdir()
        (tmp_path / "file").write_text("")
        os.mkfifo(tmp_path / "pipe.mp4")
        for name, problem in {
            "folder.mp4": "is a folder",
            "missing/talk.mp4": "does not exist",
            "file/talk.mp4": "does not exist",
            "pipe.mp4": "not a plain file",
            "x" * 300 + ".mp4": "cannot be used",
        }.items():
            with pytest.raises(OutputError, match=problem):
                check_output_path(tmp_path / name)

    def test_write_protection(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # The superuser may write anywhere: what access() says is what matters here.
        path = tmp_path / "talk.mp4"
        path.write_text("")
        monkeypatch.setattr(os, "access", lambda target, mode: target != path)
        with pytest.raises(OutputError, match="write-protected"):
            check_output_path(path)
        monkeypatch.setattr(os, "access", lambda target, mode: False)
        with pytest.raises(OutputError, match="not writable"):
            check_output_path(path)

    def test_the_folder_disappears(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        video = VideoWriter(folder / "talk.mp4", SIZE)
        folder.rmdir()
        with pytest.raises(OutputError, match="No such file"), video:
            video.write(moving_pictures(1)[0])
