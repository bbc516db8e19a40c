"""Real sweeps on a real local Ray: replicas, a dedicated evaluator and kills give the bytes of a quiet run."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import REPOSITORY, TESTS
from sweep_files import results_of, tiny, with_fewer_steps, write_sweep
from waiting import wait_until

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.cluster.ray_executor import RayExecutor
from workflows.driver.display import View
from workflows.driver.driver import Driver
from workflows.driver.executor import Role, Worker
from workflows.driver.local_executor import LocalExecutor
from workflows.store.layout import attempt_path
from workflows.store.lease import read_lease
from workflows.store.state import derive_state
from workflows.sweeps.expand import Sweep, load_sweep
from workflows.sweeps.resources import Resources

pytestmark = pytest.mark.ray

SETTINGS = tiny(
    methods=with_fewer_steps("memit", "alphaedit+sphere"),
    streams=[{"dataset": "factworld", "edits": 12, "order": "shuffled"}],
)


class Watching:
    """A display that lets a test look at every step of the driver."""

    def __init__(self, look: Callable[[View], None] = lambda _: None) -> None:
        self.look = look

    def update(self, view: View) -> None:
        self.look(view)


class Counting(RayExecutor):
    """Counts the workers it has started."""

    started = 0

    def start(self, role: Role) -> Worker:
        self.started += 1
        return super().start(role)


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("spec"), SETTINGS)


@pytest.fixture(scope="module")
def sweep(sweep_file: Path) -> Sweep:
    return load_sweep(sweep_file)


@pytest.fixture(scope="module")
def undisturbed(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The results of one replica in this process."""
    root = tmp_path_factory.mktemp("undisturbed")
    storage = Storage(root)
    executor = LocalExecutor(str(root), threads=1, device="cpu")
    assert Driver(sweep, executor, storage, Watching(), evaluators=0).run().complete
    return results_of(root)


@pytest.fixture
def workers_see_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's workers find the module of replicas with faults."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), str(TESTS / "support")]))


def start_sphere(home: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start the command line in a session and a home folder of its own."""
    environment = {**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1"}
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        environment.pop(name, None)
    return subprocess.Popen(
        [sys.executable, "-m", "workflows.cli", *map(str, arguments)],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def session_processes(session: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != session:
            try:
                fields = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def descendants() -> list[int]:
    """Return all processes below this one."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8")
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found, new = [], [os.getpid()]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found.extend(new)
    return found


def listening_addresses() -> set[str]:
    """Return the addresses, as the kernel writes them, at which descendants of this process take connections."""
    inodes = set()
    for process in descendants():
        for handle in Path(f"/proc/{process}/fd").glob("*"):
            try:
                inodes.add(handle.readlink().name)
            except (FileNotFoundError, ProcessLookupError):
                continue
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    listening = "0A"
    return {line[1].partition(":")[0] for line in lines if line[3] == listening and f"socket:[{line[9]}]" in inodes}


@pytest.mark.usefixtures("workers_see_replicas")
def test_whatever_is_killed_is_replaced_and_nothing_differs_from_one_replica(
    sweep: Sweep, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    storage = Storage(tmp_path)
    signals = {"replica": signal.SIGKILL, "evaluator": signal.SIGSEGV}
    killed: set[str] = set()
    addresses: set[str] = set()
    roles: set[tuple[str, str]] = set()

    def watch(view: View) -> None:
        for worker, progress in view.doing.items():
            task = progress.task or ""
            roles.update({(worker.role, task.partition("-")[0])} if task else ())
        # A replica between two checkpoints, and the evaluator at a score; both once the driver has heard from them.
        heard = {role for role, task in roles if task == "trajectory" or role == "evaluator"}
        for role in (signals.keys() - killed) & heard:
            if storage.exists(f"waits-{role}"):
                killed.add(role)
                addresses.update(listening_addresses())
                os.kill(int(storage.read_bytes(f"waits-{role}").decode().rpartition(":")[2]), signals[role])

    # Room for two replicas and one dedicated evaluator.
    with Counting(
        str(tmp_path), Resources(threads=1), address=None, num_cpus=3, replica="replicas:WaitingOnce"
    ) as executor:
        result = Driver(sweep, executor, storage, Watching(watch), evaluators=1).run()
    assert killed == signals.keys()
    assert (result.complete, result.failures) == (True, ())
    assert results_of(tmp_path) == undisturbed
    leases = [read_lease(storage, trajectory.id) for trajectory in sweep.plan.trajectories]
    assert sorted(lease.attempt for lease in leases if lease is not None) == [1, 1, 1, 2]
    # Two replicas and an evaluator, and one in the place of each of the dead as far as there was work left.
    assert executor.started in (3, 4, 5)
    assert ("replica", "trajectory") in roles
    assert {role for role, task in roles if task == "trajectory"} == {"replica"}
    # All that Ray opened could be reached from this machine only.
    assert addresses
    assert addresses <= {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


def test_a_replica_that_this_machine_cannot_hold_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    too_large = Resources.model_validate({"replica": {"num_cpus": 64}})
    before = set(descendants())
    with pytest.raises(InputError, match="no node can hold a replica: one needs 64 CPU"):
        RayExecutor(str(tmp_path), too_large, address=None, num_cpus=1)
    assert set(descendants()) <= before
    assert list(Path(tempfile.gettempdir()).glob(f"sphere-ray-{os.getpid()}-*")) == []


@pytest.mark.usefixtures("workers_see_replicas")
def test_a_failed_accelerator_ends_the_process_and_one_ended_by_sigterm_loses_nothing(tmp_path: Path) -> None:
    settings = {**SETTINGS, "seeds": [0], "methods": with_fewer_steps("memit")}
    one = load_sweep(write_sweep(tmp_path / "spec", settings))
    plan = one.plan.trajectories[0]
    quiet, storage = Storage(tmp_path / "quiet"), Storage(tmp_path / "root")
    local = LocalExecutor(quiet.uri, threads=1, device="cpu")
    assert Driver(one, local, quiet, Watching(), evaluators=0).run().complete
    ended: list[int] = []

    def watch(view: View) -> None:
        for progress in view.doing.values():
            lease = read_lease(storage, plan.id)
            if lease is not None and lease.attempt == 2 and progress.edits == 6 and not ended:
                ended.append(int(lease.owner.rpartition(":")[2]))
                os.kill(ended[0], signal.SIGTERM)

    resources = Resources.model_validate({"threads": 1, "evaluator": {"replicas": 0}})
    with Counting(storage.uri, resources, address=None, num_cpus=1, replica="replicas:FailingOnce") as executor:
        result = Driver(one, executor, storage, Watching(watch), evaluators=0).run()
        assert executor.started == 3
    assert (result.complete, result.failures) == (True, ())
    assert results_of(tmp_path / "root") == results_of(tmp_path / "quiet")
    assert ended
    # What the polite end had published was where the third attempt began: nothing was edited twice.
    third = json.loads(storage.read_bytes(attempt_path(plan.id, 3)))
    assert third["from"] == third["before"] == 8
    assert not storage.exists(attempt_path(plan.id, 4))


def test_a_sweep_killed_in_the_middle_resumes_to_the_same_bytes(
    sweep_file: Path, sweep: Sweep, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    home, root = tmp_path / "home", tmp_path / "root"
    home.mkdir()
    arguments = ("run", sweep_file, "--root", root, "--num-cpus", 1)
    first = start_sphere(home, *arguments)
    wait_until(lambda: list(root.glob("trajectories/*/checkpoints/*/manifest.json")), of=first)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    # Nothing of its Ray stays, agents of the node included.
    wait_until(lambda: not session_processes(first.pid))
    assert not derive_state(Storage(root), sweep.plan).is_complete
    second = start_sphere(home, *arguments)
    output, _ = second.communicate()
    assert second.returncode == 0, output
    assert "| alphaedit+sphere |" in output
    assert results_of(root) == undisturbed
    # Ray has left no token in the home folder, and no process after a clean end.
    assert not (home / ".ray").exists()
    wait_until(lambda: not session_processes(second.pid))
