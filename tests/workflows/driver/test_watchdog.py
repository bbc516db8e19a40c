"""Stopping trajectories that are past saving: the verdict, its record, and that chance has no part in it."""

import json
from pathlib import Path

import pytest
from local_runs import run
from pydantic import ValidationError
from sweep_files import results_of, tiny, write_sweep
from waiting import wait_until

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.driver.verdicts import forget_other_verdicts, record_verdict
from workflows.driver.watchdog import Verdict, WatchdogReadings, verdict
from workflows.replicas.tasks import ReplicaProgress
from workflows.results.formats.results_view import results_markdown
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.tables.table import results_table
from workflows.store.layout import checkpoints_folder
from workflows.store.lease import read_lease
from workflows.store.policies import Watchdog
from workflows.store.state import derive_state
from workflows.sweeps.expand import Sweep, load_sweep


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"he_drift": 0.5}, None),
        ({"he_drift": 0.2}, 6),
        ({"collapsed_checkpoints": 1}, 4),
        ({"collapsed_checkpoints": 2}, 8),
        ({"collapsed_checkpoints": 3}, None),
        ({"he_drift": 0.05, "collapsed_checkpoints": 1}, 2),
    ],
)
def test_the_first_limit_passed_decides(limits: dict[str, float], expected: int | None) -> None:
    readings = {
        2: WatchdogReadings(-0.1, False),
        4: WatchdogReadings(None, True),
        6: WatchdogReadings(0.3, False),
        8: WatchdogReadings(0.1, True),
    }
    found = verdict(Watchdog.model_validate(limits), (2, 4, 6, 8, 10), readings.get)
    assert (None if found is None else found.edits) == expected
    if found is not None:
        assert found.reason.startswith(f"stopped by watchdog at {expected} edits because ")
    # What is not scored yet keeps later checkpoints from being judged.
    del readings[2]
    assert verdict(Watchdog.model_validate(limits), (2, 4, 6, 8, 10), readings.get) is None


def test_a_watchdog_needs_a_limit_and_scores_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="give `he_drift`"):
        Watchdog()
    with pytest.raises(InputError, match="needs the evaluator `geometry`"):
        load_sweep(write_sweep(tmp_path, tiny(watchdog={"he_drift": 1.0}, evaluators={"edit_quality": {}})))


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spec")


def watched(spec: Path, limit: float | None) -> Sweep:
    watchdog = None if limit is None else {"he_drift": limit}
    evaluators = {"geometry": {}, "edit_quality": {}}
    settings = tiny(seeds=[0], methods=["memit"], evaluators=evaluators, watchdog=watchdog, keep_keys=True)
    return load_sweep(write_sweep(spec / str(limit), settings))


def test_a_stopped_trajectory_is_finished_and_resumes_where_the_limit_is_raised(spec: Path, tmp_path: Path) -> None:
    free, strict = watched(spec, None), watched(spec, 1e-9)
    assert strict.plan.trajectories == free.plan.trajectories
    run(free, tmp_path / "free")
    # Here a trajectory is edited to its end before any checkpoint is scored: it has run ahead of its verdict.
    result = run(strict, tmp_path / "strict")
    assert result.complete
    assert result.failures == ()
    storage = Storage(tmp_path / "strict")
    state = derive_state(storage, strict.plan)
    found = state.trajectories[0]
    assert (found.state, found.to_score, found.edits_done, state.is_complete) == ("stopped", (4,), 4, True)
    record = json.loads((tmp_path / "strict" / "trajectories" / found.plan.id / "stopped.json").read_text())
    assert record["reason"].startswith("stopped by watchdog at 4 edits because HE drift")
    assert record["watchdog"] == {"he_drift": 1e-9, "collapsed_checkpoints": None}
    everything = results_of(tmp_path / "free")
    # Scored probes and kept keys are among what is beyond.
    assert {name.partition("/")[0] for name in everything if "000006" in name} == {"details", "rows", "trajectories"}
    assert any("/keys/" in name for name in everything)
    assert results_of(tmp_path / "strict") == {name: data for name, data in everything.items() if "000006" not in name}
    assert "stopped, 4/6 edits" in results_markdown(results_table(SweepRoot.of(storage, strict.plan), by_edits=False))
    assert run(strict, tmp_path / "strict").complete
    # Another limit is another verdict.
    forget_other_verdicts(storage, free.plan, derive_state(storage, free.plan))
    assert run(free, tmp_path / "strict").complete
    assert results_of(tmp_path / "strict") == everything


def test_a_verdict_fences_off_the_replica_and_what_it_did_beyond_is_discarded(spec: Path, tmp_path: Path) -> None:
    sweep = watched(spec, 1e-9)
    plan = sweep.plan.trajectories[0]
    storage = Storage(tmp_path)

    def judge(progress: ReplicaProgress) -> None:
        # As if the scores of the first checkpoint came in while the second batch after it is edited.
        if progress.edits == 4 and not storage.exists(f"trajectories/{plan.id}/stopped.json"):
            # A thread writes the checkpoint; nothing is judged before it is there.
            wait_until(lambda: storage.exists(f"{checkpoints_folder(plan.id)}/000004/manifest.json"))
            limits = Watchdog(he_drift=1e-9)
            record_verdict(storage, plan, limits, Verdict(4, "stopped by watchdog at 4 edits because of a test"))

    run(sweep, tmp_path, on_progress=judge)
    lease = read_lease(storage, plan.id)
    assert lease is not None
    assert lease.owner == "watchdog"
    assert not storage.exists(f"{checkpoints_folder(plan.id)}/000006")
    found = derive_state(storage, sweep.plan).trajectories[0]
    assert found.stopped is not None
    assert (found.stopped.edits, found.published) == (4, (4,))
    # The next run scores what counts.
    assert run(sweep, tmp_path).complete
    assert derive_state(storage, sweep.plan).trajectories[0].state == "stopped"
