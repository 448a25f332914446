"""Official files of the published models to ours, and ours to networks.

Official files are read as tensors and nothing else (``weights_only``), are recognised by their
keys, whatever they are called, and must have exactly the tensors that the networks have: what is
missing, too much or mis-shaped is refused under its official name.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor, nn

from moda.config import PRESETS
from moda.encoders.neural.hubert import build_hubert, hubert_config, modern_hubert_keys
from moda.encoders.neural.motion_extractor import MotionExtractor
from moda.errors import CheckpointError, OutputError
from moda.motion.model import MotionTransformer
from moda.rendering.neural.generator import resolve_spectral_norm
from moda.rendering.neural.networks import RenderingNetworks
from moda.strict_json import parse_json
from moda.structures import MotionSpace
from moda.weights.catalogue import HUBERT, LIVE_PORTRAIT, MODA_BASE, SUFFIXES, ConvertedModel
from moda.weights.checkpoints import (
    WithoutValues,
    load_checkpoint,
    load_weights,
    read_network_weights,
    save_checkpoint,
    save_network_weights,
)
from moda.weights.files import ASSETS, require_same_tensors
from moda.weights.official_keys import official_keys
from moda.weights.transfer import file_sha256

if TYPE_CHECKING:
    from transformers import HubertModel

STATISTICS, STATISTICS_KIND = "published.safetensors", "published statistics"
NULL_SPEECH_KEY = "null_audio_feat"
OPTIONAL_MOTION_KEYS = (NULL_SPEECH_KEY, "null_motion_feat", "scheduler.sigmas")
"""In some official files; only the first is used."""
NULL_SPEECH_NOTES = {
    "from the file": "guidance uses the null_audio_feat of the file",
    "recorded": "the file has no null_audio_feat, so guidance uses the vector that the original "
    "code draws with its own seed",
}


class LivePortrait(NamedTuple):
    """LivePortrait's networks in evaluation mode: picture to motion, and motion to picture."""

    extractor: MotionExtractor
    networks: RenderingNetworks


class Conversion(NamedTuple):
    """What :func:`convert_official_files` did."""

    models: tuple[ConvertedModel, ...]
    skipped: tuple[str, ...]
    """Files of the folders that are not needed, each with the reason."""


class OfficialKind(NamedTuple):
    """A kind of official file."""

    model: str
    usual_name: str
    mark: str
    """Many of its keys begin with this, and those of no other kind do."""


class OfficialFile(NamedTuple):
    """A file that was read and recognised."""

    path: Path
    kind: OfficialKind
    state: dict[str, Any]


MOTION_FILE = OfficialKind(MODA_BASE, "net-200.pth", "talking_head_dit.")
HUBERT_FILE = OfficialKind(HUBERT, "pytorch_model.bin", "feature_extractor.conv_layers.")
LIVE_PORTRAIT_FILES: Mapping[OfficialKind, Mapping[str, str]] = {
    OfficialKind(LIVE_PORTRAIT, "appearance_feature_extractor.pth", "resblocks_3d."): {
        "": "networks.appearance."
    },
    OfficialKind(LIVE_PORTRAIT, "motion_extractor.pth", "detector."): {"": "extractor."},
    OfficialKind(LIVE_PORTRAIT, "warping_module.pth", "dense_motion_network."): {
        "": "networks.warping."
    },
    OfficialKind(LIVE_PORTRAIT, "spade_generator.pth", "G_middle_"): {"": "networks.generator."},
    OfficialKind(LIVE_PORTRAIT, "stitching_retargeting_module.pth", "retarget_"): {
        "retarget_shoulder.": "networks.stitching.",
        "retarget_mouth.": "networks.lip.",
        "retarget_eye.": "networks.eye.",
    },
}
"""Per file: beginnings of its keys, and what they become in ours."""
KINDS = (MOTION_FILE, HUBERT_FILE, *LIVE_PORTRAIT_FILES)
UNPICKLER_REASON = re.compile(r"WeightsUnpickler error: ([^\n]{1,100}?)(?: was not|\n|$)")
HUBERT_MASK = "masked_spec_embed"
SAFE_HUBERT = "model.safetensors"
SPECTRAL_LAYERS = (".conv_0", ".conv_1", ".conv_s")
"""Layers of the generator whose official weight is three tensors."""


def load_published_space() -> MotionSpace:
    """The motion space of the published model: 21 implicit key points, then the pose."""
    statistics = read_network_weights(ASSETS / STATISTICS, STATISTICS_KIND).weights
    return MotionSpace(
        name="neural",
        groups=(("keypoints", 63),),
        mean=statistics["mean"].numpy(),
        std=statistics["std"].numpy(),
        pose_reference="camera",
    )


def recorded_null_speech() -> Tensor:
    """(768,) the speech of "no speech", for files that were saved without it.

    The original code draws it at random and, on a GPU, neither trains nor saves it. This is what
    it draws with its own seed, so that guidance works with it as it did there.
    """
    return read_network_weights(ASSETS / STATISTICS, STATISTICS_KIND).weights["null_speech"]


def load_live_portrait(path: str | Path, device: torch.device | str = "cpu") -> LivePortrait:
    """Read the converted file of LivePortrait. Raises :class:`CheckpointError`."""
    live_portrait, both = _live_portrait_on_meta()
    load_weights(both, read_network_weights(path, LIVE_PORTRAIT).weights, device)
    both.eval().requires_grad_(False)
    return live_portrait


def load_hubert(path: str | Path, device: torch.device | str = "cpu") -> HubertModel:
    """Read the converted file of HuBERT; in evaluation mode.

    Raises:
        CheckpointError: The file is missing or damaged, or does not fit its configuration.
        MissingExtraError: transformers is not installed.
    """
    file = read_network_weights(path, HUBERT)
    model = build_hubert(parse_json(file.config))
    load_weights(model, file.weights, device)
    model.requires_grad_(False)
    return model


def load_converted(name: str, path: Path) -> None:
    """Read the converted file of a model, only to see that it is whole and fits.

    Raises like the function that loads it.
    """
    load: Mapping[str, Callable[[Path], object]] = {
        MODA_BASE: load_checkpoint,
        LIVE_PORTRAIT: load_live_portrait,
        HUBERT: load_hubert,
    }
    load[name](path)


def convert_official_files(sources: Sequence[Path], folder: Path) -> Conversion:
    """Convert official files, and those in folders, to ``<model>.safetensors`` in a folder.

    Raises:
        CheckpointError: A file cannot be read, is none of the official ones, does not fit, or
            another one is needed beside it.
        OutputError: The result cannot be written.
    """
    files, skipped = _find_official_files(sources)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error}") from error
    converted = []
    if motion := files.pop(MOTION_FILE, None):
        converted.append(_convert_motion(motion, folder))
    if hubert := files.pop(HUBERT_FILE, None):
        converted.append(_convert_hubert(hubert, folder))
    if files:
        converted.append(_convert_live_portrait(files, folder, skipped))
    if not converted:
        raise CheckpointError(
            f"no official file among {', '.join(map(str, sources))}; "
            f"{'; '.join(skipped) or 'the folders have none'}"
        )
    return Conversion(tuple(converted), tuple(skipped))


def read_official(path: Path) -> dict[str, Any]:
    """What a PyTorch or safetensors file holds, nested names joined by dots.

    Nothing but tensors and plain values is ever unpickled. Raises :class:`CheckpointError`.
    """
    try:
        values = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        # The rest of torch's message says how to run the code all the same.
        reason = UNPICKLER_REASON.search(str(error))
        raise CheckpointError(
            f"{path} is refused: it is damaged, or holds more than tensors, such as code"
            f"{f' ({reason[1]})' if reason else ''}; take the official file"
        ) from error
    except Exception as error:  # a foreign file can be broken in any way
        raise CheckpointError(
            f"{path} cannot be read: it is cut short, damaged or no file of weights "
            f"({_first_line(error)}); download it again"
        ) from error
    if not isinstance(values, Mapping):
        raise CheckpointError(f"{path} holds a {type(values).__name__}, not weights with names")
    return dict(_flat(values))


def plain_tensors(state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The same without gradients. Raises :class:`CheckpointError` naming what is not a tensor."""
    for key, value in state.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            raise CheckpointError(f"{path}: {key} is not a plain tensor ({type(value).__name__})")
    return {key: value.detach() for key, value in state.items()}


def convert_published_motion_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the official MoDA-base state dict (flat, ``talking_head_dit.*``) to our weights.

    A file without ``null_audio_feat`` gets :func:`recorded_null_speech`. Raises
    :class:`CheckpointError` naming what is missing, unknown or mis-shaped.
    """
    with torch.device("meta"):
        ours = MotionTransformer(PRESETS[MODA_BASE].motion).state_dict()
    names = official_keys()
    expected = {key: _official_tensor(name, ours) for key, name in names.items()}
    required = {key: value for key, value in state.items() if key not in OPTIONAL_MOTION_KEYS}
    require_same_tensors(required, expected, "MoDA-base file:")
    null = state.get(NULL_SPEECH_KEY, None)
    null = recorded_null_speech() if null is None else null
    if null.numel() != PRESETS[MODA_BASE].motion.hidden:
        raise CheckpointError(f"{NULL_SPEECH_KEY} is {tuple(null.shape)}, expected 768 numbers")
    converted = {"speech_embedder.null_speech": null.flatten()}
    for published, name in names.items():
        if "qkv_and_inner" in name:
            converted |= _split_one_stream(name, state[published])
        else:
            converted[name] = state[published]
    return converted


def _official_tensor(name: str, ours: Mapping[str, Tensor]) -> Tensor:
    """A tensor of the official shape, from those of ours."""
    if "qkv_and_inner" not in name:
        return ours[name]
    parts = ("query_and_inner", "key_and_value")
    return torch.cat([ours[name.replace("qkv_and_inner", part)] for part in parts])


def _split_one_stream(name: str, rows: Tensor) -> dict[str, Tensor]:
    """Published rows [query | key | value | inner] -> [query | inner] and [key | value]."""
    config = PRESETS[MODA_BASE].motion
    sizes = [config.hidden, 2 * config.hidden, round(config.hidden * config.mlp_ratio)]
    query, key_and_value, inner = torch.split(rows, sizes)
    return {
        name.replace("qkv_and_inner", "query_and_inner"): torch.cat((query, inner)),
        name.replace("qkv_and_inner", "key_and_value"): key_and_value,
    }


def _convert_motion(file: OfficialFile, folder: Path) -> ConvertedModel:
    with torch.device("meta"):
        model = MotionTransformer(PRESETS[MODA_BASE].motion)
    load_weights(model, convert_published_motion_keys(plain_tensors(file.state, file.path)))
    null = "from the file" if NULL_SPEECH_KEY in file.state else "recorded"
    path = folder / f"{MODA_BASE}.safetensors"
    save_checkpoint(
        path,
        model,
        load_published_space(),
        {"null_speech": null, **_provenance(file)},
        config=PRESETS[MODA_BASE],
    )
    return ConvertedModel(MODA_BASE, path, (NULL_SPEECH_NOTES[null],))


def _convert_hubert(file: OfficialFile, folder: Path) -> ConvertedModel:
    config_file = file.path.with_name("config.json")
    try:
        config = parse_json(config_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{config_file}, which says how HuBERT is built, cannot be read ({error}); put the "
            f"official one beside {file.path.name}"
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{config_file} is not the configuration of a HuBERT")
    weights = modern_hubert_keys(plain_tensors(file.state, file.path))
    # A tensor for training, which these two would demand or forbid.
    config["mask_time_prob"] = 0.05 if HUBERT_MASK in weights else 0.0
    config["mask_feature_prob"] = 0.0
    require_same_tensors(weights, build_hubert(config).state_dict(), f"{file.path}:")
    path = folder / f"{HUBERT}.safetensors"
    needed = json.dumps(hubert_config(config))
    save_network_weights(path, HUBERT, weights, config=needed, metadata=_provenance(file))
    return ConvertedModel(HUBERT, path, ())


def _convert_live_portrait(
    files: Mapping[OfficialKind, OfficialFile], folder: Path, skipped: Sequence[str]
) -> ConvertedModel:
    missing = [kind.usual_name for kind in LIVE_PORTRAIT_FILES if kind not in files]
    if missing:
        raise CheckpointError(
            f"LivePortrait also needs {', '.join(missing)} beside "
            f"{', '.join(str(file.path) for file in files.values())}"
            + (f"; not used: {'; '.join(skipped)}" if skipped else "")
        )
    ours = _live_portrait_on_meta()[1].state_dict()
    weights: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    notes = []
    for kind, prefixes in LIVE_PORTRAIT_FILES.items():
        file = files[kind]
        unused = {key for key in file.state if not key.startswith(tuple(prefixes))}
        used = {key: value for key, value in file.state.items() if key not in unused}
        weights |= _convert_networks(
            plain_tensors(used, file.path), prefixes, ours, f"{file.path}:"
        )
        metadata |= _provenance(file)
        if unused:
            parts = sorted({key.partition(".")[0] for key in unused})
            notes.append(f"not needed of {file.path.name}: {', '.join(parts)}")
    path = folder / f"{LIVE_PORTRAIT}.safetensors"
    save_network_weights(path, LIVE_PORTRAIT, weights, metadata=metadata)
    return ConvertedModel(LIVE_PORTRAIT, path, tuple(notes))


def _convert_networks(
    state: Mapping[str, Tensor], prefixes: Mapping[str, str], ours: Mapping[str, Tensor], what: str
) -> dict[str, Tensor]:
    """Official tensors of one file, checked, under our names."""
    names = {
        f"{theirs}{key.removeprefix(prefix)}": key
        for theirs, prefix in prefixes.items()
        for key in ours
        if key.startswith(prefix)
    }
    expected = {official: ours[key] for official, key in names.items()}
    if "networks.generator." in prefixes.values():
        expected = _with_spectral_norm(expected)
        require_same_tensors(state, expected, what)
        state = resolve_spectral_norm(state)
    else:
        require_same_tensors(state, expected, what)
    return {key: state[official] for official, key in names.items()}


def _with_spectral_norm(plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official tensors of the generator: three for each spectrally normalised weight."""
    official: dict[str, Tensor] = {}
    for key, weight in plain.items():
        layer, _, part = key.rpartition(".")
        if part == "weight" and layer.endswith(SPECTRAL_LAYERS):
            official[f"{layer}.weight_orig"] = weight
            official[f"{layer}.weight_u"] = weight.flatten(1)[:, 0]
            official[f"{layer}.weight_v"] = weight.flatten(1)[0]
        else:
            official[key] = weight
    return official


def _live_portrait_on_meta() -> tuple[LivePortrait, nn.Module]:
    """The networks without values, and both as one whose keys are those of our file."""
    with WithoutValues():
        extractor, networks = MotionExtractor().to("meta"), RenderingNetworks().to("meta")
    return (
        LivePortrait(extractor, networks),
        nn.ModuleDict({"extractor": extractor, "networks": networks}),
    )


def _find_official_files(
    sources: Sequence[Path],
) -> tuple[dict[OfficialKind, OfficialFile], list[str]]:
    """Recognised files by kind, and why others in the folders are passed over."""
    found: dict[OfficialKind, OfficialFile] = {}
    skipped: list[str] = []
    for source in sources:
        if not source.exists():
            raise CheckpointError(f"{source} does not exist; give an official file or its folder")
        for path in _weights_in(source):
            try:
                file = _recognise(path)
            except CheckpointError as error:
                if path == source:
                    raise
                skipped.append(str(error))
                continue
            if file.kind in found:
                raise CheckpointError(
                    f"{found[file.kind].path} and {path} are both a {file.kind.usual_name}; give "
                    "one of them"
                )
            found[file.kind] = file
    return found, skipped


def _weights_in(source: Path) -> Iterator[Path]:
    """The file, or all files of weights in the folder; of HuBERT's two formats the safer one."""
    if source.is_file():
        yield source
        return
    paths = {path for path in source.rglob("*") if path.suffix in SUFFIXES and path.is_file()}
    twins = {path.with_name(HUBERT_FILE.usual_name) for path in paths if path.name == SAFE_HUBERT}
    yield from sorted(paths - twins)


def _recognise(path: Path) -> OfficialFile:
    state = read_official(path)
    for kind in KINDS:
        if any(key.startswith(kind.mark) for key in state):
            return OfficialFile(path, kind, state)
    raise CheckpointError(
        f"{path} is none of the official files "
        f"({', '.join(dict.fromkeys(kind.usual_name for kind in KINDS))})"
    )


def _read_safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        if "format_version" in (file.metadata() or {}):
            raise CheckpointError(f"{path} is no official file: MoDA made it")
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def _read_torch(path: Path) -> Any:
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it then refuses with an error
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


def _flat(values: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values; those of a part as ``part.name``, without what parallel training adds."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            for name, leaf in value.items():
                yield f"{key}.{str(name).replace('module.', '')}", leaf
        else:
            yield str(key), value


def _provenance(file: OfficialFile) -> dict[str, str]:
    return {f"sha256 of {file.path.name}": file_sha256(file.path)}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
