"""Task files of lm-eval that cannot be asked."""

from pathlib import Path
from typing import Any

import yaml

from benchmarks.bad_inputs.case import BadInput, Make, sweep

__all__ = ["TASKS"]


def _task(text: str, data: str = '{"q": "a", "a": "b"}\n', **general: Any) -> Make:
    def make(folder: Path) -> list[str]:
        (folder / "tasks").mkdir()
        (folder / "tasks" / "own.yaml").write_text(text)
        (folder / "tasks" / "own.jsonl").write_text(data)
        settings = {"tasks": ["own"], "include_path": ["tasks"], **general}
        return sweep(folder, evaluators={"general": settings})

    return make


_TASK = {
    **{"task": "own", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "own.jsonl"}}},
    **{"test_split": "test", "output_type": "loglikelihood", "doc_to_text": "{{q}}", "doc_to_target": "{{a}}"},
    "metric_list": [{"metric": "acc"}],
}


def _own_task(**changes: Any) -> Make:
    merged = {key: value for key, value in {**_TASK, **changes}.items() if value is not None}
    return _task(yaml.safe_dump(merged))


_TASKS: dict[str, Make] = {
    "a name that is none": lambda folder: sweep(folder, evaluators={"general": {"tasks": ["no_such_task"]}}),
    "no name": lambda folder: sweep(folder, evaluators={"general": {"tasks": []}}),
    "a folder that is gone": lambda folder: sweep(
        folder, evaluators={"general": {"tasks": ["a"], "include_path": ["no"]}}
    ),
    "not YAML": _task("task: [own\n"),
    "a list": _task("- task: own\n"),
    "a Python tag": _task("task: own\ndoc_to_text: !!python/name:os.system\n"),
    "a function that is gone": _task(yaml.safe_dump(_TASK).replace("'{{q}}'", "!function gone.text")),
    "without a data set": _own_task(dataset_path=None, dataset_kwargs=None),
    "an empty data file": _task(yaml.safe_dump(_TASK), data=""),
    "a data file that is not JSON": _task(yaml.safe_dump(_TASK), data="{"),
    "an unknown output": _own_task(output_type="loglikelyhood"),
    "a template that is broken": _own_task(doc_to_text="{{q"),
    "an unknown metric": _own_task(metric_list=[{"metric": "accuracyy"}]),
    "fewer than no examples": _task(yaml.safe_dump(_TASK), tasks=[{"task": "own", "num_fewshot": -1}]),
    "fewer than no examples in the file": _own_task(num_fewshot=-3),
    "a billion repetitions": _own_task(repeats=10**9),
    "choices that are missing": _own_task(output_type="multiple_choice"),
    "a list as its name": _own_task(task=["a", "b"]),
    "a file that it includes is gone": _own_task(include="gone.yaml"),
    "a data file that is an archive": _task(yaml.safe_dump(_TASK), data="PK\x03\x04 half an archive"),
    "a limit of no documents": _task(yaml.safe_dump(_TASK), limit=0),
    "an unknown setting": _task(yaml.safe_dump(_TASK), num_fewshots=1),
}

TASKS = [BadInput("task", name, make) for name, make in _TASKS.items()]
