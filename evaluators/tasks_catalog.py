"""Tasks for lm-eval: shipped suites and a user's own YAML files, with their data files found and digested.

A suite is a folder of task YAMLs below `evaluators/tasks`. In lm-eval a relative data file is looked for in
the current directory; here it lies beside the YAML that names it. Task YAMLs may name Python scorers with
`!function module.name`; such a module lies beside the YAML and is run, as lm-eval does: load only task
folders you trust.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import jinja2
import torch
import yaml
from datasets.exceptions import DatasetsError
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from evaluators.random_state import kept_random_state
from sphere_core.errors import InputError, unknown_name
from sphere_core.fingerprint import file_digest

__all__ = ["Suite", "harness_version", "load_tasks", "shipped_suites", "suite_identity", "suite_of"]

_TASKS_FOLDER = Path(__file__).parent / "tasks"
_FUNCTION = re.compile(r"!function\s+([\w.]+)\.\w+")
_LOAD_FAULTS = (KeyError, TypeError, ValueError, OSError, ImportError, AttributeError)


@dataclass(frozen=True)
class Suite:
    """Task YAMLs scored together; `whole` tells that they came as a folder, so that a mean is in order."""

    name: str
    files: tuple[Path, ...]
    whole: bool


def harness_version() -> str:
    """Return the version of lm-eval that is installed."""
    return metadata.version("lm_eval")


def shipped_suites() -> list[str]:
    """Return the names of the suites that come with the project."""
    folders = (path for path in _TASKS_FOLDER.iterdir() if path.is_dir())
    return sorted(path.name for path in folders if any(path.glob("*.yaml")))


def suite_of(entry: str) -> Suite:
    """Return the suite that an entry names: a shipped suite, a folder of task YAMLs, or one YAML file.

    Raises InputError where it is none of these, where a folder has no task, or where a data file is missing.
    """
    path = Path(entry).expanduser()
    if entry in shipped_suites():
        folder, whole = _TASKS_FOLDER / entry, True
    elif path.is_dir():
        folder, whole = path, True
    elif path.is_file():
        folder, whole = path.parent, False
    elif path.suffix in (".yaml", ".yml") or "/" in entry:
        raise InputError("task file or folder not found", where=entry, remedy="check the path")
    else:
        raise unknown_name("task suite", entry, shipped_suites(), where="evaluator 'general', field tasks")
    files: tuple[Path, ...] = (path,)
    if whole:
        files = tuple(file for file in sorted(folder.rglob("*.yaml")) if _is_task(file))
        if not files:
            raise InputError("the folder holds no task YAML", where=str(folder), remedy="a task YAML has a key 'task'")
    suite = Suite(entry if folder.parent == _TASKS_FOLDER else path.resolve().name, files, whole)
    for file in suite.files:
        for source in _sources(file):
            if not source.is_file():
                raise InputError("data file not found", where=str(source), remedy=f"it is named in {file}")
    return suite


def suite_identity(suite: Suite) -> dict[str, object]:
    """Return the digests of all files a suite's scores depend on: YAMLs, what they include, scorers, data.

    Paths enter as names alone, so that a suite keeps its identity when its folder moves.
    """
    tasks = []
    for file in suite.files:
        sources = list(dict.fromkeys(_sources(file)))
        tasks.append([[source.name, file_digest(source)] for source in sources])
    return {"name": suite.name, "tasks": tasks}


def load_tasks(suites: Sequence[Suite]) -> list[tuple[Suite, dict[str, Task]]]:
    """Load the tasks of suites with their data, in file order, by task name.

    The harness draws from the global random states while loading; they are put back. Raises InputError naming
    the YAML where the harness refuses it or where two tasks share a name.
    """
    manager = TaskManager(include_defaults=False)
    owner: dict[str, Path] = {}
    loaded = []
    with kept_random_state(torch.device("cpu")):
        for suite in suites:
            tasks: dict[str, Task] = {}
            for file in suite.files:
                for name, task in _load(manager, file).items():
                    if name in owner:
                        raise InputError(f"two tasks are called '{name}'", where=f"{owner[name]} and {file}")
                    owner[name], tasks[name] = file, task
            loaded.append((suite, tasks))
    return loaded


def _load(manager: TaskManager, file: Path) -> dict[str, Task]:
    try:
        tasks: dict[str, Task] = manager.load([_config(file)])["tasks"]
    except (*_LOAD_FAULTS, jinja2.TemplateError, DatasetsError) as error:
        raise InputError(
            f"the harness cannot load this task ({type(error).__name__}: {error})",
            where=str(file),
            remedy="check the task's keys, metrics, templates and data against lm-eval's task guide",
        ) from error
    for task in tasks.values():
        _require_metrics(task, file)
    return dict(tasks)


def _require_metrics(task: Task, file: Path) -> None:
    # A metric the harness does not know is logged, kept as None and left out of the results.
    if callable(task.config.process_results):
        return
    for metric, function in getattr(task, "_metric_fn_list", {}).items():
        if function is None:
            raise InputError(
                f"the harness knows no metric '{metric}'",
                where=str(file),
                remedy="see lm-eval's list of metrics, or compute it in process_results",
            )


def _read(file: Path, *, resolve: bool) -> dict[str, object]:
    try:
        return dict(load_yaml(file, resolve_func=resolve, recursive=False))
    except yaml.YAMLError as error:
        raise InputError(f"not valid YAML: {error}", where=str(file), remedy="mend the file") from error
    except (ImportError, AttributeError, ValueError, OSError) as error:
        raise InputError(f"the task file cannot be read: {error}", where=str(file)) from error


def _is_task(file: Path) -> bool:
    # A base file that others include has no 'task'; a group's 'task' is a list of names.
    raw = _read(file, resolve=False)
    return "group" not in raw and isinstance(raw.get("task"), str)


def _included(file: Path, raw: Mapping[str, object]) -> list[Path]:
    includes = raw.get("include", [])
    names = includes if isinstance(includes, list) else [includes]
    return [file.parent / str(name) for name in names]


def _config(file: Path) -> dict[str, object]:
    """Return the task's whole configuration: includes merged, local keys winning, data files absolute."""
    raw = _read(file, resolve=True)
    merged: dict[str, object] = {}
    for base in _included(file, raw):
        merged.update(_config(base))
    raw.pop("include", None)
    options = raw.get("dataset_kwargs")
    if isinstance(options, Mapping) and "data_files" in options:
        raw["dataset_kwargs"] = {**options, "data_files": _absolute(options["data_files"], file.parent)}
    return {**merged, **raw}


def _absolute(files: object, folder: Path) -> object:
    if isinstance(files, Mapping):
        return {key: _absolute(value, folder) for key, value in files.items()}
    if isinstance(files, list):
        return [_absolute(value, folder) for value in files]
    name = str(files)
    return name if "://" in name else str((folder / name).resolve())


def _sources(file: Path) -> Iterator[Path]:
    """Yield the YAML, what it includes, its Python scorers and its local data files."""
    raw = _read(file, resolve=False)
    yield file
    text = file.read_text(encoding="utf-8")
    for module in dict.fromkeys(_FUNCTION.findall(text)):
        scorer = file.parent / f"{module.replace('.', '/')}.py"
        if scorer.is_file():
            yield scorer
    for base in _included(file, raw):
        yield from _sources(base)
    options = raw.get("dataset_kwargs")
    if isinstance(options, Mapping):
        yield from _flat(_absolute(options.get("data_files", []), file.parent))


def _flat(files: object) -> Iterator[Path]:
    if isinstance(files, Mapping):
        files = list(files.values())
    for item in files if isinstance(files, list) else [files]:
        if isinstance(item, list):
            yield from _flat(item)
        elif "://" not in str(item):
            yield Path(str(item))
