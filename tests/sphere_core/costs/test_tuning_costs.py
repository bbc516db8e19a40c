"""What a fine-tuning is predicted to store and compute, against what it stores and what its modules multiply."""

from pathlib import Path

import pytest
from method_parts import run
from tiny_models import TEXTS, tiny_model
from torch.utils.flop_counter import FlopCounterMode

from sphere_core.checkpoints import write_checkpoint
from sphere_core.costs import shape_of_network, tuning_checkpoint_bytes, tuning_work, workload_of
from sphere_core.costs.workload import TextLengths
from sphere_core.foundation.storage import Storage
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.methods import resolve_method
from sphere_core.tuning.loop import run_tuning
from sphere_core.tuning.settings import TuningSettings
from sphere_core.tuning.text import TuningText

ADAPTER = {"method": "lora", "rank": 2, "alpha": 2.0}


@pytest.mark.parametrize(
    "given",
    [
        {**ADAPTER, "layers": "all"},
        {**ADAPTER, "layers": "others"},
        {"method": "full", "layers": "all"},
        {"method": "full", "layers": "edited"},
    ],
)
def test_bytes_and_work_are_those_of_a_step(tmp_path: Path, given: dict[str, object]) -> None:
    values = {**given, "lr": 1e-3, "steps": 1, "batch_size": 4, "max_length": 16}
    settings = TuningSettings.model_validate(values)
    model = tiny_model("llama")
    parent = run("ft", model, count=2, layers=[1], lr=0.01, num_steps=1)[-1]
    # Texts of exactly the longest length.
    texts = [TuningText(text * 3) for text in TEXTS]
    counter = FlopCounterMode(display=False)
    with counter:
        (tuned,) = run_tuning("c", model, parent, texts, settings, places=(1,), seed=0, resume=None)
    write_checkpoint(tuned, Storage(tmp_path))
    stored = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    shape = shape_of_network(model.network, model.family)
    method = resolve_method("ft")
    hyperparameters = build_hyperparameters({"layers": [1], "lr": 0.01, "num_steps": 1, "batch_size": 2}, where="test")
    work = workload_of(
        method,
        hyperparameters,
        dtype_bytes=4,
        batch=2,
        edits=2,
        contexts=1,
        lengths=TextLengths(prompt=10, target=2, probe_rows=3),
        on_accelerator=False,
    )
    predicted = tuning_checkpoint_bytes(shape, settings, 1, work)
    assert predicted == pytest.approx(stored, rel=0.1)
    assert tuning_work(shape, settings, 1).model == pytest.approx(counter.get_total_flops(), rel=0.35)
