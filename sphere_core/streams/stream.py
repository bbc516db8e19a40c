"""Streams: an ordered list of edit requests, by data set, order and length."""

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field, NonNegativeInt

from sphere_core.datasets.records import Record
from sphere_core.datasets.sources import DatasetSpec, read_dataset
from sphere_core.foundation.errors import InputError
from sphere_core.plugins.found import NO_PLUGINS, Plugins
from sphere_core.requests import EditRequest
from sphere_core.streams.conflicts import Conflicts, with_conflicts
from sphere_core.streams.orders import Order, OrderEntry, arranged
from sphere_core.streams.paraphrases import with_paraphrases

__all__ = ["StreamSpec", "load_stream", "stream_of"]


class StreamSpec(DatasetSpec):
    """Which requests are edited, and in what order."""

    edits: int = Field(ge=1, description="Requests taken, after ordering")
    order: OrderEntry = Field(
        default=Order(kind="canonical"),
        description="canonical (file order), shuffled (the whole set, by the trajectory's seed), "
        "{clustered: relation}, {dispersed: relation} or {given: FILE}, with `sample` where it holds several",
    )
    conflicts: Conflicts | None = Field(
        default=None, description="{share, distance}: later edits that contradict earlier ones"
    )
    paraphrases: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Other wordings of each fact that are edits of their own, directly behind it, and probes no more",
    )

    too_long: Literal["refuse", "skip"] = Field(
        default="refuse",
        description="Records with a text longer than the model's positions: refuse them, or skip and count them",
    )
    left_out: tuple[NonNegativeInt, ...] = Field(
        default=(),
        description="Places of records that are left out, from 0; a plan records here what `skip` found, and what a "
        "preset was calibrated on",
    )

    label: str | None = Field(default=None, description="Name in tables; needed where two streams look alike there")

    @property
    def name(self) -> str:
        """How tables call the data set."""
        return self.label or super().name

    @property
    def order_name(self) -> str:
        """How rows and tables call the order."""
        parts = [self.order.name]
        if self.conflicts is not None:
            parts.append(self.conflicts.name)
        if self.paraphrases is not None:
            parts.append(f"paraphrases:{self.paraphrases}")
        return "+".join(parts)

    @property
    def is_seeded(self) -> bool:
        """Whether another seed gives another stream."""
        return self.order.is_seeded or self.conflicts is not None

    def located(self, absolute: Callable[[str], str]) -> "StreamSpec":
        """Return the stream with every path in it made absolute."""
        order = (
            self.order if self.order.file is None else self.order.model_copy(update={"file": absolute(self.order.file)})
        )
        paths = {key: absolute(given) for key in ("path", "snippets") if (given := getattr(self, key)) is not None}
        return self.model_copy(update={**paths, "order": order})


def stream_of(records: Sequence[Record], spec: StreamSpec, seed: int) -> tuple[EditRequest, ...]:
    """Return the requests of a stream in edit order, from the records of its data set.

    Raises InputError if there are too few records, or if order, conflicts or paraphrases are impossible.
    """
    if spec.paraphrases is not None:
        return tuple(with_paraphrases(_facts_of_wordings(records, spec, seed), spec.paraphrases))
    fresh = spec.edits - (spec.conflicts.count(spec.edits) if spec.conflicts is not None else 0)
    gone = frozenset(spec.left_out)
    chosen = arranged(records, spec.order, edits=fresh, seed=seed, source=spec.source, gone=gone)
    requests = [request for record in chosen for request in record.requests][:fresh]
    if spec.conflicts is None:
        return tuple(requests)
    if any(len(record.requests) > 1 for record in records):
        raise InputError(
            "conflicts need a data set with one edit per record",
            where=f"{spec.source}, key conflicts",
            remedy="leave 'conflicts' out: a multi-hop question hangs on all edits of its record",
        )
    if len({request.case_id for request in requests}) < len(requests):
        raise InputError(
            "conflicts need case ids that are unique: what is contradicted is named by them",
            where=f"{spec.source}, field case_id",
            remedy="number the records, or leave case_id out",
        )
    pool = [request for place, record in enumerate(records) if place not in gone for request in record.requests]
    return tuple(with_conflicts(requests, spec.conflicts, pool=pool, edits=spec.edits, seed=seed))


def _facts_of_wordings(records: Sequence[Record], spec: StreamSpec, seed: int) -> Sequence[EditRequest]:
    """Return the requests that a stream writes in several wordings, which are `edits` together."""
    where, written = f"{spec.source}, key paraphrases", 1 + (spec.paraphrases or 0)
    if spec.conflicts is not None:
        raise InputError("a stream has conflicts or paraphrases", where=where, remedy="leave one of them out")
    if spec.edits % written:
        what = f"{spec.edits} edits are not facts in {written} wordings each"
        raise InputError(what, where=where, remedy=f"give a multiple of {written} as edits")
    return stream_of(records, spec.model_copy(update={"paraphrases": None, "edits": spec.edits // written}), seed)


def load_stream(spec: StreamSpec, seed: int, plugins: Plugins = NO_PLUGINS) -> tuple[EditRequest, ...]:
    """Read a data set and return the requests of a stream in edit order; raises InputError as its two steps do."""
    return stream_of(read_dataset(spec, plugins).records, spec, seed)
