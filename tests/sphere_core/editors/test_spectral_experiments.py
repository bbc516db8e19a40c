"""Truncated and perturbed spectra against the whole singular value decomposition."""

import pytest
import torch
from method_parts import run
from tiny_models import tiny_model

from sphere_core.checkpoints import Checkpoint
from sphere_core.foundation.errors import InputError
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel

POWERS = {"sum": 1, "squares": 2, "count": 0}


def stepped(method: str, **changes: object) -> tuple[EditableModel, list[Checkpoint]]:
    model = tiny_model("gpt2")
    return model, run(method, model, batch_size=1, **changes)


@pytest.mark.parametrize("share", list(POWERS))
def test_each_step_keeps_the_leading_directions_of_the_unedited_weight(share: str) -> None:
    levels = [0.9, 0.5, 0.2, 1.0]
    model, checkpoints = stepped("truncate", spectrum_levels=levels, spectrum_share=share)
    # Five steps through four levels: the last one stays.
    assert [checkpoint.edits for checkpoint in checkpoints] == [1, 2, 3, 4, 5]
    for checkpoint, level in zip(checkpoints, [*levels, 1.0], strict=True):
        for site in model.sites:
            left, values, right = torch.linalg.svd(model.base_weight(site).double(), full_matrices=False)
            shares = (values ** POWERS[share]).cumsum(0) / (values ** POWERS[share]).sum()
            rank = next(k for k in range(1, len(values) + 1) if float(shares[k - 1]) >= level - 1e-9)
            expected = left[:, :rank] @ torch.diag(values[:rank]) @ right[:rank]
            found = site.canonical(checkpoint.weights[site.name]).double()
            assert float((found - expected).norm()) < 1e-6 * float(values.norm())


@pytest.mark.parametrize("share", list(POWERS))
def test_noise_lies_in_its_band_with_the_norm_of_its_level(share: str) -> None:
    levels, band = [0.1, 0.4], (0.25, 0.6)
    changes = {"spectrum_levels": levels, "spectrum_share": share, "perturb_band": list(band)}
    model, checkpoints = stepped("perturb", **changes)
    for site in model.sites:
        base = model.base_weight(site).double()
        left, values, right = torch.linalg.svd(base, full_matrices=False)
        energies = values ** POWERS[share]
        before = (energies.cumsum(0) - energies) / energies.sum()
        inside = (before >= band[0]) & (before < band[1])
        first, second = (site.canonical(checkpoints[step].weights[site.name]).double() - base for step in (0, 1))
        for change, level in ((first, levels[0]), (second, levels[1])):
            assert float(change.norm()) == pytest.approx(level * float(base.norm()), rel=1e-5)
            within = left[:, inside].T @ change @ right[inside].T
            assert float(within.norm()) == pytest.approx(float(change.norm()), rel=1e-5)
        # One direction of noise, growing.
        assert torch.allclose(first / first.norm(), second / second.norm(), atol=1e-5)


def test_bands_have_other_noise_and_so_have_seeds_and_layers() -> None:
    model, (one, *_) = stepped("perturb")
    other, same = stepped("perturb", perturb_seed=4)[1][0], stepped("perturb")[1][0]
    for site in model.sites:
        assert not torch.equal(one.weights[site.name], other.weights[site.name])
        assert torch.equal(one.weights[site.name], same.weights[site.name])


def test_a_band_without_a_direction_is_refused() -> None:
    with pytest.raises(InputError, match=r"band 0\.5 to 0\.50001 .* holds no direction"):
        stepped("perturb", perturb_band=[0.5, 0.50001])


def test_no_regularizer_applies_to_them() -> None:
    with pytest.raises(InputError, match="'truncate' writes no requests"):
        resolve_method("truncate+sphere")
