"""The note on models in half precision whose passes a processor without the instructions would run."""

from typing import Any

import pytest

from workflows.sweeps.half_precision import slow_formats
from workflows.sweeps.spec import SweepSpec

PLAIN, FAST = frozenset({"sse2", "avx2"}), frozenset({"avx512bw", "avx512vl", "avx512dq"})


def spec(*dtypes: str, **replica: Any) -> SweepSpec:
    models = [{"source": f"model-{place}", "dtype": dtype, "preset": "llama3-8b"} for place, dtype in enumerate(dtypes)]
    return SweepSpec.model_validate(
        {
            "name": "half",
            "models": models,
            "streams": [{"dataset": "factworld", "edits": 10}],
            "methods": ["memit"],
            "seeds": [0],
            "batch_size": 10,
            "checkpoint_every": 10,
            "evaluators": {"geometry": {}},
            "resources": {"replica": replica},
        }
    )


def test_each_emulated_format_is_named_once_with_what_to_do() -> None:
    notes = list(slow_formats(spec("bfloat16", "float32", "bfloat16", "float16"), PLAIN, gpu_here=False))
    assert [note.split(":")[0] for note in notes] == [
        "this processor has no instructions for bfloat16",
        "this processor has no instructions for float16",
    ]
    assert all("sphere doctor" in note and "dtype: float32" in note for note in notes)


@pytest.mark.parametrize(
    ("replica", "gpu_here", "noted"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"num_gpus": 0}, True, True),
        ({"device": "cpu"}, True, True),
        ({"num_gpus": 1}, False, False),
        ({"device": "cuda"}, False, False),
        ({"device": "split"}, False, False),
    ],
)
def test_only_replicas_without_a_gpu_are_noted(replica: dict[str, Any], gpu_here: bool, noted: bool) -> None:
    assert bool(list(slow_formats(spec("bfloat16", **replica), PLAIN, gpu_here=gpu_here))) is noted


def test_a_processor_with_the_instructions_is_not_noted() -> None:
    assert not list(slow_formats(spec("bfloat16"), FAST, gpu_here=False))
    assert not list(slow_formats(spec("float32"), PLAIN, gpu_here=False))
