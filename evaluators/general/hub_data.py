"""Whether the data sets that tasks name can be reached, on the hub or in the local cache, before any work is done."""

from collections.abc import Mapping

from evaluators.general.quiet import quiet_harness
from evaluators.general.task_files import is_local_data
from sphere_core.foundation.errors import InputError

__all__ = ["HubData", "hub_data", "unreachable"]


class HubData:
    """Looks data sets up on the hub, or in the local cache where there is no network; reads none of their rows."""

    def __init__(self) -> None:
        self._revisions: dict[tuple[str, str | None], str | None] = {}

    def revision(self, task: str, config: Mapping[str, object]) -> list[str | None] | None:
        """Return data set id, configuration and revision of a task's data; None for local files.

        The revision is the commit of the data set, on the hub or in the cache. Raises InputError if neither has it.
        """
        source = hub_data(config)
        if source is None:
            return None
        # Imported for data on the hub alone: a second that a task with files of its own need not pay.
        import datasets
        from datasets.exceptions import DatasetsError

        path, name = source
        # A cache may hold one configuration and not another; on the hub, one look tells about all of them.
        key = (path, name if datasets.config.HF_HUB_OFFLINE else None)
        if key not in self._revisions:
            try:
                with quiet_harness():
                    self._revisions[key] = datasets.load_dataset_builder(path, name).hash
            # What is neither on the hub nor cached raises ConnectionError or FileNotFoundError, which are OSErrors, as
            # are faults of the hub; a configuration that is not cached raises ValueError.
            except (OSError, DatasetsError, ValueError) as error:
                raise unreachable(task, config, error) from error
        return [path, name, self._revisions[key]]


def hub_data(config: Mapping[str, object]) -> tuple[str, str | None] | None:
    """Return the data set id and configuration a task reads from the hub; None if it reads local files."""
    path, name = config.get("dataset_path"), config.get("dataset_name")
    if not isinstance(path, str) or is_local_data(config):
        return None
    return path, name if isinstance(name, str) else None


def unreachable(task: str, config: Mapping[str, object], error: BaseException) -> InputError:
    """Return the error for data that is neither on a hub that answers nor in the cache, with what to do about it."""
    import datasets

    path, name = hub_data(config) or (str(config.get("dataset_path")), None)
    offline = " while HF_HUB_OFFLINE is set" if datasets.config.HF_HUB_OFFLINE else ""
    return InputError(
        f"task '{task}' needs the data set '{path}'{f' ({name})' if name else ''}, which cannot be had{offline} "
        f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'})",
        where=f"evaluator 'general', task '{task}'",
        remedy="run once with network access, which fills the cache (HF_HOME); or name a folder of task YAMLs with "
        "data files of your own instead",
    )
