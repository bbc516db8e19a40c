"""Sums of k k^T during a pass, and how they are saved between two attempts."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from sphere_core.foundation.storage import Storage
from sphere_core.foundation.storage_faults import StorageError
from sphere_core.models.experts import Routing, expert_inputs
from sphere_core.moments.packing import Cursor
from sphere_core.numerics.tensor_file import write_tensors

__all__ = [
    "Kept",
    "KeptInFile",
    "MomentSums",
    "Running",
    "SumsFile",
    "gradients_name",
    "keys_name",
    "routed_name",
]

# A pass spends at most 1 / this of its time on saving its sums: on large models they are gigabytes.
_SAVE_SHARE = 20
_METADATA = "sums"


def keys_name(layer: int) -> str:
    """Return the name of a layer's sum of k k^T."""
    return str(layer)


def gradients_name(layer: int) -> str:
    """Return the name of a layer's sum of g g^T."""
    return f"gradient{layer}"


def routed_name(layer: int) -> str:
    """Return the name of the number of tokens that reached each expert of a layer."""
    return f"routed{layer}"


@dataclass
class MomentSums:
    """Sums of k k^T `[d, d]` and g g^T `[o, o]` by their names, float64, and the number of tokens in them.

    Of a mixture, one sum for each expert over the tokens that reached it, `[E, f, f]`, and their numbers `[E]`.
    `keys_name`, `gradients_name` and `routed_name` say how a layer's sums are called.
    """

    by_name: dict[str, torch.Tensor]
    count: int = 0

    def add_rows(self, name: str, rows: torch.Tensor) -> None:
        """Add X^T X of one forward's rows X `[n, d]`: the product in fp32 (fp64 for fp64 rows), the sum in float64."""
        wide = rows if rows.dtype == torch.float64 else rows.float()
        self.by_name[name] += (wide.T @ wide).to(self.by_name[name].device)

    def add_routing(self, layer: int, module: nn.Module, routing: Routing) -> None:
        """Add what reached the experts of a layer, as `add_rows` does for each expert, without the router's weights."""
        sums, counts = self.by_name[keys_name(layer)], self.by_name[routed_name(layer)]
        for expert, tokens, _, inputs in expert_inputs(module, routing):
            wide = inputs if inputs.dtype == torch.float64 else inputs.float()
            sums[expert] += (wide.T @ wide).to(sums.device)
            counts[expert] += len(tokens)

    def add(self, other: "MomentSums") -> None:
        """Add other sums, one by one; the first that are added are taken as they are."""
        for name, total in other.by_name.items():
            here = total.to("cpu", copy=name not in self.by_name)
            self.by_name[name] = self.by_name[name].add_(here) if name in self.by_name else here
        self.count += other.count

    def clear(self) -> None:
        """Return to zero, in place."""
        for total in self.by_name.values():
            total.zero_()
        self.count = 0


@dataclass
class Running:
    """A running pass: the complete groups, the current group, and the position of the pass."""

    finished: MomentSums
    current: MomentSums
    cursor: Cursor = field(default_factory=Cursor)

    @classmethod
    def start(cls, shapes: Mapping[str, tuple[int, ...]]) -> "Running":
        """Return a pass that has not begun; `shapes` gives the shape of each sum by its name."""
        zeros = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}
        return cls(MomentSums({}), MomentSums(zeros))

    def place(self, devices: Mapping[str, torch.device]) -> None:
        """Move the current group to the devices of its sums."""
        moved = {name: total.to(devices[name]) for name, total in self.current.by_name.items()}
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


@dataclass(frozen=True)
class SumsFile:
    """A file of running sums: their parts by name, what determines them, and the position of an unfinished pass.

    `identity` is plain data: model, corpus and pass. A file of one complete group has no `cursor`.
    """

    identity: Mapping[str, Any]
    parts: dict[str, MomentSums]
    cursor: Cursor | None = None

    def is_of(self, identity: Mapping[str, Any]) -> bool:
        """Return whether the sums are those of an identity, which JSON may have turned from tuples to lists."""
        return _as_stored(self.identity) == _as_stored(identity)

    def write(self, storage: Storage, path: str) -> None:
        """Publish one safetensors file, replaced whole: each sum as `part.name`, the rest as JSON in its header."""
        tensors = {
            f"{part}.{name}": total.cpu().contiguous()
            for part, sums in self.parts.items()
            for name, total in sums.by_name.items()
        }
        header = {
            "identity": self.identity,
            "counts": {part: sums.count for part, sums in self.parts.items()},
            **({} if self.cursor is None else {"cursor": asdict(self.cursor)}),
        }
        metadata = {_METADATA: json.dumps(header, sort_keys=True)}
        storage.write_file(path, lambda scratch: write_tensors(tensors, scratch, metadata=metadata))

    @classmethod
    def read(cls, storage: Storage, path: str) -> "SumsFile | None":
        """Return what a file holds; None if it is missing or unreadable.

        Raises StorageError: a file that storage cannot deliver now must not be treated as missing.
        """
        if not storage.exists(path):
            return None
        try:
            with storage.as_file(path) as local, safe_open(local, framework="pt") as archive:
                header = json.loads(archive.metadata()[_METADATA])
                parts = {part: MomentSums({}, count) for part, count in header["counts"].items()}
                for place in archive.keys():  # noqa: SIM118 - a safetensors archive, not a mapping
                    part, name = place.split(".")
                    parts[part].by_name[name] = archive.get_tensor(place).clone()
                cursor = Cursor(**header["cursor"]) if "cursor" in header else None
                return cls(header["identity"], parts, cursor)
        except StorageError:
            raise
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            return None


class KeptInFile(Kept):
    """Saves running sums in one file, replaced whole, at most every `every_seconds`.

    `identity` is everything that determines the sums (model, corpus, pass): a file with another identity is ignored.
    """

    def __init__(self, storage: Storage, path: str, identity: Mapping[str, Any], *, every_seconds: float) -> None:
        self._storage = storage
        self._path = path
        self._identity = identity
        self._every = every_seconds
        self._due = time.monotonic() + every_seconds

    def load(self) -> Running | None:
        """Return the running sums of the file, or None if it has another identity or does not exist."""
        found = SumsFile.read(self._storage, self._path)
        if found is None or found.cursor is None or not found.is_of(self._identity):
            return None
        return Running(found.parts["finished"], found.parts["current"], found.cursor)

    def keep(self, running: Running) -> None:
        """Replace the file if the last write is long enough ago."""
        start = time.monotonic()
        if start < self._due:
            return
        parts = {"finished": running.finished, "current": running.current}
        SumsFile(self._identity, parts, running.cursor).write(self._storage, self._path)
        end = time.monotonic()
        self._due = end + max(self._every, _SAVE_SHARE * (end - start) if self._every else 0.0)

    def remove(self) -> None:
        """Remove the file: the pass is done."""
        self._storage.delete(self._path)


def _as_stored(identity: Mapping[str, Any]) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(json.dumps(identity))
    return stored
