"""A harness task whose requests are built once: they depend on the task and its data, never on the weights."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.task import Task

from evaluators.general.processor_limit import processor_limit
from evaluators.general.quiet import quiet_harness
from evaluators.general.random_state import seeded
from evaluators.general.template_sandbox import sandboxed_templates

__all__ = ["FILTER_SECONDS", "SEED", "PreparedTask"]

# The harness's own default, which it gives to few-shot samplers and torch alike.
SEED = 1234
# Of one task; its answers are short, and an expression that reads them takes microseconds.
FILTER_SECONDS = 60.0


class PreparedTask:
    """Replaces a task in the harness's `evaluate`, with documents and requests that exist already.

    Few-shot examples are drawn once, by the fixed seed, so that every checkpoint is shown the same ones. The kept
    requests hold no answers: those of the last evaluation are dropped when the next one builds requests.
    """

    def __init__(self, task: Task, *, limit: int | None) -> None:
        """Build the requests of the first `limit` documents; draws from no random state but its own."""
        self._task = task
        with quiet_harness(), sandboxed_templates(), seeded(SEED, torch.device("cpu")):
            task.set_fewshot_seed(SEED)
            task.build_all_requests(limit=limit, rank=0, world_size=1)
            self._documents: list[tuple[int, Any]] = list(task.doc_iterator(rank=0, limit=limit, world_size=1))
        self.asked = _digest(task.instances, self._documents)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    @property
    def eval_docs(self) -> list[Any]:
        """The documents that are scored."""
        return [document for _, document in self._documents]

    def doc_iterator(self, **_: Any) -> Iterator[tuple[int, Any]]:
        """Yield (position, document), in the harness's form; the selection was made when they were read."""
        return iter(self._documents)

    def build_all_requests(self, **_: Any) -> None:
        """Drop the answers to the requests and keep the requests."""
        for request in self._task.instances:
            request.resps = []
            request.filtered_resps = {}

    def apply_filters(self) -> Any:
        """Apply the task's filters to its answers, within a limit of processor time: a regular expression of a task
        file may take any number of steps."""
        with processor_limit(FILTER_SECONDS, what="the task's filter_list"):
            return self._task.apply_filters()


def _digest(requests: list[Instance], documents: list[tuple[int, Any]]) -> str:
    """Return the sha256 of all requests and of the documents that answers are compared with."""
    digest = hashlib.sha256()
    for request in requests:
        digest.update(_encoded([request.request_type, request.doc_id, request.args]))
    for place, document in documents:
        digest.update(_encoded([place, document]))
    return digest.hexdigest()


def _encoded(value: object) -> bytes:
    # Values without a JSON form enter by their repr: at worst equal values get different digests.
    return json.dumps(value, sort_keys=True, default=repr).encode() + b"\n"
