"""Configurations: round trips, and refusals that name the key."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from moda.config import (
    BLOCK_COUNTS,
    PRESETS,
    AutoencoderConfig,
    ModelConfig,
    MotionModelConfig,
    SamplerConfig,
    SpeechEmbedderConfig,
    SpeechFeaturesConfig,
    from_dict,
    from_json,
    merged,
    preset,
    to_dict,
    to_json,
)
from moda.config import changed as changed_config
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
    assert (tiny.speech_embedder.before, tiny.speech_embedder.after) == (18, 6)


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
        ("motion.cross_attention_blocks", 129, r"cross_attention_blocks 129 is outside 0\.\.128"),
        ("motion.objective", "score", r"expected one of 'flow', 'diffusion', 'v_diffusion'"),
        ("motion.conditions", ["speech"], r"conditions: expected one of 'style', 'identity'"),
        ("motion.conditions", ["style", "style"], r"name one of them twice"),
        ("motion.autoencoder.latent_size", -1, r"latent_size -1 is outside 0\.\."),
        ("motion.autoencoder.depth", 3, r"motion\.autoencoder: unknown key 'depth'"),
        (
            "motion.autoencoder.latent_size",
            4,
            r"16 numbers of the mouth cannot be added to latents",
        ),
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


def test_a_model_needs_a_block() -> None:
    none = dict.fromkeys(BLOCK_COUNTS, 0)
    with pytest.raises(ConfigError, match=r"no blocks; one of four_stream_blocks, .* must be 1"):
        replace(preset("moda-tiny").motion, **none)


@pytest.mark.parametrize("sampler", [{"mouth_noise": 0.5}, {"mouth_share": 0.0}])
def test_latents_have_no_mouth_to_scale(sampler: dict[str, float]) -> None:
    tiny = preset("moda-tiny").motion
    latent = replace(tiny, mouth_size=0, autoencoder=AutoencoderConfig(latent_size=4))
    with pytest.raises(ConfigError, match=r"must be 1 with an autoencoder"):
        ModelConfig("latent", latent, SamplerConfig(**sampler))


def test_checkpoints_from_before_the_variants_are_read_as_they_were() -> None:
    values = to_dict(preset("moda-tiny"))
    for key in ("cross_attention_blocks", "objective", "conditions", "autoencoder"):
        del values["motion"][key]
    assert from_dict(ModelConfig, values) == preset("moda-tiny")


def test_changes_reach_nested_keys_and_leave_the_rest() -> None:
    tiny = preset("moda-tiny").motion
    found = changed_config(tiny, {"hidden": 64, "speech_embedder": {"dilations": [1]}})
    embedder = replace(tiny.speech_embedder, dilations=(1,))
    assert found == replace(tiny, hidden=64, speech_embedder=embedder)
    with pytest.raises(ConfigError, match=r"network: unknown key 'depth'"):
        changed_config(tiny, {"depth": 3}, where="network")
    with pytest.raises(ConfigError, match=r"network\.speech_embedder: expected an object"):
        changed_config(tiny, {"speech_embedder": 3}, where="network")


def test_merging_replaces_lists_and_merges_objects() -> None:
    values = {"a": {"b": 1, "c": [1, 2]}, "d": 2}
    assert merged(values, {"a": {"c": [3]}, "e": 4}) == {"a": {"b": 1, "c": [3]}, "d": 2, "e": 4}
    assert values == {"a": {"b": 1, "c": [1, 2]}, "d": 2}, "the original stays"


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
