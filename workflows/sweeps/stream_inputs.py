"""The streams of a sweep: read once per data set, ordered once per seed, digested."""

from dataclasses import dataclass
from pathlib import Path

from sphere_core.datasets.sources import Dataset, DatasetSpec, read_dataset
from sphere_core.foundation.errors import inside
from sphere_core.requests import EditRequest, EncodedRequest, encode_request
from sphere_core.streams.stream import StreamSpec, stream_of
from workflows.sweeps.paths import resolve_path

__all__ = ["ResolvedStream", "StreamInputs"]


@dataclass(frozen=True)
class ResolvedStream:
    """A stream with its paths made absolute, and the digests of its ordered requests and of what only free generation
    reads."""

    spec: StreamSpec
    digest: str
    generation_digest: str | None


class StreamInputs:
    """Finds streams; `folder` is the folder of the sweep file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._streams: dict[tuple[StreamSpec, int | None], ResolvedStream] = {}
        self._datasets: dict[DatasetSpec, Dataset] = {}
        # Many orders of the same requests cost their encoding once. By object, as hashing a request reads all of it;
        # it is kept beside what it was encoded to, so that no other object can take its id.
        self._encoded: dict[int, tuple[EditRequest, EncodedRequest]] = {}

    def find(self, spec: StreamSpec, seed: int, *, where: str) -> ResolvedStream:
        """Find a stream, read it and put it in order; raises InputError if it is missing, wrong or too short.

        The returned stream records the hash of its file, or the commit of its hub id.
        """
        located = spec.located(lambda path: str(resolve_path(path, self._folder)))
        key = (located, seed if spec.is_seeded else None)
        if key not in self._streams:
            with inside(where):
                dataset = self._dataset(located)
                requests = stream_of(dataset.records, located, seed)
            revision = dataset.commit or located.revision
            pinned = located.model_copy(update={"sha256": dataset.sha256, "revision": revision})
            encoded = [self._encode(request) for request in requests]
            digests = EncodedRequest.digest(encoded), EncodedRequest.generation_digest(encoded)
            self._streams[key] = ResolvedStream(pinned, *digests)
        return self._streams[key]

    def _dataset(self, spec: StreamSpec) -> Dataset:
        source = DatasetSpec.model_validate(spec.model_dump(include=set(DatasetSpec.model_fields)))
        if source not in self._datasets:
            self._datasets[source] = read_dataset(source)
        return self._datasets[source]

    def _encode(self, request: EditRequest) -> EncodedRequest:
        known = self._encoded.get(id(request))
        if known is None:
            known = self._encoded[id(request)] = (request, encode_request(request))
        return known[1]
