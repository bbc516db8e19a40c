"""Watch a sweep from its files: a live panel on a terminal, one line per look elsewhere."""

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
    """Refresh every `seconds` until the sweep is complete; Ctrl-C ends it as well.

    Reads only files, and each row file once.
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
