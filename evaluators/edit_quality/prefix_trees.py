"""Rows of token ids read as prefix trees: what several rows begin with is read once, and nothing is padding.

A tree is one row of the forward pass. Each node is a token; it attends to its ancestors and itself, and its position is
its depth, so that every path from a root is read as if it were alone. CounterFact's probes share prompts between both
targets and relations between prompts: 2.5 to 2.9 times fewer tokens than padded rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from sphere_core.models import EditableModel

__all__ = ["PrefixTree", "prefix_trees", "reads_trees", "tree_hidden"]

# Nodes of a tree, unless one row alone has more: attention grows with their square.
_MOST_NODES = 256


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

    A model's own code may not, and a window that is shorter than a row counts neighbours, not ancestors.
    """
    config = model.network.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    known = type(model.decoder).__module__.startswith("transformers.")
    return known and (window is None or window >= longest)


def prefix_trees(rows: Sequence[tuple[int, ...]]) -> list[PrefixTree]:
    """Return distinct rows as trees of at most 256 nodes, the largest first.

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
        if trees[-1].ids and len(trees[-1].ids) + len(row) - shared > _MOST_NODES:
            trees.append(PrefixTree())
            path, shared = (), 0
        path, previous = trees[-1].add(row, path, shared), row
    return sorted((tree for tree in trees if tree.ids), key=lambda tree: -len(tree.ids))


def tree_hidden(model: EditableModel, trees: Sequence[PrefixTree]) -> torch.Tensor:
    """Return the decoder's final hidden states of trees, `[trees, nodes of the largest, h]`."""
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
    mask = mask.masked_fill(~visible, torch.finfo(model.dtype).min)[:, None]
    output = model.decoder(
        input_ids=torch.from_numpy(ids).to(model.device),
        position_ids=torch.from_numpy(depths).to(model.device),
        attention_mask=mask,
        use_cache=False,
        return_dict=True,
    )
    hidden: torch.Tensor = output.last_hidden_state
    return hidden
