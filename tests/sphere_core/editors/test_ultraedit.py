"""UltraEdit against recorded weights of the released code, its large solve, and its options."""

import golden
import pytest
import torch
from tiny_models import CONTEXTS, requests, tiny_model

from sphere_core.checkpoints import EditorState
from sphere_core.editors.gradient.running_moments import RunningMoments
from sphere_core.editors.gradient.ultraedit import UltraEditEditor, UltraEditSettings
from sphere_core.editors.shaping import Shaping
from sphere_core.regularizers.scope import Scope

PLAIN = Shaping([], Scope.AFTER_BATCH)
RELEASED = UltraEditSettings(lr=0.003, batch_size=8, variance="unbiased", weighting="tokens", sharing="shape")


def test_three_batches_give_the_recorded_weights() -> None:
    """Two sites of one shape, which share their normalisation, as the released code computes them."""
    recorded, model = golden.arrays("llama_UltraEdit"), golden.model()
    editor, state = UltraEditEditor((0, 1), RELEASED, PLAIN), EditorState()
    for batch in range(3):
        first = golden.BATCH * batch
        state = editor.edit(model, golden.REQUESTS[first : first + golden.BATCH], golden.CONTEXTS, state)
        for site in model.open_sites((0, 1)):
            base = model.base_weight(site).numpy()
            expected = recorded[f"b{batch}_W_layer{site.layer}"] - base
            assert golden.relative_error(model.weight(site).numpy() - base, expected) < 1e-5


@pytest.mark.parametrize(
    "change",
    [{"variance": "exact"}, {"weighting": "requests"}, {"sharing": "site"}],
    ids=lambda change: next(iter(change)),
)
def test_each_departure_from_the_release_is_an_option_that_changes_the_step(change: dict[str, str]) -> None:
    steps = []
    for settings in (RELEASED, UltraEditSettings(**{**RELEASED.__dict__, **change})):
        model = golden.model()
        UltraEditEditor((0, 1), settings, PLAIN).edit(model, golden.REQUESTS[:8], golden.CONTEXTS, EditorState())
        steps.append(model.weight(model.sites[1]) - model.base_weight(model.sites[1]))
    assert float((steps[0] - steps[1]).norm() / steps[0].norm()) > 0.05


def test_with_requests_weighted_alike_a_gradient_does_not_depend_on_its_company() -> None:
    settings = UltraEditSettings(lr=0.1, batch_size=1, variance="exact", weighting="requests", sharing="site")
    together = UltraEditSettings(**{**settings.__dict__, "batch_size": 4})
    weights = []
    for chosen in (settings, together):
        model = tiny_model("llama")
        UltraEditEditor((0, 1), chosen, PLAIN).edit(model, requests()[:4], CONTEXTS, EditorState())
        weights.append([model.weight(site) for site in model.sites])
    for alone, joined in zip(*weights, strict=True):
        assert torch.allclose(alone, joined, atol=1e-5)


def test_update_against_the_large_solve() -> None:
    rows = torch.randn(5, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    h = rows[:, :8]
    editor = UltraEditEditor((0,), UltraEditSettings(0.3, 2, "exact", "requests", "site"), PLAIN)
    moments = RunningMoments().with_rows(rows, unbiased=False)
    normal = (rows - rows.mean(dim=0)) / (rows.std(dim=0) + torch.finfo(torch.float32).eps)
    values = -0.3 * normal[:, :8].square().sum(dim=1, keepdim=True) * normal[:, 8:]
    expected = torch.linalg.solve(h.T @ h + torch.eye(8, dtype=torch.float64), h.T @ values).T
    assert torch.allclose(editor._update(rows, 8, moments).dense(), expected, atol=1e-10)


def test_exact_moments_do_not_depend_on_how_rows_are_cut() -> None:
    rows = torch.randn(7, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    moments = RunningMoments()
    for part in (rows[:1], rows[1:5], rows[5:]):
        moments = RunningMoments.of(moments.with_rows(part, unbiased=False).state())
    assert moments.mean is not None
    assert moments.squares is not None
    assert torch.allclose(moments.mean, rows.mean(dim=0), atol=1e-12)
    assert torch.allclose(moments.squares / 6, rows.var(dim=0), atol=1e-12)
    assert moments.count == 7


def test_unbiased_moments_add_m_times_the_unbiased_variance_of_a_mini_batch() -> None:
    rows = torch.randn(4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    moments = RunningMoments().with_rows(rows, unbiased=True)
    assert moments.squares is not None
    assert torch.allclose(moments.squares, 4 * rows.var(dim=0), atol=1e-12)
    one = RunningMoments().with_rows(rows[:1], unbiased=True)
    assert one.squares is not None
    assert torch.equal(one.squares, torch.zeros(3, dtype=torch.float64))
