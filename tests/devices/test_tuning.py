"""The loop of fine-tuning on a ghost accelerator: the numbers of the CPU, and what a step may ask of a device."""

from typing import Any

import pytest
import torch
from ghost import DEVICES, ghost
from ghost_parts import on_ghost
from method_parts import run
from tiny_models import TEXTS, tiny_model

from sphere_core.checkpoints import Checkpoint
from sphere_core.models import EditableModel
from sphere_core.tuning.loop import run_tuning
from sphere_core.tuning.settings import TuningSettings
from sphere_core.tuning.text import TuningText

ADAPTER = {"rank": 2, "alpha": 2.0}
# Kernels and bytes to the device of a step on four layers; it waits for the masked rows and a look at all weights.
STEP = {"lora": (1_750, 950), "dora": (2_500, 950), "full": (1_400, 950)}


@pytest.mark.parametrize("method", STEP)
def test_a_step_stays_within_its_budget_and_gives_the_numbers_of_the_cpu(method: str) -> None:
    given: dict[str, Any] = {"layers": "all", "lr": 1e-3, "steps": 2, "batch_size": 2, "max_length": 12}
    settings = TuningSettings(method=method, **given, **({} if method == "full" else ADAPTER))
    parent = run("ft", tiny_model("llama", layers=4), count=2, layers=[1], lr=0.01, num_steps=1)[-1]

    def tuned(model: EditableModel) -> Any:
        texts = [TuningText(text) for text in TEXTS]
        return run_tuning("c", model, parent, texts, settings, places=(1,), seed=0, resume=None)

    expected: Checkpoint = list(tuned(tiny_model("llama", layers=4)))[-1]
    with ghost() as counts:
        chain = tuned(on_ghost(tiny_model("llama", layers=4)))
        next(chain)
        counts.clear()
        found = next(chain)
        kernels, to_device = STEP[method]
        assert counts.kernels <= kernels, counts.by_kernel.most_common(9)
        assert counts.waits <= 2, counts.waits_at.most_common()
        assert counts.to_host == 0, counts.bytes_at.most_common()
        assert counts.to_device <= to_device, counts.bytes_at.most_common()
        assert found.tuned.keys() == expected.tuned.keys()
        for name, weight in {**found.weights, **found.tuned}.items():
            assert weight.device in DEVICES
            known = {**expected.weights, **expected.tuned}[name]
            torch.testing.assert_close(weight.cpu(), known, rtol=1e-5, atol=1e-6)
