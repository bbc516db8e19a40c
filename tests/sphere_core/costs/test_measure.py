"""Measured rates: they come from the clock, go to a file and back, and give the price's hours."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from repository import EXAMPLES
from rich.console import Console

from sphere_core.costs import Work, accelerator, hours, measure
from sphere_core.costs.time import EIGEN
from sphere_core.foundation.errors import InputError
from workflows.preflight.price import SAMPLE_WIDTH, price_sweep
from workflows.preflight.price_table import price_panel
from workflows.sweeps.reading import read_sweep


class Ticking:
    """A clock that moves half a second between two readings."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 0.5
        return self.now


def test_rates_are_work_over_time_and_survive_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "time", Ticking())
    found = measure.measure_device(torch.device("cpu"), torch.float32)
    # Half a second is long enough for the smallest size.
    assert found.bf16 == pytest.approx(32 * 1024 * 256**2 / 0.5)
    assert found.float64 == pytest.approx(2 * 256**3 / 0.5)
    assert found.eigen_share * found.float64 == pytest.approx(EIGEN * 256**3 / 0.5)
    path = tmp_path / "rates.json"
    path.write_text(json.dumps(asdict(found)))
    assert accelerator(str(path)) == found
    assert hours(Work(model=found.bf16 * 3600), found) == pytest.approx(1)
    assert hours(Work(eigen=EIGEN * 256**3), found) == pytest.approx(0.5 / 3600)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"name": "x"}', '{"name": "x", "bf16": 1, "float64": 0, "memory": 1}']
)
def test_a_file_that_holds_no_rates_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rates.json"
    path.write_text(text)
    with pytest.raises(InputError, match="rates of a device"):
        accelerator(str(path))


def test_a_file_that_is_not_there_or_cannot_be_read_is_not_called_bad_rates(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    for name, what in (("missing.json", "no such file"), ("folder.json", "cannot be read: Is a directory")):
        with pytest.raises(InputError) as raised:
            accelerator(str(tmp_path / name))
        assert (raised.value.what, raised.value.where) == (what, str(tmp_path / name))
        assert "sphere doctor --measure --out FILE" in str(raised.value.remedy)


def test_an_eigendecomposition_of_4096_is_priced_at_a_second_not_at_its_peak() -> None:
    seconds = 3600 * hours(Work(eigen=EIGEN * 4096**3), accelerator("h100"))
    assert 0.5 < seconds < 1.5


def test_asking_about_all_edits_is_held_against_editing_and_a_sample_is_proposed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec, _ = read_sweep(EXAMPLES / "sphere_paper_llama3.yaml")
    methods = tuple(entry for entry in spec.methods if entry.title == "alphaedit+sphere")
    often = spec.model_copy(update={"checkpoint_every": 100, "methods": methods})
    counterfact, _ = price_sweep(often, EXAMPLES, accelerator("h100")).cells
    sample = counterfact.sample
    assert sample is not None
    # Prompts share prefixes and spans are packed: 3.9 tokens of each against 25 steps over seven rows.
    assert 3 * counterfact.edit_hours < sample.hours_of_all < 5 * counterfact.edit_hours
    # All 150 checkpoints ask about a bounded number of edits, of which the first ten are asked whole.
    assert sample.hours_of_all / sample.hours == pytest.approx(
        sum(range(100, 15001, 100)) / sum(min(edits, sample.size) for edits in range(100, 15001, 100))
    )
    assert 1.96 * 0.5 / sample.size**0.5 <= SAMPLE_WIDTH < 1.96 * 0.5 / (sample.size - 1) ** 0.5
    quality = {**(often.evaluators.edit_quality or {}), "sample": sample.size}
    sampled = often.model_copy(update={"evaluators": often.evaluators.model_copy(update={"edit_quality": quality})})
    cell = price_sweep(sampled, EXAMPLES, accelerator("h100")).cells[0]
    assert cell.sample is None
    assert counterfact.score_hours - cell.score_hours == pytest.approx(sample.hours_of_all - sample.hours)
    Console(width=100).print(price_panel(price_sweep(often, EXAMPLES, accelerator("h100"))))
    assert f"'sample: {sample.size}'" in " ".join(capsys.readouterr().out.split())


def test_seconds_per_edit_are_a_range_over_streams_and_models(capsys: pytest.CaptureFixture[str]) -> None:
    spec, _ = read_sweep(EXAMPLES / "sphere_paper_llama3.yaml")
    methods = tuple(entry for entry in spec.methods if entry.title in ("memit", "alphaedit+sphere"))
    price = price_sweep(spec.model_copy(update={"methods": methods}), EXAMPLES, accelerator("h100"))
    lines = []
    for cells in (price.cells, price.cells[:1]):
        Console(width=200).print(price_panel(replace(price, cells=cells)))
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("seconds per edit")]
        lines.append(line.rstrip())
    memit = [f"{cell.edit_seconds_each:.2g}" for cell in price.cells if cell.method == "memit"]
    sphere = [f"{cell.edit_seconds_each:.2g}" for cell in price.cells if cell.method == "alphaedit+sphere"]
    # zsRE's texts are longer than CounterFact's, which are listed first.
    assert lines[0] == f"seconds per edit: memit {' to '.join(memit)}, alphaedit+sphere {' to '.join(sphere)}"
    assert lines[1] == f"seconds per edit: memit {memit[0]}"
