"""The streams of a sweep: read once per data set, ordered once per seed, digested."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sphere_core.datasets.sources import Dataset, DatasetSpec, read_dataset
from sphere_core.foundation.errors import inside
from sphere_core.plugins.found import NO_PLUGINS, Plugins
from sphere_core.requests import EditRequest, EncodedRequest, encode_request, fact_key
from sphere_core.streams.lengths import LongText, ReadingRoom, long_records, refuse_long
from sphere_core.streams.stream import StreamSpec, stream_of
from workflows.sweeps.paths import resolve_path

__all__ = ["ResolvedStream", "StreamInputs"]


@dataclass(frozen=True)
class ResolvedStream:
    """A stream with its paths made absolute, the digests of its ordered requests and of what only free generation
    reads, and the requests' case ids."""

    spec: StreamSpec
    digest: str
    generation_digest: str | None
    cases: tuple[str, ...]


class StreamInputs:
    """Finds streams; `folder` is the folder of the sweep file, `plugins` may bring data sets.

    `held_out` gives the facts (`fact_key`) that no stream may edit, since a preset of the sweep was chosen on them.
    """

    def __init__(
        self, folder: Path, plugins: Plugins = NO_PLUGINS, held_out: Callable[[], frozenset[str]] = frozenset
    ) -> None:
        self._folder, self._plugins, self._held_out = folder, plugins, held_out
        # What the user should know of the streams, in order and each once.
        self.notes: dict[str, None] = {}
        # A room is known by itself: a sweep has one for each model.
        self._streams: dict[tuple[StreamSpec, int | None, int | None], ResolvedStream] = {}
        self._long: dict[tuple[DatasetSpec, int], dict[int, LongText]] = {}
        self._datasets: dict[DatasetSpec, Dataset] = {}
        self._chosen_on: dict[DatasetSpec, list[int]] = {}
        # Many orders of the same requests cost their encoding once. By object, as hashing a request reads all of it;
        # it is kept beside what it was encoded to, so that no other object can take its id.
        self._encoded: dict[int, tuple[EditRequest, EncodedRequest]] = {}

    def find(self, spec: StreamSpec, seed: int, *, where: str, room: ReadingRoom | None = None) -> ResolvedStream:
        """Find a stream, read it and put it in order; raises InputError if it is missing, wrong or too short.

        With `room`, also if a text of it is longer than the model's positions; `too_long: skip` leaves such records
        out instead. The returned stream records them, and the hash of its file or the commit of its hub id.
        """
        located = spec.located(lambda path: str(resolve_path(path, self._folder)))
        key = (located, seed if spec.is_seeded else None, None if room is None else id(room))
        if key not in self._streams:
            with inside(where):
                dataset = self._dataset(located)
                located = self._without_held_out(located, dataset)
                if room is not None and spec.too_long == "skip":
                    located = self._without_long(located, dataset, room)
                requests = stream_of(dataset.records, located, seed)
                if room is not None and spec.too_long == "refuse":
                    refuse_long(requests, room, source=located.source)
            revision = dataset.commit or located.revision
            pinned = located.model_copy(update={"sha256": dataset.sha256, "revision": revision})
            encoded = [self._encode(request) for request in requests]
            digests = EncodedRequest.digest(encoded), EncodedRequest.generation_digest(encoded)
            self._streams[key] = ResolvedStream(pinned, *digests, tuple(request.case_id for request in requests))
        return self._streams[key]

    def _without_held_out(self, spec: StreamSpec, dataset: Dataset) -> StreamSpec:
        """Return a stream that leaves out what presets were chosen on, for all models alike, and note how many."""
        facts, source = self._held_out(), self._source(spec)
        if not facts:
            return spec
        if source not in self._chosen_on:
            self._chosen_on[source] = [
                place
                for place, record in enumerate(dataset.records)
                if any(fact_key(request) in facts for request in record.requests)
            ]
        places = self._chosen_on[source]
        if not places:
            return spec
        self.notes[
            f"{spec.name}: {len(places)} records are left out, on which a preset of this sweep was calibrated"
        ] = None
        return spec.model_copy(update={"left_out": tuple(sorted({*spec.left_out, *places}))})

    def _without_long(self, spec: StreamSpec, dataset: Dataset, room: ReadingRoom) -> StreamSpec:
        """Return a stream that leaves out the records with texts that are too long, and note how many they are."""
        key = (self._source(spec), id(room))
        if key not in self._long:
            self._long[key] = long_records(dataset.records, room)
        long = self._long[key]
        if not long:
            return spec
        first = next(iter(long.values()))
        self.notes[
            f"{spec.name}: {len(long)} records are left out, longer than the model's {room.positions} positions; the "
            f"first is case {first.case_id}, {first.field} with {first.tokens} tokens"
        ] = None
        return spec.model_copy(update={"left_out": tuple(sorted({*spec.left_out, *long}))})

    def _dataset(self, spec: StreamSpec) -> Dataset:
        source = self._source(spec)
        if source not in self._datasets:
            self._datasets[source] = read_dataset(source, self._plugins)
        return self._datasets[source]

    @staticmethod
    def _source(spec: StreamSpec) -> DatasetSpec:
        return DatasetSpec.model_validate(spec.model_dump(include=set(DatasetSpec.model_fields)))

    def _encode(self, request: EditRequest) -> EncodedRequest:
        known = self._encoded.get(id(request))
        if known is None:
            known = self._encoded[id(request)] = (request, encode_request(request))
        return known[1]
