"""What ``moda train`` reads: all of a training in one JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moda.config import ModelConfig, SamplerConfig, preset
from moda.errors import ConfigError
from moda.media.texts import read_text_file
from moda.strict_json import changed, from_dict, merged, parse_json
from moda.training.autoencoding import AutoencoderOptions
from moda.training.fits.reading import ReaderOptions
from moda.training.options import TrainingOptions, require_seed
from moda.training.preview import PreviewOptions
from moda.training.sync.expert import ExpertOptions

MAX_EXTENSIONS, MAX_RECIPE_BYTES = 8, 2**24
"""Recipes that extend each other in a row, and each of their files."""


@dataclass(frozen=True)
class Recipe:
    """What ``moda train`` reads. Paths are relative to the file's folder.

    A file may name another one with ``extends`` and say only what differs from it.
    """

    model: str = "moda-tiny"
    clips: tuple[str, ...] = ()
    """folders made by ``moda prepare``"""
    validation_speakers: tuple[str, ...] = ()
    """never trained on, also not by the motion space; nor are the clips that a corpus keeps for
    validation or test"""
    unreliable: tuple[str, ...] = ()
    """patterns of clip names whose lips are not used with their sound"""
    in_sync: str = "*"
    """pattern of clip names whose sound is known to fit the picture"""
    augmented_versions: int = 5
    synthetic_phones: tuple[str, ...] = ()
    """phone corpora with exact labels, for what a reader reads of phones"""
    synthetic_hours: float = 3.0
    """read of them together"""
    natural_phones: tuple[str, ...] = ()
    """phone corpora of natural speech, whose labels are guesses; clips of the validation speakers
    are left out"""
    natural_versions: int = 2
    """versions of each recording, the first clean, the others with changed voice and room"""
    non_speech_items: int = 400
    """stretches of music and noise, from which the voice head learns what is no voice"""
    reader: ReaderOptions = field(default_factory=ReaderOptions)
    start_from: str = ""
    """checkpoint that the training begins with: a name, or a file; its configuration and motion
    space are kept, nothing is pretrained, and a reader's mouth is pulled towards the clips"""
    adapter_rank: int = 0
    """of low-rank adapters, which learn alone; 0 trains all weights"""
    sync_expert: str = ""
    """file of the sync expert; without it one is trained, if the options give it a weight"""
    expert: ExpertOptions = field(default_factory=ExpertOptions)
    preview: PreviewOptions = field(default_factory=PreviewOptions)
    options: TrainingOptions = field(default_factory=TrainingOptions)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    seed: int = 0
    name: str = ""
    """of the trained model and its file; that of ``model`` if it is left out"""
    network: Mapping[str, Any] = field(default_factory=dict)
    """what differs from the network of ``model``: keys of its motion configuration"""
    speech_embedder_from: str = ""
    """built-in name or file of a checkpoint from whose speech embedder the training begins; of a
    reader only the mouth is fitted anew"""
    autoencoder: AutoencoderOptions = field(default_factory=AutoencoderOptions)
    """training of the motion autoencoder that the network may have"""

    def __post_init__(self) -> None:
        require_seed(self.seed)

    @property
    def config(self) -> ModelConfig:
        """Of the model that is trained, unless it begins with a checkpoint.

        Raises:
            ConfigError: a key of ``network`` is unknown or a value impossible.
        """
        base = preset(self.model)
        motion = changed(base.motion, self.network, where="network")
        return ModelConfig(self.name or base.name, motion, self.sampler)


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        InputError: the file cannot be read.
        ConfigError: a key is unknown or a value impossible.
    """
    recipe = from_dict(Recipe, _read_values(path))
    if not recipe.clips:
        raise ConfigError(f"recipe {path} names no folders of prepared clips in 'clips'")
    reads = recipe.config.motion.speech_embedder.kind == "reader" and not recipe.start_from
    if reads and not recipe.synthetic_phones and not recipe.speech_embedder_from:
        raise ConfigError(
            f"recipe {path}: what the model reads of phones must come from somewhere; name corpora "
            "in 'synthetic_phones' (scripts/synthesize_speech.py makes them), or a checkpoint in "
            "'speech_embedder_from'"
        )
    latent_size = recipe.config.motion.variant.autoencoder.latent_size
    if bool(latent_size) != bool(recipe.autoencoder.steps):
        raise ConfigError(
            f"recipe {path}: an autoencoder of latent_size {latent_size} and "
            f"{recipe.autoencoder.steps} steps to train it do not fit; give both or none"
        )
    if recipe.start_from and (recipe.network or recipe.speech_embedder_from):
        raise ConfigError(
            f"recipe {path} begins with {recipe.start_from}, whose network is kept; leave "
            "'network' and 'speech_embedder_from' out"
        )
    if recipe.adapter_rank and not recipe.start_from:
        raise ConfigError(
            f"recipe {path} has adapter_rank {recipe.adapter_rank} and no model to adapt; "
            "name one in 'start_from'"
        )
    return recipe


def _read_values(path: Path, depth: int = 0) -> dict[str, Any]:
    """The JSON values of a recipe over those that it extends.

    Paths stay as they are: a recipe and those it extends lie in the same folder.
    """
    text = read_text_file(path, f"recipe {path}", MAX_RECIPE_BYTES)
    try:
        values = parse_json(text)
    except ValueError as error:
        raise ConfigError(f"recipe {path}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"recipe {path}: expected an object, got {type(values).__name__}")
    other = values.pop("extends", None)
    if other is None:
        return values
    if not isinstance(other, str) or Path(other).name != other:
        raise ConfigError(
            f"recipe {path} extends {other!r}; give the name of a recipe in the same folder"
        )
    if depth == MAX_EXTENSIONS:
        raise ConfigError(f"recipe {path}: more than {MAX_EXTENSIONS} recipes extend each other")
    return merged(_read_values(path.with_name(other), depth + 1), values)
