"""What is installed on a model beside its weights: one place, one digest, and nothing that nobody declared."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_model
from torch import nn

from sphere_core.checkpoint_files import checkpoint_file
from sphere_core.checkpoints import Checkpoint, EditorState, read_checkpoint, read_installed, write_checkpoint
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.models import EditableModel
from sphere_core.models.attachments import Attachment
from workflows.replicas.loaded_model import ReplicaModel

IDS = torch.tensor([[0, 5, 9, 20, 33, 7]])


def table(*, seed: int = 0, threshold: float = -1.0, width: int = 72, out: int = 32) -> Attachment:
    """A table of three facts; below every cosine, so that each token is answered from it."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        "keys": torch.randn(3, width, generator=generator),
        "residuals": torch.randn(3, out, generator=generator),
        "facts": torch.arange(3),
        "cases": torch.arange(3),
    }
    return Attachment("neuraldb", tensors, {"layer": 1, "threshold": threshold})


def logits(model: EditableModel) -> torch.Tensor:
    with torch.no_grad():
        return model.network(input_ids=IDS).logits


def add_hook(network: nn.Module) -> None:
    network.get_submodule("model.layers.0.mlp").register_forward_hook(lambda _, __, out: out + 1)


def add_input_hook(network: nn.Module) -> None:
    network.get_submodule("model.layers.0").register_forward_pre_hook(lambda _, args: args)


def wrap_forward(network: nn.Module) -> None:
    module = network.get_submodule("lm_head")
    inner = module.forward
    module.forward = lambda hidden: inner(hidden) * 2  # type: ignore[method-assign]


def replace_module(network: nn.Module) -> None:
    old = network.get_submodule("model.layers.1.mlp.down_proj")
    network.get_submodule("model.layers.1.mlp").down_proj = nn.Linear(old.in_features, old.out_features, bias=False)


def add_module(network: nn.Module) -> None:
    network.get_submodule("model").adapter = nn.Linear(2, 2)


def test_an_attachment_changes_answers_and_digest_and_leaves_nothing_behind() -> None:
    model = tiny_model("llama")
    before, digest = logits(model), model.weights_digest()
    model.attach(table())
    changed, with_table = logits(model), model.weights_digest()
    assert not torch.equal(changed, before)
    assert with_table != digest
    model.attach(table(seed=1))
    assert model.weights_digest() not in (digest, with_table)
    with model.detached():
        assert torch.equal(logits(model), before)
        assert model.weights_digest() == digest
    model.attach(table())
    assert torch.equal(logits(model), changed)
    assert model.weights_digest() == with_table
    model.restore_base()
    assert model.attachment is None
    assert torch.equal(logits(model), before)
    assert model.weights_digest() == digest


def test_weights_and_attachment_are_both_in_the_digest() -> None:
    model = tiny_model("llama")
    (site,) = model.open_sites([0])
    model.set_weight(site, model.weight(site) + 0.1)
    weights = model.edited_weights()
    digests = set()
    for stored in ({}, weights):
        for attachment in (None, table()):
            model.load_weights(stored, attachment)
            digests.add(model.weights_digest())
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (add_hook, r"model\.layers\.0\.mlp"),
        (add_input_hook, r"model\.layers\.0"),
        (wrap_forward, "lm_head"),
        (replace_module, r"model\.layers\.1\.mlp\.down_proj"),
        (add_module, r"model\.adapter"),
    ],
)
def test_what_nobody_declared_is_refused(change: Callable[[nn.Module], None], where: str) -> None:
    model = tiny_model("llama")
    model.attach(table())
    change(model.network)
    with pytest.raises(InputError, match=where):
        model.weights_digest()


def test_hooks_that_only_read_hidden_states_are_allowed() -> None:
    model = tiny_model("llama")
    digest = model.weights_digest()
    with torch.no_grad():
        assert len(model.network(input_ids=IDS, output_hidden_states=True).hidden_states) == 4
    assert model.weights_digest() == digest


def test_a_replica_refuses_a_model_that_still_carries_something(monkeypatch: pytest.MonkeyPatch) -> None:
    class Spec:
        model, model_digest, dtype, revision, remote_code, family = "tiny", "llama-0-3", "float32", None, False, None

    loads = []

    def load(*_: object, **__: object) -> EditableModel:
        loads.append(tiny_model("llama"))
        return loads[-1]

    monkeypatch.setattr("workflows.replicas.loaded_model.load_model", load)
    replica = ReplicaModel("cpu")
    with replica.lent(Spec(), [1]) as model:
        model.attach(table())
        assert not torch.equal(logits(model), logits(tiny_model("llama")))
    with replica.lent(Spec(), [1]) as model:
        assert torch.equal(logits(model), logits(tiny_model("llama")))
    assert len(loads) == 1
    with pytest.raises(InputError, match="a forward hook on"), replica.lent(Spec(), [1]) as model:
        add_hook(model.network)
    # The model that was returned with a hook is not lent again.
    with replica.lent(Spec(), [1]) as model:
        assert torch.equal(logits(model), logits(tiny_model("llama")))
    assert len(loads) == 2


def test_a_checkpoint_carries_it_and_one_without_has_the_bytes_it_had(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    plain = Checkpoint("t", 1, {}, EditorState(), (("{}",),), False)
    write_checkpoint(plain, storage)
    assert b"attached" not in storage.read_bytes(checkpoint_file(1, "manifest.json"))
    write_checkpoint(Checkpoint("t", 2, {}, EditorState(), (("{}",),), False, attachment=table()), storage)
    for found in (read_checkpoint(storage, 2), read_installed(storage, 2)):
        assert found.attachment is not None
        assert found.attachment.digest == table().digest
    assert read_installed(storage, 1).attachment is None
    file = tmp_path / "000002" / "attached.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"attached\.safetensors does not match the digest"):
        read_installed(storage, 2)


def test_an_unknown_kind_and_a_missing_scalar_are_refused_with_nothing_installed() -> None:
    model = tiny_model("llama")
    digest = model.weights_digest()
    with pytest.raises(InputError, match="unknown kind 'other'"):
        model.attach(Attachment("other", {}))
    with pytest.raises(InputError, match="no number 'layer'"):
        model.attach(Attachment("neuraldb", table().tensors, {}))
    assert model.attachment is None
    assert model.weights_digest() == digest


def test_readings_are_not_nested() -> None:
    model = tiny_model("llama")
    with model.reading(), pytest.raises(RuntimeError, match="being read already"), model.reading():
        pass
    assert model.row_reading is None
