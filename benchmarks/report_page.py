"""`python -m benchmarks.report_page`: the report of a generated sweep of 1,000 trajectories, and of a sweep of yours.

Writes plan, manifests, specifications and row files in the real schema, without editing anything; makes the page in a
process of its own, and opens it in headless Chromium from disk: size, processor seconds, seconds until it is loaded
and drawn (by the clock, and of the page's own thread, which other work of the machine does not slow), what the console
says.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.generated_sweep import METHODS, put_checkpoint, subject, trajectory
from evaluators.base import Health, Score, make_score
from sphere_core.foundation.storage import Storage
from workflows.replicas.row_writer import encode_rows, publish_rows
from workflows.store.layout import PLAN_FILE, spec_path
from workflows.store.plan import Evaluation, SweepPlan

__all__ = ["main", "opened_in_chromium", "write_sweep"]

QUALITY, GEOMETRY = Evaluation(kind="edit_quality", id="a" * 12), Evaluation(kind="geometry", id="c" * 12)
SITES = tuple(f"model.layers.{layer}.mlp.down_proj.weight" for layer in (4, 5, 6, 7, 8))
SCORES = ("efficacy", "generalization", "specificity", "score")
MOST_MEGABYTES, MOST_SECONDS = 3.0, 2.0


def write_sweep(root: Path, *, trajectories: int, checkpoints: int) -> None:
    """Write a finished sweep of five methods with as many seeds as it takes; scores fall and drift grows with edits."""
    storage, generator = Storage(root), np.random.default_rng(0)
    wanted = tuple(100 * place for place in range(1, checkpoints + 1))
    plans = [trajectory(place, wanted, (QUALITY, GEOMETRY)) for place in range(trajectories)]
    for place, plan in enumerate(plans):
        storage.write_bytes(spec_path(plan.id), b'{"hyperparameters": {"layers": [4, 5, 6, 7, 8]}}')
        rate = 0.4 + 0.1 * (place % len(METHODS)) + 0.05 * generator.random()
        for edits in wanted:
            lost = rate * edits / wanted[-1]
            quality = [_score(name, "argmax", float(1 - lost + 0.02 * generator.normal())) for name in SCORES]
            publish_rows(storage, plan.rows_path(edits, QUALITY), encode_rows(subject(plan, edits, QUALITY), quality))
            geometry = [
                _score(metric, "exact", float(scale * lost * (1 + 0.1 * generator.random())), site)
                for site in SITES
                for metric, scale in (("he_drift", 0.1), ("delta_norm", 30.0), ("weight_norm", 100.0))
            ]
            path = plan.rows_path(edits, GEOMETRY)
            publish_rows(storage, path, encode_rows(subject(plan, edits, GEOMETRY), geometry))
            put_checkpoint(storage, plan, edits)
    sweep = SweepPlan(name="many", trajectories=tuple(plans), bases=(), recipes=())
    storage.write_bytes(PLAN_FILE, sweep.model_dump_json().encode())


def _score(metric: str, protocol: str, value: float, site: str | None = None) -> Score:
    health = Health(100, 0, 0)
    better = None if site else True
    return make_score(metric, protocol, value, None, n=100, health=health, higher_is_better=better, site=site)


def opened_in_chromium(page: Path) -> tuple[float, float, list[str]] | None:
    """Return the seconds until a page from disk is loaded and drawn, the processor seconds of its thread until then,
    and what its console says; None without Chromium.

    The browser is warm: an empty page was opened before.
    """
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        return None
    if program is None:
        return None
    said: list[str] = []
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=300_000)
        browser.new_page().goto("about:blank")
        tab = browser.new_page()
        tab.set_default_timeout(300_000)
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        thread = tab.context.new_cdp_session(tab)
        thread.send("Performance.enable", {"timeDomain": "threadTicks"})
        start = time.perf_counter()
        tab.goto(page.as_uri())
        tab.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        seconds = time.perf_counter() - start
        found = {one["name"]: one["value"] for one in thread.send("Performance.getMetrics")["metrics"]}
        browser.close()
    return seconds, float(found["TaskDuration"]), said


def _measured(root: Path, out: Path) -> float:
    """Run `sphere report` and return its processor seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    command = [sys.executable, "-m", "workflows.cli", "report", str(root), "--out", str(out)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(
    roots: Annotated[list[Path] | None, typer.Argument(help="Sweeps of yours, beside the generated one")] = None,
    trajectories: Annotated[int, typer.Option(min=1, help="Trajectories of the generated sweep")] = 1000,
    checkpoints: Annotated[int, typer.Option(min=1, help="Checkpoints of each")] = 4,
) -> None:
    """Generate a sweep, make its report and open it; exits 1 if a page is too large or slow, or its console speaks."""
    shown = Table("sweep", "trajectories", "made, processor s", "MB", "opened, s", "its thread, s", "console", "limit")
    good = True
    with tempfile.TemporaryDirectory() as folder:
        generated, out = Path(folder) / "many", Path(folder) / "report.html"
        write_sweep(generated, trajectories=trajectories, checkpoints=checkpoints)
        for root in (generated, *(roots or [])):
            seconds, megabytes = _measured(root, out), out.stat().st_size / 1e6
            seen = opened_in_chromium(out)
            count = len(SweepPlan.model_validate_json((root / PLAN_FILE).read_bytes()).trajectories)
            opened = ("no browser", "", "") if seen is None else (f"{seen[0]:.2f}", f"{seen[1]:.2f}", str(len(seen[2])))
            limit = f"{MOST_MEGABYTES:g} MB, {MOST_SECONDS:g} s"
            shown.add_row(root.name, str(count), f"{seconds:.1f}", f"{megabytes:.2f}", *opened, limit)
            good &= megabytes <= MOST_MEGABYTES and (seen is None or (seen[1] <= MOST_SECONDS and not seen[2]))
    Console().print(shown)
    if not good:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
