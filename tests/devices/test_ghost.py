"""The ghost accelerator itself: it computes what the CPU computes, refuses what a device refuses, and counts."""

import pytest
import torch
from ghost import DEVICES, GhostTensor, ghost
from torch.nn.functional import scaled_dot_product_attention

ONE, OTHER = DEVICES


@pytest.mark.parametrize(
    "mix",
    [
        lambda here, away: here + away,
        lambda here, away: here @ away.T,
        lambda here, away: torch.cat([here, away]),
        lambda here, away: here.add_(away),
        lambda here, away: torch.where(here > 0, here, away),
        lambda here, away: scaled_dot_product_attention(here[None, None], away[None, None], here[None, None]),
        lambda here, away: here[away.long().abs() % 2],
    ],
)
def test_two_devices_in_one_operation_are_refused(mix) -> None:
    values = torch.arange(6.0).reshape(2, 3) - 2
    with ghost():
        mix(values.to(ONE), values.to(ONE))
        with pytest.raises(RuntimeError, match="on the same device"):
            mix(values.to(ONE), values.to(OTHER))
    # On the host there may be numbers without a dimension, and indices.
    with ghost():
        assert (values.to(ONE) * torch.tensor(2.0)).device == ONE
        assert values.to(ONE)[torch.tensor([1])].device == ONE
        with pytest.raises(RuntimeError, match="on the same device"):
            values.to(ONE) * torch.tensor([2.0, 1.0, 0.0])


def test_gradients_are_the_bits_of_the_cpu() -> None:
    generator = torch.Generator().manual_seed(3)
    parts = [torch.randn(2, 4, 5, 8, generator=generator) for _ in range(3)]
    mask = torch.randn(2, 1, 5, 5, generator=generator)

    def slopes(*moved: torch.Tensor) -> list[torch.Tensor]:
        leaves = [part.detach().requires_grad_(True) for part in moved[:3]]
        out = scaled_dot_product_attention(*leaves, attn_mask=moved[3]) * leaves[0].exp()
        return list(torch.autograd.grad(out.square().sum(), leaves))

    expected = slopes(*parts, mask)
    with ghost():
        found = slopes(*(part.to(ONE) for part in (*parts, mask)))
        assert {part.device for part in found} == {ONE}
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one.cpu(), other)


def test_kernels_waits_and_bytes_are_counted() -> None:
    with ghost() as counts:
        values = torch.ones(4, 2).to(ONE)
        assert (counts.to_device, counts.waits) == (32, 0)
        counts.clear()
        views = values.T[:1].reshape(-1).unsqueeze(0)
        assert (counts.kernels, counts.waits) == (0, 0)
        total = (views * 2).sum()
        assert (counts.kernels, counts.waits) == (2, 0)
        assert [float(total), bool(total > 1), total.tolist()] == [8.0, True, 8.0]
        assert counts.waits == 3
        counts.clear()
        assert values.cpu().device.type == "cpu"
        assert values.to(OTHER).device == OTHER
        assert (counts.to_host, counts.between, counts.waits) == (32, 32, 1)
        counts.clear()
        assert values[values > 0].shape == (8,)
        assert values[[0, 2]].shape == (2, 2)
        assert counts.waits == 1
        with pytest.raises(TypeError, match="to numpy"):
            values.numpy()


def test_tensors_are_made_where_they_are_asked_for() -> None:
    with ghost():
        here = torch.zeros(2, device=ONE)
        made = [here.new_ones(3), torch.arange(3, device=here.device), torch.tensor([1, 2], device=ONE)]
        made += [torch.zeros_like(here), here.new_tensor([5.0]), torch.full((2,), 7.0, device=ONE)]
        assert all(isinstance(part, GhostTensor) and part.device == ONE for part in made)
        assert made[2].tolist() == [1, 2]
        assert torch.ones(2).device.type == "cpu"
        module = torch.nn.Linear(2, 2).to(OTHER)
        assert module.weight.device == OTHER
        assert isinstance(module.weight, torch.nn.Parameter)
