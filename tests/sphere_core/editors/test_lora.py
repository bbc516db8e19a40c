"""LoRA: batches against peft's adapters, torch's AdamW and schedule; the gate's three measures around it."""

import copy

import pytest
import torch
from method_parts import editor, run
from peft import LoraConfig, get_peft_model
from tiny_models import CONTEXTS, requests, tiny_model

from sphere_core.checkpoints import EditorState
from sphere_core.editors.gradient.lora import batch_generator
from sphere_core.locate.prompts import target_ids, text_ids
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest

CHANGES = {"num_steps": 3, "batch_size": 2, "weight_decay": 0.1, "gradient_clip": 0.5}


def nll(network: torch.nn.Module, model: EditableModel, request: EditRequest) -> torch.Tensor:
    """The mean NLL of a target's tokens, a row at a time."""
    prompt, target = text_ids(model.tokenizer, request.question), target_ids(model.tokenizer, request)
    ids = torch.tensor([[*prompt, *target]])
    logs = network(input_ids=ids).logits[0].log_softmax(-1)
    return -sum(logs[len(prompt) - 1 + place, token] for place, token in enumerate(target)) / len(target)


def with_peft(network: torch.nn.Module, model: EditableModel, batch: list[EditRequest], number: int) -> torch.nn.Module:
    """The network after one batch: an adapter of peft, trained and merged."""
    gpt2 = "gpt2" in model.base_digest
    tuned = get_peft_model(
        network,
        LoraConfig(
            r=2,
            lora_alpha=4.0,
            target_modules=r".*\.1\.mlp\." + ("c_proj" if gpt2 else "down_proj"),
            fan_in_fan_out=gpt2,
            task_type="CAUSAL_LM",
        ),
    )
    moving = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    (site,) = model.open_sites([1])
    drawn = torch.rand(2, site.d_in, generator=batch_generator(3, number))
    assert [tuple(one.shape) for one in moving] == [(2, site.d_in), (site.d_out, 2)]
    moving[0].data.copy_((2 * drawn - 1) / site.d_in**0.5)
    optimiser = torch.optim.AdamW(moving, lr=0.02, weight_decay=0.1)
    chunks = [batch[:2], batch[2:]]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda done: 1 - done / 6)
    for step in range(6):
        chunk = chunks[step % 2]
        optimiser.zero_grad()
        torch.stack([nll(tuned, model, request) for request in chunk]).mean().backward()
        torch.nn.utils.clip_grad_norm_(moving, 0.5)
        optimiser.step()
        schedule.step()
    return tuned.merge_and_unload()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_two_batches_are_those_of_peft_and_torch(family: str) -> None:
    model = tiny_model(family)
    built, state = editor("lora", model, **CHANGES), EditorState()
    network: torch.nn.Module = copy.deepcopy(model.network)
    stream = requests()
    for number, batch in enumerate((stream[:3], stream[2:5])):
        state = built.edit(model, batch, CONTEXTS, state)
        network = with_peft(network, model, list(batch), number)
    (site,) = model.open_sites([1])
    expected = site.canonical(dict(network.named_parameters())[site.name]).detach()
    base = model.base_weight(site)
    assert float((expected - base).norm()) > 0.05
    assert float((model.weight(site) - expected).norm() / (expected - base).norm()) < 1e-4
    values = torch.linalg.svdvals((model.weight(site) - base).double())
    # Two adapters of rank two, merged.
    assert float(values[3] / values[0]) > 1e-3
    assert float(values[4] / values[0]) < 1e-5


def test_a_seed_names_the_adapters() -> None:
    ends = [run("lora", tiny_model("llama"), count=2, lora_seed=seed)[-1].weights for seed in (3, 3, 4)]
    (name,) = ends[0]
    assert torch.equal(ends[0][name], ends[1][name])
    assert not torch.equal(ends[0][name], ends[2][name])


@pytest.mark.parametrize(("measure", "budget"), [("bits", 0.02), ("exact_match", 0.2), ("kl", 0.01)])
def test_each_of_the_gate_s_measures_limits_what_a_batch_writes(measure: str, budget: float) -> None:
    free, held = tiny_model("llama"), tiny_model("llama")
    strong = {"lr": 0.1, "num_steps": 30}
    run("lora", free, **strong)
    gate = {"gate_measure": measure, "gate_search": "bisection", "gate_min_scale": 0.01, "gate_budget": budget}
    last = run("lora+gate", held, **strong, **gate)[-1]
    verdicts = last.state.part("gate").scalars
    assert verdicts["accepted"] >= 1
    assert int(verdicts.get("shrunk", 0)) + int(verdicts.get("rejected", 0)) >= 1
    (a,), (b,) = free.open_sites([1]), held.open_sites([1])
    assert not torch.equal(free.weight(a), held.weight(b))
