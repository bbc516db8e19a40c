"""The package of a job: the code as it runs here, the sweep file, and the files that it names by relative paths."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import file_digest, fingerprint
from sphere_core.foundation.yaml_files import YamlText
from workflows.cluster.package_files import named_files
from workflows.sweeps.reading import read_sweep
from workflows.sweeps.spec import SweepSpec

__all__ = ["Package", "pack"]

_CODE = ("sphere_core", "evaluators", "workflows")
_FOLDER = "sweep"
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
    # Files of the named folders that look like keys or credentials, which stay here.
    left_out: tuple[Path, ...] = ()

    @property
    def entry(self) -> str:
        """The sweep file's path inside the package."""
        return self._inside(self.sweep)

    def digest(self) -> str:
        """Return the digest of the sweep's files, by their paths inside the package; code does not enter it."""
        return fingerprint({self._inside(file): file_digest(file) for file in self.files})

    def lines(self) -> list[str]:
        """Return what is sent, a line for each file with its size, and what is left out."""
        total = sum(file.stat().st_size for file in self.files)
        sent = [f"  {file.relative_to(self.base).as_posix()} ({_size(file.stat().st_size)})" for file in self.files]
        kept = [f"left out, since it looks like a key or credentials: {file}" for file in self.left_out]
        return [
            f"the job takes along the code of {', '.join(_CODE)} and {len(sent)} files below {self.base}, "
            f"{_size(total)}:",
            *sent,
            *kept,
        ]

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


def pack(sweep: Path, overrides: Sequence[str] = (), *, outside: bool = False) -> Package:
    """Read a sweep file and collect the relative paths that it names: folders whole, task files with what they name.

    `overrides` replace values of the file. Absolute paths and hub ids are left to the cluster. Keys and credentials are
    never taken along, files above the sweep file's folder or behind links out of it only with `outside`. Raises
    InputError for such files, for a faulty sweep or task file, and for a package that is too large.
    """
    spec, text = read_sweep(sweep, overrides)
    file = Path(os.path.abspath(sweep))
    named = named_files(spec, file.parent, outside=outside)
    found = {file, *named.files}
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
    plugins = _plugins(spec, text, file.parent)
    return Package(spec.name, file, base, files, spec.resources.grace_seconds, plugins, named.left_out)


def _size(count: int) -> str:
    return (
        f"{count} bytes" if count < 10_000 else f"{count / 1024:.0f} KiB" if count < 10 << 20 else f"{count >> 20} MiB"
    )


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
