"""Suppress what the harness and its libraries would print during work."""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["quiet_harness"]


@contextlib.contextmanager
def quiet_harness() -> Iterator[None]:
    """Drop the harness's log lines below ERROR, and the progress bars it and `datasets` show while loading.

    The bar over a task's documents has no switch, so it is taken out for the time. What else writes to stderr
    does so undisturbed. Imports the harness.
    """
    import datasets
    from lm_eval.api import task as harness_tasks

    logger = logging.getLogger("lm_eval")
    level, bar, bars = logger.level, harness_tasks.tqdm, not datasets.are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    harness_tasks.tqdm = _plain
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        harness_tasks.tqdm = bar
        if bars:
            datasets.enable_progress_bars()


def _plain(items: Iterable[Any], **_: Any) -> Iterable[Any]:
    return items
