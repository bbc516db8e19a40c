"""The recognised family, sites and size of a model, before any weight is loaded."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from sphere_core.costs import ModelShape, published_config, shape_of_config, shape_of_network
from sphere_core.foundation.errors import InputError
from sphere_core.locate.prompts import opening_tokens
from sphere_core.models import EditableModel, resolve_model
from sphere_core.models.loading import load_skeleton
from sphere_core.models.source import EMBEDDED_MODEL, commit_of
from sphere_core.plugins.found import NO_PLUGINS, Plugins
from workflows.preflight.machine import Finding

__all__ = ["Examined", "examine"]


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
