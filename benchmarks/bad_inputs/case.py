"""A bad input: what it is, the files it needs, and the command that must refuse it."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["GOLDEN", "TINY_MODEL", "BadInput", "Make", "model_copy", "plan_of", "sweep", "text_sweep"]

_DATA = Path(__file__).resolve().parents[2] / "tests" / "data"
TINY_MODEL = _DATA / "tiny-llama"
GOLDEN = _DATA / "golden"

# Writes the files of a case into an empty folder and returns the arguments of `sphere`, to be run in that folder.
Make = Callable[[Path], list[str]]


@dataclass(frozen=True)
class BadInput:
    """One input. `writes` are files that the command may leave behind although it refuses, by pattern."""

    kind: str
    name: str
    make: Make

    @property
    def id(self) -> str:
        """The name that results are stored under."""
        return f"{self.kind}/{self.name}"


_SWEEP: Mapping[str, Any] = {
    "name": "bad",
    "models": ["factworld"],
    "streams": [{"dataset": "factworld", "edits": 4, "order": "shuffled"}],
    "methods": ["memit"],
    "seeds": [0],
    "batch_size": 2,
    "checkpoint_every": 4,
    "moments": {"corpus": "factworld", "sentences": 100},
    "contexts": {"seeds": ["The"], "length": 5, "top_k": 5},
    "evaluators": {"edit_quality": {}},
    "resources": {"threads": 1, "replica": {"num_cpus": 1}, "evaluator": {"replicas": 0}},
}


def sweep(folder: Path, **changes: Any) -> list[str]:
    """Write a small sweep with changes (None: the key is left out) and return the command that runs it here."""
    merged = {**_SWEEP, **changes}
    text = yaml.safe_dump({key: value for key, value in merged.items() if value is not None}, sort_keys=False)
    return text_sweep(folder, text)


def text_sweep(folder: Path, text: str | bytes) -> list[str]:
    """Write a sweep file as it is and return the command that runs it here."""
    path = folder / "sweep.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return ["run", "sweep.yaml", "--local", "--root", "root"]


def plan_of(folder: Path, old: str, new: str) -> list[str]:
    """Write the small sweep with one piece of its text replaced, and return the command that runs it."""
    text = yaml.safe_dump(dict(_SWEEP), sort_keys=False)
    if old not in text:
        raise ValueError(f"{old!r} is not in the sweep")
    return text_sweep(folder, text.replace(old, new, 1))


def model_copy(folder: Path, **config: Any) -> Path:
    """Copy the tiny model into the folder with changes to its config.json (None: the key is left out)."""
    path = folder / "model"
    shutil.copytree(TINY_MODEL, path)
    for file in path.iterdir():
        file.chmod(0o644)
    if config:
        known = json.loads((path / "config.json").read_text())
        merged = {key: value for key, value in {**known, **config}.items() if value is not None}
        (path / "config.json").write_text(json.dumps(merged))
    return path
