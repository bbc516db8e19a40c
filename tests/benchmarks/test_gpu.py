"""The benchmark for a card, small: every part on the CPU, and where its tensors lie on a ghost accelerator."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ghost import DEVICES, ghost

from benchmarks.gpu import batches, published, runner, smoke
from benchmarks.gpu.batches import lengths_of_batch
from benchmarks.gpu.report import TITLES, markdown
from benchmarks.gpu.setting import FULL, SMALL
from benchmarks.gpu.target_passes import target_flops
from benchmarks.gpu.verdicts import failed, verdicts
from sphere_core.costs import TextLengths, place, shape_of_config, workload_of
from sphere_core.locate.batch import locate
from sphere_core.locate.targets import TargetSettings
from sphere_core.locate.templates import Contexts
from sphere_core.methods import example_names, resolve_method
from sphere_core.models import EditableModel
from sphere_core.models.suffix import TailLayout
from sphere_core.requests import EditRequest
from sphere_core.solver import Placement

FEW, EVERY = ["memit", "alphaedit+sphere", "ft"], example_names()
# Smaller still: every operation of a ghost passes through Python, and the device does not depend on how many run.
TINY = replace(SMALL, depth=3, batch=3, steps=2, history=4, scored=3, launches=40)


@pytest.fixture(autouse=True)
def _few_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    # All of them run in tests/devices.
    monkeypatch.setattr(smoke, "example_names", lambda: FEW)


def test_every_part_runs_on_the_cpu_and_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gpu.json"
    runner.main(["--only", "B0,B1,B2", "--out", str(out), "--small"])
    runner.main(["--only", "B4,B5,B6", "--out", str(out), "--small"])
    printed = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found.keys() >= set(runner.PARTS)
    assert found["B1"] == dict.fromkeys(FEW, "ok")
    assert all(value > 0 for value in found["B0"].values())
    *passes, exact = found["B2"]
    forms = [(record["groups"], record["requests per pass"], record["tokens packed"]) for record in passes]
    assert forms == [(4, 2, False), (1, 2, False), (1, 6, False), (1, 6, False), (1, 6, True)]
    default, last = TailLayout.of(torch.device("cuda")), passes[-1]
    assert (last["groups"], last["queries folded"], last["tokens packed"]) == (
        default.groups,
        default.folds,
        default.packs,
    )
    assert all(record["kernels of two forwards"] > 100 for record in passes)
    assert all(record["TFLOP/s"] > 0 and record["share of the ceiling"] > 0 for record in passes)
    # The small model is float32 already.
    assert exact["difference from float32"] == 0
    for record in found["B3"]:
        assert sum(record["stages, s"].values()) == pytest.approx(record["seconds"])
        assert record["stages, s"].keys() >= {"targets", "keys", "solve", "regularizer", "write", "history", "rest"}
        assert min(record["stages, s"].values()) >= 0
        assert record["predicted peak, GB"] > 0
    # B3 and B4 are measured together.
    sizes = {(record["method"], record["earlier edits"]): record["GB"] for record in found["B4"]}
    assert sizes["alphaedit+sphere", 8] > sizes["alphaedit+sphere", 0]
    assert found["B5"]["edit quality, records/s"] > 0
    assert found["verdicts"] == verdicts(found)
    judged = {line["what"] for line in found["verdicts"] if line["met"] is not None}
    assert judged == {*(f"{name}: two batches" for name in FEW), "targets, difference from float32"}
    assert not failed(found)
    assert "### B6" in printed
    assert "### Verdicts" in printed
    assert found["device"] in markdown(found)


def test_an_unknown_part_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        runner.main(["--only", "B9", "--out", str(tmp_path / "gpu.json")])
    assert ended.value.code == 2
    assert "B9" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_file_is_compared_number_by_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "SMALL", TINY)
    before, now = tmp_path / "before.json", tmp_path / "now.json"
    with pytest.raises(SystemExit):
        runner.main(["--only", "B7", "--out", str(now)])
    assert "--against" in capsys.readouterr().err
    runner.main(["--only", "B2,B3", "--out", str(before), "--small"])
    runner.main(["--only", "B7", "--out", str(now), "--against", str(before), "--small"])
    assert "### B7" in capsys.readouterr().out
    old, new = json.loads(before.read_text()), json.loads(now.read_text())
    compared = {line["what"]: line for line in new["B7"]}
    line = compared["B3, method memit_seq+sphere, earlier edits 4, seconds"]
    (was,) = [r for r in old["B3"] if (r["method"], r["earlier edits"]) == ("memit_seq+sphere", 4)]
    (is_now,) = [r for r in new["B3"] if (r["method"], r["earlier edits"]) == ("memit_seq+sphere", 4)]
    assert (line["before"], line["now"]) == (was["seconds"], is_now["seconds"])
    assert line["now / before"] == is_now["seconds"] / was["seconds"]
    sizes = [line for name, line in compared.items() if name.startswith("B4") and name.endswith("GB")]
    assert [line["now / before"] for line in sizes] == [1.0] * 4


def test_results_of_another_device_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other, out = tmp_path / "other.json", tmp_path / "gpu.json"
    other.write_text(json.dumps({"device": "another card", "setting": "small"}))
    for path, what in ((other, "another device"), (tmp_path / "absent.json", "cannot be read")):
        with pytest.raises(SystemExit) as ended:
            runner.main(["--only", "B0", "--small", "--out", str(out), "--against", str(path)])
        assert ended.value.code == 2
        assert what in capsys.readouterr().err
    assert not out.exists()


def test_a_method_that_fails_is_in_the_verdicts_and_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoke, "example_names", lambda: ["ft"])
    monkeypatch.setitem(smoke.OF_EDITORS, "ft", {"layers": [9]})
    with pytest.raises(SystemExit) as ended:
        runner.main(["--only", "B1", "--small", "--out", str(tmp_path / "gpu.json")])
    assert ended.value.code == 1
    assert "| ft: two batches | " in capsys.readouterr().out


def test_help_says_what_the_parts_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        runner.main(["--help"])
    shown = capsys.readouterr().out
    for name in (*runner.PARTS, "B7"):
        assert f"\n  {name}  {TITLES[name]}" in shown


def test_lengths_are_those_of_the_batch() -> None:
    model = SMALL.model(torch.device("cpu"))
    requests = [
        EditRequest("0", "w0 {} w1 w2", "w3", "w4", None, ()),
        EditRequest("1", "{} w1", "w5 w6 w7", "w8 w9 w10", None, ()),
    ]
    # Bare prompts of four tokens, and five times with six in front: 4, 10, 10, 10, 10, 10.
    contexts = (("{}",), ("w1 w2 w3 w4 w5 . {}",) * 5)
    found = lengths_of_batch(model, requests, contexts)
    assert (found.prompt, found.target) == (9, 2)
    longer = [replace(request, prompt=f"{'w2 ' * 20}{request.prompt}") for request in requests]
    assert lengths_of_batch(model, longer, contexts).prompt == 29


def test_a_peak_is_predicted_for_the_batch_that_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, prompts = [], iter((8, 8, 800, 800))

    def noted(model: EditableModel, requests: list[EditRequest], contexts: Contexts) -> TextLengths:
        counted.append([request.case_id for request in requests])
        return replace(lengths_of_batch(model, requests, contexts), prompt=next(prompts))

    monkeypatch.setattr(batches, "METHODS", ("alphaedit+sphere",))
    monkeypatch.setattr(batches, "lengths_of_batch", noted)
    (short, _), (long, _) = (batches.measure(TINY, torch.device("cpu"))[0] for _ in range(2))
    # The second batch is timed: after nothing, and after a history.
    assert counted == [["3", "4", "5"]] * 4
    assert short["predicted peak, GB"] < long["predicted peak, GB"]


def test_a_batch_is_placed_as_the_whole_stream_is_and_its_peak_is_that_of_its_placement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert FULL.stream == 15_000
    streams, placed = [], []

    def noted(*given: Any, **named: Any) -> Placement:
        streams.append(len(given[3]))
        placed.append(place(*given, **named))
        return placed[-1]

    monkeypatch.setattr(batches, "METHODS", ("alphaedit+sphere",))
    monkeypatch.setattr(batches, "place", noted)
    with ghost():
        first, second = batches.measure(replace(TINY, stream=17), DEVICES[0])[0]
    assert streams == [17, 17]
    assert placed[0].reads_ahead
    for record in (first, second):
        assert record["requests per pass"] == placed[0].requests_per_pass == 3
        assert record["decompositions beside the targets"]

    method, values = resolve_method("alphaedit+sphere"), FULL.hyperparameters()
    work = workload_of(
        method,
        values,
        dtype_bytes=2,
        batch=100,
        edits=2200,
        contexts=6,
        lengths=TextLengths(18, 2, 0),
        on_accelerator=True,
    )
    shape = shape_of_config(FULL.config(), where="test")
    given = Placement(requests_per_pass=100)
    peak = batches.predicted_peak(work, shape, given)
    for smaller in (
        replace(given, requests_per_pass=80),
        replace(given, reads_ahead=False),
        replace(given, on_host=frozenset([4])),
    ):
        assert batches.predicted_peak(work, shape, smaller) < peak


def test_every_method_that_is_run_has_its_settings() -> None:
    assert {name for name in EVERY if smoke.skipped(name)} == {
        name for name in EVERY if name.split("+")[0] in ("moeedit", "neurons", "serac")
    }
    for name in EVERY:
        if smoke.skipped(name) is None:
            resolve_method(name).check(smoke.hyperparameters(name), where="benchmark")


def test_the_published_way_runs_in_the_models_dtype() -> None:
    setting = replace(SMALL, dtype=torch.bfloat16, steps=2)
    records = published.measure(setting, torch.device("cpu"))
    assert [(record["dtype"], record["tf32"]) for record in records] == [
        ("float32", False),
        ("float32", True),
        ("bfloat16", False),
        ("bfloat16", True),
    ]


@pytest.mark.parametrize("part", ["B0", "B1", "B2", "B3", "B5", "B6"])
def test_a_part_keeps_its_tensors_on_the_device(tmp_path: Path, part: str) -> None:
    with ghost() as counts:
        found = runner.measure_parts([part], TINY, DEVICES[0], tmp_path / "gpu.json")
        assert counts.kernels > 100
    assert found["device"].startswith("ghost")
    if part == "B0":
        assert found["B0"]["to the host, pinned, GB/s"] > 0
    if part == "B1":
        assert found["B1"] == dict.fromkeys(FEW, "ok")


def test_results_of_two_devices_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps({"device": "another card", "torch": torch.__version__}))
    with pytest.raises(runner.OtherResultsError, match="another device"):
        runner.measure_parts(["B1"], SMALL, torch.device("cpu"), path)


def test_the_full_setting_is_llama_3_8b_and_its_work_is_counted() -> None:
    shape = shape_of_config(FULL.config(), where="test")
    assert shape.parameters == pytest.approx(8.03e9, rel=1e-2)
    assert (shape.d_out, shape.d_in) == (4096, 14336)
    model = SMALL.model(torch.device("cpu"))
    requests, contexts = SMALL.requests(model, 2)
    batch = locate(model, requests, contexts)
    settings = TargetSettings.of(SMALL.hyperparameters())
    later = sum(p.numel() for layer in model.layers[2:] for p in layer.parameters())
    more = target_flops(model, batch, settings)
    fewer = target_flops(model, batch, TargetSettings.of(SMALL.hyperparameters(v_num_grad_steps=4)))
    # One step is a forward and a backward.
    assert more / fewer == pytest.approx(9 / 7)
    assert more > 2 * 9 * later * sum(len(prompt.ids) - prompt.subject_last for prompt in batch.prompts)
