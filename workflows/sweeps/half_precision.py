"""A note on models in half precision where replicas have no GPU and the processor emulates the format."""

from collections.abc import Iterator

from sphere_core.foundation.processor import emulates
from workflows.sweeps.spec import SweepSpec

__all__ = ["slow_formats"]


def slow_formats(spec: SweepSpec, flags: frozenset[str], *, gpu_here: bool) -> Iterator[str]:
    """Yield a note per format that the models of a sweep use and a processor with `flags` emulates.

    Nothing where replicas reserve GPUs, or may find one: `gpu_here` says whether this machine has any. The machine that
    plans is taken for those that run.
    """
    replica = spec.resources.replica
    on_processor = replica.device == "cpu" or replica.num_gpus == 0
    if not on_processor and (replica.num_gpus != "auto" or replica.device != "auto" or gpu_here):
        return
    for dtype in dict.fromkeys(model.dtype for model in spec.models):
        if emulates(dtype, flags):
            yield (
                f"this processor has no instructions for {dtype}: without a GPU, passes take several times "
                "as long as in float32 ('sphere doctor' measures it); 'dtype: float32' is another sweep, other ids"
            )
