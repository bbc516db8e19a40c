"""Orders of a data set by how similar the keys of its edits are: similar ones together, or far apart."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sphere_core.datasets.sources import DatasetSpec, read_dataset
from sphere_core.foundation.storage import Storage
from sphere_core.models import load_model
from sphere_core.models.devices import pick_device
from sphere_core.plugins.found import NO_PLUGINS, Plugins
from sphere_core.streams.key_orders import adjacent_cosine, clusters_of, dispersed, record_keys
from sphere_core.streams.lengths import refuse_long
from sphere_core.streams.model_room import room_of_model
from sphere_core.streams.order_files import OrderFile, records_digest
from sphere_core.streams.orders import Order, arranged

__all__ = ["KeyOrders", "order_by_keys", "order_lines"]


@dataclass(frozen=True)
class KeyOrders:
    """The order files that were written, and how similar neighbouring keys are when edits are shuffled."""

    records: int
    clusters: int
    layer: int
    shuffled_cosine: float
    files: dict[Path, OrderFile]


def order_by_keys(
    *,
    dataset: DatasetSpec,
    model: str,
    dtype: str,
    layer: int,
    edits: int,
    seed: int,
    out: Path,
    clusters: int | None = None,
    revision: str | None = None,
    device: str = "auto",
    plugins: Plugins = NO_PLUGINS,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> KeyOrders:
    """Write OUT/clustered-SEED.json and OUT/dispersed-SEED.json, orders of the edits that `shuffled` takes at the seed.

    Keys are read off the unedited model at one layer. `clusters` defaults to the square root of the edits.
    `plugins` may bring the data set or the model's family. `on_progress` takes the records that are done and their
    number. Raises InputError, with nothing written, for a
    wrong data set, model or layer.
    """
    records = read_dataset(dataset, plugins).records
    chosen = arranged(records, Order(kind="shuffled"), edits=edits, seed=seed, source=dataset.source)
    loaded = load_model(model, dtype=dtype, device=pick_device(device), revision=revision, plugins=plugins)
    room = room_of_model(loaded)
    if room is not None:
        # Only the prompts are read here.
        bare = [replace(request, probes=(), generation_prompts=()) for record in chosen for request in record.requests]
        refuse_long(bare, room, source=dataset.source)
    keys = record_keys(loaded, chosen, layer, on_progress=lambda done: on_progress(done, len(chosen)))
    groups = clusters_of(keys, clusters or max(1, round(math.sqrt(len(chosen)))), seed)
    shuffled = adjacent_cosine(keys, range(len(chosen)))
    orders: dict[str, tuple[str, Sequence[int]]] = {
        "clustered": (f"{len(groups)} clusters by cosine", [place for group in groups for place in group]),
        "dispersed": ("kernel herding of cosines", dispersed(keys)),
    }
    made_of = {
        "keys_of": model.rstrip("/").rsplit("/", 1)[-1],
        "model_digest": loaded.base_digest,
        "dtype": dtype,
        "layer": layer,
    }
    files: dict[Path, OrderFile] = {}
    for kind, (by, places) in orders.items():
        cosine = adjacent_cosine(keys, places)
        written = OrderFile(
            dataset=dataset.name,
            dataset_digest=records_digest(records),
            order=kind,
            similarity={**made_of, "by": by},
            seed=seed,
            statistics={"neighbour_cosine": round(cosine, 6), "neighbour_cosine_shuffled": round(shuffled, 6)},
            cases=tuple(chosen[place].case_id for place in places),
        )
        files[out / f"{kind}-{seed}.json"] = written
        Storage(out.resolve()).write_bytes(f"{kind}-{seed}.json", written.model_dump_json(indent=1).encode())
    return KeyOrders(len(chosen), len(groups), layer, shuffled, files)


def order_lines(orders: KeyOrders) -> list[str]:
    """Return what was written and how similar neighbouring keys are in each order, one line per fact."""
    return [
        f"{orders.records} records in {orders.clusters} clusters by the keys of layer {orders.layer}",
        f"shuffled: mean cosine of neighbouring keys {orders.shuffled_cosine:.3f}",
        *(
            f"{file.order}: mean cosine of neighbouring keys {file.statistics['neighbour_cosine']:.3f}: {path}"
            for path, file in orders.files.items()
        ),
    ]
