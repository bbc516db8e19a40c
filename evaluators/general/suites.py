"""What an entry of `tasks` stands for: a preset, a shipped suite, a folder, a YAML file, or a task by its name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from evaluators.general.hub_data import HubData, hub_data
from evaluators.general.settings import TaskEntry
from evaluators.general.task_files import require_sources, source_digests, task_config, task_name
from evaluators.general.task_index import FoundTasks, TaskFolder, harness_folder
from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.foundation.fingerprint import file_digest
from sphere_core.foundation.yaml_text import parse_yaml

__all__ = ["Member", "Preset", "Suite", "SuiteResolver", "TaskEntry", "preset_names", "read_preset", "shipped_suites"]

_TASKS_FOLDER = Path(__file__).parent / "tasks"
_PRESETS_FOLDER = Path(__file__).parent / "presets"
_CORPUS_TASK = _PRESETS_FOLDER / "_corpus.yaml"
PERPLEXITY = "perplexity"
_HUB_CORPUS = "wikitext"
_OWN_TASKS = (
    "a task of one's own is named by its file or folder, or found in include_path (--include-path of sphere tasks)"
)


class Preset(BaseModel):
    """A named list of tasks with its source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    source: str
    note: str
    tasks: tuple[str | TaskEntry, ...] = Field(min_length=1)
    limit: PositiveInt | None = None
    num_fewshot: NonNegativeInt | None = None

    def entries(self) -> tuple[TaskEntry, ...]:
        """Return the tasks with the preset's settings where they have none of their own."""
        plain = (TaskEntry(task=entry) if isinstance(entry, str) else entry for entry in self.tasks)
        return tuple(_with_defaults(entry, self.limit, self.num_fewshot) for entry in plain)


@dataclass(frozen=True)
class Member:
    """One task, group or tag of a suite. `file` is a YAML of the user's or the project's, `found` a name looked up."""

    entry: TaskEntry
    file: Path | None = None
    found: FoundTasks | None = None
    corpus: Path | None = None

    def files(self) -> list[Path]:
        """Return the YAMLs its scores depend on."""
        if self.file is not None:
            return [self.file]
        return [] if self.found is None else [*self.found.task_files.values(), *self.found.group_files]

    def identity(self, hub: HubData) -> dict[str, object]:
        """Return the digests of all it depends on: YAMLs, includes, scorers, data files, revisions of hub data.

        Raises InputError if data on the hub can be had neither there nor from the cache.
        """
        revisions = [hub.revision(name, config) for name, config in self.configs().items()]
        return {
            "settings": self.entry.model_dump(mode="json", exclude={"task"}),
            "files": [source_digests(file) for file in self.files()],
            "data": [revision for revision in revisions if revision is not None],
            **({} if self.corpus is None else {"corpus": file_digest(self.corpus)}),
        }

    def configs(self, *, resolve: bool = False) -> dict[str, dict[str, object]]:
        """Return the configuration of each of its tasks, by name; that of the corpus task with the corpus filled in.

        `resolve` imports the Python scorers they name.
        """
        if self.found is not None:
            return {name: task_config(file, resolve=resolve) for name, file in self.found.task_files.items()}
        if self.file is None:
            return {}
        config = task_config(self.file, resolve=resolve)
        if self.corpus is not None:
            form = "json" if self.corpus.suffix in (".json", ".jsonl") else "text"
            config |= {"dataset_path": form, "dataset_kwargs": {"data_files": {"test": str(self.corpus)}}}
        return {self.entry.task: config}


@dataclass(frozen=True)
class Suite:
    """What one entry of `tasks` stands for; its mean is over its members."""

    name: str
    members: tuple[Member, ...]

    def identity(self, hub: HubData) -> dict[str, object]:
        """Return what its scores depend on; paths enter as names alone."""
        return {"name": self.name, "members": [member.identity(hub) for member in self.members]}

    @property
    def is_shipped(self) -> bool:
        """Whether all its task files come with the project, which tests load with the harness."""
        return all(member.file is not None and _TASKS_FOLDER in member.file.parents for member in self.members)

    def needs_hub(self) -> bool:
        """Return whether any of its data is a data set on the hub."""
        return any(hub_data(config) is not None for member in self.members for config in member.configs().values())


class SuiteResolver:
    """Looks entries up; the YAMLs of a folder of names are read once."""

    def __init__(
        self,
        include_path: Sequence[str] = (),
        corpus: str | None = None,
        where: str = "evaluator 'general', field tasks",
    ) -> None:
        """Raise InputError for a folder of tasks or a corpus that is not there.

        `where` is the place that an error about an unknown name gives.
        """
        self._where = where
        self._named = [TaskFolder(Path(folder).expanduser().resolve()) for folder in include_path]
        self._harness: TaskFolder | None = None
        self._corpus = None if corpus is None else Path(corpus).expanduser().resolve()
        if self._corpus is not None and not self._corpus.is_file():
            raise InputError("corpus not found", where=str(self._corpus), remedy="give a text or JSONL file")

    def suite(self, entry: TaskEntry) -> Suite:
        """Return the suite that an entry names, checked as far as files go.

        Looked up in this order: presets, shipped suites, folders and YAML files, tasks of `include_path`, tasks, groups
        and tags of lm-eval. Raises InputError if it is none of these, if a folder has no task, or if a data
        file is missing.
        """
        name, path = entry.task, Path(entry.task).expanduser()
        if name in preset_names():
            parts = (_with_overrides(part, entry) for part in read_preset(name).entries())
            suite = Suite(name, tuple(member for part in parts for member in self._members(part)))
        elif name in shipped_suites():
            suite = Suite(name, _folder_members(_TASKS_FOLDER / name, entry))
        elif path.is_dir():
            suite = Suite(path.resolve().name, _folder_members(path, entry))
        else:
            suite = Suite(path.name if path.is_file() else name, tuple(self._members(entry)))
        for member in suite.members:
            for file in member.files():
                require_sources(file)
        return suite

    def _members(self, entry: TaskEntry) -> Iterator[Member]:
        path = Path(entry.task).expanduser()
        if path.is_file():
            yield Member(entry, file=path)
        elif path.suffix in (".yaml", ".yml") or "/" in entry.task:
            raise InputError("task file or folder not found", where=entry.task, remedy="check the path")
        elif entry.task == PERPLEXITY:
            if self._corpus is not None:
                yield Member(entry, file=_CORPUS_TASK, corpus=self._corpus)
            else:
                yield Member(entry, found=self._found(_HUB_CORPUS))
        else:
            yield Member(entry, found=self._found(entry.task))

    def _found(self, name: str) -> FoundTasks:
        for folder in self._folders():
            found = folder.find(name)
            if found is not None:
                return found
        for folder in self._named:
            folder.explain(name)
        own = {*preset_names(), *shipped_suites(), *(known for folder in self._named for known in folder.names())}
        near = self._harness.nearest(name) if self._harness is not None else None
        error = unknown_name("task", name, {*own, *([near] if near is not None else [])}, where=self._where)
        raise error.replaced(remedy=f"{error.remedy}; {_OWN_TASKS}")

    def _folders(self) -> Iterator[TaskFolder]:
        yield from self._named
        if self._harness is None:
            self._harness = TaskFolder(harness_folder())
        yield self._harness


def shipped_suites() -> list[str]:
    """Return the names of the suites whose task files come with the project."""
    folders = (path for path in _TASKS_FOLDER.iterdir() if path.is_dir())
    return sorted(path.name for path in folders if any(path.glob("*.yaml")))


def preset_names() -> list[str]:
    """Return the names of the presets."""
    return sorted(path.stem for path in _PRESETS_FOLDER.glob("[!_]*.yaml"))


def read_preset(name: str) -> Preset:
    """Return a preset by its name."""
    return Preset.model_validate(parse_yaml((_PRESETS_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))


def _folder_members(folder: Path, entry: TaskEntry) -> tuple[Member, ...]:
    files = [file for file in sorted(folder.rglob("*.yaml")) if task_name(file) is not None]
    if not files:
        raise InputError("the folder holds no task YAML", where=str(folder), remedy="a task YAML has a key 'task'")
    return tuple(Member(entry.model_copy(update={"task": str(task_name(file))}), file=file) for file in files)


def _with_defaults(entry: TaskEntry, limit: int | None, num_fewshot: int | None) -> TaskEntry:
    given = {"limit": limit, "num_fewshot": num_fewshot}
    own: Mapping[str, object] = entry.model_dump()
    return entry.model_copy(update={key: value for key, value in given.items() if own[key] is None})


def _with_overrides(part: TaskEntry, entry: TaskEntry) -> TaskEntry:
    """Return a part of a preset with what the sweep says about the preset as a whole."""
    given = {"limit": entry.limit, "num_fewshot": entry.num_fewshot}
    return part.model_copy(update={key: value for key, value in given.items() if value is not None})
