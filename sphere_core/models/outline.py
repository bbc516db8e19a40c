"""What editing needs to know of a model before it is loaded: its family and the site of every layer.

Where a model's config, weight headers and tokenizer are plain, an outline comes from these files alone: no network is
built, and neither torch nor transformers is imported. Wherever something is unusual, the modules are built on torch's
meta device as before, which also finds what is wrong. So it is for mixtures of experts: their files hold experts apart,
under names that transformers changes. A test holds the two against each other for every family.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.lazy import load_object
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.hyperparameters.places import split_place
from sphere_core.models.family import Family, load_families
from sphere_core.models.sites import Site
from sphere_core.models.weight_headers import StoredWeight, read_weight_headers
from sphere_core.plugins.found import NO_PLUGINS, Plugins

__all__ = ["ModelOutline", "check_vocabulary", "describe_model", "plain_outline"]

# The names that configs have for one size.
_HIDDEN, _LAYERS = ("hidden_size", "n_embd"), ("num_hidden_layers", "n_layer")
_HEADS, _INNER = ("num_attention_heads", "n_head"), ("intermediate_size", "n_inner")
_POSITIONS = ("max_position_embeddings", "n_positions")
_ACTIVATIONS = frozenset(["silu", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu"])
# A config with one of these requires more than its family's modules.
_UNUSUAL = ("quantization_config", "auto_map", "text_config", "_attn_implementation", "adapters")
_TOKENIZERS = frozenset(["PreTrainedTokenizerFast", "TokenizersBackend", "LlamaTokenizerFast", "GPT2TokenizerFast"])


@dataclass(frozen=True)
class ModelOutline:
    """A model's family, every layer's down projection, and how many positions it reads (None: its config has none)."""

    family: Family
    sites: tuple[Site, ...]
    positions: int | None = None

    def check(self, hyperparameters: Hyperparameters, *, where: str) -> None:
        """Raise InputError naming every layer, module and loss layer that the model does not have."""
        found = list(self._misfits(hyperparameters))
        if not found:
            return
        if len(found) == 1:
            (what, where_in, remedy), *_ = found
            raise InputError(what, where=f"{where}{where_in}", remedy=remedy)
        listed = "\n".join(f"  {what} ({remedy})" for what, _, remedy in found)
        raise InputError(
            f"{len(found)} hyperparameters do not fit the model:\n{listed}",
            where=where,
            remedy="were they made for another model? correct them, or leave the checked ones out",
        )

    def _misfits(self, hyperparameters: Hyperparameters) -> Iterator[tuple[str, str, str]]:
        """Yield what does not fit, where it is, and how to correct it."""
        last = len(self.sites) - 1
        outside = [layer for layer in hyperparameters.layers if not 0 <= layer <= last]
        if outside:
            remedy = f"the model has {last + 1} layers: 0 to {last}"
            yield f"layer {outside[0]} is out of range", ", hyperparameter 'layers'", remedy
        known = self.family.site_modules
        for module in {split_place(place)[1]: None for place in hyperparameters.places}:
            if module not in known:
                remedy = f"a layer of the family '{self.family.name}' has {', '.join(known)}"
                yield f"there is no site '{module}'", ", hyperparameter 'sites'", remedy
        template = hyperparameters.rewrite_module_tmp if hyperparameters.sites is None else None
        for layer in hyperparameters.layers if template is not None and not outside else ():
            path = self.sites[layer].module_path
            if str(template).replace("{}", str(layer)) != path:
                yield (
                    f"rewrite_module_tmp is '{template}', the edited module here is '{path}'",
                    "",
                    "leave the key out: the module is known from the model's family",
                )
                break
        if hyperparameters.v_loss_layer not in (None, last):
            yield (
                f"v_loss_layer is {hyperparameters.v_loss_layer}, the model's last layer is {last}",
                "",
                f"set it to {last} or leave it out: the loss is read from the last layer's output",
            )


def describe_model(folder: Path, *, remote_code: bool = False, plugins: Plugins = NO_PLUGINS) -> ModelOutline:
    """Return the outline of a model folder, from its files alone where they are plain; else its modules are built.

    Raises InputError as `load_skeleton` does.
    """
    found = None if remote_code else plain_outline(folder)
    if found is not None:
        return found
    built: ModelOutline = load_object("sphere_core.models.loading:outline_of_skeleton")(
        folder, remote_code=remote_code, plugins=plugins
    )
    return built


def plain_outline(folder: Path) -> ModelOutline | None:
    """Return the outline of a model of a known family whose files are plain and agree; None wherever they do not."""
    config = _mapping(folder / "config.json")
    family = None if config is None else _family(config)
    if config is None or family is None or family.mixture or not _is_plain(config):
        return None
    layers = [family.site_path(layer) for layer in range(_size(config, _LAYERS))]
    stored = _stored(folder, config)
    sites = []
    for layer, path in enumerate(layers):
        weight = stored.get(f"{path}.weight")
        if weight is None or len(weight.shape) != 2:
            return None
        d_out, d_in = reversed(weight.shape) if family.transposed else weight.shape
        if d_out != _size(config, _HIDDEN) or d_in != (_size(config, _INNER) or 4 * d_out):
            return None
        sites.append(Site(layer, path, d_out, d_in, transposed=family.transposed))
    positions = _size(config, _POSITIONS) or None
    # Without the key a class has its own default.
    if positions is None or not _has_own_tokenizer(folder, config):
        return None
    return ModelOutline(family, tuple(sites), positions)


def check_vocabulary(known: int, base: int, config: Mapping[str, Any], folder: Path) -> None:
    """Raise InputError if the tokenizer knows more tokens than the model, or lacks those it opens and ends with.

    `known` counts all tokens, `base` is one more than the highest id without added ones: models are published whose
    tokenizer has a padding token that has no row. Vocabularies of models are often padded, so that a smaller tokenizer
    alone says nothing.
    """
    held = int(config["vocab_size"])
    if base > held:
        raise InputError(
            f"the tokenizer knows {base} tokens, the model {held}: it is the tokenizer of another model",
            where=f"{folder}, tokenizer.json and config.json, key vocab_size",
            remedy="put the model's own tokenizer beside its weights",
        )
    for name in ("bos_token_id", "eos_token_id"):
        given = config.get(name)
        # A config made without these keys has its class's defaults, which may lie outside of a small vocabulary.
        for token in given if isinstance(given, list) else [given]:
            if token is not None and known <= token < held:
                raise InputError(
                    f"the model's {name} is {token}, the tokenizer knows {known} tokens: it is the tokenizer of "
                    "another model",
                    where=f"{folder}, tokenizer.json and config.json, key {name}",
                    remedy="put the model's own tokenizer beside its weights",
                )


def _family(config: Mapping[str, Any]) -> Family | None:
    kind = config.get("model_type")
    return next((family for family in load_families().values() if kind in family.model_types), None)


def _is_plain(config: Mapping[str, Any]) -> bool:
    """Return whether the sizes of a config are whole numbers that fit each other, and nothing unusual is set."""
    hidden, heads = _size(config, _HIDDEN), _size(config, _HEADS)
    groups = config.get("num_key_value_heads", heads)
    width = config.get("head_dim", hidden // heads if heads and hidden % heads == 0 else None)
    activation = config.get("hidden_act", config.get("activation_function", config.get("hidden_activation")))
    return (
        not any(config.get(key) for key in _UNUSUAL)
        and all((hidden, heads, _size(config, _LAYERS), _size(config, ("vocab_size",))))
        and _is_count(groups)
        and heads % groups == 0
        and _is_count(width)
        and (activation is None or activation in _ACTIVATIONS)
    )


def _has_own_tokenizer(folder: Path, config: Mapping[str, Any]) -> bool:
    """Return whether tokenizer.json can be read, is of a plain class, and passes `check_vocabulary`."""
    said = _mapping(folder / "tokenizer_config.json")
    if said is None or said.get("tokenizer_class") not in _TOKENIZERS or said.get("auto_map"):
        return False
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        added = tokenizer.get_vocab_size(with_added_tokens=True)
        check_vocabulary(added, 1 + max(tokenizer.get_vocab(with_added_tokens=False).values()), config, folder)
    except InputError:
        return False
    # The library raises plain Exception for whatever is wrong with the file; transformers then says what.
    except Exception:  # noqa: BLE001
        return False
    return True


def _stored(folder: Path, config: Mapping[str, Any]) -> dict[str, StoredWeight]:
    """Return the headers of the weights; nothing if embeddings or attention are not of the config's sizes."""
    try:
        stored = read_weight_headers(folder)
    except InputError:
        return {}
    groups = config.get("num_key_value_heads", _size(config, _HEADS))
    d_key = groups * (config.get("head_dim") or _size(config, _HIDDEN) // _size(config, _HEADS))
    keys = {weight.shape[0] for name, weight in stored.items() if name.endswith((".k_proj.weight", ".v_proj.weight"))}
    embeddings = (_size(config, ("vocab_size",)), _size(config, _HIDDEN))
    return stored if keys <= {d_key} and any(weight.shape == embeddings for weight in stored.values()) else {}


def _mapping(path: Path) -> dict[str, Any] | None:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _size(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    """Return the first of these that is given, 0 if it is not a positive whole number."""
    given = next((config[name] for name in names if config.get(name) is not None), None)
    return given if isinstance(given, int) and _is_count(given) else 0


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
