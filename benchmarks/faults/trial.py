"""What one fault came to, and the sweep that all of them happen to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage_faults import StorageError
from workflows.runs.sweep_file import run_sweep_file

__all__ = ["Trial", "ended", "run_here", "write_settings"]

SETTINGS: dict[str, Any] = {
    "name": "faults",
    "models": ["factworld"],
    "methods": ["memit", "alphaedit+sphere"],
    "seeds": [0],
    "batch_size": 2,
    "checkpoint_every": 4,
    "moments": {"corpus": "factworld", "sentences": 300},
    "contexts": {"seeds": ["The"], "length": 6, "top_k": 5},
    "evaluators": {"edit_quality": {}, "geometry": {}},
    "resources": {"threads": 1, "evaluator": {"replicas": 1}},
}


@dataclass(frozen=True)
class Trial:
    """One fault: its kind, what was done, and what went wrong (empty: right)."""

    fault: str
    what: str
    wrong: str = ""


def write_settings(folder: Path, *, edits: int = 8) -> Path:
    """Write the sweep file below a folder and return its path; `edits` are those of each trajectory."""
    path = folder / f"faults-{edits}.yaml"
    streams = [{"dataset": "factworld", "edits": edits, "order": "shuffled"}]
    path.write_text(yaml.safe_dump({**SETTINGS, "streams": streams}), encoding="utf-8")
    return path


def run_here(sweep: Path, root: Path) -> int:
    """Run the sweep in this process and return the command's exit code; anything that it does not handle is raised."""
    return ended(lambda: run_sweep_file(sweep=sweep, root=str(root), local=True).exit_code)


def ended(call: Callable[[], int]) -> int:
    """Return a call's exit code as the command line gives it: 2 for wrong input, 3 for storage."""
    try:
        return call()
    except InputError:
        return 2
    except StorageError:
        return 3
