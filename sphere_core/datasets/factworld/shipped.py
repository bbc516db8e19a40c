"""The model folder that ships with the package, and the world it was trained on."""

import json
from importlib.resources import as_file, files
from pathlib import Path

from sphere_core.datasets.factworld.world import WORLD_FILE, World, build_world
from sphere_core.foundation.errors import InputError

__all__ = ["read_world", "shipped_model_dir", "shipped_world"]

REBUILD = "rebuild it with `sphere factworld train`"


def shipped_model_dir() -> Path:
    """Return the folder of the shipped model; raises InputError if it is missing."""
    with as_file(files(__package__)) as package:
        folder = package / "model"
    if not (folder / WORLD_FILE).is_file():
        raise InputError("the shipped fact-world model is missing", where=str(folder), remedy=REBUILD)
    return folder


def shipped_world() -> World:
    """Return the world of the shipped model."""
    return read_world(shipped_model_dir())


def read_world(model_dir: Path) -> World:
    """Rebuild the world a fact-world model was trained on from the seed in its folder.

    Raises InputError if the folder has no world.json, or where the generator no longer gives the
    world the model was trained on.
    """
    path = model_dir / WORLD_FILE
    if not path.is_file():
        raise InputError("not a fact-world model: world.json is missing", where=str(model_dir), remedy=REBUILD)
    record = json.loads(path.read_text(encoding="utf-8"))
    world = build_world(int(record["world_seed"]))
    if world.digest() != record["world_digest"]:
        raise InputError("the model was trained on another world", where=str(path), remedy=REBUILD)
    return world
