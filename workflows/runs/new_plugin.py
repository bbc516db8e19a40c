"""The start of a plugin: one Python file that runs as it is."""

import re
from collections.abc import Collection
from importlib.resources import files
from pathlib import Path

from evaluators.registry import EVALUATOR_KINDS
from sphere_core.datasets.outside import EMBEDDED
from sphere_core.datasets.schemas import SCHEMAS
from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.foundation.user_files import output_errors
from sphere_core.methods import EDITORS, REGULARIZERS
from sphere_core.models import load_families

__all__ = ["KINDS", "next_steps", "start_of", "start_plugin"]

KINDS = ("regularizer", "editor", "evaluator", "dataset", "family")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def start_of(kind: str, name: str) -> str:
    """Return the text of a plugin file with one row of a kind; raises InputError for a name that cannot be used."""
    if kind not in KINDS:
        raise unknown_name("kind of plugin", kind, KINDS)
    if _NAME.fullmatch(name) is None:
        raise InputError(f"'{name}' cannot name a row", remedy="lower case letters, digits and underscores")
    if name in _released(kind):
        raise InputError(f"'{name}' names a row of the release: {kind}", remedy="choose another name")
    text = files("workflows.runs.starts").joinpath(f"{kind}.txt").read_text(encoding="utf-8")
    # Class names begin with a letter in upper case.
    title = "".join(part.capitalize() for part in name.split("_"))
    return text.replace("@name@", name).replace("@Name@", title)


def _released(kind: str) -> Collection[str]:
    """Return the names that the release has of a kind."""
    if kind == "family":
        return [name for family in load_families().values() for name in family.model_types]
    named: dict[str, Collection[str]] = {"regularizer": REGULARIZERS, "editor": EDITORS, "evaluator": EVALUATOR_KINDS}
    return named.get(kind, [*SCHEMAS, EMBEDDED])


def start_plugin(*, kind: str, name: str, folder: Path) -> Path:
    """Write FOLDER/NAME.py and return its path; raises InputError, with nothing written, if the file exists."""
    text, path = start_of(kind, name), folder / f"{name}.py"
    if path.exists():
        raise InputError("there is such a file already", where=str(path), remedy="choose another name")
    with output_errors(path, remedy="give another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    return path


def next_steps(kind: str, name: str) -> list[str]:
    """Return what to write into a sweep file that is in the same folder, so that it uses the plugin."""
    use = {
        "regularizer": f"methods: [memit, memit+{name}]",
        "editor": f"methods: [memit, {name}]",
        "dataset": f"streams: [{{dataset: {name}, path: records.json, edits: 100}}]",
        "family": f"models: [{{source: FOLDER of a {name} model, ...}}]",
        "evaluator": f"evaluators: {{edit_quality: {{}}, {name}: {{}}}}",
    }
    lines = [f"  plugins: [{name}.py]", f"  {use[kind]}"]
    return ["in a sweep file beside it ('sphere init' writes one to start from):", *lines]
