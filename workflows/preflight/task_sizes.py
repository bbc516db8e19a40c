"""The sizes of a sweep's general-ability tasks, as far as they are known."""

from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from evaluators.general.suites import TaskEntry, preset_names, read_preset
from sphere_core.foundation.yaml_text import parse_yaml
from workflows.sweeps.spec import SweepSpec

__all__ = ["task_sizes"]


def task_sizes(spec: SweepSpec) -> tuple[list[dict[str, float]], list[str]]:
    """Return the sizes of the tasks that are known, presets spelled out, and the names of those that are not."""
    settings: Mapping[str, Any] | None = spec.evaluators.general
    if settings is None:
        return [], []
    text = resources.files("sphere_core.costs").joinpath("tasks.yaml").read_text(encoding="utf-8")
    known = parse_yaml(text)
    tasks, unpriced = [], []
    for entry in _entries(settings):
        # The subjects of MMLU have similar sizes, and no entries of their own.
        size = known.get(entry.task) or (known["mmlu_subject"] if entry.task.startswith("mmlu_") else None)
        if size is None:
            unpriced.append(f"general ability on '{entry.task}'")
        else:
            limit = entry.limit or settings.get("limit") or size["documents"]
            tasks.append(size | {"documents": min(size["documents"], limit)})
    return tasks, unpriced


def _entries(settings: Mapping[str, Any]) -> Iterator[TaskEntry]:
    for entry in settings.get("tasks", []):
        named = TaskEntry(task=entry) if isinstance(entry, str) else TaskEntry.model_validate(entry)
        if named.task in preset_names():
            yield from read_preset(named.task).entries()
        else:
            yield named
