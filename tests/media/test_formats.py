"""WebM, GIF, transparency and subtitles, read back by PyAV."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from media_files import tone, write_wav
from moda.errors import InputError
from moda.media import VideoWriter, check_output_path
from moda.media.subtitles import Cue

SIZE = (96, 64)
CUES = (Cue("Hällo {b}\nzwei", 0.2, 0.6), Cue("你好", 0.7, 1.1))


def pictures(count: int, *, transparent: bool = False) -> list[np.ndarray]:
    """A square that moves over a colour; transparent around the middle."""
    width, height = SIZE
    made = []
    for index in range(count):
        picture = np.full((height, width, 4), (40, 90, 160, 255), np.uint8)
        picture[20:40, 2 * index : 2 * index + 20, :3] = (230, 60, 30)
        if transparent:
            picture[..., 3] = 0
            picture[16:48, 16:80, 3] = 255
        made.append(picture if transparent else picture[..., :3])
    return made


def write(path: Path, *, count: int = 30, transparent: bool = False, **options) -> Path:
    with VideoWriter(path, SIZE, 25.0, transparent=transparent, **options) as video:
        for picture in pictures(count, transparent=transparent):
            video.write(picture)
    return path


def decode(path: Path) -> list[np.ndarray]:
    """RGBA pictures; VP9's transparency is known to libvpx alone."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.codec_context.name == "vp9":
            decoder = av.CodecContext.create("libvpx-vp9", "r")
            frames = [f for packet in container.demux(stream) for f in decoder.decode(packet)]
        else:
            frames = list(container.decode(stream))
        return [frame.reformat(format="rgba").to_ndarray() for frame in frames]


@pytest.mark.parametrize("suffix", [".webm", ".gif", ".mp4", ".mkv"])
def test_pictures_and_length(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"talk{suffix}")
    frames = decode(path)
    assert len(frames) == 30
    for frame, picture in zip(frames, pictures(30), strict=True):
        assert np.abs(frame[..., :3].astype(int) - picture).mean() < 8
    with av.open(str(path)) as container:
        assert container.duration / 1e6 == pytest.approx(1.2, abs=0.05)
        assert (container.streams.video[0].width, container.streams.video[0].height) == SIZE


@pytest.mark.parametrize("suffix", [".webm", ".mov", ".gif"])
def test_transparency(tmp_path: Path, suffix: str) -> None:
    frames = decode(write(tmp_path / f"talk{suffix}", transparent=True, count=10))
    assert len(frames) == 10
    for frame in frames:
        assert frame[:12, :, 3].max() < 8
        assert frame[20:44, 22:74, 3].min() > 247
        assert np.abs(frame[42, 40, :3].astype(int) - (40, 90, 160)).max() < 12


def test_formats_without_transparency(tmp_path: Path) -> None:
    for name in ("talk.mp4", "talk.mkv"):
        with pytest.raises(InputError, match=r"transparent output .*\.webm, \.mov, \.gif"):
            check_output_path(tmp_path / name, transparent=True)


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".webm", "opus"), (".mov", "aac"), (".gif", None)], ids=str
)
def test_sound(tmp_path: Path, suffix: str, codec: str | None) -> None:
    sound = write_wav(tmp_path / "a.wav", tone(1.0, 44_100), 44_100)
    path = write(tmp_path / f"talk{suffix}", sound=sound)
    with av.open(str(path)) as container:
        assert len(container.streams.audio) == (codec is not None)
        if codec is None:
            return
        stream = container.streams.audio[0]
        assert stream.codec_context.name == codec
        samples = np.concatenate([f.to_ndarray()[0] for f in container.decode(stream)])
    assert len(samples) / stream.rate == pytest.approx(1.2, abs=0.05)
    loud = np.flatnonzero(np.abs(samples) > 0.1)
    assert loud[-1] / stream.rate == pytest.approx(1.0, abs=0.03), "silence until the end"


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "mov_text"), (".mkv", "subrip"), (".webm", "webvtt")]
)
def test_subtitles(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write(tmp_path / f"talk{suffix}", cues=CUES)
    with av.open(str(path)) as container:
        (stream,) = container.streams.subtitles
        assert stream.codec_context.name in (codec, "srt")
        found = []
        for packet in container.demux(stream):
            text = bytes(packet)[2:] if codec == "mov_text" else bytes(packet)
            if text and packet.pts is not None:
                start = float(packet.pts * packet.time_base)
                found.append((text.decode(), start, float(packet.duration * packet.time_base)))
    assert [text for text, _, _ in found] == ["Hällo (b)\nzwei", "你好"]
    assert [start for _, start, _ in found] == pytest.approx([0.2, 0.7], abs=2e-3)
    assert [length for _, _, length in found] == pytest.approx([0.4, 0.4], abs=2e-3)


def test_the_same_pictures_give_the_same_bytes(tmp_path: Path) -> None:
    for suffix, transparent in ((".webm", True), (".gif", False)):
        first, second = (
            write(tmp_path / f"{name}{suffix}", transparent=transparent, count=8).read_bytes()
            for name in "ab"
        )
        assert first == second
