"""The paths below a sweep's root: relative, with forward slashes, on any storage."""

import re
from typing import NamedTuple

from sphere_core.checkpoint_files import CheckpointFile, checkpoint_file, checkpoint_folder

__all__ = [
    "CHECKPOINTS",
    "COMPACTED",
    "DETAILS",
    "DRIVER_LOCK",
    "EDIT_WORK",
    "ERRORS",
    "ERROR_FILE",
    "KEPT_SCORES",
    "LEASE_FILE",
    "LOCKS",
    "MOMENTS",
    "PLAN_FILE",
    "PLUGINS",
    "PROGRESS_FILE",
    "RETRIED",
    "ROWS",
    "SPEC_FILE",
    "STOPPED_FILE",
    "SWEEP_FILE",
    "TASK_PROGRESS",
    "TIMINGS",
    "TRAJECTORIES",
    "TUNE_WORK",
    "TimedWork",
    "attempt_path",
    "base_name",
    "checkpoint_in",
    "checkpoint_path",
    "checkpoints_folder",
    "compacted_path",
    "details_path",
    "error_path",
    "kept_score_path",
    "keys_folder",
    "keys_path",
    "keys_position",
    "lease_path",
    "lock_path",
    "moments_lock",
    "moments_path",
    "null_space_path",
    "plugin_path",
    "progress_path",
    "rows_path",
    "scored_name",
    "spec_path",
    "stopped_path",
    "task_error_path",
    "task_progress_path",
    "timed_work",
    "timing_path",
    "tracked_path",
    "trajectory_folder",
]

SWEEP_FILE = "sweep.yaml"
PLAN_FILE = "plan.json"
SPEC_FILE = "spec.json"
PROGRESS_FILE = "progress.json"
ERROR_FILE = "error.json"
LEASE_FILE = "lease.json"
STOPPED_FILE = "stopped.json"
TRAJECTORIES = "trajectories"
CHECKPOINTS = "checkpoints"
ERRORS = "errors"
ROWS = "rows"
COMPACTED = "compacted"
MOMENTS = "moments"
DETAILS = "details"
DRIVER_LOCK = "driver"
PLUGINS = "plugins"
LOCKS = "locks"
RETRIED = "retried"
TIMINGS = "timings"
# The work of replicas among timings: edits, and the steps of a fine-tuning. All else there is of an evaluator.
EDIT_WORK, TUNE_WORK = "edit", "tune"
_TIMING = re.compile(rf"{TIMINGS}/([^/]+)/([0-9A-Za-z_]+)-([0-9a-zA-Z]+)(?:-([0-9a-zA-Z]+))?\.json")
_BASE = "base"
_KEYS = ".safetensors"
KEPT_SCORES = "scores"
TASK_PROGRESS = "progress"
TRACKED = "tracked"


def trajectory_folder(trajectory_id: str) -> str:
    """Return the folder of one trajectory."""
    return f"{TRAJECTORIES}/{trajectory_id}"


def checkpoints_folder(trajectory_id: str) -> str:
    """Return the folder that holds a trajectory's checkpoints, one folder per edit count."""
    return f"{trajectory_folder(trajectory_id)}/{CHECKPOINTS}"


def checkpoint_path(trajectory_id: str, edits: int, name: str) -> str:
    """Return the path of one file of one of a trajectory's checkpoints."""
    return f"{checkpoints_folder(trajectory_id)}/{checkpoint_file(edits, name)}"


def checkpoint_in(path: str) -> tuple[str, CheckpointFile] | None:
    """Parse a path into trajectory and checkpoint file; None if it is not a checkpoint's file."""
    top, _, rest = path.partition("/")
    trajectory_id, _, rest = rest.partition("/")
    folder, _, rest = rest.partition("/")
    file = CheckpointFile.of(rest) if (top, folder) == (TRAJECTORIES, CHECKPOINTS) else None
    return None if file is None else (trajectory_id, file)


def keys_folder(trajectory_id: str) -> str:
    """Return the folder that holds the keys of a trajectory's edits, one file per checkpoint interval."""
    return f"{trajectory_folder(trajectory_id)}/keys"


def keys_path(trajectory_id: str, edits: int) -> str:
    """Return the path of the keys of the edits up to an edit count, from the wanted checkpoint before it."""
    return f"{keys_folder(trajectory_id)}/{checkpoint_folder(edits)}{_KEYS}"


def keys_position(path: str) -> int:
    """Return the edit count that `keys_path` made a path of."""
    return int(path.rpartition("/")[2].removesuffix(_KEYS))


def spec_path(trajectory_id: str) -> str:
    """Return the path of a trajectory's whole specification."""
    return f"{trajectory_folder(trajectory_id)}/{SPEC_FILE}"


def lock_path(name: str, generation: int) -> str:
    """Return the path of a lock's holder record."""
    return f"{LOCKS}/{name}.{generation:09d}.json"


def lease_path(trajectory_id: str) -> str:
    """Return the path of a trajectory's lease: the attempt that may publish."""
    return f"{trajectory_folder(trajectory_id)}/{LEASE_FILE}"


def plugin_path(digest: str) -> str:
    """Return the path of a plugin file's source."""
    return f"{PLUGINS}/{digest}.py"


def progress_path(trajectory_id: str) -> str:
    """Return the path of the progress report of the replica that runs a trajectory."""
    return f"{trajectory_folder(trajectory_id)}/{PROGRESS_FILE}"


def error_path(trajectory_id: str) -> str:
    """Return the path of a failed trajectory's error record."""
    return f"{trajectory_folder(trajectory_id)}/{ERROR_FILE}"


def stopped_path(trajectory_id: str) -> str:
    """Return the path of a trajectory's stop record: the watchdog's edit count and reason."""
    return f"{trajectory_folder(trajectory_id)}/{STOPPED_FILE}"


def task_error_path(task_name: str) -> str:
    """Return the path of the error record of any other task."""
    return f"{ERRORS}/{task_name.replace('/', '-')}.json"


def task_progress_path(task_name: str) -> str:
    """Return the path of the progress report of a task that is not a trajectory."""
    return f"{TASK_PROGRESS}/{task_name}.json"


def moments_path(key: str) -> str:
    """Return the path of built second moments."""
    return f"{MOMENTS}/{key}.safetensors"


def moments_lock(name: str) -> str:
    """Return the name of the lock for building second moments or a null space."""
    return f"moments-{name}"


def null_space_path(key: str) -> str:
    """Return the path of the null space of one layer's second moments."""
    return f"{MOMENTS}/nullspace-{key}.safetensors"


def scored_name(trajectory_id: str, edits: int) -> str:
    """Return the name of one checkpoint among rows and timings."""
    return f"{trajectory_id}-{checkpoint_folder(edits)}"


def attempt_path(trajectory_id: str, attempt: int) -> str:
    """Return the path of an attempt's record: the edit at which it began."""
    return f"{trajectory_folder(trajectory_id)}/attempts/{attempt:04d}.json"


def base_name(model_digest: str) -> str:
    """Return the name of an unedited model among rows and timings."""
    return f"{_BASE}-{model_digest[:12]}"


def rows_path(kind: str, subject: str, evaluation_id: str) -> str:
    """Return the file of one subject's rows from one evaluator."""
    return f"{ROWS}/{kind}/{subject}-{evaluation_id}.parquet"


def details_path(table: str, subject: str, evaluation_id: str) -> str:
    """Return the file of a table behind one subject's rows: scored probes, documents, and the like."""
    return f"{DETAILS}/{table}/{subject}-{evaluation_id}.parquet"


def kept_score_path(key: str) -> str:
    """Return the file of a result that equal weights share; the key is a digest of all it depends on."""
    return f"{KEPT_SCORES}/{key[:2]}/{key}.parquet"


def timing_path(stage: str, name: str) -> str:
    """Return the path of the seconds spent on one piece of work; row files hold no seconds."""
    return f"{TIMINGS}/{stage}/{name}.json"


class TimedWork(NamedTuple):
    """What the path of a timing says: the work, its subject, and an evaluator's evaluation.

    The subject is the checkpoint at `position` of a trajectory, or the unedited model `base` (`base_name`).
    """

    stage: str
    trajectory_id: str | None
    position: int
    base: str | None
    evaluation_id: str | None


def timed_work(path: str) -> TimedWork | None:
    """Return what `timing_path` made a path of; None for another path."""
    named = _TIMING.fullmatch(path)
    if named is None:
        return None
    stage, subject, rest, evaluation_id = named.groups()
    if subject == _BASE:
        return TimedWork(stage, None, 0, f"{_BASE}-{rest}", evaluation_id)
    return TimedWork(stage, subject, int(rest), None, evaluation_id) if rest.isdecimal() else None


def tracked_path(tracker: str, project: str) -> str:
    """Return the record of what was sent to a project of a tracker, the project by its digest."""
    return f"{TRACKED}/{tracker}-{project}.json"


def compacted_path(trajectory_id: str, digest: str) -> str:
    """Return the file that holds the rows of one trajectory; the digest says of which row files."""
    return f"{COMPACTED}/{trajectory_id}-{digest}.parquet"
