"""What a regularizer derives from a weight alone, computed while the targets of the batch are searched.

A batch writes each site once, so that the weights its regularizers will read are known when it begins. On an
accelerator a decomposition of 4096 rows is assumed to take about a second in which the device is mostly idle: there it
runs in a thread, on a stream of its own. On the host it runs when it is needed, since a replica has as many cores as
threads. The function and its input are the same either way, and so are the bits.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch

__all__ = ["ReadAhead", "ReadsAhead"]

T = TypeVar("T")


@runtime_checkable
class ReadsAhead(Protocol):
    """A regularizer that can begin before there is an update."""

    def read_ahead(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Begin with the weights that the batch starts from, by site name; `apply` may be given others."""
        ...


class ReadAhead(Generic[T]):
    """A function of one weight, begun for the weights of a batch where they lie on an accelerator.

    What was computed for a batch is kept until the next one begins: by then the device has read it, as each batch ends
    with a wait for the device, so that its memory is not given away under a kernel of another stream.
    """

    def __init__(self, compute: Callable[[torch.Tensor], T]) -> None:
        self._compute = compute
        self._begun: dict[str, tuple[torch.Tensor, Future[tuple[T, Any]]]] = {}

    def begin(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Begin with the weights that do not lie on the host, one after the other, and forget those of before."""
        self._begun = {}
        on_device = {name: weight for name, weight in weights.items() if weight.device.type != "cpu"}
        if not on_device:
            return
        # The thread ends with the last weight.
        thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        for name, weight in on_device.items():
            self._begun[name] = (weight, thread.submit(self._beside, weight, _written(weight)))
        thread.shutdown(wait=False)

    def of(self, name: str, weight: torch.Tensor) -> T:
        """Return the function of a site's weight: what was begun if it is of this very tensor, else computed now."""
        weight_begun, begun = self._begun.get(name, (None, None))
        if begun is None or weight_begun is not weight:
            return self._compute(weight)
        found, done = begun.result()
        if done is not None:
            torch.cuda.current_stream(weight.device).wait_event(done)
        return found

    def _beside(self, weight: torch.Tensor, written: Any) -> tuple[T, Any]:
        if written is None:
            return self._compute(weight), None
        stream = torch.cuda.Stream(weight.device)
        stream.wait_event(written)
        with torch.cuda.stream(stream):
            found = self._compute(weight)
        return found, stream.record_event()


def _written(weight: torch.Tensor) -> Any:
    """Return the event after which a CUDA tensor holds its numbers; None for other devices."""
    return torch.cuda.current_stream(weight.device).record_event() if weight.is_cuda else None
