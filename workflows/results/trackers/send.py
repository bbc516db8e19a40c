"""Sending a sweep to a tracker: what is new since the last call, as recorded below the sweep's root."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.foundation.lazy import load_object
from sphere_core.foundation.storage import Storage
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.trackers.wide_rows import TrackedRun, tracked_runs
from workflows.store.layout import tracked_path
from workflows.store.plan import SweepPlan
from workflows.store.records import Tracked
from workflows.store.state import scan

__all__ = ["TRACKERS", "Destination", "Tracker", "open_tracker", "send_sweep"]


@dataclass(frozen=True)
class Destination:
    """A project of a tracker: where it is (a URI or a folder; None: the tracker's own choice), and whether a network
    may be used."""

    tracker: str
    project: str
    place: str | None = None
    online: bool = False


class Tracker(Protocol):
    """An opened project of a tracker."""

    def send(self, run: TrackedRun) -> None:
        """Add the rows of a run at the steps of their edits; the run is created with its settings if it is new."""


# The name of a tracker is that of its package; what opens a project of it is imported when it is used.
TRACKERS = ("trackio", "wandb", "mlflow")


def open_tracker(destination: Destination) -> Tracker:
    """Open a project of a tracker; raises InputError for an unknown tracker, and for one that is not installed."""
    name = destination.tracker
    if name not in TRACKERS:
        raise unknown_name("tracker", name, TRACKERS, where="--to")
    opened = cast(Callable[[Destination], Tracker], load_object(f"workflows.results.trackers.to_{name}:open_project"))
    try:
        return opened(destination)
    except ModuleNotFoundError as error:
        raise InputError(
            f"the tracker '{name}' is not installed ({error.name} is missing)",
            where="--to",
            remedy=f"pip install 'sphere-editing[{name}]'",
        ) from error


def send_sweep(storage: Storage, plan: SweepPlan, tracker: Tracker, destination: Destination) -> tuple[int, bool]:
    """Send every checkpoint that is scored whole and was not sent before; return how many rows, and whether the sweep
    is complete.

    What was sent is recorded below the root after each trajectory, so that a second call sends what is new. A call that
    is killed between the two sends that trajectory's rows again.
    """
    root = SweepRoot.of(storage, plan, files=scan(storage))
    path = tracked_path(destination.tracker, fingerprint([destination.project, destination.place])[:12])
    sent = dict((Tracked.read(storage, path) or Tracked(project=destination.project, place=destination.place)).sent)
    count = 0
    for run in tracked_runs(root, sent):
        tracker.send(run)
        sent[run.id] = tuple(sorted({*sent.get(run.id, ()), *(row.edits for row in run.rows)}))
        Tracked(project=destination.project, place=destination.place, sent=sent).write(storage, path)
        count += len(run.rows)
    return count, root.state.is_complete
