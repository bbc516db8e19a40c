"""Rows of token ids read as prefix trees: what several rows begin with is read once, and nothing is padding.

A tree is one row of the forward pass. Each node is a token; it attends to its ancestors and itself, and its position is
its depth, so that every path from a root is read as if it were alone. CounterFact's probes share prompts between both
targets and relations between prompts: 2.5 to 2.9 times fewer tokens than padded rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sphere_core.models.editable import EditableModel
from sphere_core.models.family import attends_everywhere
from sphere_core.models.last_layer import Places, call_layer_at
from sphere_core.models.layer_calls import recorded_calls

__all__ = [
    "TREE_SHARE",
    "PrefixTree",
    "TreePlaces",
    "prefix_trees",
    "reads_trees",
    "tree_call",
    "tree_hidden",
    "tree_hidden_at",
]

# Trees are read where they have at most this share of the padded rows' tokens: their attention costs a little more.
TREE_SHARE = 2 / 3

# Nodes of a tree, unless one row alone has more: attention grows with their square.
_MOST_NODES = 256
# From this many on a tree ends where the next row shares little with the one before it: at most this part of the tree,
# which is then read twice.
_ENOUGH_NODES, _LITTLE = 64, 1 / 32


@dataclass
class PrefixTree:
    """Nodes in the order of sorted rows: `ids` and `depths` `[n]`; `runs` says which nodes a row added, after which.

    `paths` gives the nodes of each row, one per token.
    """

    ids: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    runs: list[tuple[int, int, list[int]]] = field(default_factory=list)
    paths: dict[tuple[int, ...], list[int]] = field(default_factory=dict)

    def add(self, row: tuple[int, ...], before: Sequence[int], shared: int) -> list[int]:
        """Add a row whose first `shared` tokens are those of the path `before`; return its path."""
        first, last = len(self.ids), len(self.ids) + len(row) - shared
        kept = list(before[:shared])
        self.ids += row[shared:]
        self.depths += range(shared, len(row))
        self.runs.append((first, last, kept))
        self.paths[row] = [*kept, *range(first, last)]
        return self.paths[row]

    def visible(self) -> np.ndarray:
        """Return which nodes each node attends to, boolean `[n, n]`."""
        seen = np.zeros((len(self.ids), len(self.ids)), dtype=bool)
        for first, last, before in self.runs:
            seen[first:last, before] = True
            seen[first:last, first:last] = np.tri(last - first, dtype=bool)
        return seen


def reads_trees(model: EditableModel, longest: int) -> bool:
    """Return whether the model reads rows of up to `longest` tokens as trees: its layers take any mask as it is.

    A model's own code may not, a window that is shorter than a row counts neighbours, not ancestors, and the state of
    linear attention has read whatever is before it.
    """
    config = model.network.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    known = type(model.decoder).__module__.startswith("transformers.")
    return known and attends_everywhere(config) and (window is None or window >= longest)


def prefix_trees(rows: Sequence[tuple[int, ...]]) -> list[PrefixTree]:
    """Return distinct rows as trees of at most 256 nodes, the largest first; of 64 and more they end where little is
    shared, since attention grows with their square.

    A longer row makes a tree of its own. Prefixes are shared between neighbours in sorted order.
    """
    trees = [PrefixTree()]
    path: Sequence[int] = ()
    previous: tuple[int, ...] = ()
    for row in sorted(rows):
        shared = 0
        for one, other in zip(row, previous, strict=False):
            if one != other:
                break
            shared += 1
        size = len(trees[-1].ids)
        full = size > 0 and size + len(row) - shared > _MOST_NODES
        if full or (size >= _ENOUGH_NODES and shared <= _LITTLE * size):
            trees.append(PrefixTree())
            path, shared = (), 0
        path, previous = trees[-1].add(row, path, shared), row
    return sorted((tree for tree in trees if tree.ids), key=lambda tree: -len(tree.ids))


def tree_call(model: EditableModel, trees: Sequence[PrefixTree]) -> dict[str, torch.Tensor]:
    """Return what the decoder is called with to read trees, a tree per line: ids and positions `[trees, n]`, n the
    nodes of the largest, and the additive mask `[trees, 1, n, n]`."""
    count, most = len(trees), max(len(tree.ids) for tree in trees)
    ids, depths = np.zeros((count, most), dtype=np.int64), np.zeros((count, most), dtype=np.int64)
    # Padding attends to itself alone: nothing divides by zero, and no node sees it.
    seen = np.broadcast_to(np.eye(most, dtype=bool), (count, most, most)).copy()
    for place, tree in enumerate(trees):
        size = len(tree.ids)
        ids[place, :size], depths[place, :size] = tree.ids, tree.depths
        seen[place, :size, :size] = tree.visible()
    visible = torch.from_numpy(seen).to(model.device)
    mask = torch.zeros(visible.shape, dtype=model.dtype, device=model.device)
    return {
        "input_ids": torch.from_numpy(ids).to(model.device),
        "position_ids": torch.from_numpy(depths).to(model.device),
        "attention_mask": mask.masked_fill(~visible, torch.finfo(model.dtype).min)[:, None],
    }


def tree_hidden(model: EditableModel, trees: Sequence[PrefixTree]) -> torch.Tensor:
    """Return the decoder's final hidden states of trees, `[trees, nodes of the largest, h]`."""
    output = model.decoder(**tree_call(model, trees), use_cache=False, return_dict=True)
    hidden: torch.Tensor = output.last_hidden_state
    return hidden


def tree_hidden_at(
    model: EditableModel, trees: Sequence[PrefixTree], lines: Sequence[int], nodes: Sequence[int]
) -> torch.Tensor:
    """Return the decoder's final hidden states at p nodes of trees, `[p, h]`.

    On a processor the last layer gives the other nodes keys and values alone. A model with an attachment, which may act
    in that layer, is run whole, and so is one on an accelerator, where the number of operations counts.
    """
    if model.device.type != "cpu" or model.attachment is not None:
        return tree_hidden(model, trees)[list(lines), list(nodes)]
    by_line: list[list[int]] = [[] for _ in trees]
    columns = []
    for line, node in zip(lines, nodes, strict=True):
        columns.append(len(by_line[line]))
        by_line[line].append(node)
    most = max(map(len, by_line))
    positions = torch.tensor([[*found, *[0] * (most - len(found))] for found in by_line])
    places, last = Places(torch.arange(len(trees))[:, None], positions), len(model.layers) - 1
    given = tree_call(model, trees)
    entering, calls = recorded_calls(model, [last], given)
    mask = places.of(given["attention_mask"][:, 0])[:, None]
    hidden = call_layer_at(model.layers[last], entering, calls[last], places, mask, None)
    normed: torch.Tensor = model.network.get_submodule(model.family.final_norm)(hidden[list(lines), columns])
    return normed


@dataclass(frozen=True)
class TreePlaces:
    """Where the tokens of m rows are in trees of n nodes: `lines` `[m, 1]` and `nodes` `[m, T]`; past its end a row has
    its last node again."""

    trees: Sequence[PrefixTree]
    lines: torch.Tensor
    nodes: torch.Tensor

    @classmethod
    def of(cls, trees: Sequence[PrefixTree], rows: Sequence[tuple[int, ...]], device: torch.device) -> "TreePlaces":
        """Return the places of rows that the trees hold."""
        line_of = {row: line for line, tree in enumerate(trees) for row in tree.paths}
        paths = [trees[line_of[row]].paths[row] for row in rows]
        longest = max(map(len, paths))
        nodes = torch.tensor([[*path, *[path[-1]] * (longest - len(path))] for path in paths], device=device)
        return cls(trees, torch.tensor([[line_of[row]] for row in rows], device=device), nodes)

    def by_row(self, values: torch.Tensor) -> torch.Tensor:
        """Return `[m, T, ...]` of `[trees or 1, n, ...]`; what has one line goes with every tree."""
        lines, nodes = self.lines.to(values.device), self.nodes.to(values.device)
        return values[lines if len(values) > 1 else 0, nodes]

    def heads_by_row(self, values: torch.Tensor, length: int) -> torch.Tensor:
        """Return keys or values `[m, K, length, w]` of `[trees, K, n, w]`."""
        lines, nodes = self.lines.to(values.device), self.nodes[:, :length].to(values.device)
        return values.transpose(1, 2)[lines, nodes].transpose(1, 2)

    def call_by_row(self, call: Mapping[str, Any], known: dict[int, Any]) -> dict[str, Any]:
        """Return a layer's recorded arguments for rows, without the trees' mask; `known` keeps what layers share.

        Tensors with an entry per node are taken apart; others are left as they are.
        """
        sizes = (1, len(self.trees)), max(len(tree.ids) for tree in self.trees)

        def apart(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(apart(item) for item in value)
            if not isinstance(value, torch.Tensor) or value.ndim < 2:
                return value
            if value.shape[0] not in sizes[0] or value.shape[1] != sizes[1]:
                return value
            if id(value) not in known:
                known[id(value)] = self.by_row(value)
            return known[id(value)]

        return {name: None if name == "attention_mask" else apart(value) for name, value in call.items()}
