"""The whole way on made videos: from a protocol to the report."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch

from media_files import tone, write_moving_portrait, write_wav
from moda import cli
from moda.errors import InputError
from moda.evaluation.videos.generation import Cost, Task, make_video, peak_memory_mb
from moda.evaluation.videos.measuring import Measured, Placement
from moda.evaluation.videos.metrics import METRICS
from moda.evaluation.videos.networks import identity
from moda.evaluation.videos.networks.face_embedding import load_face_embedder
from moda.evaluation.videos.networks.learned import (
    Absent,
    FaceScorer,
    FrechetScorer,
    IdentityScorer,
    PerceptualScorer,
    Scorer,
    SyncScorer,
)
from moda.evaluation.videos.networks.syncnet import SyncNet
from moda.evaluation.videos.protocol import Crop, read_protocol, seal
from moda.evaluation.videos.references import frame_box, head_box, read_samples, resized
from moda.evaluation.videos.report.files import markdown, page, write_report
from moda.evaluation.videos.report.tables import Table
from moda.evaluation.videos.rows import REAL, RENDERED, STILL
from moda.evaluation.videos.running import Evaluation, evaluate_videos, of_rows
from moda.media import VideoReader, VideoWriter
from moda.structures import Picture
from moda.structures.landmarks import Array
from moda.weights.spaces import load_motion_space
from paths import EXAMPLES

SHIFT_FRAMES = 2


def write_protocol(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "protocol.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    seal(read_protocol(path))
    return path


class PictureFeatures:
    """Three numbers of a picture; enough for a Fréchet distance with a known answer."""

    def __call__(self, frames: Picture) -> Array:
        return frames.reshape(len(frames), -1, 3).astype(np.float64).mean(1)


class PoolingSyncNet(SyncNet):
    """SyncNet without its towers: embeddings are means, so that a test is quick."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def embed_lips(self, faces: torch.Tensor) -> torch.Tensor:
        return faces.mean((2, 3, 4)).repeat(1, 1024 // 3 + 1)[:, :1024] / 255.0

    def embed_speech(self, cepstra: torch.Tensor) -> torch.Tensor:
        return cepstra.mean((1, 3)).repeat(1, 1024 // 13 + 1)[:, :1024] / 50.0


class Run:
    """One evaluation of three methods, made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        real = folder / "real.mp4"
        write_moving_portrait(real, 12.0, num_frames=30, rate=25)
        (folder / "copies").mkdir()
        frames = list(VideoReader(real))
        for name, chosen in {
            "same": frames,
            "late": frames[:1] * SHIFT_FRAMES + frames[:-SHIFT_FRAMES],
            "smaller": [cv2.resize(frame[20:236, 20:236], (216, 216)) for frame in frames],
        }.items():
            height, width = chosen[0].shape[:2]
            with VideoWriter(folder / "copies" / f"{name}.mp4", (width, height), sound=real) as out:
                for frame in chosen:
                    out.write(np.asarray(frame, np.uint8))
        values = {
            "name": "made <videos>",
            "crop": {"kind": "frame", "size_px": 256},
            "source_frame": {"rule": "first"},
            "clips": [{"name": "one", "video": {"path": "real.mp4"}}],
            "methods": [
                {
                    "name": "same",
                    "videos": "copies/same.mp4",
                    "emotion_videos": "copies/{emotion}.mp4",
                    "window": {"stride": 10, "overlap": 0},
                    "stated": {"real_time_factor": 0.5, "machine": "somewhere"},
                },
                {"name": "late", "videos": "copies/late.mp4"},
                {"name": "cut", "videos": "copies/smaller.mp4", "alignment": "face"},
            ],
            "emotions": {"clip": "one", "emotions": ["happy"]},
        }
        for emotion, source in {"neutral": "same", "happy": "late"}.items():
            data = (folder / "copies" / f"{source}.mp4").read_bytes()
            (folder / "copies" / f"{emotion}.mp4").write_bytes(data)
        self.scorers: list[Scorer] = [
            FaceScorer(load_face_embedder(), min_faces=20),
            SyncScorer(PoolingSyncNet()),
            IdentityScorer("csim_sface", lambda face: face.astype(np.float32).ravel()),
            PerceptualScorer(lambda a, b: (a - b).abs().mean()),
            FrechetScorer("fid", PictureFeatures(), piece=1, size_px=32, least=20),
        ]
        self.evaluation: Evaluation = evaluate_videos(
            read_protocol(write_protocol(folder, values)), folder, scorers=self.scorers
        )
        self.table: Table = write_report(self.evaluation, folder)

    def figure(self, row: str, key: str) -> float:
        return self.table[row][key].mean


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("evaluation"))


class TestFigures:
    def test_rows_of_every_report_come_first(self, run: Run) -> None:
        assert list(run.table) == [REAL, RENDERED, STILL, "same", "late", "cut"]
        assert all(run.table[row] for row in run.table)

    def test_a_copy_is_as_good_as_the_real_video(self, run: Run) -> None:
        assert run.figure("same", "psnr_whole") > 35.0
        assert run.figure("same", "ssim_face") > 0.95
        assert run.figure("same", "lmd") < 0.6
        assert run.figure("same", "fid") < 5.0  # the coding moves the mean colour by a level
        assert run.figure("same", "csim_sface") == pytest.approx(
            run.figure(REAL, "csim_sface"), abs=1e-3
        )
        assert run.figure("same", "sync_distance") == pytest.approx(
            run.figure(REAL, "sync_distance"), rel=0.05
        )

    def test_a_copy_shows_the_same_person_as_the_real_video(self, run: Run) -> None:
        assert run.figure("same", "identity_similarity") == pytest.approx(
            run.figure(REAL, "identity_similarity"),
            abs=5e-3,  # the coding
        )
        assert run.figure(STILL, "identity_similarity") > 0.999
        assert 0.0 < run.figure("same", "face_frechet") < 0.02

    def test_rows_stand_between_ceiling_and_floor(self, run: Run) -> None:
        for key in ("psnr_face", "ssim_face"):
            assert run.figure(STILL, key) < run.figure(RENDERED, key) < run.figure("same", key)
        assert run.figure(STILL, "head_jerk") < run.figure(REAL, "head_jerk")
        assert (
            run.figure(STILL, "lpips") > run.figure("late", "lpips") > run.figure("same", "lpips")
        )

    def test_late_video_is_off_by_what_the_head_moves_in_two_frames(self, run: Run) -> None:
        # 12 px in 30 frames of 256 px, two frames late; the eyes of the portrait are 40 px apart.
        expected_px = 12.0 / 30 * SHIFT_FRAMES
        measured = run.figure("late", "lmd") - run.figure("same", "lmd")
        assert 0.4 * expected_px < measured / 100.0 * 40.0 < 1.6 * expected_px

    def test_a_cut_video_is_laid_on_the_real_one(self, run: Run) -> None:
        assert run.figure("cut", "psnr_face") > 28.0
        assert run.figure("cut", "lmd") < 1.5

    def test_nothing_is_compared_with_itself(self, run: Run) -> None:
        paired = {"psnr_whole", "ssim_face", "lmd", "mouth_lmd", "lip_correlation", "lpips", "fid"}
        paired |= {"face_frechet"}
        assert not paired & set(run.table[REAL])

    def test_stated_figures_are_marked(self, run: Run) -> None:
        assert run.table["same"]["real_time_factor"].is_stated
        assert "real_time_factor" not in run.table["late"]
        assert "0.50 *" in (run.folder / "report.md").read_text(encoding="utf-8")

    def test_border_jump_only_where_windows_are_known(self, run: Run) -> None:
        assert "border_jump" in run.table["same"]
        assert "border_jump" not in run.table["late"]

    def test_emotions_of_those_who_have_them(self, run: Run) -> None:
        assert list(run.evaluation.emotions) == ["same"]
        assert abs(run.evaluation.emotions["same"]["happy"]["mouth_width"]) < 3.0

    def test_diversity_over_seeds(self) -> None:
        still = np.zeros((10, 3))
        measured = [
            Measured("a", clip, seed, {}, np.zeros(10), still + seed * np.array([0.0, 2.0, 0.0]))
            for clip in ("x", "y")
            for seed in (0, 1)
        ]
        assert of_rows(["a", "b"], measured, []) == {"a": {"head_diversity": 2.0}, "b": {}}


class Links(HTMLParser):
    """Everything a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "iframe"):
            self.found.append(tag)
        self.found += [value or "" for key, value in attrs if key in ("src", "href", "poster")]


class TestReport:
    def test_json_holds_every_figure_and_no_other(self, run: Run) -> None:
        values = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
        assert set(values["rows"]) == set(run.table)
        for cells in values["rows"].values():
            assert set(cells) <= set(METRICS)
            assert all(np.isfinite(cell["mean"]) for cell in cells.values())
        assert len(values["videos"]) == 6
        assert values["versions"]["moda"]
        assert values["protocol"]["clips"][0]["video"]["sha256"]

    def test_page_fetches_nothing_but_the_clips_beside_it(self, run: Run) -> None:
        text = (run.folder / "report.html").read_text(encoding="utf-8")
        links = Links()
        links.feed(text)
        assert sorted(links.found) == ["clips/one.mp4", "clips/one.png"]
        assert all((run.folder / link).is_file() for link in links.found)
        assert not re.search(r"@import|url\((?!#)|<script", text)
        assert "made &lt;videos&gt;" in text
        assert "<videos>" not in text

    def test_side_by_side_shows_all_rows_with_the_speech(self, run: Run) -> None:
        with av.open(str(run.folder / "clips" / "one.mp4")) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height) == (3 * 320, 2 * 348)
            assert stream.frames == 30
            assert container.streams.audio

    def test_markdown_has_the_same_table(self, run: Run) -> None:
        text = (run.folder / "report.md").read_text(encoding="utf-8")
        for row in run.table:
            assert f"| {row} |" in text
        assert "## Picture" in text
        assert "Left out" not in text

    def test_what_is_left_out_has_a_command_or_none(self, run: Run) -> None:
        absent = [Absent("A", "too few <frames>"), Absent("B", "not here", "fetch b")]
        evaluation = replace(run.evaluation, absent=absent)
        text = markdown(evaluation, run.table)
        assert "- A: too few <frames>.\n- B: not here. Get it with `fetch b`\n" in text
        assert "<li>A: too few &lt;frames&gt;.</li><li>B: not here. Get it with <code>" in page(
            evaluation, run.table
        )


class TestWithoutRealVideo:
    def test_rows_stay_and_nothing_is_made_up(self, tmp_path: Path) -> None:
        speech = write_wav(tmp_path / "speech.wav", tone(0.8, 16000), 16000)
        values = {
            "name": "portrait and speech",
            "crop": {"kind": "frame", "size_px": 192},
            "clips": [
                {
                    "name": "one",
                    "portrait": {"path": str(EXAMPLES / "portrait.jpg")},
                    "speech": {"path": speech.name},
                }
            ],
            "methods": [{"name": "ours", "model": "moda-tiny"}],
        }
        costs: list[Cost] = []

        def make(task: Task) -> Cost:
            costs.append(make_video(task))
            return costs[-1]

        opened = read_protocol(write_protocol(tmp_path, values))
        evaluation = evaluate_videos(opened, tmp_path, make=make)
        table = write_report(evaluation, tmp_path)
        assert table[REAL] == table[RENDERED] == {}
        assert {"mouth_amplitude", "identity_similarity"} <= set(table[STILL])
        assert table["ours"]["real_time_factor"].mean == pytest.approx(costs[0].real_time_factor)
        assert 0.0 < costs[0].first_frame_seconds <= costs[0].wall_seconds
        assert not {"psnr_face", "lmd", "lip_correlation"} & set(table["ours"])
        text = (tmp_path / "report.md").read_text(encoding="utf-8")
        assert "No clip has a real video" in text
        assert {absent.metrics for absent in evaluation.absent} >= {"FVD"}
        assert "moda evaluate-weights convert rgb_imagenet.pt" in text


class TestCutting:
    def test_head_box_follows_the_head_and_stays_inside(self) -> None:
        face = load_motion_space().canonical_face
        assert face is not None
        ovals = np.repeat(100.0 * face[None, [10, 152, 234, 454], :2], 125, 0) + 300.0
        ovals[50:] += 40.0
        box = head_box(ovals, (900, 700), Crop(margin=1.9, size_px=256))
        assert box.width == box.height
        assert box.size == (256, 256)
        low, high = ovals.min((0, 1)), ovals.max((0, 1))
        assert (low > (box.left, box.top)).all()
        assert (high < (box.left + box.width, box.top + box.height)).all()
        small = head_box(ovals, (420, 410), Crop(margin=6.0, size_px=256))
        assert (small.left, small.top, small.width, small.height) == (10, 0, 410, 410)

    def test_frame_box_keeps_the_shape(self) -> None:
        box = frame_box((1920, 1080), Crop(kind="frame", size_px=512))
        assert box.size == (512, 288)

    def test_samples_of_a_part(self, tmp_path: Path) -> None:
        path = write_wav(tmp_path / "tone.wav", tone(2.0, 16000), 16000)
        whole = read_samples(path, 0.0, 600.0)
        assert len(whole) == 32000
        np.testing.assert_allclose(read_samples(path, 0.5, 0.25), whole[8000:12000])
        with pytest.raises(InputError, match=r"ends before 3\.0 s"):
            read_samples(path, 3.0, 1.0)

    def test_placement_moves_pictures_and_points_alike(self) -> None:
        matrix = np.array([[0.5, 0.0, 10.0], [0.0, 0.5, -5.0]])
        placement = Placement(matrix, (100, 80), False)
        picture = np.zeros((120, 120, 3), np.uint8)
        picture[58:63, 78:83] = 255
        moved = placement.picture(picture)[..., 0].astype(float)
        rows, columns = np.indices(moved.shape)
        centre = np.array([(columns * moved).sum(), (rows * moved).sum()]) / moved.sum()
        points = placement.points(np.full((1, 478, 3), [80.0, 60.0, 8.0]))
        np.testing.assert_allclose(points[0, 0, :2], [50.0, 25.0])
        assert points[0, 0, 2] == 4.0
        np.testing.assert_allclose(centre, points[0, 0, :2], atol=0.6)

    def test_resizing_averages_areas(self) -> None:
        picture = np.zeros((8, 8, 3), np.uint8)
        picture[:, ::2] = 200
        np.testing.assert_array_equal(resized(picture, (4, 4)), np.full((4, 4, 3), 100))


class TestCommand:
    def test_another_shape_is_refused_with_the_remedy(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_moving_portrait(tmp_path / "real.mp4", 4.0, num_frames=12, rate=25)
        frames = [frame[:, :128] for frame in VideoReader(tmp_path / "real.mp4")]
        with VideoWriter(tmp_path / "theirs.mp4", (128, 256)) as out:
            for frame in frames:
                out.write(np.ascontiguousarray(frame))
        values = {
            "name": "x",
            "crop": {"kind": "frame", "size_px": 128},
            "clips": [{"name": "one", "video": {"path": "real.mp4"}}],
            "methods": [{"name": "theirs", "videos": "theirs.mp4"}],
        }
        path = write_protocol(tmp_path, values)
        assert command("evaluate-videos", str(path), "--inputs", str(tmp_path / "in")) == 0
        assert sorted(file.name for file in (tmp_path / "in" / "one").iterdir()) == [
            "portrait.png",
            "real.mp4",
            "speech.wav",
        ]
        capsys.readouterr()
        assert command("evaluate-videos", str(path), "-o", str(tmp_path / "report")) == 2
        assert '"alignment": "face"' in capsys.readouterr().err

    def test_other_versions_are_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "a.mp4").write_bytes(b"x")
        values = {
            "name": "x",
            "versions": ["torch==0.1"],
            "clips": [{"name": "one", "video": {"path": "a.mp4"}}],
            "methods": [{"name": "theirs", "videos": "b.mp4"}],
        }
        path = write_protocol(tmp_path, values)
        assert command("evaluate-videos", str(path), "-o", str(tmp_path)) == 2
        assert "--any-versions" in capsys.readouterr().err


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(list(arguments))
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_peak_memory_is_that_of_a_process_with_torch() -> None:
    peak = peak_memory_mb()
    assert peak is None or 100.0 < peak < 100_000.0


class ColourNetwork(identity.FaceNetwork):
    """Instead of a face network: what arrives, averaged."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        return faces.mean((2, 3))


def test_faces_reach_the_network_as_red_green_blue_from_minus_one_to_one() -> None:
    face = np.zeros((112, 112, 3), np.uint8)
    face[..., 0] = 255
    np.testing.assert_allclose(identity.arcface(ColourNetwork())(face), [1.0, -1.0, -1.0])
