"""A sweep whose scores follow formulas, with one collapsed checkpoint: what figures and reports are drawn from."""

import json
import random
import shutil
from pathlib import Path

import pyarrow as pa
from retention_parts import probes_table, publish_probes
from store_parts import GEOMETRY, QUALITY, base, put_checkpoint, score, shared, trajectory

from evaluators.base import Health, Score, make_score
from sphere_core.foundation.storage import Storage
from workflows.replicas.row_writer import encode_rows, encode_table, publish_rows
from workflows.store.layout import PLAN_FILE, base_name, details_path, scored_name, spec_path, timing_path
from workflows.store.plan import Evaluation, PublishedEntry, SweepPlan, TrajectoryPlan

GENERAL = Evaluation(kind="general", id="a" * 12)
CHECKPOINTS, SEEDS, LAST = (10, 20, 30, 40), (0, 1, 2), 40
SITES = ("layers.0.weight", "layers.1.weight")
OF_NO_SITE = ("hidden_shift", "hidden_r_median")
# Title, method, hyperparameters, and how fast it loses.
METHODS = (
    ("memit", "memit", {}, 4.0),
    ("memit+sphere s.5", "memit+sphere", {"strength": 0.5, "energy_ratio": 0.5}, 2.0),
    ("memit+sphere s.8", "memit+sphere", {"strength": 0.8, "energy_ratio": 0.5}, 1.0),
    ("alphaedit <b>", "alphaedit", {}, 1.5),
)
PUBLISHED = 0.77
# Of every third edit there is no relation.
RELATIONS = ("lives <i>", "studied", None)


def efficacy(title: str, seed: int, edits: int) -> float | None:
    """The efficacy of a checkpoint: falls with edits; memit's seed 2 collapses at the end."""
    if (title, seed, edits) == ("memit", 2, LAST):
        return None
    rate = next(rate for name, *_, rate in METHODS if name == title)
    return round(0.99 - rate * edits / 250 - seed / 100, 6)


def drift(title: str, seed: int, edits: int) -> float:
    return (1 - (efficacy(title, seed, edits) or 0.0)) / 10 + ((edits + seed) % 3) / 500


def geometry(title: str, seed: int, edits: int) -> list[Score]:
    def plain(metric: str, protocol: str, value: float, site: str | None = None) -> Score:
        return make_score(metric, protocol, value, None, n=1, health=Health(1, 0, 0), higher_is_better=None, site=site)

    own = drift(title, seed, edits)
    values = {
        ("he_drift", "exact"): own,
        ("weight_norm", "exact"): 20.0 + 100 * own,
        ("delta_norm", "exact"): 100 * own,
        ("subspace_similarity_left", "sum-0.1"): 1 - 2 * own,
        ("subspace_similarity_right", "sum-0.1"): 1 - 3 * own,
        ("singular_vector_similarity", "sum-0.1"): 1 - 4 * own,
        ("output_change_ratio", "orthonormal"): 30.0 + own,
        ("row_cosine", "[-0.1,0)"): 0.25,
        ("row_cosine", "[0.9,1]"): 0.125,
        ("hidden_shift", "layer-1"): 2 * own,
        ("hidden_r_median", "layer-1"): 3 * own,
    }
    rows = [plain(*names, value) for names, value in values.items()]
    return rows + [
        plain(*names, value * (1 + place), s)
        for names, value in values.items()
        for place, s in enumerate(SITES)
        if names[0] not in OF_NO_SITE
    ]


def drawn_sweep(root: Path) -> tuple[Storage, SweepPlan]:
    """Write the plan, the rows, the probes with texts, the timings and the specifications of the sweep."""
    storage, rng = Storage(root), random.Random(1)
    evaluations = (QUALITY, GENERAL, GEOMETRY)
    plans = []
    for place, (title, method, hyperparameters, _) in enumerate(METHODS):
        editor, _, regularizer = method.partition("+")
        for seed in SEEDS:
            plan = trajectory(
                f"m{place}s",
                seed,
                id=f"m{place}s{seed:013d}",
                title=title,
                method=method,
                editor=editor,
                regularizer=regularizer or None,
                edits=LAST,
                batch_size=10,
                wanted=CHECKPOINTS,
                evaluations=evaluations,
            )
            plans.append(plan)
            spec = {"method": method, "seed": seed, "hyperparameters": hyperparameters}
            storage.write_bytes(spec_path(plan.id), json.dumps(spec).encode())
            for edits in CHECKPOINTS:
                _checkpoint(storage, plan, edits, rng)
    bases = tuple(base(QUALITY.model_copy(update={"id": f"b{seed}"}), seed) for seed in SEEDS)
    general = base(GENERAL.model_copy(update={"id": "b" * 12}), None)
    for one in bases:
        _unedited(storage, one)
    unedited = [score("general_mean", "lm_eval", 0.9, "suite"), score("acc", "lm_eval", 0.8, "task <i>")]
    publish_rows(storage, general.rows_path, encode_rows(shared(general, 0, general.evaluation), unedited))
    paper = PublishedEntry(
        source="a paper, table 1",
        model="m",
        dataset="facts",
        edits=LAST,
        protocol="argmax",
        metrics=("efficacy",),
        values={"alphaedit <b>": (PUBLISHED,)},
    )
    found = SweepPlan(name="drawn", trajectories=tuple(plans), bases=(*bases, general), recipes=(), published=(paper,))
    storage.write_bytes(PLAN_FILE, found.model_dump_json().encode())
    return storage, found


def leave_one_method(root: Path) -> list[TrajectoryPlan]:
    """Leave of that sweep one method with its scores of edit quality, so that few figures are drawn; return its plans.

    The details are moved beside the root.
    """
    shutil.move(root / "details", root.parent / "details")
    shutil.rmtree(root / "timings")
    for name in ("general", "geometry"):
        shutil.rmtree(root / "rows" / name)
    plan = SweepPlan.model_validate_json((root / PLAN_FILE).read_bytes())
    scored = [one.model_copy(update={"evaluations": (QUALITY,)}) for one in plan.trajectories[: len(SEEDS)]]
    bases = tuple(one for one in plan.bases if one.evaluation.kind == QUALITY.kind)
    left = plan.model_copy(update={"trajectories": tuple(scored), "bases": bases, "overrides": ("seeds=[0, 1, 2]",)})
    (root / PLAN_FILE).write_bytes(left.model_dump_json().encode())
    return scored


def _checkpoint(storage: Storage, plan: TrajectoryPlan, edits: int, rng: random.Random) -> None:
    put_checkpoint(storage, plan, edits)
    value = efficacy(plan.title, plan.seed, edits)
    quality = [score(name, "argmax", value) for name in ("efficacy", "generalization", "specificity", "score")]
    general = [score("general_mean", "lm_eval", value, "suite"), score("acc", "lm_eval", value, "task <i>")]
    for evaluation, rows in (
        (QUALITY, quality),
        (GENERAL, general),
        (GEOMETRY, geometry(plan.title, plan.seed, edits)),
    ):
        publish_rows(storage, plan.rows_path(edits, evaluation), encode_rows(shared(plan, edits, evaluation), rows))
        timing = {"seconds": 0.5, "rows": len(rows)}
        path = timing_path(evaluation.kind, f"{scored_name(plan.id, edits)}-{evaluation.id}")
        storage.write_bytes(path, json.dumps(timing).encode())
    lap = {"edits": edits, "attempt": 1, "seconds": 2.0, "edits_in_lap": 10}
    lap |= {"stages": {"targets": 1.5, "solve": 0.5}, "beside": {"keys": 9.0}}
    storage.write_bytes(timing_path("edit", scored_name(plan.id, edits)), json.dumps(lap).encode())
    kept = value or 0.0
    asked = [(edit, rng.random() < kept, round(rng.uniform(-2, 4), 3)) for edit in range(1, edits + 1)]
    publish_probes(storage, plan, edits, probes_table(asked))


def _unedited(storage: Storage, one) -> None:
    texts: dict[str, list] = {"edit": list(range(1, LAST + 1)), "probe": [0] * LAST}
    texts["case_id"] = [f"case {edit}" for edit in range(1, LAST + 1)]
    texts["relation"] = [RELATIONS[edit % len(RELATIONS)] for edit in range(1, LAST + 1)]
    texts["prompt"] = [f"Subject {edit} <script>lives</script> in" for edit in range(1, LAST + 1)]
    texts |= {"target": ["Norstead"] * LAST, "contrast": ["Dunsvale"] * LAST}
    path = details_path("probe_texts", base_name(one.model_digest), one.evaluation.id)
    publish_rows(storage, path, encode_table(shared(one, 0, one.evaluation), pa.table(texts)))
    rows = [score(name, "argmax", value) for name, value in (("efficacy", 0.0), ("specificity", 1.0))]
    publish_rows(storage, one.rows_path, encode_rows(shared(one, 0, one.evaluation), rows))


def spectrum_sweep(root: Path) -> dict[tuple[str, float, float | None], float]:
    """Write truncate and two bands of perturb, two steps each; return the scores by experiment, level and band."""
    storage, levels = Storage(root), (0.9, 0.2)
    bands: tuple[tuple[str, tuple[float, float] | None], ...] = (
        ("truncate", None),
        ("perturb", (0.5, 1.0)),
        ("perturb", (0.0, 0.5)),
    )
    plans, scores = [], {}
    for place, (method, band) in enumerate(bands):
        plan = trajectory(
            f"s{place}", 0, method=method, title=f"{method} {band}", batch_size=5, edits=15, wanted=(5, 10, 15)
        ).model_copy(update={"evaluations": (GENERAL,)})
        plans.append(plan)
        values = {"spectrum_levels": levels, "spectrum_share": "sum", "perturb_band": band}
        storage.write_bytes(spec_path(plan.id), json.dumps({"hyperparameters": values}).encode())
        for step in (1, 2, 3):
            put_checkpoint(storage, plan, 5 * step)
            value = step / 10 + place / 100
            rows = [score("general_mean", "lm_eval", value, "suite"), score("acc", "lm_eval", 0.5, "task")]
            publish_rows(storage, plan.rows_path(5 * step, GENERAL), encode_rows(shared(plan, 5 * step, GENERAL), rows))
            if step <= len(levels):
                scores[method, levels[step - 1], band[0] if band else None] = value
    found = SweepPlan(name="spectrum", trajectories=tuple(plans), bases=(), recipes=())
    storage.write_bytes(PLAN_FILE, found.model_dump_json().encode())
    return scores
