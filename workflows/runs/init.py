"""The first step of a new sweep: a commented sweep file."""

import shlex
from pathlib import Path

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.user_files import output_errors
from workflows.sweeps.template import sweep_template

__all__ = ["SWEEP_FILE", "next_commands", "start_sweep"]

SWEEP_FILE = "sweep.yaml"


def start_sweep(*, folder: Path) -> Path:
    """Write FOLDER/sweep.yaml, a commented sweep of the embedded model, and return its path.

    Creates the folder. Raises InputError, with nothing written, if the file exists, the folder is a file or
    its name ends as a YAML file's does.
    """
    path = folder / SWEEP_FILE
    remedy = "give another folder: sphere init DIR"
    if folder.suffix in (".yaml", ".yml"):
        given = f"give the folder, which gets a {SWEEP_FILE}: sphere init {shlex.quote(str(folder.with_suffix('')))}"
        raise InputError("this names a file", where=str(folder), remedy=given)
    if path.exists():
        raise InputError("there is a sweep file already", where=str(path), remedy=remedy)
    with output_errors(path, remedy=remedy):
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(sweep_template())
    return path


def next_commands(path: Path) -> list[str]:
    """Return what to run next on a sweep file, one command per line with its meaning."""
    sweep = shlex.quote(str(path))
    steps = {
        f"sphere plan {sweep}": "what would run",
        f"sphere run {sweep}": "edit, score, print the table",
        f"sphere run {sweep} --local": "in this process, without Ray",
    }
    width = max(map(len, steps))
    return ["next:", *(f"  {command:<{width}}   {meaning}" for command, meaning in steps.items())]
