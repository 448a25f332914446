"""What a run's folder says of the run in it, so that it is never continued as another one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moda.data.clips import read_shards
from moda.errors import CheckpointError, InputError, OutputError
from moda.strict_json import parse_json, to_dict, write_json
from moda.training.recipe import Recipe

RUN_FILE = "run.json"
FORMAT = "moda-run-1"
FREE = ("clips", "preview", "sampler")
"""Keys of a recipe that may change while a run goes on; what is in the clips may not."""
FREE_OPTIONS = ("checkpoint_every", "log_every", "accumulation")
MAX_NAMED = 4


def claim_folder(folder: Path, recipe: Recipe, base: Path) -> None:
    """Make the folder of a run and write what it is; or see that the run in it is this one.

    Runs of earlier versions say nothing of themselves and are taken as they are.

    Raises:
        InputError: The folder holds another run; the message says what differs.
        CheckpointError: There are no prepared clips, or what the folder says is damaged.
        OutputError: The folder cannot be made.
    """
    path, now = folder / RUN_FILE, _description(recipe, base)
    if path.exists() and any(other != path for other in folder.iterdir()):
        differs = _differences(_read(path), now)
        if differs:
            named = ", ".join(differs[:MAX_NAMED])
            more = f" and {len(differs) - MAX_NAMED} more" if len(differs) > MAX_NAMED else ""
            raise InputError(
                f"{folder} holds another run: {named}{more}; use another folder, or remove it"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}") from error
    write_json(path, now)


def _description(recipe: Recipe, base: Path) -> dict[str, Any]:
    values = {key: value for key, value in to_dict(recipe).items() if key not in FREE}
    for key in FREE_OPTIONS:
        del values["options"][key]
    return {"format": FORMAT, "recipe": values, "clips": _clips([base / c for c in recipe.clips])}


def _clips(folders: Sequence[Path]) -> dict[str, Any]:
    """Who is in prepared clips, and a digest that changes when they are prepared otherwise."""
    digest = hashlib.sha256()
    speakers, count = set[str](), 0
    for folder in folders:
        for shard in read_shards(folder):
            used = [entry for entry in shard.entries if entry.status == "prepared"]
            speakers |= {entry.speaker for entry in used}
            count += len(used)
            entries = [
                [entry.name, entry.speaker, entry.split, entry.fingerprint, entry.emotion]
                for entry in used
            ]
            size = shard.path.stat().st_size
            digest.update(json.dumps([entries, size, shard.statistics.to_dict()]).encode())
    return {"speakers": sorted(speakers), "count": count, "digest": digest.hexdigest()}


def _read(path: Path) -> dict[str, Any]:
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
        if values["format"] == FORMAT and isinstance(values["recipe"], dict):
            values["clips"]["digest"]
            return dict(values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}; use another folder") from error
    raise CheckpointError(f"{path} is of another version of MoDA; use another folder")


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, in words. Keys that only one version of MoDA knows are left out."""
    differs = []
    old, new = there["clips"], now["clips"]
    if old["speakers"] != new["speakers"]:
        differs.append(
            f"clips of {_names(old['speakers'])} there, of {_names(new['speakers'])} now"
        )
    elif old["digest"] != new["digest"]:
        differs.append(f"other clips ({old['count']} there, {new['count']} now, or made otherwise)")
    before, after = _flat(there["recipe"]), _flat(now["recipe"])
    for key in dict.fromkeys((*after, *before)):
        known = (key in before and key in after) or key.startswith("network.")
        if known and before.get(key) != after.get(key):
            found = f"{_shown(before.get(key))} there, {_shown(after.get(key))} now"
            differs.append(f"{key} {found}")
    return differs


def _flat(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{where}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MAX_NAMED]) or "nobody"
    return shown if len(names) <= MAX_NAMED else f"{shown} and {len(names) - MAX_NAMED} more"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
