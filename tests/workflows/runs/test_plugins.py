"""A method author's loop: run, change the code, run again, and the tables say whose code it was."""

import json
from pathlib import Path

import pytest
import yaml
from command_line import sphere
from plugin_parts import guide_plugin
from sweep_files import results_of, tiny, write_sweep

from sphere_core.foundation.storage import Storage
from workflows.cluster.job_package import pack
from workflows.runs.new_plugin import start_of
from workflows.store.layout import plugin_path
from workflows.store.plan import read_plan


def sweep(folder: Path, **changes: object) -> Path:
    (folder / "cap.py").write_text(guide_plugin(), encoding="utf-8")
    (folder / "distance.py").write_text(start_of("evaluator", "distance"), encoding="utf-8")
    settings = {
        "plugins": ["cap.py", "distance.py"],
        "streams": [{"dataset": "factworld", "edits": 2}],
        "methods": ["memit", "memit+cap"],
        "seeds": [0],
        "checkpoint_every": 2,
        "evaluators": {"distance": {}},
    }
    return write_sweep(folder, tiny(**{**settings, **changes}))


def ids(root: Path) -> dict[str, str]:
    return {one.method: one.id for one in read_plan(Storage(root)).trajectories}


def change(root: Path, method: str) -> float:
    shown = json.loads((root / "table.json").read_text())
    (row,) = [row for row in shown["rows"] if row["method"] == method]
    mean: float = row["scores"]["largest_change (distance, frobenius)"]["mean"]
    return mean


def test_changed_code_gives_new_numbers_and_other_rows_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, root = sweep(tmp_path), tmp_path / "root"
    numbers = []
    for share in ("0.01", "0.002"):
        source = guide_plugin().replace("setting(0.01", f"setting({share}")
        (tmp_path / "cap.py").write_text(source, encoding="utf-8")
        assert sphere(monkeypatch, "run", path, "--local", "--root", root) == 0
        assert "the regularizer 'cap' is code of cap.py" in capsys.readouterr().out
        assert sphere(monkeypatch, "table", root, "--out", root / "table.json", "--json") == 0
        numbers.append((ids(root), change(root, "memit"), change(root, "memit+cap")))
        (reference,) = {
            one.plugin.digest: one.plugin for one in read_plan(Storage(root)).plugins if one.row == "cap"
        }.values()
        # Workers run the source that was planned, whatever becomes of the file.
        assert (root / plugin_path(reference.digest)).read_text() == source
    (first, plain, capped), (second, plain_again, capped_again) = numbers
    assert first["memit"] == second["memit"]
    assert first["memit+cap"] != second["memit+cap"]
    assert plain == plain_again
    assert plain > capped > capped_again > 0
    capsys.readouterr()
    assert sphere(monkeypatch, "table", root) == 0
    shown = capsys.readouterr().out
    # In a pipe the table is Markdown, which escapes the mark.
    assert r"memit+cap \*" in shown
    assert rf"\* memit+cap: code of cap.py {reference.digest[:12]}, not of this release" in shown
    assert r"\* scores of distance: code of distance.py" in shown
    assert r"memit \*" not in shown
    begin_again(monkeypatch, path, root, capsys)


def begin_again(monkeypatch: pytest.MonkeyPatch, path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What --fresh deletes and makes again: one method, with equal bits."""
    before, chosen = results_of(root), ids(root)["memit+cap"]
    times = {name: (root / name).stat().st_mtime_ns for name in before}
    assert sphere(monkeypatch, "run", path, "--local", "--root", root, "--fresh", "memit+cap") == 0
    assert "memit+cap: 1 trajectories are computed again" in capsys.readouterr().out
    assert results_of(root) == before
    again = {name for name in before if (root / name).stat().st_mtime_ns != times[name]}
    assert again == {name for name in before if chosen in name}
    assert again
    assert sphere(monkeypatch, "run", path, "--local", "--root", root, "--fresh", "memit+cab") == 2
    assert "did you mean 'memit+cap'" in " ".join(capsys.readouterr().err.split())


def test_a_job_carries_the_plugin_files(tmp_path: Path) -> None:
    package = pack(sweep(tmp_path))
    assert [name for name, _ in package.plugins] == ["cap.py", "distance.py"]
    package.write(tmp_path / "job")
    assert (tmp_path / "job" / "sweep" / "cap.py").read_text() == guide_plugin()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"plugins": ["gone.py"]}, "no plugin file"),
        ({"plugins": None}, "unknown key 'distance'"),
        ({"plugins": ["cap.py"], "evaluators": {"distanze": {}}}, "unknown evaluator kind 'distanze'"),
        ({"evaluators": {"distance": {"units": 1}}}, "did you mean 'unit'"),
        ({"evaluators": {"distance": 3}}, "the settings of evaluator 'distance' are 3"),
        ({"methods": [{"name": "memit+cap", "hyperparameters": {"cap": {"share": 2}}}]}, "setting 'share' of 'cap'"),
    ],
)
def test_faults_stop_before_anything_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    what: str,
) -> None:
    path = sweep(tmp_path, **changes)
    assert sphere(monkeypatch, "run", path, "--local", "--root", tmp_path / "root") == 2
    assert what in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "root").exists()


def test_the_guide_is_what_new_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sphere(monkeypatch, "new", "regularizer", "cap", "--dir", tmp_path) == 0
    assert (tmp_path / "cap.py").read_text() == guide_plugin()
    assert len(guide_plugin().splitlines()) <= 30
    assert sphere(monkeypatch, "new", "regularizer", "cap", "--dir", tmp_path) == 2
    assert sphere(monkeypatch, "new", "regularizer", "sphere") == 2
    assert sphere(monkeypatch, "new", "optimizer", "cap") == 2


def test_what_new_says_makes_the_sweep_of_init_one_that_uses_the_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines that it prints are put into the file that it names, key by key, for a row of each kind."""
    monkeypatch.chdir(tmp_path)
    assert sphere(monkeypatch, "init") == 0
    started = yaml.safe_load(Path("sweep.yaml").read_text(encoding="utf-8"))
    for kind, name in (("regularizer", "cap"), ("editor", "ridge"), ("evaluator", "distance"), ("dataset", "quiz")):
        capsys.readouterr()
        assert sphere(monkeypatch, "new", kind, name) == 0
        _, said, *lines = capsys.readouterr().out.splitlines()
        assert "'sphere init' writes one" in said
        for key, value in yaml.safe_load("\n".join(line.strip() for line in lines)).items():
            started[key] = [*started.get(key, []), *value] if key == "plugins" else value
    Path("records.json").write_text(
        json.dumps([{"question": f"City {n} lies in", "subject": f"City {n}", "answer": "Peru"} for n in range(100)])
    )
    Path("all.yaml").write_text(yaml.safe_dump(started), encoding="utf-8")
    assert sphere(monkeypatch, "plan", "all.yaml") == 0
    out = capsys.readouterr().out
    assert all(f"'{name}' is code of {name}.py" in out for name in ("ridge", "distance", "quiz"))


def test_commands_beside_run_know_the_plugins_of_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep(tmp_path)
    assert sphere(monkeypatch, "plan", path, "--price", "h100") == 0
    assert "memit+cap" in capsys.readouterr().out
    assert sphere(monkeypatch, "methods", "memit+cap", "--plugin", tmp_path / "cap.py") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "cap.share 0.01 chosen by hand" in shown
    assert "not of this release" in shown
