"""A process that lives and gets nowhere: noticed, replaced, and nothing differs from a run that was not disturbed."""

from pathlib import Path

import pytest
from local_runs import Quiet
from sweep_files import results_of, tiny, write_sweep

from sphere_core.foundation.storage import Storage
from workflows.cluster.ray_executor import RayExecutor
from workflows.driver.driver import Driver
from workflows.driver.local_executor import LocalExecutor
from workflows.runs.new_plugin import start_of
from workflows.store.lease import read_lease
from workflows.sweeps.expand import load_sweep
from workflows.sweeps.publish import publish

pytestmark = pytest.mark.ray

# What begins the third batch of the first attempt, and never returns.
HANGS_ONCE = """
        self.batches = getattr(self, "batches", 0) + 1
        if self.batches == 3 and not pathlib.Path({mark!r}).exists():
            pathlib.Path({mark!r}).touch()
            threading.Event().wait()
"""


def hanging_editor(mark: Path) -> str:
    """The editor that `sphere new` writes, with a rule that hangs once."""
    text = start_of("editor", "hangs")
    begin = "    def solve(self, write, state, correction):\n"
    assert text.count(begin) == 1
    hangs = HANGS_ONCE.format(mark=str(mark)).lstrip("\n")
    return text.replace("import torch\n", "import pathlib\nimport threading\n\nimport torch\n", 1).replace(
        begin, begin + hangs
    )


def test_a_batch_that_never_returns_is_noticed_and_its_process_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec, quiet, storage = tmp_path / "spec", Storage(tmp_path / "quiet"), Storage(tmp_path / "root")
    mark = tmp_path / "hung"
    spec.mkdir()
    (spec / "hangs.py").write_text(hanging_editor(mark), encoding="utf-8")
    settings = tiny(
        plugins=["hangs.py"],
        seeds=[0],
        methods=["hangs"],
        evaluators={"geometry": {}},
        streams=[{"dataset": "factworld", "edits": 8, "order": "shuffled"}],
        resources={
            "threads": 1,
            "evaluator": {"replicas": 0},
            # Nothing is given up before a batch has been measured, however slow the machine is.
            "stall": {"times": 2, "at_least": 2, "unmeasured": None},
        },
    )
    one = load_sweep(write_sweep(spec, settings))
    plan = one.plan.trajectories[0]
    for root in (storage, quiet):
        publish(one, root)
    with (
        caplog.at_level("WARNING", logger="workflows"),
        RayExecutor(storage.uri, one.spec.resources, address=None, num_cpus=1) as executor,
    ):
        result = Driver(one, executor, storage, Quiet(), evaluators=0).run()
    assert mark.exists()
    assert (result.complete, result.failures) == (True, ())
    assert f"was lost with trajectory-{plan.id}: no progress for" in caplog.text
    lease = read_lease(storage, plan.id)
    assert lease is not None
    assert lease.attempt >= 2
    # Now that the mark is there nothing hangs: the bytes of a run that was not disturbed.
    assert Driver(one, LocalExecutor(quiet.uri, threads=1, device="cpu"), quiet, Quiet()).run().complete
    assert results_of(storage.uri) == results_of(quiet.uri)
