"""The command line: help that teaches, errors that fit a screen, and `sphere edit`."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import golden
import pyarrow.parquet as pq
import pytest
from command_line import sphere, squeezed
from repository import REPOSITORY
from safetensors.torch import load_file
from sweep_files import results_of, tiny, write_sweep

from sphere_core.datasets.factworld import edit_records, shipped_model_dir, shipped_world
from workflows.cli import COMMANDS

PUBLISHED: dict[str, Any] = {
    "source": "a paper",
    "model": "factworld",
    "dataset": "factworld",
    "edits": 6,
    "protocol": "argmax",
    "metrics": ["efficacy", "specificity"],
    "values": {"memit": [0.25, None], "rome": [0.5, 0.5]},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A sweep that has been run, and its root."""
    folder = tmp_path_factory.mktemp("finished")
    path = write_sweep(folder, tiny(seeds=[0], methods=["memit"], published=[PUBLISHED]))
    with pytest.MonkeyPatch.context() as patch:
        assert sphere(patch, "run", path, "--local", "--root", folder / "root") == 0
    return path, folder / "root"


def test_help_names_every_command_without_loading_any() -> None:
    code = (
        "import sys\nfrom workflows.cli import main\nsys.argv = ['sphere', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'ray', 'lm_eval', 'duckdb'} & set(sys.modules)\n"
        "sys.exit(f'help loads {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)
    assert "sphere run examples/quickstart.yaml" in done.stdout


@pytest.mark.parametrize("name", [*COMMANDS, "moments build", "moments list", "moments compare", "factworld train"])
def test_every_command_has_help_with_examples(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert sphere(monkeypatch, *name.split(), "--help") == 0
    text = capsys.readouterr().out
    if name not in ("moments", "factworld"):
        assert "Example" in text
        assert f"sphere {name}" in text
    named = re.findall(r"examples/\w+\.yaml", text)
    assert [path for path in named if not (REPOSITORY / path).is_file()] == []


def test_published_numbers_stand_beside_ours(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, root = finished
    assert sphere(monkeypatch, "table", root, "--published") == 0
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    memit, *rome = [line for line in lines if line[:1] == ["factworld"]]
    assert memit[2:6] == ["memit", "6", "efficacy (argmax)", "0.250"]
    assert float(memit[7]) == pytest.approx(float(memit[6]) - 0.25)
    assert [line[6:] for line in rome] == [["not yet", "–"]] * 2


def test_status_and_table_need_neither_torch_nor_ray(finished: tuple[Path, Path]) -> None:
    for command in ("status", "table"):
        code = (
            f"import sys\nfrom workflows.cli import main\nsys.argv = ['sphere', {command!r}, {str(finished[1])!r}]\n"
            "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
            "heavy = {'torch', 'transformers', 'ray', 'lm_eval'} & set(sys.modules)\n"
            "sys.exit(f'loads {heavy}' if heavy else 0)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        # Nothing but the answer: libraries complain at the end where objects are kept from them.
        assert (done.returncode, done.stderr) == (0, "")
        assert "memit" in done.stdout


def test_an_unknown_command_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert sphere(monkeypatch, "rum") == 2
    assert "rum" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"methodz": []}, ["unknown key 'methodz'", "did you mean 'methods'?", "sweep.yaml"]),
        ({"methods": ["memti"]}, ["unknown method 'memti'", "did you mean 'memit'?"]),
        (
            {"models": [{"source": "./nowhere", "dtype": "float32", "preset": "factworld"}]},
            ["models[0]", "nowhere", "check the path, or give a hub id"],
        ),
        ({"methods": [{"name": "memit", "hyperparameters": {"layers": [7]}}]}, ["layer 7 is out of range", "0 to 3"]),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_wrong_input_is_one_screen_exit_code_2_and_nothing_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    changes: dict[str, Any],
    expected: list[str],
) -> None:
    path = write_sweep(tmp_path, tiny(**changes))
    monkeypatch.chdir(tmp_path)
    assert sphere(monkeypatch, command, path) == 2
    error = capsys.readouterr().err
    for text in expected:
        assert squeezed(text) in squeezed(error)
    assert "Traceback" not in error
    assert len(error.splitlines()) < 24
    assert [entry.name for entry in tmp_path.iterdir()] == ["sweep.yaml"]


def test_plan_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path, tiny())
    monkeypatch.chdir(tmp_path)
    assert sphere(monkeypatch, "plan", path) == 0
    assert "4 planned" in capsys.readouterr().out
    assert sphere(monkeypatch, "plan", path, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["trajectories"]) == 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["sweep.yaml"]


def test_a_finished_sweep_says_so_and_adds_nothing(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, root = finished
    before = results_of(root)
    # Without --local: Ray would be started if anything were left to do.
    assert sphere(monkeypatch, "run", path, "--root", root) == 0
    text = capsys.readouterr().out
    assert "everything is done" in text
    assert "starting Ray" not in text
    assert "| memit " in text
    assert f"rows: {root}/rows" in text
    assert results_of(root) == before


def test_tables_in_three_formats(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, root = finished
    assert sphere(monkeypatch, "table", root) == 0
    assert "| (unedited) |" in capsys.readouterr().out
    assert sphere(monkeypatch, "table", root, "--by", "edits", "--format", "csv") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 1 + 2
    assert sphere(monkeypatch, "table", root, "--format", "parquet") == 2
    assert sphere(monkeypatch, "table", root, "--format", "parquet", "--out", tmp_path / "t.parquet") == 0
    assert pq.read_table(tmp_path / "t.parquet").column("method").to_pylist() == ["(unedited)", "memit"]
    assert sphere(monkeypatch, "table", tmp_path) == 2


def test_failures_end_with_code_1_and_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hopeless = {"nullspace_share": None, "nullspace_threshold": 1e-300}
    methods = ["memit", {"name": "alphaedit", "hyperparameters": hopeless}]
    path = write_sweep(tmp_path, tiny(seeds=[0], methods=methods, evaluators={"geometry": {}}))
    arguments = ("run", path, "--local", "--root", tmp_path / "root")
    assert sphere(monkeypatch, *arguments) == 1
    text = capsys.readouterr().out
    assert "failures (1)" in text
    assert "threshold" in text
    assert "| memit " in text
    assert sphere(monkeypatch, *arguments) == 1
    first = next((tmp_path / "root").glob("trajectories/*/error.json"))
    stamp = first.stat().st_mtime_ns
    assert sphere(monkeypatch, *arguments, "--retry-failed") == 1
    assert first.stat().st_mtime_ns > stamp


@pytest.fixture(scope="module")
def edit_inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("edit")
    (folder / "facts.json").write_text(json.dumps(edit_records(shipped_world())[:6]), encoding="utf-8")
    (folder / "contexts.json").write_text('[["{}"], ["The. {}"]]', encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        moments = folder / "moments.safetensors"
        built = ("moments", "build", "factworld", "--layers", "0,1", "--corpus", "factworld", "--sentences", 600)
        assert sphere(patch, *built, "--store", folder / "store", "--out", moments) == 0
    return {"requests": folder / "facts.json", "contexts": folder / "contexts.json", "moments": moments}


def edit_arguments(inputs: dict[str, Path], out: Path, **changes: object) -> list[object]:
    options = {"model": "factworld", "method": "memit", "preset": "factworld", **inputs, "out": out}
    given = {**options, "batch-size": 2, **changes}
    return ["edit", *(part for key, value in given.items() for part in (f"--{key}", value))]


def test_edit_keeps_a_checkpoint_a_batch_under_the_models_own_names(
    edit_inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sphere(monkeypatch, *edit_arguments(edit_inputs, tmp_path / "out")) == 0
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert folders == ["000002", "000004", "000006"]
    original = load_file(next(shipped_model_dir().glob("*.safetensors")))
    weights = load_file(tmp_path / "out" / "000006" / "weights.safetensors")
    assert sorted(weights) == [f"model.layers.{layer}.mlp.down_proj.weight" for layer in (0, 1)]
    for name, weight in weights.items():
        assert weight.shape == original[name].shape
        assert not weight.equal(original[name].float())


def test_edit_takes_own_facts_from_a_csv_file(
    edit_inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = tmp_path / "facts.csv"
    facts.write_text("prompt,subject,target_new\nDunen Babusk likes to eat,Dunen Babusk,goulash\n", encoding="utf-8")
    arguments = edit_arguments({**edit_inputs, "requests": facts}, tmp_path / "out", dataset="facts")
    assert sphere(monkeypatch, *arguments) == 0
    assert (tmp_path / "out" / "000001" / "weights.safetensors").is_file()


def test_edit_goes_on_from_the_last_checkpoint_to_the_same_bytes(
    edit_inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = edit_arguments(edit_inputs, tmp_path / "out", method="alphaedit+sphere")
    assert sphere(monkeypatch, *arguments) == 0
    whole = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    for name in ("000004", "000006"):
        (tmp_path / "out" / name / "manifest.json").unlink()
    assert sphere(monkeypatch, *arguments) == 0
    assert "going on from the checkpoint after 2 edits" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == whole
    other = edit_arguments(edit_inputs, tmp_path / "out", method="memit")
    assert sphere(monkeypatch, *other) == 2
    assert "another trajectory" in capsys.readouterr().err


@pytest.mark.parametrize("method", golden.METHODS)
def test_edit_gives_the_released_weights_after_three_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    hparams = tmp_path / "hparams.json"
    hparams.write_text(json.dumps(golden.released_hyperparameters(method)), encoding="utf-8")
    options = {
        "model": golden.MODEL,
        "requests": golden.FOLDER / "requests.json",
        "method": method,
        "hparams": hparams,
        "moments": golden.FOLDER / "stats_llama.npz",
        "contexts": golden.FOLDER / "context_templates.json",
        "batch-size": golden.BATCH,
        "out": tmp_path / "out",
    }
    assert sphere(monkeypatch, "edit", *(part for key, value in options.items() for part in (f"--{key}", value))) == 0
    recorded = golden.arrays(f"llama_{golden.METHODS[method]}")
    for batch in range(3):
        edits = golden.BATCH * (batch + 1)
        weights = load_file(tmp_path / "out" / f"{edits:06d}" / "weights.safetensors")
        for layer in (0, 1):
            found = weights[f"model.layers.{layer}.mlp.down_proj.weight"]
            assert golden.relative_error(found, recorded[f"b{batch}_W_layer{layer}"]) < 1e-3


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method": "mend"}, "unknown method 'mend'"),
        ({"model": "./nowhere"}, "nowhere"),
        ({"requests": "no.json"}, "requests file not found"),
        ({"dataset": "counterfacts"}, "Input should be 'factworld', 'counterfact'"),
        ({"dataset": "zsre"}, "facts.json, record 0 (case 0)"),
        ({"moments": "no.npz"}, "moments file not found"),
        ({"contexts": "no.json"}, "contexts file not found"),
        ({"preset": "llama3-8b"}, "layer 4 is out of range"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"hparams": "x.json"}, "either --hparams FILE or --preset NAME"),
    ],
)
def test_edit_refuses_wrong_input_and_writes_nothing(
    edit_inputs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sphere(monkeypatch, *edit_arguments(edit_inputs, tmp_path / "out", **changes)) == 2
    assert squeezed(expected) in squeezed(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_on_an_object_store_gives_the_same_bytes(
    finished: tuple[Path, Path],
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, root = finished
    url = f"{bucket}/sweeps/tiny"
    assert sphere(monkeypatch, "run", path, "--local", "--root", url) == 0
    assert results_of(url) == results_of(root) != {}
    for command in ("table", "status"):
        capsys.readouterr()
        assert sphere(monkeypatch, command, root) == 0
        local = capsys.readouterr().out
        assert sphere(monkeypatch, command, url) == 0
        shown = capsys.readouterr().out
        assert "memit" in shown
        if command == "table":
            assert shown == local
    assert sphere(monkeypatch, "plan", path, "--root", url) == 0
    assert "everything is done" in capsys.readouterr().out
    assert sphere(monkeypatch, "run", path, "--local", "--root", "s3://no-such-bucket/tiny") == 2
    assert "the storage cannot be written" in capsys.readouterr().err
