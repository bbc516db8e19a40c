"""Every view of a sweep at 80 columns, wider, and in a pipe: nothing folded inside words, padded or cut."""

import functools
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path

import pytest
from repository import EXAMPLES, REPOSITORY
from rich.cells import cell_len
from sweep_files import tiny, with_fewer_steps, write_sweep
from terminal_view import pipe_text, terminal_text

from sphere_core.foundation.storage import Storage
from workflows.store.plan import SweepPlan, read_plan

EVALUATORS = {"edit_quality": {}, "general": {"tasks": ["factworld"]}, "geometry": {}}
VIEWS = {
    "plan": ("plan", "SWEEP", "--root", "ROOT"),
    "plan --price": ("plan", EXAMPLES / "sphere_paper_llama3.yaml", "--price", "h100"),
    "status": ("status", "ROOT"),
    "table": ("table", "ROOT"),
    "table by edits": ("table", "ROOT", "--by", "edits"),
    "table of timings": ("table", "ROOT", "--timings"),
    "ability": ("ability", "ROOT"),
    "ability by edits": ("ability", "ROOT", "--by", "edits"),
    **{
        f"retention {name}": ("retention", "ROOT", name)
        for name in (
            "summary",
            "curve",
            "cohorts",
            "ages",
            "origins",
            "auc",
            "order",
            "edits",
            "survival",
            "predictors",
        )
    },
    "correlate": ("correlate", "ROOT", "--resamples", "100"),
    "plot": ("plot", "ROOT"),
    "an edit": ("edits", "ROOT", "--edit", "1"),
    "methods": ("methods",),
    "a method": ("methods", "memit+rect+sphere"),
    "tasks": ("tasks",),
    "a preset of tasks": ("tasks", "sphere"),
    "moments list": ("moments", "list", "--store", "STORE"),
    "gc": ("gc", "ROOT", "--dry-run"),
    "data": ("data", "factworld"),
    "doctor": ("doctor",),
    "run": ("run", "SWEEP", "--root", "ROOT"),
}
AS_JSON = sorted(set(VIEWS) - {"run", "plan --price"})


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A sweep that has been run, and a store of moments."""
    folder = tmp_path_factory.mktemp("views")
    methods = with_fewer_steps("memit", "alphaedit+sphere")
    sweep = write_sweep(folder, tiny(methods=methods, evaluators=EVALUATORS))
    root = folder / "r"
    code, _ = pipe_text("run", sweep, "--local", "--root", root)
    assert code == 0
    store = folder / "store"
    code, text = pipe_text(
        "moments", "build", "factworld", "--corpus", "factworld", "--sentences", "40", "--layers", "0", "--store", store
    )
    assert code == 0, text
    return {"SWEEP": sweep, "ROOT": root, "STORE": store}


def filled(view: str, places: dict[str, Path]) -> list[object]:
    return [places.get(part, part) if isinstance(part, str) else part for part in VIEWS[view]]


@pytest.fixture(scope="module")
def shown(places: dict[str, Path]) -> Callable[[str, int], tuple[int, str]]:
    """A view on a terminal of some width, looked at once for all tests."""
    return functools.cache(lambda view, width: terminal_text(width, *filled(view, places)))


# What differs between two looks: sizes, times, and what a title says only where columns have left.
VARIES = re.compile(r"[\d.,:]+|scores|argmax|s|min|h|ago")
LEFT_OUT = re.compile(r"left out: .*?--wide\s+shows\s+all", re.DOTALL)


def words_of(text: str) -> set[str]:
    """Return the words of a view, without what quotes and separates them, rules left out."""
    words = {word.strip("();,:") for word in text.split()}
    return {word for word in words if set(word) - set("─|-=") and not VARIES.fullmatch(word)}


def parts_of(word: str) -> set[str]:
    """Return what a word may be broken into: runs of its pieces, each up to a sign."""
    pieces = re.split(r"(?<=[/+,:;_-])", word)
    ends = range(len(pieces) + 1)
    return {"".join(pieces[start:end]).strip("();,:") for start in ends for end in ends if start < end}


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("view", VIEWS)
def test_no_line_is_wider_than_the_terminal(
    places: dict[str, Path], shown: Callable[[str, int], tuple[int, str]], view: str, width: int
) -> None:
    code, text = shown(view, width)
    assert code == 0, text
    # A path is printed whole: it is there to be copied.
    paths = [str(path) for path in places.values()]
    lines = [line for line in text.splitlines() if not any(path in line for path in paths)]
    assert [line for line in lines if cell_len(line.rstrip()) > width] == []
    assert "…" not in text


@pytest.mark.parametrize("view", VIEWS)
def test_no_word_is_cut_at_80_columns(shown: Callable[[str, int], tuple[int, str]], view: str) -> None:
    """Every word at 80 columns is one of the view with room for all, or such a one up to a sign or from there on."""
    wide = words_of(shown(view, 400)[1])
    narrow = words_of(LEFT_OUT.sub("", shown(view, 80)[1]))
    assert narrow - wide - {part for word in wide for part in parts_of(word)} == set()


@pytest.mark.parametrize("view", VIEWS)
def test_a_pipe_is_neither_padded_nor_cut(places: dict[str, Path], view: str) -> None:
    code, text = pipe_text(*filled(view, places))
    assert code == 0
    assert [line for line in text.splitlines() if line != line.rstrip()] == []
    assert "…" not in text
    assert "left out:" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize("view", AS_JSON)
def test_json_is_one_object_and_nothing_else(
    places: dict[str, Path], view: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = pipe_text(*filled(view, places), "--json")
    assert (code, capsys.readouterr().out) == (0, "")
    assert isinstance(json.loads(text), dict)
    # The same on a terminal.
    assert json.loads(terminal_text(80, *filled(view, places), "--json")[1]) == json.loads(text) or view == "doctor"


def test_run_ends_with_one_json_object(places: dict[str, Path]) -> None:
    code, text = pipe_text("run", places["SWEEP"], "--root", places["ROOT"], "--json")
    record = json.loads(text)
    assert (code, record["exit_code"], record["complete"], record["states"]) == (0, 0, True, {"done": 4})


def test_json_of_figures_names_their_files_and_what_is_lacking(places: dict[str, Path], tmp_path: Path) -> None:
    record = json.loads(pipe_text("plot", places["ROOT"], "scores", "--out", tmp_path / "s.svg", "--json")[1])
    (one,) = record["figures"]
    assert (one["name"], one["file"], one["lacks"]) == ("scores", str(tmp_path / "s.svg"), None)
    assert Path(one["data"]).is_file()
    text = pipe_text("plot", places["ROOT"], "all", "--out", tmp_path / "all", "--format", "svg", "--json")[1]
    drawn = json.loads(text)["figures"]
    assert [one["name"] for one in drawn] == [one["name"] for one in json.loads(listed(places))["figures"]]
    assert {one["file"] for one in drawn} - {None} == {str(path) for path in (tmp_path / "all").glob("*.svg")}
    assert all((one["file"] is None) == bool(one["lacks"]) for one in drawn)


def listed(places: dict[str, Path]) -> str:
    return pipe_text("plot", places["ROOT"], "--json")[1]


def test_hyperparameters_are_json_values() -> None:
    record = json.loads(pipe_text("methods", "alphaedit+sphere", "--preset", "llama3-8b", "--json")[1])
    values = {one["hyperparameter"]: one["value"] for one in record["hyperparameters"]}
    assert values["layers"] == [4, 5, 6, 7, 8]
    assert isinstance(values["nullspace_threshold"], float)
    assert {type(value) for value in values.values()} >= {int, float, list}
    assert all(one["source"] for one in record["hyperparameters"])


def plan_of(places: dict[str, Path]) -> SweepPlan:
    return read_plan(Storage(places["ROOT"]))


def test_ids_are_whole_in_a_pipe_and_their_beginnings_on_a_terminal(places: dict[str, Path]) -> None:
    for view in ("status", "plan"):
        piped, shown = pipe_text(*filled(view, places))[1], terminal_text(80, *filled(view, places))[1]
        for trajectory in plan_of(places).trajectories:
            assert [line for line in piped.splitlines() if line.split("\t")[0] == trajectory.id] != []
            assert trajectory.id not in shown
            assert trajectory.id[:8] in shown


def test_status_and_grep_find_an_id(places: dict[str, Path]) -> None:
    """The real thing: a process, a pipe, grep."""
    wanted = plan_of(places).trajectories[2].id
    command = f"{sys.executable} -m workflows.cli status {places['ROOT']} | grep {wanted} | cut -f 4"
    done = subprocess.run(command, shell=True, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_a_real_terminal_of_80_columns(places: dict[str, Path]) -> None:
    main, child = pty.openpty()
    ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 80, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [sys.executable, "-m", "workflows.cli", "status", str(places["ROOT"])],
        cwd=REPOSITORY,
        stdout=child,
        env=environment | {"TERM": "xterm", "NO_COLOR": "1"},
    ) as process:
        os.close(child)
        data = b""
        try:
            while part := os.read(main, 65536):
                data += part
        except OSError:
            # The other end is closed: that is how a terminal ends on Linux.
            pass
        os.close(main)
        assert process.wait() == 0
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode()).splitlines()
    assert lines[0].startswith("tiny; model factworld")
    assert max(len(line.rstrip()) for line in lines) <= 80


def test_wide_shows_every_column_on_a_terminal(places: dict[str, Path]) -> None:
    _, text = terminal_text(80, "status", places["ROOT"], "--wide")
    assert "trajectory  model      method" in text
    assert all(column in text for column in ("edits/s", "scored", "general", "drift"))
    assert "left out" not in text


def test_the_table_is_markdown_in_a_pipe_and_where_it_is_wanted(places: dict[str, Path], tmp_path: Path) -> None:
    _, piped = pipe_text("table", places["ROOT"])
    assert "| (unedited) " in piped
    assert terminal_text(80, "table", places["ROOT"], "--format", "md")[1] == piped
    for name, head in {"t.md": b"factworld; ", "t.csv": b"model,stream,", "t.json": b"{", "t.parquet": b"PAR1"}.items():
        assert pipe_text("table", places["ROOT"], "--out", tmp_path / name) == (0, "")
        assert (tmp_path / name).read_bytes().startswith(head)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--json", "--format", "csv"), "exclude each other"),
        (("--out", "no/such/folder/t.csv"), "cannot be written"),
        (("--format", "parquet"), "needs a file"),
    ],
)
def test_wrong_output_is_refused(
    places: dict[str, Path], arguments: tuple[str, ...], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pipe_text("table", places["ROOT"], *arguments) == (2, "")
    assert fault in " ".join(capsys.readouterr().err.split())
