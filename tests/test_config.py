"""Configurations: round trips, and refusals that name the key."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from moda.config import (
    PRESETS,
    ModelConfig,
    MotionModelConfig,
    SamplerConfig,
    SpeechEmbedderConfig,
    SpeechFeaturesConfig,
    from_dict,
    from_json,
    preset,
    to_dict,
    to_json,
)
from moda.errors import ConfigError


@pytest.mark.parametrize("name", list(PRESETS))
def test_json_round_trip(name: str) -> None:
    config = preset(name)
    assert from_json(ModelConfig, to_json(config)) == config
    assert from_dict(ModelConfig, to_dict(config)) == config
    assert json.loads(to_json(config))["name"] == name


def test_changed_values_survive_the_round_trip() -> None:
    config = preset("moda-tiny")
    embedder = replace(config.motion.speech_embedder, dilations=(1, 3), width=96)
    changed = replace(config, motion=replace(config.motion, hidden=160, speech_embedder=embedder))
    read = from_json(ModelConfig, to_json(changed))
    assert read == changed
    assert read.motion.speech_embedder.dilations == (1, 3)


def test_presets_have_the_published_and_the_small_sizes() -> None:
    base, tiny = preset("moda-base").motion, preset("moda-tiny").motion
    blocks = (base.four_stream_blocks, base.two_stream_blocks, base.one_stream_blocks)
    assert (base.hidden, base.num_heads, base.motion_size, blocks) == (768, 12, 70, (3, 6, 12))
    assert (base.speech.size, base.none_emotion, base.stride) == (12 * 768, 8, 64)
    assert (tiny.motion_size, tiny.speech.size, tiny.speech_embedder.reach) == (33, 160, 12)
    assert (tiny.speech_embedder.before, tiny.speech_embedder.after) == (12, 12)


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'moda-huge'.*moda-base, moda-tiny"):
        preset("moda-huge")


def test_defaults_may_be_left_out_and_whole_numbers_are_numbers() -> None:
    assert from_json(SamplerConfig, "{}") == SamplerConfig()
    scale = from_json(SamplerConfig, '{"guidance_scale": 2}').guidance_scale
    assert isinstance(scale, float)


def test_configurations_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        SamplerConfig().num_steps = 3  # type: ignore[misc]


def changed(path: str, value: object) -> dict[str, Any]:
    """The small preset as JSON values, with one value set."""
    values = to_dict(preset("moda-tiny"))
    *parents, last = path.split(".")
    part = values
    for key in parents:
        part = part[key]
    part[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("colour", 1, r"unknown key 'colour'; known are name, motion, sampler"),
        ("motion.depth", 1, r"motion: unknown key 'depth'; known are motion_size, hidden"),
        ("motion.speech.fps", 25, r"motion\.speech: unknown key 'fps'"),
        ("motion.hidden", "128", r"motion\.hidden: expected of type int, got '128' \(str\)"),
        ("motion.hidden", 128.0, r"motion\.hidden: expected of type int"),
        ("motion.hidden", True, r"motion\.hidden: expected of type int, got True \(bool\)"),
        ("motion.hidden", None, r"motion\.hidden.*NoneType"),
        ("motion.mlp_ratio", True, r"mlp_ratio: expected a number, got True"),
        ("motion.mlp_ratio", float("nan"), r"mlp_ratio: expected a finite number"),
        ("motion.speech", [], r"motion\.speech: expected an object"),
        ("motion.speech.kind", "mfcc", r"expected one of 'log_mel', 'hubert', got 'mfcc'"),
        ("motion.speech.kind", ["hubert"], r"expected one of 'log_mel', 'hubert'"),
        ("motion.speech_embedder.dilations", 3, r"dilations: expected a list"),
        ("motion.speech_embedder.dilations", [1, "2"], r"dilations: expected of type int"),
        ("sampler.drop_last_step", 1, r"drop_last_step: expected of type bool"),
        ("name", 7, r"name: expected of type str"),
        ("motion.hidden", 10**9, r"hidden 1000000000 is outside 1\.\.8192"),
        ("motion.one_stream_blocks", 10**6, r"one_stream_blocks 1000000 is outside"),
        ("motion.one_stream_blocks", 0, r"at least 1"),
        ("motion.num_heads", 3, r"hidden 128 must be a multiple of twice num_heads 3"),
        ("motion.overlap", 41, r"overlap 41 is outside 1\.\.40"),
        ("motion.speech_embedder.context", 11, r"context 11 is outside 12\.\."),
        ("motion.speech_embedder.delay", 13, r"delay 13 is outside 0\.\.12"),
        ("motion.mouth_size", 34, r"mouth_size 34 is outside 0\.\.33"),
        ("motion.speech_embedder.kind", "mlp", r"mlp speech embedder sees one frame"),
        ("sampler.num_steps", 0, r"num_steps 0 is outside 1\.\."),
        ("sampler.guidance_scale", 0.5, r"guidance_scale 0\.5 is outside 1\.0\.\."),
    ],
)
def test_refusals_name_the_key(path: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(ModelConfig, changed(path, value))


def test_missing_keys_without_a_default_are_named() -> None:
    with pytest.raises(ConfigError, match=r"MotionModelConfig: missing key 'motion_size'"):
        from_json(MotionModelConfig, "{}")


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "[" * 100_000])
def test_text_that_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="SamplerConfig"):
        from_json(SamplerConfig, text)


def test_long_values_are_shortened_in_messages() -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(ModelConfig, changed("motion.hidden", "x" * 10_000))
    assert len(str(caught.value)) < 200


def test_feature_sizes() -> None:
    assert SpeechFeaturesConfig().size == 160
    assert SpeechFeaturesConfig(kind="hubert", layers=2, channels=8).size == 16
    assert SpeechEmbedderConfig(dilations=(1,), context=3).reach == 3
    with pytest.raises(ConfigError, match="odd"):
        replace(preset("moda-tiny").motion, speech=SpeechFeaturesConfig(bands=5, stacked=1))
