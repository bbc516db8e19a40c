"""Orders by the keys of a model: what is compared, and the command that writes them."""

import json
from pathlib import Path

import pytest
import torch
from command_line import sphere, squeezed
from repository import DATASETS
from sweep_files import tiny, write_sweep
from tiny_models import requests, tiny_model

from sphere_core.datasets.records import Record
from sphere_core.foundation.errors import InputError
from sphere_core.streams.key_orders import adjacent_cosine, clusters_of, dispersed, record_keys


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_keys_are_the_inputs_of_the_edited_module(family: str) -> None:
    """Against a hook on the module and the subject's last token found by the tokenizer's offsets."""
    model = tiny_model(family)
    records = [Record(request.case_id, (request,)) for request in requests()]
    seen: list[int] = []
    keys = record_keys(model, records, 1, on_progress=seen.append)
    assert seen == [len(records)]
    module = model.network.get_submodule(model.open_sites([1])[0].module_path)
    for record, key in zip(records, keys, strict=True):
        (request,) = record.requests
        encoded = model.tokenizer(request.question, return_offsets_mapping=True)
        end = request.prompt.index("{}") + len(request.subject)
        last = max(i for i, (start, stop) in enumerate(encoded["offset_mapping"]) if start < end <= stop)
        held: list[torch.Tensor] = []
        handle = module.register_forward_pre_hook(lambda _, args, held=held: held.append(args[0].detach()))
        model.network(torch.tensor([encoded["input_ids"]]))
        handle.remove()
        expected = held[0][0, last]
        torch.testing.assert_close(key, expected / expected.norm(), atol=1e-6, rtol=1e-5)


def test_a_record_of_several_edits_has_the_mean_of_their_keys() -> None:
    model = tiny_model("llama")
    one, other = requests()[:2]
    apart = record_keys(model, [Record("1", (one,)), Record("2", (other,))], 0)
    (together,) = record_keys(model, [Record("1", (one, other))], 0)
    mean = apart.double().mean(dim=0)
    torch.testing.assert_close(together, (mean / mean.norm()).float(), atol=1e-6, rtol=1e-5)


def test_clusters_and_dispersal_of_keys_that_are_known_to_cluster() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 24, generator=generator)
    group = torch.arange(60) % 5
    keys = torch.nn.functional.normalize(centres[group] + 0.1 * torch.randn(60, 24, generator=generator), dim=1)
    groups = clusters_of(keys, 5, seed=0)
    assert groups == [[place for place in range(60) if place % 5 == first] for first in range(5)]
    order = dispersed(keys)
    assert sorted(order) == list(range(60))
    clustered = adjacent_cosine(keys, [place for group in groups for place in group])
    assert clustered > 0.7
    assert adjacent_cosine(keys, order) < adjacent_cosine(keys, torch.randperm(60, generator=generator).tolist())
    # Every stretch of ten has seen every centre about twice.
    for start in range(0, 60, 10):
        counts = torch.bincount(group[order[start : start + 10]], minlength=5)
        assert counts.min() >= 1
        assert counts.max() <= 3
    with pytest.raises(InputError, match="61 clusters are requested"):
        clusters_of(keys, 61, seed=0)


def plain_herding(keys: torch.Tensor) -> list[int]:
    """The definition, summed anew at every step."""
    left, order = list(range(len(keys))), []
    wide = keys.double()
    for step in range(1, len(keys) + 1):
        gains = [float(step * (wide @ wide[i]).mean() - (wide[order] @ wide[i]).sum()) for i in left]
        order.append(left.pop(max(range(len(left)), key=gains.__getitem__)))
    return order


def test_dispersal_is_herding_by_its_definition() -> None:
    keys = torch.nn.functional.normalize(torch.randn(25, 7, generator=torch.Generator().manual_seed(1)), dim=1)
    assert dispersed(keys) == plain_herding(keys)


def test_the_command_writes_orders_that_a_sweep_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("order", "factworld", "--model", "factworld", "--layer", 0, "--edits", 12, "--seed", 3)
    assert sphere(monkeypatch, *arguments, "--clusters", 3, "--out", tmp_path / "orders") == 0
    shown = capsys.readouterr().out
    assert "12 records in 3 clusters" in shown
    written = {path.name: json.loads(path.read_text()) for path in (tmp_path / "orders").iterdir()}
    assert sorted(written) == ["clustered-3.json", "dispersed-3.json"]
    one, other = (written[name] for name in sorted(written))
    assert sorted(one["cases"]) == sorted(other["cases"])
    assert one["statistics"]["neighbour_cosine"] > other["statistics"]["neighbour_cosine"]
    before = (tmp_path / "orders" / "clustered-3.json").read_bytes()
    assert sphere(monkeypatch, *arguments, "--clusters", 3, "--out", tmp_path / "orders") == 0
    assert (tmp_path / "orders" / "clustered-3.json").read_bytes() == before
    streams = [{"dataset": "factworld", "edits": 12, "order": {"given": f"orders/{name}"}} for name in sorted(written)]
    # The same edits at the same seed, shuffled: order is all that differs between the three.
    streams.append({"dataset": "factworld", "edits": 12, "order": "shuffled"})
    path = write_sweep(tmp_path, tiny(streams=streams, seeds=[3], methods=["memit"]))
    capsys.readouterr()
    assert sphere(monkeypatch, "plan", path, "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert [found["order"] for found in plan["trajectories"]] == [
        "given:clustered-3",
        "given:dispersed-3",
        "shuffled",
    ]
    foreign = [{"dataset": "counterfact", "path": str(DATASETS / "counterfact.json"), "edits": 2}]
    foreign[0]["order"] = {"given": "orders/clustered-3.json"}
    path = write_sweep(tmp_path, tiny(streams=foreign, seeds=[3], methods=["memit"]))
    assert sphere(monkeypatch, "plan", path) == 2
    error = squeezed(capsys.readouterr().err)
    for text in ("written for another data set", "streams[0]", "clustered-3.json", "run 'sphere order' on"):
        assert squeezed(text) in error


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"--layer": 9}, "layer 9 is out of range"),
        ({"--edits": 701}, "requires 701 edits, the data set has 700"),
        ({"--path": "x.json"}, "brings its own records"),
        ({"--clusters": 13}, "13 clusters are requested"),
        ({"--model": "./nowhere"}, "nowhere"),
    ],
)
def test_wrong_arguments_write_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"--model": "factworld", "--layer": 0, "--edits": 12, "--out": "orders", **changes}
    assert sphere(monkeypatch, "order", "factworld", *(part for pair in options.items() for part in pair)) == 2
    assert squeezed(expected) in squeezed(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_data_says_what_a_data_set_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sphere(monkeypatch, "data", "mquake", "--path", DATASETS / "mquake_cf.json") == 0
    shown = capsys.readouterr().out
    for text in ("records", "3; those of a record stay together", "12 multi_hop", "case ids", "unique", "sha256"):
        assert text in shown
    records = json.loads((DATASETS / "counterfact.json").read_text())
    again = json.loads(json.dumps(records[0]))
    again["requested_rewrite"]["target_new"]["str"] = "Ostrava Mills"
    path = tmp_path / "counterfact.json"
    path.write_text(json.dumps([*records, records[1], again]))
    assert sphere(monkeypatch, "data", "counterfact", "--path", path) == 0
    shown = squeezed(capsys.readouterr().out)
    for text in (
        "records 6; the published file of this name has 21,919",
        "repeated edits 1",
        "contradictions 1: the earlier edits stay asked",
        "2 not unique: order by 'indices'",
    ):
        assert squeezed(text) in shown
