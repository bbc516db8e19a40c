"""The recognised family of a model, and the memory and disk that a method requires, before any weight is loaded."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from sphere_core.costs import (
    ModelShape,
    Stage,
    Workload,
    checkpoint_bytes,
    lengths_of,
    moments_bytes,
    on_accelerator,
    published_config,
    shape_of_config,
    shape_of_network,
    solver_bytes,
    stages,
    workload_of,
)
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import preset_misfit
from sphere_core.locate.prompts import opening_tokens
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel, resolve_model
from sphere_core.models.loading import load_skeleton, torch_dtype
from sphere_core.models.source import EMBEDDED_MODEL, commit_of
from sphere_core.plugins.found import NO_PLUGINS, Plugins
from sphere_core.trajectory import check_against_model
from workflows.preflight.machine import Finding, accelerator_memory, available_memory

__all__ = ["Examined", "examine", "stage_findings"]

# The templates that are sampled by default.
_CONTEXTS = 6


@dataclass(frozen=True)
class Examined:
    """A model as it was found: its skeleton and shape, or the published shape if it is not on this machine."""

    findings: list[Finding]
    shape: ModelShape | None
    skeleton: EditableModel | None


def examine(source: str, *, revision: str | None, plugins: Plugins = NO_PLUGINS) -> Examined:
    """Look at a model's files without reading weights or fetching anything; its family may be of a plugin.

    Faults are findings of state `missing`, with the remedy.
    """
    try:
        folder = _local_folder(source, revision)
        if folder is None:
            return _absent(source)
        skeleton = load_skeleton(folder, plugins=plugins)
    except InputError as error:
        return Examined([Finding("model", source, error.what, "missing", error.remedy)], None, None)
    return Examined(list(_description(source, folder, skeleton)), _shape(skeleton), skeleton)


def stage_findings(
    examined: Examined,
    *,
    method: str,
    preset_name: str,
    dtype: str,
    batch: int,
    edits: int,
    plugins: Plugins = NO_PLUGINS,
) -> list[Finding]:
    """Predict the peak memory of each stage and the bytes written, compared with what this machine has free.

    Raises InputError for an unknown method, preset or dtype, and for layers that the model does not have.
    """
    if examined.shape is None:
        return []
    chosen = resolve_method(method, plugins=plugins)
    values = chosen.from_preset(preset_name)
    misfit: list[Finding] = []
    if examined.skeleton is not None:
        check_against_model(values, examined.skeleton, where=f"preset '{preset_name}'")
        misfit = list(_misfit(examined.skeleton, preset_name))
    on_device_memory, on_host = available_memory()
    work = workload_of(
        chosen,
        values,
        dtype_bytes=torch_dtype(dtype, where="--dtype").itemsize,
        batch=batch,
        edits=edits,
        contexts=_CONTEXTS,
        lengths=lengths_of("counterfact"),
        on_accelerator=on_device_memory > 0,
    )
    on_device: list[Finding] = []
    if on_device_memory:
        work = on_accelerator(examined.shape, work, values.layers, accelerator_memory())
        on_device = list(_placed(examined.shape, work))
    found = misfit + on_device + [_fits(stage, on_device_memory, on_host) for stage in stages(examined.shape, work)]
    written = checkpoint_bytes(examined.shape, work, edits)
    found.append(Finding("disk", f"a checkpoint after {edits} edits", f"{written / 1e9:.2f} GB"))
    if work.prior != "none":
        found.append(Finding("disk", "second moments", f"{moments_bytes(examined.shape, work.sites) / 1e9:.2f} GB"))
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


def _placed(shape: ModelShape, work: Workload) -> Iterator[Finding]:
    """Return where solvers run and how many requests one pass holds, by the rule of `run` and `edit`."""
    if work.has_targets:
        yield Finding("placement", "targets", f"{work.requests_per_pass} requests of a batch of {work.batch} in a pass")
    size = f"{solver_bytes(shape.d_in, work, blocks=shape.blocks) / 1e9:.2f} GB a site"
    beside = work.sites - work.host_sites
    if not work.host_sites:
        yield Finding("placement", "solvers", f"beside the layers on the accelerator, {size}")
        return
    remedy = "slower: keys and updates of these layers cross over in every batch; an accelerator with more memory"
    found = f"{beside} of {work.sites} layers on the accelerator, {work.host_sites} on the host, {size}"
    yield Finding("placement", "solvers", found, "note", remedy)


def _local_folder(source: str, revision: str | None) -> Path | None:
    if source == EMBEDDED_MODEL or Path(source).expanduser().is_dir():
        return resolve_model(source)
    try:
        return resolve_model(snapshot_download(source, revision=revision, local_files_only=True))
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError):
        return None
    except ValueError as error:
        raise InputError("model folder not found", where=source, remedy="check the path, or give a hub id") from error


def _absent(source: str) -> Examined:
    remedy = f"hf download {source}, on a machine that is online and may read it"
    findings = [Finding("model", source, "not in the local cache", "missing", remedy)]
    config = published_config(source)
    if config is None:
        return Examined(findings, None, None)
    shape = shape_of_config(config, where=source)
    size = f"{_count(shape.parameters)} parameters, as published"
    return Examined([*findings, Finding("model", "size", size)], shape, None)


def _shape(skeleton: EditableModel) -> ModelShape:
    return shape_of_network(skeleton.network, skeleton.family)


def _description(source: str, folder: Path, skeleton: EditableModel) -> Iterator[Finding]:
    shape, family, tokenizer = _shape(skeleton), skeleton.family, skeleton.tokenizer
    commit = commit_of(folder)
    yield Finding("model", source, "a local folder" if commit is None else f"commit {commit}")
    yield Finding("model", "family", f"{family.name}, from model_type '{skeleton.network.config.model_type}'")
    yield Finding("model", "size", f"{_count(shape.parameters)} parameters, {shape.layers} layers")
    (site,) = skeleton.open_sites((0,))
    stored = "[d_in, d_out]" if site.transposed else "[d_out, d_in]"
    yield Finding(
        "model",
        "sites",
        f"{family.site_path(0).replace('.0.', '.{layer}.')}: d_out {site.d_out}, d_in {site.d_in}, stored {stored}",
    )
    opening = opening_tokens(tokenizer)
    policy = f"texts open with {' '.join(opening)}" if opening else "texts open with no special token"
    padding = f"pad token {tokenizer.pad_token!r}, side {tokenizer.padding_side} (ours is always right, masked)"
    yield Finding("model", "tokenizer", f"{len(tokenizer)} tokens; {policy}; {padding}")


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.1f} million"


def _fits(stage: Stage, on_accelerator: float, on_host: float) -> Finding:
    parts, short = [], []
    for name, needed, free in (("accelerator", stage.accelerator, on_accelerator), ("host", stage.host, on_host)):
        if needed:
            parts.append(f"{needed / 1e9:.1f} GB of {free / 1e9:.1f} GB free on the {name}")
        if needed > free:
            short.append(name)
    remedy = "a smaller 'requests_per_pass'" if stage.name == "targets" else "a machine with more, or fewer layers"
    if short:
        return Finding("peak memory", stage.name, ", ".join(parts), "missing", remedy)
    return Finding("peak memory", stage.name, ", ".join(parts))
