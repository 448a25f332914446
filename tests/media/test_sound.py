from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from av.audio.frame import AudioFrame

from media_files import click, level_pictures, tone, write_video, write_wav
from moda.errors import MediaError
from moda.media import AudioReader, VideoReader, VideoWriter
from moda.media.audio import Resampler
from moda.media.channels import to_stereo


def read_all(path: Path, sample_rate: int = 16_000) -> np.ndarray:
    return np.concatenate(list(AudioReader(path, sample_rate)))


def encode(path: Path, codec: str, rate_hz: int, samples: np.ndarray) -> Path:
    """Encode (N,) samples with PyAV."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz)
        stream.layout = "mono"
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate_hz)
        frame = AudioFrame.from_ndarray(samples.astype(np.float32)[None], "flt", "mono")
        frame.sample_rate, frame.pts = rate_hz, 0
        for converted in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_any_rate_keeps_length_and_wave(tmp_path: Path, rate_hz: int, channels: int) -> None:
    wave = np.repeat(tone(1.234, rate_hz)[:, None], channels, axis=1)
    reader = AudioReader(write_wav(tmp_path / "speech.wav", wave, rate_hz))
    samples = np.concatenate(list(reader))
    assert samples.dtype == np.float32
    assert abs(len(samples) - len(wave) / rate_hz * 16_000) <= 1
    assert reader.duration_seconds == pytest.approx(len(wave) / rate_hz, abs=1e-3)
    middle = slice(2_000, -2_000)
    np.testing.assert_allclose(samples[middle], tone(2, 16_000)[: len(samples)][middle], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz"),
    [
        ("speech.flac", "flac", 44_100),
        ("speech.mp3", "libmp3lame", 44_100),
        ("speech.m4a", "aac", 48_000),
        ("speech.opus", "libopus", 48_000),
        ("speech.mkv", "aac", 44_100),
    ],
)
def test_any_container_keeps_time(tmp_path: Path, name: str, codec: str, rate_hz: int) -> None:
    wave = click(2.0, rate_hz, at=1.0)[:, 0]
    samples = read_all(encode(tmp_path / name, codec, rate_hz, wave))
    assert np.abs(samples).argmax() / 16_000 == pytest.approx(1.0, abs=0.002)
    assert len(samples) / 16_000 == pytest.approx(2.0, abs=0.03)


def test_vorbis_keeps_time(tmp_path: Path) -> None:
    path = tmp_path / "speech.ogg"
    wave = click(2.0, 44_100, at=1.0)[:, 0]
    with soundfile.SoundFile(path, "w", 44_100, 1, format="OGG", subtype="VORBIS") as file:
        for start in range(0, len(wave), 10_000):
            file.write(wave[start : start + 10_000])
    samples = read_all(path)
    assert np.abs(samples).argmax() / 16_000 == pytest.approx(1.0, abs=0.002)
    assert len(samples) == 32_000


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_any_sample_format_has_the_same_level(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "speech.wav"
    soundfile.write(path, tone(0.5, 16_000), 16_000, subtype=subtype)
    np.testing.assert_allclose(read_all(path), tone(0.5, 16_000), atol=0.01)


def test_channels_are_averaged(tmp_path: Path) -> None:
    wave = tone(0.5, 16_000)
    stereo = np.stack([wave, np.zeros_like(wave)], axis=1)
    samples = read_all(write_wav(tmp_path / "speech.wav", stereo, 16_000))
    np.testing.assert_allclose(samples, wave / 2, atol=1e-3)


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_opposite_phase_is_not_lost(tmp_path: Path, noise: float) -> None:
    generator = np.random.default_rng(0)
    wave = np.concatenate([np.zeros(1600), tone(1.0, 16_000)])
    sides = np.stack([wave, -0.9 * wave], 1) + noise * generator.standard_normal((len(wave), 2))
    path = tmp_path / "phase.wav"
    soundfile.write(path, sides, 16_000, subtype="FLOAT")
    heard = read_all(path)
    assert np.corrcoef(heard, wave)[0, 1] > 0.99
    assert heard.std() > 0.9 * wave.std()


def test_channels_by_their_places() -> None:
    generator = np.random.default_rng(1)
    names = ("FL", "FR", "FC", "LFE", "BL", "SR", "BC")
    parts = generator.standard_normal((len(names), 50)).astype(np.float32)
    left, right = to_stereo(parts, names)
    middle = np.sqrt(0.5) * (parts[2] + parts[6])
    np.testing.assert_allclose(left, parts[0] + middle + np.sqrt(0.5) * parts[4], atol=1e-5)
    np.testing.assert_allclose(right, parts[1] + middle + np.sqrt(0.5) * parts[5], atol=1e-5)


@pytest.mark.parametrize("channels", [4, 6, 8])
def test_speech_in_one_of_many_channels_keeps_its_level(tmp_path: Path, channels: int) -> None:
    wave = tone(1.0, 16_000)
    for number in {0, 1, 2} if channels > 4 else {0, 1}:
        sides = np.zeros((len(wave), channels))
        sides[:, number] = wave
        path = tmp_path / f"{number}.flac"
        soundfile.write(path, sides, 16_000)
        reader = AudioReader(path)
        assert reader.num_channels == 2
        heard = np.concatenate(list(reader))
        assert heard.std() > 0.49 * wave.std()  # within 6 dB


@pytest.mark.parametrize(("subtype", "scale"), [("FLOAT", 2.0**15), ("DOUBLE", 2.0**31)])
def test_integers_saved_as_floats_are_named(tmp_path: Path, subtype: str, scale: float) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, 0.5 * scale * tone(1.0, 16_000), 16_000, subtype=subtype)
    with pytest.raises(MediaError, match=r"holds samples up to .* where full scale is 1; save it"):
        list(AudioReader(path))
    soundfile.write(path, 1.5 * tone(1.0, 16_000), 16_000, subtype=subtype)
    assert len(read_all(path)) == 16_000


@pytest.mark.parametrize("suffix", ["wav", "aiff"])
def test_a_recording_that_goes_on_after_its_end_is_named(tmp_path: Path, suffix: str) -> None:
    one = tmp_path / f"one.{suffix}"
    soundfile.write(one, tone(0.6, 16_000), 16_000)
    assert AudioReader(one).notes == ()
    both = tmp_path / f"both.{suffix}"
    both.write_bytes(2 * one.read_bytes())
    (note,) = AudioReader(both).notes
    assert "several recordings one after the other; the first is used" in note


def write_levels(path: Path, levels: Sequence[float]) -> Path:
    """A file with a sound track of half a second for each level."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in levels]
        for stream, level in zip(streams, levels, strict=True):
            samples = np.full((1, 8000), round(level * 2**15), np.int16)
            frame = AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.pts = 16_000, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def test_several_tracks_are_named(tmp_path: Path) -> None:
    path = write_levels(tmp_path / "two.mkv", (0.1, 0.2))
    assert "2 sound tracks" in AudioReader(path).notes[0]
    assert AudioReader(path, number=2).notes == ()


@pytest.mark.parametrize("suffix", ["mkv", "mov"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_track_is_chosen(tmp_path: Path, suffix: str, number: int) -> None:
    """Also for the sound of a video that is written."""
    levels = (0.1, 0.25, 0.5)
    path = write_levels(tmp_path / f"three.{suffix}", levels)
    reader = AudioReader(path, number=number)
    np.testing.assert_allclose(np.concatenate(list(reader)), levels[number - 1], atol=1e-4)
    video = tmp_path / "copy.mkv"
    with VideoWriter(video, (64, 64), 25.0, sound=path, sound_track=number) as writer:
        for picture in level_pictures([100] * 12, (64, 64)):
            writer.write(picture)
    heard = np.concatenate(list(AudioReader(video)))[2000:6000]
    assert float(np.median(heard)) == pytest.approx(levels[number - 1], abs=0.02)


@pytest.mark.parametrize("number", [0, 3, 99])
def test_a_track_that_is_not_there(tmp_path: Path, number: int) -> None:
    path = write_levels(tmp_path / "two.mkv", (0.1, 0.2))
    with pytest.raises(MediaError, match=rf"has no sound track {number}; it has 2, counted from 1"):
        AudioReader(path, number=number)


def test_the_same_twice_and_in_small_chunks(tmp_path: Path) -> None:
    reader = AudioReader(write_wav(tmp_path / "speech.wav", tone(20, 44_100), 44_100))
    first, second = list(reader), list(reader)
    assert max(map(len, first)) <= 16_000
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(second))


def test_sound_of_a_video(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "talk.mkv", level_pictures([10, 200]), [0, 40], sound=tone(0.5, 16_000)
    )
    assert len(read_all(path)) == 8_000


def test_a_hole_in_the_time_stamps_becomes_silence(tmp_path: Path) -> None:
    path = tmp_path / "speech.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000)
        stream.layout = "mono"
        for start in (0.0, 2.0):
            frame = AudioFrame.from_ndarray(np.full((1, 8_000), 9_000, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = 16_000, round(start * 16_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    samples = read_all(path)
    assert len(samples) == pytest.approx(2.5 * 16_000, abs=32)
    assert np.abs(samples[9_000:31_000]).max() == 0.0
    assert samples[:7_900].min() > 0.2
    assert samples[32_100:].min() > 0.2


def test_resampling_a_stream_equals_its_length(tmp_path: Path) -> None:
    for count in (1, 441, 44_100 * 7 + 13):
        resampler = Resampler(44_100, 16_000, num_channels=2)
        parts = [resampler.push(np.zeros((2, count), np.float32)), resampler.finish()]
        assert sum(part.shape[1] for part in parts) == -(-count * 16_000 // 44_100)


def bad_sound(folder: Path, problem: str) -> Path:
    path = folder / "speech.wav"
    if problem == "does not exist":
        return path
    if problem == "is a folder":
        return folder
    if problem == "0 bytes":
        path.write_bytes(b"")
    elif problem == "cannot be read as sound":
        path.write_text("this is no sound\n" * 100)
    elif problem == "without samples":
        write_wav(path, np.zeros(0), 16_000)
    elif problem == "20 ms":
        write_wav(path, tone(0.02, 16_000), 16_000)
    elif problem == "no sound track":
        path = write_video(folder / "silent.mp4", level_pictures([10, 20]), [0, 40])
    elif problem == "sample rate of 1000":
        write_wav(path, tone(1, 1_000), 1_000)
    else:
        samples = tone(1.0, 16_000)
        samples[100] = np.nan if "NaN" in problem else np.inf
        soundfile.write(path, samples, 16_000, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    "problem",
    [
        "does not exist",
        "is a folder",
        "0 bytes",
        "cannot be read as sound",
        "without samples",
        "20 ms",
        "no sound track",
        "sample rate of 1000",
        "NaN",
        "infinite",
    ],
)
def test_bad_sound_gets_one_clear_line_at_once(tmp_path: Path, problem: str) -> None:
    path = bad_sound(tmp_path, problem)
    with pytest.raises(MediaError, match=problem) as caught:
        AudioReader(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert ";" in str(caught.value), "the message names a remedy"


def test_nan_in_the_middle_is_found_while_reading(tmp_path: Path) -> None:
    samples = tone(3.0, 16_000)
    samples[40_000] = np.nan
    path = tmp_path / "speech.wav"
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    reader = AudioReader(path)
    with pytest.raises(MediaError, match="NaN"):
        list(reader)


def test_a_little_damage_is_skipped_and_much_is_refused(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp3", "libmp3lame", 44_100, tone(5, 44_100)).read_bytes()
    scratched, broken = bytearray(whole), bytearray(whole)
    scratched[20_000:20_100] = bytes(100)
    broken[1_000:] = np.random.default_rng(0).bytes(len(broken) - 1_000)
    (tmp_path / "scratched.mp3").write_bytes(scratched)
    (tmp_path / "broken.mp3").write_bytes(broken)
    assert len(read_all(tmp_path / "scratched.mp3")) == pytest.approx(5 * 16_000, abs=2_000)
    with pytest.raises(MediaError):
        read_all(tmp_path / "broken.mp3")


def test_other_protocols_and_playlists_stay_closed(tmp_path: Path) -> None:
    speech = write_wav(tmp_path / "speech.wav", tone(1, 16_000), 16_000)
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\n{speech}\n#EXT-X-ENDLIST\n")
    concat = tmp_path / "list.ffconcat"
    concat.write_text(f"ffconcat version 1.0\nfile {speech.name}\n")
    for path in (playlist, concat, f"concat:{speech}", "http://localhost:1/speech.wav"):
        with pytest.raises(MediaError):
            AudioReader(path)


def test_a_long_claim_in_the_header_is_refused_before_decoding(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "speech.wav", tone(1, 8_000), 8_000)
    content = bytearray(path.read_bytes())
    with path.open("wb") as file:
        size = 8_000 * 2 * 5 * 3600
        content[40:44] = size.to_bytes(4, "little")
        content[4:8] = (size + 36).to_bytes(4, "little")
        file.write(content)
        file.truncate(size + 44)  # a sparse file of five hours
    with pytest.raises(MediaError, match=r"5\.0 h.*limit of 4 h"):
        AudioReader(path)


@pytest.mark.parametrize("size", [3e38, -3e38, 1e30, 2e6])
@pytest.mark.parametrize("start", [0, 20_000])
def test_gigantic_samples_are_refused(tmp_path: Path, size: float, start: int) -> None:
    samples = tone(2.0, 16_000).astype(np.float32)
    samples[start] = size
    soundfile.write(tmp_path / "loud.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(MediaError, match="where full scale is 1"):
        read_all(tmp_path / "loud.wav")


def test_loud_samples_are_read_as_they_are(tmp_path: Path) -> None:
    samples = 5.0 * tone(1.0, 16_000).astype(np.float32)
    soundfile.write(tmp_path / "loud.wav", samples, 16_000, subtype="FLOAT")
    assert np.abs(read_all(tmp_path / "loud.wav")).max() == pytest.approx(np.abs(samples).max())


def test_codecs_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav", tone(1.0, 16_000), 16_000)
    content = bytearray(wav.read_bytes())
    content[20:22] = (0x7777).to_bytes(2, "little")
    wav.write_bytes(content)
    mka = encode(tmp_path / "a.mka", "aac", 16_000, tone(1.0, 16_000))
    mka.write_bytes(mka.read_bytes().replace(b"A_AAC", b"A_ZZZ"))
    for path in (wav, mka):
        with pytest.raises(MediaError, match="codec is unknown"):
            AudioReader(path)
    for name, known, unknown in (("a.mp4", b"avc1", b"zzz9"), ("a.mkv", b"V_MPEG4", b"V_ZZZZZ")):
        video = write_video(tmp_path / name, level_pictures([10, 20, 30]), [0, 40, 80])
        assert known in video.read_bytes()
        video.write_bytes(video.read_bytes().replace(known, unknown))
        with pytest.raises(MediaError, match="codec is unknown"):
            VideoReader(video)
