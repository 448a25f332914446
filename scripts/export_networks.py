"""Make the graphs of the package, with which onnxruntime computes what the networks of torch do.

    pip install onnx; python scripts/export_networks.py

A graph has no weights: they stay in their .safetensors files, and every checkpoint of the same
configuration runs in it. The graphs are those of moda-tiny's and of the speech encoder.
What onnx cannot say is said otherwise here: complex numbers, a norm, and a convolution that pads
itself. ``tests/motion/test_onnx_network.py`` compares both.
"""

from __future__ import annotations

import argparse
import io
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moda.config import MotionModelConfig, preset
from moda.encoders.whisper import ENCODER_GRAPH, HEAD_SIZE, NUM_BANDS, read_encoder_weights
from moda.graphs import MOTION, TRANSPOSED, WEIGHT_LISTS
from moda.motion import layers
from moda.motion.model import Conditions, MotionTransformer
from moda.motion.network import GRAPHS
from moda.weights.files import ASSETS
from speech_encoder_network import EncoderBlock, WhisperEncoder

OPSET = 18
EXTERNAL = "weights"
"""Name of a file that does not exist: weights are handed over when a graph is loaded."""


class Encode(nn.Module):
    """Conditions of a window."""

    def __init__(self, model: MotionTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, features: Tensor, emotion: Tensor, intensity: Tensor, identity: Tensor
    ) -> Conditions:
        """``emotion`` (2,) is the emotion, and the one that stands for none."""
        model = self.model
        tokens = model.speech_embedder(features)
        chosen, none = model.emotion_embedder(emotion).split(1)
        embedded = torch.lerp(none, chosen, intensity[:, None])
        mean = model._mean(features, tokens)
        return Conditions(tokens, embedded, model.identity_embedder(identity), mean)


class Modulations(nn.Module):
    """Modulations of all steps."""

    def __init__(self, model: MotionTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, timestep: Tensor, emotion: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.modulations(timestep, emotion))


class Predict(nn.Module):
    """Velocity of one step; the positions of the tokens are given."""

    def __init__(self, model: MotionTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, noisy: Tensor, previous: Tensor, *others: Tensor) -> Tensor:
        speech, emotion, identity, *positions = others[:6]
        given = Conditions(speech, emotion, identity, speech)
        with mock.patch.object(MotionTransformer, "_positions", return_value=positions):
            return self.model.velocity(noisy, previous, others[6:], given)


class Hear(nn.Module):
    """Phones and voices."""

    def __init__(self, model: MotionTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        reader = self.model.reader
        assert reader is not None
        phones = torch.softmax(reader.phone_logits(features)[0], dim=0).T
        return phones, reader.voice_logits(features)[0]


class Mean(nn.Module):
    """Mean of the motion."""

    def __init__(self, model: MotionTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> Tensor:
        reader = self.model.reader
        assert reader is not None
        config = self.model.config
        mouth = reader.mouth(features)[0]
        return nn.functional.pad(mouth, (0, config.motion_size - config.mouth_size))


class Attention(torch.autograd.Function):
    """Attention of onnxruntime, which never holds all scores of a recording."""

    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
        return query

    @staticmethod
    def symbolic(graph: Any, query: Any, key: Any, value: Any, num_heads: int) -> Any:
        name = "com.microsoft::MultiHeadAttention"
        return graph.op(name, query, key, value, num_heads_i=num_heads).setType(query.type())


class EncoderGraph(nn.Module):
    """Tokens of a spectrogram; the positions of all and the numbers of the wanted are given."""

    def __init__(self, encoder: WhisperEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, mel: Tensor, positions: Tensor, wanted: Tensor) -> Tensor:
        def attended(block: EncoderBlock, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            num_heads = block.attention_out.in_features // HEAD_SIZE
            out: Tensor = Attention.apply(query, key, value, num_heads)
            return out

        with mock.patch.object(EncoderBlock, "attend", attended):
            tokens: Tensor = self.encoder(mel, positions, wanted)
        return tokens


def real_positions(num_frames: int, head_size: int, base: float, *, device: torch.device) -> Tensor:
    """:func:`layers.rotary_positions` as cosines and sines (T, d/2, 2)."""
    return torch.view_as_real(layers.rotary_positions(num_frames, head_size, base, device=device))


class Rotation(torch.autograd.Function):
    """:func:`layers.rotate` as one step of onnxruntime, with the cosines and sines (T, d/2)."""

    @staticmethod
    def forward(context: Any, heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        return heads.clone()

    @staticmethod
    def symbolic(graph: Any, heads: Any, cosine: Any, sine: Any) -> Any:
        first = graph.op("Constant", value_t=torch.zeros(1, dtype=torch.int64))
        name = "com.microsoft::RotaryEmbedding"
        turned = graph.op(name, heads, first, cosine, sine, interleaved_i=1)
        return turned.setType(heads.type())


def real_rotate(heads: Tensor, rope: Tensor) -> Tensor:
    """:class:`Rotation`."""
    out: Tensor = Rotation.apply(heads, rope[..., 0], rope[..., 1])
    return out


class TanhGelu(torch.autograd.Function):
    """:func:`layers.gelu_` as one step of onnxruntime."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        return nn.functional.gelu(values, approximate="tanh")

    @staticmethod
    def symbolic(graph: Any, values: Any) -> Any:
        return graph.op("com.microsoft::FastGelu", values).setType(values.type())


def one_step_gelu(values: Tensor) -> Tensor:
    """:class:`TanhGelu`."""
    out: Tensor = TanhGelu.apply(values)
    return out


class Norm(torch.autograd.Function):
    """:func:`layers.rms_norm` as one step of onnxruntime."""

    @staticmethod
    def forward(context: Any, values: Tensor, weight: Tensor, eps: float) -> Tensor:
        return values.clone()

    @staticmethod
    def symbolic(graph: Any, values: Any, weight: Any, eps: float) -> Any:
        name = "SimplifiedLayerNormalization"
        normed = graph.op(name, values, weight, axis_i=-1, epsilon_f=eps, stash_type_i=1)
        return normed.setType(values.type())


def one_step_norm(values: Tensor, eps: float, weight: Tensor | None = None) -> Tensor:
    """:class:`Norm`."""
    weight = torch.ones(values.shape[-1]) if weight is None else weight
    out: Tensor = Norm.apply(values, weight, eps)
    return out


def one_step_rms_norm(self: nn.RMSNorm, values: Tensor) -> Tensor:
    """The same for the module of torch."""
    assert self.eps is not None
    return one_step_norm(values, self.eps, self.weight)


@contextmanager
def exportable() -> Iterator[None]:
    """Replace what onnx cannot say."""
    with (
        mock.patch.object(layers, "rotate", real_rotate),
        mock.patch.object(layers, "gelu_", one_step_gelu),
        mock.patch.object(layers, "rms_norm", one_step_norm),
        mock.patch.object(nn.RMSNorm, "forward", one_step_rms_norm),
    ):
        yield


def export(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    sizes: Mapping[str, Mapping[int, str]],
) -> onnx.ModelProto:
    """The graph of a network without its weights, which keep the names that they have in files.

    ``sizes`` names the axes whose length is free.
    """
    graphs = [_with_new_weights(network, inputs, outputs, sizes) for _ in range(2)]
    if graphs[0] != graphs[1]:
        raise ValueError("a constant of the graph is made of weights")
    return graphs[0]


def _with_new_weights(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    sizes: Mapping[str, Mapping[int, str]],
) -> onnx.ModelProto:
    for weight in network.state_dict().values():
        weight.uniform_()  # equal weights would be taken for one
    buffer = io.BytesIO()
    with warnings.catch_warnings(), exportable(), torch.no_grad():
        warnings.simplefilter("ignore")  # it warns of each size that it takes for constant
        torch.onnx.export(
            network.eval(),
            tuple(inputs.values()),
            buffer,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=dict(sizes),
            opset_version=OPSET,
            do_constant_folding=False,
            custom_opsets={"com.microsoft": 1},
            dynamo=False,
        )
    model = optimised(buffer.getvalue())
    _strip(model, network)
    return model


def optimised(graph: bytes) -> onnx.ModelProto:
    """The same graph with fewer steps, so that it is loaded faster."""
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_EXTENDED
    with TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        return onnx.load(path)


def _strip(model: onnx.ModelProto, network: nn.Module) -> None:
    """Leave weights out of a graph and call them as their files do, without the wrapper's name.

    Where the graph takes a weight's transpose, the name ends in :data:`TRANSPOSED`.
    """
    known = {}
    for name, weight in network.state_dict().items():
        own, values = name.partition(".")[2], weight.numpy()
        known |= {_key(values.T): own + TRANSPOSED, _key(values): own}
    names = {
        tensor.name: known[key]
        for tensor in model.graph.initializer
        if (key := _key(onnx.numpy_helper.to_array(tensor))) in known
    }
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.ClearField("doc_string")
    for tensor in model.graph.initializer:
        if tensor.name in names:
            tensor.name = names[tensor.name]
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=EXTERNAL)


def _key(values: NDArray[Any]) -> tuple[object, ...]:
    return values.shape, np.ascontiguousarray(values).tobytes()


def motion_graphs(config: MotionModelConfig) -> dict[str, onnx.ModelProto]:
    """The five graphs of a reading motion network, by their names."""
    frames, context = 80, config.speech_embedder.context
    model = MotionTransformer(config).eval()
    features = torch.rand(1, frames + 2 * context, config.speech.size)
    emotion, identity = torch.tensor([0]), torch.rand(1, config.identity_size)
    given = {
        "features": features,
        "emotion": torch.tensor([0, 1]),
        "intensity": torch.rand(1),
        "identity": identity,
    }
    with torch.no_grad():
        encoded = model.encode_conditions(features, emotion, identity)
        modulations = model.modulations(torch.rand(4, 1), encoded.emotion)
    rows = {f"modulation_{index}": part[0] for index, part in enumerate(modulations)}
    rope, joint, bias = model._positions(frames, 1, torch.device("cpu"))
    assert bias is not None
    step = {
        "noisy": torch.rand(1, frames, config.generated_size),
        "previous": torch.rand(1, 1, config.motion_size),
        "speech": encoded.speech,
        "embedded_emotion": encoded.emotion,
        "embedded_identity": encoded.identity,
        "rope": torch.view_as_real(rope),
        "joint_rope": torch.view_as_real(joint),
        "key_bias": bias,
        **rows,
    }
    length, batch, tokens = {1: "time"}, {0: "batch"}, {0: "token"}
    return {
        "encode": export(
            Encode(model), given, ["speech", "embedded_emotion", "embedded_identity", "mean"],
            {"features": length, "speech": length, "mean": length},
        ),
        "modulations": export(
            Modulations(model), {"timestep": torch.rand(4, 1), "embedded_emotion": encoded.emotion},
            list(rows), {"timestep": {0: "step"}, "embedded_emotion": batch},
        ),
        "predict": export(
            Predict(model), step, ["velocity"],
            {
                "noisy": batch | length, "previous": batch, "speech": batch | length,
                "embedded_emotion": batch, "embedded_identity": batch, "velocity": batch | length,
                "rope": tokens, "joint_rope": tokens, "key_bias": tokens,
                **dict.fromkeys(rows, batch),
            },
        ),
        "hear": export(
            Hear(model), {"features": features}, ["phones", "voice"],
            {"features": length, "phones": {0: "half"}, "voice": {0: "time"}},
        ),
        "mean": export(
            Mean(model), {"features": features}, ["mean"],
            {"features": length, "mean": {0: "time"}},
        ),
    }  # fmt: skip


def encoder_graph(encoder: WhisperEncoder) -> onnx.ModelProto:
    """The graph of the speech encoder."""
    given = {
        "mel": torch.rand(1, NUM_BANDS, 100),
        "positions": torch.rand(50, encoder.size),
        "wanted": torch.arange(10, 50),
    }
    sizes = {
        "mel": {2: "hop"}, "positions": {0: "token"}, "wanted": {0: "wanted"},
        "tokens": {1: "wanted"},
    }  # fmt: skip
    return export(EncoderGraph(encoder), given, ["tokens"], sizes)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=ASSETS)
    folder = parser.parse_args().folder
    graphs = {
        GRAPHS[name]: graph for name, graph in motion_graphs(preset("moda-tiny").motion).items()
    }
    graphs[ENCODER_GRAPH] = encoder_graph(WhisperEncoder.of(read_encoder_weights()))
    model = MotionTransformer(preset("moda-tiny").motion)
    lists: dict[str, Any] = {MOTION: {k: list(v.shape) for k, v in model.state_dict().items()}}
    for name, graph in graphs.items():
        onnx.save(graph, folder / name)
        lists[name] = [tensor.name for tensor in graph.graph.initializer if tensor.external_data]
    text = json.dumps(lists, indent=1) + "\n"
    (folder / WEIGHT_LISTS).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
