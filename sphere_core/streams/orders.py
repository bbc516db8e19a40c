"""The order in which the records of a data set are edited: an axis of a sweep."""

import random
from collections.abc import Sequence, Set
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from sphere_core.datasets.records import Record
from sphere_core.foundation.errors import InputError, nearest_name
from sphere_core.streams.order_files import in_given_order

__all__ = ["Order", "OrderEntry", "arranged", "spread"]

_T = TypeVar("_T")
Kind = Literal["canonical", "shuffled", "clustered", "dispersed", "given"]


class Order(BaseModel):
    """How records are put in order. YAML: `shuffled`, `{clustered: relation}`, `{given: order.json}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = Field(description="canonical, shuffled, clustered, dispersed or given")
    by: Literal["relation"] | None = Field(default=None, description="Clustered or dispersed: what makes edits alike")
    file: str | None = Field(default=None, description="Given: the file with the order")
    sample: str | None = Field(default=None, description="Given: which of several orders; `seed`: that of the seed")

    @model_validator(mode="after")
    def _complete(self) -> "Order":
        if (self.by is not None) != (self.kind in ("clustered", "dispersed")):
            raise ValueError("write {clustered: relation} or {dispersed: relation}; other orders take no 'by'")
        if (self.file is not None) != (self.kind == "given"):
            raise ValueError("write {given: FILE}; other orders take no file")
        if self.sample is not None and self.kind != "given":
            raise ValueError("write {given: FILE, sample: NAME}; other orders take no sample")
        return self

    @property
    def name(self) -> str:
        """How rows and tables call the order."""
        if self.kind == "given":
            return f"given:{Path(str(self.file)).stem}{'' if self.sample is None else f':{self.sample}'}"
        return self.kind if self.by is None else f"{self.kind}:{self.by}"

    @property
    def is_seeded(self) -> bool:
        """Whether the seed moves it."""
        return self.kind in ("shuffled", "clustered", "dispersed") or self.sample == "seed"


def _from_yaml(value: Any) -> Any:
    """Turn `shuffled` and `{given: FILE}` into fields; raises ValueError with the nearest valid order."""
    named = {"clustered": "by", "dispersed": "by", "given": "file"}
    if isinstance(value, dict) and set(value) == {"given", "sample"}:
        sample = value["sample"]
        is_whole = isinstance(sample, int) and not isinstance(sample, bool)
        return {"kind": "given", "file": value["given"], "sample": str(sample) if is_whole else sample}
    if isinstance(value, dict) and len(value) == 1:
        kind, argument = next(iter(value.items()))
        if kind in named:
            return {"kind": kind, named[kind]: argument}
        if kind != "kind":
            value = kind
    if isinstance(value, str):
        if value in named:
            raise ValueError(f"write {{{value}: {'FILE' if value == 'given' else 'relation'}}}")
        if value not in get_args(Kind):
            near = nearest_name(value, get_args(Kind))
            hint = f": did you mean '{near}'?" if near else ""
            raise ValueError(f"unknown order '{value}'{hint}")
        return {"kind": value}
    return value


OrderEntry = Annotated[Order, BeforeValidator(_from_yaml)]


def arranged(
    records: Sequence[Record],
    order: Order,
    *,
    edits: int,
    seed: int,
    source: str,
    gone: Set[int] = frozenset(),
) -> list[Record]:
    """Return the records that hold the first `edits` edits, in order; edits of one record stay together.

    `canonical` is file order. `shuffled` shuffles the whole set by the seed. `clustered` and `dispersed` take what
    `shuffled` takes at that seed, so that the three are orders of the same edits: clustered brings edits of the
    same relation together, relations in the order of their first edit; dispersed spreads every relation
    evenly over the stream. The relation is the data set's own, else the prompt template: both are proxies for
    similar keys and require no model (`sphere order` clusters by the keys themselves). `given` reads the file.
    Records without requests, which a data set leaves out, are skipped, and so are those at the places `gone`.
    No step rounds, so every machine gives the same order. Raises InputError for a faulty order file and
    for too few records.
    """
    if order.kind == "given":
        sample = str(seed) if order.sample == "seed" else order.sample
        given = in_given_order(records, Path(str(order.file)), source=source, sample=sample)
        absent = {id(records[place]) for place in gone if place < len(records)}
        present = [record for record in given if record.requests and id(record) not in absent]
        return _enough(present, edits, str(order.file), len(absent))
    chosen = [record for place, record in enumerate(records) if record.requests and place not in gone]
    if order.is_seeded:
        random.Random(seed).shuffle(chosen)
    chosen = _enough(chosen, edits, source, len(gone))
    if order.by is None:
        return chosen
    groups: dict[str, list[Record]] = {}
    for record in chosen:
        first = record.requests[0]
        groups.setdefault(first.relation or first.prompt, []).append(record)
    if order.kind == "clustered":
        return [record for group in groups.values() for record in group]
    return spread(list(groups.values()))


def spread(groups: Sequence[Sequence[_T]]) -> list[_T]:
    """Interleave groups so that each is spread evenly: the j-th of m members is at (2 j + 1) / (2 m) of the way."""
    placed = [
        (Fraction(2 * place + 1, 2 * len(group)), number, member)
        for number, group in enumerate(groups)
        for place, member in enumerate(group)
    ]
    return [member for _, _, member in sorted(placed, key=lambda item: item[:2])]


def _enough(records: list[Record], edits: int, where: str, left_out: int) -> list[Record]:
    """Return the first records that hold at least `edits` edits; raises InputError if all of them hold fewer."""
    count = 0
    for place, record in enumerate(records, start=1):
        count += len(record.requests)
        if count >= edits:
            return records[:place]
    without = f" without the {left_out} records that are left out" if left_out else ""
    raise InputError(
        f"the stream requires {edits} edits, the data set has {count}{without}",
        where=where,
        remedy=f"set edits to at most {count}" if count else "give a data set whose records can be edited",
    )
