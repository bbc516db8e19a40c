"""Attention of several query heads to one key head without a copy of the keys for each: queries are folded instead.

With an explicit mask transformers' sdpa repeats keys and values once per query head, which for a short span after a
long prefix is most of the attention's memory traffic. Here the g query heads of a key head become g times as many
query positions. The products are the same, and so is the result up to the order of sums.

On a processor attention over few positions is written out as two batched products with a softmax between them: the
fused kernel works in blocks made for long rows, and forward and backward take it twice as long on these.

Symbols: m rows, H query heads, K key heads, g = H / K, s positions of the span, t positions attended to, w head width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sphere_core.models.editable import EditableModel
from sphere_core.models.family import attends_everywhere
from sphere_core.models.token_packing import TokenPacking

__all__ = ["attends_by_name", "folding_attention", "query_groups"]

_NAME = "folded-queries"
# Scores of a row and key head, g s t, up to which they are written out: below 64 x 64 that is faster, at 250 x 250 the
# fused kernel is twice as fast.
_FEW_SCORES = 4096


def attends_by_name(model: EditableModel) -> bool:
    """Return whether every layer's attention is sdpa by the name in the config, so that another can take its place.

    A model's own code, models with layers that carry a state, and families that need another implementation, are left
    as they are.
    """
    config = model.network.config.get_text_config()
    known = all(type(layer).__module__.startswith("transformers.") for layer in model.layers)
    known = known and attends_everywhere(config)
    return known and model.family.attention == "sdpa" and config._attn_implementation == "sdpa"


def query_groups(model: EditableModel) -> int:
    """Return g where every layer's attention can be folded, else 1."""
    config = model.network.config.get_text_config()
    heads, shared = config.num_attention_heads, getattr(config, "num_key_value_heads", None)
    if not attends_by_name(model) or not shared:
        return 1
    return int(heads // shared) if heads % shared == 0 else 1


@contextmanager
def folding_attention(config: PreTrainedConfig, packing: TokenPacking | None = None) -> Iterator[None]:
    """Let layers that are called inside attend with folded queries; their masks must be `[m, 1, g s, t]`.

    With a `packing` their queries are those of packed tokens, and their keys and values those of rows.
    """
    ALL_ATTENTION_FUNCTIONS.register(_NAME, _attend if packing is None else partial(_attend_packed, packing))
    before = config._attn_implementation
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attention's output `[m, s, H, w]` of a query `[m, H, s, w]`, keys and values `[m, K, t, w]`."""
    rows, heads, span, width = query.shape
    folded = query.reshape(rows, key.shape[1], -1, width)
    if _writes_out(folded, key):
        out = _written_out(folded, key, value, attention_mask, scaling)
    else:
        out = scaled_dot_product_attention(folded, key, value, attn_mask=attention_mask, scale=scaling)
    return out.reshape(rows, heads, span, width).transpose(1, 2).contiguous(), None


def _writes_out(query: torch.Tensor, key: torch.Tensor) -> bool:
    """Return whether the scores of a folded query are few, and on a processor in a dtype that holds them as they are:
    the fused kernel keeps those of float16 and bfloat16 in float32."""
    wide = query.dtype in (torch.float32, torch.float64)
    return query.device.type == "cpu" and wide and query.shape[2] * key.shape[2] <= _FEW_SCORES


def _written_out(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float | None
) -> torch.Tensor:
    """Return softmax(scaling Q K^T + mask) V, `[m, K, g s, w]`; the mask is `[m, 1, g s, t]`."""
    rows, heads, count, width = query.shape
    scale = width**-0.5 if scaling is None else scaling
    hidden = mask.expand(rows, heads, count, key.shape[2]).flatten(0, 1)
    scores = torch.baddbmm(hidden, query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2), alpha=scale)
    out: torch.Tensor = torch.bmm(scores.softmax(dim=-1), value.flatten(0, 1)).unflatten(0, (rows, heads))
    return out


def _attend_packed(
    packing: TokenPacking,
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Return the output `[1, N, H, w]` of packed queries `[1, H, N, w]`, keys and values `[m, K, t, w]`."""
    out, nothing = _attend(module, packing.unpacked_heads(query), key, value, attention_mask, scaling)
    return packing.packed(out), nothing
