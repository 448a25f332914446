"""Every corpus as a miniature of its layout: what is found, whose it is, what is reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from moda.data.clip_jobs import PrepareOptions
from moda.data.clips import read_clips
from moda.data.corpora import (
    CORPUS_KINDS,
    ClipLabels,
    Corpus,
    Word,
    read_corpus,
    read_labels,
    read_lrs3_text,
)
from moda.data.prepare import prepare_corpus
from moda.data.quality import QualityLimits
from moda.errors import InputError
from moda.workers import run_here
from talking_videos import Talk

PRETRAIN_TEXT = """Text:  SO THIS IS IT
Conf:  6
Ref:   0Fi83BHQsMA

FRAME X Y W H
000000 0.370 0.146 0.180 0.321
000001 0.371 0.146 0.180 0.321

WORD START END ASDSCORE
SO 0.11 0.25 6.2
THIS 0.25 0.50 5.1
IS 0.5 0.61 4.4
IT 0.61 0.9 3.8
"""
Make = Callable[[Path], Path]
"""Puts a video, or a sound by its suffix, somewhere."""


@pytest.fixture(scope="module")
def make(talk: Talk, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A second and a bit of talk as video without sound, as video with sound, or as sound."""
    folder = tmp_path_factory.mktemp("pieces")
    piece = talk.part(10, 40)
    pieces = {
        ".mp4": piece.write(folder / "piece.mp4"),
        ".silent.mp4": piece.write(folder / "silent.mp4", with_sound=False),
        ".m4a": piece.write_sound(folder / "piece.m4a"),
        ".wav": piece.write_sound(folder / "piece.wav"),
    }

    def put(path: Path) -> Path:
        kind = "".join(path.suffixes)
        target = path.with_name(path.name.replace(".silent", ""))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pieces[kind], target)
        return target

    return put


def prepared(corpus: Corpus, output: Path) -> dict[str, tuple[str, float]]:
    """Names, speakers and seconds of sound of what preparation makes of a corpus."""
    limits = QualityLimits(
        min_speech_share=0.0, min_lip_correlation=-1.0, min_lip_correlation_of_a_second=-1.0
    )
    prepare_corpus(corpus, output, options=PrepareOptions(limits), run_jobs=run_here)
    return {clip.name: (clip.speaker, len(clip.samples) / 16_000) for clip in read_clips([output])}


def names(corpus: Corpus) -> list[str]:
    return [clip.name for clip in corpus.clips]


class TestLrs3:
    @pytest.fixture
    def root(self, tmp_path: Path, make: Make) -> Path:
        for name in ("pretrain/0Fi83BHQsMA/00001", "trainval/0Fi83BHQsMA/50001", "test/zZq/00001"):
            make(tmp_path / f"{name}.mp4")
        (tmp_path / "pretrain/0Fi83BHQsMA/00001.txt").write_text(PRETRAIN_TEXT)
        (tmp_path / "trainval/0Fi83BHQsMA/50001.txt").write_text("Text:  AND SO\nConf:  3\n")
        (tmp_path / "test/zZq/00001.txt").write_text("Text:  WELL\n\nWORD START END ASDSCORE\n")
        return tmp_path

    def test_clips(self, root: Path) -> None:
        corpus = read_corpus("lrs3", root, validation_share=0.0)
        assert [
            (clip.name, clip.speaker, clip.split, clip.transcript) for clip in corpus.clips
        ] == [
            ("pretrain-0Fi83BHQsMA-00001", "0Fi83BHQsMA", "train", "SO THIS IS IT"),
            ("test-zZq-00001", "zZq", "test", "WELL"),
            ("trainval-0Fi83BHQsMA-50001", "0Fi83BHQsMA", "train", "AND SO"),
        ]
        assert corpus.clips[0].words[1] == Word("THIS", 0.25, 0.5)
        assert [word.text for word in corpus.clips[0].words] == ["SO", "THIS", "IS", "IT"]
        assert corpus.problems == ()

    def test_missing_and_broken(self, root: Path) -> None:
        (root / "test/zZq/00001.mp4").unlink()
        (root / "trainval/0Fi83BHQsMA/50001.txt").unlink()
        (root / "pretrain/0Fi83BHQsMA/00001.txt").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(InputError, match="holds no clips of the layout 'lrs3'"):
            read_corpus("lrs3", root)
        (root / "pretrain/0Fi83BHQsMA/00001.txt").write_text(PRETRAIN_TEXT)
        corpus = read_corpus("lrs3", root)
        assert names(corpus) == ["pretrain-0Fi83BHQsMA-00001"]
        assert [(name, reason.split(":")[0]) for name, reason in corpus.problems] == [
            ("test-zZq-00001", "missing"),
            ("trainval-0Fi83BHQsMA-50001", "text unreadable"),
        ]

    @pytest.mark.parametrize("text", ["", "Conf: 3", "Text: A\n\nWORD START END\nA x 0.2 1\n"])
    def test_texts_that_are_none(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "00001.txt"
        path.write_text(text)
        with pytest.raises(ValueError, match=r"begins with Text:|could not convert"):
            read_lrs3_text(path)

    def test_prepared(self, root: Path, tmp_path: Path) -> None:
        corpus = read_corpus("lrs3", root, validation_share=0.0)
        assert set(prepared(corpus, tmp_path / "out")) == set(names(corpus))
        first = read_clips([tmp_path / "out"])[0]
        assert first.words == corpus.clips[0].words
        assert first.transcript == "SO THIS IS IT"


class TestVoxCeleb2:
    @pytest.fixture
    def root(self, tmp_path: Path, make: Make) -> Path:
        for inner in ("id00012/21Uxsk56VDQ/00001", "id00015/aB-1/00001", "id00015/aB-1/00002"):
            make(tmp_path / f"dev/mp4/{inner}.silent.mp4")
            make(tmp_path / f"dev/aac/{inner}.m4a")
        make(tmp_path / "test/mp4/id00017/x/00001.mp4")
        return tmp_path

    def test_clips(self, root: Path) -> None:
        corpus = read_corpus("voxceleb2", root, validation_share=0.0)
        assert [(clip.name, clip.speaker, clip.split) for clip in corpus.clips] == [
            ("id00012-21Uxsk56VDQ-00001", "id00012", "train"),
            ("id00015-aB-1-00001", "id00015", "train"),
            ("id00015-aB-1-00002", "id00015", "train"),
            ("id00017-x-00001", "id00017", "test"),
        ]
        assert corpus.clips[0].sound == root / "dev/aac/id00012/21Uxsk56VDQ/00001.m4a"
        assert corpus.clips[3].sound is None

    def test_prepared_with_the_sound_of_the_other_tree(self, root: Path, tmp_path: Path) -> None:
        (root / "dev/aac/id00015/aB-1/00002.m4a").unlink()
        (root / "dev/mp4/id00015/aB-1/00001.mp4").write_bytes(b"cut off")
        corpus = read_corpus("voxceleb2", root, validation_share=0.0)
        made = prepared(corpus, tmp_path / "out")
        assert {name: speaker for name, (speaker, _) in made.items()} == {
            "id00012-21Uxsk56VDQ-00001": "id00012",
            "id00017-x-00001": "id00017",
        }
        assert made["id00012-21Uxsk56VDQ-00001"][1] == pytest.approx(1.2, abs=0.15)
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        assert report["clips"] == {"prepared": 2, "skipped": 2}
        assert report["reasons"] == {"no sound": 1, "unreadable": 1}


class TestHdtf:
    def test_clips(self, tmp_path: Path, make: Make) -> None:
        for name in (
            "RD_Radio11_000", "RD_Radio1_001", "WDA_NancyPelosi0_000", "WDA_NancyPelosi1_003",
            "WRA_JohnKasich1_1_000", "Radio11_1", "AdamSchiff_0", "LucilleRoybal-Allard_12",
        ):  # fmt: skip
            make(tmp_path / f"{name}.silent.mp4")
        make(tmp_path / "WDA_NancyPelosi0_000.wav")
        make(tmp_path / "_videos_raw" / "RD_Radio11.silent.mp4")
        make(tmp_path / "trailer.silent.mp4")
        corpus = read_corpus("hdtf", tmp_path, validation_share=0.0)
        assert {clip.name: clip.speaker for clip in corpus.clips} == {
            "AdamSchiff_0": "AdamSchiff",
            "LucilleRoybal-Allard_12": "LucilleRoybal-Allard",
            "RD_Radio11_000": "Radio11",
            "RD_Radio1_001": "Radio1",
            "Radio11_1": "Radio11",
            "WDA_NancyPelosi0_000": "NancyPelosi",
            "WDA_NancyPelosi1_003": "NancyPelosi",
            "WRA_JohnKasich1_1_000": "JohnKasich",
        }
        assert corpus.clips[5].sound == tmp_path / "WDA_NancyPelosi0_000.wav"
        assert [problem.name for problem in corpus.problems] == ["trailer"]
        few = tuple(clip for clip in corpus.clips if clip.name.startswith("WDA"))
        assert set(prepared(Corpus(few), tmp_path / "out")) == {"WDA_NancyPelosi0_000"}
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        assert report["reasons"] == {"no sound": 1}, "the corpus's own script drops the sound"


class TestMead:
    def test_clips(self, tmp_path: Path, make: Make) -> None:
        for inner in ("M003/{}/front/angry/level_1/001", "W009/{}/front/neutral/level_1/040"):
            make(tmp_path / f"{inner.format('video')}.silent.mp4")
            make(tmp_path / f"{inner.format('audio').replace('front/', '')}.m4a")
        make(tmp_path / "M003/video/left_30/angry/level_1/001.silent.mp4")
        make(tmp_path / "M003/video/front/bored/level_1/001.silent.mp4")
        corpus = read_corpus("mead", tmp_path, validation_share=0.0)
        assert [(clip.name, clip.speaker, clip.emotion) for clip in corpus.clips] == [
            ("M003-angry-level_1-001", "M003", "angry"),
            ("W009-neutral-level_1-040", "W009", "neutral"),
        ]
        assert [problem.name for problem in corpus.problems] == ["M003-bored-level_1-001"]
        made = prepared(corpus, tmp_path / "out")
        assert {seconds > 1.0 for _, seconds in made.values()} == {True}
        assert [clip.emotion for clip in read_clips([tmp_path / "out"])] == ["angry", "neutral"]


class TestCelebVHq:
    @staticmethod
    def entry(emotion: dict[str, object], video: str = "M2Ohb0FAaJU") -> dict[str, object]:
        return {
            "ytb_id": video,
            "duration": {"start_sec": 81.62, "end_sec": 86.17},
            "bbox": {"top": 0.0, "bottom": 0.8815, "left": 0.1964, "right": 0.6922},
            "attributes": {"appearance": [0, 1], "action": [1, 0], "emotion": emotion},
            "version": "v0.1",
        }

    def test_clips(self, tmp_path: Path, make: Make) -> None:
        several = [{"emotion": "neutral", "start_sec": 0, "end_sec": 0.28}]
        entries: dict[str, object] = {
            "M2Ohb0FAaJU_1": self.entry({"sep_flag": False, "labels": "neutral"}),
            "M2Ohb0FAaJU_2": self.entry({"sep_flag": False, "labels": "sadness"}),
            "_0tf2n3rlJU_0": self.entry({"sep_flag": True, "labels": several}, "_0tf2n3rlJU"),
            "a_0": self.entry({"sep_flag": False, "labels": "anger"}, "a"),
            "b_0": self.entry({"sep_flag": False, "labels": "happy"}, "b"),
            "c_0": {"ytb_id": "c"},
        }
        for name in entries.keys() - {"b_0"}:
            make(tmp_path / "processed" / f"{name}.mp4")
        listing = tmp_path / "celebvhq_info.json"
        listing.write_text(json.dumps({"meta_info": {}, "clips": entries}))
        corpus = read_corpus("celebv-hq", tmp_path, validation_share=0.0)
        assert [(clip.name, clip.speaker, clip.emotion) for clip in corpus.clips] == [
            ("M2Ohb0FAaJU_1", "M2Ohb0FAaJU", "neutral"),
            ("M2Ohb0FAaJU_2", "M2Ohb0FAaJU", "sad"),
            ("_0tf2n3rlJU_0", "_0tf2n3rlJU", None),
            ("a_0", "a", "angry"),
        ]
        assert [(name, reason.split(":")[0]) for name, reason in corpus.problems] == [
            ("b_0", "missing"),
            ("c_0", "damaged list"),
        ]
        assert set(prepared(Corpus(corpus.clips[:1]), tmp_path / "out")) == {"M2Ohb0FAaJU_1"}

    @pytest.mark.parametrize("text", ["{", "[]", '{"clips"'])
    def test_lists_that_are_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "celebvhq_info.json").write_text(text)
        with pytest.raises(InputError, match=r"celebvhq_info\.json cannot be read"):
            read_corpus("celebv-hq", tmp_path)


class TestFolder:
    @pytest.fixture
    def root(self, tmp_path: Path, make: Make) -> Path:
        make(tmp_path / "in" / "anna.mp4")
        make(tmp_path / "in" / "more" / "ben.silent.mp4")
        make(tmp_path / "in" / "more" / "ben.wav")
        (tmp_path / "in" / "notes.txt").write_text("no video")
        return tmp_path / "in"

    def test_without_labels(self, root: Path) -> None:
        corpus = read_corpus("folder", root)
        assert [(clip.name, clip.speaker, clip.emotion) for clip in corpus.clips] == [
            ("anna", "anna", None),
            ("more-ben", "more-ben", None),
        ]
        assert [clip.sound for clip in corpus.clips] == [None, root / "more" / "ben.wav"]

    def test_labels(self, root: Path, tmp_path: Path) -> None:
        labels = tmp_path / "labels.csv"
        labels.write_text(
            "\ufefffile,speaker,emotion,sound\nanna.mp4,Anna,happy,\nmore/ben.mp4,Ben,,none\n"
            "gone.mp4,Cleo,,\n",
            encoding="utf-8",
        )
        corpus = read_corpus("folder", root, labels=labels, validation_share=0.0)
        anna, ben = corpus.clips
        assert (anna.speaker, anna.emotion, anna.has_own_sound) == ("Anna", "happy", True)
        assert (ben.speaker, ben.emotion, ben.has_own_sound, ben.sound) == (
            "Ben",
            None,
            False,
            None,
        )
        assert [problem.name for problem in corpus.problems] == ["gone.mp4"]
        assert prepared(corpus, tmp_path / "out") == {
            "anna": ("Anna", pytest.approx(1.2, abs=0.05)),
            "more-ben": ("Ben", 0.0),
        }

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("name\nx.mp4\n", "line 2: columns file and speaker"),
            ("file,speaker,emotion\nx.mp4,anna,hungry\n", "unknown emotion 'hungry'"),
            ("file,speaker,sound\nx.mp4,anna,music\n", "line 2: unknown sound 'music'"),
            ("file,speaker\nx.mp4,anna\nx.mp4,ben\n", "line 3: x.mp4 has labels already"),
            ("file,speaker\nx.mp4,Smith, Anna\n", "line 2: there are more values than columns"),
            ("file,speaker\n", "has no rows"),
        ],
    )
    def test_wrong_labels(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "labels.csv"
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_labels(path)
        with pytest.raises(InputError, match="cannot be read"):
            read_labels(tmp_path / "none.csv")

    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_labels_of_spreadsheets(self, tmp_path: Path, separator: str, encoding: str) -> None:
        rows = [
            ["File", " SPEAKER", "Emotion", "Sound", ""],
            ["a.mp4", "Ann ", "Happy", "", ""],
            ["", "", "", "", ""],
            ["more\\b.mp4", "Ben", "", "None", ""],
        ]
        path = tmp_path / "labels.csv"
        path.write_bytes("\r\n".join(map(separator.join, rows)).encode(encoding))
        assert read_labels(path) == {
            "a.mp4": ClipLabels("Ann", "happy"),
            "more/b.mp4": ClipLabels("Ben", sound=False),
        }

    @pytest.mark.parametrize(
        ("word", "own"),
        [
            *((word, False) for word in ("None", "no", " FALSE ", "0")),
            *((word, True) for word in ("", "own", "Yes", "TRUE")),
        ],
    )
    def test_words_for_sound(self, tmp_path: Path, word: str, own: bool) -> None:
        path = tmp_path / "labels.csv"
        path.write_text(f"file,speaker,emotion,sound\nx.mp4,anna,Happy,{word}\n")
        assert read_labels(path) == {"x.mp4": ClipLabels("anna", "happy", own)}

    def test_two_videos_of_one_name(self, root: Path, make: Make) -> None:
        make(root / "more-ben.mp4")
        with pytest.raises(InputError, match="several videos named 'more-ben'"):
            read_corpus("folder", root)


def test_what_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown corpus 'lrs4'; choose one of folder, lrs3"):
        read_corpus("lrs4", tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        read_corpus("folder", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"labels .* are for plain folders; mead has its own"):
        read_corpus("mead", tmp_path, labels=tmp_path / "labels.csv")
    for kind in set(CORPUS_KINDS) - {"celebv-hq"}:
        with pytest.raises(InputError, match=f"holds no clips of the layout '{kind}'"):
            read_corpus(kind, tmp_path)


class TestValidation:
    def corpus(self, root: Path, count: int, share: float) -> dict[str, str]:
        for index in range(count):
            folder = root / "dev" / "mp4" / f"id{index:05d}" / "v"
            folder.mkdir(parents=True, exist_ok=True)
            for clip in range(2):
                (folder / f"{clip:05d}.mp4").touch()
        (root / "test" / "mp4" / "id99999" / "v").mkdir(parents=True, exist_ok=True)
        (root / "test" / "mp4" / "id99999" / "v" / "00001.mp4").touch()
        clips = read_corpus("voxceleb2", root, validation_share=share).clips
        splits: dict[str, set[str]] = {}
        for clip in clips:
            splits.setdefault(clip.speaker, set()).add(clip.split)
        assert all(len(found) == 1 for found in splits.values()), "a speaker is in one split"
        assert splits["id99999"] == {"test"}
        return {speaker: found.pop() for speaker, found in splits.items()}

    def test_by_speaker_and_for_good(self, tmp_path: Path) -> None:
        few = self.corpus(tmp_path, 60, 0.2)
        many = self.corpus(tmp_path, 300, 0.2)
        assert few.items() <= many.items(), "more data moves nobody"
        share = sum(split == "validation" for split in many.values()) / 300
        assert 0.14 < share < 0.26
        larger = self.corpus(tmp_path, 300, 0.4)
        assert {s for s, split in many.items() if split == "validation"} < {
            s for s, split in larger.items() if split == "validation"
        }
        assert "validation" not in self.corpus(tmp_path, 300, 0.0).values()
