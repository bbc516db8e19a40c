"""Second moments: one pass over all sites against a loop over tokens, files, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import TEXTS, tiny_model

from sphere_core.errors import InputError
from sphere_core.locate.moments import build_second_moments, check_moments, encode_moments, read_moments
from sphere_core.models import EditableModel


def token_loop(model: EditableModel, layer: int, texts: list[str], limit: int) -> tuple[torch.Tensor, int]:
    """One text at a time, one token at a time, float64."""
    site = model.open_sites([layer])[0]
    module = model.network.get_submodule(site.module_path)
    total, count = torch.zeros(site.d_in, site.d_in, dtype=torch.float64), 0
    for text in texts:
        seen: list[torch.Tensor] = []
        handle = module.register_forward_pre_hook(lambda _, args, keep=seen: keep.append(args[0]))
        with torch.no_grad():
            model.network(input_ids=torch.tensor([model.tokenizer(text)["input_ids"][:limit]]), use_cache=False)
        handle.remove()
        for key in seen[0][0].double():
            total += torch.outer(key, key)
            count += 1
    return total / count, count


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_one_pass_over_all_sites_equals_a_loop_over_tokens(family: str) -> None:
    model = tiny_model(family)
    texts = TEXTS * 3
    done: list[int] = []
    found = build_second_moments(
        model, [0, 2], texts, max_tokens_per_text=12, provenance={"corpus": "test"}, on_progress=done.append
    )
    assert done[-1] == len(texts)
    assert found.provenance["model_digest"] == model.base_digest
    for layer in (0, 2):
        expected, count = token_loop(model, layer, texts, 12)
        assert found.count == count
        # Products inside one forward are fp32.
        assert float((found.by_layer[layer] - expected).norm() / expected.norm()) < 1e-6


def test_files_round_trip_and_npz_is_imported(tmp_path: Path) -> None:
    model = tiny_model("llama")
    built = build_second_moments(model, [0, 1], TEXTS, max_tokens_per_text=64, provenance={"corpus": "test"})
    ours = tmp_path / "moments.safetensors"
    ours.write_bytes(encode_moments(built))
    again = read_moments(ours)
    assert again.digest == built.digest
    assert again.count == built.count
    assert again.provenance == built.provenance
    npz = tmp_path / "moments.npz"
    np.savez(npz, layer0=built.by_layer[0].numpy(), layer1=built.by_layer[1].numpy(), count=built.count)
    assert read_moments(npz).digest == built.digest
    check_moments(again, model.open_sites([0, 1]), where="test")


def test_wrong_moments_are_refused(tmp_path: Path) -> None:
    model = tiny_model("llama")
    path = tmp_path / "moments.npz"
    np.savez(path, layer0=np.eye(5), layer1=np.ones((72, 72)))
    with pytest.raises(InputError, match=r"layer 0 is \(5, 5\).*72 inputs"):
        check_moments(read_moments(path), model.open_sites([0]), where=str(path))
    with pytest.raises(InputError, match="no second moment for layer 2"):
        check_moments(read_moments(path), model.open_sites([2]), where=str(path))
    np.savez(path, layer0=np.ones((5, 4)))
    with pytest.raises(InputError, match="must be square"):
        read_moments(path)
    (tmp_path / "broken.npz").write_bytes(b"not an archive")
    with pytest.raises(InputError, match="not a readable npz"):
        read_moments(tmp_path / "broken.npz")
    with pytest.raises(InputError, match="not found"):
        read_moments(tmp_path / "nowhere.npz")
    with pytest.raises(InputError, match="no text"):
        build_second_moments(model, [0], [], max_tokens_per_text=8, provenance={})
