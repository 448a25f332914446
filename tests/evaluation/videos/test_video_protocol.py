"""The protocol file: what is accepted, what is refused and how."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from moda.errors import ConfigError, InputError
from moda.evaluation.videos.protocol import (
    OpenProtocol,
    check_inputs,
    read_protocol,
    seal,
    used_versions,
    version_mismatches,
)
from moda.evaluation.videos.rows import find_video

EXAMPLES = Path(__file__).parents[3] / "examples" / "evaluation"


def values(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "name": "a test",
        "clips": [{"name": "one", "video": {"path": "one.mp4"}}],
        "methods": [{"name": "theirs", "videos": "theirs/{clip}-{seed}.mp4"}],
    }
    return whole | changes


def opened(folder: Path, **changes: Any) -> OpenProtocol:
    path = folder / "protocol.json"
    path.write_text(json.dumps(values(**changes)), encoding="utf-8")
    return read_protocol(path)


def test_defaults_and_places(tmp_path: Path) -> None:
    found = opened(tmp_path)
    assert found.protocol.seeds == (0,)
    assert found.protocol.source_frame.rule == "calmest"
    assert found.locate("one.mp4") == tmp_path / "one.mp4"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clips": []}, "there are no clips"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"format": 2}, "format 2 is not 1"),
        ({"definitions": 7}, "definitions 7 is not 1"),
        ({"seeds": [0, 0]}, "give 1 to 20 different ones"),
        ({"seeds": [-1]}, "from 0 up"),
        ({"crop": {"size_px": 333}}, "even number from 128 to 1024"),
        ({"crop": {"margin": 9}}, "crop.margin 9.0 is outside 1..6"),
        ({"crop": {"kind": "nose"}}, "expected one of 'head', 'frame'"),
        ({"source_frame": {"rule": "index", "index": -3}}, "index -3 is below 0"),
        ({"clips": [{"name": "one"}]}, "give a video, or a portrait and speech"),
        (
            {"clips": [{"name": "one", "video": {"path": "a"}, "seconds": 0.1}]},
            "seconds 0.1 is outside 0.4..600",
        ),
        (
            {"clips": [{"name": "one", "video": {"path": "a", "sha256": "abc"}}]},
            "the sha256 of video is not 64 hex digits",
        ),
        ({"clips": [{"name": "../x", "video": {"path": "a"}}]}, "'../x' is no plain one"),
        ({"methods": [{"name": "x"}]}, "give either a model or a pattern"),
        ({"methods": [{"name": "Real Video", "model": "y"}]}, "a row that every report has"),
        ({"methods": [{"name": "x", "model": "y"}] * 2}, "x is there twice"),
        ({"methods": [{"name": "x", "videos": "{clip}-{take}.mp4"}]}, "unknown mark {take}"),
        (
            {"seeds": [0, 1], "methods": [{"name": "x", "videos": "{clip}.mp4"}]},
            "lacks {seed}",
        ),
        (
            {"methods": [{"name": "x", "model": "y", "window": {"stride": 3, "overlap": 5}}]},
            "overlap must lie between 0 and its stride",
        ),
        ({"emotions": {"clip": "two"}}, "'two' is no clip"),
        ({"emotions": {"clip": "one", "emotions": ["bored"]}}, "unknown emotion 'bored'"),
        ({"versions": ["torch>=2"]}, "is not of the form name==1.2.3"),
    ],
)
def test_what_is_impossible_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        opened(tmp_path, **changes)
    assert message in str(caught.value)


def test_missing_protocol(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_protocol(tmp_path / "none.json")


class TestHashes:
    def test_a_file_must_have_its_hash(self, tmp_path: Path) -> None:
        protocol = opened(tmp_path)
        with pytest.raises(InputError, match=r"video one\.mp4 is missing"):
            check_inputs(protocol)
        (tmp_path / "one.mp4").write_bytes(b"a video")
        with pytest.raises(InputError, match="--seal"):
            check_inputs(protocol)
        assert seal(protocol) == 1
        sealed = read_protocol(protocol.path)
        expected = hashlib.sha256(b"a video").hexdigest()
        assert sealed.protocol.clips[0].video.sha256 == expected
        check_inputs(sealed)
        assert seal(sealed) == 0
        (tmp_path / "one.mp4").write_bytes(b"another")
        with pytest.raises(InputError, match=f"the protocol says {expected}"):
            check_inputs(sealed)

    def test_sealing_keeps_everything_else(self, tmp_path: Path) -> None:
        protocol = opened(tmp_path, seeds=[3])
        (tmp_path / "one.mp4").write_bytes(b"x")
        seal(protocol)
        written = json.loads(protocol.path.read_text(encoding="utf-8"))
        written["clips"][0]["video"].pop("sha256")
        assert written == values(seeds=[3])


class TestVersions:
    def test_mismatches_are_named(self, tmp_path: Path) -> None:
        found = used_versions()
        pins = [f"numpy=={found['numpy']}", f"moda=={found['moda']}", "torch==0.1", "no-such==1"]
        wrong = version_mismatches(opened(tmp_path, versions=pins).protocol)
        assert wrong == [
            f"torch is {found['torch']}, the protocol fixes 0.1",
            "no-such is not installed, the protocol fixes 1",
        ]


class TestPatterns:
    def test_marks_are_replaced(self, tmp_path: Path) -> None:
        protocol = opened(tmp_path)
        target = tmp_path / "theirs" / "one-4.mp4"
        target.parent.mkdir()
        target.touch()
        assert find_video(protocol, "theirs/{clip}-{seed}.mp4", "one", "theirs", seed=4) == target
        with pytest.raises(InputError, match=r"method theirs: .*one-5\.mp4 is missing"):
            find_video(protocol, "theirs/{clip}-{seed}.mp4", "one", "theirs", seed=5)


class TestExamples:
    def test_example_is_sealed_and_its_files_are_there(self) -> None:
        example = read_protocol(EXAMPLES / "example.json")
        check_inputs(example)
        assert [method.model for method in example.protocol.methods] == ["moda-tiny"]

    def test_template_shows_every_way_to_name_a_method(self) -> None:
        template = read_protocol(EXAMPLES / "template.json").protocol
        assert any(method.videos for method in template.methods)
        assert any(method.model for method in template.methods)
        assert any(clip.phones for clip in template.clips)
