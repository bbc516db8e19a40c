"""The model card of an exported model: what was edited, how, and what was measured."""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import yaml

from sphere_core.checkpoints import Checkpoint
from sphere_core.export import Merge
from sphere_core.foundation.hub_ids import is_hub_id
from sphere_core.foundation.parquet import parquet_table
from sphere_core.foundation.storage import Storage
from sphere_core.models import EditableModel
from sphere_core.models.attachments import Attachment
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.runs.checkpoint_address import FoundCheckpoint
from workflows.store.layout import ROWS, scored_name
from workflows.terminal.escape import markdown_text
from workflows.terminal.markdown import code_span, markdown_table

__all__ = ["checkpoint_scores", "model_card"]

# What a memory that decides by the prompt must be given.
_ROUTED = (
    "It answers by the prompt, and refuses rows that do not say where theirs end: generate inside "
    "`with model.reading(ends=...)`, the place behind each row's prompt.\n",
)


def checkpoint_scores(sweep: Storage, trajectory_id: str, edits: int) -> list[dict[str, object]]:
    """Return the rows of one checkpoint, those of single sites left out."""
    wanted = f"{scored_name(trajectory_id, edits)}-"
    paths = [path for path in sweep.list(ROWS) if path.rpartition("/")[2].startswith(wanted)]
    tables = [parquet_table(sweep.read_bytes(path)) for path in sorted(paths)]
    return [row for table in tables for row in table.to_pylist() if row["site"] is None]


def model_card(
    found: FoundCheckpoint, model: EditableModel, merged: Sequence[Merge], scores: Sequence[dict[str, object]]
) -> str:
    """Return the card as Markdown with a YAML head; names of local folders are shortened to their last part."""
    spec, edits, attachment = found.spec, found.checkpoint.edits, found.checkpoint.attachment
    name = _model_name(spec)
    head: dict[str, object] = {"library_name": "transformers", "tags": ["model-editing", *spec.method.split("+")]}
    if is_hub_id(spec.model):
        head = {"base_model": spec.model, "base_model_relation": "finetune", **head}
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n",
        f"# {markdown_text(name)} after {edits} edits with {markdown_text(spec.method)}{_tuning(found)}\n",
        f"{_written(found, model, name)} Benchmarks of model editing use made-up answers: what this model says about "
        "its subjects is what was written into it, not what is true.\n",
        "## What was edited\n",
        _table(("", ""), _facts(found, model), markup=True),
        "## Hyperparameters\n",
        _table(("name", "value"), ((key, _plain(value)) for key, value in spec.hyperparameters.identity().items())),
        *(_weights(spec, merged) if attachment is None else _loading(attachment, model, found.checkpoint)),
        "## Scores of this checkpoint\n",
        _scores(scores) if scores else "None were recorded beside the checkpoint.\n",
    ]
    return "\n".join(parts)


def _tuning(found: FoundCheckpoint) -> str:
    steps, tuning = found.checkpoint.steps, found.spec.tuning
    return "" if steps is None or tuning is None else f", then {steps} steps of fine-tuning ({tuning.settings.method})"


def _written(found: FoundCheckpoint, model: EditableModel, name: str) -> str:
    edits, attachment = found.checkpoint.edits, found.checkpoint.attachment
    if found.checkpoint.steps is not None:
        return f"{edits} edit requests were written into {code_span(name)}{_tuning(found)}: most weights may differ."
    if attachment is not None:
        return f"{edits} edit requests are stored beside {code_span(name)}, whose weights are unchanged."
    where = f"{len(model.sites)} weight matrices of {code_span(name)}"
    return f"{edits} edit requests were written into {where}; every other weight is the base model's."


def _weights(spec: TrajectorySpec, merged: Sequence[Merge]) -> list[str]:
    return [
        "## Edited weights\n",
        f"Edited as float32 masters, stored as {spec.dtype}. *Lost* is the part of the change that rounding takes.\n",
        _table(
            ("weight", "change, of the weight's norm", "lost, of the change"),
            ((f"`{m.site}`", f"{m.change:.3g}", f"{m.share:.2g}") for m in merged if m.dtype == spec.dtype),
            markup=True,
        ),
    ]


def _loading(attachment: Attachment, model: EditableModel, done: Checkpoint) -> list[str]:
    each = f"{attachment.size / done.edits:.0f} per edit"
    alone = "the unedited model" if done.steps is None else "the tuned model without what was stored"
    return [
        "## How to load it\n",
        f"Plain `transformers` cannot represent what was stored ({attachment.kind}, {attachment.size} bytes, {each}): "
        f"the folder `network` alone is {alone}. With this project installed:\n",
        "```python\nfrom pathlib import Path\n\nfrom sphere_core.export import load_exported\n\n"
        'model = load_exported(Path("."))\nmodel.network.generate(...)\n```\n',
        *(_ROUTED if model.routes_by_prompt else ()),
    ]


def _facts(found: FoundCheckpoint, model: EditableModel) -> list[tuple[str, str]]:
    spec = found.spec
    stream = spec.stream
    return [
        ("base model", code_span(_model_name(spec)) + (f" at {code_span(spec.revision)}" if spec.revision else "")),
        ("base model's digest", f"`{spec.model_digest}`"),
        ("method", code_span(spec.method)),
        ("edits", f"{found.checkpoint.edits} of {stream.edits}, in batches of {spec.batch_size}"),
        ("stream", markdown_text(f"{stream.name}, {stream.order_name}")),
        ("stream's digest", f"`{spec.stream_digest}`"),
        ("seed", str(spec.seed)),
        ("trajectory", f"`{found.checkpoint.trajectory_id}`"),
        ("edited weights' digest", f"`{model.weights_digest()}`"),
    ]


def _model_name(spec: TrajectorySpec) -> str:
    return spec.model if is_hub_id(spec.model) else PurePosixPath(spec.model).name


def _scores(scores: Iterable[dict[str, object]]) -> str:
    def cells(row: dict[str, object]) -> tuple[str, ...]:
        value, spread = row["value"], row["stderr"]
        shown = str(row["status"]) if not isinstance(value, float) else f"{value:.4g}"
        if isinstance(spread, float):
            shown += f" ± {spread:.2g}"
        named = (str(row[key] or "") for key in ("evaluator", "task", "metric", "protocol"))
        return (*named, shown, str(row["n"]))

    return _table(("evaluator", "task", "metric", "protocol", "value ± standard error", "n"), map(cells, scores))


def _plain(value: object) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, markup: bool = False) -> str:
    return markdown_table(columns, rows, markup=markup) + "\n"
