"""Verify, compare and import existing second moments."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import file_digest
from sphere_core.moments.compare import Comparison, compare_moments, faults
from sphere_core.moments.files import read_moments
from sphere_core.moments.headers import read_header
from sphere_core.moments.imports import import_projector, import_statistics
from workflows.moments.build import name_model
from workflows.moments.layer_list import parse_layers
from workflows.moments.store import MomentsStore

__all__ = ["StoredComparison", "compare_stored", "file_faults", "import_files", "verify_stored"]


@dataclass(frozen=True)
class StoredComparison:
    """Two statistics: whether they are of one model and tokenizer, None if one does not say; and each layer."""

    same_model: bool | None
    layers: tuple[Comparison, ...]


def verify_stored(store: MomentsStore, names: Sequence[str]) -> Iterator[tuple[Path, list[str]]]:
    """Check files one by one; yield the path of each with what is wrong with it, nothing for a sound one.

    `names` are keys or files; without any the whole store is checked, and that every file is in the set of its key.
    """
    wanted = [store.locate(name) for name in names] if names else [_folder(store, found.key) for found in store.sets()]
    files = [file for path in wanted for file in (sorted(path.glob("layer*.safetensors")) if path.is_dir() else [path])]
    for path in files:
        found = file_faults(path)
        key = "" if found else read_header(path).provenance.get("key", path.parent.name)
        if not found and not names and key != path.parent.name:
            found = [f"it belongs to the set {key}"]
        yield path, found


def file_faults(path: Path) -> list[str]:
    """Return what is wrong with a file of second moments or of a null space: digests, symmetry, orthonormal columns."""
    try:
        return list(faults(read_moments(path), read_header(path).digests))
    except InputError as error:
        return [error.what]


def compare_stored(
    store: MomentsStore, first: str, second: str, layers: str | None, threshold: float
) -> StoredComparison:
    """Compare two statistics in the layers that they share, or in those given; raises InputError if there is none."""
    pair = store.read(first), store.read(second)
    shared = sorted(set(pair[0].by_layer) & set(pair[1].by_layer))
    chosen = shared if layers is None else parse_layers(layers)
    if not chosen:
        raise InputError("they share no layer", where="sphere moments compare", remedy="give statistics of one model")
    models = [moments.provenance.get("model_digest") for moments in pair]
    same = None if None in models else models[0] == models[1]
    return StoredComparison(same, tuple(compare_moments(*pair, layer, threshold=threshold) for layer in chosen))


def import_files(
    store: MomentsStore, files: Sequence[Path], model: str, layers: str | None, revision: str | None, console: Console
) -> None:
    """Put MEMIT's statistics or AlphaEdit's projector into the store; raises InputError before anything is written."""
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise InputError("file not found", where=str(missing[0]), remedy="check the path")
    name, skeleton = name_model(model, dtype="float32", revision=revision, remote_code=False)
    said = {"model": name.model, "model_digest": name.model_digest}
    if all(path.suffix == ".npz" for path in files):
        chosen = list(range(len(skeleton.layers))) if layers is None else list(parse_layers(layers))
        moments = import_statistics(files, skeleton.open_sites(chosen), **said)
    elif len(files) == 1 and layers is not None:
        moments = import_projector(files[0], skeleton.open_sites(parse_layers(layers)), **said)
    else:
        raise InputError(
            "give npz files, or one projector with --layers",
            where="sphere moments import",
            remedy="the projector of AlphaEdit does not say which layers it is of",
        )
    key = store.key_of({"imported": [file_digest(path) for path in files], **said, "layers": moments.layers})
    store.write(key, moments)
    console.print(
        f"layers {', '.join(map(str, moments.layers))}: {store.storage.uri}/{key}", highlight=False, soft_wrap=True
    )
    console.print(f"in a sweep: moments: {{stored: {key}}}", highlight=False, soft_wrap=True)


def _folder(store: MomentsStore, key: str) -> Path:
    folder = store.storage.local_path(key)
    if folder is None:
        raise InputError("the store is not on this machine", where=store.storage.uri, remedy="verify a local copy")
    return folder
