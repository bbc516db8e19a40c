"""Calibration: killed, it resumes without repeating a trial; its preset holds several editors, and what it was chosen
on is edited in no stream."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import yaml
from command_line import sphere
from sweep_files import tiny, write_sweep
from waiting import wait_until

from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import preset
from sphere_core.requests import fact_key
from sphere_core.streams.stream import load_stream
from workflows.runs.calibration_bench import Candidate, Trial
from workflows.runs.calibration_log import TrialLog
from workflows.runs.calibration_search import Limits, Search, default_spans, parse_spans
from workflows.sweeps.expand import load_sweep


def test_default_spans_hold_the_published_layers() -> None:
    for layers, published in ((32, {4, 5, 6, 7, 8}), (28, {3, 4, 5, 6, 7, 8}), (48, {13, 14, 15, 16, 17})):
        spans = default_spans(layers)
        assert max(len(published & set(span)) for span in spans) >= 4
        assert len({layer for span in spans for layer in span}) <= 15
    assert default_spans(1) == [(0,)]
    assert parse_spans("4-5, 7", 8) == [(4, 5), (7,)]
    for text in ("4-8", "5-4", "a", "", "4-x", "-1"):
        with pytest.raises(InputError, match="span"):
            parse_spans(text, 8)


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moments")
    corpus = ("--corpus", "factworld", "--sentences", "300", "--store", folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        built = ("moments", "build", "factworld", "--layers", "0,1", *corpus, "--out", folder / "moments.safetensors")
        assert sphere(patch, *built) == 0
    return folder / "moments.safetensors"


def _calibrate(moments: Path, out: Path, *more: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        asked = ("--requests", "8", "--moments", moments, "--out", out, "--set", "v_num_grad_steps=2")
        editors = ("--editor", "memit", "--editor", "alphaedit")
        return sphere(patch, "calibrate", "factworld", "factworld", *asked, *editors, *more)


def test_killed_in_the_middle_it_resumes_and_its_preset_is_used(
    moments: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, log = tmp_path / "own.yaml", tmp_path / "own.jsonl"
    command = (moments, out, "--trials", "12", "--spans", "0-1,0,2")
    killed = multiprocessing.get_context("fork").Process(target=_calibrate, args=command)
    killed.start()
    wait_until(lambda: log.exists() and log.read_bytes().count(b"\n") >= 3)
    os.kill(killed.pid or 0, signal.SIGKILL)
    killed.join()
    assert not out.exists()
    with log.open("ab") as file:
        file.write(b'{"key": "half a li')
    before = log.read_bytes().count(b"\n")
    capfd.readouterr()
    assert _calibrate(*command) == 0
    shown = capfd.readouterr().out
    keys = [json.loads(line)["key"] for line in log.read_text(encoding="utf-8").splitlines()]
    assert before < len(keys) == len(set(keys)) <= 12
    assert shown.count("  logged\n") == before
    assert "objective agreement" in shown
    assert "without second moments: layers [[2]]" in shown

    document = yaml.safe_load(out.read_text(encoding="utf-8"))
    assert document["made_for"] == {"family": "llama", "layers": 4, "d_out": 64, "d_in": 512}
    assert document["evidence"]["objective"].startswith("agreement: harmonic mean of efficacy/argmax")
    trials = document["evidence"]["trials"]
    assert len(trials) == len(keys)
    for editor, ridge in (("memit", "mom2_update_weight"), ("alphaedit", "L2")):
        decided = [trial for trial in trials if trial["editor"] == editor and trial["held_out"]]
        best = max(decided, key=lambda trial: (trial["score"], -abs(trial["he_drift"])))
        assert document["editors"][editor][ridge]["value"] == best["ridge"]
        assert document["evidence"]["not_searched"][editor]
    # Released: SPHERE at 0.8 with MEMIT, at 0.5 with AlphaEdit.
    assert preset(str(out), "memit", ("sphere",)).strength == 0.8
    assert preset(str(out), "alphaedit", ("sphere",)).strength == 0.5
    assert preset(str(out), "alphaedit", ()).v_num_grad_steps == 2

    model = {"source": "factworld", "dtype": "float32", "preset": out.name}
    streams = [{"dataset": "factworld", "edits": 400, "order": order} for order in ("canonical", "shuffled")]
    sweep = load_sweep(write_sweep(tmp_path, tiny(models=[model], methods=["memit", "alphaedit"], streams=streams)))
    facts = set(document["held_out"]["facts"])
    assert len(facts) == 8
    for spec in sweep.specs.values():
        assert len(spec.stream.left_out) == 8
        assert not facts & {fact_key(request) for request in load_stream(spec.stream, spec.seed)}
    assert any("8 records are left out, on which a preset" in note for note in sweep.notes)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("--set", "v_lr=0.1"), "what the calibration searches"),
        (("--set", "v_weight_decya=1"), "v_weight_decay"),
        (("--set", "num_steps=3"), "not a hyperparameter of memit or alphaedit"),
        (("--spans", "2-3"), "of no span that is tried"),
        (("--objective", "specificity"), "--objective"),
        (("--editor", "rome"), "editor to calibrate"),
        (("--requests", "100000"), "requests"),
        (("--out", "own.txt"), "a preset is a YAML file"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_before_anything_is_printed_or_written(
    more: tuple[str, str], expected: str, moments: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _calibrate(moments, tmp_path / "own.yaml", *more) == 2
    shown = capsys.readouterr()
    assert expected in shown.err
    assert shown.out == ""
    assert list(tmp_path.iterdir()) == []


def _run(editor: str, candidate: Candidate, held_out: bool) -> Trial:
    """A trial that takes a minute, or ten seconds along the ridge; smaller ridges edit more."""
    efficacy = 1 / (1 + candidate.ridge)
    measures = {"efficacy/argmax": efficacy, "generalization/argmax": efficacy, "agreement/argmax": 1 - efficacy / 2}
    return Trial(editor, candidate, measures, 1e-3, 60.0, 0.0, held_out)


@pytest.mark.parametrize(("minutes", "trials"), [(9.0, 100), (600.0, 9), (14.0, 100), (600.0, 100)])
def test_the_budget_is_divided_over_the_axes_and_what_is_left_is_said(minutes: float, trials: int) -> None:
    search = Search(("memit", "alphaedit"), [(4, 5), (2, 3), (6, 7)], Limits(60 * minutes, trials), "agreement", _run)
    tried = list(search.all_trials())
    assert len(tried) <= trials
    assert sum(trial.seconds for trial in tried) <= 60 * minutes
    searched = [trial.candidate for trial in tried if trial.editor == "memit" and not trial.held_out]
    left = search.not_searched()
    for axis, values in (("layers", 3), ("v_lr", 3), ("clamp_norm_factor", 3)):
        had = len({getattr(candidate, axis) for candidate in searched})
        assert had + len(left.get("memit", {}).get(axis, [])) == values
        assert had > 1 or minutes < 14 or trials < 14
    assert {trial.editor for trial in tried if trial.held_out} == {"memit", "alphaedit"} == set(search.best)
    assert (left == {}) == (minutes == 600 and trials == 100)
    again = Search(("memit", "alphaedit"), [(4, 5), (2, 3), (6, 7)], Limits(60 * minutes, trials), "agreement", _run)
    assert list(again.all_trials()) == tried
    # A trial of another budget that was better is a finalist, and is not run again.
    better = _run("memit", Candidate((4, 5), 1.0, 4.0, 1e-3), False)
    with_other = Search(("memit",), [(4, 5)], Limits(60 * minutes, trials), "agreement", _run, [better])
    assert better not in list(with_other.all_trials())
    assert with_other.best["memit"] == better.candidate


def test_a_log_that_is_none_or_held_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    trial = _run("memit", Candidate((1, 2), 0.5, 0.75, 15.0), False)
    with TrialLog(path) as log:
        log.add("a", trial)
        with pytest.raises(InputError, match="another calibration"), TrialLog(path):
            pass
    path.write_bytes(path.read_bytes() + b'{"key": "b"')
    with TrialLog(path) as log:
        assert log.find("a") == trial
        log.add("b", trial)
    assert path.read_bytes().count(b"\n") == 2
    for line in (b"[]", b"{}", b"not JSON", b'{"key": "c", "layers": 3}', b"\xff"):
        other = tmp_path / "other.jsonl"
        other.write_bytes(line + b"\n" + path.read_bytes())
        with pytest.raises(InputError, match="not a trial") as refused, TrialLog(other):
            pass
        assert "line 1" in str(refused.value.where)
    for named_by_mistake in (b'[{"prompt": "a"}]', b"name: sweep\nseeds: [0]\n", b'{"key": "a"}\n{"prompt"'):
        other.write_bytes(named_by_mistake)
        with pytest.raises(InputError, match="not a trial"):
            TrialLog(other).check()
        with pytest.raises(InputError, match="not a trial"), TrialLog(other):
            pass
        assert other.read_bytes() == named_by_mistake


def test_a_preset_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("layers: [1]", encoding="utf-8")
    with pytest.raises(InputError, match="sections sources, shared, editors"):
        preset(str(tmp_path / "bad.yaml"), "memit", ())
    with pytest.raises(InputError, match="not found"):
        preset(str(tmp_path / "nowhere.yaml"), "memit", ())
