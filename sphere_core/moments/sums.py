"""Sums of k k^T during a pass, and how they are saved between two attempts."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from sphere_core.foundation.storage import Storage
from sphere_core.foundation.storage_faults import StorageError
from sphere_core.moments.packing import Cursor
from sphere_core.numerics.tensor_file import write_tensors

__all__ = ["Kept", "KeptInFile", "MomentSums", "Running", "read_sums", "write_sums"]

# A pass spends at most 1 / this of its time on saving its sums: on large models they are gigabytes.
_SAVE_SHARE = 20


@dataclass
class MomentSums:
    """Sum of k k^T `[d, d]` by layer, float64, and the number of tokens in it."""

    by_layer: dict[int, torch.Tensor]
    count: int = 0

    def add_keys(self, layer: int, keys: torch.Tensor) -> None:
        """Add K^T K of one forward's keys `[n, d]`: the product in fp32 (fp64 for fp64 keys), the sum in float64."""
        wide = keys if keys.dtype == torch.float64 else keys.float()
        self.by_layer[layer] += (wide.T @ wide).to(self.by_layer[layer].device)

    def add(self, other: "MomentSums") -> None:
        """Add other sums, layer by layer; the first that are added are taken as they are."""
        for layer, total in other.by_layer.items():
            here = total.to("cpu", copy=layer not in self.by_layer)
            self.by_layer[layer] = self.by_layer[layer].add_(here) if layer in self.by_layer else here
        self.count += other.count

    def clear(self) -> None:
        """Return to zero, in place."""
        for total in self.by_layer.values():
            total.zero_()
        self.count = 0


@dataclass
class Running:
    """A running pass: the complete groups, the current group, and the position of the pass."""

    finished: MomentSums
    current: MomentSums
    cursor: Cursor = field(default_factory=Cursor)

    @classmethod
    def start(cls, widths: Mapping[int, int]) -> "Running":
        """Return a pass that has not begun; `widths` gives d by layer."""
        zeros = {layer: torch.zeros(width, width, dtype=torch.float64) for layer, width in widths.items()}
        return cls(MomentSums({}), MomentSums(zeros))

    def place(self, devices: Mapping[int, torch.device]) -> None:
        """Move the current group to the devices of its sums."""
        moved = {layer: total.to(devices[layer]) for layer, total in self.current.by_layer.items()}
        self.current = MomentSums(moved, self.current.count)

    def close_group(self) -> None:
        """Add the current group to the complete ones."""
        self.finished.add(self.current)
        self.current.clear()


class Kept:
    """Storage for the running sums of a pass. This one stores nothing."""

    def load(self) -> Running | None:
        """Return the running sums of an earlier attempt, if any."""
        return None

    def keep(self, running: Running) -> None:
        """Save the running sums after a window, if it is time to."""

    def close_group(self, running: Running) -> None:
        """Note that the current group is complete."""
        running.close_group()


class KeptInFile(Kept):
    """Saves running sums in one file, replaced whole, at most every `every_seconds`.

    `identity` is everything that determines the sums (model, corpus, pass): a file with another identity is ignored.
    """

    def __init__(self, storage: Storage, path: str, identity: Mapping[str, Any], *, every_seconds: float) -> None:
        self._storage = storage
        self._path = path
        self._identity = json.loads(json.dumps(identity))
        self._every = every_seconds
        self._due = time.monotonic() + every_seconds

    def load(self) -> Running | None:
        """Return the running sums of the file, or None if it has another identity or does not exist."""
        found = read_sums(self._storage, self._path)
        if found is None or found[1].get("identity") != self._identity:
            return None
        parts, header = found
        return Running(parts["finished"], parts["current"], Cursor(**header["cursor"]))

    def keep(self, running: Running) -> None:
        """Replace the file if the last write is long enough ago."""
        start = time.monotonic()
        if start < self._due:
            return
        header = {"identity": self._identity, "cursor": asdict(running.cursor)}
        write_sums(self._storage, self._path, {"finished": running.finished, "current": running.current}, header)
        end = time.monotonic()
        self._due = end + max(self._every, _SAVE_SHARE * (end - start) if self._every else 0.0)

    def remove(self) -> None:
        """Remove the file: the pass is done."""
        self._storage.delete(self._path)


def write_sums(storage: Storage, path: str, parts: Mapping[str, MomentSums], header: Mapping[str, Any]) -> None:
    """Publish named sums as one safetensors file, with the header and the counts inside."""
    tensors = {
        f"{part}.{layer}": total.cpu().contiguous()
        for part, sums in parts.items()
        for layer, total in sums.by_layer.items()
    }
    whole = {**header, "counts": {part: sums.count for part, sums in parts.items()}}
    metadata = {"sums": json.dumps(whole, sort_keys=True)}
    storage.write_file(path, lambda scratch: write_tensors(tensors, scratch, metadata=metadata))


def read_sums(storage: Storage, path: str) -> tuple[dict[str, MomentSums], dict[str, Any]] | None:
    """Return the named sums of a file and its header; None if the file is missing or unreadable.

    Raises StorageError: a file that storage cannot deliver now must not be treated as missing.
    """
    if not storage.exists(path):
        return None
    try:
        with storage.as_file(path) as local, safe_open(local, framework="pt") as archive:
            header: dict[str, Any] = json.loads(archive.metadata()["sums"])
            sums = {part: MomentSums({}, count) for part, count in header["counts"].items()}
            for name in archive.keys():  # noqa: SIM118 - a safetensors archive, not a mapping
                part, layer = name.split(".")
                sums[part].by_layer[int(layer)] = archive.get_tensor(name).clone()
    except StorageError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError):
        return None
    return sums, header
