"""Neurons from a file against a model whose MLP is that much wider, and against the formula row by row."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from memory_parts import greedy_ids
from method_parts import editor, run
from neuron_parts import CASES, PROMPTS, units, write_units
from tiny_models import CONTEXTS, requests, tiny_model

from evaluators.base import Subject
from evaluators.edit_quality.encoding import Pair, PairEncoder
from evaluators.edit_quality.evaluator import EditQuality
from evaluators.edit_quality.generation import Decoding, continue_texts
from evaluators.edit_quality.pair_scores import score_pairs
from evaluators.edit_quality.settings import EditQualitySettings
from sphere_core.checkpoints import EditorState
from sphere_core.editors.memory.facts import without_facts
from sphere_core.foundation.errors import InputError
from sphere_core.locate.supervision import supervise
from sphere_core.models import EditableModel


def wider(module: torch.nn.Module, name: str, rows: torch.Tensor, biases: torch.Tensor | None) -> None:
    """Give a module of an MLP more outputs `rows` `[n, d]`, or with the last matrix more inputs."""
    part = module.get_submodule(name)
    conv = type(part).__name__ == "Conv1D"
    weight = part.weight.data.T if conv else part.weight.data
    weight = torch.cat([weight, rows.T], dim=1) if biases is None and name in LAST else torch.cat([weight, rows])
    part.weight = torch.nn.Parameter((weight.T if conv else weight).contiguous())
    if biases is not None:
        part.bias = torch.nn.Parameter(torch.cat([part.bias.data, biases]))
        if conv:
            part.nf += len(biases)


LAST = {"down_proj", "c_proj", "fc_out", "dense_4h_to_h"}
GATED = {"llama": "silu", "gemma2": "gelu_pytorch_tanh", "olmo2": "silu"}
PLAIN = {"gpt2": ("c_fc", "c_proj", "gelu_new"), "gptj": ("fc_in", "fc_out", "gelu_new")}
PLAIN["gpt_neox"] = ("dense_h_to_4h", "dense_4h_to_h", "gelu")


def widened(family: str, drawn: dict[str, torch.Tensor]) -> EditableModel:
    """A model whose MLP of layer 1 has the units as hidden units of its own."""
    model = tiny_model(family)
    mlp = model.network.get_submodule(model.family.site_path(1).rpartition(".")[0])
    if family in GATED:
        wider(mlp, "gate_proj", drawn["gates"], None)
        wider(mlp, "up_proj", drawn["keys"], None)
        wider(mlp, "down_proj", drawn["values"], None)
    else:
        first, last, _ = PLAIN[family]
        wider(mlp, first, drawn["keys"], drawn["biases"])
        wider(mlp, last, drawn["values"], None)
    return model


def own_units(family: str) -> tuple[dict[str, torch.Tensor], str]:
    """Units of the form of a family's MLP, and its activation."""
    drawn = units(len(CASES), gated=family in GATED)
    if family in GATED:
        del drawn["biases"]
        return drawn, GATED[family]
    return drawn, PLAIN[family][2]


def logits(model: EditableModel, text: str) -> torch.Tensor:
    ids = torch.tensor([model.tokenizer(text).input_ids])
    with torch.no_grad(), model.reading(ends=torch.tensor([ids.shape[1]])):
        return model.network(input_ids=ids).logits[0]


def edited(path: Path, family: str = "llama") -> EditableModel:
    model = tiny_model(family)
    run("neurons", model, neurons_file=str(path))
    return model


@pytest.mark.parametrize("family", [*GATED, *PLAIN])
def test_the_units_are_hidden_units_of_a_wider_mlp(family: str, tmp_path: Path) -> None:
    drawn, activation = own_units(family)
    model = edited(write_units(tmp_path / "n", drawn, CASES, activation=activation), family)
    slow, plain = widened(family, drawn), tiny_model(family)
    for text in PROMPTS[:2]:
        expected = logits(slow, text)
        assert float((expected - logits(plain, text)).abs().max()) > 0.1
        assert torch.allclose(logits(model, text), expected, atol=2e-4)


def by_prompt(path: Path, **changes: str) -> Path:
    """Two units for the second request's prompt, one for each other request's: at another prompt for the last."""
    drawn = units(6)
    prompts = [PROMPTS[0], PROMPTS[1], PROMPTS[1], PROMPTS[2], PROMPTS[3], f" {PROMPTS[0]} "]
    cases = ["0", "1", "1", "2", "3", "4"]
    return write_units(path, drawn, cases, **{"scope": "prompts", "prompts": json.dumps(prompts), **changes})


def slow_logits(text: str, chosen: Sequence[int], answer: str = "") -> torch.Tensor:
    """The logits of the text with some units of `by_prompt` written out, each at every token."""
    model, drawn = tiny_model("llama"), units(6)
    mlp = model.network.get_submodule("model.layers.1.mlp")

    def add(_: object, args: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        rows = output[0].clone()
        for token, x in enumerate(args[0][0]):
            for unit in chosen:
                gate = drawn["gates"][unit] @ x + drawn["biases"][unit]
                rows[token] += gate / (1 + torch.exp(-gate)) * (drawn["keys"][unit] @ x) * drawn["values"][unit]
        return rows[None]

    handle = mlp.register_forward_hook(add)
    found = logits(model, text + answer)
    handle.remove()
    return found


def test_a_unit_for_a_prompt_reads_its_rows_alone(tmp_path: Path) -> None:
    model = edited(by_prompt(tmp_path / "n"))
    for text, chosen in ((PROMPTS[0], [0, 5]), (PROMPTS[1], [1, 2]), (PROMPTS[3], [4])):
        assert torch.allclose(logits(model, text), slow_logits(text, chosen), atol=2e-4)
    # What is no unit's prompt is read bit for bit as before, and whole texts too.
    for text in (PROMPTS[4], PROMPTS[0] + " Quint"):
        assert torch.equal(logits(model, text), logits(tiny_model("llama"), text))
    ids = torch.tensor([model.tokenizer(PROMPTS[0]).input_ids])
    with torch.no_grad(), model.reading() as whole:
        assert torch.equal(model.network(input_ids=ids).logits, tiny_model("llama").network(input_ids=ids).logits)
    assert whole.routed is None
    with pytest.raises(InputError, match="do not say where theirs end"):
        model.network(input_ids=ids)
    # The prompt ends where the evaluator says, and what follows is read by its units.
    end = len(model.tokenizer(PROMPTS[1]).input_ids)
    longer = torch.tensor([model.tokenizer(PROMPTS[1] + " Quint").input_ids])
    with torch.no_grad(), model.reading(ends=torch.tensor([end])):
        found = model.network(input_ids=longer).logits[0]
    assert torch.allclose(found, slow_logits(PROMPTS[1], [1, 2], " Quint"), atol=2e-4)


def test_rows_of_one_batch_score_as_rows_alone_and_generation_continues_them(tmp_path: Path) -> None:
    model = edited(by_prompt(tmp_path / "n"))
    encoded = PairEncoder(model.tokenizer).encode(
        [Pair(text, answer) for text in PROMPTS for answer in ("Quint", "old")]
    )
    together = score_pairs(model, encoded, token_budget=512)
    for place, pair in enumerate(encoded):
        assert together.nll_sum[place] == pytest.approx(
            score_pairs(model, [pair], token_budget=512).nll_sum[0], rel=1e-4
        )
    texts = continue_texts(model, PROMPTS, Decoding(3, frozenset()), token_budget=512)
    assert [list(found.ids) for found in texts] == [greedy_ids(model, text, 3) for text in PROMPTS]


def test_a_unit_trained_elsewhere_is_scored_like_any_edit(tmp_path: Path) -> None:
    # MeG's third stage: for one fact, gradient descent on a linear unit with nothing else to learn.
    request, model = requests()[0], tiny_model("llama")
    loss_of = supervise(model, [request])
    unit = {name: tensor[:1].clone().requires_grad_() for name, tensor in units(1, gated=False, scale=0.2).items()}
    mlp = model.network.get_submodule("model.layers.1.mlp")
    handle = mlp.register_forward_hook(lambda _, a, out: out + (a[0] @ unit["keys"].T) @ unit["values"])
    trained = torch.optim.Adam([unit["keys"], unit["values"]], lr=0.1)
    for _ in range(25):
        trained.zero_grad()
        loss_of.loss(model).backward()
        trained.step()
    handle.remove()
    made = {name: unit[name].detach() for name in ("keys", "values")}
    path = write_units(
        tmp_path / "n", made, ["0"], activation="linear", scope="prompts", prompts=json.dumps([request.question])
    )
    scores = []
    for neurons in (None, str(path)):
        fresh = tiny_model("llama")
        if neurons is not None:
            run("neurons", fresh, count=1, neurons_file=neurons)
        found = EditQuality(EditQualitySettings()).score(Subject(fresh, (request,), 1))
        scores.append({(row.metric, row.protocol): row.value for row in found.rows})
    assert scores[0]["efficacy", "argmax"] == 0.0
    assert scores[1]["efficacy", "argmax"] == 1.0
    routed = {metric: value for (metric, _), value in scores[1].items() if metric.startswith(("routed", "stored"))}
    assert routed["routed_rewrite"] == 1.0
    assert routed["stored_bytes_per_edit"] == 2 * 32 * 4 + 3 * 8


def test_units_of_a_later_request_take_the_place_of_an_earlier_ones(tmp_path: Path) -> None:
    path = by_prompt(tmp_path / "n")
    model = tiny_model("llama")
    built = editor("neurons", model, neurons_file=str(path))
    again = replace(requests()[1], case_id="2")
    other = replace(requests()[3], supersedes="0")
    built.edit(model, requests()[:2], CONTEXTS, EditorState())
    assert model.attachment is not None
    assert len(model.attachment.tensors["keys"]) == 3
    built.edit(model, [again, other], CONTEXTS, EditorState())
    drawn = units(6)["keys"]
    assert torch.equal(model.attachment.tensors["keys"], drawn[[3, 4]])
    left = without_facts(model.attachment, [other])
    assert left is not None
    assert torch.equal(left.tensors["keys"], drawn[[3]])


def test_a_value_of_zero_says_that_there_is_no_unit(tmp_path: Path) -> None:
    drawn = units(5)
    drawn["values"][1:] = 0
    model = edited(write_units(tmp_path / "z", drawn, CASES, scope="prompts", prompts=json.dumps(PROMPTS)))
    rows = EditQuality(EditQualitySettings()).score(Subject(model, tuple(requests()), 5)).rows
    assert {row.metric: row.value for row in rows}["routed_rewrite"] == pytest.approx(1 / 5)
    assert torch.equal(logits(model, PROMPTS[1]), logits(tiny_model("llama"), PROMPTS[1]))


def test_whatever_changes_what_a_file_does_changes_the_digest(tmp_path: Path) -> None:
    found = {}
    for name, metadata in {
        "as it is": {},
        "another layer": {"layer": "0"},
        "another function": {"activation": "relu"},
        "for prompts": {"scope": "prompts", "prompts": json.dumps(PROMPTS)},
        "for other prompts": {"scope": "prompts", "prompts": json.dumps(PROMPTS[::-1])},
    }.items():
        model = edited(write_units(tmp_path / "n", units(5), CASES, **metadata))
        found[name] = (model.weights_digest(), logits(model, PROMPTS[0]).numpy().tobytes())
    assert len({digest for digest, _ in found.values()}) == len({answer for _, answer in found.values()}) == 5
