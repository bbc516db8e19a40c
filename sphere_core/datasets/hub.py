"""Records of a data set on the Hugging Face hub, at a pinned revision; no script of a repository is ever run."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_download

from sphere_core.datasets.files import read_records
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.hub_ids import is_hub_id

__all__ = ["HubRecords", "check_hub_id", "hub_records"]

# Where a cached file, or the address of a hub file, names the commit it is of.
_COMMIT = re.compile(r"(?:/snapshots/|@)([0-9a-f]{40})/")


@dataclass(frozen=True)
class HubRecords:
    """Records of a hub data set, and the commit they are of where the libraries say it."""

    records: list[Mapping[str, object]]
    commit: str | None


def check_hub_id(hub: str) -> None:
    """Raise InputError unless a text is a hub id (`owner/name`)."""
    if not is_hub_id(hub):
        raise InputError(
            f"'{hub}' is not the id of a data set on the hub",
            where="stream, key hub",
            remedy="write owner/name, such as azhx/counterfact; for a local file use 'path'",
        )


def hub_records(hub: str, *, revision: str, config: str | None, split: str | None, file: str | None) -> HubRecords:
    """Return the records of a hub data set: one `file` of its repository as it is, or a `split` through `datasets`.

    Both are looked for in the local cache when the hub cannot be reached. Raises InputError if neither has
    the data set at that revision, where it exists only as a script, or where `split` or `config` is needed.
    """
    where = f"{hub} at {revision}"
    try:
        if file is not None:
            path = hf_hub_download(hub, file, repo_type="dataset", revision=revision)
            return HubRecords(read_records(Path(path)), _commit_in([path]))
        return _split(hub, revision, config, split, where)
    except (OSError, ValueError, RuntimeError) as error:
        # What the libraries raise for "not found", "offline", "a script" and "which split?" shares no other base.
        reason = next(iter(str(error).splitlines()), "")
        raise InputError(
            f"the data set cannot be read from the hub ({type(error).__name__}: {reason[:160]})",
            where=where,
            remedy="check id, revision, config, split and file; offline, only what is in the local cache can be used: "
            "download the file once and give it as 'path'",
        ) from error


def _split(hub: str, revision: str | None, config: str | None, split: str | None, where: str) -> HubRecords:
    # Imported here: a second of import time that a local file need not pay.
    from datasets import Dataset, load_dataset

    loaded = load_dataset(hub, name=config, revision=revision, split=split)
    if not isinstance(loaded, Dataset):
        if len(loaded) > 1:
            raise InputError(
                "the data set has several splits", where=where, remedy=f"give 'split': {', '.join(loaded)}"
            )
        loaded = next(iter(loaded.values()))
    return HubRecords(loaded.to_list(), _commit_in(loaded.info.download_checksums or ()))


def _commit_in(places: Iterable[str]) -> str | None:
    found = {match[1] for place in places if (match := _COMMIT.search(place))}
    return found.pop() if len(found) == 1 else None
