"""Suites as the harness loads them: task objects with their data, and the groups they form."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets.exceptions import DatasetsError
from huggingface_hub.errors import HfHubHTTPError
from lm_eval.api import metrics as _registered_metrics  # noqa: F401 - fills the registry
from lm_eval.api import task as harness
from lm_eval.api.group import Group
from lm_eval.api.registry import METRIC_REGISTRY
from lm_eval.api.task import ConfigurableTask, Task
from lm_eval.config.group import GroupConfig
from lm_eval.tasks import TaskManager

from evaluators.general.hub_data import HubData, hub_data, unreachable
from evaluators.general.quiet import quiet_harness
from evaluators.general.random_state import kept_random_state
from evaluators.general.suites import Member, Suite
from evaluators.general.task_code import is_released
from evaluators.general.task_files import read_task_file, source_digests
from evaluators.general.task_groups import TaskGroup
from evaluators.general.template_sandbox import sandboxed_templates
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import file_digest
from sphere_core.foundation.storage_faults import StorageError

__all__ = ["LoadedMember", "LoadedSuite", "LoadedTask", "load_suites"]

# More examples before a question, or repetitions of it, than any published task has.
_MOST_TIMES = 1000
_HUB_FAULTS = (OSError, DatasetsError, HfHubHTTPError)


@dataclass(frozen=True)
class LoadedTask:
    """A task with its data. `identity` names its files and settings by digest; `limit` bounds its documents."""

    task: Task
    identity: dict[str, object]
    limit: int | None


@dataclass(frozen=True)
class LoadedMember:
    """One member of a suite: the names of its tasks, and the group it is, where it is one that aggregates."""

    tasks: tuple[str, ...]
    group: str | None


@dataclass(frozen=True)
class LoadedSuite:
    """A suite with its tasks by name, in order, and its groups, children before parents."""

    name: str
    tasks: dict[str, LoadedTask]
    members: tuple[LoadedMember, ...]
    groups: tuple[TaskGroup, ...]


def load_suites(suites: Sequence[Suite]) -> list[LoadedSuite]:
    """Load the tasks of suites with their data; Python that their files name is imported.

    The harness draws from the global random states while loading; they are put back. Raises InputError naming the YAML
    where the harness refuses it, the data set where it can be had neither from the hub nor from the cache, and both
    places where two tasks share a name.
    """
    owner: dict[str, str] = {}
    loaded = []
    with quiet_harness(), sandboxed_templates(), kept_random_state(torch.device("cpu")):
        for suite in suites:
            tasks: dict[str, LoadedTask] = {}
            members, groups = [], []
            for member in suite.members:
                found, member_groups = _load(member)
                for name, task in found.items():
                    place = str(member.file or f"'{suite.name}'")
                    if name in owner:
                        raise InputError(
                            f"two tasks are called '{name}'",
                            where=f"{owner[name]} and {place}",
                            remedy="name it once, or rename one of them",
                        )
                    owner[name], tasks[name] = place, task
                top = [group.name for group in member_groups if group.metrics and set(group.tasks) == set(found)]
                members.append(LoadedMember(tuple(found), top[-1] if top else None))
                groups += member_groups
            groups += _folder_groups(suite, tasks)
            loaded.append(LoadedSuite(suite.name, tasks, tuple(members), tuple(groups)))
    return loaded


def _load(member: Member) -> tuple[dict[str, LoadedTask], list[TaskGroup]]:
    manager = TaskManager(include_defaults=False)
    try:
        with _no_scripts(member):
            if member.found is not None:
                manager.task_index.update(member.found.loadable())
                found = manager.load([member.found.name])
            else:
                found = manager.load(list(member.configs(resolve=True).values()))
    except (InputError, StorageError, MemoryError):
        raise
    except Exception as error:  # of the harness, of `datasets`, and of whatever reads the data files
        raise _refusal(member, error) from error
    files = {} if member.found is None else member.found.task_files
    tasks = {}
    for name, task in found["tasks"].items():
        file = files.get(name, member.file)
        _require_metrics(task, name, file)
        _require_runnable(task, str(file or name))
        _set_examples(task, member.entry.num_fewshot)
        tasks[name] = LoadedTask(task, _identity(member, file), member.entry.limit)
    groups = found.get("groups", {}).values()
    ordered = sorted(groups, key=lambda group: len(group.get_all_tasks()))
    return tasks, [TaskGroup.of(group, [task.task_name for task in group.get_all_tasks()]) for group in ordered]


def _identity(member: Member, file: Path | None) -> dict[str, object]:
    return {
        "files": [] if file is None else source_digests(file),
        "num_fewshot": member.entry.num_fewshot,
        **({} if member.corpus is None else {"corpus": file_digest(member.corpus)}),
    }


def _set_examples(task: Task, wanted: int | None) -> None:
    # A task that says none has no place for any; the harness's own entry point leaves it alone too.
    if wanted is not None and task.get_config("num_fewshot") != 0:
        task.set_config("num_fewshot", wanted)
    elif task.get_config("num_fewshot") is None:
        task.set_config("num_fewshot", 0)


def _refusal(member: Member, error: Exception) -> InputError:
    if isinstance(error, _HUB_FAULTS):
        configs = member.configs()
        hub = HubData()
        for name, config in configs.items():
            hub.revision(name, config)
        remote = [(name, config) for name, config in configs.items() if hub_data(config) is not None]
        if len(remote) == 1:
            return unreachable(*remote[0], error)
    cause: BaseException = error
    while cause.__cause__ is not None:  # `datasets` says what it found wrong in the cause alone
        cause = cause.__cause__
    reason = "it has no document" if isinstance(cause, StopIteration) else f"{type(cause).__name__}: {cause}"
    return InputError(
        f"the harness cannot load this task ({reason})",
        where=", ".join(str(file) for file in member.files()[:3]) or member.entry.task,
        remedy="check the task's keys, metrics, templates and data against lm-eval's task guide",
    )


@contextlib.contextmanager
def _no_scripts(member: Member) -> Iterator[None]:
    """Refuse metrics that the harness lacks while a user's task is loaded: it would fetch a script and run it."""
    users = [file for file in member.files() if not is_released(file)]
    given = harness.get_metric

    def registered(name: str, hf_evaluate_metric: bool = False) -> Any:
        if hf_evaluate_metric or name not in METRIC_REGISTRY:
            raise InputError(
                f"the harness knows no metric '{name}'",
                where=str(users[0]),
                remedy="see lm-eval's list of metrics, or compute it in process_results",
            )
        return given(name)

    harness.get_metric = registered if users else given
    try:
        yield
    finally:
        harness.get_metric = given


def _require_metrics(task: Task, name: str, file: Path | None) -> None:
    # A metric the harness does not know is logged, kept as None and left out of the results.
    if callable(getattr(task.config, "process_results", None)):
        return
    for metric, function in getattr(task, "_metric_fn_list", {}).items():
        if function is None:
            raise InputError(
                f"the harness knows no metric '{metric}'",
                where=str(file or name),
                remedy="see lm-eval's list of metrics, or compute it in process_results",
            )


def _require_runnable(task: Task, where: str) -> None:
    """Raise InputError for what the harness loads and cannot ask: it would fail after the first edits."""
    for key in ("num_fewshot", "repeats"):
        given = task.get_config(key)
        if given is not None and not (isinstance(given, int) and 0 <= given <= _MOST_TIMES):
            raise InputError(
                f"{key} is {given!r}", where=where, remedy=f"give a whole number from 0 to {_MOST_TIMES:,}"
            )
    is_plain = type(task) is ConfigurableTask
    if is_plain and task.OUTPUT_TYPE == "multiple_choice" and task.config.doc_to_choice is None:
        raise InputError("a multiple_choice task has no choices", where=where, remedy="add doc_to_choice to its YAML")


def _folder_groups(suite: Suite, tasks: Mapping[str, LoadedTask]) -> Iterator[TaskGroup]:
    """Yield the groups that a folder of YAMLs defines over its own tasks, those of groups among them."""
    folders = {member.file.parent for member in suite.members if member.file is not None and member.corpus is None}
    if len(suite.members) < 2:
        return
    raw = [read_task_file(file) for folder in sorted(folders) for file in sorted(folder.glob("*.yaml"))]
    groups = {str(config["group"]): config for config in raw if "group" in config}
    for name, config in groups.items():
        listed = {key: config[key] for key in ("group", "aggregate_metric_list") if key in config}
        names = [task for task in _flattened(name, groups) if task in tasks]
        yield TaskGroup.of(Group.from_config(GroupConfig(**listed)), names)


def _flattened(name: str, groups: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    listed = groups[name].get("task", [])
    for item in listed if isinstance(listed, list) else [listed]:
        if isinstance(item, str) and item in groups and item != name:
            yield from _flattened(item, groups)
        elif isinstance(item, str):
            yield item
