"""`python -m benchmarks.side_by_side`: editing, scoring, generation and start-up beside the published way, on the CPU.

A Llama of SmolLM2-135M's shape with random weights in fp32; AlphaEdit with SPHERE, 25 forwards per target, six
contexts. Editing is measured at the relative depth of Llama-3-8B's layers 4-8 of 32, and at a late depth where less of
the model follows. All seconds are of the processor; `--threads 1` is what the documentation prints.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks import scoring
from benchmarks.generation import AT_FORWARD, generation_rows
from benchmarks.gpu.setting import Setting
from benchmarks.plain_edit import PlainEdit
from benchmarks.probes import counterfact_probes
from benchmarks.rows import Row, comparison, table
from benchmarks.timing import relative_difference
from sphere_core.checkpoints import EditorState
from sphere_core.datasets.counterfact import counterfact_requests
from sphere_core.editors.closed_form.loop import ClosedFormEditor
from sphere_core.locate.batch import LocatedBatch
from sphere_core.locate.targets import Targets, TargetSettings, optimise_targets
from sphere_core.locate.templates import Contexts
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel, load_model
from sphere_core.moments.record import SecondMoments
from sphere_core.requests import EditRequest
from sphere_core.solver.placement import BESIDE_LAYERS

__all__ = ["LATE", "SHAPE", "edit_rows", "main", "score_row", "start_rows"]

SHAPE = Setting(
    hidden=576,
    intermediate=1536,
    depth=30,
    heads=9,
    shared_heads=3,
    vocabulary=49152,
    layers=(4, 5, 6, 7, 8),
    dtype=torch.float32,
    batch=12,
    steps=25,
    history=0,
    stream=12,
    square=0,
    launches=0,
    scored=24,
    repeats=1,
)
LATE = (17, 18, 19, 20, 21)
METHOD = "alphaedit+sphere"
EDIT, SCORE, START = 9, 5, 2
# The updates pass through float32 forwards in another order of sums, and dense fp32 solves on the published side.
_TOLERANCE = 1e-3
_CPU = torch.device("cpu")
_WIDTH = 200

# What the released evaluation script imports before it loads the model, of the packages installed here.
_PLAIN_START = """
import json, numpy, scipy, sklearn.feature_extraction.text, datasets, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32), AutoTokenizer.from_pretrained(sys.argv[1])
"""
_OUR_START = """
import workflows.replicas.replica
from sphere_core.models import load_model
load_model(sys.argv[1], dtype="float32", device="cpu")
"""


def edit_rows(setting: Setting, *, alone: int, required: float | None) -> list[Row]:
    """Return the rows of an edit and of its targets, both in seconds per edit; `difference` is that of the weights
    after the same `alone` requests. The published form is timed on those: its cost per edit does not depend on the
    batch, and what it does once per batch is shared by as many edits as ours."""
    model = setting.model(_CPU)
    requests, contexts = setting.requests(model, setting.batch)
    moments = setting.moments(_CPU)
    spaces = {layer: moments.null_spaces[layer].basis for layer in setting.layers}
    projectors = {layer: (torch.eye(len(basis)) - basis @ basis.T).float() for layer, basis in spaces.items()}
    plain = PlainEdit(TargetSettings.of(setting.hyperparameters()), projectors)
    sites = model.open_sites(setting.layers)

    def ours(count: int) -> tuple[float, float, list[torch.Tensor]]:
        return _edited(setting, model, requests[:count], contexts, moments)

    begun = time.perf_counter()
    plain.edit(model, requests[:alone], contexts)
    walls = [(time.perf_counter() - begun) / alone]
    expected = [model.weight(site) - model.base_weight(site) for site in sites]
    model.restore_base()
    found = ours(alone)[2]
    begun = time.perf_counter()
    seconds, targets, _ = ours(setting.batch)
    walls.append((time.perf_counter() - begun) / setting.batch)
    difference = max(relative_difference(one, other) for one, other in zip(found, expected, strict=True))
    where = f"layers {setting.layers[0]}-{setting.layers[-1]} of {setting.depth}"
    what = f"{METHOD}, batch of {setting.batch}, {setting.steps} forwards; published form: {alone} of them; fp32"
    published = plain.per_edit + plain.per_batch / setting.batch
    return [
        comparison(
            f"an edit, {where}",
            what,
            (published, seconds / setting.batch),
            wall=(walls[0], walls[1]),
            required=required,
            difference=difference,
            tolerance=_TOLERANCE,
        ),
        Row(
            f"of which targets, {where}",
            "per edit",
            plain.targets / (targets / setting.batch),
            "x",
            None,
            plain.targets,
            targets / setting.batch,
        ),
    ]


def _edited(
    setting: Setting, model: EditableModel, requests: list[EditRequest], contexts: Contexts, moments: SecondMoments
) -> tuple[float, float, list[torch.Tensor]]:
    """Edit a batch as a trajectory does; return processor seconds of all and of the targets, and the updates."""
    model.restore_base()
    editor = resolve_method(METHOD).build(setting.hyperparameters(), moments, BESIDE_LAYERS)
    if not isinstance(editor, ClosedFormEditor):
        raise TypeError(f"{METHOD} is not a closed-form editor")
    spent = 0.0

    def timed(model: EditableModel, batch: LocatedBatch, settings: TargetSettings) -> Targets:
        nonlocal spent
        begun = time.process_time()
        found = optimise_targets(model, batch, settings)
        spent += time.process_time() - begun
        return found

    start = time.process_time()
    replace(editor, find_targets=timed).edit(model, requests, contexts, EditorState())
    seconds = time.process_time() - start
    changes = [model.weight(site) - model.base_weight(site) for site in model.sites]
    model.restore_base()
    return seconds, spent, changes


def score_row(setting: Setting, *, required: float | None, repeats: int = 1) -> Row:
    """Return the row of scored records: 13 probes with both answers each, as CounterFact has them."""
    model = setting.model(_CPU)
    requests, _ = setting.requests(model, setting.scored)
    row = scoring.compared("a scored record", model, counterfact_probes(model, requests), repeats=repeats)
    return _per_record(row, setting.scored, required)


def real_score_row(model: str, data: Path, count: int, *, required: float | None) -> Row:
    """Return the row of the first records of a CounterFact file on a model's folder, in fp32."""
    records = json.loads(data.read_text(encoding="utf-8"))[:count]
    requests = counterfact_requests(records, source=str(data))
    loaded = load_model(model, dtype="float32", device=_CPU)
    # The published form's log-softmax over the vocabulary is fp32, and NLLs of a trained model are large.
    what, tolerance = f"a scored record of {data.name}", 1e-4
    return _per_record(
        scoring.compared(what, loaded, requests, repeats=1, tolerance=tolerance), len(requests), required
    )


def _per_record(row: Row, count: int, required: float | None) -> Row:
    ours, published = row.ours or 0.0, row.published or 0.0
    return replace(row, required=required, ours=ours / count, published=published / count)


def start_rows(setting: Setting) -> list[Row]:
    """Return the rows of start-up, in processes of their own: imports and the model; and commands without a model."""
    with tempfile.TemporaryDirectory() as folder:
        model = setting.model(_CPU)
        model.network.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
        plain, ours = (_seconds_of(f"import sys\n{code}", folder) for code in (_PLAIN_START, _OUR_START))
        listing = _seconds_of("import sys\nsys.argv = ['sphere', 'methods']\nimport workflows.cli as c\nc.main()")
    return [
        Row("start-up: imports and model", "a replica; the model loaded", plain / ours, "x", None, plain, ours),
        Row("start-up: a command without a model", "sphere methods", plain / listing, "x", START, plain, listing),
    ]


def _seconds_of(code: str, *arguments: str) -> float:
    """Return processor seconds of a Python process, user and system."""
    repository = str(Path(__file__).resolve().parent.parent)
    child = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": repository, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"exit code {child.returncode} of {code!r}")
    return usage.ru_utime + usage.ru_stime


PARTS = {
    "edit": lambda: edit_rows(SHAPE, alone=1, required=EDIT),
    "late": lambda: edit_rows(replace(SHAPE, layers=LATE), alone=1, required=None),
    "score": lambda: [score_row(SHAPE, required=SCORE)],
    "generate": lambda: generation_rows(SHAPE, tokens=20, required=AT_FORWARD),
    "start": lambda: start_rows(SHAPE),
}


def main(
    only: Annotated[str, typer.Option(help="Parts, separated by commas")] = ",".join(PARTS),
    threads: Annotated[int, typer.Option(min=1, help="Threads of both forms")] = 1,
    model: Annotated[
        str | None, typer.Option(help="Folder of a model on which to score --data, as one more row")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="CounterFact file")] = None,
    records: Annotated[int, typer.Option(min=1, help="Records of --data to score")] = 24,
) -> None:
    """Measure and print one table; exits 1 where a ratio is missed."""
    chosen = only.split(",") if only else []
    unknown = sorted(set(chosen) - set(PARTS))
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}; known: {', '.join(PARTS)}")
    torch.set_num_threads(threads)
    rows: list[Row] = []
    for name in chosen:
        rows += PARTS[name]()
        typer.echo(f"{name}: done", err=True)
    if model is not None and data is not None:
        rows.append(real_score_row(model, data, records, required=SCORE))
    title = f"beside the published way, Llama of SmolLM2-135M's shape, CPU, processor seconds, threads: {threads}"
    console = Console()
    (console if console.is_terminal else Console(width=_WIDTH)).print(table(rows, title=title))
    if any(row.met is False for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
