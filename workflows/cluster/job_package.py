"""The package of a job: the code as it runs here, the sweep file, and the files that it names by relative paths."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.general.task_files import named_paths
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import file_digest, fingerprint
from sphere_core.foundation.yaml_files import YamlText
from workflows.sweeps.reading import read_sweep
from workflows.sweeps.spec import SweepSpec

__all__ = ["Package", "pack"]

_CODE = ("sphere_core", "evaluators", "workflows")
_FOLDER = "sweep"
# Keys of a sweep file whose values may be paths even without a dot or a slash; those whose values are tasks.
_TASKS = ("tasks", "task", "include_path")
_PATHS = (*_TASKS, "source", "file", "path")
# Ray keeps packages in the memory of the head and refuses those of half a gigabyte.
_MAX_BYTES = 256 << 20


@dataclass(frozen=True)
class Package:
    """A sweep's files, with the same relative locations below `base` as here."""

    sweep_name: str
    sweep: Path
    base: Path
    files: tuple[Path, ...]
    # How long a stopped run waits for the batches under way, in seconds.
    grace_seconds: float
    # Files whose code is run on the cluster, with their digests.
    plugins: tuple[tuple[str, str], ...] = ()

    @property
    def entry(self) -> str:
        """The sweep file's path inside the package."""
        return self._inside(self.sweep)

    def digest(self) -> str:
        """Return the digest of the sweep's files, by their paths inside the package; code does not enter it."""
        return fingerprint({self._inside(file): file_digest(file) for file in self.files})

    def write(self, folder: Path) -> None:
        """Write the package below an empty folder, with the code that this process runs."""
        source = Path(__file__).resolve().parents[2]
        for name in _CODE:
            shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        for file in self.files:
            target = folder / self._inside(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)

    def _inside(self, file: Path) -> str:
        return f"{_FOLDER}/{file.relative_to(self.base).as_posix()}"


def pack(sweep: Path, overrides: Sequence[str] = ()) -> Package:
    """Read a sweep file and collect the relative paths that it names: folders whole, task files with what they name.

    `overrides` replace values of the file. Absolute paths and hub ids are left to the cluster. Raises InputError for a
    faulty sweep or task file, and for a package that is too large.
    """
    spec, text = read_sweep(sweep, overrides)
    file = Path(os.path.abspath(sweep))
    found = {file}
    found |= set(_named_files(text.data, file.parent))
    base = Path(os.path.commonpath([path.parent for path in found]))
    files = tuple(sorted(found))
    sizes = {path: path.stat().st_size for path in files}
    if sum(sizes.values()) > _MAX_BYTES:
        largest = max(files, key=lambda path: sizes[path])
        raise InputError(
            f"the files that the sweep names beside it come to {sum(sizes.values()) >> 20} MiB; "
            f"a job carries {_MAX_BYTES >> 20} MiB at most",
            where=str(largest),
            remedy="put large files on storage that every node sees and name them by absolute path, or by hub id",
        )
    return Package(spec.name, file, base, files, spec.resources.grace_seconds, _plugins(spec, text, file.parent))


def _plugins(spec: SweepSpec, text: YamlText, folder: Path) -> tuple[tuple[str, str], ...]:
    """Return the plugin files with their digests, without running them; absolute paths may be on the cluster."""
    found = []
    for name in spec.plugins:
        path = folder / name
        if not path.is_file() and not Path(name).is_absolute():
            where = text.where(("plugins",))
            raise InputError(f"no plugin file '{path}'", where=where, remedy="paths are relative to the sweep file")
        found.append((name, file_digest(path) if path.is_file() else ""))
    return tuple(found)


def _named_files(value: Any, folder: Path, key: str = "") -> Iterator[Path]:
    """Yield the files behind the relative paths in a sweep file: values that look like a path, or keys that may hold
    one.

    Missing files are hub ids or names, or are left for the cluster to refuse.
    """
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _named_files(item, folder, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _named_files(item, folder, key)
    elif isinstance(value, str) and not Path(value).is_absolute() and ("/" in value or "." in value or key in _PATHS):
        path = Path(os.path.normpath(folder / value))
        if path.exists():
            yield from _task_files(path) if key in _TASKS else _files_of(path)


def _task_files(path: Path) -> Iterator[Path]:
    """Yield the files of tasks: a YAML with what it names, or a whole folder with what its YAMLs name outside of it."""
    if not path.is_dir():
        for named in named_paths(path):
            yield from _files_of(named)
        return
    for file in _files_of(path):
        yield file
        # Parsing is slow, and a folder may hold thousands: only a path with `..` leads out of it.
        if "yaml" in file.name and b".." in file.read_bytes():
            # A folder may hold YAMLs that no task needs; a run refuses those that one does.
            with contextlib.suppress(InputError):
                for named in named_paths(file):
                    yield from _files_of(named)


def _files_of(path: Path) -> Iterator[Path]:
    """Yield a file, or the files of a folder without hidden files and Python's caches."""
    if path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file() and not _is_junk(file.relative_to(path)))
    else:
        yield path


def _is_junk(path: Path) -> bool:
    return path.suffix == ".pyc" or any(part.startswith(".") or part == "__pycache__" for part in path.parts)
