"""`python -m benchmarks.queries ROOT`: processor-seconds per query and per edit of every trajectory that is done.

A query is one prompt, read alone by the last checkpoint, to the logits that follow it; each is new to the model, since
a memory may know what it has seen. Edits are two batches on the unedited model. Both in one thread and beside the
unedited model in the same process; of queries the least of several repeats.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks.models import factworld
from benchmarks.rows import Row, table
from sphere_core.checkpoint_files import checkpoints_in
from sphere_core.foundation.storage import Storage
from sphere_core.locate.prompts import text_ids
from sphere_core.locate.templates import Contexts
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel
from sphere_core.moments.files import read_moments
from sphere_core.moments.record import SecondMoments
from sphere_core.requests import EditRequest
from sphere_core.trajectory import run_trajectory
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.runs.checkpoint_address import FoundCheckpoint, find_checkpoint
from workflows.store.layout import CHECKPOINTS, TRAJECTORIES
from workflows.store.plan import TrajectoryPlan, read_plan

__all__ = ["main", "seconds_per_edit", "seconds_per_query"]

_EDITS, _QUERIES, _REPEATS = 50, 200, 3


def seconds_per_query(model: EditableModel, prompts: Sequence[str]) -> float:
    """Return processor-seconds per prompt: reading it as the attachment wants it, and the logits behind it."""
    rows = [text_ids(model.tokenizer, prompt) for prompt in prompts]

    def ask() -> None:
        # Installed again: it knows none of the prompts.
        model.attach(model.attachment)
        for row in rows:
            read = torch.tensor([model.rewritten(row, len(row))])
            with torch.no_grad(), model.reading(ends=torch.tensor([read.shape[1]])):
                hidden = model.decoder(input_ids=read, use_cache=False).last_hidden_state
                model.normed_logits(hidden[:, -1])

    return _least(ask, _REPEATS) / len(rows)


def seconds_per_edit(
    spec: TrajectorySpec,
    model: EditableModel,
    requests: Sequence[EditRequest],
    contexts: Contexts,
    moments: SecondMoments | None,
) -> float:
    """Return processor-seconds per edit of the trajectory's method, building it left out."""
    method = resolve_method(spec.method)
    editor = method.build(spec.hyperparameters, moments)

    def edit() -> None:
        model.restore_base()
        chain = run_trajectory(
            "benchmark", editor, model, requests, batch_size=spec.batch_size, contexts=contexts, resume=None
        )
        for _ in chain:
            pass

    return _least(edit, 1) / len(requests)


def _least(work: Callable[[], None], repeats: int) -> float:
    found = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def _prompts(requests: Iterable[EditRequest]) -> list[str]:
    """Return rewrite and neighborhood prompts in turn, each once."""
    found: dict[str, None] = {}
    for request in requests:
        found[request.question] = None
        found.update(dict.fromkeys(p.prompt for p in request.probes if p.role == "neighborhood"))
    return list(found)[:_QUERIES]


def _finished(root: Storage) -> Iterable[tuple[TrajectoryPlan, FoundCheckpoint]]:
    for planned in read_plan(root).trajectories:
        if planned.edits in checkpoints_in(root.child(f"{TRAJECTORIES}/{planned.id}/{CHECKPOINTS}")):
            yield planned, find_checkpoint(root.uri, trajectory=planned.id, edits=planned.edits)


def _moments(root: Storage, planned: TrajectoryPlan) -> SecondMoments:
    """Return the second moments that a sweep has built for a trajectory."""
    return read_moments(Path(root.uri, "moments", f"{planned.moments}.safetensors"))


def main(
    roots: Annotated[list[str], typer.Argument(help="Roots of sweeps on the fact world")],
    edits: Annotated[bool, typer.Option(help="Also measure editing, once per method")] = True,
    queries: Annotated[bool, typer.Option(help="Measure queries")] = True,
) -> None:
    """Measure what queries and edits cost, per method and number of edits."""
    torch.set_num_threads(1)
    model, requests, contexts = factworld(_EDITS)
    prompts = _prompts(requests)
    plain = seconds_per_query(model, prompts)
    rows = [Row("unedited", "a query", 1e3 * plain, "ms")]
    edited: set[str] = set()
    for root in map(Storage, roots):
        for planned, found in _finished(root):
            method, spec, checkpoint = planned.title, found.spec, found.checkpoint
            if edits and method not in edited:
                edited.add(method)
                needs = resolve_method(spec.method).needs_moments(spec.hyperparameters)
                moments = _moments(root, planned) if needs else None
                spent = seconds_per_edit(spec, model, requests, contexts, moments)
                rows.append(Row(method, f"an edit, {len(requests)} of them", 1e3 * spent, "ms"))
            if not queries:
                continue
            model.load_weights(checkpoint.weights, checkpoint.attachment)
            spent = seconds_per_query(model, prompts)
            rows.append(Row(method, f"a query after {checkpoint.edits} edits", 1e3 * spent, "ms"))
            rows.append(Row(method, f"over unedited, {checkpoint.edits} edits", spent / plain, "x"))
            model.restore_base()
    Console(width=120).print(table(rows, title=f"fact world, CPU, one thread, torch {torch.__version__}"))


if __name__ == "__main__":
    typer.run(main)
