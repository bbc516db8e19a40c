"""Masks of prompts: which inputs of a site a prompt's feature is largest in, as bits; and which of many is nearest."""

import torch

__all__ = ["nearest_mask", "packed", "prompt_masks", "unpacked"]

# Masks that are compared with a batch's prompts at once: bounds what is unpacked.
_MASKS_AT_ONCE = 2048


def prompt_masks(features: torch.Tensor, order: torch.Tensor, keep: int) -> torch.Tensor:
    """Return masks `[n, d]`, bool: true at order[T], T the places of the `keep` largest |features| `[n, d]`."""
    largest = features.abs().topk(keep, dim=-1).indices
    masks = torch.zeros(features.shape, dtype=torch.bool, device=features.device)
    return masks.scatter_(1, order[largest], True)


def packed(masks: torch.Tensor) -> torch.Tensor:
    """Return masks `[n, d]` as bytes `[n, ceil(d / 8)]`, the first entry in the lowest bit."""
    count, width = masks.shape
    bits = torch.nn.functional.pad(masks.to(torch.uint8), (0, -width % 8)).view(count, -1, 8)
    return (bits << torch.arange(8, dtype=torch.uint8, device=masks.device)).sum(dim=2).to(torch.uint8)


def unpacked(bits: torch.Tensor, width: int) -> torch.Tensor:
    """Return the masks `[n, d]`, bool, of bytes that `packed` has made."""
    each = (bits[:, :, None] >> torch.arange(8, dtype=torch.uint8, device=bits.device)) & 1
    return each.flatten(1)[:, :width].bool()


def nearest_mask(masks: torch.Tensor, known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest number of entries that each of `masks` `[m, d]` shares with one of the packed `known`, and
    which one it is, `[m]`; of equals the first."""
    best = torch.full((len(masks),), -1.0, device=masks.device)
    nearest = torch.zeros(len(masks), dtype=torch.long, device=masks.device)
    for start in range(0, len(known), _MASKS_AT_ONCE):
        # Counts are whole numbers below 2^24: fp32 holds them.
        chunk = unpacked(known[start : start + _MASKS_AT_ONCE], masks.shape[1])
        shared, place = (masks.float() @ chunk.float().T).max(dim=1)
        better = shared > best
        best, nearest = torch.where(better, shared, best), torch.where(better, place + start, nearest)
    return best, nearest
