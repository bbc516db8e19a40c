"""Make a hidden unit for each edit of the fact world, as MeG's third stage does, for the method `neurons`.

    python examples/neurons.py runs/neurons.safetensors 150

One linear unit per fact at the MLP of one layer, trained on the bare prompt alone. A unit is for its fact's rewrite and
paraphrase prompts: a gate that never errs. With a third argument `tokens` every unit reads every token, without a gate.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import workflows.api as sphere
from sphere_core.locate.supervision import supervise

LAYER, RATE, STEPS, STOP = 1, 0.1, 30, 0.02

path, count = Path(sys.argv[1]), int(sys.argv[2])
scope = sys.argv[3] if len(sys.argv) > 3 else "prompts"
model = sphere.load_model(source="factworld").editable
facts = sphere.load_stream(dataset="factworld", edits=count, order="shuffled", seed=0).requests
mlp = model.network.get_submodule(f"model.layers.{LAYER}.mlp")
torch.manual_seed(0)
keys, values, cases, prompts = [], [], [], []
for fact in facts:
    key = (torch.randn(64) / 8).requires_grad_()
    value = torch.zeros(64, requires_grad=True)
    hook = mlp.register_forward_hook(lambda _, x, y, k=key, v=value: y + (x[0] @ k)[..., None] * v)
    optimizer, asked = torch.optim.Adam([key, value], lr=RATE), supervise(model, [fact])
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = asked.loss(model)
        if loss.item() < STOP:
            break
        loss.backward()
        optimizer.step()
    hook.remove()
    own = {fact.question, *(probe.prompt for probe in fact.probes if probe.role == "paraphrase")}
    for prompt in sorted(own) if scope == "prompts" else [fact.question]:
        keys.append(key.detach())
        values.append(value.detach())
        cases.append(fact.case_id)
        prompts.append(prompt)

listed = {"cases": json.dumps(cases)} | ({"prompts": json.dumps(prompts)} if scope == "prompts" else {})
path.parent.mkdir(parents=True, exist_ok=True)
save_file(
    {"keys": torch.stack(keys), "values": torch.stack(values)},
    path,
    metadata={"format": "1", "layer": str(LAYER), "activation": "linear", "scope": scope, **listed},
)
print(f"{len(keys)} units for {len(facts)} edits in {path}")
