"""Identity of tensors by content."""

import hashlib
from collections.abc import Mapping

import torch

__all__ = ["tensors_digest"]


def tensors_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 of named tensors: names, dtypes, shapes and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
