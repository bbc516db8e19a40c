"""The tasks that an entry of a sweep names, looked up and checked as far as possible without a model."""

from importlib import metadata

from evaluators.general.hub_data import HubData
from evaluators.general.settings import GeneralAbilitySettings
from evaluators.general.suites import SuiteResolver
from evaluators.general.task_code import require_trusted
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.lazy import load_object

__all__ = ["AskedTasks", "harness_version"]

_VERSION = 2


def harness_version() -> str:
    """Return the version of lm-eval that is installed."""
    return metadata.version("lm_eval")


class AskedTasks:
    """The suites of one evaluator's settings. The harness is loaded only to check tasks that are not the project's."""

    def __init__(self, settings: GeneralAbilitySettings) -> None:
        """Look the tasks up; raises InputError for one that is not there, or that names code which is not trusted."""
        self.settings = settings
        resolver = SuiteResolver(settings.include_path, settings.corpus)
        self.suites = [resolver.suite(entry) for entry in settings.entries()]
        names = [suite.name for suite in self.suites]
        if len(set(names)) < len(names):
            raise InputError(
                "two entries of 'tasks' have the same name",
                where=f"evaluator 'general', field tasks: {', '.join(names)}",
                remedy="rename a folder or file",
            )
        self._hub = HubData()
        self._coded = [
            suite
            for suite in self.suites
            if require_trusted(
                (file for member in suite.members for file in member.files()), trusted=settings.trust_task_code
            )
        ]

    def identity(self) -> dict[str, object]:
        """Return everything but the subject that can change a score, with the digests of all task files.

        Raises InputError for data on the hub that can be had neither there nor from the cache.
        """
        return {
            "kind": self.settings.kind,
            "version": _VERSION,
            "lm_eval": harness_version(),
            "settings": self.settings.model_dump(mode="json", include={"batch_size"}),
            "suites": [suite.identity(self._hub) for suite in self.suites],
            **({"trusts_task_code": True} if self._coded else {}),
        }

    def check(self, *, run_code: bool) -> None:
        """Raise InputError for a task that the harness refuses, as far as that shows without data of the hub.

        Tasks that bring code along are looked at only with `run_code`, which runs it.
        """
        doubtful = [suite for suite in self.suites if not suite.is_shipped and not suite.needs_hub()]
        doubtful = [suite for suite in doubtful if run_code or suite not in self._coded]
        if doubtful:
            load_object("evaluators.general.harness_tasks:load_suites")(doubtful)
