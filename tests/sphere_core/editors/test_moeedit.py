"""MoEEdit (arXiv 2602.10965) on tiny mixtures: against its own block coordinate descent, and as a row of the table."""

import json
from pathlib import Path

import pytest
import torch
from method_parts import editor, likelihood, moments, run
from tiny_models import requests, tiny_model
from whole_forwards import gated_key

from sphere_core.checkpoints import read_checkpoint, write_checkpoint
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.locate.batch import BatchWalk, locate
from sphere_core.locate.layer_targets import LayerTargets
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel, load_model
from sphere_core.models.site_write import SiteWrite
from sphere_core.moments.build import build_second_moments
from sphere_core.moments.files import read_moments, write_moments
from sphere_core.moments.null_space import expert_null_spaces
from sphere_core.moments.packing import Amount, Packing, Pass
from sphere_core.moments.record import SecondMoments, check_moments
from sphere_core.solver.least_squares import KeyHistory, least_squares_solution
from sphere_core.solver.priors import NullSpacePrior

TEXTS = ["Mira Solen lives in the town of Harbel.", "The violin of Dario Venn is old.", "Ilka Torm plays."]
LAMBDA = 0.3


@pytest.fixture(scope="module")
def mixture() -> EditableModel:
    return tiny_model("qwen3_moe")


@pytest.fixture(scope="module")
def corpus(mixture: EditableModel) -> SecondMoments:
    work = Pass((0, 1), Packing(64), Amount(texts=len(TEXTS)))
    return build_second_moments(mixture, work, TEXTS, provenance={})


def descended(
    keys: list[torch.Tensor], residuals: torch.Tensor, spaces: list[torch.Tensor], sweeps: int
) -> torch.Tensor:
    """W + D of the published solver: Delta_e = B_e (M_e + lambda I)^-1 for one expert after another, the others fixed.

    `keys` are g_e a_e `[f, n]` by expert, `spaces` the projectors P_e `[f, f]`; returns D = [Delta_1 P_1 ...].
    """
    inside = [space @ key for space, key in zip(spaces, keys, strict=True)]
    deltas = [torch.zeros(len(residuals), len(key), dtype=torch.float64) for key in keys]
    for _ in range(sweeps):
        for expert, own in enumerate(inside):
            others = sum(deltas[other] @ inside[other] for other in range(len(inside)) if other != expert)
            system = own @ own.T + LAMBDA * torch.eye(len(own), dtype=torch.float64)
            deltas[expert] = torch.linalg.solve(system, own @ (residuals - others).T).T
    return torch.cat([delta @ space for delta, space in zip(deltas, spaces, strict=True)], dim=1)


def test_one_solve_is_where_the_published_descent_over_experts_ends(
    mixture: EditableModel, corpus: SecondMoments
) -> None:
    (site,) = mixture.open_sites([1])
    walk = BatchWalk(mixture, locate(mixture, requests(), (("{}",),)), [site])
    keys = walk.keys(site).double()
    residuals = torch.randn(32, keys.shape[1], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    threshold = float(torch.linalg.eigvalsh(corpus.by_layer[1]).median())
    rule = {"threshold": threshold, "share": None, "unseen": "frozen"}
    space = expert_null_spaces(corpus.by_layer[1], corpus.routed[1], **rule)
    solved = least_squares_solution(NullSpacePrior(space, LAMBDA), KeyHistory(), keys, residuals)
    assert solved.form == "key memory"
    projectors = []
    for moment in corpus.by_layer[1]:
        values, vectors = torch.linalg.eigh(moment)
        above = vectors[:, values > threshold]
        projectors.append(torch.eye(18, dtype=torch.float64) - above @ above.T)
    blocks = list(keys.split(18))
    errors = {}
    for sweeps in (4, 2000):
        slow = descended(blocks, residuals, projectors, sweeps)
        errors[sweeps] = float((solved.update.dense() - slow).norm() / slow.norm())
    assert errors[2000] < 1e-8
    # Four passes, as released, are nearer than the start and not there yet.
    assert 1e-8 < errors[4] < 0.5
    # What the corpus uses above the threshold is left alone, expert by expert.
    for expert, change in enumerate(solved.update.dense().split(18, dim=1)):
        assert float((change @ (torch.eye(18, dtype=torch.float64) - projectors[expert])).abs().max()) < 1e-10


def test_moments_are_of_the_tokens_that_reach_each_expert(mixture: EditableModel, corpus: SecondMoments) -> None:
    (site,) = mixture.open_sites([1])
    block = mixture.network.get_submodule(site.module_path.rpartition(".")[0])
    sums, counts = torch.zeros(4, 18, 18, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for text in TEXTS:
        seen: list[torch.Tensor] = []
        handle = block.register_forward_pre_hook(lambda _, args, keep=seen: keep.append(args[0]))
        with torch.no_grad():
            mixture.network(input_ids=torch.tensor([mixture.tokenizer(text)["input_ids"]]), use_cache=False)
        handle.remove()
        for token in seen[0][0]:
            shares = (block.gate.weight @ token).softmax(dim=0).topk(2)
            scale = dict(zip(shares.indices.tolist(), (shares.values / shares.values.sum()).tolist(), strict=True))
            for expert, key in enumerate(gated_key(block, token).double().split(18)):
                if expert in scale:
                    sums[expert] += torch.outer(key, key) / scale[expert] ** 2
                    counts[expert] += 1
    assert torch.equal(corpus.routed[1], counts)
    assert torch.allclose(corpus.by_layer[1], sums / counts.clamp_min(1)[:, None, None], rtol=1e-4, atol=1e-6)


def test_moments_of_experts_are_stored_and_checked(
    tmp_path: Path, mixture: EditableModel, corpus: SecondMoments
) -> None:
    write_moments(corpus, tmp_path / "moments.safetensors")
    read = read_moments(tmp_path / "moments.safetensors")
    for layer in (0, 1):
        assert torch.equal(read.by_layer[layer], corpus.by_layer[layer])
        assert torch.equal(read.routed[layer], corpus.routed[layer])
    sites = mixture.open_sites([0, 1])
    check_moments(read, sites, where="test", model_digest=mixture.base_digest)
    with pytest.raises(InputError, match="4 experts of 18 inputs"):
        check_moments(moments(tiny_model("llama")), sites, where="test", model_digest=None)


def test_an_expert_that_no_token_reached_is_frozen_or_free(corpus: SecondMoments) -> None:
    blocks, routed = corpus.by_layer[1].clone(), corpus.routed[1].clone()
    blocks[2], routed[2] = 0, 0
    rule = {"threshold": None, "share": 0.5}
    column = torch.randn(72, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    frozen = expert_null_spaces(blocks, routed, **rule, unseen="frozen").project(column).split(18)
    free = expert_null_spaces(blocks, routed, **rule, unseen="free").project(column).split(18)
    assert not frozen[2].any()
    assert torch.equal(free[2], column[36:54])
    assert all(torch.equal(frozen[expert], free[expert]) for expert in (0, 1, 3))
    with pytest.raises(InputError, match="no expert has an eigenvalue"):
        expert_null_spaces(blocks, routed, threshold=1e-30, share=None, unseen="frozen")


@pytest.mark.parametrize("method", ["moeedit", "moeedit+sphere", "ft"])
def test_a_mixture_is_edited_resumed_with_equal_bits_and_restored(tmp_path: Path, method: str) -> None:
    model = tiny_model("qwen3_moe")
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    start = likelihood(model, 2)
    whole = run(method, model, L2=1e-6)
    model.load_weights(whole[0].weights)
    assert likelihood(model, 2) > start + 0.01
    changed = {name for name, tensor in model.network.state_dict().items() if not torch.equal(before[name], tensor)}
    assert changed == {f"model.layers.{layer}.mlp.experts.down_proj" for layer in ((1,) if method == "ft" else (0, 1))}
    write_checkpoint(whole[0], Storage(tmp_path))
    resumed = run(method, tiny_model("qwen3_moe"), L2=1e-6, resume=read_checkpoint(Storage(tmp_path), 2))
    for name, tensor in whole[-1].weights.items():
        assert torch.equal(resumed[-1].weights[name], tensor)
    model.restore_base()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.network.state_dict().items())


def test_each_layer_is_asked_for_its_own_distance_from_the_last_ones_target(mixture: EditableModel) -> None:
    sites = mixture.open_sites([0, 1])
    walk = BatchWalk(mixture, locate(mixture, requests(), (("{}",),)), sites)
    wanted = torch.randn(32, 5, generator=torch.Generator().manual_seed(3))
    targets = LayerTargets({1: wanted}, forward=False, root=True)
    assert torch.allclose(targets.change(walk, sites[0], 2), (wanted - walk.outputs(sites[0])) / 2**0.5)
    assert torch.allclose(targets.change(walk, sites[1], 1), wanted - walk.outputs())


def test_rows_that_do_not_fit_the_model_are_refused_by_name(mixture: EditableModel) -> None:
    for name, family in (("memit", mixture.family), ("moeedit", tiny_model("llama").family)):
        with pytest.raises(InputError, match=f"'{name}' writes") as refused:
            resolve_method(name).check_family(family.name, mixture=family.mixture, where="test")
        assert "moeedit" in str(refused.value.remedy) or "alphaedit" in str(refused.value.remedy)
    for name in ("ft", "moeedit", "unedited"):
        resolve_method(name).check_family("qwen3_moe", mixture=True, where="test")


def test_a_solver_update_reaches_the_stream(mixture: EditableModel) -> None:
    """W q of the site is what the block of experts adds: an update of the site moves the layer's output by D q."""
    model = tiny_model("qwen3_moe")
    (site,) = model.open_sites([1])
    walk = BatchWalk(model, locate(model, requests(), (("{}",),)), [site])
    keys, output, block = walk.keys(site), walk.outputs(), walk.site_outputs(site)
    assert torch.allclose(model.weight(site) @ keys, block, atol=1e-5)
    write = SiteWrite(site, keys, block, model.weight(site), model.base_weight(site))
    rule = editor("moeedit", model).rules[1]
    update = rule.solve(write, run("moeedit", tiny_model("qwen3_moe"), count=2)[0].state.part("rule/1"), None).update
    model.add(site, update)
    assert torch.allclose(walk.outputs() - output, update.dense().float() @ keys, atol=1e-4)


@pytest.mark.parametrize("family", ["qwen3_moe", "olmoe", "mixtral"])
def test_a_mixture_is_loaded_from_files_and_exported(tmp_path: Path, family: str) -> None:
    model = tiny_model(family)
    model.network.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["model_type"] == family
    loaded = load_model(str(tmp_path / "model"), dtype="float32", device="cpu")
    (site,) = loaded.open_sites([1])
    assert torch.equal(loaded.weight(site), model.open_sites([1]) and model.weight(model.open_sites([1])[0]))
    changed = loaded.weight(site) + 0.01
    loaded.set_weight(site, changed)
    loaded.network.save_pretrained(tmp_path / "edited")
    loaded.tokenizer.save_pretrained(tmp_path / "edited")
    again = load_model(str(tmp_path / "edited"), dtype="float32", device="cpu")
    assert torch.equal(again.weight(again.open_sites([1])[0]), changed)
