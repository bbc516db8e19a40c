"""What torch's operations are to a ghost: whether they launch kernels, copy, wait, index; and trees of arguments."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

__all__ = ["INDEXING", "About", "about", "mapped", "tensors_of"]

_FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "lift_fresh", "_unsafe_view"}
# Their result has a size that only the device knows, or they look at an error code.
_WAITS = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "_unique2",
    "bincount",
    "_linalg_eigh",
    "_linalg_svd",
}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class About(NamedTuple):
    """What an operation is: the names of its kernels, whether it launches any, copies, waits for the host, indexes."""

    name: str
    launches: bool
    copies: bool
    waits: bool
    indexes: bool


@functools.cache
def about(func: Any) -> About:
    """Return what an operation is, looked up once: thousands of each run in a test."""
    name = func._schema.name.partition("::")[2]
    launches = not func.is_view and name not in _FREE
    return About(name, launches, name in ("copy_", "_to_copy", "copy"), name in _WAITS, name in INDEXING)


def mapped(change: Callable[[Any], Any], tree: Any) -> Any:
    """Return a tree with its leaves changed, as `tree_map` of torch does with ten times the work per operation."""
    kind = type(tree)
    if kind is tuple or kind is list:
        return kind([mapped(change, part) for part in tree])
    if kind is dict:
        return {name: mapped(change, part) for name, part in tree.items()}
    if isinstance(tree, tuple):
        # Several results under names, as torch.return_types have them: made from one sequence.
        return kind([mapped(change, part) for part in tree])
    return change(tree)


def tensors_of(tree: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors of nested arguments."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, dict):
        yield from tensors_of(list(tree.values()))
    elif isinstance(tree, list | tuple):
        for part in tree:
            yield from tensors_of(part)
