"""A model replica as a Ray actor: `progress` and `stop` answer during a long `run`, and SIGTERM publishes first."""

import contextlib
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from typing import Any

from sphere_core.foundation.lazy import load_object
from sphere_core.foundation.process_identity import own_place
from workflows.replicas.tasks import BrokenReplicaError, Outcome, ReplicaProgress, Task

__all__ = ["Place", "replica_actor"]

# Exit code of a replica that ends itself: EX_SOFTWARE.
_BROKEN_EXIT_CODE = 70


@dataclass(frozen=True)
class Place:
    """Where a replica runs: the id of its node, its name in leases (`host:process`), the scope of its process id."""

    node: str
    owner: str
    scope: str

    def kill(self) -> None:
        """Send SIGKILL to the process if it is on this machine: Ray asks it to exit, which a stopped one never does."""
        if self.scope and self.scope == own_place():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(self.owner.rpartition(":")[2]), signal.SIGKILL)


def replica_actor(ray: Any, kind: str, name: str) -> Any:
    """Return the actor class that holds a replica of a kind, given as `module:name` and imported by the actor alone.

    `ray` is the imported module: only the executor imports it. Ray names processes and actors after `name`, as in a
    process list: `ray::Evaluator.run`; the replica's own class is called so too.
    """

    class Replica:
        def __init__(self, root: str, *, threads: int, device: str) -> None:
            named = type(name, (load_object(kind),), {})
            self._replica = named(root, threads=threads, device=device)
            # SIGTERM publishes a checkpoint after the current batch.
            signal.signal(signal.SIGTERM, lambda number, frame: self._leave())

        def place(self) -> Place:
            """Say where it lives; answered once it has started."""
            return Place(str(ray.get_runtime_context().get_node_id()), self._replica.owner, own_place())

        def run(self, task: Task) -> Outcome:
            try:
                outcome: Outcome = self._replica.run(task)
            except BrokenReplicaError:
                # Nothing else frees a failed accelerator; the driver starts another process.
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(_BROKEN_EXIT_CODE)
            return outcome

        def _leave(self) -> None:
            if self._replica.progress().editing is not None:
                self._replica.stop()
            else:
                # A score cannot be stopped half-way; it is repeated elsewhere.
                os._exit(128 + signal.SIGTERM)

        @ray.method(concurrency_group="control")  # type: ignore[untyped-decorator]
        def progress(self) -> ReplicaProgress:
            found: ReplicaProgress = self._replica.progress()
            return found

        @ray.method(concurrency_group="control")  # type: ignore[untyped-decorator]
        def stop(self) -> None:
            self._replica.stop()

    Replica.__name__ = Replica.__qualname__ = name
    return ray.remote(concurrency_groups={"control": 1})(Replica)
