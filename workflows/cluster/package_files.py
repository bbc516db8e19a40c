"""The files that a sweep names: only under keys that are paths, inside the sweep file's folder, and never a secret."""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.general.task_files import named_paths
from sphere_core.foundation.errors import InputError
from workflows.sweeps.spec import EMBEDDED, SweepSpec

__all__ = ["NamedFiles", "named_files"]

_YAML = (".yaml", ".yml")
_SHOWN = 5
# What is called so is a key or holds credentials, whatever is in it.
_SECRET_NAMES = re.compile(
    r"id_(rsa|dsa|ecdsa|ed25519)(_\w+)?(?!\.pub)|.*\.(pem|key|p12|pfx|jks|kdbx|ppk|keytab|ovpn)|(?:.*[-_.])?credentials?"
    r"(\.\w+)?|(?:.*[-_.])?secrets?(\.\w+)?|auth_token|token|kubeconfig|[._](netrc|pgpass)|htpasswd"
    r"|service[-_]account.*\.json|application_default_credentials\.json",
    re.IGNORECASE,
)
_SECRET_TEXTS = re.compile(
    rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY|PuTTY-User-Key-File|openssh-key-v1|\"private_key\"\s*:|aws_secret_access_key"
    rb"|\"type\"\s*:\s*\"service_account\"",
    re.IGNORECASE,
)
_HEAD = 16 << 10


@dataclass(frozen=True)
class NamedFiles:
    """The files of a sweep, and those of its folders that were left out since they look like secrets."""

    files: frozenset[Path]
    left_out: tuple[Path, ...]


def named_files(spec: SweepSpec, folder: Path, *, outside: bool) -> NamedFiles:
    """Return the files behind the relative paths of a sweep: folders whole, task files with what they name.

    Missing files are hub ids or names, or are left for the cluster to refuse; absolute paths are the cluster's. Raises
    InputError for a secret that is named itself, for a faulty task file, and, without `outside`, for a file above
    `folder` or one that a link leads out of it to.
    """
    files: set[Path] = set()
    left_out: set[Path] = set()
    for path in _plain_paths(spec, folder):
        _collect(path, _files_of(path), files, left_out)
    for path in _task_paths(spec, folder):
        _collect(path, _task_files(path), files, left_out)
    if not outside:
        _require_inside(files, folder)
    return NamedFiles(frozenset(files), tuple(sorted(left_out)))


def _collect(named: Path, found: Iterable[Path], files: set[Path], left_out: set[Path]) -> None:
    for file in found:
        if not _is_secret(file):
            files.add(file)
        elif file == named:
            raise InputError(
                "a key or a file of credentials is not sent to a cluster",
                where=str(file),
                remedy="take it out of the sweep; nodes get credentials from their own environment",
            )
        else:
            left_out.add(file)


def _is_secret(file: Path) -> bool:
    """Return whether a file's own name, that of a link's end, or its beginning is that of a key."""
    if _SECRET_NAMES.fullmatch(file.name) or _SECRET_NAMES.fullmatch(file.resolve().name):
        return True
    with file.open("rb") as opened:
        return _SECRET_TEXTS.search(opened.read(_HEAD)) is not None


def _require_inside(files: Iterable[Path], folder: Path) -> None:
    real = folder.resolve()
    odd = sorted(file for file in files if not file.is_relative_to(folder) or not file.resolve().is_relative_to(real))
    if odd:
        more = f", and {len(odd) - _SHOWN} more" if len(odd) > _SHOWN else ""
        raise InputError(
            f"the sweep names files above its folder or through a link: {', '.join(map(str, odd[:_SHOWN]))}{more}",
            where=str(folder),
            remedy="give --outside to send them too, put them beside the sweep file, or name them by absolute path",
        )


def _plain_paths(spec: SweepSpec, folder: Path) -> Iterator[Path]:
    """Yield what exists behind the keys of a sweep file that hold paths, those of tasks left out."""
    for model in spec.models:
        yield from _existing([model.source] if model.source != EMBEDDED["source"] else [], folder)
        yield from _existing([model.preset] if model.preset.endswith(_YAML) else [], folder)
    for stream in spec.streams:
        yield from _existing([stream.path, stream.snippets, stream.order.file], folder)
    yield from _existing([method.file for method in spec.methods], folder)
    yield from _existing(spec.plugins, folder)
    if spec.moments is not None:
        corpus = spec.moments.corpus
        corpora = [corpus] if isinstance(corpus, str) else corpus or []
        yield from _existing([spec.moments.file, *(name for name in corpora if name != EMBEDDED["source"])], folder)
    yield from _existing([spec.contexts.file, _texts(_general(spec).get("corpus"))], folder)


def _task_paths(spec: SweepSpec, folder: Path) -> Iterator[Path]:
    """Yield the task files and folders of a sweep."""
    general = _general(spec)
    for key in ("tasks", "include_path"):
        entries = general.get(key)
        for entry in entries if isinstance(entries, list | tuple) else []:
            yield from _existing([_texts(entry.get("task") if isinstance(entry, dict) else entry)], folder)


def _general(spec: SweepSpec) -> dict[str, Any]:
    return spec.evaluators.general or {}


def _texts(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _existing(names: Iterable[str | None], folder: Path) -> Iterator[Path]:
    for name in names:
        if name and not Path(name).is_absolute() and not name.startswith("~"):
            path = Path(os.path.normpath(folder / name))
            if path.exists():
                yield path


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
