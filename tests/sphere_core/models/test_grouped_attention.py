"""Attention with folded queries: written out for few positions, and the same as the fused kernel."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sphere_core.models.grouped_attention import folding_attention


def attend(*tensors: torch.Tensor, scaling: float | None = None) -> torch.Tensor:
    """Call what layers inside the block call, `[m, H, s, w]`."""
    config = SimpleNamespace(_attn_implementation="sdpa")
    with folding_attention(config):  # type: ignore[arg-type]
        out, _ = ALL_ATTENTION_FUNCTIONS[config._attn_implementation](None, *tensors, scaling=scaling)
    return out.transpose(1, 2)


def drawn(span: int, length: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Return queries of four heads, keys and values of two, and a mask that hides a third, of three rows."""
    torch.manual_seed(span)
    query, key, value = (torch.randn(3, heads, n, 8, dtype=dtype) for heads, n in ((4, span), (2, length), (2, length)))
    hidden = torch.rand(3, 1, span, length) < 1 / 3
    hidden[..., 0] = False
    mask = torch.zeros(3, 1, span, length).masked_fill(hidden, torch.finfo(torch.float32).min).to(dtype)
    return query, key, value, mask.repeat(1, 1, 2, 1)


@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize(
    ("span", "length", "dtype", "writes_out"),
    [
        (1, 5, torch.float32, True),
        (7, 30, torch.float32, True),
        (7, 30, torch.float64, True),
        (40, 80, torch.float32, False),
        (7, 30, torch.bfloat16, False),
    ],
)
def test_few_positions_are_written_out_and_give_what_repeated_heads_give(
    monkeypatch: pytest.MonkeyPatch, span: int, length: int, dtype: torch.dtype, writes_out: bool, scaling: float | None
) -> None:
    calls = []

    def fused(*args: torch.Tensor, **options: object) -> torch.Tensor:
        calls.append(args)
        return scaled_dot_product_attention(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("sphere_core.models.grouped_attention.scaled_dot_product_attention", fused)
    *tensors, mask = drawn(span, length, dtype)
    free = [tensor.clone().requires_grad_(True) for tensor in tensors]
    found = attend(*free, mask, scaling=scaling)
    assert len(calls) == (not writes_out)
    query, key, value = (tensor.double().requires_grad_(True) for tensor in tensors)
    repeated = (part.repeat_interleave(2, dim=1) for part in (key, value))
    expected = scaled_dot_product_attention(query, *repeated, attn_mask=mask[:, :, :span].double(), scale=scaling)
    at_most = 2e-2 if dtype is torch.bfloat16 else 1e-5
    assert torch.allclose(found.double(), expected, atol=at_most, rtol=at_most)
    weights = torch.randn_like(expected)
    ours = torch.autograd.grad((found.double() * weights).sum(), free)
    theirs = torch.autograd.grad((expected * weights).sum(), (query, key, value))
    scale = max(float(part.abs().max()) for part in theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert float((one.double() - other).abs().max()) <= at_most * scale
