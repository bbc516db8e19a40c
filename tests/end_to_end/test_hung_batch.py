"""A process that lives and gets nowhere: noticed, replaced, and nothing differs from a run that was not disturbed."""

from pathlib import Path

import pytest
from local_runs import Quiet
from sweep_files import results_of, tiny, write_sweep

from sphere_core.foundation.storage import Storage
from workflows.cluster.ray_executor import RayExecutor
from workflows.driver.display import View
from workflows.driver.driver import Driver
from workflows.driver.local_executor import LocalExecutor
from workflows.runs.new_plugin import start_of
from workflows.store.lease import read_lease
from workflows.sweeps.expand import load_sweep
from workflows.sweeps.publish import publish

pytestmark = pytest.mark.ray

# In the first attempt a batch begins once the driver has heard of the one before; the third never returns.
HANGS_ONCE = """
        self.batches = getattr(self, "batches", 0) + 1
        folder = pathlib.Path({folder!r})
        if not (folder / "hung").exists():
            while self.batches < 3 and not (folder / f"heard-{{2 * self.batches - 2}}").exists():
                time.sleep(0.02)
            if self.batches == 3:
                (folder / "hung").touch()
                threading.Event().wait()
"""


class Hearing:
    """A display that leaves a file for every edit count that the driver has heard of."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def update(self, view: View) -> None:
        for said in view.doing.values():
            if said.of:
                (self._folder / f"heard-{said.edits}").touch()


def hanging_editor(folder: Path) -> str:
    """The editor that `sphere new` writes, with a rule that hangs once."""
    text = start_of("editor", "hangs")
    begin = "    def solve(self, write, state, correction):\n"
    assert text.count(begin) == 1
    hangs = HANGS_ONCE.format(folder=str(folder)).lstrip("\n")
    return text.replace("import torch\n", "import pathlib\nimport threading\nimport time\n\nimport torch\n", 1).replace(
        begin, begin + hangs
    )


def test_a_batch_that_never_returns_is_noticed_and_its_process_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec, quiet, storage = tmp_path / "spec", Storage(tmp_path / "quiet"), Storage(tmp_path / "root")
    spec.mkdir()
    (spec / "hangs.py").write_text(hanging_editor(tmp_path), encoding="utf-8")
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
        result = Driver(one, executor, storage, Hearing(tmp_path), evaluators=0).run()
    assert (tmp_path / "hung").exists()
    assert (result.complete, result.failures) == (True, ())
    assert f"was lost with trajectory-{plan.id}: no progress for" in caplog.text
    lease = read_lease(storage, plan.id)
    assert lease is not None
    assert lease.attempt >= 2
    # Now that the file is there nothing hangs: the bytes of a run that was not disturbed.
    assert Driver(one, LocalExecutor(quiet.uri, threads=1, device="cpu"), quiet, Quiet()).run().complete
    assert results_of(storage.uri) == results_of(quiet.uri)
