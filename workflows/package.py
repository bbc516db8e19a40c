"""What a job takes along: the code as it runs here, the sweep file, and the files that it names beside it."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sphere_core.errors import InputError
from sphere_core.fingerprint import file_digest, fingerprint
from workflows.spec import read_sweep

__all__ = ["Package", "pack"]

_CODE = ("sphere_core", "evaluators", "workflows")
_FOLDER = "sweep"
# Ray keeps packages in the memory of the head and refuses those of half a gigabyte.
_MAX_BYTES = 256 << 20


@dataclass(frozen=True)
class Package:
    """A sweep's files, lying below `base` as they lie to each other here."""

    sweep_name: str
    sweep: Path
    base: Path
    files: tuple[Path, ...]

    @property
    def entry(self) -> str:
        """The sweep file's path inside the package."""
        return self._inside(self.sweep)

    def digest(self) -> str:
        """Return the digest of the sweep's files, by their paths inside the package; code plays no part."""
        return fingerprint({self._inside(file): file_digest(file) for file in self.files})

    def write(self, folder: Path) -> None:
        """Lay the package out below an empty folder, with the code that this process runs."""
        source = Path(__file__).resolve().parent.parent
        for name in _CODE:
            shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        for file in self.files:
            target = folder / self._inside(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)

    def _inside(self, file: Path) -> str:
        return f"{_FOLDER}/{file.relative_to(self.base).as_posix()}"


def pack(sweep: Path) -> Package:
    """Read a sweep file and gather the relative paths that it names.

    Absolute paths and hub ids are left to the cluster. Raises InputError for a sweep file with a fault, and for more
    files than a package should carry.
    """
    spec, text = read_sweep(sweep)
    file = Path(os.path.abspath(sweep))
    found = {file}
    for named in _relative_paths(text.data, file.parent):
        found |= set(_files_of(named))
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
    return Package(spec.name, file, base, files)


def _relative_paths(value: Any, folder: Path, key: str = "") -> Iterator[Path]:
    """Yield what exists of the relative paths in a sweep file: values that look like one, and models' folders."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _relative_paths(item, folder, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _relative_paths(item, folder, key)
    elif isinstance(value, str) and not Path(value).is_absolute() and ("/" in value or "." in value or key == "source"):
        path = Path(os.path.normpath(folder / value))
        if path.exists():
            yield path


def _files_of(path: Path) -> Iterator[Path]:
    """Yield a file, the files of a folder, and what lies beside a task's YAML: it may include its neighbours."""
    if path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file() and not _is_junk(file.relative_to(path)))
    elif path.suffix in (".yaml", ".yml"):
        yield from (file for file in path.parent.iterdir() if file.is_file() and not _is_junk(Path(file.name)))
    else:
        yield path


def _is_junk(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)
