"""Task YAMLs as files: what they say with their includes merged, and every file their scores depend on.

In lm-eval a relative data file is looked for in the current directory; here it lies beside the YAML that names it.
Task YAMLs may name Python scorers with `!function module.name`; such a module lies beside the YAML. Reading a file runs
none of them (`task_code` says when they are run).
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from evaluators.general.task_functions import NamedFunction, import_functions, module_file, named_functions
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import file_digest
from sphere_core.foundation.yaml_files import require_bounded

__all__ = [
    "FILE_FORMATS",
    "is_local_data",
    "named_paths",
    "read_task_file",
    "require_sources",
    "source_digests",
    "sources_with_texts",
    "task_config",
    "task_name",
]

# What `datasets` reads local files with; spelled out, since importing it costs a second. A test compares the two.
FILE_FORMATS = frozenset(
    {
        "arrow",
        "audiofolder",
        "conll",
        "csv",
        "eval",
        "fasta",
        "fastq",
        "genbank",
        "harbor",
        "hdf5",
        "iceberg",
        "imagefolder",
        "json",
        "lance",
        "meshfolder",
        "mmcif",
        "niftifolder",
        "pandas",
        "parquet",
        "pdb",
        "pdffolder",
        "text",
        "tsfile",
        "videofolder",
        "vortex",
        "webdataset",
        "xml",
    }
)


def _named_function(loader: "_TaskLoader", node: yaml.ScalarNode) -> NamedFunction:
    return NamedFunction(loader.construct_scalar(node))


class _TaskLoader(yaml.CSafeLoader):
    """Plain YAML, where a `!function` is the name it gives and nothing is imported."""


_TaskLoader.add_constructor("!function", _named_function)


def read_task_file(file: Path) -> dict[str, object]:
    """Return what one YAML says, includes not followed, and the Python scorers that it names as names.

    Raises InputError if it is not YAML, is not a mapping, or is nested or repeated beyond any task.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
        loader = _TaskLoader(text)
        node = require_bounded(text, loader, where=str(file))
        said = None if node is None else loader.construct_document(node)
        if not isinstance(said, dict):
            raise ValueError(f"a task is a mapping, this is a {type(said).__name__}")
        return said
    except yaml.YAMLError as error:
        raise InputError(f"not valid YAML: {error}", where=str(file), remedy="correct the file") from error
    except (ValueError, OSError, OverflowError) as error:
        raise InputError(
            f"the task file cannot be read: {error}", where=str(file), remedy="give a task YAML, as lm-eval has them"
        ) from error


def task_name(file: Path) -> str | None:
    """Return the task a YAML defines; None for a base file that others include and for a group."""
    raw = read_task_file(file)
    name = raw.get("task")
    return name if "group" not in raw and isinstance(name, str) else None


def task_config(file: Path, *, resolve: bool = False, included_by: tuple[Path, ...] = ()) -> dict[str, object]:
    """Return a task's whole configuration: includes merged, local keys winning, data files absolute.

    `resolve` imports the Python scorers it names, as the harness needs them; without, they are names. Raises
    InputError for a YAML that includes itself, through others too: `included_by` are those on the way to it.
    """
    raw = read_task_file(file)
    merged: dict[str, object] = {}
    for base in _included(file, raw, included_by):
        base_config = task_config(base, resolve=resolve, included_by=(*included_by, file))
        base_config.pop("task_list", None)
        merged.update(base_config)
    raw.pop("include", None)
    options = raw.get("dataset_kwargs")
    if isinstance(options, Mapping) and "data_files" in options and is_local_data({**merged, **raw}):
        raw["dataset_kwargs"] = {**options, "data_files": _absolute(options["data_files"], file.parent)}
    path = raw.get("dataset_path")
    if isinstance(path, str) and (file.parent / path).is_dir():
        raw["dataset_path"] = str((file.parent / path).resolve())
    own = {key: import_functions(value, file.parent) for key, value in raw.items()} if resolve else raw
    return {**merged, **own}


def is_local_data(config: Mapping[str, object]) -> bool:
    """Return whether a task reads files by a format (`json`, `csv`, ...) or a folder, and not a data set on the hub."""
    path = config.get("dataset_path")
    return path in FILE_FORMATS or (isinstance(path, str) and Path(path).is_dir())


def source_digests(file: Path) -> list[list[str]]:
    """Return name and digest of the YAML, what it includes, its Python scorers and its local data files.

    Paths enter as names alone, so that a task keeps its identity when its folder moves.
    """
    return [[source.name, file_digest(source)] for source in dict.fromkeys(_sources(file))]


def require_sources(file: Path) -> None:
    """Raise InputError if a file that a task names is not there."""
    for source in _sources(file):
        if not source.is_file():
            raise InputError("data file not found", where=str(source), remedy=f"it is named in {file}")


def _sources(file: Path, included_by: tuple[Path, ...] = ()) -> Iterator[Path]:
    yield file
    if not file.is_file():
        return
    raw = read_task_file(file)
    yield from (scorer for scorer in _scorers(file, raw) if scorer.is_file())
    for base in _included(file, raw, included_by):
        yield from _sources(base, (*included_by, file))
    options = raw.get("dataset_kwargs")
    if isinstance(options, Mapping) and raw.get("dataset_path", "json") in FILE_FORMATS:
        yield from ((file.parent / name).resolve() for name in _flat(options.get("data_files", [])))
    folder = raw.get("dataset_path")
    if isinstance(folder, str) and (file.parent / folder).is_dir():
        yield from sorted(path for path in (file.parent / folder).resolve().rglob("*") if path.is_file())


def named_paths(file: Path) -> set[Path]:
    """Return a task YAML and what it names by relative paths, at the places where it names them: links stay links.

    That is what it includes, its Python scorers, its data files or the folder of its data, and the YAMLs in a group's
    list of tasks with all that these name in turn. Missing files are left out. Raises InputError for a file that is
    not YAML.
    """
    found: set[Path] = set()
    pending = [file]
    while pending:
        source = Path(os.path.normpath(pending.pop()))
        if source in found or not source.is_file():
            continue
        found.add(source)
        raw = read_task_file(source)
        pending += [source.parent / name for name in _named_yamls(raw) if not name.is_absolute()]
        others = [source.parent / name for name in _named_data(raw) if not name.is_absolute()]
        others += _scorers(source, raw)
        found |= {Path(os.path.normpath(path)) for path in others if path.exists()}
    return found


def sources_with_texts(file: Path, included_by: tuple[Path, ...] = ()) -> Iterator[tuple[Path, dict[str, object]]]:
    """Yield a task YAML and all that it includes, each with what it says; a file that is not there says nothing."""
    if not file.is_file():
        return
    raw = read_task_file(file)
    yield file, raw
    for base in _included(file, raw, included_by):
        yield from sources_with_texts(base, (*included_by, file))


def _scorers(file: Path, raw: Mapping[str, object]) -> list[Path]:
    return list(dict.fromkeys(module_file(function, file.parent) for function in named_functions(raw)))


def _included(file: Path, raw: Mapping[str, object], included_by: tuple[Path, ...]) -> list[Path]:
    bases = [file.parent / name for name in _includes(raw)]
    above = {path.resolve() for path in (*included_by, file)}
    for base in bases:
        if base.resolve() in above:
            raise InputError(
                f"{base.name} is included by itself", where=str(file), remedy="take one `include` out of the circle"
            )
    return bases


def _includes(raw: Mapping[str, object]) -> list[Path]:
    includes = raw.get("include", [])
    return [Path(str(name)) for name in (includes if isinstance(includes, list) else [includes])]


def _named_yamls(raw: Mapping[str, object]) -> Iterator[Path]:
    """Yield what a configuration includes, and the YAMLs among the tasks of a group."""
    yield from _includes(raw)
    for item in _members(raw):
        if isinstance(item, Mapping):
            yield from _named_yamls(item)
        elif Path(str(item)).suffix in (".yaml", ".yml"):
            yield Path(str(item))


def _named_data(raw: Mapping[str, object]) -> Iterator[Path]:
    """Yield the data files of a configuration, or what may be the folder of its data, and those of a group's tasks."""
    options, folder = raw.get("dataset_kwargs"), raw.get("dataset_path")
    if isinstance(options, Mapping):
        yield from _flat(options.get("data_files", []))
    if isinstance(folder, str) and folder not in FILE_FORMATS:
        yield Path(folder)
    for item in _members(raw):
        if isinstance(item, Mapping):
            yield from _named_data(item)


def _members(raw: Mapping[str, object]) -> list[object]:
    tasks = raw.get("task")
    return tasks if isinstance(tasks, list) else []


def _absolute(files: object, folder: Path) -> object:
    if isinstance(files, Mapping):
        return {key: _absolute(value, folder) for key, value in files.items()}
    if isinstance(files, list):
        return [_absolute(value, folder) for value in files]
    name = str(files)
    return name if "://" in name else str((folder / name).resolve())


def _flat(files: object) -> Iterator[Path]:
    if isinstance(files, Mapping):
        files = list(files.values())
    for item in files if isinstance(files, list) else [files]:
        if isinstance(item, list):
            yield from _flat(item)
        elif "://" not in str(item):
            yield Path(str(item))
