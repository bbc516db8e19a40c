"""Messages when a run ends, through Apprise: to a phone, a chat, a mailbox, a web hook."""

import logging
import os
from collections.abc import Mapping
from typing import Any

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.foundation.storage_faults import StorageError
from workflows.results.status.status import state_counts
from workflows.runs.sweep_report import EXIT_DONE, EXIT_STOPPED
from workflows.store.plan import SweepPlan
from workflows.store.state import derive_state
from workflows.sweeps.expand import Sweep
from workflows.sweeps.spec import NotifyEntry

__all__ = ["Notifier", "event_of"]

_LOGGER = logging.getLogger(__name__)
_MOST_FAILURES = 5


def event_of(exit_code: int) -> str:
    """Return what happened: done, stopped or failed."""
    return {EXIT_DONE: "done", EXIT_STOPPED: "stopped"}.get(exit_code, "failed")


class Notifier:
    """Sends what the sweep file's `notify` names; without that key it sends nothing."""

    def __init__(self, entry: NotifyEntry | None, service: Any) -> None:
        """`service` is an `apprise.Apprise` with the addresses of the entry."""
        self._entry, self._service = entry, service

    @classmethod
    def of(cls, sweep: Sweep, environment: Mapping[str, str] = os.environ) -> "Notifier":
        """Return the notifier of a sweep; raises InputError without Apprise, for a variable that is not set, and for an
        address that Apprise does not know."""
        entry = sweep.spec.notify
        if entry is None:
            return cls(None, None)
        where = sweep.text.where(("notify",))
        try:
            import apprise
        except ModuleNotFoundError as error:
            what, remedy = "`notify` needs Apprise, which is not installed", "pip install 'sphere-editing[notify]'"
            raise InputError(what, where=where, remedy=remedy) from error
        service = apprise.Apprise()
        for place, text in enumerate(entry.to):
            address = _from_environment(text, environment, sweep.text.where(("notify", "to", place)))
            if not service.add(address):
                # The address may hold a secret, so that only its scheme is shown.
                raise InputError(
                    f"Apprise knows no address of the form '{address.partition('://')[0][:40]}://...'",
                    where=sweep.text.where(("notify", "to", place)),
                    remedy="see the list of services at https://github.com/caronc/apprise",
                )
        return cls(entry, service)

    def ended(self, storage: Storage, plan: SweepPlan, event: str, why: str = "") -> None:
        """Send that a run has ended, with what is done and what failed; a message that cannot be sent is a warning."""
        if self._entry is None or event not in self._entry.events:
            return
        lines = [why] if why else []
        try:
            state = derive_state(storage, plan)
            edits = sum(one.edits_done for one in state.trajectories)
            lines += [state_counts(state.trajectories), f"{edits} of {plan.edits} edits"]
            lines += [f"{one.task}: {one.error}: {one.message}" for one in state.failures[:_MOST_FAILURES]]
            more = len(state.failures) - _MOST_FAILURES
            lines += [f"and {more} more failures"] if more > 0 else []
        except (StorageError, OSError) as error:
            # Storage may be why the run has ended; the message is sent all the same.
            lines.append(f"its state cannot be read: {error}")
        lines.append(storage.uri)
        kind = {"done": "success", "failed": "failure"}.get(event, "warning")
        title = f"SPHERE: {plan.name} {event}"
        if not self._service.notify(title=title, body="\n".join(lines), notify_type=kind):
            _LOGGER.warning("the message that the run is %s could not be sent to every address of `notify`", event)


def _from_environment(text: str, environment: Mapping[str, str], where: str) -> str:
    if not text.startswith("$"):
        return text
    if not environment.get(text[1:]):
        remedy = "set it where the sweep is run: export NAME=ADDRESS"
        raise InputError(f"the environment variable {text[1:]} is not set", where=where, remedy=remedy)
    return environment[text[1:]]
