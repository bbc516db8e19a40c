"""Second moments that were built before, in place of a pass over the corpus: from the user's store, or from this root.

The sums of a layer depend on neither the other layers of a pass nor on the name of what is built, so that files of
other layers, or under other keys, hold the same bits: if model, corpus, amount, packing, dtype, threads and kind of
processor are the same. Only such layers are taken, each checked against its digest.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.models import EditableModel
from sphere_core.moments.files import read_moments
from sphere_core.moments.headers import MomentsHeader, read_header
from sphere_core.moments.packing import Cursor
from sphere_core.moments.record import SecondMoments
from workflows.moments.build import build_alone
from workflows.moments.check import file_faults
from workflows.moments.store import MomentsStore, store_folder
from workflows.moments.work import MomentsWork
from workflows.store.layout import MOMENTS

__all__ = ["built_before", "take_or_build"]

# What must be the same for equal bits; the tokenizer's files are part of the model's digest.
_SAME = ("model_digest", "corpus", "amount", "max_tokens_per_text", "dtype", "packing", "processor")


def built_before(work: MomentsWork, root: Storage, store: str | None = None) -> SecondMoments | None:
    """Return the moments of a piece of work if files hold every layer of it, or None.

    `root` is a sweep's root, `store` the folder of the user's store (None: the usual one). Both are looked through only
    on this machine. A damaged file is passed over. Reads headers first, then the files that fit.
    """
    wanted = json.loads(json.dumps({**work.provenance, "packing": work.work.packing.identity()}))
    found: dict[int, tuple[Path, Mapping[str, Any]]] = {}
    for path in _files(root, store):
        header = _header(path)
        made_of = header.provenance
        if any(made_of.get(name) != wanted[name] for name in _SAME):
            continue
        for layer in work.work.layers:
            needed = [f"layer{layer}", *([f"gradient{layer}"] if work.work.gradients else [])]
            if layer not in found and all(name in header.shapes for name in needed):
                found[layer] = path, made_of
    if set(found) != {*work.work.layers} or not all(_is_sound(path) for path, _ in {**found}.values()):
        return None
    parts = {layer: read_moments(path, layers=layer.__eq__) for layer, (path, _) in found.items()}
    made_of = dict(next(iter(found.values()))[1])
    for name in ("key", "site"):
        made_of.pop(name, None)
    made_of["sites"] = {str(layer): _site(layer, made) for layer, (_, made) in sorted(found.items())}
    made_of["taken_from"] = sorted({str(made.get("key", path.name)) for path, made in found.values()})
    return SecondMoments(
        {layer: part.by_layer[layer] for layer, part in sorted(parts.items())},
        next(iter(parts.values())).count,
        made_of,
        gradients={layer: part.gradients[layer] for layer, part in sorted(parts.items()) if work.work.gradients},
    )


def take_or_build(
    work: MomentsWork,
    lent: AbstractContextManager[EditableModel],
    root: Storage,
    publish: Callable[[SecondMoments], None],
    on_progress: Callable[[Cursor], None],
) -> None:
    """Publish moments that were built before, or else build them with the model that `lent` lends, below `root`."""
    known = built_before(work, root)
    if known is not None:
        publish(known)
        return
    with lent as model:
        build_alone(work, model, root.child(MOMENTS), publish=publish, on_progress=on_progress)


def _files(root: Storage, store: str | None) -> Iterator[Path]:
    folder = root.local_path(MOMENTS)
    if folder is not None and folder.is_dir():
        yield from sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith((".", "nullspace")))
    stored = MomentsStore(store_folder(store)).storage.local_path("")
    if stored is not None and stored.is_dir():
        yield from sorted(path for path in stored.glob("*/layer*.safetensors"))


def _header(path: Path) -> MomentsHeader:
    try:
        return read_header(path)
    except InputError:
        return MomentsHeader()


def _is_sound(path: Path) -> bool:
    return not file_faults(path)


def _site(layer: int, made_of: Mapping[str, Any]) -> str:
    sites = made_of.get("sites", {})
    return str(made_of["site"] if "site" in made_of else sites[str(layer)])
