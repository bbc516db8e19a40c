"""General ability: lm-eval tasks on the live model, with a health beside each score."""

import traceback
from typing import Any

import pyarrow as pa
import torch
import transformers
from lm_eval import evaluate
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evaluators.base import FailedPart, Score, Scored, Subject
from evaluators.general.asked_tasks import AskedTasks, harness_version
from evaluators.general.documents import DOCUMENTS_SCHEMA, documents_table
from evaluators.general.guarded_lm import Encodings, GuardedHFLM, guarded_lm, tokenizer_for_harness
from evaluators.general.harness_rows import failed_rows, task_rows
from evaluators.general.harness_tasks import LoadedSuite, LoadedTask, load_suites
from evaluators.general.kept_results import TaskResult, keep_result, kept_result, result_key
from evaluators.general.prepared_task import SEED, PreparedTask
from evaluators.general.quiet import quiet_harness
from evaluators.general.random_state import seeded
from evaluators.general.settings import GeneralAbilitySettings
from evaluators.general.task_groups import combined, group_rows
from evaluators.general.template_sandbox import sandboxed_templates
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.process_faults import is_broken_accelerator, is_out_of_memory
from sphere_core.foundation.storage_faults import StorageError
from sphere_core.models import EditableModel

__all__ = ["GeneralAbility", "GeneralAbilitySettings"]

_VERSION = 2
_MEAN = "general_mean"
# What a generation config says of itself and not of generating.
_RECORDS = ("transformers_version", "_from_model_config")


class GeneralAbility:
    """Scores tasks one by one with the weights the model holds at that moment.

    Tasks, their data, the requests built from them and the token ids of those are kept between checkpoints, since none
    depends on the weights. An answer is kept only where the subject brings a place for results, under the digest of the
    weights that gave it; the harness's own caches, which do not know the weights, are never used.
    """

    kind = "general"
    reads_generation = False
    reads_previous = False
    reads_moments = False

    def __init__(self, settings: GeneralAbilitySettings) -> None:
        """Look the tasks up; raises InputError for one that is not there."""
        self.settings = settings
        self._asked = AskedTasks(settings)
        self._suites = self._asked.suites
        self._protocol = f"lm_eval-{harness_version()}"
        self._loaded: list[LoadedSuite] | None = None
        self._prepared: dict[str, PreparedTask] = {}
        self._tokenizers: tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase, Encodings] | None = None

    def identity(self) -> dict[str, object]:
        """Everything but the subject that can change a score, with the digests of all task files.

        Raises InputError for hub data that is available neither there nor in the cache.
        """
        return self._asked.identity()

    def check(self) -> None:
        """Raise InputError for a task that the harness refuses, as far as that shows without data of the hub."""
        self._asked.check(run_code=True)

    def score(self, subject: Subject) -> Scored:
        """Return the rows of each task's metrics and health, of groups, and a mean row for each entry of `tasks`.

        The mean is the plain one over an entry's members: of a task its first metric, of a group its own aggregate, of
        a tag the mean of its tasks; those for which less is better are left out. A task whose scorer raises has rows
        with the status `failed`, as has every mean it is part of. The table `documents` holds the answers. Raises
        InputError if the harness refuses a task. Failures that are not a task's fault are raised unchanged: accelerator
        failures, lack of memory, StorageError.
        """
        lm, digest = self._lm(subject), subject.model.weights_digest()
        rows: list[Score] = []
        tables, failures = [], []
        with quiet_harness(), sandboxed_templates():
            for suite in self.load():
                by_task: dict[str, list[Score]] = {}
                for name, task in suite.tasks.items():
                    try:
                        result = self._result(lm, subject, digest, name, task)
                        by_task[name] = list(result.scores)
                        tables.append(result.documents)
                    except (InputError, StorageError):
                        raise
                    except Exception as error:
                        if is_broken_accelerator(error) or is_out_of_memory(error):
                            raise
                        # Whatever else a task's own scorer raises costs that task alone.
                        reason = f"{type(error).__name__}: {error}"
                        failures.append(FailedPart(name, type(error).__name__, str(error), traceback.format_exc()))
                        n = len(self._prepared[name].eval_docs) if name in self._prepared else 0
                        by_task[name] = failed_rows(name, self._protocol, task.task, reason, n=n)
                rows += [score for scores in by_task.values() for score in scores]
                rows += _suite_rows(suite, by_task)
        documents = pa.concat_tables(tables) if tables else DOCUMENTS_SCHEMA.empty_table()
        return Scored(rows, {"documents": documents}, tuple(failures))

    def load(self) -> list[LoadedSuite]:
        """Return the suites with their tasks, loading them on first use; raises InputError for a bad task."""
        if self._loaded is None:
            self._loaded = load_suites(self._suites)
        return self._loaded

    def _result(self, lm: GuardedHFLM, subject: Subject, digest: str, name: str, task: LoadedTask) -> TaskResult:
        """Return a task's result: the one kept for these very weights, known by their digest, or a new one."""
        prepared = self._prepare(name, task)
        key = result_key(
            {
                "version": _VERSION,
                "protocol": self._protocol,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "weights": digest,
                "generation": _generation_defaults(subject.model.network),
                "dtype": str(subject.model.network.dtype),
                "device": lm.device.type,
                "threads": torch.get_num_threads(),
                "task": name,
                "spec": task.identity,
                "asked": prepared.asked,
                "batch_size": self.settings.batch_size,
            }
        )
        found = kept_result(subject.kept, key)
        if found is None:
            found = self._answer(lm, subject.model, name, prepared)
            keep_result(subject.kept, key, found)
        return found

    def _answer(self, lm: GuardedHFLM, model: EditableModel, name: str, task: PreparedTask) -> TaskResult:
        _require_room(lm, name, task)
        lm.reset_counts()
        with seeded(SEED, lm.device):
            found = evaluate(
                lm, {"tasks": {name: task}, "groups": {}, "group_map": {}}, bootstrap_iters=0, log_samples=True
            )
        if found is None:
            raise RuntimeError("the harness returned nothing: this process is not rank 0")
        documents = documents_table(name, found["samples"][name], lm.counts)
        whole = task.OUTPUT_TYPE == "loglikelihood_rolling" and model.reads_prompts
        protocol = f"{self._protocol}/unrouted" if whole else self._protocol
        rows = task_rows(name, protocol, task, found["results"][name], documents, lm.counts)
        return TaskResult(tuple(rows), documents)

    def _prepare(self, name: str, task: LoadedTask) -> PreparedTask:
        if name not in self._prepared:
            self._prepared[name] = PreparedTask(task.task, limit=task.limit)
        return self._prepared[name]

    def _lm(self, subject: Subject) -> GuardedHFLM:
        original = subject.model.tokenizer
        if self._tokenizers is None or self._tokenizers[0] is not original:
            self._tokenizers = (original, tokenizer_for_harness(original), Encodings())
        _, own, encodings = self._tokenizers
        return guarded_lm(subject.model, own, encodings, batch_size=self.settings.batch_size)


def _generation_defaults(network: PreTrainedModel) -> dict[str, object] | None:
    """Return the defaults of `generate` (penalties, tokens that end a text); they are not part of the weights."""
    config = network.generation_config
    return None if config is None else {k: v for k, v in config.to_diff_dict().items() if k not in _RECORDS}


def _suite_rows(suite: LoadedSuite, by_task: dict[str, list[Score]]) -> list[Score]:
    """Return the rows of a suite's groups and its mean."""
    groups = {group.name: list(group_rows(group, by_task)) for group in suite.groups}
    primaries = []
    for member in suite.members:
        if member.group is not None and groups[member.group]:
            primaries.append(groups[member.group][0])
            continue
        firsts = [first for first in (by_task[task][0] for task in member.tasks) if first.higher_is_better]
        if firsts:
            primaries.append(firsts[0] if len(firsts) == 1 else combined(_MEAN, suite.name, firsts, by_size=False))
    kept = [score for score in primaries if score.higher_is_better]
    mean = [combined(_MEAN, suite.name, kept, by_size=False)] if kept else []
    return [*(score for rows in groups.values() for score in rows), *mean]


def _require_room(lm: GuardedHFLM, name: str, task: PreparedTask) -> None:
    if task.OUTPUT_TYPE != "generate_until":
        return
    options: dict[str, Any] = task.config.generation_kwargs or {}
    wanted = int(options.get("max_gen_toks") or lm.max_gen_toks)
    if wanted >= lm.max_length:
        raise InputError(
            f"task '{name}' generates up to {wanted} tokens; the model has {lm.max_length} positions",
            where=f"task '{name}', generation_kwargs.max_gen_toks",
            remedy=f"set max_gen_toks below {lm.max_length}",
        )
