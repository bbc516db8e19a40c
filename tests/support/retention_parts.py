"""A sweep with random answers to its probes, and the tables of what became of its edits."""

import random
from pathlib import Path

import pyarrow as pa
from store_parts import QUALITY, base, put_checkpoint, put_scores, shared, trajectory

from sphere_core.foundation.storage import Storage
from workflows.replicas.row_writer import encode_table, publish_rows
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.tables.retention import RetentionAsk, retention_table
from workflows.store.layout import PLAN_FILE, base_name, details_path, scored_name
from workflows.store.plan import SweepPlan

CHECKPOINTS, BATCH = (4, 8, 12, 14), 2


Answers = dict[tuple[str, int], list[tuple[int, bool, float]]]


def probes_table(answers: list[tuple[int, bool, float]], *, finite: bool = True, tied: bool = False) -> pa.Table:
    count = len(answers)
    return pa.table(
        {
            "protocol": ["correct"] * count,
            "edit": pa.array([edit for edit, _, _ in answers], pa.int32()),
            "probe": pa.array([0] * count, pa.int16()),
            "role": ["rewrite"] * count,
            "nll_mean": pa.array([1.0] * count, pa.float32()),
            "tokens": pa.array([2] * count, pa.int16()),
            "correct": pa.array([2 if right else 1 for _, right, _ in answers], pa.int16()),
            "finite": [finite] * count,
            "tied": [tied] * count,
            "contrast_nll_mean": pa.array([1.0 + margin for *_, margin in answers], pa.float32()),
            "contrast_tokens": pa.array([2] * count, pa.int16()),
            "contrast_finite": [finite] * count,
            "won": [margin > 0 for *_, margin in answers],
        }
    )


def answered_sweep(root: Path) -> tuple[Storage, SweepPlan, Answers]:
    """Two methods, two seeds, random answers; edit 3 is contradicted by edit 9 and asked no more from there on."""
    storage, rng = Storage(root), random.Random(0)
    plans = [
        trajectory(name, seed, edits=14, wanted=CHECKPOINTS, order=order)
        for name, order in (("memit", "shuffled"), ("alphaedit", "canonical"))
        for seed in (0, 1)
    ]
    answers: Answers = {}
    for plan in plans:
        for edits in CHECKPOINTS:
            asked = [
                (edit, rng.random() < 0.7, round(rng.uniform(-2, 4), 3))
                for edit in range(1, edits + 1)
                if not (edit == 3 and edits >= 10)
            ]
            answers[plan.id, edits] = asked
            put_checkpoint(storage, plan, edits)
            publish_probes(storage, plan, edits, probes_table(asked))
            put_scores(storage, plan, edits, 0.5, 0.5)
    bases = tuple(base(QUALITY.model_copy(update={"id": f"b{seed}"}), seed) for seed in (0, 1))
    for one in bases:
        cases = [f"case {edit}" for edit in range(1, 15)]
        texts = {"edit": list(range(1, 15)), "probe": [0] * 14, "case_id": cases}
        texts |= dict.fromkeys(("prompt", "target", "contrast"), ["text"] * 14)
        path = details_path("probe_texts", base_name(one.model_digest), one.evaluation.id)
        publish_rows(storage, path, encode_table(shared(one, 0, one.evaluation), pa.table(texts)))
    plan = SweepPlan(name="s", trajectories=tuple(plans), bases=bases, recipes=())
    storage.write_bytes(PLAN_FILE, plan.model_dump_json().encode())
    return storage, plan, answers


def publish_probes(storage: Storage, plan, edits: int, table: pa.Table) -> None:
    path = details_path("probes", scored_name(plan.id, edits), QUALITY.id)
    storage.write_bytes(path, encode_table(shared(plan, edits, QUALITY), table))


def asked(name: str, **changes: object) -> RetentionAsk:
    return RetentionAsk(**{"name": name, "role": "rewrite", "protocol": "correct", "measure": "argmax", **changes})


def rows_of(sweep: tuple[Storage, SweepPlan, Answers], name: str, **changes: object) -> list[dict]:
    return retention_table([SweepRoot.of(sweep[0], sweep[1])], asked(name, **changes)).to_pylist()
