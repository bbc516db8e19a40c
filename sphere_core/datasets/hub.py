"""Records of a data set on the Hugging Face hub, at a pinned revision; no script of a repository is ever run."""

import re
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import hf_hub_download

from sphere_core.datasets.files import read_records
from sphere_core.errors import InputError

__all__ = ["check_hub_id", "hub_records"]

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")


def check_hub_id(hub: str) -> None:
    """Raise InputError where a text is no hub id (`owner/name`)."""
    if not _HUB_ID.match(hub):
        raise InputError(
            f"'{hub}' is not the id of a data set on the hub",
            where="stream, key hub",
            remedy="write owner/name, such as azhx/counterfact; for a local file use 'path'",
        )


def hub_records(
    hub: str, *, revision: str, config: str | None, split: str | None, file: str | None
) -> list[Mapping[str, object]]:
    """Return the records of a hub data set: one `file` of its repository as it is, or a `split` through `datasets`.

    Both are looked for in the local cache when the hub cannot be reached. Raises InputError where neither has
    the data set at that revision, where it exists only as a script, or where `split` or `config` is needed.
    """
    where = f"{hub} at {revision}"
    try:
        if file is not None:
            return read_records(Path(hf_hub_download(hub, file, repo_type="dataset", revision=revision)))
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


def _split(
    hub: str, revision: str | None, config: str | None, split: str | None, where: str
) -> list[Mapping[str, object]]:
    # Imported here: a second of import time that a local file need not pay.
    from datasets import Dataset, load_dataset

    loaded = load_dataset(hub, name=config, revision=revision, split=split)
    if isinstance(loaded, Dataset):
        return list(loaded.to_list())
    if len(loaded) > 1:
        raise InputError("the data set has several splits", where=where, remedy=f"give 'split': {', '.join(loaded)}")
    return list(next(iter(loaded.values())).to_list())
