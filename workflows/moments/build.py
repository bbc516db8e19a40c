"""Build second moments into a store: in one resumable pass, or every n-th group of it."""

from collections.abc import Callable
from pathlib import Path

from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.foundation.storage import Storage
from sphere_core.models import EditableModel, model_digest, resolve_model
from sphere_core.models.loading import family_of, load_skeleton, torch_dtype
from sphere_core.models.source import commit_of
from sphere_core.moments.build import build_second_moments, finished_moments, run_pass
from sphere_core.moments.packing import MAX_GROUPS, Cursor
from sphere_core.moments.record import SecondMoments
from sphere_core.moments.sums import KeptInFile, MomentSums, Running, SumsFile
from sphere_core.plugins.found import NO_PLUGINS, Plugins
from workflows.moments.corpus_texts import corpus_texts
from workflows.moments.work import ModelName, MomentsWork
from workflows.store.records import ShardsEnd

__all__ = [
    "build_alone",
    "build_shard",
    "merge_shards",
    "name_model",
    "remove_groups",
]


def name_model(
    source: str, *, dtype: str, revision: str | None, remote_code: bool, plugins: Plugins = NO_PLUGINS
) -> tuple[ModelName, EditableModel]:
    """Find a model on this machine; return its name and its skeleton, without loading weights."""
    torch_dtype(dtype, where="--dtype")
    folder = resolve_model(source, revision=revision, remote_code=remote_code)
    located = str(Path(source).expanduser().resolve()) if Path(source).expanduser().is_dir() else source
    family = family_of(folder, remote_code=remote_code, plugins=plugins)
    digest = family.digest_of(model_digest(folder, remote_code=remote_code))
    name = ModelName(located, digest, dtype, commit_of(folder) or revision, remote_code, family.carried)
    return name, load_skeleton(folder, remote_code=remote_code, family=family)


def build_alone(
    task: MomentsWork,
    model: EditableModel,
    storage: Storage,
    *,
    publish: Callable[[SecondMoments], None],
    on_progress: Callable[[Cursor], None],
) -> None:
    """Build a set in this process and publish it; resumes the sums of an attempt that was killed."""
    kept = KeptInFile(storage, f".{task.key}-partial.safetensors", task.identity(), every_seconds=task.every_seconds)
    moments = build_second_moments(
        model, task.work, corpus_texts(task.corpus), provenance=task.provenance, kept=kept, on_progress=on_progress
    )
    publish(moments)
    kept.remove()


class _GroupFiles(KeptInFile):
    """Saves the running sums of one shard, and publishes each complete group as a file."""

    def __init__(self, task: MomentsWork, storage: Storage, shard: int, shards: int) -> None:
        identity = {**task.identity(), "shard": shard, "shards": shards}
        super().__init__(storage, f".{task.key}-shard-{shard}.safetensors", identity, every_seconds=task.every_seconds)
        self._task = task

    def close_group(self, running: Running) -> None:
        """Publish the current group, unless another shard owns it."""
        if running.current.count:
            group = SumsFile(self._task.identity(), {"group": running.current})
            group.write(self._storage, _group_path(self._task, running.cursor.group))
        running.current.clear()


def build_shard(
    task: MomentsWork,
    shard: int,
    shards: int,
    model: EditableModel,
    storage: Storage,
    on_progress: Callable[[Cursor], None],
) -> None:
    """Sum every `shards`-th group of the corpus and publish each as a file; existing groups are skipped."""
    kept = _GroupFiles(task, storage, shard, shards)
    there = {group for group in range(MAX_GROUPS) if storage.exists(_group_path(task, group))}
    ended = run_pass(
        model,
        task.work,
        corpus_texts(task.corpus),
        kept=kept,
        owns=lambda group: group % shards == shard and group not in there,
        on_progress=on_progress,
    )
    ShardsEnd(groups=ended.cursor.group + 1).write(storage, _end_path(task))
    kept.remove()


def merge_shards(task: MomentsWork, skeleton: EditableModel, storage: Storage) -> SecondMoments:
    """Add up the groups of all shards, in the order in which one process adds them."""
    end = ShardsEnd.read(storage, _end_path(task))
    if end is None:
        raise RuntimeError("no shard has left the number of groups of the pass, or it cannot be read")
    whole = MomentSums({})
    for group in range(end.groups):
        found = SumsFile.read(storage, _group_path(task, group))
        if found is None or not found.is_of(task.identity()):
            raise RuntimeError(f"the sums of group {group} are missing or of another pass")
        whole.add(found.parts["group"])
    return finished_moments(whole, skeleton, task.work, task.provenance)


def remove_groups(task: MomentsWork, storage: Storage) -> None:
    """Remove the files of shards once the set is published."""
    for group in range(MAX_GROUPS):
        storage.delete(_group_path(task, group))
    storage.delete(_end_path(task))


def _group_path(task: MomentsWork, group: int) -> str:
    return f".{task.key}-group-{group:02d}-{fingerprint(task.identity())[:8]}.safetensors"


def _end_path(task: MomentsWork) -> str:
    return f".{task.key}-groups-{fingerprint(task.identity())[:8]}.json"
