"""A sweep in its first minutes, when the unedited model alone is scored."""

from pathlib import Path

import pytest
from figure_parts import drawn_sweep
from typer.testing import CliRunner

from sphere_core.foundation.errors import InputError
from workflows.commands.plot import app as plot_app
from workflows.commands.report import app as report_app
from workflows.results.figures.catalogue import FIGURES


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn sweep without its trajectories' rows and details."""
    root = tmp_path_factory.mktemp("started")
    drawn_sweep(root)
    for folder in ("rows", "details"):
        for file in root.joinpath(folder).rglob("*.parquet"):
            if not file.name.startswith("base-"):
                file.unlink()
    assert list(root.joinpath("rows").rglob("base-*.parquet"))
    return root


# Seconds are counted before anything is scored.
@pytest.mark.parametrize("name", [name for name in FIGURES if name != "seconds"])
def test_a_figure_says_what_it_lacks(started: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "figure.png"
    with pytest.raises(InputError, match=r"nothing to draw|no scored probes|one order|no checkpoint"):
        CliRunner().invoke(plot_app, [str(started), name, "--out", str(out)], catch_exceptions=False)
    assert not out.exists()


def test_a_report_is_written_and_says_that_it_is_not_complete(started: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = CliRunner().invoke(report_app, [str(started), "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "not complete yet" in done.output
    assert "<html" in out.read_text(encoding="utf-8")
