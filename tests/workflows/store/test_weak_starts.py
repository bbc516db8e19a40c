"""A method whose first edits had too little effect is warned of: while it runs, at the end, and in the status."""

import logging
import re
from pathlib import Path

import pytest
from command_line import sphere
from sweep_files import tiny, write_sweep


def test_a_preset_that_changes_nothing_or_too_much_is_noticed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    # A ridge as of a model whose keys are a thousand times larger: the update is next to nothing.
    inert = {"name": "memit", "label": "borrowed", "hyperparameters": {"mom2_update_weight": 1e9}}
    # An update so large that little of the model is left, but no score without a number.
    violent = {"name": "ultraedit", "label": "violent", "hyperparameters": {"lr": 1.0}}
    # The editor would write enough, and three entries in ten thousand are left of it.
    cut = {"name": "memit+rect", "label": "cut", "hyperparameters": {"rect_keep": 3e-4}}
    # Noise writes no request, so it misses none.
    changes = {
        "methods": [inert, violent, cut, "perturb", "memit"],
        "seeds": [0],
        "checkpoint_every": 2,
        "evaluators": {"edit_quality": {}},
    }
    sweep, root = write_sweep(tmp_path, tiny(**changes)), tmp_path / "root"
    with caplog.at_level(logging.WARNING):
        assert sphere(monkeypatch, "run", sweep, "--local", "--root", root) == 0
    expected = "borrowed on factworld: of the first 2 edits 0% took (efficacy): its hyperparameters hardly change"
    logged = [record.message for record in caplog.records if " took " in record.message]
    assert [message.partition(" on ")[0] for message in logged] == ["borrowed", "violent", "cut"]
    assert logged[0].startswith(expected)
    assert re.search(r"hyperparameters change too much .* answers \d+% remain", logged[1])
    assert "or what 'rect' leaves of its updates, hardly change this model; a row of 'memit' alone shows" in logged[2]
    shown = capsys.readouterr()
    said = " ".join((shown.out + shown.err).split())
    assert expected in said
    assert "'sphere calibrate' finds values for it" in said
    assert "memit on factworld" not in said
    assert sphere(monkeypatch, "status", root) == 0
    assert expected in " ".join(capsys.readouterr().out.split())
