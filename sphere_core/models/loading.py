"""Loading a causal LM and its tokenizer for editing, whole or as a skeleton without weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.foundation.json_files import read_json
from sphere_core.foundation.user_files import library_errors
from sphere_core.models.config_limits import check_config
from sphere_core.models.devices import SPLIT
from sphere_core.models.editable import EditableModel
from sphere_core.models.family import Family, recognise_family
from sphere_core.models.outline import ModelOutline, check_vocabulary
from sphere_core.models.source import model_digest, resolve_model
from sphere_core.models.weight_headers import check_shapes, check_weights
from sphere_core.plugins.found import NO_PLUGINS, Plugins

__all__ = [
    "DTYPES",
    "family_of",
    "load_model",
    "load_skeleton",
    "load_tokenizer",
    "outline_of_skeleton",
    "torch_dtype",
]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def torch_dtype(name: str, *, where: str = "dtype") -> torch.dtype:
    """Return a network's dtype by its name; raises InputError, with the nearest name, for another one."""
    if name not in DTYPES:
        raise unknown_name("dtype", name, DTYPES, where=where)
    return DTYPES[name]


def load_model(
    source: str,
    *,
    dtype: str,
    device: str | torch.device,
    revision: str | None = None,
    digest: str | None = None,
    remote_code: bool = False,
    family: Family | None = None,
    plugins: Plugins = NO_PLUGINS,
) -> EditableModel:
    """Load a causal LM for editing.

    `dtype` is one of float32, bfloat16, float16 and never taken from the files. `device` may be `split`: layers are
    then spread over every accelerator of the process. `digest` saves hashing the files again where the caller knows it.
    `remote_code` runs Python files that come with the model. `family` is the model's where a plugin file has it, unless
    `plugins` bring it; those of the release and of installed packages are found by themselves. Raises InputError for
    an unknown dtype, a model that cannot be edited, weights that are missing from the files, or a tokenizer that gives
    no character offsets or is another model's.
    """
    chosen = torch_dtype(dtype)
    folder = resolve_model(source, revision=revision, remote_code=remote_code)
    config, family = _recognised(folder, remote_code, family, plugins)
    tokenizer = _load_tokenizer(folder, config, remote_code)
    check_weights(folder, load_skeleton(folder, remote_code=remote_code, family=family).outline().sites)
    network, report = _pretrained(
        AutoModelForCausalLM.from_pretrained,
        folder,
        remote_code=remote_code,
        config=config,
        dtype=chosen,
        use_safetensors=True,
        attn_implementation=family.attention,
        device_map="balanced" if device == SPLIT else None,
        output_loading_info=True,
        **_experts(family, device),
    )
    if report["missing_keys"]:
        # transformers fills them with random numbers and a warning.
        raise InputError(
            f"the files lack {len(report['missing_keys'])} of the model's weights: {min(report['missing_keys'])}",
            where=str(folder),
            remedy="fetch the model again, or give the checkpoint of a causal language model",
        )
    if device == SPLIT:
        _require_on_accelerators(network, folder)
    else:
        torch.nn.Module.to(network, device)
    if digest is None:
        digest = family.digest_of(model_digest(folder, remote_code=remote_code))
    return EditableModel(network, tokenizer, family, base_digest=digest)


def load_skeleton(
    folder: Path, *, remote_code: bool = False, family: Family | None = None, plugins: Plugins = NO_PLUGINS
) -> EditableModel:
    """Build a model's modules on torch's meta device: every name and shape, no weight read.

    Raises InputError as `load_model` does; of the weights it reads the shapes only.
    """
    config, family = _recognised(folder, remote_code, family, plugins)
    tokenizer = _load_tokenizer(folder, config, remote_code)
    wrong = "correct config.json, or fetch the model again"
    with (
        library_errors(folder / "config.json", what="a model of this config", fault="cannot be built", remedy=wrong),
        torch.device("meta"),
    ):
        network = _pretrained(AutoModelForCausalLM.from_config, config, remote_code=remote_code)
    _require_modules(network, family, folder)
    skeleton = EditableModel(network, tokenizer, family, base_digest="skeleton")
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    check_shapes(folder, shapes, skeleton.outline().sites)
    return skeleton


def outline_of_skeleton(folder: Path, *, remote_code: bool = False, plugins: Plugins = NO_PLUGINS) -> ModelOutline:
    """Return the outline of a model whose modules were built to find it; raises InputError as `load_skeleton`."""
    family = family_of(folder, remote_code=remote_code, plugins=plugins)
    return load_skeleton(folder, remote_code=remote_code, family=family).outline()


def family_of(folder: Path, *, remote_code: bool = False, plugins: Plugins = NO_PLUGINS) -> Family:
    """Return the family of a model folder, which may be a plugin's; raises InputError as `recognise_family`."""
    return _recognised(folder, remote_code, None, plugins)[1]


def _recognised(
    folder: Path, remote_code: bool, family: Family | None = None, plugins: Plugins = NO_PLUGINS
) -> tuple[Any, Family]:
    said = read_json(folder / "config.json", what="config.json")
    check_config(said, folder)
    newer = (
        "correct config.json; a model type newer than the installed transformers needs a newer one; a model that "
        "brings its own code needs trust_remote_code: true, if you trust it"
    )
    with library_errors(folder / "config.json", what="config.json", fault="cannot be read as a model's", remedy=newer):
        config = _pretrained(AutoConfig.from_pretrained, folder, remote_code=remote_code)
    if family is not None and config.model_type in family.model_types:
        return config, family
    return config, recognise_family(config, where=str(folder), plugins=plugins)


def _require_modules(network: torch.nn.Module, family: Family, folder: Path) -> None:
    """Raise InputError if a path of the family leads nowhere in the network."""
    below = [*family.site_modules.values(), *(path for path in (family.output_norm, family.router) if path)]
    paths = [family.decoder, family.layers, family.final_norm, family.head]
    for path in (*paths, *(f"{family.layers}.0.{inner}" for inner in below)):
        try:
            network.get_submodule(path)
        except AttributeError as error:
            raise InputError(
                f"the family '{family.name}' names a module that the model does not have: {path}",
                where=str(folder),
                remedy="paths are as model.named_modules() lists them; those of sites and of the norm behind the MLP "
                "begin inside a layer",
            ) from error


def load_tokenizer(folder: Path, *, remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Return a model folder's tokenizer; reads no weights. Raises InputError if it has none that fits its config."""
    config, _ = _recognised(folder, remote_code)
    return _load_tokenizer(folder, config, remote_code)


def _load_tokenizer(folder: Path, config: Any, remote_code: bool) -> PreTrainedTokenizerBase:
    beside = "put the tokenizer's files (tokenizer.json, tokenizer_config.json) beside the weights"
    with library_errors(folder, what="the model folder's tokenizer", remedy=beside):
        tokenizer: PreTrainedTokenizerBase = _pretrained(AutoTokenizer.from_pretrained, folder, remote_code=remote_code)
    if not tokenizer.is_fast:
        raise InputError(
            "the tokenizer gives no character offsets",
            where=str(folder),
            remedy="provide tokenizer.json (a fast tokenizer): subjects are located by offsets",
        )
    added = tokenizer.get_added_vocab()
    base = 1 + max((place for token, place in tokenizer.get_vocab().items() if token not in added), default=-1)
    check_vocabulary(len(tokenizer), base, config.get_text_config().to_dict(), folder)
    return tokenizer


def _experts(family: Family, device: str | torch.device) -> dict[str, str]:
    """Return how a mixture computes its experts: on the CPU one after another, since grouped products refuse widths
    that are not multiples of 16 bytes there."""
    on_host = family.mixture and device != SPLIT and torch.device(device).type == "cpu"
    return {"experts_implementation": "eager"} if on_host else {}


def _pretrained(load: Callable[..., Any], source: object, *, remote_code: bool, **options: Any) -> Any:
    """Call one of transformers' loaders: the one place that may run a model's own code, if allowed."""
    return load(source, trust_remote_code=remote_code, **options)


def _require_on_accelerators(network: PreTrainedModel, folder: Path) -> None:
    away = sorted({str(p.device) for p in network.parameters() if p.device.type in ("cpu", "meta")})
    if away:
        raise InputError(
            "the model does not fit on the accelerators that this process sees",
            where=str(folder),
            remedy="give it more of them, or a smaller dtype; weights that are swapped in and out cannot be edited",
        )
