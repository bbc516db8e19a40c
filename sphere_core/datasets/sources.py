"""Where edit requests come from: a data set's file, a data set of the hub, or the embedded fact world."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sphere_core.datasets.factworld.records import edit_records
from sphere_core.datasets.factworld.shipped import shipped_world
from sphere_core.datasets.files import read_records
from sphere_core.datasets.hub import check_hub_id, hub_records
from sphere_core.datasets.outside import EMBEDDED, find_schema
from sphere_core.datasets.records import Record
from sphere_core.datasets.schemas import SCHEMAS, read_all
from sphere_core.datasets.snippets import with_snippets
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import file_digest
from sphere_core.plugins.found import NO_PLUGINS, Plugins

__all__ = ["Dataset", "DatasetSpec", "read_dataset"]


class DatasetSpec(BaseModel):
    """Where edit requests come from: a file, a data set of the hub, or the embedded fact world."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field(description="Schema of the data set: " + ", ".join([EMBEDDED, *SCHEMAS]) + ", or a plugin's")
    path: str | None = Field(default=None, description="JSON, JSON lines, Parquet or CSV file")
    hub: str | None = Field(default=None, description="Hub id (owner/name), in place of a path")
    revision: str | None = Field(default=None, description="Commit or tag of the hub id")
    config: str | None = Field(default=None, description="Configuration of the hub id, where it has several")
    split: str | None = Field(default=None, description="Split of the hub id, where it has several")
    file: str | None = Field(default=None, description="One file of the hub's repository, read as it is")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$", description="What the file must hash to")
    records: int | None = Field(default=None, ge=1, description="How many records the data set must have")
    snippets: str | None = Field(
        default=None, description="CounterFact's attribute_snippets.json: the reference texts of consistency"
    )

    target: Literal["answers", "alt"] | None = Field(
        default=None,
        description="zsRE: the answer that is edited in; answers (as in MEMIT; default) or alt (EasyEdit)",
    )
    incomplete: Literal["refuse", "skip"] = Field(
        default="refuse",
        description="Records without a target, or whose subject has no one place in the prompt: refuse them, or skip "
        "and count them",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "DatasetSpec":
        if self.dataset == EMBEDDED and (self.path or self.hub):
            raise ValueError("the fact world brings its own records: leave 'path' and 'hub' out")
        if self.dataset in SCHEMAS and (self.path is None) == (self.hub is None):
            raise ValueError(f"data set '{self.dataset}' needs a path: give 'path', or 'hub' with 'revision'")
        if self.hub is not None and self.revision is None:
            raise ValueError("'hub' needs 'revision', a commit or tag: what a hub id names can change")
        of_hub = [key for key in ("revision", "config", "split", "file") if getattr(self, key) is not None]
        if self.hub is None and of_hub:
            raise ValueError(f"'{of_hub[0]}' belongs to a 'hub' id, and there is none")
        if self.snippets is not None and self.dataset not in ("counterfact", "multi_counterfact"):
            raise ValueError("'snippets' belong to CounterFact records")
        if self.target is not None and self.dataset != "zsre":
            raise ValueError("'target' chooses between the two answers of zsRE records")
        if self.sha256 is not None and self.path is None:
            raise ValueError("'sha256' belongs to a 'path'; a hub id is pinned by its 'revision'")
        return self

    @property
    def name(self) -> str:
        """How tables call the data set: its schema, with the file's name or the hub id where one is given."""
        if self.hub is not None:
            return f"{self.dataset}:{self.hub}"
        return self.dataset if self.path is None else f"{self.dataset}:{Path(self.path).stem}"

    @property
    def source(self) -> str:
        """Where the records are, as errors name it."""
        return self.path or (f"{self.hub} at {self.revision}" if self.hub else "fact world")


@dataclass(frozen=True)
class Dataset:
    """The records of a data set in file order, and what pins them: the sha256 of their file, or the hub's commit.

    A record that is left out has no requests; `left_out` says why, by its place. `stripped` counts the texts of the
    file that had blanks around them.
    """

    records: tuple[Record, ...]
    sha256: str | None
    commit: str | None
    left_out: Mapping[int, str] = field(default_factory=dict)
    stripped: int = 0


def read_dataset(spec: DatasetSpec, plugins: Plugins = NO_PLUGINS) -> Dataset:
    """Read a data set, which may be one of `plugins` or of an installed package.

    Raises InputError if it is unknown or missing, is not what `sha256` or `records` say, or where a record is wrong,
    naming file, record and field.
    """
    schema = SCHEMAS["counterfact"] if spec.dataset == EMBEDDED else find_schema(spec.dataset, plugins, where="dataset")
    if spec.dataset != EMBEDDED and (spec.path is None) == (spec.hub is None):
        remedy = "give 'path', or 'hub' with 'revision'"
        raise InputError(f"data set '{spec.dataset}' needs one source of records", where="dataset", remedy=remedy)
    digest = file_digest(Path(spec.path)) if spec.path is not None and os.path.isfile(spec.path) else None
    if digest is not None and spec.sha256 not in (None, digest):
        raise InputError(
            f"the file hashes to {digest}, not to the required sha256 ({spec.sha256})",
            where=spec.source,
            remedy="fetch the file again, or change 'sha256' if this is the file you mean",
        )
    raw, commit = _raw_records(spec)
    if spec.records not in (None, len(raw)):
        raise InputError(
            f"the data set has {len(raw)} records, not the required {spec.records}",
            where=spec.source,
            remedy="fetch the data set again, or change 'records' if this is the one you mean",
        )
    read = schema.read if spec.target in (None, "answers") else schema.targets[spec.target][1]
    records, left_out = read_all(read, raw, spec.source, skip_incomplete=spec.incomplete == "skip")
    if len(left_out) == len(records):
        raise InputError(
            f"every record is left out: {next(iter(left_out.values()))}", where=spec.source, remedy="check the schema"
        )
    if spec.snippets is not None:
        records = with_snippets(records, raw, Path(spec.snippets))
    return Dataset(tuple(records), digest, commit, left_out, _with_blanks(raw))


def _with_blanks(value: object) -> int:
    """Return how many texts inside a value have blanks around them."""
    if isinstance(value, str):
        return value != value.strip()
    if isinstance(value, Mapping):
        return sum(map(_with_blanks, value.values()))
    return sum(map(_with_blanks, value)) if isinstance(value, list) else 0


def _raw_records(spec: DatasetSpec) -> tuple[Sequence[Mapping[str, object]], str | None]:
    """Return the records as they are in the file, and the commit of the hub they are of."""
    if spec.path is not None:
        return read_records(Path(spec.path)), None
    if spec.hub is None:
        return edit_records(shipped_world()), None
    check_hub_id(spec.hub)
    found = hub_records(spec.hub, revision=str(spec.revision), config=spec.config, split=spec.split, file=spec.file)
    return found.records, found.commit
