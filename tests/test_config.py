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
    VariantConfig,
    preset,
)
from moda.errors import ConfigError
from moda.strict_json import changed as changed_config
from moda.strict_json import (
    from_dict,
    from_json,
    merged,
    to_dict,
    to_json,
)
from moda.weights.spaces import load_motion_space


@pytest.mark.parametrize("name", list(PRESETS))
def test_json_round_trip(name: str) -> None:
    config = preset(name)
    assert from_json(ModelConfig, to_json(config)) == config
    assert from_dict(ModelConfig, to_dict(config)) == config
    assert json.loads(to_json(config))["name"] == name


def test_changed_values_survive_the_round_trip() -> None:
    config = preset("moda-tiny")
    embedder = replace(config.motion.speech_embedder, voice_spans=(3, 7), width=96)
    changed = replace(config, motion=replace(config.motion, hidden=160, speech_embedder=embedder))
    changed = replace(changed, sampler=SamplerConfig(head_gains=(1.0, 2.0, 3.0, 0.5, 0.0, 4.0)))
    read = from_json(ModelConfig, to_json(changed))
    assert read == changed
    assert read.motion.speech_embedder.voice_spans == (3, 7)
    assert read.sampler.head_gains == (1.0, 2.0, 3.0, 0.5, 0.0, 4.0)


def test_presets_have_the_published_and_the_small_sizes() -> None:
    base, tiny = preset("moda-base").motion, preset("moda-tiny").motion
    blocks = (base.four_stream_blocks, base.two_stream_blocks, base.one_stream_blocks)
    assert (base.hidden, base.num_heads, base.motion_size, blocks) == (768, 12, 70, (3, 6, 12))
    assert (base.speech.size, base.none_emotion, base.stride) == (12 * 768, 8, 64)
    assert (tiny.motion_size, tiny.speech.size, tiny.speech_embedder.reach) == (33, 2 * 384 + 3, 2)
    assert (tiny.speech_embedder.before, tiny.speech_embedder.after) == (2, 2)
    assert tiny.speech_embedder.voice_reach == 32
    assert (base.generated_size, tiny.generated_size) == (70, 33 - 2)


def test_the_small_preset_leaves_the_lids_to_rules() -> None:
    lids = load_motion_space().slice("blink")
    assert preset("moda-tiny").motion.unsampled == tuple(range(lids.start, lids.stop))


CONV = SpeechEmbedderConfig(width=16, dilations=(1, 2, 3, 4), context=12)


def conv_config() -> MotionModelConfig:
    """The small preset on spectra."""
    return replace(preset("moda-tiny").motion, speech=SpeechFeaturesConfig(), speech_embedder=CONV)


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
        (
            "motion.speech.kind",
            "mfcc",
            r"expected one of 'whisper', 'log_mel', 'hubert', got 'mfcc'",
        ),
        ("motion.speech.kind", ["hubert"], r"expected one of 'whisper', 'log_mel', 'hubert'"),
        ("motion.speech_embedder.dilations", 3, r"dilations: expected a list"),
        ("motion.speech_embedder.dilations", [1, "2"], r"dilations: expected of type int"),
        ("sampler.drop_last_step", 1, r"drop_last_step: expected of type bool"),
        ("name", 7, r"name: expected of type str"),
        ("motion.hidden", 10**9, r"hidden 1000000000 is outside 1\.\.8192"),
        ("motion.one_stream_blocks", 10**6, r"one_stream_blocks 1000000 is outside"),
        (
            "motion.variant.cross_attention_blocks",
            129,
            r"cross_attention_blocks 129 is outside 0\.\.128",
        ),
        (
            "motion.variant.objective",
            "score",
            r"expected one of 'flow', 'diffusion', 'v_diffusion'",
        ),
        (
            "motion.variant.conditions",
            ["speech"],
            r"conditions: expected one of 'style', 'identity'",
        ),
        ("motion.variant.conditions", ["style", "style"], r"name one of them twice"),
        ("motion.variant.autoencoder.latent_size", -1, r"latent_size -1 is outside 0\.\."),
        (
            "motion.variant.autoencoder.depth",
            3,
            r"motion\.variant\.autoencoder: unknown key 'depth'",
        ),
        (
            "motion.variant.autoencoder.latent_size",
            4,
            r"16 numbers of the mouth cannot be added to latents",
        ),
        ("motion.num_heads", 3, r"hidden 128 must be a multiple of twice num_heads 3"),
        ("motion.overlap", 41, r"overlap 41 is outside 1\.\.40"),
        ("motion.speech_embedder.context", 1, r"context 1 is outside 2\.\."),
        ("motion.speech_embedder.delay", 1, r"reader has one convolution: .* delay 0"),
        ("motion.speech_embedder.dilations", [1], r"reader has one convolution: dilations must"),
        ("motion.speech_embedder.voice_spans", [], r"voice_spans must name at least one span"),
        ("motion.speech_embedder.voice_spans", [9, 4], r"voice span 4 is even"),
        ("motion.speech_embedder.voice_spans", [1003], r"voice_spans 1003 is outside 1\.\.1001"),
        ("motion.speech_embedder.num_phones", 0, r"num_phones 0 is outside 1\.\."),
        ("motion.speech_embedder.compressed", 0, r"compressed 0 is outside 1\.\."),
        ("motion.speech_embedder.kind", "conv", r"conv speech embedder reads no phones"),
        ("motion.speech.kind", "log_mel", r"a reader speech embedder does not fit log_mel"),
        ("motion.mouth_size", 0, r"a reader reads the mouth: set mouth_size"),
        (
            "motion.unsampled",
            [22, 22],
            r"unsampled numbers \(22, 22\) must be different ones of 16",
        ),
        ("motion.unsampled", [15], r"unsampled numbers \(15,\) must be different ones of 16\.\.32"),
        ("motion.unsampled", [33], r"unsampled numbers \(33,\) must be different ones of 16\.\.32"),
        ("motion.mouth_size", 34, r"mouth_size 34 is outside 0\.\.33"),
        ("motion.speech_embedder.kind", "mlp", r"mlp speech embedder sees one frame"),
        ("sampler.num_steps", 0, r"num_steps 0 is outside 1\.\."),
        ("sampler.head_gain", 0.5, r"unknown key 'head_gain'"),
        ("sampler.head_gains", [1.0] * 5, r"head_gains .* must be 6 numbers"),
        ("sampler.head_gains", [1.0] * 5 + [4.5], r"head_gains 4\.5 is outside 0\.0\.\.4\.0"),
        ("sampler.head_noise", 2.5, r"head_noise 2\.5 is outside 0\.0\.\.2\.0"),
        ("sampler.guidance_scale", 0.5, r"guidance_scale 0\.5 is outside 1\.0\.\."),
    ],
)
def test_refusals_name_the_key(path: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(ModelConfig, changed(path, value))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": 11}, r"context 11 is outside 12\.\."),
        ({"delay": 13}, r"delay 13 is outside 0\.\.12"),
        ({"num_phones": 17}, r"reads no phones and no voices"),
        ({"voice_spans": (9,)}, r"reads no phones and no voices"),
        ({"compressed": 4}, r"reads no phones and no voices"),
    ],
)
def test_refusals_of_convolutions(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CONV, **changes)


@pytest.mark.parametrize("kind", ["log_mel", "hubert"])
def test_a_reader_goes_with_tokens_and_nothing_else_does(kind: Any) -> None:
    tiny = preset("moda-tiny").motion
    with pytest.raises(ConfigError, match=f"reader speech embedder does not fit {kind} features"):
        replace(tiny, speech=SpeechFeaturesConfig(kind=kind))
    with pytest.raises(ConfigError, match="conv speech embedder does not fit whisper features"):
        replace(tiny, speech_embedder=CONV)


LATENT = VariantConfig(autoencoder=AutoencoderConfig(latent_size=4))


def test_latents_are_of_all_numbers() -> None:
    config = replace(conv_config(), mouth_size=0)
    with pytest.raises(ConfigError, match="latents are of all numbers: leave unsampled empty"):
        replace(config, variant=LATENT)


def test_a_model_needs_a_block() -> None:
    none = dict.fromkeys(BLOCK_COUNTS, 0)
    with pytest.raises(ConfigError, match=r"no blocks; one of four_stream_blocks, .* must be 1"):
        replace(preset("moda-tiny").motion, **none)


def test_latents_have_no_mouth_to_scale() -> None:
    latent = replace(conv_config(), mouth_size=0, unsampled=(), variant=LATENT)
    with pytest.raises(ConfigError, match=r"must be 1 with an autoencoder"):
        ModelConfig("latent", latent, SamplerConfig(mouth_share=0.0))


def test_checkpoints_from_before_the_variants_are_read_as_they_were() -> None:
    values = to_dict(preset("moda-tiny"))
    del values["motion"]["variant"]
    assert from_dict(ModelConfig, values) == preset("moda-tiny")
    published = to_dict(preset("moda-base"))
    del published["motion"]["unsampled"], published["sampler"]["head_gains"]
    assert from_dict(ModelConfig, published) == preset("moda-base")


def test_keys_of_a_variant_stood_beside_the_others_in_earlier_versions() -> None:
    flat = {
        "cross_attention_blocks": 3,
        "objective": "v_diffusion",
        "conditions": ["style"],
        "autoencoder": {"latent_size": 4},
        "mouth_size": 0,
        "unsampled": [],
    }
    variant = VariantConfig(3, "v_diffusion", ("style",), AutoencoderConfig(4))
    expected = replace(conv_config(), mouth_size=0, unsampled=(), variant=variant)
    assert changed_config(conv_config(), flat) == expected
    values = to_dict(conv_config()) | flat
    del values["variant"]
    assert from_dict(MotionModelConfig, values) == expected
    with pytest.raises(ConfigError, match=r"network\.variant\.objective: expected one of 'flow'"):
        changed_config(conv_config(), {"objective": "score"}, where="network")


def test_two_keys_of_earlier_samplers_are_read_where_they_say_nothing() -> None:
    values = to_dict(SamplerConfig()) | {"mouth_noise": 1.0, "mouth_gain": 1.0}
    assert from_dict(SamplerConfig, values) == SamplerConfig()
    with pytest.raises(ConfigError, match=r"sampler: mouth_gain 0\.5 is gone; it must be 1"):
        from_dict(SamplerConfig, values | {"mouth_gain": 0.5})


def test_changes_reach_nested_keys_and_leave_the_rest() -> None:
    tiny = preset("moda-tiny").motion
    found = changed_config(tiny, {"hidden": 64, "speech_embedder": {"voice_spans": [1]}})
    embedder = replace(tiny.speech_embedder, voice_spans=(1,))
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
    assert SpeechFeaturesConfig(kind="whisper", channels=8).size == 2 * 8 + 3
    assert SpeechEmbedderConfig(dilations=(1,), context=3).reach == 3
    with pytest.raises(ConfigError, match="odd"):
        replace(conv_config(), speech=SpeechFeaturesConfig(bands=5, stacked=1))
