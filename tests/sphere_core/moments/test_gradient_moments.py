"""Second moments of output gradients: against whole backward passes, kept, sharded and resumed as those of inputs."""

from pathlib import Path

import pytest
import torch
from tiny_models import TEXTS, tiny_model

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.locate.prompts import pad_right
from sphere_core.models import EditableModel
from sphere_core.models.activations import watched_outputs
from sphere_core.moments.build import build_second_moments, finished_moments, run_pass
from sphere_core.moments.files import read_moments, write_moments
from sphere_core.moments.gradients import inputs_and_gradients
from sphere_core.moments.packing import Amount, Packing, Pass
from sphere_core.moments.record import SecondMoments, check_moments
from sphere_core.moments.sums import Kept, KeptInFile, MomentSums, Running

PACKING = Packing(max_tokens_per_text=24, forward_tokens=48, window_texts=2, group_tokens=64, group_windows=1)
WORK = Pass((0, 1), PACKING, Amount(texts=7), gradients=True)
CORPUS = [*TEXTS, *reversed(TEXTS)]


def built(model: EditableModel, work: Pass = WORK, kept: Kept | None = None) -> SecondMoments:
    return build_second_moments(model, work, CORPUS, provenance={}, kept=kept)


def by_hand(model: EditableModel, layer: int) -> torch.Tensor:
    """S of one layer, one text at a time, by backpropagation to the site's output of the whole network's loss."""
    (site,) = model.open_sites([layer])
    total, count = torch.zeros(site.d_out, site.d_out, dtype=torch.float64), 0
    for row in model.tokenizer(CORPUS[:7], truncation=True, max_length=24)["input_ids"]:
        ids = torch.tensor([row])
        with watched_outputs(model.network, [site]) as seen:
            logits = model.network(input_ids=ids, use_cache=False).logits[0, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        slope = torch.autograd.grad(loss, seen[site][1])[0][0].double()
        total, count = total + slope.T @ slope, count + len(row)
    return total / count


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "phi3"])
def test_they_are_those_of_whole_backward_passes(family: str) -> None:
    model = tiny_model(family)
    moments = built(model)
    for layer in (0, 1):
        slow = by_hand(model, layer)
        assert torch.allclose(moments.gradients[layer], slow, rtol=1e-4, atol=1e-6 * float(slow.abs().max()))


def test_keys_are_those_of_a_pass_without_gradients_and_nothing_is_left_behind() -> None:
    model = tiny_model("llama")
    with_gradients = built(model)
    plain = built(model, Pass((0, 1), PACKING, Amount(texts=7)))
    assert not plain.gradients
    assert plain.count == with_gradients.count
    for layer, moment in plain.by_layer.items():
        assert torch.equal(moment, with_gradients.by_layer[layer])
    model.require_declared()
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert WORK.identity() != Pass((0, 1), PACKING, Amount(texts=7)).identity()


def test_padding_and_the_last_token_of_a_text_have_no_gradient() -> None:
    model = tiny_model("llama")
    sites = model.open_sites([1])
    rows = [[5, 9, 20, 33, 41], [7, 8]]
    ids, mask = pad_right(rows, fill=0, device=model.device)
    slopes = inputs_and_gradients(model, sites, ids, mask)[sites[0]][1]
    alone = [inputs_and_gradients(model, sites, *pad_right([row], fill=0, device=model.device)) for row in rows]
    assert torch.allclose(slopes, torch.cat([found[sites[0]][1] for found in alone]), atol=1e-6)
    assert torch.equal(slopes[4], torch.zeros(32))
    assert torch.equal(slopes[6], torch.zeros(32))
    assert bool(slopes[:4].any(dim=1).all())


class _Stops(Exception):
    pass


class _Killed(KeptInFile):
    """Saves after every window, and stops the pass after some of them."""

    left = 2

    def keep(self, running: Running) -> None:
        super().keep(running)
        self.left -= 1
        if not self.left:
            raise _Stops


def test_a_pass_that_was_killed_resumes_with_equal_bits(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    with pytest.raises(_Stops):
        built(tiny_model("llama"), kept=_Killed(storage, "sums", WORK.identity(), every_seconds=0))
    resumed = built(tiny_model("llama"), kept=KeptInFile(storage, "sums", WORK.identity(), every_seconds=60))
    whole = built(tiny_model("llama"))
    for layer in (0, 1):
        assert torch.equal(resumed.gradients[layer], whole.gradients[layer])
        assert torch.equal(resumed.by_layer[layer], whole.by_layer[layer])


def test_shards_add_up_to_equal_bits() -> None:
    whole, sums = built(tiny_model("llama")), MomentSums({})
    groups: dict[int, MomentSums] = {}

    class Closing(Kept):
        def close_group(self, running: Running) -> None:
            if running.current.count:
                copied = {name: total.clone() for name, total in running.current.by_name.items()}
                groups[running.cursor.group] = MomentSums(copied, running.current.count)
            running.current.clear()

    for shard in range(2):
        run_pass(
            tiny_model("llama"),
            WORK,
            CORPUS,
            kept=Closing(),
            owns=lambda group, shard=shard: group % 2 == shard,
            on_progress=lambda _: None,
        )
    assert len(groups) > 2
    for group in sorted(groups):
        sums.add(groups[group])
    added = finished_moments(sums, tiny_model("llama"), WORK, {})
    for layer in (0, 1):
        assert torch.equal(added.gradients[layer], whole.gradients[layer])


def test_files_hold_them_and_a_method_that_requires_them_says_how_to_build_them(tmp_path: Path) -> None:
    model = tiny_model("llama")
    moments, path = built(model), tmp_path / "moments.safetensors"
    write_moments(moments, path)
    again = read_moments(path)
    assert again.layers == [0, 1]
    for layer in (0, 1):
        assert torch.equal(again.gradients[layer], moments.gradients[layer])
    sites = model.open_sites([0, 1])
    check_moments(again, sites, where="test", model_digest=model.base_digest, gradients=True)
    plain = SecondMoments(again.by_layer, again.count, {})
    with pytest.raises(InputError, match="output gradients of layer 0 is missing") as raised:
        check_moments(plain, sites, where="test", model_digest=None, gradients=True)
    assert "--gradients" in str(raised.value)
    swapped = SecondMoments(again.by_layer, again.count, {}, gradients=again.by_layer)
    with pytest.raises(InputError, match="the site has 32 outputs"):
        check_moments(swapped, sites, where="test", model_digest=None, gradients=True)
