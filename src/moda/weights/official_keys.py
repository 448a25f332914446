"""Names of the weights in the official MoDA-base file, and ours."""

from __future__ import annotations

from itertools import product

from moda.config import PRESETS

MODULES = {
    "motion_embedder.mlp.0": "motion_embedder.first",
    "motion_embedder.mlp.2": "motion_embedder.second",
    "identity_embedder.mlp.0": "identity_embedder.first",
    "identity_embedder.mlp.2": "identity_embedder.second",
    "time_embedder.mlp.0": "time_embedder.first",
    "time_embedder.mlp.2": "time_embedder.second",
    "audio_embedder.proj1": "speech_embedder.layers.0",
    "audio_embedder.proj2": "speech_embedder.layers.1",
    "audio_embedder.proj3": "speech_embedder.layers.2",
    "audio_embedder.norm": "speech_embedder.norm",
    "emo_embedder.embedding_table": "emotion_embedder",
    "final_layer.adaLN_modulation.1": "final_layer.modulation",
    "final_layer.linear": "final_layer.linear",
}
STREAM = {
    "adaLN_modulation_{long}{number}.1": "modulation.linear",
    "attn1.qkv_{short}{number}": "qkv",
    "attn1.{short}_q_norm{number}": "query_norm",
    "attn1.{short}_k_norm{number}": "key_norm",
    "attn1.{short}_proj{number}": "projection",
    "{long}_mlp{number}.fc1": "mlp.first",
    "{long}_mlp{number}.fc2": "mlp.second",
}
ONE_STREAM = {
    "adaLN_modulation_xs.1": "modulation.linear",
    "qkv_xs": "qkv_and_inner",
    "attn1.xs_q_norm": "query_norm",
    "attn1.xs_k_norm": "key_norm",
    "linear2": "output",
}
WITHOUT_BIAS = ("norm", "emotion_embedder")
MOTION_STREAM = {"short": "xs", "long": "xs", "number": ""}
FOUR_STREAMS = (MOTION_STREAM, *({"short": "au", "long": "audio", "number": n} for n in "123"))
TWO_STREAMS = (MOTION_STREAM, {"short": "au", "long": "audio", "number": ""})
"""Words of the official names of each stream."""


def official_keys() -> dict[str, str]:
    """Official key -> key of :class:`moda.motion.model.MotionTransformer`.

    ``qkv_and_inner`` stands for a matrix that is kept in two parts here: ``query_and_inner`` and
    ``key_and_value``.
    """
    config = PRESETS["moda-base"].motion
    modules = dict(MODULES)
    for theirs, ours, count, streams in (
        ("blocks4", "four_stream_blocks", config.four_stream_blocks, FOUR_STREAMS),
        ("blocks2", "two_stream_blocks", config.two_stream_blocks, TWO_STREAMS),
    ):
        for index, (stream, words) in product(range(count), enumerate(streams)):
            for layer, our_layer in STREAM.items():
                name = f"{theirs}.{index}.{layer.format(**words)}"
                modules[name] = f"{ours}.{index}.streams.{stream}.{our_layer}"
    for index in range(config.one_stream_blocks):
        for theirs, ours in ONE_STREAM.items():
            modules[f"blocks.{index}.{theirs}"] = f"one_stream_blocks.{index}.{ours}"
    return {
        f"talking_head_dit.{theirs}.{kind}": f"{ours}.{kind}"
        for theirs, ours in modules.items()
        for kind in (("weight",) if ours.endswith(WITHOUT_BIAS) else ("weight", "bias"))
    }
