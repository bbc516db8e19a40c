"""What memories at a site are compared with: what the site reads and gives, and texts continued by whole forwards."""

from collections.abc import Sequence

import torch

from sphere_core.models import EditableModel

__all__ = ["greedy_ids", "site_io", "site_of", "site_output"]


def site_of(model: EditableModel) -> torch.nn.Module:
    """Return the module of the site at layer 1."""
    return model.network.get_submodule(model.family.site_path(1))


def site_io(model: EditableModel, ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the site reads and gives for a row, `[T, d]` and `[T, o]`; for models with no attachment."""
    seen: list[torch.Tensor] = []
    handle = site_of(model).register_forward_hook(lambda _, args, out: seen.extend([args[0][0], out[0]]))
    with torch.no_grad():
        model.network(input_ids=torch.tensor([list(ids)]))
    handle.remove()
    return seen[0], seen[1]


def site_output(model: EditableModel, ids: Sequence[int], end: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the site gives, `[T, o]`, for a row whose prompt ends at `end`, and which rows were routed."""
    seen: list[torch.Tensor] = []
    handle = site_of(model).register_forward_hook(lambda _, __, out: seen.append(out[0]))
    with torch.no_grad(), model.reading(ends=torch.tensor([end])) as reading:
        model.network(input_ids=torch.tensor([list(ids)]))
    handle.remove()
    assert reading.routed is not None
    return seen[0], reading.routed


def greedy_ids(model: EditableModel, text: str, tokens: int) -> list[int]:
    """Return the most likely continuation of a prompt, each token from a whole forward of one row."""
    ids = list(model.tokenizer(text).input_ids)
    end = len(ids)
    for _ in range(tokens):
        with torch.no_grad(), model.reading(ends=torch.tensor([end])):
            ids.append(int(model.network(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[end:]
