"""Fine-tuning of a checkpoint: resumed bit for bit, seen by the digest, taken back, and what it trains and reads."""

import pytest
import torch
from method_parts import run
from tiny_models import TEXTS, tiny_model, tokenizer

from evaluators.base import unedited
from sphere_core.checkpoints import Checkpoint, read_checkpoint, read_installed, write_checkpoint
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.models import EditableModel
from sphere_core.tuning.loop import run_tuning
from sphere_core.tuning.settings import TuningSettings
from sphere_core.tuning.text import TuningText
from sphere_core.tuning.texts import encode_text, epoch_order, step_places

LAYERS = (1,)


def settings(method: str = "lora", **changes: object) -> TuningSettings:
    adapter = {} if method == "full" else {"rank": 2, "alpha": 4}
    values = {"method": method, "layers": "all", "lr": 1e-2, "steps": 4, "batch_size": 3, "max_length": 16}
    return TuningSettings.model_validate({**values, **adapter, **changes})


def tune(
    model: EditableModel, parent: Checkpoint, chosen: TuningSettings, *, seed: int = 0, resume: Checkpoint | None = None
) -> list[Checkpoint]:
    texts = [TuningText(text) for text in TEXTS]
    return list(run_tuning("c", model, parent, texts, chosen, places=LAYERS, seed=seed, resume=resume))


def same(left: Checkpoint, right: Checkpoint) -> bool:
    parts = [(left.weights, right.weights), (left.tuned, right.tuned), (left.state.tensors, right.state.tensors)]
    return all(
        one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one) for one, other in parts
    )


@pytest.mark.parametrize("editor", ["ft", "neuraldb", "memit+prune"])
@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_resumed_from_storage_it_is_the_same_bit_for_bit(editor: str, method: str, tmp_path: object) -> None:
    model, storage = tiny_model("gpt2"), Storage(str(tmp_path))
    parent = run(editor, model)[-1]
    chosen = settings(method, schedule="cosine", warmup_steps=1, max_grad_norm=1.0)
    whole = tune(model, parent, chosen)
    digest = model.weights_digest()
    write_checkpoint(whole[1], storage)
    again = tune(model, parent, chosen, resume=read_checkpoint(storage, 2))
    assert [one.steps for one in again] == [3, 4]
    assert same(again[-1], whole[-1])
    assert model.weights_digest() == digest
    assert (whole[-1].edits, whole[-1].position, whole[-1].collapsed) == (parent.edits, 4, False)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_is_tuned_changes_the_digest_and_is_taken_back(method: str, tmp_path: object) -> None:
    model, storage = tiny_model("llama"), Storage(str(tmp_path))
    base = model.weights_digest()
    parent = run("ft", model, count=2)[-1]
    edited, ids = model.weights_digest(), torch.tensor([[3, 5, 7]])
    last = tune(model, parent, settings(method))[-1]
    tuned, logits = model.weights_digest(), model.network(ids).logits
    assert len({base, edited, tuned}) == 3
    masters = model.masters()
    with unedited(model):
        assert model.weights_digest() == base
    assert model.holds(masters)
    assert model.weights_digest() == tuned
    model.restore_base()
    assert model.weights_digest() == base
    write_checkpoint(last, storage)
    installed = read_installed(storage, last.position)
    other = tiny_model("llama")
    other.load_weights(installed.weights, installed.attachment, installed.tuned)
    assert other.weights_digest() == tuned
    assert torch.equal(other.network(ids).logits, logits)
    other.load_weights(parent.weights)
    assert other.weights_digest() == edited


def test_a_site_that_is_opened_over_an_overlay_keeps_both_weights() -> None:
    model, fresh = tiny_model("gpt2"), tiny_model("gpt2")
    name = fresh.open_sites((0,))[0].name
    stored = torch.full_like(fresh.network.get_parameter(name), 0.25)
    model.overlays.set(name, stored)
    changed = model.weights_digest()
    site = model.open_sites((0,))[0]
    assert torch.equal(model.base_weight(site), fresh.base_weight(site))
    assert torch.equal(model.weight(site), site.canonical(stored))
    assert model.weights_digest() == changed
    assert not model.overlays.masters
    model.restore_base()
    assert model.weights_digest() == fresh.weights_digest()


@pytest.mark.parametrize(("layers", "own"), [("edited", {1}), ("others", {0, 2}), ("all", {0, 1, 2})])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_only_the_layers_that_are_named_move(method: str, layers: str, own: set[int]) -> None:
    model = tiny_model("llama")
    parent = run("ft", model, count=2)[-1]
    before = {name: parameter.detach().clone() for name, parameter in model.network.named_parameters()}
    tune(model, parent, settings(method, layers=layers))
    moved = {name for name, value in model.network.named_parameters() if not torch.equal(value, before[name])}
    places = {int(name.split(".")[2]) if ".layers." in name else -1 for name in moved}
    assert places == own | ({-1} if (method, layers) == ("full", "all") else set())
    if method == "lora":
        assert all(name.endswith("_proj.weight") for name in moved)


def test_modules_are_chosen_by_the_last_part_of_their_names() -> None:
    model = tiny_model("llama")
    parent = run("ft", model, count=2)[-1]
    last = tune(model, parent, settings(modules=["q_proj", "v_proj"]))[-1]
    assert {name.split(".")[-2] for name in last.tuned} == {"q_proj", "v_proj"}
    assert len(last.tuned) == 6
    with pytest.raises(InputError, match="'qq_proj'") as fault:
        tune(model, parent, settings(modules=["qq_proj"]))
    assert "q_proj" in str(fault.value.remedy)


def test_weights_that_stop_being_finite_end_it() -> None:
    model = tiny_model("llama")
    found = tune(model, run("ft", model, count=2)[-1], settings("full", lr=1e38))
    assert found[-1].collapsed
    assert len(found) < 4
    assert not any(one.collapsed for one in found[:-1])
    assert tune(model, run("ft", model, count=2)[-1], settings("full", lr=1e38), resume=found[-1]) == []


def test_every_text_is_read_once_in_an_epoch() -> None:
    for count, size in ((5, 2), (4, 4), (3, 7)):
        steps = [step_places(count, 3, step, size) for step in range(1, 9)]
        flat = [place for places in steps for place in places]
        slow = [place for epoch in range(len(flat) // count + 1) for place in epoch_order(count, 3, epoch)]
        assert flat == slow[: len(flat)]
        assert all(len(places) == size for places in steps)
    assert epoch_order(20, 0, 0) != epoch_order(20, 0, 1) != epoch_order(20, 1, 0)


@pytest.mark.parametrize("adds_bos", [False, True])
def test_answers_are_predicted_and_prompts_are_read(adds_bos: bool) -> None:
    words = tokenizer(adds_bos=adds_bos)
    pair = encode_text(words, TuningText("Harbel.", "Mira Solen lives in"), 64)
    assert words.decode(pair.ids[pair.first :]) == " Harbel."
    assert pair.ids[0] == (0 if adds_bos else pair.ids[0])
    whole = encode_text(words, TuningText("Mira Solen lives in Harbel."), 64)
    assert whole.ids == pair.ids
    assert whole.first == 1
    cut = encode_text(words, TuningText("Mira Solen lives in Harbel."), 4)
    assert cut.ids == whole.ids[:4]
    assert cut.predicted == 3
    assert encode_text(words, TuningText("Harbel.", "Mira Solen lives in"), 3).predicted == 0


def test_nothing_to_predict_is_refused() -> None:
    model = tiny_model("llama")
    parent = run("ft", model, count=2)[-1]
    texts = [TuningText("Harbel.", "Mira Solen lives in the town of")]
    with pytest.raises(InputError, match="predict"):
        list(run_tuning("c", model, parent, texts, settings(max_length=2), places=LAYERS, seed=0, resume=None))


def test_rates_follow_their_schedule() -> None:
    linear = settings(steps=6, warmup_steps=2, schedule="linear", lr=1.0)
    assert [round(linear.rate(step), 6) for step in range(1, 7)] == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    cosine = settings(steps=4, schedule="cosine", lr=2.0)
    assert cosine.rate(1) == 2.0
    assert abs(cosine.rate(3) - 1.0) < 1e-12
    assert settings().rate(4) == settings().lr


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"method": "full"}, "rank"),
        ({"rank": None}, "needs `rank`"),
        ({"warmup_steps": 4}, "less than steps"),
        ({"lr": 0}, "greater than 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, object], what: str) -> None:
    given = {"method": "lora", "rank": 2, "alpha": 4, "layers": "all", "lr": 1.0, "steps": 4, "batch_size": 1}
    with pytest.raises(ValueError, match=what):
        TuningSettings.model_validate({**given, "max_length": 8, **changes})
