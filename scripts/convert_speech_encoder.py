"""Make the speech encoder of the package from OpenAI's weights.

    python scripts/convert_speech_encoder.py tiny.en.pt

``tiny.en.pt`` is the checkpoint that OpenAI's Whisper downloads. Its encoder's convolutions and
first two blocks are kept, in half precision. The positions follow a formula and are left out, and
so is the decoder. Nothing but tensors is read from the file.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from moda.encoders.whisper import ENCODER_FILE

NUM_BLOCKS = 2
PARTS: Mapping[str, str] = {
    "attn_ln": "attention_norm",
    "attn.out": "attention_out",
    "mlp_ln": "mlp_norm",
    "mlp.0": "mlp_in",
    "mlp.2": "mlp_out",
}
"""Official names of a block's parts and ours; query, key and value are put together."""


def convert(official: Mapping[str, Tensor], num_blocks: int = NUM_BLOCKS) -> dict[str, Tensor]:
    """Tensors of an official state dict under our names, in half precision."""
    weights = {
        f"{conv}.{kind}": official[f"encoder.{conv}.{kind}"]
        for conv in ("conv1", "conv2")
        for kind in ("weight", "bias")
    }
    for index in range(num_blocks):
        source, target = f"encoder.blocks.{index}", f"blocks.{index}"
        for theirs, ours in PARTS.items():
            for kind in ("weight", "bias"):
                weights[f"{target}.{ours}.{kind}"] = official[f"{source}.{theirs}.{kind}"]
        query, value = (official[f"{source}.attn.{name}.bias"] for name in ("query", "value"))
        bias = torch.cat([query, torch.zeros_like(query), value])  # keys have none
        parts = [official[f"{source}.attn.{name}.weight"] for name in ("query", "key", "value")]
        weights[f"{target}.attention_qkv.weight"] = torch.cat(parts)
        weights[f"{target}.attention_qkv.bias"] = bias
    return {name: value.half().contiguous() for name, value in weights.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--output", type=Path, default=ENCODER_FILE)
    arguments = parser.parse_args()
    loaded = torch.load(arguments.checkpoint, map_location="cpu", weights_only=True)
    metadata = {
        "source": "OpenAI Whisper tiny.en, encoder, first 2 blocks",
        "licence": "MIT, Copyright (c) 2022 OpenAI",
    }
    save_file(convert(loaded["model_state_dict"]), arguments.output, metadata=metadata)


if __name__ == "__main__":
    main()
