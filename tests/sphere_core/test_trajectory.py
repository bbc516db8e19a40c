"""Trajectories: bit-equal resume, independence of what else ran, and collapse as a result."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from tiny_models import CONTEXTS, LAYERS, requests, tiny_model

from sphere_core.checkpoint_files import MANIFEST, STATE, checkpoint_file, checkpoints_in, read_manifest
from sphere_core.checkpoints import Checkpoint, latest_checkpoint, read_checkpoint, read_installed, write_checkpoint
from sphere_core.editors.base import Editor
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments
from sphere_core.trajectory import run_trajectory

METHODS = ["memit", "memit+sphere", "alphaedit", "alphaedit+sphere"]


def moments(model: EditableModel) -> SecondMoments:
    generator = torch.Generator().manual_seed(9)
    by_layer = {}
    for site in model.open_sites(LAYERS):
        samples = torch.randn(site.d_in, 4 * site.d_in, generator=generator, dtype=torch.float64)
        by_layer[site.layer] = samples @ samples.T / samples.shape[1]
    return SecondMoments(by_layer, 1, {})


def editor(method: str, model: EditableModel, **changes: object) -> Editor:
    values = {
        "layers": list(LAYERS),
        "v_lr": 0.2,
        "v_num_grad_steps": 5,
        "v_weight_decay": 0.1,
        "clamp_norm_factor": 0.9,
        "kl_factor": 0.0625,
        "mom2_update_weight": 5.0,
        "nullspace_share": 0.7,
        "L2": 0.5,
        "energy_ratio": 0.5,
        "strength": 0.6,
        **changes,
    }
    resolved = resolve_method(method)
    hyperparameters = build_hyperparameters(values, where="test")
    resolved.check(hyperparameters, where="test")
    return resolved.build(hyperparameters, moments(model))


def run(method: str, model: EditableModel, resume: Checkpoint | None = None, **changes: object) -> list[Checkpoint]:
    stream = requests()
    return list(
        run_trajectory(
            "t", editor(method, model, **changes), model, stream, batch_size=2, contexts=CONTEXTS, resume=resume
        )
    )


def assert_same(found: Checkpoint, expected: Checkpoint) -> None:
    assert found.edits == expected.edits
    assert found.contexts == expected.contexts
    for mine, theirs in ((found.weights, expected.weights), (found.state.tensors, expected.state.tensors)):
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert torch.equal(mine[name], theirs[name]), name


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("method", METHODS)
def test_resumed_from_disk_is_bit_equal(tmp_path: Path, family: str, method: str) -> None:
    storage = Storage(tmp_path)
    whole = run(method, tiny_model(family))
    assert [checkpoint.edits for checkpoint in whole] == [2, 4, 5]
    for checkpoint in whole[:-1]:
        write_checkpoint(checkpoint, storage)
        resumed = run(method, tiny_model(family), resume=read_checkpoint(storage, checkpoint.edits))
        assert_same(resumed[-1], whole[-1])


@pytest.mark.parametrize("method", ["alphaedit", "memit_seq"])
def test_a_checkpoint_of_the_first_release_is_resumed_with_the_same_bits(tmp_path: Path, method: str) -> None:
    """It holds the history's factor as a square."""
    storage, whole = Storage(tmp_path), run(method, tiny_model("llama"))
    write_checkpoint(whole[0], storage)
    square = {name.replace(".lower", ""): tensor for name, tensor in whole[0].state.tensors.items()}
    assert square.keys() != whole[0].state.tensors.keys()
    data = save({name: tensor.contiguous().clone() for name, tensor in square.items()})
    storage.write_bytes(checkpoint_file(2, STATE), data)
    manifest = read_manifest(storage, 2)
    digests = {**manifest.files, STATE: hashlib.sha256(data).hexdigest()}
    storage.write_bytes(checkpoint_file(2, MANIFEST), replace(manifest, files=digests).encode())
    resumed = run(method, tiny_model("llama"), resume=read_checkpoint(storage, 2))
    assert_same(resumed[-1], whole[-1])


@pytest.mark.parametrize("method", METHODS)
def test_what_ran_before_in_the_process_does_not_matter(method: str) -> None:
    alone = run(method, tiny_model("llama"))[-1]
    used = tiny_model("llama")
    run("alphaedit+sphere", used)
    run("memit", tiny_model("gpt2"))
    assert_same(run(method, used)[-1], alone)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("method", METHODS)
def test_edits_raise_the_new_target_and_change_nothing_else(family: str, method: str) -> None:
    model = tiny_model(family)
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    start = mean_log_probability(model)
    strong = {"v_num_grad_steps": 20, "v_lr": 0.3, "mom2_update_weight": 1e-3, "L2": 1e-3, "clamp_norm_factor": 2.0}
    stream = run_trajectory(
        "t", editor(method, model, **strong), model, requests(), batch_size=2, contexts=CONTEXTS, resume=None
    )
    first = next(stream)
    assert mean_log_probability(model) > start + 0.3  # nats; random weights have little room
    changed = {name for name, tensor in model.network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == set(first.weights)


def mean_log_probability(model: EditableModel) -> float:
    """Of the new targets of the first batch."""
    values = []
    for request in requests()[:2]:
        ids = model.tokenizer(request.question)["input_ids"]
        target = model.tokenizer(" " + request.target_new, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logs = model.network(input_ids=torch.tensor([ids + target]), use_cache=False).logits[0].log_softmax(-1)
        places = torch.arange(len(ids) - 1, len(ids) + len(target) - 1)
        values.append(float(logs[places, torch.tensor(target)].mean()))
    return sum(values) / len(values)


@pytest.mark.parametrize("method", METHODS)
def test_collapse_ends_the_trajectory_as_a_result(method: str) -> None:
    model = tiny_model("llama")
    stream = run_trajectory("t", editor(method, model), model, requests(), batch_size=2, contexts=CONTEXTS, resume=None)
    assert not next(stream).collapsed
    # What a diverging sequence ends in: an overflow somewhere below the edited layers.
    with torch.no_grad():
        model.network.get_input_embeddings().weight.fill_(torch.inf)
    collapsed = next(stream)
    assert collapsed.collapsed
    assert collapsed.edits == 4
    assert next(stream, None) is None


def test_weights_are_read_without_the_state_but_not_from_half_a_checkpoint(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for checkpoint in run("alphaedit+sphere", tiny_model("llama")):
        write_checkpoint(checkpoint, storage)
    whole = read_checkpoint(storage, 2)
    state = tmp_path / "000002" / "state.safetensors"
    # Its bytes are not read: damage there concerns a resume.
    state.write_bytes(b"damaged")
    found = read_installed(storage, 2).weights
    assert found.keys() == whole.weights.keys()
    assert all(torch.equal(found[name], weight) for name, weight in whole.weights.items())
    with pytest.raises(InputError, match="does not match the digest"):
        read_checkpoint(storage, 2)
    state.unlink()
    with pytest.raises(FileNotFoundError, match="state"):
        read_installed(storage, 2)
    weights = tmp_path / "000004" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match="does not match the digest"):
        read_installed(storage, 4)


def test_a_checkpoint_without_manifest_is_none_and_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for checkpoint in run("alphaedit", tiny_model("llama")):
        write_checkpoint(checkpoint, storage)
    assert checkpoints_in(storage) == [2, 4, 5]
    (tmp_path / "000005" / "manifest.json").unlink()
    assert checkpoints_in(storage) == [2, 4]
    weights = tmp_path / "000004" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(InputError, match="does not match the digest"):
        read_checkpoint(storage, 4)
    latest = latest_checkpoint(storage)
    assert latest is not None
    assert latest.edits == 2


def test_written_twice_has_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        for checkpoint in run("alphaedit+sphere", tiny_model("gpt2")):
            write_checkpoint(checkpoint, Storage(tmp_path / folder))
    first = sorted(path for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(first) == 9
    for path in first:
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
