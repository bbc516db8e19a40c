"""What every row of the method table must do, on both ways of storing a weight."""

import functools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from method_parts import editor, likelihood, places
from method_parts import run as run_method
from tiny_models import CONTEXTS, requests, tiny_model, tokenizer

from sphere_core.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from sphere_core.foundation.storage import Storage
from sphere_core.foundation.work_progress import Position
from sphere_core.methods import EDITORS, example_names
from sphere_core.models import EditableModel
from sphere_core.trajectory import run_trajectory

FAMILIES = ["llama", "gpt2"]
COMBINED = ["memit+rect+sphere", "memit+prune+sphere", "memit_seq+rect+error_feedback", "alphaedit+nas+sphere+gate"]
COMBINED += ["memit@forward", "nse@forward", "alphaedit+nas+sphere@forward"]
# Editors that hold at any matrix of the MLP.
COMBINED += ["ultraedit+sphere@sites", "ft+prune@sites"]
ATTACHED = [name for name, row in EDITORS.items() if row.attaches]
# What says nothing of the facts on a random model.
READ_NOTHING = ("retrieve", "serac", "neurons")
# Editors of mixtures have more tests of their own (editors/test_moeedit.py).
OF_EXPERTS = [name for name in example_names() if EDITORS[name.split("+")[0]].on_experts == "only"]
# The unedited model changes nothing, so that what holds of a change says nothing of it.
WRITING = [name for name in EDITORS if name != "unedited" and name not in OF_EXPERTS]
COMBINATIONS = [name for name in example_names()[len(EDITORS) :] if name not in OF_EXPERTS]
# Every editor; every regularizer on an editor of each scope; and chains.
ROWS = [*WRITING, *(name for name in example_names() if name.startswith(("memit+", "alphaedit+"))), *COMBINED]


def generators() -> tuple[object, ...]:
    """The states of the process's random generators: torch's, Python's, NumPy's."""
    drawn = np.random.get_state(legacy=False)["state"]  # noqa: NPY002 - the one a careless draw would use
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), drawn["key"].tobytes(), drawn["pos"]


def same(mine: Any, theirs: Any) -> bool:
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def digest(checkpoint: Checkpoint) -> str | None:
    """The digest of what is installed beside the weights."""
    return None if checkpoint.attachment is None else checkpoint.attachment.digest


def run(method: str, model: EditableModel, **changes: Any) -> list[Checkpoint]:
    """Run a method of the table; what SimIE adds to a write hides targets that have taken few steps."""
    longer = {"v_num_grad_steps": 12} if "+simie" in method else {}
    return run_method(method, model, **longer, **changes)


@dataclass(frozen=True)
class Undisturbed:
    """Five requests in three batches on a new model: the model after them, what it was, and the checkpoints."""

    model: EditableModel
    before: Mapping[str, torch.Tensor]
    likelihood: float
    drew: bool
    checkpoints: list[Checkpoint]
    # How far the batch under way was, at every sign of life.
    positions: list[Position | None]


def run_undisturbed(method: str, family: str) -> Undisturbed:
    model = tiny_model(family)
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    start, drawn = likelihood(model, 2), generators()
    positions: list[Position | None] = []
    model.progress.listen(lambda: positions.append(model.progress.position))
    checkpoints = run(method, model)
    model.progress.listen(None)
    return Undisturbed(model, before, start, generators() != drawn, checkpoints, positions)


@pytest.fixture(scope="module")
def undisturbed() -> Callable[[str, str], Undisturbed]:
    """The run of a method on a family, made once for all tests that compare with it."""
    return functools.cache(run_undisturbed)


@pytest.fixture(scope="module")
def lent() -> list[EditableModel]:
    """The one network of a process, as its last borrower left it: two methods at first, then one test after another."""
    used = tiny_model("llama")
    run("alphaedit+sphere", used)
    run("ft", used, layers=[0])
    return [used]


@pytest.mark.parametrize(
    ("method", "family"),
    [(name, "llama") for name in [*WRITING, *COMBINATIONS, *COMBINED]]
    + [(name, "gpt2") for name in ROWS]
    + [(name, "qwen3_moe") for name in OF_EXPERTS],
)
def test_edits_raise_the_new_target_and_touch_only_the_declared_sites(
    method: str, family: str, undisturbed: Callable[[str, str], Undisturbed]
) -> None:
    done = undisturbed(method, family)
    model = done.model
    model.load_weights(done.checkpoints[0].weights, done.checkpoints[0].attachment)
    if EDITORS[method.partition("@")[0].split("+")[0]].writes_requests and method not in READ_NOTHING:
        # A random model does not read what is put before a prompt, and random neurons know no fact.
        assert likelihood(model, 2) > done.likelihood + 0.01
    after = model.network.state_dict()
    changed = {name for name in done.before if not torch.equal(done.before[name], after[name])}
    sites = {site.name for site in model.open_sites(places(method))}
    assert changed == (set() if method in ATTACHED else sites)
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_the_unedited_model_goes_through_batches_as_it_is(undisturbed: Callable[[str, str], Undisturbed]) -> None:
    done = undisturbed("unedited", "llama")
    assert [one.edits for one in done.checkpoints] == [2, 4, 5]
    assert not done.drew
    after = done.model.network.state_dict()
    assert all(torch.equal(done.before[name], after[name]) for name in done.before)


@pytest.mark.parametrize("method", ROWS)
def test_a_batch_shows_how_far_it_is(method: str, undisturbed: Callable[[str, str], Undisturbed]) -> None:
    # A driver takes a worker without a sign of life for hung: every editor gives several per batch.
    done = undisturbed(method, "gpt2")
    assert len(done.positions) >= 3 * len(done.checkpoints)
    reported = [position for position in done.positions if position is not None]
    assert all(0 <= position.done <= position.of for position in reported)
    # Training may end before its last epoch.
    ended = {position.stage for position in reported if position.done == position.of or position.stage == "training"}
    assert ended & {"writing", "training", "gradients", "features", "memory", "targets"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ROWS)
def test_saved_and_loaded_in_the_middle_is_bit_equal(
    tmp_path: Path, family: str, method: str, undisturbed: Callable[[str, str], Undisturbed]
) -> None:
    done = undisturbed(method, family)
    whole = done.checkpoints
    assert [checkpoint.edits for checkpoint in whole] == [2, 4, 5]
    # Nothing has drawn a number: there is no state of a generator for a checkpoint to carry.
    assert not done.drew
    write_checkpoint(whole[0], Storage(tmp_path))
    resumed = run(method, tiny_model(family), resume=read_checkpoint(Storage(tmp_path), 2))
    assert same(resumed[-1].weights, whole[-1].weights)
    assert same(resumed[-1].raw, whole[-1].raw)
    assert digest(resumed[-1]) == digest(whole[-1])
    assert same(resumed[-1].state.tensors, whole[-1].state.tensors)
    assert resumed[-1].state.scalars == whole[-1].state.scalars


@pytest.mark.parametrize("method", ROWS)
def test_what_ran_before_in_the_process_does_not_matter(
    method: str, undisturbed: Callable[[str, str], Undisturbed], lent: list[EditableModel]
) -> None:
    # What a replica does between two trajectories: the same network, given back and lent again.
    used = lent.pop()
    used.restore_base()
    lent.append(EditableModel(used.network, used.tokenizer, used.family, base_digest=used.base_digest))
    alone = undisturbed(method, "llama").checkpoints[-1]
    done = run(method, lent[0])[-1]
    assert same(done.weights, alone.weights)
    assert digest(done) == digest(alone)


@pytest.mark.parametrize("method", ROWS)
def test_what_changes_a_logit_changes_the_digest(method: str, undisturbed: Callable[[str, str], Undisturbed]) -> None:
    done = undisturbed(method, "llama")
    model, ids = (
        done.model,
        torch.tensor([[0, *tokenizer(adds_bos=False)("Mira Solen lives in the town of").input_ids]]),
    )
    model.restore_base()
    seen = {}
    for checkpoint in [None, *done.checkpoints]:
        if checkpoint is not None:
            model.load_weights(checkpoint.weights, checkpoint.attachment)
        with torch.no_grad(), model.reading(ends=torch.tensor([ids.shape[1]])):
            read = torch.tensor([model.rewritten(tuple(ids[0].tolist()), ids.shape[1])])
            answer = model.network(input_ids=read).logits[:, -1].numpy().tobytes()
        assert seen.setdefault(model.weights_digest(), answer) == answer
    # The edited prompt itself: its logits did change.
    assert len(set(seen.values())) > 1
    model.restore_base()
    assert model.weights_digest() in seen


@pytest.mark.parametrize("method", [name for name in WRITING if name not in ("rome", "r_rome", *ATTACHED)])
def test_order_inside_a_batch_does_not_matter_to_batch_editors(method: str) -> None:
    results = []
    for order in (list(range(5)), [3, 0, 4, 2, 1]):
        model = tiny_model("llama")
        shuffled = [requests()[index] for index in order]
        # One optimisation group and one gradient chunk, so that only the order differs.
        built = editor(method, model, batch_size=5)
        stream = run_trajectory("t", built, model, shuffled, batch_size=5, contexts=CONTEXTS, resume=None)
        results.append(next(stream).weights)
    base = tiny_model("llama").network.state_dict()
    for name in (site.name for site in tiny_model("llama").open_sites(places(method))):
        moved = (results[0][name] - base[name]).norm()
        assert float((results[0][name] - results[1][name]).norm() / moved) < 2e-3


@pytest.mark.parametrize("method", ROWS)
def test_collapse_is_a_result(method: str) -> None:
    model = tiny_model("llama")
    stream = run_trajectory("t", editor(method, model), model, requests(), batch_size=2, contexts=CONTEXTS, resume=None)
    assert not next(stream).collapsed
    with torch.no_grad():
        model.network.get_input_embeddings().weight.fill_(torch.inf)
    second = next(stream)
    # A gate may refuse the batch that would have collapsed the weights; an experiment reads no embedding, SERAC that of
    # another model, and neurons come from a file.
    assert second.collapsed or "gate" in method or method in ("truncate", "perturb", "unedited", "serac", "neurons")
