"""The script that makes the speech encoder of the package, on made-up official weights."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from moda.encoders.whisper import HEAD_SIZE, NUM_BANDS, read_encoder_weights, sinusoids
from paths import ROOT, load_file
from speech_encoder_network import WhisperEncoder

NUM_HEADS = 2
SIZE = NUM_HEADS * HEAD_SIZE
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "scripts" / "convert_speech_encoder.py"
    return load_file(path)


@pytest.fixture(scope="module")
def official() -> State:
    """Names and shapes of OpenAI's checkpoints, with three blocks of each half."""
    generator = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=generator) / shape[-1] ** 0.5).half()

    state = {
        "encoder.positional_embedding": torch.from_numpy(sinusoids(1500, SIZE)),
        "encoder.conv1.weight": some(SIZE, NUM_BANDS, 3),
        "encoder.conv1.bias": some(SIZE),
        "encoder.conv2.weight": some(SIZE, SIZE, 3),
        "encoder.conv2.bias": some(SIZE),
        "encoder.ln_post.weight": some(SIZE),
        "encoder.ln_post.bias": some(SIZE),
        "decoder.token_embedding.weight": some(50, SIZE),
        "decoder.positional_embedding": some(20, SIZE),
    }
    for index in range(3):
        for half, attentions in (("encoder", ["attn"]), ("decoder", ["attn", "cross_attn"])):
            block = f"{half}.blocks.{index}"
            for attention in attentions:
                for part in ("query", "key", "value", "out"):
                    state[f"{block}.{attention}.{part}.weight"] = some(SIZE, SIZE)
                    if part != "key":
                        state[f"{block}.{attention}.{part}.bias"] = some(SIZE)
                state[f"{block}.{attention}_ln.weight"] = some(SIZE)
                state[f"{block}.{attention}_ln.bias"] = some(SIZE)
            for name, shape in (("0", (4 * SIZE, SIZE)), ("2", (SIZE, 4 * SIZE))):
                state[f"{block}.mlp.{name}.weight"] = some(*shape)
                state[f"{block}.mlp.{name}.bias"] = some(shape[0])
            state[f"{block}.mlp_ln.weight"] = some(SIZE)
            state[f"{block}.mlp_ln.bias"] = some(SIZE)
    return state


def official_tokens(state: State, mel: Tensor, num_blocks: int) -> Tensor:
    """(1, M, 2 L) -> (1, L, C), from the official names alone, head by head."""
    values = {name: value.float() for name, value in state.items()}

    def linear(name: str, inputs: Tensor) -> Tensor:
        return F.linear(inputs, values[f"{name}.weight"], values.get(f"{name}.bias"))

    def norm(name: str, inputs: Tensor) -> Tensor:
        return F.layer_norm(inputs, (SIZE,), values[f"{name}.weight"], values[f"{name}.bias"])

    def conv(name: str, inputs: Tensor, stride: int) -> Tensor:
        weight, bias = values[f"encoder.{name}.weight"], values[f"encoder.{name}.bias"]
        return F.gelu(F.conv1d(inputs, weight, bias, stride=stride, padding=1))

    tokens = conv("conv2", conv("conv1", mel, 1), 2).transpose(1, 2)
    tokens = tokens + values["encoder.positional_embedding"][: tokens.shape[1]]
    for index in range(num_blocks):
        block = f"encoder.blocks.{index}"
        inputs = norm(f"{block}.attn_ln", tokens)
        query, key, value = (
            linear(f"{block}.attn.{name}", inputs) for name in ("query", "key", "value")
        )
        heads = []
        for head in range(NUM_HEADS):
            own = slice(head * HEAD_SIZE, (head + 1) * HEAD_SIZE)
            scores = query[..., own] @ key[..., own].transpose(1, 2) / HEAD_SIZE**0.5
            heads.append(scores.softmax(-1) @ value[..., own])
        tokens = tokens + linear(f"{block}.attn.out", torch.cat(heads, -1))
        inner = F.gelu(linear(f"{block}.mlp.0", norm(f"{block}.mlp_ln", tokens)))
        tokens = tokens + linear(f"{block}.mlp.2", inner)
    return tokens


def test_the_converted_encoder_computes_what_the_official_weights_say(
    script: ModuleType, official: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the official file to the tokens; the composition is worked out again here."""
    source, target = tmp_path / "tiny.en.pt", tmp_path / "encoder.safetensors"
    torch.save({"dims": {"n_mels": NUM_BANDS}, "model_state_dict": official}, source)
    monkeypatch.setattr(sys, "argv", ["convert", str(source), "--output", str(target)])
    script.main()
    encoder = WhisperEncoder.of(read_encoder_weights(target))
    assert len(encoder.blocks) == 2
    mel = torch.randn((1, NUM_BANDS, 60), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = encoder(mel, torch.from_numpy(sinusoids(30, SIZE)))
        torch.testing.assert_close(found, official_tokens(official, mel, 2), rtol=1e-4, atol=1e-4)
        apart = found - official_tokens(official, mel, 3)
    assert apart.abs().max() > 0.1, "another number of blocks is another encoder"


def test_the_file_says_where_it_is_from_and_is_in_half_precision(
    script: ModuleType, official: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "tiny.en.pt", tmp_path / "encoder.safetensors"
    torch.save({"model_state_dict": official}, source)
    monkeypatch.setattr(sys, "argv", ["convert", str(source), "--output", str(target)])
    script.main()
    with safe_open(target, "pt") as file:
        assert "MIT" in file.metadata()["licence"]
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


def test_all_blocks_can_be_kept(script: ModuleType, official: State) -> None:
    weights = script.convert(official, 3)
    assert {name.split(".")[1] for name in weights if name.startswith("blocks.")} == set("012")
    assert not any(name.startswith(("decoder", "ln_post", "positional")) for name in weights)
    missing = {name: value for name, value in official.items() if "blocks.2" not in name}
    with pytest.raises(KeyError, match=r"encoder\.blocks\.2"):
        script.convert(missing, 3)
