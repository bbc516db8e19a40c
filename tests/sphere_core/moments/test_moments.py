"""Second moments: one pass over all sites against a loop over tokens, interruptions, shards, files, what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import TEXTS, tiny_model

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.models import EditableModel
from sphere_core.moments.build import build_second_moments
from sphere_core.moments.files import read_moments, write_moments
from sphere_core.moments.null_space import null_space
from sphere_core.moments.packing import Amount, Cursor, Packing, Pass
from sphere_core.moments.record import SecondMoments, check_moments
from sphere_core.moments.sums import Kept, KeptInFile, Running

# Small enough that a few dozen texts make several windows and groups.
SMALL = Packing(12, forward_tokens=48, window_texts=4, group_tokens=32, group_windows=2)
MANY = TEXTS * 9


def token_loop(model: EditableModel, layer: int, texts: list[str], limit: int) -> tuple[torch.Tensor, int]:
    """One text at a time, one token at a time, one site a pass, float64."""
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


def built(
    model: EditableModel, amount: Amount | None = None, *, packing: Packing = SMALL, kept: Kept | None = None
) -> SecondMoments:
    work = Pass((0, 2), packing, amount or Amount(texts=len(MANY)))
    return build_second_moments(model, work, MANY, provenance={"corpus": "test"}, kept=kept)


@pytest.mark.parametrize(
    ("family", "dtype", "error"),
    [
        ("llama", torch.float64, 1e-10),
        ("gpt2", torch.float64, 1e-10),
        ("llama", torch.float32, 1e-6),
        ("gpt2", torch.float32, 1e-6),
    ],
)
def test_one_pass_over_all_sites_equals_a_loop_over_tokens(family: str, dtype: torch.dtype, error: float) -> None:
    model = tiny_model(family)
    torch.nn.Module.to(model.network, dtype)
    found = built(model)
    assert found.provenance["model_digest"] == model.base_digest
    for layer in (0, 2):
        expected, count = token_loop(model, layer, MANY, 12)
        assert found.count == count
        assert float((found.by_layer[layer] - expected).norm() / expected.norm()) < error


def test_a_number_of_tokens_is_met_exactly() -> None:
    model = tiny_model("llama")
    found = built(model, Amount(tokens=131))
    assert found.count == found.provenance["tokens"] == 131
    rows = [model.tokenizer(text)["input_ids"][:12] for text in MANY]
    kept, whole = 0, 0
    while kept + len(rows[whole]) <= 131:
        kept, whole = kept + len(rows[whole]), whole + 1
    expected, count = token_loop(model, 0, MANY[:whole], 12)
    rest, last = token_loop(model, 0, [MANY[whole]], 131 - kept)
    assert (count, last) == (kept, 131 - kept)
    whole_sum = (expected * count + rest * last) / 131
    assert float((found.by_layer[0] - whole_sum).norm() / whole_sum.norm()) < 1e-6


@pytest.mark.parametrize("amount", [Amount(texts=len(MANY)), Amount(tokens=131)])
def test_a_pass_says_how_far_it_is_inside_a_window(amount: Amount) -> None:
    # One window holds all texts, as a corpus of short ones does: without this it would be silent to its end.
    packing = Packing(12, forward_tokens=48, window_texts=len(MANY))
    seen: list[Cursor] = []
    work = Pass((0,), packing, amount)
    found = build_second_moments(tiny_model("llama"), work, MANY, provenance={}, on_progress=seen.append)
    tokens = [cursor.tokens for cursor in seen]
    assert len(tokens) > 3
    assert tokens == sorted(tokens)
    assert [cursor.texts for cursor in seen] == sorted(cursor.texts for cursor in seen)
    assert tokens[-1] == found.count
    assert tokens[0] <= 48


class Killed(BaseException):
    """What ends a process without any clean-up of ours."""


class DiesAfter(KeptInFile):
    """Dies after so many windows, the sums kept."""

    windows = 0

    def keep(self, running: Running) -> None:
        super().keep(running)
        self.windows -= 1
        if self.windows == 0:
            raise Killed


@pytest.mark.parametrize("amount", [Amount(texts=len(MANY)), Amount(tokens=300)])
def test_a_pass_that_was_killed_resumes_with_equal_bits(tmp_path: Path, amount: Amount) -> None:
    model, storage = tiny_model("llama"), Storage(tmp_path)
    whole = built(model, amount).digest
    identity = {"model": model.base_digest, "amount": amount.identity()}
    for windows in (1, 3, 2):
        dies = DiesAfter(storage, "partial.safetensors", identity, every_seconds=0.0)
        dies.windows = windows
        with pytest.raises(Killed):
            built(model, amount, kept=dies)
    last = KeptInFile(storage, "partial.safetensors", identity, every_seconds=0.0)
    running = last.load()
    assert running is not None
    assert running.cursor.window == 6
    assert running.finished.count > 0
    assert built(model, amount, kept=last).digest == whole
    # The sums of another corpus, or a file that is no such file, are not gone on from.
    assert KeptInFile(storage, "partial.safetensors", {"model": "other"}, every_seconds=0.0).load() is None
    (tmp_path / "partial.safetensors").write_bytes(b"half a file")
    assert last.load() is None


def test_files_round_trip_and_npz_is_read(tmp_path: Path) -> None:
    model = tiny_model("llama")
    moments = built(model)
    ours = tmp_path / "moments.safetensors"
    write_moments(moments, ours)
    again = read_moments(ours)
    assert again.digest == moments.digest
    assert again.count == moments.count
    assert again.provenance == moments.provenance
    npz = tmp_path / "moments.npz"
    arrays = {f"layer{layer}": moment.numpy() for layer, moment in moments.by_layer.items()}
    np.savez(npz, **arrays, count=moments.count)
    assert read_moments(npz).digest == moments.digest
    check_moments(again, model.open_sites([0, 2]), where="test", model_digest=model.base_digest)
    with pytest.raises(InputError, match=r"another model or tokenizer.*llama-0-3.*llama-1-3"):
        check_moments(again, model.open_sites([0]), where="test", model_digest="llama-1-3")


def test_wrong_moments_are_refused(tmp_path: Path) -> None:
    model = tiny_model("llama")
    path = tmp_path / "moments.npz"

    def check(layer: int) -> None:
        check_moments(read_moments(path), model.open_sites([layer]), where=str(path), model_digest=model.base_digest)

    np.savez(path, layer0=np.eye(5), layer1=np.ones((72, 72)))
    with pytest.raises(InputError, match=r"layer 0 is \(5, 5\).*72 inputs"):
        check(0)
    with pytest.raises(InputError, match="no second moment for layer 2"):
        check(2)
    np.savez(path, layer0=np.ones((5, 4)))
    with pytest.raises(InputError, match="must be square"):
        read_moments(path)
    (tmp_path / "broken.npz").write_bytes(b"not an archive")
    with pytest.raises(InputError, match="not an npz file"):
        read_moments(tmp_path / "broken.npz")
    with pytest.raises(InputError, match="not found"):
        read_moments(tmp_path / "nowhere.npz")
    with pytest.raises(InputError, match="the corpus ends after 36 texts"):
        built(model, Amount(texts=37))
    with pytest.raises(InputError, match="the corpus ends after 36 texts with"):
        built(model, Amount(tokens=10_000))
    with pytest.raises(InputError, match="either a number of tokens or"):
        Amount()


def test_a_null_space_from_a_file_gives_the_bits_of_one_just_computed(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    keys = torch.randn(40, 60, generator=generator, dtype=torch.float64)
    moments = {0: keys.T @ keys / 40, 1: keys[:9].T @ keys[:9] / 9}  # thin outside, thin inside
    spaces = {layer: null_space(moment, threshold=1e-6, share=None) for layer, moment in moments.items()}
    write_moments(SecondMoments({}, 40, {}, spaces), tmp_path / "spaces.safetensors")
    read = read_moments(tmp_path / "spaces.safetensors").null_spaces
    columns = torch.randn(60, 7, generator=generator, dtype=torch.float64)
    assert spaces[0].complement is False
    assert spaces[1].complement is True
    for layer, space in spaces.items():
        assert read[layer].complement == space.complement
        assert torch.equal(read[layer].basis, space.basis)
        assert read[layer].basis.stride() == space.basis.stride()
        assert torch.equal(read[layer].project(columns), space.project(columns))
