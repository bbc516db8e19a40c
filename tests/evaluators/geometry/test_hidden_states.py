"""Hidden states of fixed prompts against one whole forward a prompt, and the figures against loops."""

import pytest
import torch
from eval_parts import LAYERS, tiny_gpt2, tiny_llama

from evaluators.base import Score, Subject
from evaluators.geometry.evaluator import Geometry, GeometrySettings
from evaluators.geometry.hidden_states import shift_figures
from sphere_core.locate.prompts import text_ids
from sphere_core.models import EditableModel

PROMPTS = ("The town of", "Mira lives in the", "A long prompt, to see that padding does not matter, ends here", "One")
SETTINGS = GeometrySettings(previous=False, bound=False, spectra=False, hidden_prompts=PROMPTS)


def edit(model: EditableModel) -> None:
    for layer in LAYERS[:2]:
        site = model.open_sites([layer])[0]
        generator = torch.Generator().manual_seed(layer)
        model.set_weight(site, model.weight(site) + 0.05 * torch.randn(site.d_out, site.d_in, generator=generator))


def states_one_by_one(model: EditableModel, layer: int) -> torch.Tensor:
    rows = []

    def keep(_module: object, _args: object, output: object) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        rows.append(hidden[0, -1].double())  # type: ignore[index]

    handle = model.layers[layer].register_forward_hook(keep)
    for prompt in PROMPTS:
        with torch.no_grad():
            model.network(input_ids=torch.tensor([text_ids(model.tokenizer, prompt)]), use_cache=False)
    handle.remove()
    return torch.stack(rows)


def hidden_rows(evaluator: Geometry, model: EditableModel) -> dict[str, Score]:
    rows = evaluator.score(Subject(model, (), edits=1)).rows
    return {row.metric: row for row in rows if row.metric.startswith("hidden_")}


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_rows_against_one_forward_a_prompt(kind: str) -> None:
    model = tiny_llama() if kind == "llama" else tiny_gpt2(tiny_llama().tokenizer)
    last = LAYERS[-1]
    before = states_one_by_one(model, last)
    edit(model)
    digest, masters, now = model.weights_digest(), model.masters(), states_one_by_one(model, last)
    evaluator = Geometry(SETTINGS)
    rows = hidden_rows(evaluator, model)
    # As a replica compares them, also where a weight is stored transposed.
    assert model.weights_digest() == digest
    assert model.holds(masters)
    assert {(row.protocol, row.n, row.site, row.status) for row in rows.values()} == {(f"layer-{last}", 4, None, "ok")}
    change = now - before
    relative = sum(float(c.norm() / b.norm()) for c, b in zip(change, before, strict=True)) / 4
    assert rows["hidden_shift"].value == pytest.approx(relative, rel=1e-4)
    centred = before - before.mean(dim=0)
    ratios = []
    # Four centred rows span three directions: eigenvectors of their covariance, with deviations along them.
    values, vectors = torch.linalg.eigh(centred.T @ centred / 4)
    for value, vector in zip(values[-3:], vectors.T[-3:], strict=True):
        ratios.append(abs(float(vector @ change.mean(dim=0))) / float(value) ** 0.5)
    assert rows["hidden_r_max"].value == pytest.approx(max(ratios), rel=1e-3)
    assert rows["hidden_r_median"].value == pytest.approx(sorted(ratios)[1], rel=1e-3)
    spread = float((centred**2).sum() / 4) ** 0.5
    assert rows["hidden_mean_shift"].value == pytest.approx(float(change.mean(dim=0).norm()) / spread, rel=1e-4)
    # The unedited states are remembered: the same rows again.
    assert hidden_rows(evaluator, model) == rows


def test_the_unedited_model_has_not_moved_and_a_broken_one_is_collapsed() -> None:
    model = tiny_llama()
    rows = hidden_rows(Geometry(SETTINGS), model)
    assert rows["hidden_shift"].value == 0
    assert rows["hidden_cosine"].value == pytest.approx(1, abs=1e-12)
    site = model.sites[0]
    model.set_weight(site, model.weight(site).clone().fill_(torch.nan))
    broken = hidden_rows(Geometry(SETTINGS), model)
    assert {(row.status, row.value, row.nonfinite) for row in broken.values()} == {("collapsed", None, 4)}


def test_one_prompt_has_no_spread() -> None:
    relative, cosine, *rest = shift_figures(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 5.0]]))
    assert (relative, cosine) == (pytest.approx(0.2), pytest.approx(29 / (5 * 34**0.5)))
    assert all(value != value for value in rest)


def test_left_out_they_change_no_identity() -> None:
    assert "hidden_prompts" not in GeometrySettings().identity()["settings"]  # type: ignore[operator]
    assert SETTINGS.identity() != GeometrySettings(previous=False, bound=False, spectra=False).identity()
