"""LoRA and DoRA: the gradients of their factors, and peft's own modules step by step."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import TEXTS, tiny_model

from sphere_core.checkpoints import Checkpoint, EditorState
from sphere_core.models import EditableModel
from sphere_core.tuning.adapters import Dora, Lora, Plain, Trained
from sphere_core.tuning.loop import run_tuning
from sphere_core.tuning.settings import TuningSettings
from sphere_core.tuning.text import TuningText
from sphere_core.tuning.texts import encode_text, step_places

RANK, ALPHA, STEPS, BATCH = 3, 6.0, 4, 2


def settings(method: str, **changes: object) -> TuningSettings:
    values = {"method": method, "rank": RANK, "alpha": ALPHA, "layers": "all", "lr": 5e-3, "weight_decay": 0.1}
    values |= {"steps": STEPS, "batch_size": BATCH, "max_length": 12, "max_grad_norm": 0.5, **changes}
    return TuningSettings.model_validate(values)


def unedited(model: EditableModel) -> Checkpoint:
    model.open_sites((1,))
    return Checkpoint("p", 2, model.edited_weights(), EditorState(), (("{}",),), collapsed=False)


@pytest.mark.parametrize("trained", [Plain(), Lora(3, 0.5), Dora(Lora(3, 0.5))])
def test_gradients_are_those_of_the_weight_they_give(trained: Trained) -> None:
    generator = torch.Generator().manual_seed(1)
    base, slope = torch.randn(5, 7, generator=generator), torch.randn(5, 7, generator=generator)
    begin = trained.start(base, generator)
    torch.testing.assert_close(trained.weight(base, begin), base)
    moved = {name: value + 0.3 * torch.randn(value.shape, generator=generator) for name, value in begin.items()}
    leaves = {name: value.clone().requires_grad_() for name, value in moved.items()}
    weight = trained.weight(base, leaves)
    if isinstance(trained, Dora):
        # |V| counts as a constant, so that it is taken out of the graph here.
        directions = trained.lora.weight(base, leaves)
        weight = leaves["m"] / directions.norm(dim=1, keepdim=True).detach() * directions
    expected = dict(zip(leaves, torch.autograd.grad((weight * slope).sum(), list(leaves.values())), strict=True))
    found = trained.gradients(base, moved, slope)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], msg=name)


def with_peft(model: EditableModel, chosen: TuningSettings, start: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What peft's adapters and torch's AdamW make of the same texts, from the same factors: the merged weights."""
    network = copy.deepcopy(model.network)
    is_conv = "gpt2" in model.base_digest
    names = ["c_attn", "c_proj", "c_fc"] if is_conv else "all-linear"
    config = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        target_modules=names,
        use_dora=chosen.method == "dora",
        fan_in_fan_out=is_conv,
        task_type="CAUSAL_LM",
    )
    tuned = get_peft_model(network, config)
    for name, parameter in tuned.named_parameters():
        if ".lora_" in name:
            path = name.removeprefix("base_model.model.").split(".lora_")[0]
            key = "A" if "lora_A" in name else "B" if "lora_B" in name else None
            if key is not None:
                parameter.data.copy_(start[f"{path}.weight/{key}"])
    moving = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(moving, lr=chosen.lr, weight_decay=chosen.weight_decay)
    texts = [encode_text(model.tokenizer, TuningText(text), chosen.max_length) for text in TEXTS]
    for step in range(1, STEPS + 1):
        rows = [texts[place] for place in step_places(len(texts), 0, step, BATCH)]
        losses, count = [], 0
        for row in rows:
            # A row at a time: no padding, no mask, no gathering.
            logits = tuned(input_ids=torch.tensor([row.ids])).logits[0]
            logs = logits.log_softmax(-1)
            losses += [-logs[place - 1, row.ids[place]] for place in range(row.first, len(row.ids))]
            count += row.predicted
        optimiser.zero_grad()
        (torch.stack(losses).sum() / count).backward()
        torch.nn.utils.clip_grad_norm_(moving, chosen.max_grad_norm)
        optimiser.step()
    return dict(tuned.merge_and_unload().named_parameters())


@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_steps_are_those_of_peft_and_torchs_adamw(method: str, family: str) -> None:
    model = tiny_model(family)
    chosen, texts = settings(method), [TuningText(text) for text in TEXTS]
    parent = unedited(model)

    def run(steps: int) -> Checkpoint:
        found = run_tuning("c", model, parent, texts, settings(method, steps=steps), places=(1,), seed=0, resume=None)
        return list(found)[-1]

    # One step that moves nothing has the factors as they were drawn.
    still = next(
        iter(
            run_tuning(
                "c", model, parent, texts, settings(method, lr=1e-30, weight_decay=0), places=(1,), seed=0, resume=None
            )
        )
    )
    start = {name: value for name, value in still.state.part("tuning").part("trained").tensors.items()}
    found = run(STEPS)
    model.restore_base()
    before = {name: parameter.detach().clone() for name, parameter in model.network.named_parameters()}
    expected = with_peft(model, chosen, start)
    tuned = {**found.weights, **found.tuned}
    assert len(tuned) == 21 if family == "llama" else 12
    for name, weight in tuned.items():
        change = weight - before[name]
        assert change.norm() > 0
        torch.testing.assert_close(change, expected[name].detach() - before[name], rtol=2e-3, atol=2e-6, msg=name)
