"""The token counts that a price is made of, against what is packed and read."""

from typing import Any

import pytest

from evaluators.edit_quality.encoding import PairEncoder
from evaluators.edit_quality.probes import score_probes
from sphere_core.costs import edit_work, lengths_of, published_config, shape_of_config, workload_of
from sphere_core.hyperparameters import preset
from sphere_core.locate.batch import locate
from sphere_core.locate.objective import build_objective
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel, load_model
from sphere_core.models.suffix import Tail
from sphere_core.requests import EditRequest
from sphere_core.streams.stream import StreamSpec, load_stream

EDITS, CONTEXTS = 100, 6


@pytest.fixture(scope="module")
def model() -> EditableModel:
    return load_model("factworld", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def requests() -> list[EditRequest]:
    return list(load_stream(StreamSpec(dataset="factworld", edits=EDITS), 0))


def test_a_span_is_what_targets_pack(model: EditableModel, requests: list[EditRequest]) -> None:
    batch = locate(model, requests, (("{}",) * CONTEXTS,))
    tail = build_objective(model, batch, range(EDITS), 1).tail
    assert isinstance(tail, Tail)
    packed = sum(int(group.packing.spans.sum()) for group in tail.groups if group.packing is not None)
    priced = lengths_of("factworld").span
    assert priced is not None
    assert priced * EDITS * (CONTEXTS + 1) == pytest.approx(packed, rel=0.02)


def test_probes_cost_what_the_scorer_reads(model: EditableModel, requests: list[EditRequest]) -> None:
    read = 0

    def note(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        nonlocal read
        read += kwargs["input_ids"].numel()

    with model.decoder.register_forward_pre_hook(note, with_kwargs=True):
        score_probes(model, PairEncoder(model.tokenizer), requests, token_budget=4096)
    lengths = lengths_of("factworld")
    # What is read includes the padding of smaller trees.
    assert lengths.probe_tree * lengths.probe_rows * EDITS == pytest.approx(read, rel=0.15)


def test_an_edit_at_llama3_8b_takes_what_its_targets_take() -> None:
    config = published_config("meta-llama/Meta-Llama-3-8B-Instruct")
    assert config is not None
    shape, method = shape_of_config(config, where="test"), resolve_method("alphaedit+sphere")
    values = preset("llama3-8b", method.editor_name, method.regularizer_names)
    work = workload_of(
        method,
        values,
        dtype_bytes=2,
        batch=100,
        edits=1000,
        contexts=CONTEXTS,
        lengths=lengths_of("counterfact"),
        on_accelerator=True,
    )
    # 2,716 tokens of 100 requests through 23 layers, forward and backward, 25 times; the rest is read once.
    steps = 25 * 27.16 * 2 * 2 * 23 * shape.layer_parameters
    assert steps < edit_work(shape, work, values, 1000).model / 1000 < 1.25 * steps
