"""Watching a sweep from its files: a live panel on a terminal, a line a look elsewhere."""

import time

from rich.console import Console
from rich.live import Live

from sphere_core.foundation.storage import Storage
from workflows.results.status.latest_scores import LastScores
from workflows.results.status.status import status_line, status_panel
from workflows.store.plan import SweepPlan
from workflows.store.state import derive_state

__all__ = ["watch"]


def watch(storage: Storage, plan: SweepPlan, console: Console, *, seconds: float) -> None:
    """Look at a sweep every so many seconds until it is complete; Ctrl-C ends it as well.

    Reads files only, and each row file once, however long it goes on.
    """
    scores = LastScores(storage)
    state = derive_state(storage, plan)
    if not console.is_terminal:
        console.print(status_line(state), highlight=False, soft_wrap=True)
        while not state.is_complete:
            time.sleep(seconds)
            state = derive_state(storage, plan)
            console.print(status_line(state), highlight=False, soft_wrap=True)
        return
    with Live(status_panel(plan, state, scores), console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while not state.is_complete:
            time.sleep(seconds)
            state = derive_state(storage, plan)
            live.update(status_panel(plan, state, scores), refresh=True)
