"""The public views of a sweep: every column with its type and meaning. A column is added, never renamed or removed."""

from dataclasses import dataclass

from sphere_core.hyperparameters import Hyperparameters
from workflows.results.sql.plan_tables import HYPERPARAMETER_COLUMNS
from workflows.store.row_schema import COLUMN_DESCRIPTIONS, ROW_SCHEMA

__all__ = ["DOCUMENTS", "PROBES", "PROBE_TEXTS", "ROWS", "VIEW_COLUMNS", "ViewColumns", "sql_type"]

_SQL_TYPES = {
    "string": "VARCHAR",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
    "list<item: int64>": "BIGINT[]",
    "list<item: double>": "DOUBLE[]",
    "list<item: string>": "VARCHAR[]",
}


def sql_type(arrow: object) -> str:
    """Return the name that SQL has for an Arrow type; raises KeyError for one that no view has."""
    return _SQL_TYPES[str(arrow)]


# Columns of the files behind the views. Of details: which weights were scored, then what was found.
ROWS = {field.name: sql_type(field.type) for field in ROW_SCHEMA}
_SUBJECT = {name: kind for name, kind in list(ROWS.items())[1 : list(ROWS).index("metric")]}
PROBES = _SUBJECT | {
    "protocol": "VARCHAR",
    "edit": "INTEGER",
    "probe": "SMALLINT",
    "role": "VARCHAR",
    "nll_mean": "FLOAT",
    "tokens": "SMALLINT",
    "correct": "SMALLINT",
    "finite": "BOOLEAN",
    "tied": "BOOLEAN",
    "contrast_nll_mean": "FLOAT",
    "contrast_tokens": "SMALLINT",
    "contrast_finite": "BOOLEAN",
    "won": "BOOLEAN",
    "agreed": "SMALLINT",
}
_TEXTS = ("case_id", "relation", "role", "probe_group", "prompt", "target", "contrast")
PROBE_TEXTS = _SUBJECT | {"edit": "INTEGER", "probe": "SMALLINT", **dict.fromkeys(_TEXTS, "VARCHAR")}
DOCUMENTS = _SUBJECT | {
    "task": "VARCHAR",
    "filter": "VARCHAR",
    "doc_id": "BIGINT",
    "doc_hash": "VARCHAR",
    "target": "VARCHAR",
    "metrics": "MAP(VARCHAR, DOUBLE)",
    "weights": "MAP(VARCHAR, DOUBLE)",
    "choice": "INTEGER",
    "loglikelihoods": "DOUBLE[]",
    "text_hash": "VARCHAR",
    "text_length": "INTEGER",
    "finite": "BOOLEAN",
    "tied": "BOOLEAN",
}


@dataclass(frozen=True)
class ViewColumns:
    """A public view: what one row is, and its columns as SQL type and description by name."""

    one_row: str
    columns: dict[str, tuple[str, str]]


def _of_rows(*names: str) -> dict[str, tuple[str, str]]:
    return {name: (ROWS[name], COLUMN_DESCRIPTIONS[name]) for name in names}


_ROOT = {"root": ("VARCHAR", "The sweep directory, as it was named")}
_TRAJECTORY = {"trajectory_id": ("VARCHAR", "The trajectory; joins every view that has it")}
_EDIT = {"edit": ("INTEGER", "Place of the edit in its stream, from 1; with `trajectory_id` the key of `edits`")}
_PROBE = {"probe": ("SMALLINT", "Place of the probe in its edit request, from 0; 0 is the rewrite")}
_RELATION = (
    "VARCHAR",
    "The edit's relation: `relation_id` of the record; null without one, and in texts that earlier releases stored",
)
_TITLE = {"method": ("VARCHAR", "The method's name in tables: its `label`, or its name")}
_STREAM = {"stream": ("VARCHAR", "The stream in words: data set, order, edits, size of batches")}
_PLACE = (
    _ROOT
    | _TRAJECTORY
    | _of_rows("model")
    | _STREAM
    | _of_rows("dataset", "stream_order")
    | _TITLE
    | _of_rows("seed", "batch_size", "edits")
    | {"is_last": ("BOOLEAN", "Whether this checkpoint ends its trajectory: all edits, or the collapse")}
)
_CHANGE = {
    "unedited": ("DOUBLE", "The unedited model's value: same evaluator, metric and protocol, over the whole stream"),
    "change": ("DOUBLE", "`value` less `unedited`"),
}
_NUMBER = ("value", "stderr", "ci_low", "ci_high", "n", "nonfinite", "tied", "status", "reason", "higher_is_better")
_GEOMETRY = _of_rows("value", "n", "status", "reason") | _CHANGE

_TRAJECTORIES = (
    _ROOT
    | {
        "sweep": ("VARCHAR", "Name of the sweep"),
        "place": ("BIGINT", "Place in the order of roots and plans, from 0"),
    }
    | _TRAJECTORY
    | _of_rows("model", "model_digest", "dtype")
    | _STREAM
    | _of_rows("dataset", "stream_order", "stream_digest")
    | _TITLE
    | {"composition": ("VARCHAR", "Editor and regularizers, joined by `+`, whatever the label")}
    | _of_rows("editor", "regularizer", "seed", "batch_size")
    | {
        "planned_edits": ("BIGINT", "Edits of the whole stream"),
        "last_edits": ("BIGINT", "Edits at the checkpoint that ends it: all, or those at its collapse"),
        "state": ("VARCHAR", "planned, running, paused, edited, done, collapsed, stopped or failed"),
        "edits_done": ("BIGINT", "Edits that are published or reported so far"),
        "collapsed_at": ("BIGINT", "Edits at which the weights were no longer finite; null: never"),
        "parent": ("VARCHAR", "Of a fine-tuning: the trajectory whose checkpoint is fine-tuned; null for others"),
        "tuning": ("VARCHAR", "Of a fine-tuning: its name in tables"),
        "steps_done": ("BIGINT", "Of a fine-tuning: optimiser steps that are published or reported so far"),
        "last_steps": ("BIGINT", "Of a fine-tuning: steps at the checkpoint that ends it, which other views show"),
        "edit_seconds": ("DOUBLE", "Seconds of editing up to its last checkpoint; lost attempts are not counted"),
        "edits_per_second": ("DOUBLE", "Edits written in `edit_seconds`, per second"),
        "score_seconds": ("DOUBLE", "Seconds of scoring its checkpoints"),
        "device": ("VARCHAR", "Devices it was edited and scored on; null for roots written before version 4"),
        "code_version": ("VARCHAR", "Version of this package that did the work; null likewise"),
        "code_commit": ("VARCHAR", "Commit, where the package was run from a repository; null likewise"),
        "threads": ("BIGINT", "CPU threads of its replica"),
        "moments_tokens": ("BIGINT", "Tokens that second moments were built from; null: imported, or none"),
        "moments_sentences": ("BIGINT", "Texts that second moments were built from; null: imported, or none"),
    }
    | {
        name: (sql_type(kind), f"Hyperparameter. {Hyperparameters.model_fields[name[3:]].description}")
        for name, kind in HYPERPARAMETER_COLUMNS.items()
    }
)

VIEW_COLUMNS = {
    "trajectories": ViewColumns(
        "a trajectory of the plan, with its hyperparameters and its cost; those of an earlier plan are left out. Each "
        "axis of a `grid:` in the sweep file is a further column, `axis_strength`, of the type of its values",
        _TRAJECTORIES,
    ),
    "scores": ViewColumns(
        "a score of a checkpoint: edit quality and general ability, with the unedited model's beside it",
        _PLACE
        | _of_rows("evaluator", "evaluation_id", "metric", "protocol", "task")
        | _of_rows(*_NUMBER)
        | {
            "unedited": _CHANGE["unedited"],
            "unedited_status": ("VARCHAR", "`status` of the unedited model's score"),
            "change": _CHANGE["change"],
        },
    ),
    "unedited": ViewColumns(
        "a score of an unedited model, in each stream that starts from it",
        _ROOT
        | _of_rows("model", "model_digest")
        | _STREAM
        | _of_rows("dataset", "stream_order", "seed", "evaluator", "evaluation_id", "metric", "protocol")
        | _of_rows("site", "task", *_NUMBER),
    ),
    "geometry": ViewColumns(
        "a figure of geometry of one edited site at a checkpoint",
        _PLACE
        | _of_rows("evaluation_id", "metric", "protocol")
        | {"site": ("VARCHAR", "The edited weight matrix; never null")}
        | _GEOMETRY,
    ),
    "geometry_means": ViewColumns(
        "a figure of geometry at a checkpoint, the mean over the edited sites",
        _PLACE | _of_rows("evaluation_id", "metric", "protocol") | _GEOMETRY,
    ),
    "timings": ViewColumns(
        "a piece of work: a stretch of edits, or the scoring of one checkpoint",
        _ROOT
        | {
            "trajectory_id": ("VARCHAR", "The trajectory; null for the unedited model"),
            "edits": ("BIGINT", "Edits at the checkpoint that the work ended with"),
            "stage": ("VARCHAR", "`edit`, or the evaluator that scored"),
            "evaluation_id": ("VARCHAR", "Of scoring: which evaluation"),
            "seconds": ("DOUBLE", "Wall-clock seconds"),
            "edits_written": ("BIGINT", "Of editing: edits since the checkpoint before"),
            "rows": ("BIGINT", "Of scoring: rows written"),
            "attempt": ("BIGINT", "Of editing: which attempt at the trajectory"),
            "device": ("VARCHAR", "Kind of device: `cpu`, or the accelerator's name"),
            "versions": ("VARCHAR", "Versions of this package, Python and the libraries that did the work"),
            "code_version": ("VARCHAR", "Version of this package"),
            "code_commit": ("VARCHAR", "Commit, where the package was run from a repository"),
        },
    ),
    "stages": ViewColumns(
        "a stage of a piece of work; stages that are not `beside` add up to its seconds",
        _ROOT
        | {
            "trajectory_id": ("VARCHAR", "The trajectory; null for the unedited model"),
            "model": ("VARCHAR", "The model's name in tables"),
            "method": ("VARCHAR", "The method's name in tables, or `(unedited)`"),
            "edits": ("BIGINT", "Edits at the checkpoint that the work ended with"),
            "work": ("VARCHAR", "`edit`, or the evaluator that scored"),
            "evaluation_id": ("VARCHAR", "Of scoring: which evaluation"),
            "stage": ("VARCHAR", "`targets`, `keys`, `solve`, `score` and others; `whole` without measured stages"),
            "seconds": ("DOUBLE", "Seconds of the stage; on an accelerator, between events on its stream"),
            "beside": ("BOOLEAN", "Whether the stage ran on another thread meanwhile"),
            "edits_written": ("BIGINT", "Of editing: edits since the checkpoint before"),
            "rows": ("BIGINT", "Of scoring: rows written"),
            "attempt": ("BIGINT", "Of editing: which attempt at the trajectory"),
            "threads": ("BIGINT", "Threads of the process"),
            "device": ("VARCHAR", "Kind of device: `cpu`, or the accelerator's name"),
            "versions": ("VARCHAR", "Versions of this package, Python and the libraries that did the work"),
            "code_version": ("VARCHAR", "Version of this package"),
            "code_commit": ("VARCHAR", "Commit, where the package was run from a repository"),
        },
    ),
    "edits": ViewColumns(
        "an edit of a trajectory, with its texts",
        _ROOT
        | _TRAJECTORY
        | _EDIT
        | {
            "case_id": ("VARCHAR", "The record's id in its data set"),
            "relation": _RELATION,
            "prompt": ("VARCHAR", "The rewrite prompt"),
            "target": ("VARCHAR", "The new target"),
            "contrast": ("VARCHAR", "The true target; null where the data set has none"),
        },
    ),
    "texts": ViewColumns(
        "a probe of a trajectory's stream, with its texts; joins `probes` by `trajectory_id`, `edit`, `probe`",
        _ROOT
        | _TRAJECTORY
        | _EDIT
        | _PROBE
        | {
            "case_id": ("VARCHAR", "The record's id in its data set"),
            "relation": _RELATION,
            "role": ("VARCHAR", "rewrite, paraphrase, neighborhood, portability, ..."),
            "probe_group": ("VARCHAR", "Wordings of one question have one group; null: a question of its own"),
            "prompt": ("VARCHAR", "The prompt"),
            "target": ("VARCHAR", "The target that is scored"),
            "contrast": ("VARCHAR", "The target it is compared with; null without one"),
        },
    ),
    "probes": ViewColumns(
        "an answer to a probe at a checkpoint that is scored whole; `trajectory_id` is null for the unedited model",
        _ROOT
        | {name: (kind, COLUMN_DESCRIPTIONS[name]) for name, kind in _SUBJECT.items()}
        | {"protocol": ("VARCHAR", "How the probe was encoded: correct, paper-memit, ...")}
        | _EDIT
        | _PROBE
        | {
            "role": ("VARCHAR", "rewrite, paraphrase, neighborhood, portability, ..."),
            "nll_mean": ("FLOAT", "Mean negative log-likelihood per token of the target, nats"),
            "tokens": ("SMALLINT", "Tokens of the target"),
            "correct": ("SMALLINT", "How many of them are the argmax, given the ones before"),
            "finite": ("BOOLEAN", "Whether every logit behind it is finite"),
            "tied": ("BOOLEAN", "Whether a best answer is shared"),
            "contrast_nll_mean": ("FLOAT", "Mean negative log-likelihood per token of the contrast, nats"),
            "contrast_tokens": ("SMALLINT", "Tokens of the contrast"),
            "contrast_finite": ("BOOLEAN", "Whether every logit behind the contrast is finite"),
            "won": ("BOOLEAN", "Whether the target is likelier than the contrast; null without one"),
            "agreed": ("SMALLINT", "Tokens predicted as by the unedited model; null where that was not asked"),
            "is_right": ("BOOLEAN", "Whether every token of the target is the argmax"),
        },
    ),
    "documents": ViewColumns(
        "a document of a general-ability task and what the model made of it",
        _ROOT
        | {name: (kind, COLUMN_DESCRIPTIONS[name]) for name, kind in _SUBJECT.items()}
        | {
            "task": ("VARCHAR", "Task of lm-evaluation-harness"),
            "filter": ("VARCHAR", "Its filter; `none` without one"),
            "doc_id": ("BIGINT", "Place of the document in the task"),
            "doc_hash": ("VARCHAR", "Digest of document, prompt and target; pairs documents of two models"),
            "target": ("VARCHAR", "The right answer, as the harness has it"),
            "metrics": ("MAP(VARCHAR, DOUBLE)", "The document's value of each metric"),
            "weights": ("MAP(VARCHAR, DOUBLE)", "Words or bytes that a log-likelihood is spread over, by metric"),
            "choice": ("INTEGER", "The model's choice, from 0"),
            "loglikelihoods": ("DOUBLE[]", "Log-likelihood of each choice, or of the text"),
            "text_hash": ("VARCHAR", "Digest of the generated text"),
            "text_length": ("INTEGER", "Its length in characters"),
            "finite": ("BOOLEAN", "Whether its logits are finite; null where that cannot be said of one document"),
            "tied": ("BOOLEAN", "Whether the best choice is shared"),
        },
    ),
}
