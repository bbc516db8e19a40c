"""Retrieval sharpness: the weights of every edit's residual, against the dense system of all keys."""

import pytest
import torch
from method_parts import VALUES, moments, run
from tiny_models import tiny_model

from evaluators.base import Subject
from evaluators.geometry.evaluator import Geometry
from evaluators.geometry.settings import GeometrySettings
from sphere_core.moments.null_space import null_space
from sphere_core.solver.retrieval import factor_at, retrieval_sharpness

ONLY = {"previous": False, "bound": False, "spectra": False, "retrieval": True}


@pytest.mark.parametrize("method", ["memit_seq", "alphaedit", "memit_seq+simie", "memit"])
def test_it_is_what_the_dense_system_of_all_keys_retrieves(method: str) -> None:
    model = tiny_model("llama")
    checkpoint = run(method, model)[-1]
    state = checkpoint.state.tensors
    rows = Geometry(GeometrySettings(**ONLY)).score(Subject(model, (), 5, state=state)).rows
    found = {(row.metric, row.site): row for row in rows if row.metric.startswith("retrieval")}
    if method == "memit":
        assert not found
        return
    second = moments(model).by_layer
    for site in model.sites:
        keys = next(tensor for name, tensor in state.items() if name.endswith(f"rule/{site.layer}/columns")).double()
        if method == "alphaedit":
            space = null_space(second[site.layer], threshold=None, share=VALUES["nullspace_share"])
            inside = space.project(keys)
            system = inside @ inside.T + VALUES["L2"] * torch.eye(len(keys), dtype=torch.float64)
        else:
            inside = keys
            system = VALUES["mom2_update_weight"] * second[site.layer] + keys @ keys.T
        weights = torch.linalg.solve(system, inside).T @ inside
        sharpness = weights.abs().amax(dim=0) / weights.abs().sum(dim=0)
        assert found["retrieval_sharpness", site.name].value == pytest.approx(float(sharpness.mean()), rel=1e-5)
        assert found["retrieval_sharpness_min", site.name].value == pytest.approx(float(sharpness.min()), rel=1e-5)
        assert found["retrieval_sharpness", site.name].n == keys.shape[1] == 5


def test_orthogonal_keys_are_a_table_and_equal_keys_are_a_mean() -> None:
    scales = torch.tensor([3.0, 1.0, 0.5, 2.0], dtype=torch.float64)
    apart = torch.linalg.cholesky(torch.diag(1 + scales))
    assert torch.allclose(retrieval_sharpness(apart), torch.ones(4, dtype=torch.float64))
    alike = torch.linalg.cholesky(torch.eye(4, dtype=torch.float64) + torch.ones(4, 4, dtype=torch.float64))
    assert torch.allclose(retrieval_sharpness(alike), torch.full((4,), 0.25, dtype=torch.float64))


def test_a_state_without_a_factor_has_no_row() -> None:
    assert factor_at({"rule/10/factor.lower": torch.eye(1)}, "0") is None
    assert factor_at({"simie/editor/rule/0/factor.lower": torch.eye(2)}, "0") is not None
