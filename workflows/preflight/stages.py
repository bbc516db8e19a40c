"""What a method requires of memory and disk in each stage, against what this machine has or a card that is named."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sphere_core.costs import (
    Accelerator,
    ModelShape,
    SolverLayout,
    Stage,
    Workload,
    checkpoint_bytes,
    lengths_of,
    moments_bytes,
    on_accelerator,
    solver_bytes,
    solver_layout,
    stages,
    workload_of,
)
from sphere_core.hyperparameters import preset_misfit
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel
from sphere_core.models.loading import torch_dtype
from sphere_core.numerics.placement import decomposes_within
from sphere_core.plugins.found import NO_PLUGINS, Plugins
from sphere_core.trajectory import check_against_model
from workflows.preflight.machine import Finding, accelerator_memory, available_memory
from workflows.preflight.model import Examined

__all__ = ["Room", "stage_findings", "weights_finding"]

# The templates that are sampled by default.
_CONTEXTS = 6
_HALF = 2


@dataclass(frozen=True)
class Room:
    """What stages are compared with, in bytes: all of the accelerator (0 without one), of which the placement follows,
    what of it is free, and what of the host is; None: another machine's host, which nothing is known about.

    `of` says whose memory it is.
    """

    total: float
    free: float
    host: float | None
    of: str

    @classmethod
    def here(cls) -> "Room":
        """Return what this machine has free."""
        free, host = available_memory()
        return cls(accelerator_memory(), free, host, "free on the accelerator")

    @classmethod
    def named(cls, card: Accelerator) -> "Room":
        """Return an accelerator with nothing on it, in a machine that is not this one."""
        return cls(card.memory, card.memory, None, f"on one {card.name}")


def weights_finding(examined: Examined, *, dtype: str, room: Room) -> list[Finding]:
    """Predict the memory of the loaded model alone on an accelerator; empty if its shape is not known."""
    if examined.shape is None:
        return []
    size = torch_dtype(dtype, where="--dtype").itemsize
    stage = Stage("load", float(examined.shape.parameters * size), 0.0)
    return [_finding(stage, room, _weights_remedy(size, stage.accelerator, room))]


def stage_findings(
    examined: Examined,
    *,
    method: str,
    preset_name: str,
    dtype: str,
    batch: int,
    edits: int,
    room: Room | None = None,
    plugins: Plugins = NO_PLUGINS,
) -> list[Finding]:
    """Predict the peak memory of each stage and the bytes written, compared with `room`: what this machine has free.

    Raises InputError for an unknown method, preset or dtype, and for layers that the model does not have.
    """
    if examined.shape is None:
        return []
    shape, room = examined.shape, room or Room.here()
    chosen = resolve_method(method, plugins=plugins)
    values = chosen.from_preset(preset_name)
    found: list[Finding] = []
    if examined.skeleton is not None:
        check_against_model(values, examined.skeleton, where=f"preset '{preset_name}'")
        found += _misfit(examined.skeleton, preset_name)
    work = workload_of(
        chosen,
        values,
        dtype_bytes=torch_dtype(dtype, where="--dtype").itemsize,
        batch=batch,
        edits=edits,
        contexts=_CONTEXTS,
        lengths=lengths_of("counterfact"),
        on_accelerator=room.total > 0,
    )
    if room.total:
        layout = solver_layout(shape, work, values.layers, room.total)
        work = on_accelerator(shape, work, values.layers, room.total)
        if room.total >= shape.parameters * work.dtype_bytes:
            found += _placed(shape, work, layout, room)
    found += _peaks(shape, work, room)
    written = checkpoint_bytes(shape, work, edits)
    found.append(Finding("disk", f"a checkpoint after {edits} edits", f"{written / 1e9:.2f} GB"))
    if work.prior != "none":
        found.append(Finding("disk", "second moments", f"{moments_bytes(shape, work.sites) / 1e9:.2f} GB"))
    return found


def _misfit(skeleton: EditableModel, preset_name: str) -> Iterator[Finding]:
    outline = skeleton.outline()
    site = outline.sites[0]
    found = preset_misfit(
        preset_name, family=outline.family.name, layers=len(outline.sites), d_out=site.d_out, d_in=site.d_in
    )
    if found is not None:
        remedy = "it may change nothing, or too much: 'sphere calibrate' finds values for this model"
        yield Finding("preset", preset_name, found, "note", remedy)


def _placed(shape: ModelShape, work: Workload, layout: SolverLayout, room: Room) -> Iterator[Finding]:
    """Return where solvers and decompositions run and how many requests one pass holds, by the rule of `run`."""
    if work.has_targets:
        requests = f"{work.requests_per_pass} request{'s' if work.requests_per_pass > 1 else ''}"
        yield Finding("placement", "targets", f"{requests} of a batch of {work.batch} in a pass")
    each = solver_bytes(shape.d_in, work, blocks=shape.blocks)
    size = f"{each / 1e9:.2f} GB a site, of {max(layout.room, 0) / 1e9:.1f} GB for all"
    if not layout.on_host:
        yield Finding("placement", "solvers", f"beside the layers on the accelerator, {size}")
    else:
        count, names = len(layout.on_host), ", ".join(map(str, sorted(layout.on_host)))
        remedy = "slower: keys and updates of these layers cross over in every batch; an accelerator with more memory"
        found = f"{work.sites - count} of {work.sites} layers on the accelerator, {count} on the host ({names}), {size}"
        yield Finding("placement", "solvers", found, "note", remedy)
    if work.prior == "null_space":
        if decomposes_within(shape.d_in, room.total):
            yield Finding("placement", "null spaces", "found on the accelerator")
        else:
            remedy = "slower, once per layer: it is stored and shared; an accelerator with more memory"
            yield Finding("placement", "null spaces", "found on the host", "note", remedy)
    if work.principal and work.has_targets:
        when = "beside the targets" if work.reads_ahead else "when they are needed: no room beside these passes"
        yield Finding("placement", "decompositions", when)


def _peaks(shape: ModelShape, work: Workload, room: Room) -> Iterator[Finding]:
    """Return a finding per stage; the remedy of one that does not fit is the one that would help."""
    found = stages(shape, work)
    smallest = {stage.name: stage for stage in stages(shape, replace(work, requests_per_pass=1))}
    weights_fit = not _short(found[0], room)
    for stage in found:
        if stage is found[0]:
            remedy = _weights_remedy(work.dtype_bytes, stage.accelerator, room)
        elif not weights_fit:
            remedy = "the weights alone do not fit"
        elif not _short(smallest[stage.name], room):
            remedy = "a smaller 'requests_per_pass'"
        elif "accelerator" in _short(stage, room):
            remedy = "'device: split' over several accelerators, a larger one, or fewer layers"
        else:
            remedy = "a machine with more, or fewer layers"
        yield _finding(stage, room, remedy)


def _weights_remedy(dtype_bytes: int, needed: float, room: Room) -> str:
    """Return what helps where the weights alone, `needed` bytes of an accelerator, are too large."""
    if room.total >= needed > room.free:
        return "other processes hold part of the accelerator: end them, or take another one"
    smaller = ["'dtype: bfloat16'"] if dtype_bytes > _HALF else []
    others = ["'device: split' over several accelerators", "a larger one"]
    ways = [*smaller, *(others if room.total else ["a machine with more memory", "an accelerator"])]
    return f"the weights alone do not fit: {', '.join(ways[:-1])} or {ways[-1]}"


def _short(stage: Stage, room: Room) -> list[str]:
    """Return where a stage needs more than there is."""
    return [name for name, needed, there, _ in _compared(stage, room) if there is not None and needed > there]


def _compared(stage: Stage, room: Room) -> Iterator[tuple[str, float, float | None, str]]:
    """Return device, bytes needed, bytes there and whose they are, of each device that the stage uses."""
    for name, needed, there, of in (
        ("accelerator", stage.accelerator, room.free, room.of),
        ("host", stage.host, room.host, "free on the host"),
    ):
        if needed:
            yield name, needed, there, of


def _finding(stage: Stage, room: Room, remedy: str) -> Finding:
    parts = [
        f"{needed / 1e9:.1f} GB on the {name}"
        if there is None
        else f"{needed / 1e9:.1f} GB of {there / 1e9:.1f} GB {of}"
        for name, needed, there, of in _compared(stage, room)
    ]
    if _short(stage, room):
        return Finding("peak memory", stage.name, ", ".join(parts), "missing", remedy)
    return Finding("peak memory", stage.name, ", ".join(parts))
