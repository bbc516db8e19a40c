"""Every family of models: what is written, read and replayed against the Hugging Face model itself.

A new family is a YAML file and a row in `tiny_models.FAMILIES`.
"""

import pytest
import torch
from method_parts import likelihood, run
from tiny_models import CONTEXTS, DENSE, FAMILIES, MIXTURES, requests, tiny_config, tiny_model
from transformers.models.auto import CONFIG_MAPPING
from whole_forwards import keys_of_whole_forwards, outputs_of_whole_forwards

from sphere_core.foundation.errors import InputError
from sphere_core.locate.batch import BatchWalk, locate
from sphere_core.locate.prompts import pad_right
from sphere_core.models import EditableModel, load_families, recognise_family
from sphere_core.models.grouped_attention import folding_attention, query_groups
from sphere_core.models.layer_calls import hidden_states
from sphere_core.models.output_norm import OutputNorm
from sphere_core.models.prefix_trees import reads_trees
from sphere_core.models.suffix import TailLayout, record_tail
from sphere_core.numerics.linalg import DenseUpdate, LowRankUpdate

EVERY = pytest.mark.parametrize("family", list(FAMILIES))
# Longer than every window, and of different lengths.
ROWS = [list(range(2, 50, 3)), list(range(301, 266, -3)), [11, 12, 300, 44, 21]]
# The same lengths, with beginnings in common: 18 tokens where padded rows have 48.
SHARING = [ROWS[0], [*ROWS[0][:10], 300, 44], ROWS[0][:5]]


def logits(model: EditableModel, row: list[int]) -> torch.Tensor:
    """The network's own logits of one row without padding, `[tokens, vocabulary]`."""
    with torch.no_grad():
        return model.network(input_ids=torch.tensor([row]), use_cache=False).logits[0]


def near(found: torch.Tensor, expected: torch.Tensor, family: str) -> bool:
    """Whether two results differ by rounding alone.

    Linear attention sums up a state in float32, in an order that follows the padding: there an entry is as exact as the
    largest one, within 128 roundings of it (66 were seen on a processor without AVX-512, fewer on others).
    """
    if family == "qwen3_5_text":
        return bool((found - expected).abs().max() <= 128 * torch.finfo(torch.float32).eps * expected.abs().max())
    return torch.allclose(found, expected, atol=1e-5)


def test_every_known_model_type_has_its_row() -> None:
    known = {name for family in load_families().values() for name in family.model_types}
    assert known == set(FAMILIES)


@EVERY
def test_an_update_through_the_site_is_the_update_by_hand(family: str) -> None:
    model, by_hand = tiny_model(family), tiny_model(family)
    before = logits(model, ROWS[0])
    (site,) = model.open_sites([1])
    assert (site.d_out, site.d_in, site.transposed) == (32, 72, family == "gpt2")
    update = torch.randn(32, 72, generator=torch.Generator().manual_seed(1))
    model.add(site, DenseUpdate(update.double()))
    with torch.no_grad():
        if site.experts:
            by_hand.network.get_parameter(site.name).add_(torch.stack(update.split(18, dim=1)))
        else:
            by_hand.network.get_submodule(site.module_path).weight += update.T if site.transposed else update
    assert torch.equal(logits(model, ROWS[0]), logits(by_hand, ROWS[0]))
    assert not torch.allclose(logits(model, ROWS[0]), before)
    model.restore_base()
    assert torch.equal(logits(model, ROWS[0]), before)


@EVERY
def test_keys_and_outputs_are_those_of_whole_forwards(family: str) -> None:
    model = tiny_model(family, layers=4)
    sites = model.open_sites((1, 2))
    batch = locate(model, requests(), CONTEXTS)
    walk = BatchWalk(model, batch, sites)
    for site in sites:
        assert near(walk.keys(site), keys_of_whole_forwards(model, batch, site), family)
        change = torch.randn(site.d_out, site.d_in, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        model.add(site, DenseUpdate(0.3 * change))
    assert near(walk.outputs(), outputs_of_whole_forwards(model, batch, 2), family)


@EVERY
def test_right_padded_rows_are_scored_as_if_alone(family: str) -> None:
    model = tiny_model(family)
    ids, mask = pad_right(ROWS, fill=0, device=model.device)
    with torch.no_grad():
        hidden = model.decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        together = model.normed_logits(hidden)
    for place, row in enumerate(ROWS):
        assert near(together[place, : len(row)], logits(model, row), family)


@EVERY
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(
    "layout",
    [
        TailLayout(4, folds=True, packs=True, shares=True),
        TailLayout(4, folds=False),
        TailLayout(1, folds=True, packs=True),
    ],
    ids=["cpu", "plain", "accelerator"],
)
def test_the_replayed_suffix_is_the_whole_forward(family: str, layer: int, layout: TailLayout) -> None:
    model = tiny_model(family, layers=4)
    starts = [4, 7, 1]
    shift = torch.randn(len(ROWS), 32, generator=torch.Generator().manual_seed(5))
    rows = SHARING if layout.shares else ROWS
    ids, mask = pad_right(rows, fill=0, device=model.device)
    read = []
    handle = model.layers[0].register_forward_pre_hook(lambda _, args: read.append(args[0].shape[:2].numel()))
    tail = record_tail(model, layer, ids, mask, torch.tensor(starts), layout=layout)
    handle.remove()
    # A window that is shorter than a row counts neighbours, not ancestors in a tree.
    assert read == [18 if layout.shares and reads_trees(model, 16) else 48]
    changed = tail.hidden.clone()
    changed[:, 0] += shift
    with torch.no_grad():
        replayed = model.logits(tail.run(changed))
    for place, (row, start) in enumerate(zip(rows, starts, strict=True)):

        def add(_: object, __: object, output: object, place: int = place, start: int = start) -> object:
            hidden = hidden_states(output).clone()
            hidden[0, start] += shift[place]
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        handle = model.layers[layer].register_forward_hook(add)
        whole = logits(model, row)[start:]
        handle.remove()
        assert torch.allclose(replayed[place, : len(whole)], whole, atol=2e-5)


@pytest.mark.parametrize("family", ["qwen3_5_text", "llama"])
def test_rows_that_leave_a_recording_change_no_other(family: str) -> None:
    model = tiny_model(family, layers=4)
    ids, mask = pad_right(ROWS, fill=0, device=model.device)
    # The last row is changed at its last token, the others are longer from their starts on.
    tail = record_tail(model, 1, ids, mask, torch.tensor([4, 7, 4]))
    changed = tail.hidden.clone()
    changed[:, 0] += torch.randn(len(ROWS), 32, generator=torch.Generator().manual_seed(5))
    kept = torch.tensor([0, 2])
    with torch.no_grad():
        whole, part = tail.run(changed), tail.select(kept).run(changed[kept])
    for place, (row, start) in {0: (ROWS[0], 4), 1: (ROWS[2], 4)}.items():
        reached = slice(len(row) - start)
        assert torch.allclose(part[place, reached], whole[kept[place], reached], atol=1e-5)


def test_families_whose_keys_are_shared_fold_their_queries() -> None:
    folds = {family: query_groups(tiny_model(family)) for family in FAMILIES}
    assert {family for family, groups in folds.items() if groups > 1} == {
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "gemma3_text",
        "phi3",
        "olmo2",
        *MIXTURES,
    }
    model = tiny_model("llama")
    before = model.network.config._attn_implementation
    with folding_attention(model.network.config):
        assert model.network.config._attn_implementation != before
    assert model.network.config._attn_implementation == before == "sdpa"


WITH_A_NORM = pytest.mark.parametrize("family", ["gemma2", "gemma3_text", "olmo2"])


@WITH_A_NORM
def test_a_residual_turns_the_output_to_the_nearest_that_the_norm_can_give(family: str) -> None:
    model = tiny_model(family)
    (site,) = model.open_sites([1])
    norm = model.output_norm(site)
    module = model.network.get_submodule(f"model.layers.1.{model.family.output_norm}")
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(32, 4, generator=generator, dtype=torch.float64)
    assert torch.allclose(norm.apply(values).float().T, module(values.float().T), atol=1e-5)
    assert float(norm.residuals(values, torch.zeros(32, 4)).abs().max()) < 1e-10
    # What the norm can give is reached, by the shortest turn ...
    turned = torch.randn(32, 4, generator=generator, dtype=torch.float64)
    turned *= values.norm(dim=0) / turned.norm(dim=0)
    change = norm.apply(turned) - norm.apply(values)
    assert torch.allclose(norm.residuals(values, change), turned - values, atol=1e-8)
    # ... and of what it cannot, nothing is nearer: gradient descent on the output itself ends at the same distance.
    wanted = norm.apply(values) + 2 * torch.randn(32, 4, generator=generator, dtype=torch.float64)
    found = norm.apply(values + norm.residuals(values, wanted - norm.apply(values)))
    free = (values + torch.randn(32, 4, generator=generator, dtype=torch.float64)).requires_grad_(True)
    optimiser = torch.optim.LBFGS([free], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def distance() -> torch.Tensor:
        optimiser.zero_grad()
        loss = (norm.apply(free) - wanted).square().sum()
        loss.backward()
        return loss

    optimiser.step(distance)
    reached = (norm.apply(free.detach()) - wanted).norm(dim=0)
    assert torch.allclose((found - wanted).norm(dim=0), reached, rtol=1e-4)


def test_a_gain_of_zero_is_no_fault() -> None:
    generator = torch.Generator().manual_seed(4)
    values, change = torch.randn(2, 32, 3, generator=generator, dtype=torch.float64)
    gain = torch.ones(32, dtype=torch.float64)
    gain[5] = 0
    residuals = OutputNorm(gain, 1e-6).residuals(values, change)
    assert torch.allclose((values + residuals).norm(dim=0), values.norm(dim=0))


@WITH_A_NORM
def test_an_exact_write_moves_the_stream_as_asked_only_through_the_norm(family: str) -> None:
    errors = {}
    for kind in ("through", "past"):
        model = tiny_model(family)
        (site,) = model.open_sites([2])
        batch = locate(model, requests()[:1], (("{}",),))
        walk = BatchWalk(model, batch, [site])
        # A change that the norm can give: the contribution of another vector of the same length.
        before, output = walk.outputs(), walk.site_outputs(site)
        change = (model.output_norm(site).apply(output.flip(0)) - walk.contributions(site)).float()
        residual = walk.site_residuals(site, change) if kind == "through" else change
        key = walk.keys(site).double()
        model.add(site, LowRankUpdate(residual.double(), key / key.square().sum()))
        errors[kind] = float((walk.outputs() - before - change).norm() / change.norm())
    assert errors["through"] < 1e-5
    assert errors["past"] > 0.1


def test_what_cannot_be_edited_is_refused_with_the_reason() -> None:
    for kind in ("deepseek_v3", "gpt_oss", "granitemoe"):
        with pytest.raises(InputError, match=f"model type '{kind}' is a mixture of experts"):
            recognise_family(CONFIG_MAPPING[kind](), where="somewhere")
    with pytest.raises(InputError, match="'gemma3' reads more than text"):
        recognise_family(CONFIG_MAPPING["gemma3"](), where="somewhere")
    config = tiny_config("llama")
    config.quantization_config = {"quant_method": "gptq", "bits": 4}
    with pytest.raises(InputError, match="quantised") as raised:
        recognise_family(config, where="somewhere")
    assert "key quantization_config" in str(raised.value)


@pytest.mark.parametrize("family", DENSE)
@pytest.mark.parametrize("method", ["memit", "r_rome"])
def test_a_batch_makes_its_targets_more_likely(family: str, method: str) -> None:
    model = tiny_model(family)
    before = likelihood(model, 2)
    checkpoint = run(method, model, batch_size=2, count=2)[0]
    model.load_weights(checkpoint.weights)
    assert likelihood(model, 2) > before + 0.01


@pytest.mark.parametrize("family", MIXTURES)
def test_a_batch_makes_its_targets_more_likely_in_a_mixture(family: str) -> None:
    # At one layer: written at two, the outputs of a random Mixtral come as near to their targets as those of others
    # (a quarter of the way is left), but its answers gain 0.005 nats only.
    model = tiny_model(family)
    before = likelihood(model, 2)
    checkpoint = run("moeedit", model, batch_size=2, count=2, layers=[1])[0]
    model.load_weights(checkpoint.weights)
    assert likelihood(model, 2) > before + 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_masters_keep_what_the_networks_dtype_would_lose(dtype: torch.dtype) -> None:
    model = tiny_model("qwen2", dtype=dtype)
    (site,) = model.open_sites([1])
    live = model.network.get_submodule(site.module_path).weight
    base, start = model.weight(site), live.clone()
    for _ in range(40):
        model.add(site, DenseUpdate(torch.full((32, 72), 2.5e-5, dtype=torch.float64)))
    assert live.dtype is dtype
    assert model.weight(site).dtype is torch.float32
    # Forty roundings of numbers below one, in fp32.
    assert torch.allclose(model.weight(site) - base, torch.full((32, 72), 1e-3), atol=40 * 6e-8)
    assert torch.equal(live, model.weight(site).to(dtype))
    # Added to the live weight one by one, such steps are lost where they are less than half a unit in the last place.
    lost = start.clone()
    for _ in range(40):
        lost += torch.full((32, 72), 2.5e-5, dtype=dtype)
    share = float((lost == start).float().mean())
    assert (share > 0.5) == (dtype is not torch.float32)
    model.restore_base()
    assert torch.equal(live, start)


@pytest.mark.parametrize("family", ["gptj", "gemma2", "mistral"])
def test_half_precision_walks_and_replays_in_its_own_dtype(family: str) -> None:
    model = tiny_model(family, dtype=torch.bfloat16)
    checkpoint = run("memit", model, batch_size=2, count=2)[0]
    assert not checkpoint.collapsed
    assert all(weight.dtype is torch.float32 for weight in checkpoint.weights.values())
