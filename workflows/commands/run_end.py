"""What `run` and `score` share: where they print, and the JSON object that they end with."""

from collections import Counter

from rich.console import Console

from sphere_core.foundation.storage import Storage
from workflows.store.plan import read_plan
from workflows.store.state import derive_state
from workflows.terminal.console import notice_console, output_console, print_json

__all__ = ["print_end", "run_consoles"]


def run_consoles(*, quiet: bool, as_json: bool) -> dict[str, Console | None]:
    """Return the consoles of a run: of its progress and table, and of problems alone if it is quiet.

    With JSON all but the last object goes to standard error.
    """
    return {
        "console": None if quiet else notice_console() if as_json else output_console(),
        "problems": notice_console() if quiet else None,
    }


def print_end(root: str, exit_code: int) -> None:
    """Print how a run below `root` ended, from the sweep's files, as one JSON object."""
    storage = Storage(root)
    plan = read_plan(storage)
    state = derive_state(storage, plan)
    record = {
        "name": plan.name,
        "root": root,
        "exit_code": exit_code,
        "complete": state.is_complete,
        "states": dict(Counter(found.state for found in state.trajectories)),
        "failures": [failure.as_json() for failure in state.failures],
    }
    print_json(output_console(), record)
